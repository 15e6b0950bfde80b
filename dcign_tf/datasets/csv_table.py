"""Anyone's images with a table of their factors, in CSV or Parquet.

    path,azimuth,elevation,person
    renders/0001.png,-30,10,anna
    renders/0002.png,-25,10,anna

Each row is an image: the path of its file, in or below the table's folder; numbers, the true values of its factors;
where they are known, who or what it shows, and for which split it is. CSV is UTF-8 with commas, decimal points and a
first line of names. Parquet needs the package pyarrow: `pip install 'dcign_tf[tables]'`.
"""

import array
import csv
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from dcign_tf.code import INTRINSIC
from dcign_tf.datasets.folders import check_factor_name
from dcign_tf.datasets.manifest import SPLITS
from dcign_tf.datasets.pictures import ImageFiles
from dcign_tf.datasets.scenes import FACTORS
from dcign_tf.datasets.tables import ImageTable
from dcign_tf.errors import DcignError, UsageError

MAX_BYTES = 1 << 30
MAX_ROWS = 5_000_000
MAX_CELL = 4096  # characters
MAX_VALUE = 1e30

_MAX_LINE = 1 << 20
_BATCH = 4096  # rows of Parquet at a time


def load(
    path: str,
    *,
    factors: Sequence[str] | None = None,
    identity: Sequence[str] = (),
    path_column: str = "path",
    split_column: str | None = None,
    units: Sequence[str] = (),
    periods: Sequence[str] = (),
) -> ImageTable:
    """Reads a table of images.

    Args:
        path: the table.
        factors: names of the columns that are factors, in the order of the code; by default all columns that are
            nothing else.
        identity: names of the columns that together say what an image shows apart from the factors.
        path_column: name of the column of paths, which are relative to the table's folder. Links are followed.
        split_column: name of the column that says train, validation or test; by default "split", if there is one.
        units: units of factors, such as "height=m"; by default "degrees" for azimuth, elevation and
            light_azimuth, none for others.
        periods: periods of factors that close, such as "azimuth=360".

    Raises:
        UsageError: an option names what is not there, or makes no sense.
        DcignError: the table cannot be read, or a cell is not as it must be; the message names row and column.
    """
    rows = _rows(path)
    role = _roles(path, rows.columns, factors, identity, path_column, split_column)
    unit_of = {name: "degrees" if name in FACTORS else "" for name in role.factors}
    unit_of.update(_pairs("units", units, role.factors))
    period_of = {}
    for name, text in _pairs("periods", periods, role.factors).items():
        period_of[name] = _number(text) or 0.0
        if period_of[name] <= 0:
            raise UsageError(
                f"--source_option=periods: got {text!r} for {name}, must be a number above 0"
            )
    folder = os.path.dirname(path)
    files: dict[str, str] = {}  # and where each was found
    values = [array.array("d") for _ in role.factors]
    identities: dict[tuple[Any, ...], int] = {}
    number = array.array("q")
    splits: list[str] = []
    split_of: dict[int, tuple[str, str]] = {}
    wanted = [rows.columns.index(name) for name in role.names]
    for at, cells in rows.read(wanted):
        if len(files) == MAX_ROWS:
            raise DcignError(f"{path}: more than {MAX_ROWS} rows")
        cell = dict(zip(role.names, cells, strict=True))
        where = f"{path}: {rows.word} {at}"
        name = _inside(cell[path_column], f"{where}, column {path_column}")
        if name in files:
            raise DcignError(
                f"{where}, column {path_column}: {_quote(name)} is in {files[name]}, too; an image must be there once"
            )
        if not os.path.isfile(os.path.join(folder, name)):
            raise DcignError(
                f"{where}, column {path_column}: {_quote(name)}: no such file in {folder or '.'}"
            )
        files[name] = f"{rows.word} {at}"
        for factor, column in zip(role.factors, values, strict=True):
            value = _number(cell[factor])
            if value is None:
                raise DcignError(
                    f"{where}, column {factor}: got {_short(cell[factor])}, must be a finite number"
                    + ("" if factors else "; --factors names the columns that are")
                )
            column.append(value)
        shown = tuple(str(cell[column]) for column in role.identity)
        number.append(identities.setdefault(shown, len(identities)))
        if role.split:
            split = cell[role.split]
            if split not in SPLITS:
                raise DcignError(
                    f"{where}, column {role.split}: got {_short(split)}, must be one of {', '.join(SPLITS)}"
                )
            splits.append(split)
            first = split_of.setdefault(number[-1], (split, f"{rows.word} {at}"))
            if role.identity and first[0] != split:
                raise DcignError(
                    f"{where}, column {role.split}: {_quote(', '.join(shown))} is for {split} here and for {first[0]} "
                    f"in {first[1]}; an identity must be in one split"
                )
    if not files:
        raise DcignError(f"{path}: has no rows")
    return ImageTable(
        source=f"images with a table, {os.path.basename(path)}, of whoever gave them",
        images=ImageFiles(folder, tuple(files)),
        factors=role.factors,
        values={
            factor: np.array(column) for factor, column in zip(role.factors, values, strict=True)
        },
        units=unit_of,
        periods=period_of,
        identity=np.array(number, np.int64),
        split=tuple(splits) if role.split else None,
    )


