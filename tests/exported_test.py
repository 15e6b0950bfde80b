"""An exported model can be trained on: it becomes the model it was exported from."""

import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dcign_tf import exported
from dcign_tf.errors import DcignError
from dcign_tf.model import DCIGN
from dcign_tf.serving import engine, export, shipped
from tests.serving import tiny


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return shutil.copytree(tiny.exported(), tmp_path / "1")


def test_it_is_the_model_it_was_made_from() -> None:
    model = tiny.model()
    again = exported.load(tiny.exported())
    assert again.layout == model.layout and again.calibrated
    for ours, theirs in zip(again.weights, model.weights, strict=True):
        np.testing.assert_allclose(
            ours.numpy(), theirs.numpy(), rtol=0, atol=2e-6, err_msg=ours.path
        )


def test_also_where_the_azimuth_goes_around(tmp_path: pathlib.Path) -> None:
    model = DCIGN(
        image_size=tiny.SIZE,
        encoder_filters=(2, 3, 4),
        decoder_filters=(5, 4, 3),
        layout={"factors": [["azimuth", 2], ["intrinsic", 3]], "circular": ["azimuth"]},
        units={"azimuth": "degrees"},
    )
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    model.calibrate(tiny.images(80), {"azimuth": np.linspace(0, 359, 80)}, {"azimuth": 360})
    again = exported.load(export.export(model, "chairs", output=tmp_path))
    assert dict(again.periods) == {"azimuth": 360}
    for ours, theirs in zip(again.weights, model.weights, strict=True):
        np.testing.assert_allclose(
            ours.numpy(), theirs.numpy(), rtol=0, atol=2e-5, err_msg=ours.path
        )


def test_the_model_that_ships(tmp_path: pathlib.Path) -> None:
    # It is large enough for kernels of all forms there are.
    found = exported.find(shipped.find())
    assert found is not None
    patches = np.random.default_rng(0).random([2, 5, 5, 1], np.float32)
    images = patches.repeat(30, 1).repeat(30, 2)
    expected = engine.open_engine(found).reconstruct(images)
    np.testing.assert_allclose(exported.load(found)(images), expected, rtol=0, atol=1e-4)


def test_of_several_versions_the_latest(tmp_path: pathlib.Path) -> None:
    for version in ("2", "10", "9a"):
        shutil.copytree(tiny.exported(), tmp_path / version)
    assert exported.find(tmp_path) == tmp_path / "10"
    assert exported.find(tmp_path / "2") == tmp_path / "2"
    assert exported.find(tmp_path / "nothing") is None


def _forget_the_network(folder: pathlib.Path) -> None:
    card = json.loads((folder / exported.CARD).read_text())
    del card["config"]
    (folder / exported.CARD).write_text(json.dumps(card))


def _another_network(folder: pathlib.Path) -> None:
    card = json.loads((folder / exported.CARD).read_text())
    card["config"]["encoder_filters"] = [2, 2, 3]
    (folder / exported.CARD).write_text(json.dumps(card))


def _cut(folder: pathlib.Path) -> None:
    (data,) = (folder / "variables").glob("*.data*")
    data.write_bytes(data.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / exported.CARD).unlink(), "it has no assets.extra/card.json"),
        (lambda folder: (folder / exported.CARD).write_text("[]"), "not the card of an exported"),
        (_forget_the_network, "card.json: not the card of an exported model"),
        (_another_network, "not the weights of its card's network"),
        (_cut, "not the weights of its card's network, or damaged"),
        (lambda folder: shutil.rmtree(folder / "variables"), "or damaged: .*"),
    ],
)
def test_damaged_ones_are_refused(
    damage: Callable[[pathlib.Path], Any], message: str, folder: pathlib.Path
) -> None:
    damage(folder)
    with pytest.raises(DcignError, match=message) as raised:
        exported.load(folder)
    assert str(folder) in str(raised.value)
