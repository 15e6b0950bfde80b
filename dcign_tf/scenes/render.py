"""The renderer: triangle meshes under a perspective camera and one light, to grey images.

Axes: x to the viewer's right, y up, z toward the camera, which looks along -z. A head faces +z at azimuth 0.
It is turned about its own vertical axis, then raised about the viewer's horizontal one, R = Rx(-elevation)
Ry(azimuth), as on a turntable seen by a camera at a height (in the paper: "the elevation of the face with respect to
the camera"): a positive azimuth turns it to the viewer's right (its own left), a positive elevation shows it from
below, so that a head that faces the camera looks up. The light stays with the camera: its direction is
(sin l cos b, sin b, cos l cos b) for the light azimuth l and the light's elevation b.

Shading is computed at the vertices from smooth normals (ambient + diffuse + Blinn-Phong specular) and
interpolated over triangles, which on meshes whose triangles are about a pixel wide is the same as doing so for
each pixel. Same parameters give the same bytes, on any number of threads or processes.

How one image is drawn (`_draw`): vertices are placed in a picture of `supersample` samples per pixel along each
axis, in whole steps of 1/256 sample, so that which samples a triangle covers is decided in exact integers and
nothing shows through between two triangles. What a sample shows is one integer too, with its depth in the upper
bits and its shade in the lower ones: the nearest surface is the largest integer, whatever the order of drawing.
Front faces are drawn first; most back faces then lie behind whole squares of them and need not be drawn.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import llvmlite.ir
import numba
import numba.extending
import numpy as np
import numpy.typing as npt

from dcign_tf.scenes.morphable import MorphableModel

# Numbers divided by zero are infinite, as NumPy has it: looking out for zeros would forbid vector instructions.
_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")

_MESHES = 40  # built at a time: each is some hundred kilobytes


@dataclasses.dataclass(frozen=True)
class Camera:
    """A perspective camera that looks at the model's center.

    Attributes:
        field_of_view: vertical angle of view in degrees; small values are long lenses.
        zoom: magnification; 1 shows `MorphableModel.radius` above and below the center.
        right: how far right of the picture's middle the center is seen, in sides of the picture.
        up: how far above it.
        roll: by how many degrees heads are inclined to the viewer's left, within the picture; the light stays.
    """

    field_of_view: float = 20.0
    zoom: float = 1.0
    right: float = 0.0
    up: float = 0.0
    roll: float = 0.0

    def __post_init__(self) -> None:
        if not 1.0 <= self.field_of_view <= 90.0:
            raise ValueError(f"field_of_view: got {self.field_of_view}, must be 1 to 90 degrees")
        if not 0.1 <= self.zoom <= 100.0:
            raise ValueError(f"zoom: got {self.zoom}, must be 0.1 to 100")
        for field, limit in (("right", 1.0), ("up", 1.0), ("roll", 180.0)):
            value = getattr(self, field)
            if not -limit <= value <= limit:
                raise ValueError(f"{field}: got {value}, must be {-limit:g} to {limit:g}")


@dataclasses.dataclass(frozen=True)
class Shading:
    """How a surface of albedo 1 answers the light; intensities are fractions of white.

    Attributes:
        ambient: light from everywhere.
        diffuse: Lambertian reflection of the one light.
        specular: strength of the highlight (Blinn-Phong), independent of albedo.
        shininess: exponent of the highlight; larger is smaller and sharper.
        light_elevation: height of the light above the camera in degrees.
        background: grey value where there is no surface.
    """

    ambient: float = 0.2
    diffuse: float = 0.8
    specular: float = 0.08
    shininess: float = 12.0
    light_elevation: float = 15.0
    background: float = 0.0

    def __post_init__(self) -> None:
        for field in ("ambient", "diffuse", "specular", "background"):
            value = getattr(self, field)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{field}: got {value}, must be 0 to 1")
        if not 1.0 <= self.shininess <= 1000.0:
            raise ValueError(f"shininess: got {self.shininess}, must be 1 to 1000")
        if not -90.0 <= self.light_elevation <= 90.0:
            raise ValueError(f"light_elevation: got {self.light_elevation}, must be -90 to 90")

    @property
    def brightest(self) -> float:
        """The highest intensity that an image can have."""
        return max(self.ambient + self.diffuse + self.specular, self.background, 1e-3)


@dataclasses.dataclass(frozen=True)
class Take:
    """How one image is taken and developed, where images differ in more than their angles.

    A pixel that a head covers by c shows c (1 - cover) of the head, developed, and otherwise the background.

    Attributes:
        camera: position and lens.
        shading: the light's and the surface's constants; `Shading.background` does not count.
        curve: what becomes of the light that reaches the film: float32 [2 or more], grey values in [0, 1] for equally
            spaced intensities from 0 to `Shading.brightest`.
        background: uint8 [S, S], what is behind the head.
        cover: uint8 [S, S], how much of the background lies before the head instead, 0 to 255: clothes, say.
    """

    camera: Camera
    shading: Shading
    curve: np.ndarray
    background: np.ndarray
    cover: np.ndarray

    def __post_init__(self) -> None:
        curve = np.ascontiguousarray(self.curve, np.float32)
        if curve.ndim != 1 or len(curve) < 2 or not (0 <= curve.min() <= curve.max() <= 1):
            raise ValueError("curve: must be two or more grey values from 0 to 1")
        object.__setattr__(self, "curve", curve)
        for name in ("background", "cover"):
            values = np.ascontiguousarray(getattr(self, name))
            if values.dtype != np.uint8 or values.shape != (len(values), len(values)):
                raise ValueError(
                    f"{name}: got {values.dtype} {values.shape}, must be uint8 and square"
                )
            object.__setattr__(self, name, values)


@_compiled
def rotation(azimuth: float, elevation: float) -> np.ndarray:
    """The head's rotation Rx(-elevation) Ry(azimuth) for angles in degrees; float64 [3, 3]."""
    a, e = math.radians(azimuth), math.radians(elevation)
    sin_a, cos_a, sin_e, cos_e = math.sin(a), math.cos(a), math.sin(e), math.cos(e)
    return np.array(
        [
            [cos_a, 0.0, sin_a],
            [-sin_e * sin_a, cos_e, sin_e * cos_a],
            [-cos_e * sin_a, -sin_e, cos_e * cos_a],
        ]
    )


@_compiled
def _roll(turn: np.ndarray, degrees: float) -> np.ndarray:
    """A rotation [3, 3] and then one within the picture, counter-clockwise."""
    sin, cos = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    rolled = turn.copy()
    for k in range(3):
        rolled[0, k] = cos * turn[0, k] - sin * turn[1, k]
        rolled[1, k] = sin * turn[0, k] + cos * turn[1, k]
    return rolled


@_compiled
def light_direction(light_azimuth: float, light_elevation: float) -> np.ndarray:
    """Unit vector from the scene to the light, in the camera's frame, for angles in degrees; float64 [3]."""
    a, b = math.radians(light_azimuth), math.radians(light_elevation)
    return np.array([math.sin(a) * math.cos(b), math.sin(b), math.cos(a) * math.cos(b)])


@dataclasses.dataclass(frozen=True)
class Mesh:
    """Triangles, seen from either side, with a grey reflectance at each vertex.

    Where a surface has a hard edge, let each of its sides have vertices of its own.

    Attributes:
        vertices: float32 [V, 3], places in the axes above, in any unit.
        albedo: float32 [V], grey reflectance in [0, 1].
        triangles: int32 [T, 3], indices of vertices, counter-clockwise seen from outside.
        normals: float32 [V, 3], unit vectors out of the surface; by default `smooth_normals`.
    """

    vertices: np.ndarray
    albedo: np.ndarray
    triangles: np.ndarray
    normals: np.ndarray | None = None

    def __post_init__(self) -> None:
        indices = np.asarray(self.triangles)  # Looked at before they are cut to 32 bits.
        count = len(self.vertices)
        if indices.size and indices.dtype.kind not in "iu":
            raise ValueError(f"triangles: got dtype {indices.dtype}, must be integers")
        if indices.size and not 0 <= indices.min() <= indices.max() < count:
            raise ValueError(
                f"triangles: got indices {indices.min()} to {indices.max()}, "
                f"must be 0 to {count - 1}"
            )
        arrays: list[tuple[str, type[np.generic], tuple[int, ...]]] = [
            ("vertices", np.float32, (count, 3)),
            ("albedo", np.float32, (count,)),
            ("triangles", np.int32, (len(indices), 3)),
        ]
        if self.normals is not None:
            arrays.append(("normals", np.float32, (count, 3)))
        for name, dtype, shape in arrays:
            values = np.ascontiguousarray(getattr(self, name), dtype)
            if values.shape != shape:
                raise ValueError(f"{name}: got shape {values.shape}, must be {shape}")
            if not np.isfinite(values).all():
                raise ValueError(f"{name}: holds values that are not finite")
            object.__setattr__(self, name, values)
        if self.normals is None:
            normals = smooth_normals(self.vertices, self.triangles)
            object.__setattr__(self, "normals", normals)


def render_meshes(
    meshes: Iterable[Mesh],
    azimuth: np.ndarray,
    elevation: np.ndarray,
    light_azimuth: np.ndarray,
    image_size: int,
    camera: Camera = Camera(),
    shading: Shading = Shading(),
    supersample: int = 2,
    center: npt.ArrayLike = (0.0, 0.0, 0.0),
    radius: float = 1.0,
    back_faces: bool = True,
) -> np.ndarray:
    """Renders one image of each mesh; meshes may differ in all they have.

    Args:
        meshes: N meshes, asked for one after the other, so that a generator need not hold all of them at once;
            `itertools.repeat` shows one mesh N times.
        azimuth: [N], degrees.
        elevation: [N], degrees.
        light_azimuth: [N], degrees.
        image_size: height and width of the images in pixels.
        camera: position and lens.
        shading: the light's and the surface's constants.
        supersample: samples per pixel along each axis, averaged (anti-aliasing).
        center: [3], the point that meshes turn about and the camera looks at.
        radius: half the height of what the camera sees at `center`.
        back_faces: whether to draw what is seen from inside; closed meshes look the same without, in less time.

    Returns:
        uint8 [N, image_size, image_size, 1].

    Raises:
        ValueError: an argument has the wrong shape, is out of range or not finite, or there are less than N meshes.
    """
    angles = _angles(len(np.atleast_1d(azimuth)), azimuth, elevation, light_azimuth)
    middle = np.asarray(center, np.float32)
    if middle.shape != (3,) or not np.isfinite(middle).all():
        raise ValueError(f"center: got {middle.tolist()}, must be 3 finite numbers")
    if not (np.isfinite(radius) and radius > 0):
        raise ValueError(f"radius: got {radius}, must be positive")
    frame = _Frame(camera, middle, radius, image_size, supersample, back_faces)
    return _render(_convert(itertools.islice(meshes, len(angles))), angles, frame, shading)


def render(
    model: MorphableModel,
    coefficients: np.ndarray,
    azimuth: np.ndarray,
    elevation: np.ndarray,
    light_azimuth: np.ndarray,
    image_size: int,
    camera: Camera = Camera(),
    shading: Shading = Shading(),
    supersample: int = 2,
    back_faces: bool = True,
    takes: Sequence[Take] | None = None,
) -> np.ndarray:
    """Renders one image of a morphable model for each row of `coefficients`.

    Consecutive rows with the same coefficients share the work of building their mesh.

    Args:
        model: the shapes and reflectances to draw from, and what the camera looks at.
        coefficients: float32 [N, K + M], in standard deviations of the model's modes.
        azimuth: see `render_meshes`, as are all that follow.
        elevation: [N], degrees.
        light_azimuth: [N], degrees.
        image_size: height and width of the images in pixels.
        camera: position and lens.
        shading: the light's and the surface's constants.
        supersample: samples per pixel along each axis.
        back_faces: whether to draw what is seen from inside.
        takes: for each image how it is taken, instead of `camera` and `shading`; it saves work to give consecutive
            images the same object.

    Returns:
        uint8 [N, image_size, image_size, 1].

    Raises:
        ValueError: an argument has the wrong shape, is out of range or not finite.
    """
    identities = np.asarray(coefficients, np.float32)
    if identities.ndim != 2 or identities.shape[1] != model.coefficients:
        raise ValueError(
            f"coefficients: got shape {identities.shape}, must be [N, {model.coefficients}]"
        )
    if not np.isfinite(identities).all():
        raise ValueError("coefficients must be finite")
    angles = _angles(len(identities), azimuth, elevation, light_azimuth)
    frame = _Frame(camera, model.center, model.radius, image_size, supersample, back_faces)
    if takes is not None:
        if len(takes) != len(angles):
            raise ValueError(f"takes: got {len(takes)}, must be {len(angles)}")
        for take in takes:
            if len(take.background) != image_size or len(take.cover) != image_size:
                raise ValueError(
                    f"takes: got a background of {len(take.background)} and a cover of {len(take.cover)} pixels, "
                    f"must be {image_size}"
                )
    return _render(_build(model, identities), angles, frame, shading, takes)


def _angles(count: int, *columns: npt.ArrayLike) -> np.ndarray:
    """Azimuth, elevation and light azimuth as float64 [count, 3], checked."""
    angles = np.empty((count, 3))
    names = ("azimuth", "elevation", "light_azimuth")
    for column, (name, given) in enumerate(zip(names, columns, strict=True)):
        values = np.asarray(given, np.float64)
        if values.shape != (count,):
            raise ValueError(f"{name}: got shape {values.shape}, must be ({count},)")
        angles[:, column] = values
    if not np.isfinite(angles).all():
        raise ValueError("angles must be finite")
    return angles


class _Surfaces(NamedTuple):
    """A mesh, as the compiled code wants it.

    Compilers turn loops over vertices into vector instructions if they see that nothing written can be read by
    other turns of the loop. Within one array, at distances known when compiling, they see it.
    """

    blocks: (
        np.ndarray
    )  # float32 [ceil(V / _CHUNK), 7, _CHUNK]: places, normals and albedo of some vertices
    triangles: np.ndarray  # int32 [T, 3]


class _Frame(NamedTuple):
    """What all images of a call share."""

    camera: Camera
    center: np.ndarray  # float32 [3]
    radius: float
    image_size: int
    supersample: int
    back_faces: bool


def _build(model: MorphableModel, identities: np.ndarray) -> Iterator[tuple[_Surfaces, int]]:
    """Yields the mesh of each identity, until the next one is asked for, and how many rows in succession have it."""
    is_new = np.ones(len(identities), bool)
    is_new[1:] = (identities[1:] != identities[:-1]).any(axis=1)
    starts = np.flatnonzero(is_new)
    repeats = np.diff(np.append(starts, len(identities)))
    mold = _Mold.allocate(len(model.mean_shape))
    surfaces = _Surfaces(mold.blocks, model.triangles)
    for first in range(0, len(starts), _MESHES):
        some = slice(first, first + _MESHES)
        unique = identities[starts[some]]
        for vertices, albedo, times in zip(
            model.vertices(unique), model.albedo(unique), repeats[some], strict=True
        ):
            _fill_mold(vertices, albedo, model.triangles, mold)
            yield surfaces, times


def _convert(meshes: Iterable[Mesh]) -> Iterator[tuple[_Surfaces, int]]:
    """Yields each mesh, and how often it comes in succession."""
    for _, same in itertools.groupby(meshes, key=id):
        mesh, *more = same
        assert mesh.normals is not None
        blocks = _in_blocks(mesh.vertices, mesh.normals, mesh.albedo)
        yield _Surfaces(blocks, mesh.triangles), 1 + len(more)


def _render(
    meshes: Iterable[tuple[_Surfaces, int]],
    angles: np.ndarray,
    frame: _Frame,
    shading: Shading,
    takes: Sequence[Take] | None = None,
) -> np.ndarray:
    """Draws meshes, each for as many rows of `angles` as is said with it."""
    size, supersample = frame.image_size, frame.supersample
    if not 1 <= size <= 4096:
        raise ValueError(f"image_size: got {size}, must be 1 to 4096")
    if not 1 <= supersample <= 16:
        raise ValueError(f"supersample: got {supersample}, must be 1 to 16")
    images = np.empty((len(angles), size, size), np.uint8)
    surface, view, film = _surface(shading), _view(frame, shading.light_elevation), _no_film()
    canvas = _Canvas.allocate(0, 0, size * supersample)
    drawn = 0
    for mesh, times in meshes:
        rows = slice(drawn, drawn + times)
        canvas = canvas.fit(mesh.blocks.shape[0] * _CHUNK, len(mesh.triangles))
        if takes is None:
            _draw(mesh, angles[rows], view, surface, canvas, supersample, film, images[rows])
        else:
            start = drawn
            for _, same in itertools.groupby(takes[rows], key=id):
                take, *more = same
                some = slice(start, start + 1 + len(more))
                start = some.stop
                light = take.shading.light_elevation
                view = _view(frame._replace(camera=take.camera), light)
                surface, film = _surface(take.shading), _film(take)
                _draw(mesh, angles[some], view, surface, canvas, supersample, film, images[some])
        drawn += times
    if drawn < len(images):
        raise ValueError(f"meshes: got {drawn}, must be {len(images)}, one for each azimuth")
    return images[..., None]


@numba.extending.intrinsic
def _add_normal(
    typing_context: Any, points: Any, sums: Any, a: Any, b: Any, c: Any
) -> tuple[Any, Any]:
    """Compiles to sums[[a, b, c]] += cross(points[b] - points[a], points[c] - points[a]), rows of four numbers.

    A row is one vector: a third of the instructions that three numbers need, to read and write above all.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integer, row = llvmlite.ir.IntType(32), llvmlite.ir.VectorType(llvmlite.ir.FloatType(), 4)
        order = llvmlite.ir.Constant(llvmlite.ir.VectorType(integer, 4), [1, 2, 0, 3])
        nothing = llvmlite.ir.Constant(row, llvmlite.ir.Undefined)
        two = llvmlite.ir.Constant(llvmlite.ir.IntType(64), 2)
        starts = [builder.shl(vertex, two) for vertex in arguments[2:]]
        rows = []
        for array, array_type in zip(arguments[:2], signature.args[:2], strict=True):
            data = context.make_array(array_type)(context, builder, array).data
            places = [builder.gep(data, [start]) for start in starts]
            rows.append([builder.bitcast(place, row.as_pointer()) for place in places])
        corners = [builder.load(place, align=4) for place in rows[0]]
        u, v = (builder.fsub(corner, corners[0]) for corner in corners[1:])

        def turned(vector: Any) -> Any:
            return builder.shuffle_vector(vector, nothing, order)  # (x, y, z) to (y, z, x)

        left, right = builder.fmul(u, turned(v)), builder.fmul(turned(u), v)
        normal = turned(builder.fsub(left, right))
        for place in rows[1]:
            builder.store(builder.fadd(builder.load(place, align=4), normal), place, align=4)
        return context.get_dummy_value()

    index = numba.types.int64
    return numba.types.void(points, sums, index, index, index), generate


@_compiled
def _sum_normals(
    vertices: np.ndarray, triangles: np.ndarray, points: np.ndarray, sums: np.ndarray
) -> None:
    """Sums for each vertex its triangles' normals, as long as their areas: the first three columns of `sums`.

    Args:
        vertices: float32 [V, 3].
        triangles: int32 [T, 3].
        points: float32 [V or more, 4], written over.
        sums: float32 [V or more, 4], written over.
    """
    for vertex in range(len(vertices)):
        points[vertex, 0], points[vertex, 1], points[vertex, 2] = (
            vertices[vertex, 0],
            vertices[vertex, 1],
            vertices[vertex, 2],
        )
        points[vertex, 3] = np.float32(0)
    sums[:] = 0
    for t in range(len(triangles)):
        a, b, c = np.uint32(triangles[t, 0]), np.uint32(triangles[t, 1]), np.uint32(triangles[t, 2])
        _add_normal(points, sums, np.int64(a), np.int64(b), np.int64(c))


@_compiled
def _inverse_length(x: np.float32, y: np.float32, z: np.float32) -> np.float32:
    length = np.sqrt(x * x + y * y + z * z)
    return np.float32(1) / length if length > np.float32(0) else np.float32(1)


@_compiled
def smooth_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals of the vertices, the mean of their triangles' weighted by area; float32 [V, 3].

    Args:
        vertices: float32 [V, 3].
        triangles: int32 [T, 3], counter-clockwise seen from outside.
    """
    sums = np.empty((len(vertices), 4), np.float32)
    _sum_normals(vertices, triangles, np.empty_like(sums), sums)
    normals = np.empty_like(vertices)
    for vertex in range(len(normals)):
        x, y, z = sums[vertex, 0], sums[vertex, 1], sums[vertex, 2]
        scale = _inverse_length(x, y, z)
        normals[vertex, 0], normals[vertex, 1], normals[vertex, 2] = x * scale, y * scale, z * scale
    return normals


_CHUNK = 128  # vertices or triangles handled at a time: all about them stays in the nearest cache


class _Mold(NamedTuple):
    """Memory for one mesh after the other of as many vertices."""

    points: np.ndarray  # float32 [V or more, 4]
    sums: np.ndarray  # float32 [V or more, 4]
    blocks: np.ndarray  # see _Surfaces

    @classmethod
    def allocate(cls, vertices: int) -> "_Mold":
        blocks = -(-vertices // _CHUNK)
        rows = (blocks * _CHUNK, 4)
        return cls(
            np.zeros(rows, np.float32),
            np.zeros(rows, np.float32),
            np.zeros((blocks, 7, _CHUNK), np.float32),
        )


@_compiled
def _fill_mold(
    vertices: np.ndarray, albedo: np.ndarray, triangles: np.ndarray, mold: _Mold
) -> None:
    """Writes a mesh and its smooth normals into `mold.blocks`: `smooth_normals` and `_in_blocks` at once."""
    _sum_normals(vertices, triangles, mold.points, mold.sums)
    for block in range(len(mold.blocks)):
        start, end = block * _CHUNK, (block + 1) * _CHUNK
        points, sums = mold.points[start:end].reshape(-1), mold.sums[start:end].reshape(-1)
        written, some = mold.blocks[block].reshape(-1), albedo[start:end]
        for k in range(_CHUNK):
            written[k] = points[4 * k]
            written[k + _CHUNK] = points[4 * k + 1]
            written[k + 2 * _CHUNK] = points[4 * k + 2]
        for k in range(_CHUNK):
            x, y, z = sums[4 * k], sums[4 * k + 1], sums[4 * k + 2]
            scale = _inverse_length(x, y, z)
            written[k + 3 * _CHUNK] = x * scale
            written[k + 4 * _CHUNK] = y * scale
            written[k + 5 * _CHUNK] = z * scale
        for k in range(len(some)):
            written[k + 6 * _CHUNK] = some[k]


@_compiled
def _in_blocks(vertices: np.ndarray, normals: np.ndarray, albedo: np.ndarray) -> np.ndarray:
    """`_Surfaces.blocks`, zeros at the end."""
    blocks = np.zeros((-(-len(vertices) // _CHUNK), 7, _CHUNK), np.float32)
    for i in range(len(vertices)):
        block, k = i // _CHUNK, i % _CHUNK
        blocks[block, 0, k], blocks[block, 1, k], blocks[block, 2, k] = (
            vertices[i, 0],
            vertices[i, 1],
            vertices[i, 2],
        )
        blocks[block, 3, k], blocks[block, 4, k], blocks[block, 5, k] = (
            normals[i, 0],
            normals[i, 1],
            normals[i, 2],
        )
        blocks[block, 6, k] = albedo[i]
    return blocks


# What a sample shows is one integer: its depth above, its shade in the lower bits.
_SHADE_BITS = 12
_SHADE_MASK = (1 << _SHADE_BITS) - 1
_BRIGHTEST = np.float32(_SHADE_MASK)
_NEAREST = np.float32((1 << (31 - _SHADE_BITS)) - 1)
_FARTHER_THAN_ALL = -(1 << 31)

_STEPS = 256  # places in the picture are whole numbers of 1 / _STEPS of a sample
_STEP_BITS = 8
# Places are kept within so many steps of the picture's middle: differences of products of their differences are
# whole numbers of 53 bits, exact in float64.
_GUARD = np.float32(1 << 25)
_BEHIND = -(1 << 28)  # the place of what is behind the camera
_FINER = 16  # Depths and shades of corners are whole numbers of 1 / _FINER.

_BLOCK = 4  # triangles are drawn in squares of so many samples
_COLUMNS = np.arange(_BLOCK * _BLOCK, dtype=np.float32) % _BLOCK
_ROWS = np.arange(_BLOCK * _BLOCK, dtype=np.float32) // _BLOCK
_WINDOW = (
    8  # back faces up to so many samples wide and high are compared with what is drawn around them
)
_ROW_BITS = (
    2  # in squares of samples that begin with every row that is a multiple of 1 << _ROW_BITS
)


# The most samples along a side of what _choose calls small and medium triangles.
_SMALL, _MEDIUM = 2, 4
_KINDS = 6  # of triangles
_EXACT = 1 << 12  # products of differences of places up to so many steps are exact in float32
# Compilers know the length of a tuple.
_SMALL_SQUARE, _MEDIUM_SQUARE = tuple(range(_SMALL)), tuple(range(_MEDIUM))


class _View(NamedTuple):
    """The camera, for all images of a call."""

    center: np.ndarray  # float32 [3]
    distance: np.float32  # from the camera to the center
    scale: np.float32  # steps in the picture for one unit of length at depth 1
    right: np.float32  # steps from the picture's middle to where the center is seen
    down: np.float32
    roll: float  # degrees
    light_elevation: float  # degrees
    back_faces: bool


class _Surface(NamedTuple):
    """What `Shading` says, as the compiled code wants it."""

    ambient: np.float32
    diffuse: np.float32
    gleams: np.ndarray  # float32, the highlight for equally spaced cosines from 0 to 1
    background: int  # a shade
    ceiling: np.float32  # the grey value of the shade _BRIGHTEST


class _Film(NamedTuple):
    """What `Take` says of developing; empty where shades are grey values and the background is one shade."""

    curve: np.ndarray  # float32, grey values from 0 to 255 for equally spaced shades
    background: np.ndarray  # uint8 [S, S]
    cover: np.ndarray  # uint8 [S, S]


class _Canvas(NamedTuple):
    """Memory that drawing an image needs, kept from image to image."""

    places: np.ndarray  # float32 [3, V], x, y and nearness
    positions: (
        np.ndarray
    )  # int64 [V], pairs of y and x of the vertices, in steps from the top and the left
    looks: (
        np.ndarray
    )  # int64 [V], pairs of their depth and, again in two halves, their outer and inner shades
    chosen: np.ndarray  # int32 [_KINDS + 1, T]: the triangles of each kind, see _choose
    pairs: np.ndarray  # int64 [6 _CHUNK], the corners of some triangles, see _gather
    whole: np.ndarray  # int32 [5 _CHUNK], and what else is known of them
    real: np.ndarray  # float32 [17 _CHUNK]
    found: np.ndarray  # int32 [_MEDIUM, _MEDIUM _CHUNK], their samples, row by row
    exact: np.ndarray  # float64 [5 _CHUNK]
    samples: (
        np.ndarray
    )  # int32 [fine + _BLOCK, fine + _BLOCK]; blocks may stick out at the right and below
    # int32 [ceil(fine / rows), fine + _WINDOW], the farthest depth of the _WINDOW or more rows of samples that begin
    # with row i * rows, rows = 1 << _ROW_BITS, and the _WINDOW columns that begin with j, at [i, j]
    windows: np.ndarray

    def fit(self, vertices: int, triangles: int) -> "_Canvas":
        """This one, or another where a mesh needs lists of other lengths."""
        if (vertices, triangles) == (len(self.positions), self.chosen.shape[1]):
            return self
        return _Canvas.allocate(vertices, triangles, len(self.samples) - _BLOCK)

    @classmethod
    def allocate(cls, vertices: int, triangles: int, fine: int) -> "_Canvas":
        return cls(
            places=np.empty((vertices // _CHUNK, 3, _CHUNK), np.float32),
            positions=np.empty(vertices, np.int64),
            looks=np.empty(vertices, np.int64),
            chosen=np.empty((_KINDS + 1, triangles), np.int32),
            pairs=np.empty(6 * _CHUNK, np.int64),
            whole=np.empty(5 * _CHUNK, np.int32),
            real=np.empty(17 * _CHUNK, np.float32),
            found=np.empty((_MEDIUM, _MEDIUM * _CHUNK), np.int32),
            exact=np.empty(5 * _CHUNK, np.float64),
            samples=np.empty((fine + _BLOCK, fine + _BLOCK), np.int32),
            windows=np.empty(((fine >> _ROW_BITS) + 1, fine + _WINDOW), np.int32),
        )


def _view(frame: _Frame, light_elevation: float) -> _View:
    half_view = math.tan(math.radians(frame.camera.field_of_view) / 2)
    fine = frame.image_size * frame.supersample
    return _View(
        frame.center,
        np.float32(frame.radius / half_view),
        np.float32(_STEPS * frame.camera.zoom * 0.5 * fine / half_view),
        np.float32(_STEPS * frame.camera.right * fine),
        np.float32(-_STEPS * frame.camera.up * fine),
        float(frame.camera.roll),
        light_elevation,
        frame.back_faces,
    )


def _surface(shading: Shading) -> _Surface:
    gleams = shading.specular * _powers(shading.shininess)
    ceiling = shading.brightest
    return _Surface(
        np.float32(shading.ambient),
        np.float32(shading.diffuse),
        np.append(gleams, gleams[-1]).astype(np.float32),
        round(shading.background / ceiling * _SHADE_MASK),
        np.float32(ceiling),
    )


@functools.lru_cache(maxsize=8)
def _powers(exponent: float) -> np.ndarray:
    """Powers of equally spaced cosines from 0 to 1."""
    return np.linspace(0, 1, 4097) ** exponent


def _no_film() -> _Film:
    return _Film(np.empty(0, np.float32), *np.empty((2, 0, 0), np.uint8))


def _film(take: Take) -> _Film:
    return _Film(np.float32(255) * take.curve, take.background, take.cover)


@_compiled
def _draw(
    mesh: _Surfaces,
    angles: np.ndarray,
    view: _View,
    surface: _Surface,
    canvas: _Canvas,
    supersample: int,
    film: _Film,
    images: np.ndarray,
) -> None:
    """Draws one mesh into `images`, uint8 [N, S, S], as `angles` say, float64 [N, 3]."""
    for i in range(len(images)):
        turn = _roll(rotation(angles[i, 0], angles[i, 1]), view.roll)
        light = light_direction(angles[i, 2], view.light_elevation)
        nearest = _place(mesh.blocks, turn, view, canvas)
        _shade(mesh.blocks, turn, light, nearest, surface, canvas)
        counts = _choose(mesh.triangles, canvas)
        canvas.samples[:] = surface.background - (1 << _SHADE_BITS)  # farther than any surface
        _fill(mesh.triangles, counts, False, canvas)
        if view.back_faces:
            _measure_windows(canvas)
            _leave_out_hidden(mesh.triangles, counts, canvas)
            _fill(mesh.triangles, counts, True, canvas)
        if len(film.curve) > 0:
            _develop(canvas.samples, supersample, film, images[i])
        else:
            _average(canvas.samples, surface.ceiling, supersample, images[i])


@_compiled
def _place(blocks: np.ndarray, turn: np.ndarray, view: _View, canvas: _Canvas) -> float:
    """Projects the vertices: `canvas.places`; returns the largest nearness."""
    xx, xy, xz = np.float32(turn[0, 0]), np.float32(turn[0, 1]), np.float32(turn[0, 2])
    yx, yy, yz = np.float32(turn[1, 0]), np.float32(turn[1, 1]), np.float32(turn[1, 2])
    zx, zy, zz = np.float32(turn[2, 0]), np.float32(turn[2, 1]), np.float32(turn[2, 2])
    center_x, center_y, center_z = view.center[0], view.center[1], view.center[2]
    distance, scale = view.distance, view.scale
    near = np.float32(0.01) * distance
    middle = np.float32((len(canvas.samples) - _BLOCK) * (_STEPS // 2)) + np.float32(0.5)
    lowest, highest = middle - _GUARD, middle + _GUARD
    behind, one, zero = np.float32(_BEHIND), np.float32(1), np.float32(0)
    across, below = middle + view.right, middle + view.down
    largest = np.int32(0)
    for block in range(len(blocks)):
        mesh, places = blocks[block].reshape(-1), canvas.places[block].reshape(-1)
        for k in range(_CHUNK):
            u = mesh[k] - center_x
            v = mesh[k + _CHUNK] - center_y
            w = mesh[k + 2 * _CHUNK] - center_z
            away = distance - (zx * u + zy * v + zz * w)
            nearness = one / max(away, near)
            right = across + scale * nearness * (xx * u + xy * v + xz * w)
            down = below - scale * nearness * (yx * u + yy * v + yz * w)
            right = np.floor(min(max(right, lowest), highest))
            places[k] = right if away >= near else behind
            places[k + _CHUNK] = np.floor(min(max(down, lowest), highest))
            places[k + 2 * _CHUNK] = nearness if away >= near else zero
        # The maximum of floats that are not negative is that of their bits, which compilers are better at.
        bits = places.view(np.int32)
        for k in range(2 * _CHUNK, 3 * _CHUNK):
            largest = max(largest, bits[k])
    return np.array([largest], np.int32).view(np.float32)[0]


@_compiled
def _shade(
    blocks: np.ndarray,
    turn: np.ndarray,
    light: np.ndarray,
    nearest: float,
    surface: _Surface,
    canvas: _Canvas,
) -> None:
    """Lights the vertices from either side, and writes down all about them: `canvas.positions`, `looks`."""
    half = light.copy()
    half[2] += 1  # The viewer is far away compared with the head.
    length = math.sqrt(half[0] * half[0] + half[1] * half[1] + half[2] * half[2])
    if length > 1e-6:
        half /= length
    # In the model's frame.
    light_x, light_y, light_z = _turn_back(light, turn)
    half_x, half_y, half_z = _turn_back(half, turn)
    gleams, real = surface.gleams, canvas.real
    ambient, diffuse = surface.ambient, surface.diffuse
    brightest = np.float32(_FINER) * _BRIGHTEST
    full = brightest / surface.ceiling
    deepest = np.float32(_FINER) * _NEAREST
    far = deepest / nearest if nearest > 0 else np.float32(0)
    zero, one = np.float32(0), np.float32(1)
    last_index = np.int32(len(gleams) - 2)
    last = np.float32(last_index)
    for block in range(len(blocks)):
        mesh, places = blocks[block].reshape(-1), canvas.places[block].reshape(-1)
        positions = canvas.positions[block * _CHUNK : (block + 1) * _CHUNK]
        looks = canvas.looks[block * _CHUNK : (block + 1) * _CHUNK]
        for k in range(_CHUNK):
            u, v, w = mesh[k + 3 * _CHUNK], mesh[k + 4 * _CHUNK], mesh[k + 5 * _CHUNK]
            lit = u * light_x + v * light_y + w * light_z
            glance = u * half_x + v * half_y + w * half_z
            real[k] = lit
            # Below the table for highlights on the side that the light does not reach.
            real[k + _CHUNK] = min(abs(glance), one) * last if glance * lit > zero else -one
        # Looking up alone, one by one, is faster than all of it in vector instructions.
        for k in range(_CHUNK):
            at = real[k + _CHUNK]
            # Within the table even where a mesh has overflown.
            index = np.uint32(min(max(np.int32(at), np.int32(0)), last_index))
            low, high = gleams[index], gleams[index + 1]
            real[k + 2 * _CHUNK] = low + (at - np.float32(index)) * (high - low)
        for k in range(_CHUNK):
            lit, albedo = real[k], mesh[k + 6 * _CHUNK]
            gleam = real[k + 2 * _CHUNK] if real[k + _CHUNK] >= zero else zero
            outer = albedo * (ambient + diffuse * max(zero, lit)) + (gleam if lit > zero else zero)
            inner = albedo * (ambient + diffuse * max(zero, -lit)) + (gleam if lit < zero else zero)
            outer, inner = min(full * outer, brightest), min(full * inner, brightest)
            depth = np.int32(min(places[k + 2 * _CHUNK] * far, deepest))
            positions[k] = _pair(np.int32(places[k + _CHUNK]), np.int32(places[k]))
            looks[k] = _pair(depth, np.int32(outer) << np.int32(16) | np.int32(inner))


@_compiled
def _turn_back(direction: np.ndarray, turn: np.ndarray) -> tuple[Any, Any, Any]:
    """A direction of the camera's frame in the model's; float32."""
    x, y, z = direction
    return (
        np.float32(x * turn[0, 0] + y * turn[1, 0] + z * turn[2, 0]),
        np.float32(x * turn[0, 1] + y * turn[1, 1] + z * turn[2, 1]),
        np.float32(x * turn[0, 2] + y * turn[1, 2] + z * turn[2, 2]),
    )


@_compiled
def _pair(upper: Any, lower: Any) -> Any:
    """Two int32 as one int64: half as many to gather."""
    return (np.int64(upper) << np.int64(32)) | (np.int64(lower) & np.int64(0xFFFFFFFF))


@_compiled
def _halves(pair: Any) -> tuple[Any, Any]:
    """The lower and the upper half of a `_pair`: x and y, or shades and depth."""
    return np.int32(pair), np.int32(pair >> np.int64(32))


@_compiled
def _choose(triangles: np.ndarray, canvas: _Canvas) -> np.ndarray:
    """Lists the triangles whose box holds a sample by side and size: `canvas.chosen`; returns how many, [_KINDS].

    Kinds are those seen from outside, first the small, then the medium, then the large ones, and then the same
    of those seen from inside. One kind more is that of the triangles not to be seen.
    """
    positions, pairs, kinds = canvas.positions, canvas.pairs, canvas.whole
    fine, zero = np.int32(len(canvas.samples) - _BLOCK), np.int32(0)
    small, medium, exact = np.int32(_SMALL), np.int32(_MEDIUM), np.int32(_EXACT)
    inner, none, unsure = np.int32(_KINDS // 2), np.int32(_KINDS), np.int32(_KINDS + 1)
    # Lists are written one after the other: each ends where the next begins.
    chosen, length = canvas.chosen.reshape(-1), canvas.chosen.shape[1]
    ends = np.arange(_KINDS + 1) * length
    for start in range(0, len(triangles), _CHUNK):
        count = min(_CHUNK, len(triangles) - start)
        for k in range(count):
            t = start + k
            pairs[k] = positions[np.uint32(triangles[t, 0])]
            pairs[k + _CHUNK] = positions[np.uint32(triangles[t, 1])]
            pairs[k + 2 * _CHUNK] = positions[np.uint32(triangles[t, 2])]
        for k in range(count):
            ax, ay = _halves(pairs[k])
            bx, by = _halves(pairs[k + _CHUNK])
            cx, cy = _halves(pairs[k + 2 * _CHUNK])
            low_x, high_x = min(ax, bx, cx), max(ax, bx, cx)
            low_y, high_y = min(ay, by, cy), max(ay, by, cy)
            left, right = _first(low_x), _last(high_x)
            top, bottom = _first(low_y), _last(high_y)
            inside = (
                (left <= right)
                & (top <= bottom)
                & (right >= zero)
                & (bottom >= zero)
                & (left < fine)
                & (top < fine)
                & (low_x > _BEHIND)
            )
            area = np.float32(cx - ax) * np.float32(by - ay) - np.float32(cy - ay) * np.float32(
                bx - ax
            )
            size = max(right - left, bottom - top)
            kind = np.int32(size >= small) + np.int32(size >= medium)
            kind += inner if area < 0 else zero
            kind = none if area == 0 else kind
            kind = unsure if max(high_x - low_x, high_y - low_y) > exact else kind
            kinds[k] = kind if inside else none
        for k in range(count):
            kind = kinds[k]
            if kind == unsure:
                ax, ay = _halves(pairs[k])
                bx, by = _halves(pairs[k + _CHUNK])
                cx, cy = _halves(pairs[k + 2 * _CHUNK])
                left = np.float64(cx - ax) * np.float64(by - ay)
                right = np.float64(cy - ay) * np.float64(bx - ax)
                kind = inner - np.int32(1) if left > right else none - np.int32(left < right)
            which = np.uint32(kind)
            end = np.uint64(ends[which])
            chosen[end] = start + k
            ends[which] = end + np.uint64(1)
    return (ends - np.arange(_KINDS + 1) * length)[:_KINDS]


@_compiled
def _first(place: Any) -> Any:
    """The first sample from a place on; samples lie at half-integers."""
    return (place + np.int32(_STEPS // 2 - 1)) >> np.int32(_STEP_BITS)


@_compiled
def _last(place: Any) -> Any:
    """The last sample up to a place."""
    return (place - np.int32(_STEPS // 2)) >> np.int32(_STEP_BITS)


@_compiled
def _span(a: Any, b: Any, c: Any, end: Any) -> tuple[Any, Any]:
    """The first and the last sample between three places, within the picture."""
    return _first(max(min(a, b, c), np.int32(0))), _last(min(max(a, b, c), end))


@_compiled
def _gather(triangles: np.ndarray, chosen: np.ndarray, backs: bool, canvas: _Canvas) -> None:
    """Writes the corners of some triangles into `canvas.pairs`, counter-clockwise as they are seen."""
    positions, looks, pairs = canvas.positions, canvas.looks, canvas.pairs
    for k in range(len(chosen)):
        t = np.uint32(chosen[k])
        a, b, c = np.uint32(triangles[t, 0]), np.uint32(triangles[t, 1]), np.uint32(triangles[t, 2])
        if backs:
            b, c = c, b
        pairs[k], pairs[k + 3 * _CHUNK] = positions[a], looks[a]
        pairs[k + _CHUNK], pairs[k + 4 * _CHUNK] = positions[b], looks[b]
        pairs[k + 2 * _CHUNK], pairs[k + 5 * _CHUNK] = positions[c], looks[c]


# Where _fill_small and _fill_large keep what they know of some triangles, one after the other: in `canvas.real`
(_EDGE_A, _EDGE_B, _EDGE_C, _RIGHT_A, _RIGHT_B, _RIGHT_C, _DOWN_A, _DOWN_B, _DOWN_C) = range(
    0, 9 * _CHUNK, _CHUNK
)
# and behind those of the small ones
(_LEVEL, _LEVEL_B, _LEVEL_C, _VALUE, _VALUE_B, _VALUE_C) = range(9 * _CHUNK, 15 * _CHUNK, _CHUNK)
# or of the large ones,
(
    _LEVEL_RIGHT,
    _LEVEL_DOWN,
    _FAR,
    _NEAR,
    _VALUE_RIGHT,
    _VALUE_DOWN,
    _DARK,
    _BRIGHT,
) = range(9 * _CHUNK, 17 * _CHUNK, _CHUNK)
# whose edges are in `canvas.exact`, with two numbers more, and whose boxes are in `canvas.whole`.
_EXACT_LEVEL, _EXACT_VALUE = 3 * _CHUNK, 4 * _CHUNK
_LEFT, _TOP, _WIDTH, _HEIGHT = range(0, 4 * _CHUNK, _CHUNK)


@_compiled
def _fill_small(
    triangles: np.ndarray,
    chosen: np.ndarray,
    backs: bool,
    square: tuple[int, ...],
    canvas: _Canvas,
) -> None:
    """Draws triangles that have no more than `len(square)` samples in width or height.

    A vector instruction works on one sample of many triangles. All is exact in float32: places differ by less than
    (_MEDIUM + 1) * _STEPS, products by less than 24 bits.
    """
    samples, stride = canvas.samples.reshape(-1), np.int32(canvas.samples.shape[1])
    pairs, real, whole = canvas.pairs, canvas.real, canvas.whole
    steps, share, half = np.float32(_STEPS), np.float32(1 / _FINER), np.float32(0.5)
    shift, mask = np.int32(0 if backs else 16), np.int32(0xFFFF)
    for start in range(0, len(chosen), _CHUNK):
        count = min(_CHUNK, len(chosen) - start)
        _gather(triangles, chosen[start : start + count], backs, canvas)
        for k in range(count):
            ax, ay = _halves(pairs[k])
            bx, by = _halves(pairs[k + _CHUNK])
            cx, cy = _halves(pairs[k + 2 * _CHUNK])
            left = _first(max(min(ax, bx, cx), np.int32(0)))
            top = _first(max(min(ay, by, cy), np.int32(0)))
            whole[k] = top * stride + left
            # See _fill_large for what this means.
            px = np.int32(_STEPS) * left + np.int32(_STEPS // 2)
            py = np.int32(_STEPS) * top + np.int32(_STEPS // 2)
            right_a, right_b, right_c = (
                np.float32(cy - by),
                np.float32(ay - cy),
                np.float32(by - ay),
            )
            down_a, down_b, down_c = np.float32(bx - cx), np.float32(cx - ax), np.float32(ax - bx)
            edge_a = right_a * np.float32(px - bx) + down_a * np.float32(py - by)
            edge_b = right_b * np.float32(px - cx) + down_b * np.float32(py - cy)
            edge_c = right_c * np.float32(px - ax) + down_c * np.float32(py - ay)
            real[k + _EDGE_A], real[k + _EDGE_B], real[k + _EDGE_C] = edge_a, edge_b, edge_c
            real[k + _RIGHT_A] = steps * right_a
            real[k + _RIGHT_B] = steps * right_b
            real[k + _RIGHT_C] = steps * right_c
            real[k + _DOWN_A] = steps * down_a
            real[k + _DOWN_B] = steps * down_b
            real[k + _DOWN_C] = steps * down_c
            shades_a, depth_a = _halves(pairs[k + 3 * _CHUNK])
            shades_b, depth_b = _halves(pairs[k + 4 * _CHUNK])
            shades_c, depth_c = _halves(pairs[k + 5 * _CHUNK])
            per_area = share / (edge_a + edge_b + edge_c)
            real[k + _LEVEL] = share * np.float32(depth_a)
            real[k + _LEVEL_B] = per_area * np.float32(depth_b - depth_a)
            real[k + _LEVEL_C] = per_area * np.float32(depth_c - depth_a)
            shade_a = (shades_a >> shift) & mask
            real[k + _VALUE] = share * np.float32(shade_a) + half
            real[k + _VALUE_B] = per_area * np.float32(((shades_b >> shift) & mask) - shade_a)
            real[k + _VALUE_C] = per_area * np.float32(((shades_c >> shift) & mask) - shade_a)
        for row in range(len(square)):
            along = np.float32(row)
            found = canvas.found[row]
            for k in range(count):
                edge_a = real[k + _EDGE_A] + along * real[k + _DOWN_A]
                edge_b = real[k + _EDGE_B] + along * real[k + _DOWN_B]
                edge_c = real[k + _EDGE_C] + along * real[k + _DOWN_C]
                for column in range(len(square)):
                    level = (
                        real[k + _LEVEL] + edge_b * real[k + _LEVEL_B] + edge_c * real[k + _LEVEL_C]
                    )
                    value = (
                        real[k + _VALUE] + edge_b * real[k + _VALUE_B] + edge_c * real[k + _VALUE_C]
                    )
                    sample = np.int32((np.int32(level) << _SHADE_BITS) | np.int32(value))
                    covered = min(edge_a, edge_b, edge_c) >= np.float32(0)
                    found[k + column * _CHUNK] = sample if covered else np.int32(_FARTHER_THAN_ALL)
                    edge_a += real[k + _RIGHT_A]
                    edge_b += real[k + _RIGHT_B]
                    edge_c += real[k + _RIGHT_C]
        for k in range(count):
            at = np.uint64(whole[k])
            for row in range(len(square)):
                for column in range(len(square)):
                    here = at + np.uint64(column)
                    samples[here] = max(samples[here], canvas.found[row, k + column * _CHUNK])
                at += np.uint64(stride)


@numba.extending.intrinsic
def _keep_nearer(
    typing_context: Any, samples: Any, at: Any, block: Any, start: Any
) -> tuple[Any, Any]:
    """Compiles to samples[at : at + _BLOCK] = maximum(that, block[start : start + _BLOCK]), on vectors of _BLOCK.

    Compilers that look for vectors in loops overlook such short ones.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = llvmlite.ir.VectorType(llvmlite.ir.IntType(32), _BLOCK).as_pointer()
        places = []
        for array, index, array_type in (
            (arguments[0], arguments[1], signature.args[0]),
            (arguments[2], arguments[3], signature.args[2]),
        ):
            data = context.make_array(array_type)(context, builder, array).data
            places.append(builder.bitcast(builder.gep(data, [index]), vector))
        old, new = (builder.load(place, align=4) for place in places)
        nearer = builder.select(builder.icmp_signed(">", new, old), new, old)
        builder.store(nearer, places[0], align=4)
        return context.get_dummy_value()

    return numba.types.void(samples, numba.types.int64, block, numba.types.int64), generate


@_compiled
def _fill_large(triangles: np.ndarray, chosen: np.ndarray, backs: bool, canvas: _Canvas) -> None:
    """Draws triangles in squares of _BLOCK samples: a vector instruction works on all samples of a square."""
    pairs = canvas.pairs
    samples, stride = canvas.samples.reshape(-1), np.int64(canvas.samples.shape[1])
    end = np.int32(_STEPS * (len(canvas.samples) - _BLOCK))
    block = np.empty(_BLOCK * _BLOCK, np.int32)
    whole, real, exact = canvas.whole, canvas.real, canvas.exact
    shift, mask = np.int32(0 if backs else 16), np.int32(0xFFFF)
    share, one = np.float32(1 / _FINER), np.int32(1)
    half = np.float32(0.5)  # Shades are rounded, not cut.
    for start in range(0, len(chosen), _CHUNK):
        count = min(_CHUNK, len(chosen) - start)
        _gather(triangles, chosen[start : start + count], backs, canvas)
        for k in range(count):
            ax, ay = _halves(pairs[k])
            bx, by = _halves(pairs[k + _CHUNK])
            cx, cy = _halves(pairs[k + 2 * _CHUNK])
            shades_a, depth_a = _halves(pairs[k + 3 * _CHUNK])
            shades_b, depth_b = _halves(pairs[k + 4 * _CHUNK])
            shades_c, depth_c = _halves(pairs[k + 5 * _CHUNK])
            left, right = _span(ax, bx, cx, end)
            top, bottom = _span(ay, by, cy, end)
            whole[k + _LEFT], whole[k + _WIDTH] = left, right - left + one
            whole[k + _TOP], whole[k + _HEIGHT] = top, bottom - top + one
            # A sample is covered if it is on the inner side of all three edges, where these are not negative:
            #   edge_a(p) = (c - b) x (p - b), and so on around the triangle; edge_a is 0 at b and c, the area at a.
            px = np.int32(_STEPS) * left + np.int32(_STEPS // 2)
            py = np.int32(_STEPS) * top + np.int32(_STEPS // 2)
            right_a, right_b, right_c = (
                np.float64(cy - by),
                np.float64(ay - cy),
                np.float64(by - ay),
            )
            down_a, down_b, down_c = np.float64(bx - cx), np.float64(cx - ax), np.float64(ax - bx)
            edge_a = right_a * np.float64(px - bx) + down_a * np.float64(py - by)
            edge_b = right_b * np.float64(px - cx) + down_b * np.float64(py - cy)
            edge_c = right_c * np.float64(px - ax) + down_c * np.float64(py - ay)
            # Samples are whole numbers of _STEPS apart: dividing by _STEPS and cutting loses nothing.
            exact[k + _EDGE_A] = np.floor(edge_a * (1 / _STEPS))
            exact[k + _EDGE_B] = np.floor(edge_b * (1 / _STEPS))
            exact[k + _EDGE_C] = np.floor(edge_c * (1 / _STEPS))
            real[k + _RIGHT_A], real[k + _RIGHT_B], real[k + _RIGHT_C] = right_a, right_b, right_c
            real[k + _DOWN_A], real[k + _DOWN_B], real[k + _DOWN_C] = down_a, down_b, down_c

            # Depth and shade are a's, and edge_b / area and edge_c / area of the way to b's and c's.
            per_area = 1.0 / (edge_a + edge_b + edge_c)
            per_step = _STEPS * per_area
            way_b, way_c = edge_b * per_area, edge_c * per_area
            way_right_b, way_right_c = right_b * per_step, right_c * per_step
            way_down_b, way_down_c = down_b * per_step, down_c * per_step
            first, second, third = (
                share * np.float32(depth_a),
                share * np.float32(depth_b),
                share * np.float32(depth_c),
            )
            change_b, change_c = np.float64(second - first), np.float64(third - first)
            exact[k + _EXACT_LEVEL] = first + way_b * change_b + way_c * change_c
            real[k + _LEVEL_RIGHT] = np.float32(way_right_b * change_b + way_right_c * change_c)
            real[k + _LEVEL_DOWN] = np.float32(way_down_b * change_b + way_down_c * change_c)
            real[k + _FAR], real[k + _NEAR] = min(first, second, third), max(first, second, third)
            first, second, third = (
                share * np.float32((shades_a >> shift) & mask) + half,
                share * np.float32((shades_b >> shift) & mask) + half,
                share * np.float32((shades_c >> shift) & mask) + half,
            )
            change_b, change_c = np.float64(second - first), np.float64(third - first)
            exact[k + _EXACT_VALUE] = first + way_b * change_b + way_c * change_c
            real[k + _VALUE_RIGHT] = np.float32(way_right_b * change_b + way_right_c * change_c)
            real[k + _VALUE_DOWN] = np.float32(way_down_b * change_b + way_down_c * change_c)
            real[k + _DARK] = min(first, second, third)
            real[k + _BRIGHT] = max(first, second, third)
        for k in range(count):
            # Near an edge float32 is as exact as whole numbers, for triangles up to 8192 samples long.
            right_a, right_b, right_c = (
                real[k + _RIGHT_A],
                real[k + _RIGHT_B],
                real[k + _RIGHT_C],
            )
            down_a, down_b, down_c = real[k + _DOWN_A], real[k + _DOWN_B], real[k + _DOWN_C]
            level_right, level_down = real[k + _LEVEL_RIGHT], real[k + _LEVEL_DOWN]
            value_right, value_down = real[k + _VALUE_RIGHT], real[k + _VALUE_DOWN]
            far, near = real[k + _FAR], real[k + _NEAR]
            dark, bright = real[k + _DARK], real[k + _BRIGHT]
            for i in range(0, whole[k + _HEIGHT], _BLOCK):
                edge_a = exact[k + _EDGE_A] + i * down_a
                edge_b = exact[k + _EDGE_B] + i * down_b
                edge_c = exact[k + _EDGE_C] + i * down_c
                depth = exact[k + _EXACT_LEVEL] + i * level_down
                shade = exact[k + _EXACT_VALUE] + i * value_down
                for j in range(0, whole[k + _WIDTH], _BLOCK):
                    block_a, block_b = np.float32(edge_a), np.float32(edge_b)
                    block_c = np.float32(edge_c)
                    block_depth, block_shade = np.float32(depth), np.float32(shade)
                    edge_a += _BLOCK * right_a
                    edge_b += _BLOCK * right_b
                    edge_c += _BLOCK * right_c
                    depth += _BLOCK * level_right
                    shade += _BLOCK * value_right
                    # One loop without branches or calls, which compilers turn into vector instructions.
                    for n in range(_BLOCK * _BLOCK):
                        across, along = _COLUMNS[n], _ROWS[n]
                        edge = min(
                            block_a + across * right_a + along * down_a,
                            block_b + across * right_b + along * down_b,
                            block_c + across * right_c + along * down_c,
                        )
                        level = block_depth + across * level_right + along * level_down
                        value = block_shade + across * value_right + along * value_down
                        level = min(max(level, far), near)
                        value = min(max(value, dark), bright)
                        sample = np.int32((np.int32(level) << _SHADE_BITS) | np.int32(value))
                        block[n] = sample if edge >= 0 else np.int32(_FARTHER_THAN_ALL)
                    at = (whole[k + _TOP] + i) * stride + whole[k + _LEFT] + j
                    for row in range(_BLOCK):
                        _keep_nearer(samples, at + row * stride, block, row * _BLOCK)


@_compiled
def _fill(triangles: np.ndarray, counts: np.ndarray, backs: bool, canvas: _Canvas) -> None:
    """Draws what `_choose` has listed of one side."""
    small = _KINDS // 2 if backs else 0
    medium, large = small + 1, small + 2
    _fill_small(triangles, canvas.chosen[small, : counts[small]], backs, _SMALL_SQUARE, canvas)
    _fill_small(triangles, canvas.chosen[medium, : counts[medium]], backs, _MEDIUM_SQUARE, canvas)
    _fill_large(triangles, canvas.chosen[large, : counts[large]], backs, canvas)


@_compiled
def _leave_out_hidden(triangles: np.ndarray, counts: np.ndarray, canvas: _Canvas) -> None:
    """Takes out of `canvas.chosen` what is seen from inside and has only nearer samples around it."""
    pairs, whole = canvas.pairs, canvas.whole
    windows, width = canvas.windows.reshape(-1), np.int32(canvas.windows.shape[1])
    end = np.int32(_STEPS * (len(canvas.samples) - _BLOCK))
    finer, one, most = np.int32(_FINER), np.int32(1), np.int32(_WINDOW)
    for kind in range(_KINDS // 2, _KINDS):
        chosen = canvas.chosen[kind]
        kept = 0
        for start in range(0, counts[kind], _CHUNK):
            count = min(_CHUNK, counts[kind] - start)
            _gather(triangles, chosen[start : start + count], True, canvas)
            for k in range(count):
                ax, ay = _halves(pairs[k])
                bx, by = _halves(pairs[k + _CHUNK])
                cx, cy = _halves(pairs[k + 2 * _CHUNK])
                left, right = _span(ax, bx, cx, end)
                top, bottom = _span(ay, by, cy, end)
                nearest = max(
                    _halves(pairs[k + 3 * _CHUNK])[1],
                    _halves(pairs[k + 4 * _CHUNK])[1],
                    _halves(pairs[k + 5 * _CHUNK])[1],
                )
                nearest = nearest // finer + one  # What is drawn is a little off.
                # Up to two windows cover it across, and two down; larger ones are not worth looking.
                small = max(right - left, bottom - top) < np.int32(2) * most
                last_left = max(right - most + one, left)
                first_row = top >> np.int32(_ROW_BITS)
                last_row = max(bottom - most + one, top) >> np.int32(_ROW_BITS)
                whole[k] = first_row * width + left
                whole[k + _CHUNK] = first_row * width + last_left
                whole[k + 2 * _CHUNK] = last_row * width + left
                whole[k + 3 * _CHUNK] = last_row * width + last_left
                whole[k + 4 * _CHUNK] = nearest if small else np.int32(_NEAREST)
            for k in range(count):
                seen = min(
                    windows[np.uint32(whole[k])],
                    windows[np.uint32(whole[k + _CHUNK])],
                    windows[np.uint32(whole[k + 2 * _CHUNK])],
                    windows[np.uint32(whole[k + 3 * _CHUNK])],
                )
                chosen[kept] = chosen[start + k]
                kept += whole[k + 4 * _CHUNK] >= seen
        counts[kind] = kept


@_compiled
def _measure_windows(canvas: _Canvas) -> None:
    """Finds the farthest depth in many squares of samples: `canvas.windows`."""
    samples, windows = canvas.samples, canvas.windows
    fine, rows = len(samples) - _BLOCK, 1 << _ROW_BITS
    windows[:] = (1 << 31) - 1
    for i in range(len(windows)):
        window = windows[i]
        for row in range(i * rows, min(fine, (i + 1) * rows)):
            line = samples[row]
            for column in range(fine):
                window[column] = min(window[column], line[column])
    height = (_WINDOW + rows - 2) // rows + 1
    for i in range(len(windows)):
        window = windows[i]
        for below in range(i + 1, min(len(windows), i + height)):
            other = windows[below]
            for column in range(fine):
                window[column] = min(window[column], other[column])
        reach = 1
        while reach < _WINDOW:
            further = window[reach:]
            for column in range(fine):
                window[column] = min(window[column], further[column])
            reach *= 2
        for column in range(fine):
            window[column] >>= _SHADE_BITS


@_compiled
def _average(samples: np.ndarray, ceiling: np.float32, supersample: int, image: np.ndarray) -> None:
    """Averages the shades of each pixel's samples into `image`, white where they are brighter."""
    size = len(image)
    share = np.float32(255.0 / _SHADE_MASK / (supersample * supersample)) * ceiling
    mask = np.int32(_SHADE_MASK)
    white = np.int32(min(np.float32(_SHADE_MASK) / ceiling, _BRIGHTEST))
    fine = size * supersample
    sums, totals = np.empty(fine, np.int32), np.empty(size, np.int32)
    for row in range(size):
        sums[:] = 0
        for i in range(row * supersample, (row + 1) * supersample):
            line = samples[i]
            for column in range(fine):
                sums[column] += min(line[column] & mask, white)
        totals[:] = 0
        for j in range(supersample):
            for column in range(size):
                totals[column] += sums[column * supersample + j]
        for column in range(size):
            image[row, column] = np.uint8(np.float32(totals[column]) * share + np.float32(0.5))


@_compiled
def _develop(samples: np.ndarray, supersample: int, film: _Film, image: np.ndarray) -> None:
    """Averages the shades of each pixel's samples of a head, and lays them, developed, over the background."""
    size, fine = len(image), len(image) * supersample
    mask, bits = np.int32(_SHADE_MASK), np.int32(31)
    everything = np.float32(1 / (supersample * supersample))
    last = np.float32(len(film.curve) - 1)
    per_shade, half = last / _BRIGHTEST, np.float32(0.5)
    sums, counts = np.empty(fine, np.int32), np.empty(fine, np.int32)
    for row in range(size):
        sums[:] = 0
        counts[:] = 0
        for i in range(row * supersample, (row + 1) * supersample):
            line = samples[i]
            for column in range(fine):
                seen = ~(line[column] >> bits)  # No bits of the background, all of a head.
                sums[column] += line[column] & mask & seen
                counts[column] -= seen
        for column in range(size):
            total, count = np.int32(0), np.int32(0)
            for j in range(column * supersample, (column + 1) * supersample):
                total += sums[j]
                count += counts[j]
            behind = np.float32(film.background[row, column])
            # Where there is no head, any shade will do.
            shade = np.float32(total) / np.float32(max(count, np.int32(1)))
            grey = film.curve[np.uint32(shade * per_shade + half)]
            shown = np.float32(count) * everything
            shown *= np.float32(255 - film.cover[row, column]) * np.float32(1 / 255)
            image[row, column] = np.uint8(behind + shown * (grey - behind) + half)
