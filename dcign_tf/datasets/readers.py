"""The readers of images that others made: a file each, and a line here."""

import dataclasses
import importlib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from dcign_tf.datasets.tables import ImageTable
from dcign_tf.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Reader:
    """A format that images come in.

    Attributes:
        module: with a function `load(path: str, **options) -> ImageTable`, whose annotations say what its options
            are; imported when asked for: a reader may need packages, or seconds, that others do not.
        description: what it reads, for help texts.
    """

    module: str
    description: str


READERS: Mapping[str, Reader] = {
    "authors": Reader("dcign_tf.datasets.authors", "the faces that the paper's authors released"),
    "folders": Reader("dcign_tf.datasets.folders", "<folder>/<factor>/<group>/*.png"),
    "table": Reader("dcign_tf.datasets.csv_table", "images and a CSV or Parquet table"),
    "chairs": Reader("dcign_tf.datasets.chairs", "3D chairs of Aubry et al., folder or tar"),
    "factor_grid": Reader(
        "dcign_tf.datasets.factor_grid", "arrays as of dSprites, 3D Shapes, MPI3D (.npz, .h5)"
    ),
}


def load_table(
    name: str,
    path: str | None,
    options: Sequence[str] = (),
    seed: int = 0,
    factors: Sequence[str] | None = None,
) -> ImageTable:
    """Reads what is at a path.

    Args:
        name: a key of `READERS`.
        path: the files.
        options: of this reader, as "<name>=<value>"; values of several parts have commas between them.
        seed: for readers that decide something at random.
        factors: the extrinsic ones, for readers that must know.

    Raises:
        UsageError: the path is missing, or the reader has no such option.
        DcignError: what is at the path is not what the reader reads.
    """
    reader = READERS[name]
    if not path:
        raise UsageError(f"--source_path: missing; --source={name} reads {reader.description}")
    load = importlib.import_module(reader.module).load
    known = dict(list(typing.get_type_hints(load).items())[1:])  # without the path
    del known["return"]
    given: dict[str, Any] = {"seed": seed}
    if factors is not None:
        given["factors"] = tuple(factors)
    arguments = {option: value for option, value in given.items() if option in known}
    others = [option for option in known if option not in ("seed", "factors")]
    for text in options:
        option, _, value = (part.strip() for part in text.partition("="))
        if option not in others:
            there = f"it has {', '.join(others)}" if others else "it has none"
            raise UsageError(f"--source_option: --source={name} has no option {option!r}; {there}")
        arguments[option] = _parsed(text, value, known[option])
    table: ImageTable = load(path, **arguments)
    return table


def _parsed(text: str, value: str, kind: Any) -> Any:
    """The value of an option of type str, int, float or bool, a sequence of these, or one of these or None."""
    if isinstance(kind, types.UnionType):
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    if typing.get_origin(kind) is not None:
        (item, *_) = typing.get_args(kind)
        return tuple(_parsed(text, part.strip(), item) for part in value.split(","))
    if kind is bool and value in ("true", "false"):
        return value == "true"
    try:
        if not value or kind is bool:
            raise ValueError
        return kind(value)
    except ValueError:
        right = {int: "a whole number", float: "a number", bool: "true or false"}.get(
            kind, "a text"
        )
        raise UsageError(f"--source_option: got {text!r}; {value!r} must be {right}") from None
