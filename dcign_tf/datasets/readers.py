"""The readers of images that others made: a file each, and a line here."""

import dataclasses
import importlib
import inspect
from collections.abc import Mapping

from dcign_tf.datasets.tables import ImageTable
from dcign_tf.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Reader:
    """A format that images come in.

    Attributes:
        module: with a function `load(path: str, **options) -> ImageTable`, whose options are texts; imported when
            asked for: a reader may need packages, or seconds, that others do not.
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


def load_table(name: str, path: str | None, options: Mapping[str, str] | None = None) -> ImageTable:
    """Reads what is at a path.

    Args:
        name: a key of `READERS`.
        path: the files.
        options: of this reader.

    Raises:
        UsageError: the path is missing, or the reader has no such option.
        DcignError: what is at the path is not what the reader reads.
    """
    reader = READERS[name]
    if not path:
        raise UsageError(f"--source_path: missing; --source={name} reads {reader.description}")
    load = importlib.import_module(reader.module).load
    known = list(inspect.signature(load).parameters)[1:]
    for option in options or {}:
        if option not in known:
            there = f"it has {', '.join(known)}" if known else "it has none"
            raise UsageError(f"--source_option: --source={name} has no option {option!r}; {there}")
    table: ImageTable = load(path, **(options or {}))
    return table
