"""Arrays of numbers out of HDF5 files that may be damaged, foreign or made to harm."""

import itertools
import math
import os
import zlib

import h5py

_EXPANSION = 1032  # zlib makes at most so many bytes of one
_DEFLATE, _SHUFFLE, _CHECKSUM = 1, 2, 3
_PIECE = 1 << 20


def dataset(file: h5py.File, path: str, max_bytes: int = 1 << 30) -> h5py.Dataset:
    """Finds a dataset, once it has proved to be an array of numbers whose reading costs no more than its size.

    Args:
        file: the open file.
        path: the dataset's, as in `shape/model/mean`.
        max_bytes: how much memory it may take.

    Raises:
        ValueError: it is missing, or no such array; the message starts with its path.
    """
    try:
        return _dataset(file, path, max_bytes)
    # Of a damaged file, h5py complains in a dozen ways.
    except Exception as error:
        raise ValueError(f"{path}: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    text = str(error.args[0]) if error.args else ""
    return text.partition("\n")[0] or type(error).__name__


def has(group: h5py.Group, name: str) -> bool:
    """Whether a group has a member of this name, without following a link to see what it is.

    Raises:
        ValueError: it is a link to somewhere else; those lead to other files, or round in circles.
    """
    links = group.id.links
    if not links.exists(name.encode()):
        return False
    if links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise ValueError(f"{name}: a link, which is never followed")
    return True


def _dataset(file: h5py.File, path: str, max_bytes: int) -> h5py.Dataset:
    found: h5py.Group | h5py.Dataset = file
    for name in path.split("/"):
        if not isinstance(found, h5py.Group) or not has(found, name):
            raise ValueError("missing")
        found = found[name]
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"got a {type(found).__name__.lower()}, must be a dataset")
    if found.is_virtual or found.external:
        raise ValueError("its numbers are in other files, which are never read")
    if found.dtype.kind not in "fiu" or found.dtype.itemsize > 8:
        raise ValueError(f"got dtype {found.dtype}, must be numbers")
    if found.shape is None:
        raise ValueError("holds nothing")
    size = math.prod(found.shape) * found.dtype.itemsize
    if size > max_bytes:
        raise ValueError(f"got shape {found.shape} of {found.dtype}, which is too large")
    stored = found.id.get_storage_size()
    if stored > os.path.getsize(file.filename):
        raise ValueError(f"is said to take {stored} bytes, more than the file has")
    if found.chunks is None:
        if stored < size:
            raise ValueError(f"got {stored} bytes, must be {size} for shape {found.shape}")
    else:
        _check_chunks(found, max_bytes)
    return found


def _check_chunks(found: h5py.Dataset, max_bytes: int) -> None:
    """Checks that all chunks are there and none decompresses to more than it should: HDF5 itself sets no limit."""
    properties = found.id.get_create_plist()
    filters = [properties.get_filter(k)[0] for k in range(properties.get_nfilters())]
    if not {*filters} <= {_DEFLATE, _SHUFFLE, _CHECKSUM} or filters.count(_DEFLATE) > 1:
        raise ValueError("compressed in a way that is not read here; gzip is")
    size = math.prod(found.chunks) * found.dtype.itemsize
    counts = [-(-length // part) for length, part in zip(found.shape, found.chunks, strict=True)]
    stored = found.id.get_num_chunks()
    if size > max_bytes or size > _EXPANSION * found.id.get_storage_size():
        raise ValueError(f"got chunks of shape {found.chunks}, which is too large")
    if stored != math.prod(counts):
        raise ValueError(f"got {stored} chunks, must be {math.prod(counts)}")
    for place in itertools.product(*map(range, counts)):
        offset = tuple(k * part for k, part in zip(place, found.chunks, strict=True))
        held = found.id.get_chunk_info_by_coord(offset).size
        if held > size + size // 100 + 1024:
            raise ValueError(f"the chunk at {offset} is said to take {held} bytes for {size}")
        if _DEFLATE in filters:
            mask, data = found.id.read_direct_chunk(offset)
            # A bit of the mask is set where a filter was left out for this chunk.
            if not mask >> filters.index(_DEFLATE) & 1:
                _check_inflated(data, size + 4 * filters.count(_CHECKSUM), offset)


def _check_inflated(data: bytes, size: int, offset: tuple[int, ...]) -> None:
    """Decompresses piece by piece, keeping none."""
    inflate = zlib.decompressobj()
    total = 0
    while not inflate.eof and total <= size:
        part = inflate.decompress(inflate.unconsumed_tail or data, _PIECE)
        data = b""
        if not part and not inflate.unconsumed_tail:
            break
        total += len(part)
    if total > size:
        raise ValueError(f"the chunk at {offset} decompresses to more than {size} bytes")
