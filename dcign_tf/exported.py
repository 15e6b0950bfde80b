"""Exported models as files: where they lie, their cards, and what it takes to train one on.

`serving.export` writes them.
"""

import json
import os
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from dcign_tf.cpu_convolutions import unmerged_kernel
from dcign_tf.errors import DcignError, first_line
from dcign_tf.layers import RowwiseConv2D
from dcign_tf.model import DCIGN

CARD = pathlib.PurePath("assets.extra", "card.json")
SAMPLES = CARD.with_name("samples")


def find(path: str | os.PathLike[str]) -> pathlib.Path | None:
    """The SavedModel at a path or, of several versions there, the latest; None where there is none."""
    path = pathlib.Path(path)
    if (path / "saved_model.pb").is_file():
        return path
    if not path.is_dir():
        return None
    versions = [
        p for p in path.iterdir() if p.name.isdecimal() and (p / "saved_model.pb").is_file()
    ]
    return max(versions, key=lambda version: int(version.name), default=None)


def read_card(folder: pathlib.Path) -> dict[str, Any]:
    """Reads an exported model's card.

    Raises:
        DcignError: it has none, or something else in its place.
    """
    try:
        card = json.loads((folder / CARD).read_text("utf-8"))
    except OSError as error:
        raise DcignError(
            f"{folder}: not a model that dcign-export made: it has no {CARD} ({error.strerror})"
        ) from error
    except (ValueError, RecursionError) as error:
        raise not_a_card(folder, error) from error
    if not isinstance(card, dict):
        raise not_a_card(folder, TypeError("it holds no object"))
    return card


def not_a_card(folder: pathlib.Path, error: Exception) -> DcignError:
    """What to raise where a card lacks something."""
    return DcignError(f"{folder / CARD}: not the card of an exported model ({error!r})")


def load(folder: pathlib.Path) -> DCIGN:
    """Makes an exported model, a SavedModel for use only, one again that can be trained.

    `DCIGN.for_inference` made its kernels from those of the model, by linear maps; here they are reversed, but for
    rounding.

    Args:
        folder: of the SavedModel, as `find` gives it.

    Returns:
        The model, with its calibration.

    Raises:
        DcignError: the model is damaged, or dcign-export did not make it.
    """
    card = read_card(folder)
    try:
        model = DCIGN.from_config({"name": "dcign", **card["config"]})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise not_a_card(folder, error) from error
    try:
        stored = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
        for weight in model.weights:
            # As the checkpoint spells the key `weight.path` of the exported dictionary.
            key = weight.path.replace("/", ".S")
            value = stored.get_tensor(f"weights_by_path/{key}/.ATTRIBUTES/VARIABLE_VALUE")
            weight.assign(_trained(value, tuple(weight.shape)))
    # TensorFlow has no one exception for what it cannot read.
    except Exception as error:
        raise DcignError(
            f"{folder}: not the weights of its card's network, or damaged: {first_line(error)}"
        ) from error
    return model


def _trained(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The weight of a given shape that a weight for use was made from."""
    if value.ndim == 5:
        value = RowwiseConv2D.direct_kernel(value)
    if value.ndim == 4 and value.shape != shape:
        return unmerged_kernel(value)
    # The four phases of a merged kernel have the same biases.
    return value[: shape[0]] if value.ndim == 1 else value
