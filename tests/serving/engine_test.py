"""All files a model is kept in open, and re-render alike; others are told apart."""

import json
import pathlib
import shutil

import keras
import numpy as np
import pytest

from dcign_tf import exported
from dcign_tf.errors import DcignError
from dcign_tf.serving import engine
from tests.serving import tiny


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pathlib.Path]:
    root = tmp_path_factory.mktemp("places")
    workdir = tiny.write_workdir(root / "workdir")
    for version in (2, 10):
        exported = pathlib.Path(shutil.copytree(tiny.exported(), root / "faces" / str(version)))
    (root / "faces" / "99").mkdir()  # Not a model: somebody's half-made copy.
    return {
        "workdir": workdir,
        "file": workdir / "model.keras",
        "exported": exported,
        "versions": root / "faces",
    }


@pytest.mark.parametrize("kind", ["workdir", "file", "exported", "versions"])
def test_every_kind_of_file(places: dict[str, pathlib.Path], kind: str) -> None:
    opened = engine.open_engine(places[kind])
    assert opened.image_size == 38
    assert dict(opened.factor_ranges) == tiny.RANGES
    images = tiny.images(3)
    turned = opened.rerender(images, {"azimuth": [10.0, np.nan, -10.0], "light_azimuth": 5})
    expected = tiny.model().rerender(images, azimuth=[10.0, np.nan, -10.0], light_azimuth=5.0)
    np.testing.assert_allclose(turned, expected, atol=1e-5)
    np.testing.assert_allclose(opened.reconstruct(images), tiny.model()(images), atol=1e-5)
    read = opened.infer(images)
    assert tuple(read) == tiny.FACTORS
    np.testing.assert_allclose(read["azimuth"], tiny.model().infer(images)["azimuth"], atol=1e-3)
    codes, values = opened.encode(images)
    np.testing.assert_allclose(codes, tiny.model().encode(images)[0], atol=1e-4)
    np.testing.assert_array_equal(values["elevation"], read["elevation"])
    rendered = opened.render(codes, {"azimuth": [10.0, np.nan, -10.0], "light_azimuth": 5})
    np.testing.assert_allclose(rendered, turned, atol=1e-5)
    assert opened.intrinsic.tolist() == 3 * [False] + 5 * [True]


def test_what_signatures_refuse(places: dict[str, pathlib.Path]) -> None:
    for kind in ("file", "exported"):
        opened = engine.open_engine(places[kind])
        with pytest.raises(DcignError, match="^azimuth: got 100; must be between -90 and 90"):
            opened.rerender(tiny.images(1), {"azimuth": 100.0})
        with pytest.raises(DcignError, match="^images: some pixels are not finite"):
            opened.infer(np.full([2, 38, 38, 1], np.nan))


def test_more_images_than_fit_at_once() -> None:
    images = tiny.images(engine._BATCH + 1)
    angles = np.linspace(-80, 80, len(images))
    turned = engine.engine_of(tiny.model()).rerender(images, {"azimuth": angles})
    expected = tiny.model().rerender(images[-1:], azimuth=80.0)
    assert turned.shape == images.shape
    np.testing.assert_allclose(turned[-1:], expected, atol=1e-5)


def test_other_things(tmp_path: pathlib.Path, places: dict[str, pathlib.Path]) -> None:
    def told(path: pathlib.Path) -> str:
        with pytest.raises(DcignError) as raised:
            engine.open_engine(path)
        assert str(path) in str(raised.value)
        return str(raised.value)

    assert "no such file or folder" in told(tmp_path / "nowhere")
    assert "holds no model" in told(tmp_path)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.json").write_text("{}")
    assert "training has not ended" in told(unfinished)
    for name, content in {
        "text.keras": b"hello",
        "empty.keras": b"",
        "photo.png": b"\x89PNG",
    }.items():
        (tmp_path / name).write_bytes(content)
        assert "not a .keras file" in told(tmp_path / name)
    whole = places["file"].read_bytes()
    (tmp_path / "half.keras").write_bytes(whole[: len(whole) // 2])
    assert "not a .keras file" in told(tmp_path / "half.keras")
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "other.keras")
    assert "not a DCIGN model" in told(tmp_path / "other.keras")
    tiny.uncalibrated_model().save(tmp_path / "raw.keras")
    assert "not calibrated" in told(tmp_path / "raw.keras")


def test_damaged_exports(tmp_path: pathlib.Path, places: dict[str, pathlib.Path]) -> None:
    def damaged(name: str) -> pathlib.Path:
        return pathlib.Path(shutil.copytree(places["exported"], tmp_path / name))

    cardless = damaged("cardless")
    (cardless / exported.CARD).unlink()
    with pytest.raises(DcignError, match="cardless: not a model that dcign-export made: it has no"):
        engine.open_engine(cardless)
    mad = damaged("mad")
    for card in ("{", "[]", '{"factors": {}}', json.dumps({"factors": [], "image_size": 38})):
        (mad / exported.CARD).write_text(card)
        with pytest.raises(DcignError, match="not the card of an exported model"):
            engine.open_engine(mad)
    for file in (
        "saved_model.pb",
        "variables/variables.index",
        "variables/variables.data-00000-of-00001",
    ):
        broken = damaged(file.replace("/", "_"))
        content = (broken / file).read_bytes()
        (broken / file).write_bytes(content[: len(content) // 2])
        with pytest.raises(DcignError, match="a damaged SavedModel"):
            engine.open_engine(broken)
