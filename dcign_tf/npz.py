"""Arrays out of `.npz` archives that may be damaged, foreign or made to harm."""

import math
import zipfile

import numpy as np


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
        dtype: what its dtype must be, or be a kind of: np.float32, np.integer, np.str_.
        shape: expected sizes; None is any.
        max_bytes: how much memory it may take.

    Raises:
        ValueError: the array is missing or not as expected; the message starts with its name.
    """
    member = f"{name}.npy"
    if member not in archive.namelist():
        raise ValueError(f"{name}: missing")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            found, _, kind = np.lib.format.read_array_header_1_0(file)
        else:
            found, _, kind = np.lib.format.read_array_header_2_0(file)
        held = archive.getinfo(member).file_size - file.tell()
    if kind.hasobject:
        raise ValueError(f"{name}: holds pickled objects, which are never read")
    if not np.issubdtype(kind, dtype):
        raise ValueError(f"{name}: got dtype {kind}, must be {dtype.__name__.strip('_')}")
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
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
