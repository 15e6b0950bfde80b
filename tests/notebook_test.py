"""The notebook runs from its first cell to its last, and shows what it says."""

import os
import pathlib
import re

import nbclient
import nbformat
import pytest

from dcign_tf.serving import export
from tests.serving import tiny

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "face_to_code_and_back.ipynb"


@pytest.fixture(scope="module")
def trained() -> pathlib.Path | None:
    """A trained model: the one that ships, or the one that DCIGN_MODEL names."""
    folder = pathlib.Path(os.environ.get("DCIGN_MODEL", ROOT / "saved_models" / "faces"))
    return folder if any(folder.glob("*/saved_model.pb")) else None


def test_it_runs(
    trained: pathlib.Path | None, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trained or export.export(tiny.model(), "faces", output=tmp_path).parent
    monkeypatch.setenv("DCIGN_MODEL", str(folder.resolve()))
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 5
    text = "".join(output.get("text", "") for output in outputs if output.get("name") == "stdout")
    assert "Traceback" not in text
    reconstruction, rerendering = re.findall(r"mean squared error of ([\d.]+)", text)
    difference = re.search(r"median difference: ([\d.]+) degrees", text)
    assert difference
    if trained is not None:
        # On one face, not the best one nor the worst.
        assert float(reconstruction) < 0.02 and float(rerendering) < 0.03
        assert float(difference[1]) < 25


def test_it_is_ten_cells_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert len(notebook.cells) == 10
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
