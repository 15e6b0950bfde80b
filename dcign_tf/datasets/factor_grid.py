"""Factor grids: arrays that hold an image for each combination of factor values, as the field publishes them.

*   dSprites (Matthey et al. 2017), `.npz`: `imgs` uint8 [N, 64, 64] of 0 and 1, `latents_values` float64 [N, 6], whose
    columns are color, shape, scale, orientation (radians), posX and posY. Its `metadata` is a pickle and stays unread.
*   3D Shapes (Burgess and Kim 2018), `.h5`: `images` uint8 [N, 64, 64, 3], `labels` float64 [N, 6], whose columns are
    floor_hue, wall_hue, object_hue, scale, shape and orientation (degrees).
*   MPI3D (Gondal et al. 2019), `.npz`: `images` uint8 [N, 64, 64, 3] in C order of object_color, object_shape,
    object_size, camera_height, background_color, horizontal_axis and vertical_axis, and nothing else. How many values
    each has, N tells.
*   Anybody's, `.npz` or `.h5`: `images` or `imgs`, uint8 (in `.npz` also bool), [N, H, W] or [N, H, W, 1 or 3]; with
    `labels` or `latents_values` [N, F] and the names of the columns, or in C order of factors whose names and
    numbers of values are given.

Images are read one at a time from where they lie in the file, by any process. Where they cannot be found there,
because they are compressed, they are first unpacked in grey, some at a time, into a temporary file that goes when the
table goes: of dSprites, a bit for each pixel (380 MB), of 3D Shapes a byte (2 GB). Memory is needed for a few hundred
images at most.
"""

import contextlib
import dataclasses
import errno
import math
import os
import shutil
import tempfile
import weakref
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import h5py
import numpy as np
from PIL import Image

from dcign_tf import hdf5, npz
from dcign_tf import images as pixels
from dcign_tf.code import INTRINSIC
from dcign_tf.datasets.tables import ImageTable
from dcign_tf.errors import DcignError, UsageError

IMAGES = ("images", "imgs")
LABELS = ("labels", "latents_values")

_MAX_SIDE = 4096
_MAX_IMAGES_BYTES = 1 << 40
_MAX_LABELS_BYTES = 1 << 29
_MAX_IMAGES = 1 << 25
_SLAB = 1 << 23  # bytes of images unpacked at a time
_MAX_SLAB = 1 << 28  # What HDF5 files may demand to be unpacked at a time.


class _Published(NamedTuple):
    """A grid that people know.

    Attributes:
        source: what it is.
        names: of its factors, in order.
        sizes: how many values each has, where the file has no labels.
        degrees: for factors that are angles, by what to multiply their labels to get degrees.
        periods: of factors that close, in degrees.
        extrinsic: factors of the code unless others are asked for: what poses or moves the object.
        binary: whether pixels are 0 and 1.
    """

    source: str
    names: tuple[str, ...]
    sizes: tuple[int, ...] | None
    degrees: Mapping[str, float]
    periods: Mapping[str, float]
    extrinsic: tuple[str, ...]
    binary: bool = False


DSPRITES = _Published(
    "dSprites (Matthey et al. 2017; https://github.com/google-deepmind/dsprites-dataset)",
    ("color", "shape", "scale", "orientation", "pos_x", "pos_y"),
    None,
    {"orientation": math.degrees(1)},
    {"orientation": 360.0},
    ("orientation", "pos_x", "pos_y"),
    binary=True,
)
SHAPES3D = _Published(
    "3D Shapes (Burgess and Kim 2018; https://github.com/google-deepmind/3d-shapes)",
    ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation"),
    None,
    {"orientation": 1.0},
    {},
    ("orientation",),
)
_MPI3D = (
    "MPI3D (Gondal et al. 2019; https://github.com/rr-learning/disentanglement_dataset), CC BY 4.0"
)
_MPI3D_NAMES = (
    "object_color",
    "object_shape",
    "object_size",
    "camera_height",
    "background_color",
    "horizontal_axis",
    "vertical_axis",
)
_MPI3D_EXTRINSIC = ("camera_height", "horizontal_axis", "vertical_axis")
# The toy, realistic and real images; and the real ones of complex shapes, as all were before 2020.
MPI3D = tuple(
    _Published(_MPI3D, _MPI3D_NAMES, sizes, {}, {}, _MPI3D_EXTRINSIC)
    for sizes in ((6, 6, 2, 3, 3, 40, 40), (4, 4, 2, 3, 3, 40, 40))
)