class _Roles(NamedTuple):
    """Which columns are what."""

    path: str
    factors: tuple[str, ...]
    identity: tuple[str, ...]
    split: str | None

    @property
    def names(self) -> list[str]:
        """All columns that are read."""
        return [self.path, *self.factors, *self.identity, *([self.split] if self.split else [])]


def _roles(
    path: str,
    columns: Sequence[str],
    factors: Sequence[str] | None,
    identity: Sequence[str],
    path_column: str,
    split: str | None,
) -> _Roles:
    """Says which columns are what, once all of them prove to be there."""
    for name in columns:
        if columns.count(name) > 1:
            raise DcignError(f"{path}: has two columns {_quote(name)}; names must be different")
    chosen = list(factors or ())
    if split is None and "split" in {*columns} - {*identity, *chosen}:
        split = "split"
    asked = {
        "--source_option=path_column": [path_column],
        "--source_option=identity": list(identity),
        "--factors": chosen,
        "--source_option=split_column": [] if split is None else [split],
    }
    for option, names in asked.items():
        for name in names:
            if name not in columns:
                raise UsageError(
                    f"{option}: {path} has no column {_quote(name)}; it has {', '.join(map(_shown, columns))[:500]}"
                )
    taken = [name for option, names in asked.items() for name in names]
    twice = next((name for name in taken if taken.count(name) > 1), None)
    if twice:
        options = [option for option, names in asked.items() if twice in names]
        raise UsageError(f"{' and '.join(options)}: the column {_quote(twice)} is named twice")
    found = tuple(chosen or [name for name in columns if name not in taken])
    for name in found:
        check_factor_name(name, f"{path}: column {_quote(name)}")
        if name == INTRINSIC:
            raise DcignError(f"{path}: column {_quote(name)}: {INTRINSIC} is what no factor says")
    if not found:
        raise DcignError(f"{path}: has no column of a factor beside {', '.join(taken)}")
    return _Roles(path_column, found, tuple(identity), split)


def _pairs(option: str, pairs: Sequence[str], factors: Sequence[str]) -> dict[str, str]:
    """Parses "azimuth=360", "height=m"."""
    values = {}
    for pair in pairs:
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or name not in factors or not value:
            raise UsageError(
                f"--source_option={option}: got {pair!r}, must be <factor>=<value>, a factor of {', '.join(factors)}"
            )
        values[name] = value
    return values


def _number(cell: object) -> float | None:
    """The finite number in a cell; None if that is not what it holds."""
    if isinstance(cell, str):
        # Python's own numbers may have underscores between their digits.
        if "_" in cell:
            return None
    elif isinstance(cell, bool) or not hasattr(cell, "__float__"):
        return None
    try:
        value = float(cell)
    except (ValueError, OverflowError):
        return None
    return value if abs(value) <= MAX_VALUE else None  # Which a NaN is not.


def _inside(cell: object, where: str) -> str:
    """The path in a cell, which must stay in the table's folder on any system."""
    if not isinstance(cell, str) or not cell.strip():
        raise DcignError(f"{where}: got {_short(cell)}, must be the path of an image")
    if re.match(r"[/\\]|[A-Za-z]:", cell) or ".." in re.split(r"[/\\]", cell):
        raise DcignError(
            f"{where}: got {_short(cell)}, which leads out of the table's folder; it must be a path within"
        )
    return os.path.normpath(cell)


def _short(cell: object) -> str:
    return "nothing" if cell is None or cell == "" else _quote(cell)


def _quote(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _shown(name: str) -> str:
    return name if name.isprintable() else _quote(name)


class _Rows(NamedTuple):
    """A table.

    Attributes:
        columns: their names.
        word: what its rows are called, "line" or "row".
        read: gives for each row its number and the cells of some columns, by the columns' places.
    """

    columns: list[str]
    word: str
    read: Any


def _rows(path: str) -> _Rows:
    """Opens a table of either kind."""
    try:
        with open(path, "rb") as file:
            start = file.read(4)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise DcignError(f"{path}: {error.strerror or error}; expected a table") from error
    except ValueError as error:  # A zero byte in the name.
        raise DcignError(f"{path!r}: not a file's name ({error})") from error
    if size > MAX_BYTES:
        raise DcignError(f"{path}: larger than {MAX_BYTES >> 20} MiB, too large for a table")
    if start == b"PAR1":
        return _parquet(path)
    if path.lower().endswith((".parquet", ".pq")):
        raise DcignError(f"{path}: not a Parquet file: it does not begin with PAR1")
    return _csv(path)


def _csv(path: str) -> _Rows:
    lines = _csv_lines(path)
    _, columns = next(lines, (0, []))
    if not columns:
        raise DcignError(f"{path}: empty; expected a line of column names")

    def read(wanted: Sequence[int]) -> Iterator[tuple[int, list[object]]]:
        for at, cells in lines:
            if len(cells) != len(columns):
                raise DcignError(
                    f"{path}: line {at}: has {len(cells)} cells, must have {len(columns)}, one for each column"
                )
            yield at, [cells[place] for place in wanted]

    return _Rows(columns, "line", read)


def _csv_lines(path: str) -> Iterator[tuple[int, list[str]]]:
    """The lines that are not empty, with their numbers."""
    at = 0
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:

            def limited() -> Iterator[str]:
                while line := file.readline(_MAX_LINE + 1):
                    if len(line) > _MAX_LINE:
                        raise csv.Error(f"longer than {_MAX_LINE} characters")
                    yield line

            reader = csv.reader(limited(), strict=True)
            for cells in reader:
                at = reader.line_num
                if cells:
                    if max(map(len, cells)) > MAX_CELL:
                        raise csv.Error(f"a cell of more than {MAX_CELL} characters")
                    yield at, cells
    except UnicodeDecodeError as error:
        raise DcignError(
            f"{path}: not UTF-8 text, soon after line {at}; expected a table in CSV or Parquet"
        ) from error
    except csv.Error as error:
        raise DcignError(f"{path}: after line {at}: not CSV: {error}") from error
    except OSError as error:
        raise DcignError(f"{path}: {error.strerror or error}; expected a table") from error


def _parquet(path: str) -> _Rows:
    try:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq
    except ImportError:
        raise DcignError(
            f"{path}: Parquet needs the package pyarrow; install it: pip install 'dcign_tf[tables]'"
        ) from None

    def damaged(error: Exception) -> DcignError:
        detail = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return DcignError(f"{path}: a damaged Parquet file ({detail[:300]})")

    def opened(texts: Sequence[str] = ()) -> Any:
        # Texts come as dictionaries: a long one that is there often takes its memory once.
        limits = {"thrift_string_size_limit": 64 << 20, "thrift_container_size_limit": 1_000_000}
        return pq.ParquetFile(
            path, read_dictionary=list(texts), page_checksum_verification=True, **limits
        )

    def is_text(kind: Any) -> bool:
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

    try:
        with opened() as file:
            schema, count = file.schema_arrow, file.metadata.num_rows
    except MemoryError:
        raise
    except Exception as error:
        raise damaged(error) from error
    if count > MAX_ROWS:
        raise DcignError(f"{path}: says that it has {count} rows; at most {MAX_ROWS} are read")

    def read(wanted: Sequence[int]) -> Iterator[tuple[int, list[object]]]:
        fields = [schema.field(place) for place in wanted]
        for field in fields:
            kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            if not (is_text(kind) or pa.types.is_primitive(kind) or pa.types.is_decimal(kind)):
                raise DcignError(
                    f"{path}: column {field.name}: is of type {kind}, must be of numbers or texts"
                )
        at = 0
        try:
            with opened([field.name for field in fields if is_text(field.type)]) as file:
                names = [field.name for field in fields]
                for batch in file.iter_batches(_BATCH, columns=names, use_threads=False):
                    columns = [batch.column(name) for name in names]
                    for name, column in zip(names, columns, strict=True):
                        if pa.types.is_dictionary(column.type) and is_text(column.type.value_type):
                            longest = pc.max(pc.binary_length(column.dictionary)).as_py()
                            if longest is not None and longest > MAX_CELL:
                                raise ValueError(f"column {name}: a text of {longest} bytes")
                    for cells in zip(*(column.to_pylist() for column in columns), strict=True):
                        at += 1
                        yield at, list(cells)
        except MemoryError:
            raise
        except Exception as error:
            raise damaged(error) from error

    return _Rows(list(schema.names), "row", read)
