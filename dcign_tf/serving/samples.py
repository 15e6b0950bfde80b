"""Held-out images to try a model on, from the data it was trained on."""

import json
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from dcign_tf.datasets.samplers import config_from_dict
from dcign_tf.datasets.source import open_source
from dcign_tf.errors import DcignError, UsageError


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
