"""A data set of octahedra and networks small enough for quick tests of what is measured."""

import functools
import json
import pathlib

import keras
import numpy as np

from dcign_tf.code import CodeLayout
from dcign_tf.datasets.scenes import SceneConfig
from dcign_tf.datasets.source import RenderedSource
from dcign_tf.model import DCIGN
from tests.datasets import tiny

SIZE = 38
IMAGES = 80
GROUPS = 4


def scenes(folder: pathlib.Path, **changes: object) -> SceneConfig:
    """Octahedra of 38 x 38 pixels in groups of five."""
    return tiny.config(folder, **{"image_size": SIZE, "group_size": 5, **changes})


def source(folder: pathlib.Path) -> RenderedSource:
    """Octahedra that are rendered on the fly."""
    return RenderedSource(scenes(folder), mixed_images=IMAGES, groups_per_factor=GROUPS)


def uncalibrated(procedure: str = "clamp") -> DCIGN:
    """A network with filters of 2 and 8 latents that has learned nothing, but answers strongly."""
    keras.utils.set_random_seed(2)
    model = DCIGN(
        image_size=SIZE,
        encoder_filters=(2, 2, 2),
        decoder_filters=(2, 2, 2),
        layout=CodeLayout.paper(8),
        procedure=procedure,
    )
    for weight in model.trainable_weights:
        if "features" in weight.path or "mean" in weight.path:
            weight.assign(100 * weight.value)
        if "unpool" in weight.path:
            weight.assign(3 * weight.value)
    return model


@functools.cache
def model(folder: pathlib.Path) -> DCIGN:
    """The same, calibrated on octahedra for training."""
    made = uncalibrated()
    mixed = source(folder).mixed("train")
    made.calibrate(mixed.images, mixed.values)
    return made


def write_workdir(folder: pathlib.Path, made: DCIGN, config: SceneConfig) -> pathlib.Path:
    """A folder as dcign-train leaves it, as far as evaluation looks."""
    folder.mkdir()
    made.save(folder / "model.keras")
    described = {
        "training": {"steps": 3, "learning_rate": 0.001},
        "data": "octahedra",
        "image_size": config.image_size,
        "factors": ["azimuth", "elevation", "light_azimuth", "intrinsic"],
        "data_path": None,
        "scene": config.to_dict(),
    }
    (folder / "config.json").write_text(json.dumps(described))
    return folder


def rotated(codes: np.ndarray) -> np.ndarray:
    """Codes turned so that every latent has as much of every axis, up to sign."""
    size = codes.shape[1]
    hadamard = np.array([[1.0]])
    while len(hadamard) < size:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    return codes @ hadamard[:size, :size] / np.sqrt(size)