@dataclasses.dataclass(frozen=True, eq=False)
class GridImages:
    """Images that follow one another in a file, uncompressed; implements `tables.Images`.

    Attributes:
        path: of the file.
        start: where in it the first image begins, in bytes.
        shape: [N, H, W] or [N, H, W, C], with C 1 or 3.
        white: the value of white, 255 or 1.
        bits: whether each pixel is a bit, each image filled up to whole bytes; a byte for each value otherwise.
        source: the file to name in errors.
    """

    path: str
    start: int
    shape: tuple[int, ...]
    white: int
    bits: bool
    source: str

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        """How many bytes an image takes."""
        values = math.prod(self.shape[1:])
        return -(-values // 8) if self.bits else values

    def read(self, row: int) -> np.ndarray:
        """See `tables.Images.read`."""
        if not 0 <= row < len(self):
            raise IndexError(f"row: got {row}, must be 0 to {len(self) - 1}")
        try:
            with open(self.path, "rb", buffering=0) as file:
                file.seek(self.start + row * self.row_bytes)
                data = file.read(self.row_bytes)
        except OSError as error:
            raise DcignError(f"{self.path}: {error.strerror or error}") from error
        if len(data) != self.row_bytes:
            raise DcignError(
                f"{self.source}: image {row}: is cut short; the file has changed meanwhile"
            )
        values = np.frombuffer(data, np.uint8)
        if self.bits:
            values = np.unpackbits(values, count=math.prod(self.shape[1:]))
        image = values.reshape(self.shape[1:])
        if self.white == 1:
            _check_binary(image, f"{self.source}: image {row}")
        return _grey(image[np.newaxis], self.white)[0]


def load(
    path: str,
    *,
    factors: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    sizes: Sequence[int] | None = None,
) -> ImageTable:
    """Reads a factor grid.

    Args:
        path: the `.npz` or `.h5`.
        factors: which of its factors are those of the code, in that order; all others together are what an image
            shows apart from them. By default what poses or moves the object in published grids.
        names: of all the factors, in the order of the grid's axes or the labels' columns. For grids that are not
            published.
        sizes: how many values each of them has, for grids without labels.

    Returns:
        A table. Values are those of the labels, orientations in degrees; without labels they count from 0.

    Raises:
        DcignError: the file is missing, damaged, or not such a grid.
        UsageError: factors, names or sizes do not fit the file.
    """
    try:
        with open(path, "rb") as file:
            magic = file.read(8)
    except OSError as error:
        raise DcignError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:  # A zero byte in the name.
        raise DcignError(f"{path!r}: not a file's name ({error})") from error
    opener: type[_Npz | _Hdf5]
    if magic.startswith(b"PK\x03\x04"):
        kind, opener = "NumPy archive (.npz)", _Npz
    elif magic == b"\x89HDF\r\n\x1a\n":
        kind, opener = "HDF5 file (.h5)", _Hdf5
    else:
        raise DcignError(f"{path}: neither a NumPy archive (.npz) nor an HDF5 file (.h5)")
    try:
        with opener(path) as archive:
            return _table(path, archive, factors, names, sizes)
    except (DcignError, MemoryError):
        raise
    except OSError as error:
        if error.strerror:
            raise DcignError(f"{path}: {error.strerror}") from error
        raise DcignError(f"{path}: a damaged {kind} ({_first_line(error)})") from error
    except ValueError as error:  # What `npz` finds wrong starts with the array's name.
        raise DcignError(f"{path}: {_first_line(error)}") from error
    # Of a damaged file, zipfile, zlib, NumPy and HDF5 complain in a dozen ways.
    except Exception as error:
        raise DcignError(f"{path}: a damaged {kind} ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return hdf5.first_line(error)[:200]


# --- The table -------------------------------------------------------------------------------------------


def _table(
    path: str,
    archive: "_Archive",
    factors: Sequence[str] | None,
    names: Sequence[str] | None,
    sizes: Sequence[int] | None,
) -> ImageTable:
    key = _only(path, archive, IMAGES)
    if key is None:
        raise DcignError(f"{path}: holds no factor grid; expected an array {' or '.join(IMAGES)}")
    shape, kind = archive.images(key)
    labels_key = _only(path, archive, LABELS)
    labels = None if labels_key is None else archive.labels(labels_key, shape[0])
    grid = _grid(path, key, labels, shape[0], names, sizes)
    if labels is None:
        assert grid.sizes is not None
        places = np.unravel_index(np.arange(shape[0]), grid.sizes)
        columns = {name: np.asarray(at) for name, at in zip(grid.names, places, strict=True)}
    else:
        if not np.isfinite(labels).all():
            raise DcignError(f"{path}: {labels_key}: holds values that are no numbers")
        columns = dict(zip(grid.names, labels.T, strict=True))
    chosen = grid.extrinsic if factors is None else tuple(factors)
    _check_chosen(path, chosen, columns)
    return ImageTable(
        source=f"{grid.source}; {shape[0]} images of {shape[1]} x {shape[2]} pixels",
        images=_placed(path, archive, key, shape, grid.binary or kind.kind == "b"),
        factors=chosen,
        values={
            name: columns[name].astype(np.float64) * grid.degrees.get(name, 1.0) for name in chosen
        },
        units={name: "degrees" if name in grid.degrees else "" for name in chosen},
        periods={name: grid.periods[name] for name in chosen if name in grid.periods},
        identity=_numbered(
            [column for name, column in columns.items() if name not in chosen], shape[0]
        ),
    )


def _only(path: str, archive: "_Archive", keys: Sequence[str]) -> str | None:
    present = [key for key in keys if key in archive.names]
    if len(present) > 1:
        raise DcignError(f"{path}: holds both {' and '.join(present)}; expected one of them")
    return present[0] if present else None


def _grid(
    path: str,
    key: str,
    labels: np.ndarray | None,
    count: int,
    names: Sequence[str] | None,
    sizes: Sequence[int] | None,
) -> _Published:
    """Which factors the file has."""
    if names is None:
        if sizes is not None:
            raise UsageError("sizes: given without names; each size needs the name of its factor")
        if labels is None:
            for grid in MPI3D:
                if math.prod(grid.sizes or ()) == count:
                    return grid
            raise DcignError(
                f"{path}: holds {count} images and no labels, which is no grid known by that; give the names of "
                "its factors and their sizes, in the order of its axes"
            )
        if labels.shape[1] == len(DSPRITES.names):
            return DSPRITES if key == "imgs" else SHAPES3D
        raise DcignError(
            f"{path}: its labels have {labels.shape[1]} columns, which is no grid known by that; give their names"
        )
    if len(set(names)) != len(names):
        raise UsageError(f"names: got {', '.join(names)}; one is given twice")
    if labels is not None:
        if sizes is not None:
            raise UsageError(f"sizes: not needed: {path} has labels")
        if len(names) != labels.shape[1]:
            raise UsageError(
                f"names: got {len(names)}, must be {labels.shape[1]} for the labels of {path}"
            )
    elif sizes is None or len(sizes) != len(names) or min(sizes, default=0) < 1:
        raise UsageError(f"sizes: must be as many as names ({len(names)}), each 1 or more")
    elif math.prod(sizes) != count:
        shown = " x ".join(map(str, sizes))
        raise UsageError(
            f"sizes: got {shown} = {math.prod(sizes)} images, but {path} holds {count}"
        )
    own = None if sizes is None else tuple(sizes)
    return _Published(os.path.basename(path), tuple(names), own, {}, {}, ())


def _check_chosen(path: str, chosen: Sequence[str], columns: Mapping[str, np.ndarray]) -> None:
    known = ", ".join(columns)
    if not chosen:
        raise UsageError(f"factors: none given for {path}; must be one or more of {known}")
    for name in chosen:
        if name not in columns:
            raise UsageError(f"factors: got {name!r}, must be of {known}")
        if not (name.isidentifier() and name == name.lower()) or name == INTRINSIC:
            raise UsageError(
                f"factors: got {name!r}; must be lower-case letters, digits and underscores, and not {INTRINSIC}"
            )
        if (columns[name] == columns[name][0]).all():
            raise UsageError(f"factors: {name} is the same in all images of {path}")
    if len(set(chosen)) != len(chosen):
        raise UsageError(f"factors: got {', '.join(chosen)}; one is given twice")


def _numbered(columns: Sequence[np.ndarray], count: int) -> np.ndarray:
    """A number for each combination of values; int64 [N]."""
    identity = np.zeros(count, np.int64)
    for column in columns:
        values, place = np.unique(column, return_inverse=True)
        # Numbered anew each time, so that numbers stay below N squared.
        _, identity = np.unique(identity * len(values) + place.reshape(-1), return_inverse=True)
    return identity.reshape(-1).astype(np.int64)


# --- The images ------------------------------------------------------------------------------------------


def _placed(
    path: str, archive: "_Archive", key: str, shape: tuple[int, ...], binary: bool
) -> GridImages:
    """The images where they lie, or in a temporary file."""
    white = 1 if binary else 255
    start = archive.place(key)
    if start is not None:
        found = GridImages(path, start, shape, white, False, path)
        if os.path.getsize(path) < start + len(found) * found.row_bytes:
            raise DcignError(
                f"{path}: {key}: is cut short; the file is damaged or its download incomplete"
            )
        return found
    folder = tempfile.gettempdir()
    bits = binary and (len(shape) == 3 or shape[3] == 1)
    unpacked = GridImages("", 0, shape[:3], 1 if bits else 255, bits, path)
    needed = len(unpacked) * unpacked.row_bytes
    if (free := shutil.disk_usage(folder).free) < needed:
        raise DcignError(
            f"{path}: its images are compressed and have to be unpacked, which takes {needed >> 20} MiB in {folder}; "
            f"{free >> 20} MiB are free. Set TMPDIR to a folder with more space"
        )
    handle, name = tempfile.mkstemp(prefix="dcign-grid-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            first = 0
            for slab in archive.slabs(key):
                if binary:
                    _check_binary(slab, f"{path}: {key}: images from {first} on")
                first += len(slab)
                if bits:
                    file.write(np.packbits(slab.reshape(len(slab), -1), axis=1).data)
                else:
                    file.write(np.ascontiguousarray(_grey(slab, white)).data)
        unpacked = dataclasses.replace(unpacked, path=name)
        weakref.finalize(unpacked, _remove, name, os.getpid())
        return unpacked
    except BaseException as error:
        _remove(name, os.getpid())
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise DcignError(
                f"{folder}: is full, where {needed >> 20} MiB are needed to unpack {path}; set TMPDIR to a "
                "folder with more space"
            ) from error
        raise


def _remove(name: str, process: int) -> None:
    if os.getpid() == process:  # Copies in other processes are not the owners.
        with contextlib.suppress(OSError):
            os.unlink(name)


def _check_binary(values: np.ndarray, what: str) -> None:
    if values.size and values.max() > 1:
        raise DcignError(f"{what}: hold a {values.max()}; must be 0 or 1 each")


def _grey(images: np.ndarray, white: int) -> np.ndarray:
    """Images [n, H, W] or [n, H, W, 1 or 3] in grey; uint8 [n, H, W]."""
    if white == 1:
        images = images * np.uint8(255)
    if images.ndim == 3:
        return images
    if images.shape[3] == 1:
        return images[..., 0]
    # As one tall picture.
    tall = Image.fromarray(np.ascontiguousarray(images).reshape(-1, images.shape[2], 3))
    return np.asarray(tall.convert("L", (*pixels.GREY_OF_RGB, 0))).reshape(images.shape[:3])


def _check_images(name: str, shape: tuple[int, ...], kind: np.dtype) -> None:
    if kind not in (np.uint8, np.bool_):
        raise ValueError(f"{name}: got dtype {kind}, must be uint8 or bool")
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
        raise ValueError(
            f"{name}: got shape {shape}, must be [N, H, W], [N, H, W, 1] or [N, H, W, 3]"
        )
    if not (1 <= shape[0] <= _MAX_IMAGES and all(1 <= side <= _MAX_SIDE for side in shape[1:3])):
        raise ValueError(
            f"{name}: got shape {shape}; must be 1 to {_MAX_IMAGES} images of 1 to {_MAX_SIDE} pixels a side"
        )


# --- The two kinds of files ------------------------------------------------------------------------------


class _Archive(Protocol):
    """A file of named arrays."""

    names: frozenset[str]

    def images(self, key: str) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and dtype of an array of images, checked."""

    def labels(self, key: str, count: int) -> np.ndarray:
        """An array of numbers [count, F], float64."""

    def place(self, key: str) -> int | None:
        """Where in the file the images begin, one after the other; None when they are not to be found so."""

    def slabs(self, key: str) -> Iterator[np.ndarray]:
        """All images, uint8 [n, ...], some at a time."""


class _Npz:
    def __init__(self, path: str) -> None:
        self._zip = zipfile.ZipFile(path)
        self.names = frozenset(
            name.removesuffix(".npy") for name in self._zip.namelist() if name.endswith(".npy")
        )

    def __enter__(self) -> "_Npz":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def _header(self, key: str) -> npz.Header:
        header = npz.read_header(self._zip, key, np.generic, None, _MAX_IMAGES_BYTES)
        _check_images(key, header.shape, header.dtype)
        if header.fortran_order:
            raise ValueError(f"{key}: is in Fortran's order, must be in C's")
        return header

    def images(self, key: str) -> tuple[tuple[int, ...], np.dtype]:
        header = self._header(key)
        return header.shape, header.dtype

    def labels(self, key: str, count: int) -> np.ndarray:
        labels = npz.read_array(self._zip, key, np.number, (count, None), _MAX_LABELS_BYTES)
        return _as_numbers(key, labels)

    def place(self, key: str) -> int | None:
        return npz.place_of(self._zip, self._header(key))

    def slabs(self, key: str) -> Iterator[np.ndarray]:
        header = self._header(key)
        rows = max(1, _SLAB // math.prod(header.shape[1:]))
        for slab in npz.stream_rows(self._zip, header, rows):
            yield slab.view(np.uint8)


class _Hdf5:
    def __init__(self, path: str) -> None:
        self._file = h5py.File(path, "r", locking=False)
        self.names = frozenset(name for name in (*IMAGES, *LABELS) if hdf5.has(self._file, name))

    def __enter__(self) -> "_Hdf5":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def images(self, key: str) -> tuple[tuple[int, ...], np.dtype]:
        found = hdf5.dataset(self._file, key, _MAX_IMAGES_BYTES)
        _check_images(key, found.shape, found.dtype)
        return found.shape, found.dtype

    def labels(self, key: str, count: int) -> np.ndarray:
        found = hdf5.dataset(self._file, key, _MAX_LABELS_BYTES)
        if len(found.shape) != 2 or found.shape[0] != count:
            raise ValueError(f"{key}: got shape {found.shape}, must be ({count}, any)")
        return _as_numbers(key, found[()])

    def place(self, key: str) -> int | None:
        # Offsets are counted from behind a user block, or from before it: HDF5's versions differ.
        return None if self._file.userblock_size else self._file[key].id.get_offset()

    def slabs(self, key: str) -> Iterator[np.ndarray]:
        found = self._file[key]
        # Chunks hold parts of many images each: they are undone once, whole rows of them at a time.
        height = found.chunks[0] if found.chunks else 1
        row_bytes = math.prod(found.shape[1:])
        rows = max(height, _SLAB // row_bytes // height * height)
        if rows * row_bytes > _MAX_SLAB:
            raise ValueError(
                f"{key}: its chunks hold parts of {height} images, too many to read at once"
            )
        for first in range(0, found.shape[0], rows):
            yield found[first : first + rows]


def _as_numbers(key: str, labels: np.ndarray) -> np.ndarray:
    if labels.dtype.kind not in "fiu" or labels.shape[1] < 1:
        raise ValueError(f"{key}: got {labels.shape[1]} columns of {labels.dtype}, must be numbers")
    return labels.astype(np.float64)
