"""What a model's signatures take and give, and whether an answer is that."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from dcign_tf.serving.server_errors import BadResponse

STRING = "DT_STRING"
NUMBERS = {"DT_FLOAT": np.float32, "DT_INT32": np.int32}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One input or output.

    Attributes:
        dtype: TensorFlow's name of its type, such as DT_FLOAT.
        shape: None along dimensions of any size, as the number of images.
    """

    dtype: str
    shape: tuple[int | None, ...]


@dataclasses.dataclass(frozen=True)
class Signature:
    """One function of a model."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


def check_answer(name: str, tensor: Tensor, dtype: str, shape: tuple[int, ...], count: int) -> None:
    """Checks that an output is what its signature promised, for `count` images.

    Raises:
        BadResponse: it is not.
    """
    promised = (count, *tensor.shape[1:])
    fits = len(shape) == len(promised) and all(
        want in (None, found) for want, found in zip(promised, shape, strict=True)
    )
    if dtype != tensor.dtype or not fits:
        raise BadResponse(
            f"the server's answer has {name} as {dtype} {list(shape)}, must be "
            f"{tensor.dtype} {['any' if size is None else size for size in promised]}"
        )


def size_of(arrays: Mapping[str, np.ndarray]) -> int:
    """How many images a request is about: the first dimension, which all its inputs share."""
    return len(next(iter(arrays.values())))
