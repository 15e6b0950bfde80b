"""The Basel Face Model, from which the paper drew its faces (section 4), read from a user's own copy.

The model was learnt from scans of 200 people at the University of Basel (Paysan et al. 2009, "A 3D Face Model for Pose
and Illumination Invariant Face Recognition"; Gerig et al. 2018, "Morphable Face Models: An Open Framework"). It is
given to those who sign for it, at https://faces.dmi.unibas.ch/bfm, and may not be passed on: this package has nothing
of it. `load` reads, and tells by what is in the file,

*   the model of 2009, `01_MorphableModel.mat`, a MATLAB file. Of V = 53,490 vertices, T = 106,466 triangles and
    K = 199 modes of either kind it has, in single precision,

        shapeMU [3V, 1]   mean, x y z of the first vertex, then of the second, ..., in micrometres
        shapePC [3V, K]   orthonormal modes
        shapeEV [K, 1]    their standard deviations (not variances, in spite of the name), in micrometres
        texMU, texPC, texEV   the same of red, green and blue, 0 to 255
        tl [T, 3]         corners of the triangles, counted from 1

*   those of 2017 and 2019, `model2017-1_bfm_nomouth.h5`, `model2019_fullHead.h5`, their crops `face12` and so on, HDF5
    files with

        shape/model/mean [3V]          as above, in millimetres
        shape/model/pcaBasis [3V, K]   orthonormal modes
        shape/model/pcaVariance [K]    their variances, in square millimetres
        color/model/...                the same of red, green and blue, 0 to 1
        expression/model/...           the same of what expressions add to a shape, its mean, too
        shape/representer/cells [3, T] corners of the triangles, counted from 0

V, T and K are taken from the file. In all editions y is up and the face looks along z, as `dcign_tf.scenes.render` wants
it. The triangles of 2009 are clockwise seen from outside; whatever a file's are, the mesh itself tells, and they are turned
round if need be. All modes are normal, those of expression as well. Grey is 0.21 R + 0.72 G + 0.07 B, as in the
authors' code, and linear: the modes of color become modes of grey.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple

import h5py
import numpy as np

from dcign_tf import hdf5, matlab
from dcign_tf.errors import DcignError
from dcign_tf.scenes.morphable import MorphableModel

URL = "https://faces.dmi.unibas.ch/bfm"
LICENSE = "(c) University of Basel, for those who signed its licence, not to be passed on"
_WHERE = f"get it from {URL} ({LICENSE}; not part of this package)"

GREY = (0.21, 0.72, 0.07)  # of red, green and blue

_MAX_BYTES = 1 << 30  # of all modes of one kind together: five times the largest there are
_MAX_NUMBERS = 10_000_000  # of means and triangles: thirty times as many as there are
_MAX_LENGTH = 1e6  # mm
_BLOCK = 1 << 23  # bytes of an HDF5 dataset read at a time


class _Modes(NamedTuple):
    """The names of the variables of one linear model."""

    name: str  # of its modes in a `MorphableModel`
    mean: str
    basis: str
    spread: str


@dataclasses.dataclass(frozen=True)
class _Format:
    """What the model's editions call their variables, and what these mean."""

    shape: _Modes
    color: _Modes
    expression: _Modes | None
    triangles: str
    first_vertex: int
    millimetre: float
    white: float
    variances: bool


_EDITION_2009 = _Format(
    shape=_Modes("identity", "shapeMU", "shapePC", "shapeEV"),
    color=_Modes("color", "texMU", "texPC", "texEV"),
    expression=None,
    triangles="tl",
    first_vertex=1,
    millimetre=1000.0,
    white=255.0,
    variances=False,
)


def _group(name: str, group: str) -> _Modes:
    parts = (f"{group}/model/{part}" for part in ("mean", "pcaBasis", "pcaVariance"))
    return _Modes(name, *parts)


_EDITION_2017 = _Format(
    shape=_group("identity", "shape"),
    color=_group("color", "color"),
    expression=_group("expression", "expression"),
    triangles="shape/representer/cells",
    first_vertex=0,
    millimetre=1.0,
    white=1.0,
    variances=True,
)


class _Matrix(NamedTuple):
    """A variable that is there but not yet read.

    Attributes:
        name: for messages.
        rows: of the matrix as this module's docstring has it.
        columns: 1, for a vector.
        blocks: reads it, a part at a time: which columns and which rows these are, and the numbers [columns, rows].
            Rows come in threes.
    """

    name: str
    rows: int
    columns: int
    blocks: Callable[[], Iterator[tuple[slice, slice, np.ndarray]]]


_Find = Callable[[str], _Matrix]


