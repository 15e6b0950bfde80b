"""A model small enough for tests of what is done with models: it has learned nothing, but obeys."""

import functools
import json
import pathlib
import tempfile
from collections.abc import Mapping

import keras
import numpy as np

from dcign_tf.model import DCIGN
from dcign_tf.serving import export

SIZE = 38
FACTORS = ("azimuth", "elevation", "light_azimuth")
RANGES = {"azimuth": (-90.0, 90.0), "elevation": (-25.0, 25.0), "light_azimuth": (-80.0, 80.0)}


def images(count: int, seed: int = 0) -> np.ndarray:
    """Checkered patches with some noise; float32 [N, S, S, 1]."""
    rng = np.random.default_rng(seed)
    patches = rng.random([count, 4, 4, 1], np.float32).repeat(10, 1).repeat(10, 2)[:, :SIZE, :SIZE]
    return 0.8 * patches + 0.2 * rng.random(patches.shape, np.float32)


def uncalibrated_model(layout: Mapping[str, int] | None = None) -> DCIGN:
    """A model with filters of 2 and by default 8 latents, with weights large enough to make a difference."""
    keras.utils.set_random_seed(3)
    model = DCIGN(
        image_size=SIZE,
        encoder_filters=(2, 2, 2),
        decoder_filters=(2, 2, 2),
        layout=layout or {**dict.fromkeys(FACTORS, 1), "intrinsic": 5},
    )
    for weight in model.trainable_weights:
        for part, scale in (("mean", 20), ("features", 20), ("unpool", 2.5)):
            if part in weight.path:
                weight.assign(scale * weight.value)
    return model


@functools.cache
def model() -> DCIGN:
    """The same, calibrated to angles of `RANGES`."""
    made = uncalibrated_model()
    many = images(80)
    means = made.encode(many)[0].numpy()
    # The more of its latent, the larger an angle: so every angle renders differently.
    ranks = {f: means[:, i].argsort().argsort() for i, f in enumerate(FACTORS)}
    made.calibrate(many, {f: np.linspace(*RANGES[f], 80)[ranks[f]] for f in FACTORS})
    return made


@functools.cache
def _place() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="dcign-tiny.")


@functools.cache
def exported() -> pathlib.Path:
    """The same as dcign-export leaves it: version 1 of `faces`."""
    return export.export(model(), "faces", output=_place().name, provenance={"metrics": {"mse": 1}})


def write_workdir(folder: pathlib.Path) -> pathlib.Path:
    """A folder as dcign-train leaves it, as far as its users look."""
    folder.mkdir()
    model().save(folder / "model.keras")
    config = {"data": {"source": "noise"}, "training": {"steps": 7}, "data_path": "/secret/place"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder
