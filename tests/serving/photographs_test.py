import importlib.util
import itertools
import pathlib

import numpy as np
import pytest

from dcign_tf.serving import engine, photographs
from dcign_tf.serving.photographs import Photograph
from tests.serving import tiny

_SCRIPT = pathlib.Path(__file__).parents[2] / "docs" / "make_photos.py"


@pytest.fixture(scope="module")
def model() -> engine.Engine:
    return engine.engine_of(tiny.model())


def test_each_photograph_has_a_row(model: engine.Engine) -> None:
    rng = np.random.default_rng(0)
    wide, tall = (rng.random(shape, np.float32) for shape in ((40, 90), (90, 40)))
    one = photographs.figure(model, [Photograph("wide", wide, "center")])
    two = photographs.figure(
        model, [Photograph("wide", wide, "center"), Photograph("tall", tall, "0,10,30,40")]
    )
    assert one.dtype == two.dtype == np.uint8
    assert one.shape[1] == two.shape[1] and two.shape[0] == one.shape[0] + 154
    np.testing.assert_allclose(two[: one.shape[0] - 8], one[:-8].astype(int), atol=1)
    columns = 2 + 1 + len(photographs.TURNS) + len(photographs.LIGHTS)
    assert one.shape[1] == 2 * 8 + 154 * columns - 4
    panels = [one[28:178, 8 + 154 * k : 158 + 154 * k] for k in range(columns)]
    for first, second in itertools.pairwise(panels):
        assert (first != second).any()
    # The crop is the photograph's middle, and the first panel all of it, between strips of paper.
    np.testing.assert_allclose(panels[1].mean() / 255, wide[:, 25:65].mean(), atol=0.01)
    assert (panels[0][:40] == 255).all()


def test_the_script_draws_photographs_that_packages_ship(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not _SCRIPT.exists():
        pytest.skip("no docs/ here: python3 run.py test runs it, in a checkout")
    spec = importlib.util.spec_from_file_location("make_photos", _SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    file = tmp_path / "tiny.keras"
    tiny.model().save(file)
    script.main(["--cut_out", str(file), str(tmp_path / "photos.png")])
    assert capsys.readouterr().out == f"wrote {tmp_path / 'photos.png'}\n"
    drawn = script.images.read_image(tmp_path / "photos.png")
    assert drawn.shape[0] == 2 * 8 + 20 + 2 * 154 - 4
    # A person each, found and cropped differently.
    crops = [drawn[28 + 154 * k : 178 + 154 * k, 162:312] for k in range(2)]
    assert all(crop.std() > 0.1 for crop in crops) and np.abs(crops[0] - crops[1]).mean() > 0.1
    script.main(["--cut_out", "--keep_detail", str(file), str(tmp_path / "kept.png")])
    kept = script.images.read_image(tmp_path / "kept.png")
    turned = 8 + 154 * 3
    np.testing.assert_array_equal(kept[:, : turned - 4], drawn[:, : turned - 4])
    assert np.abs(kept - drawn)[:, turned:].max() > 0.2
    assert "found in 3 of 3" in script.measure("builtin_face", None, 3)
    table = script.measure_detail(str(file), "builtin_face", None, 2).splitlines()
    cells = [row.strip("| ").split(" | ") for row in table]
    assert [row[0] for row in cells[2:6]] == ["none", *(f"azimuth by {d}°" for d in (10, 20, 30))]
    assert len(cells) == 2 + 10 and {len(row) for row in cells[2:]} == {5}
    numbers = np.array([row[1:] for row in cells[2:]], float)
    assert (numbers[:, :2] > 0.001).all() and (np.abs(numbers[:, 2:]) < 1).all()
    # Nothing changes: then the picture knows best.
    assert numbers[0, 3] > numbers[0, 2] + 0.1