def load(path: str | os.PathLike[str]) -> MorphableModel:
    """Reads a Basel Face Model, of 2009, 2017 or 2019.

    Args:
        path: the file.

    Returns:
        The model in millimetres, with all its modes; `source` says what was read and under which licence.

    Raises:
        DcignError: there is no file at `path`, or it is no Basel Face Model; the message names the file and the
            variable.
    """
    location = pathlib.Path(path)
    if location.is_dir():
        raise DcignError(f"{location}: a folder; give the model's file, as 01_MorphableModel.mat")
    try:
        with location.open("rb") as file:
            if file.read(len(matlab.HEADER)) == matlab.HEADER:
                variables = matlab.index(file)

                def find(name: str) -> _Matrix:
                    return _from_matlab(file, matlab.find(variables, name))

                return _build(find, _EDITION_2009, location.name)
        if not h5py.is_hdf5(location):
            raise ValueError("neither a MATLAB nor an HDF5 file")
        with h5py.File(location, "r") as groups:
            # MATLAB's files of version 7.3 are HDF5, with rows and columns exchanged.
            exchanged = hdf5.has(groups, _EDITION_2009.shape.mean)
            edition = _EDITION_2009 if exchanged else _EDITION_2017
            if not hdf5.has(groups, "expression"):
                edition = dataclasses.replace(edition, expression=None)
            return _build(lambda name: _from_hdf5(groups, name, exchanged), edition, location.name)
    except FileNotFoundError:
        raise DcignError(f"{location}: no such file; {_WHERE}") from None
    except ValueError as error:
        raise DcignError(f"{location}: not a Basel Face Model: {hdf5.first_line(error)}") from error
    # Of a damaged file, h5py complains in a dozen ways.
    except Exception as error:
        detail = getattr(error, "strerror", None) or hdf5.first_line(error)
        raise DcignError(f"{location}: cannot be read: {detail}") from error


# --- From a file's numbers to a model ----------------------------------------------------------------------


def _build(find: _Find, edition: _Format, origin: str) -> MorphableModel:
    parts = [edition.shape, *([edition.expression] if edition.expression else [])]
    means = [_vector(find(part.mean)) for part in parts]
    size = len(means[0])
    if size == 0 or size % 3:
        raise ValueError(f"{edition.shape.mean}: got {size} numbers, must be three for each vertex")
    for part, mean in zip(parts[1:], means[1:], strict=True):
        _check_length(part.mean, len(mean), size)
    mean_shape = (np.sum(means, axis=0) / edition.millimetre).reshape(-1, 3)
    if not (np.abs(mean_shape) <= _MAX_LENGTH).all():
        raise ValueError(f"{edition.shape.mean}: holds values not finite or beyond a kilometre")
    mean_color = _vector(find(edition.color.mean)) / edition.white
    _check_length(edition.color.mean, len(mean_color), size)
    # A file of another scale would give heads all black or all white.
    if not (mean_color.min() >= -0.5 and 0.02 < mean_color.max() <= 1.5):
        raise ValueError(
            f"{edition.color.mean}: got {mean_color.min() * edition.white:g} to "
            f"{mean_color.max() * edition.white:g}, must be 0 to {edition.white:g}"
        )
    triangles = _triangles(find(edition.triangles), edition.first_vertex, size // 3)
    shape_modes, shape_names = _modes(find, parts, size, edition.variances, edition.millimetre)
    colors, color_names = _modes(
        find, [edition.color], size, edition.variances, edition.white, grey=True
    )
    center, radius = _framing(mean_shape)
    return MorphableModel(
        mean_shape=mean_shape,
        shape_modes=shape_modes.reshape(len(shape_names), -1, 3),
        mean_albedo=mean_color.reshape(-1, 3) @ np.array(GREY),
        albedo_modes=colors,
        triangles=_outward(mean_shape, triangles),
        shape_mode_names=shape_names,
        albedo_mode_names=color_names,
        one_sided=np.zeros(len(shape_names) + len(color_names), bool),
        center=center,
        radius=radius,
        name="basel",
        source=(
            f"Basel Face Model ({URL}), {LICENSE}; {len(shape_names)} modes of shape and "
            f"{len(color_names)} of color read from {origin}"
        ),
    )


def _check_length(name: str, length: int, expected: int) -> None:
    if length != expected:
        raise ValueError(f"{name}: got {length} numbers, must be {expected}")


def _modes(
    find: _Find, parts: list[_Modes], size: int, variances: bool, unit: float, grey: bool = False
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Modes times their standard deviations, float32 [K, 3V] or, of grey, [K, V]; and their names.

    Read part by part into the one array that the model keeps.
    """
    bases = [find(part.basis) for part in parts]
    count = sum(basis.columns for basis in bases)
    for basis in bases:
        if basis.rows != size or basis.columns == 0:
            raise ValueError(
                f"{basis.name}: got {basis.rows} x {basis.columns}, must be {size} x modes"
            )
    if count * size * 4 > _MAX_BYTES:
        raise ValueError(f"{bases[0].name}: got {count} modes, which is too large")
    per = 3 if grey else 1
    modes = np.empty((count, size // per), np.float32)
    names: list[str] = []
    for part, basis in zip(parts, bases, strict=True):
        spread = _vector(find(part.spread))
        _check_length(part.spread, len(spread), basis.columns)
        if not (spread >= 0).all() or np.isinf(spread).any():
            raise ValueError(f"{part.spread}: holds values that are negative or not finite")
        deviations = ((np.sqrt(spread) if variances else spread) / unit).astype(np.float32)
        rows = modes[len(names) : len(names) + basis.columns]
        for columns, values, block in basis.blocks():
            with np.errstate(over="ignore", invalid="ignore"):  # Looked at below.
                scaled = np.multiply(block, deviations[columns, None], dtype=np.float32)
            if not (np.abs(scaled) <= _MAX_LENGTH).all():
                raise ValueError(f"{basis.name}: holds values not finite or beyond all measure")
            if grey:
                scaled = scaled.reshape(len(scaled), -1, 3) @ np.array(GREY, np.float32)
            rows[columns, values.start // per : values.stop // per] = scaled
        names += [f"{part.name}/{k:03d}" for k in range(basis.columns)]
    return modes, tuple(names)


def _triangles(matrix: _Matrix, first: int, vertices: int) -> np.ndarray:
    """Corners of the triangles counted from 0; int32 [T, 3]."""
    corners = _read(matrix)
    # Each edition has its own way round; that of the smaller side is three.
    corners = corners if corners.shape[1] == 3 else corners.T
    if corners.shape[1] != 3 or len(corners) == 0:
        raise ValueError(
            f"{matrix.name}: got {matrix.rows} x {matrix.columns}, must be three corners each"
        )
    # NaN is not within any bounds.
    if not ((corners >= first) & (corners < first + vertices)).all() or (corners % 1).any():
        raise ValueError(
            f"{matrix.name}: got {corners.min():g} to {corners.max():g}, must be whole numbers from "
            f"{first} to {first + vertices - 1}"
        )
    return corners.astype(np.int32) - first


def _outward(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """The triangles counter-clockwise seen from outside.

    As they are, if the volume between them and the middle of the vertices is positive: a head is round, even one
    that is open behind or cut off at the neck.
    """
    a, b, c = ((vertices - vertices.mean(axis=0))[corner] for corner in triangles.T)
    volume = np.einsum("ij,ij->", a, np.cross(b, c))
    return triangles if volume >= 0 else triangles[:, [0, 2, 1]]


def _framing(vertices: np.ndarray) -> tuple[np.ndarray, float]:
    """What the head turns about, and half of what the camera sees there.

    The editions are cut off at different places; what all of them have is the face. Heads are about as deep as
    1.2 times their width, so the middle of one is 0.6 times its width behind the tip of its nose.
    """
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    center = (low + high) / 2
    center[2] = high[2] - 0.6 * (high[0] - low[0])
    x, y, z = (vertices - center).T
    # However it is turned. A tenth is left free, and more of it taken up by what is nearer to the camera.
    return center, 1.2 * float(max(np.abs(y).max(), np.hypot(x, z).max()))


# --- From a file to its numbers ----------------------------------------------------------------------------


def _read(matrix: _Matrix) -> np.ndarray:
    """All of a matrix that is not large, transposed; float64 [columns, rows]."""
    if matrix.rows * matrix.columns > _MAX_NUMBERS:
        raise ValueError(f"{matrix.name}: got {matrix.rows} x {matrix.columns}, which is too large")
    out = np.empty((matrix.columns, matrix.rows))
    for columns, rows, block in matrix.blocks():
        out[columns, rows] = block
    return out


def _vector(matrix: _Matrix) -> np.ndarray:
    """A row or column of numbers; float64 [n]."""
    if 1 not in (matrix.rows, matrix.columns):
        raise ValueError(f"{matrix.name}: got {matrix.rows} x {matrix.columns}, must be a vector")
    return _read(matrix).ravel()


def _from_matlab(file: IO[bytes], variable: matlab.Variable) -> _Matrix:
    rows, columns = variable.shape

    def blocks() -> Iterator[tuple[slice, slice, np.ndarray]]:
        for k, column in enumerate(matlab.columns(file, variable)):
            yield slice(k, k + 1), slice(0, rows), column[None]

    return _Matrix(variable.name, rows, columns, blocks)


def _from_hdf5(file: h5py.File, name: str, exchanged: bool) -> _Matrix:
    found = hdf5.dataset(file, name)
    if found.ndim not in (1, 2):
        raise ValueError(f"{name}: got shape {found.shape}, must have 1 or 2 dimensions")
    length, width = (*found.shape, 1)[:2]
    # Whole chunks, which would else be decompressed more than once, and whole vertices.
    unit = 3 * (found.chunks[0] if found.chunks else 1)
    step = max(1, _BLOCK // (unit * max(1, width) * found.dtype.itemsize)) * unit

    def blocks() -> Iterator[tuple[slice, slice, np.ndarray]]:
        for start in range(0, length, step):
            here, across = slice(start, min(start + step, length)), slice(0, width)
            block = found[here].reshape(-1, width)
            yield (here, across, block) if exchanged else (across, here, block.T)

    return _Matrix(name, *((width, length) if exchanged else (length, width)), blocks)
