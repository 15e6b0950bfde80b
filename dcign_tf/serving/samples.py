"""Pictures to try a model on: held-out ones of its own data, or those that come with it or with this package."""

import contextlib
import importlib.resources
import json
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from dcign_tf import exported
from dcign_tf import images as image_files
from dcign_tf.datasets.samplers import config_from_dict
from dcign_tf.datasets.source import open_source
from dcign_tf.errors import DcignError, UsageError
from dcign_tf.serving.engine import Engine

_MOST = 12


def held_out(
    workdir: str | os.PathLike[str], numbers: Sequence[int], image_size: int
) -> np.ndarray:
    """Some test images, of identities that training never saw, in which everything varies at once.

    Args:
        workdir: a workdir of dcign-train; its config.json says where the data are.
        numbers: which images, from 0.
        image_size: the side the images must have.

    Returns:
        float32 [N, S, S, 1] in [0, 1].

    Raises:
        UsageError: `workdir` is no workdir, or there are not so many images.
        DcignError: the data are gone, or of another size.
    """
    images = mixed(workdir, "test", max(numbers) + 1, image_size, "--sample")
    if len(images) <= max(numbers):
        raise UsageError(
            f"--sample: got {max(numbers)}, but there are only {len(images)} test images "
            f"(0 to {len(images) - 1})"
        )
    return images[np.asarray(numbers)]


def mixed(
    workdir: str | os.PathLike[str], split: str, count: int, image_size: int, flag: str
) -> np.ndarray:
    """The first images of a model's own data in which everything varies at once.

    Args:
        workdir: a workdir of dcign-train; its config.json says where the data are.
        split: "train" or "test".
        count: how many, if there are so many.
        image_size: the side the images must have.
        flag: what they are asked for by, for errors.

    Returns:
        float32 [N, S, S, 1] in [0, 1].

    Raises:
        UsageError: `workdir` is no workdir.
        DcignError: the data are gone, or of another size.
    """
    path = pathlib.Path(workdir, "config.json")
    try:
        config = json.loads(path.read_text("utf-8"))
        # A run that rendered on the fly has no data set, but notes how to draw the same scenes again.
        data = config["data_path"] or config_from_dict(config["scene"])
    except OSError as error:
        raise UsageError(
            f"{flag}: needs a workdir of dcign-train as --model, got {workdir} "
            f"({path}: {error.strerror})"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DcignError(
            f"{path}: does not say where the data are ({error!r}); without {flag} they are not needed"
        ) from error
    images = open_source(data).mixed(split, count).images
    if len(images) and images.shape[1] != image_size:
        raise DcignError(
            f"{path}: the data's images are {images.shape[1]} pixels wide, the model's {image_size}"
        )
    return images[:count].astype(np.float32) / 255


def pictures_for(path: str | os.PathLike[str], engine: Engine) -> list[np.ndarray]:
    """Some pictures that fit a model.

    They are, whichever is there first: those in `samples` beside the card of an exported model; held-out images of
    the data that a workdir's model was trained on; built-in heads or chairs, drawn once and kept in this package, for
    a model that has their factors.

    Args:
        path: where the model is, as in `engine.open_engine`.
        engine: that model.

    Returns:
        float32 [H, W] in [0, 1], each; none for a model of other things whose data are not here.

    Raises:
        DcignError: a picture that was exported with the model is damaged.
    """
    folder = exported.find(path)
    if folder is not None:
        if files := sorted((folder / exported.SAMPLES).glob("*.png")):
            return [image_files.read_image(file) for file in files[:_MOST]]
    elif pathlib.Path(path, "config.json").is_file():
        with contextlib.suppress(DcignError):  # The data may be gone by now.
            return list(mixed(path, "test", _MOST, engine.image_size, "--model")[..., 0])
    factors = tuple(engine.factor_ranges)
    if {"azimuth", "light_azimuth"} <= set(factors):
        kind = "head"
    elif factors == ("azimuth",):
        kind = "chair"
    else:
        return []
    package = importlib.resources.files("dcign_tf.serving.viewer").joinpath("samples")
    found = sorted((f for f in package.iterdir() if f.name.startswith(kind)), key=lambda f: f.name)
    return [image_files.read_image(file.read_bytes(), file.name) for file in found]
