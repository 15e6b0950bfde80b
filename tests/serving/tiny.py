"""A model small enough for tests of what is done with models: it has learned nothing, but obeys."""

import functools
import json
import pathlib
from collections.abc import Mapping

import keras
import numpy as np

from dcign_tf.model import DCIGN

SIZE = 38
FACTORS = ("azimuth", "elevation", "light_azimuth")
RANGES = {"azimuth": (-90.0, 90.0), "elevation": (-25.0, 25.0), "light_azimuth": (-80.0, 80.0)}


def images(count: int, seed: int = 0) -> np.ndarray:
    """Noise; float32 [N, S, S, 1]."""
    return np.random.default_rng(seed).random([count, SIZE, SIZE, 1], np.float32)


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
        if "features" in weight.path or "mean" in weight.path:
            weight.assign(100 * weight.value)
        if "unpool" in weight.path:
            weight.assign(3 * weight.value)
    return model


@functools.cache
def model() -> DCIGN:
    """The same, calibrated to angles of `RANGES`."""
    made = uncalibrated_model()
    rng = np.random.default_rng(1)
    degrees = {f: rng.permutation(np.linspace(*RANGES[f], 80)) for f in FACTORS}
    made.calibrate(images(80), degrees)
    return made


def write_workdir(folder: pathlib.Path) -> pathlib.Path:
    """A folder as dcign-train leaves it, as far as its users look."""
    folder.mkdir()
    model().save(folder / "model.keras")
    config = {"data": {"source": "noise"}, "training": {"steps": 7}, "data_path": "/secret/place"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder
