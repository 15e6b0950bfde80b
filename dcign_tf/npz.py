"""Arrays out of `.npz` archives that may be damaged, foreign or made to harm."""

import math
import struct
import zipfile
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_LOCAL_HEADER = 30  # bytes before the name in front of each member of a ZIP archive
_LOCAL_MAGIC = b"PK\x03\x04"


class Header(NamedTuple):
    """What an archive says of an array, once it has proved to fit the file.

    Attributes:
        name: of the array.
        shape: its sizes.
        dtype: of its elements.
        fortran_order: whether the first axis varies fastest.
        start: how many bytes of the array's member come before the elements.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran_order: bool
    start: int


def read_header(
    archive: zipfile.ZipFile,
    name: str,
    dtype: type,
    shape: tuple[int | None, ...] | None,
    max_bytes: int,
) -> Header:
    """Reads what an array is, of its elements nothing.

    Args:
        archive: the `.npz`.
        name: of the array.
        dtype: what its dtype must be, or be a kind of: np.float32, np.integer, np.str_, np.generic.
        shape: expected sizes; None is any size, or any shape.
        max_bytes: how large it may be.

    Raises:
        ValueError: the array is missing or not as expected; the message starts with its name.
    """
    member = f"{name}.npy"
    if member not in archive.namelist():
        raise ValueError(f"{name}: missing")
    if archive.getinfo(member).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name}: compressed in a way that NumPy never does")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            found, fortran, kind = np.lib.format.read_array_header_1_0(file)
        else:
            found, fortran, kind = np.lib.format.read_array_header_2_0(file)
        start = file.tell()
    held = archive.getinfo(member).file_size - start
    if kind.hasobject:
        raise ValueError(f"{name}: holds pickled objects, which are never read")
    if not np.issubdtype(kind, dtype):
        raise ValueError(f"{name}: got dtype {kind}, must be {dtype.__name__.strip('_')}")
    if shape is None:
        shape = found
    if len(found) != len(shape):
        raise ValueError(f"{name}: got shape {found}, must have {len(shape)} dimensions")
    if any(want is not None and have != want for have, want in zip(found, shape, strict=True)):
        expected = ", ".join("any" if want is None else str(want) for want in shape)
        raise ValueError(f"{name}: got shape {found}, must be ({expected})")
    size = math.prod(found) * kind.itemsize
    if size > max_bytes:
        raise ValueError(f"{name}: got shape {found} of {kind}, which is too large")
    if size != held:
        raise ValueError(f"{name}: got {held} bytes, must be {size} for shape {found}")
    return Header(name, tuple(found), kind, fortran, start)


def read_array(
    archive: zipfile.ZipFile,
    name: str,
    dtype: type,
    shape: tuple[int | None, ...],
    max_bytes: int,
) -> np.ndarray:
    """Reads one array once its header has proved to be as expected, so that a lie costs no memory.

    Args:
        archive: the `.npz`.
        name: of the array.
        dtype: see `read_header`.
        shape: see `read_header`.
        max_bytes: how much memory it may take.

    Raises:
        ValueError: the array is missing or not as expected; the message starts with its name.
    """
    read_header(archive, name, dtype, shape, max_bytes)
    with archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def place_of(archive: zipfile.ZipFile, header: Header) -> int | None:
    """Where in the archive's file the elements of an array begin; None when it is compressed.

    Raises:
        ValueError: the archive is damaged; the message starts with the array's name.
    """
    info = archive.getinfo(f"{header.name}.npy")
    if info.compress_type != zipfile.ZIP_STORED:
        return None
    if archive.fp is None or info.flag_bits & 1:
        raise ValueError(f"{header.name}: cannot be read where it lies")
    archive.fp.seek(info.header_offset)
    local = archive.fp.read(_LOCAL_HEADER)
    if len(local) < _LOCAL_HEADER or not local.startswith(_LOCAL_MAGIC):
        raise ValueError(f"{header.name}: its place in the archive is damaged")
    name_length, extra_length = struct.unpack("<HH", local[26:])
    return info.header_offset + _LOCAL_HEADER + name_length + extra_length + header.start


def stream_rows(archive: zipfile.ZipFile, header: Header, rows: int) -> Iterator[np.ndarray]:
    """Reads an array that is too large for memory, or need not be there at once, some rows at a time.

    Args:
        archive: the `.npz`.
        header: of the array, which is not in Fortran's order.
        rows: how many to read at a time.

    Yields:
        [rows, ...], the last ones fewer.

    Raises:
        ValueError: the member ends early; the message starts with the array's name.
    """
    row_bytes = math.prod(header.shape[1:]) * header.dtype.itemsize
    with archive.open(f"{header.name}.npy") as file:
        file.read(header.start)
        for first in range(0, header.shape[0], rows):
            count = min(rows, header.shape[0] - first)
            data = file.read(count * row_bytes)
            if len(data) != count * row_bytes:
                raise ValueError(f"{header.name}: cut short at row {first}")
            yield np.frombuffer(data, header.dtype).reshape(count, *header.shape[1:])
