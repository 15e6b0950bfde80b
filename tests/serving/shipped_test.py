"""The model that ships is found in a checkout and in a wheel; where there is none, one line says so."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from dcign_tf.errors import UsageError
from dcign_tf.serving import shipped

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_MODEL = (
    "faces/3/saved_model.pb",
    "faces/3/variables/variables.index",
    "faces/3/assets.extra/samples/0.png",
)


@pytest.fixture
def checkout(tmp_path: pathlib.Path) -> pathlib.Path:
    """As much of a checkout as a wheel is built from, with the shell of a model."""
    root = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(_ROOT / "dcign_tf", root / "dcign_tf", ignore=ignored)
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(_ROOT / name, root)
    for name in _MODEL:
        (root / "saved_models" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "saved_models" / name).write_text("a model")
    return root


def _at(package: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped.dcign_tf, "__file__", str(package / "__init__.py"))


def test_in_a_checkout(checkout: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _at(checkout / "dcign_tf", monkeypatch)
    assert shipped.find() == checkout / "saved_models" / "faces"
    with pytest.raises(UsageError, match="comes without its model of chairs") as raised:
        shipped.find("chairs")
    assert "--model: none is given" in str(raised.value)


def test_in_a_wheel(
    checkout: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = "import setuptools.build_meta as backend, sys; print(backend.build_wheel(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)],
        cwd=checkout,
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site-packages")
    assert {f"dcign_tf/shipped_models/{name}" for name in _MODEL} <= names
    assert {"dcign_tf/serving/viewer/page/index.html"} <= names
    assert {"dcign_tf/serving/viewer/samples/head_0.png"} <= names
    assert not any(name.startswith(("tests", "saved_models")) for name in names)
    installed = tmp_path / "site-packages" / "dcign_tf"
    _at(installed, monkeypatch)
    assert shipped.find() == installed / "shipped_models" / "faces"
