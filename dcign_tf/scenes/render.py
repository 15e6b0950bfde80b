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
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from dcign_tf.scenes.morphable import MorphableModel

_MESHES = 40  # built at a time: each is some hundred kilobytes


@dataclasses.dataclass(frozen=True)
class Camera:
    """A perspective camera that looks at the model's center.

    Attributes:
        field_of_view: vertical angle of view in degrees; small values are long lenses.
        zoom: magnification; 1 shows `MorphableModel.radius` above and below the center.
    """

    field_of_view: float = 20.0
    zoom: float = 1.0

    def __post_init__(self) -> None:
        if not 1.0 <= self.field_of_view <= 90.0:
            raise ValueError(f"field_of_view: got {self.field_of_view}, must be 1 to 90 degrees")
        if not 0.1 <= self.zoom <= 100.0:
            raise ValueError(f"zoom: got {self.zoom}, must be 0.1 to 100")


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


def rotation(azimuth: float, elevation: float) -> np.ndarray:
    """The head's rotation Rx(-elevation) Ry(azimuth) for angles in degrees; float64 [3, 3]."""
    a, e = math.radians(azimuth), math.radians(elevation)
    turn = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    raise_ = np.array([[1, 0, 0], [0, math.cos(e), math.sin(e)], [0, -math.sin(e), math.cos(e)]])
    return raise_ @ turn


def light_direction(light_azimuth: float, light_elevation: float) -> np.ndarray:
    """Unit vector from the scene to the light, in the camera's frame, for angles in degrees; [3]."""
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
    frame = _Frame(camera, middle, radius, image_size, supersample)
    return _render((_Surfaces.of(mesh) for mesh in meshes), angles, frame, shading)


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
    frame = _Frame(camera, model.center, model.radius, image_size, supersample)
    return _render(_build(model, identities), angles, frame, shading)


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
    """A mesh, as the compiled code wants it."""

    vertices: np.ndarray  # float32 [V, 3]
    normals: np.ndarray  # float32 [V, 3]
    albedo: np.ndarray  # float32 [V]
    triangles: np.ndarray  # int32 [T, 3]

    @classmethod
    def of(cls, mesh: Mesh) -> "_Surfaces":
        assert mesh.normals is not None
        return cls(mesh.vertices, mesh.normals, mesh.albedo, mesh.triangles)


class _Frame(NamedTuple):
    """What all images of a call share."""

    camera: Camera
    center: np.ndarray  # float32 [3]
    radius: float
    image_size: int
    supersample: int


def _build(model: MorphableModel, identities: np.ndarray) -> Iterator[_Surfaces]:
    """Yields the mesh of each row, that of the row before where that has the same identity."""
    is_new = np.ones(len(identities), bool)
    is_new[1:] = (identities[1:] != identities[:-1]).any(axis=1)
    starts = np.flatnonzero(is_new)
    repeats = np.diff(np.append(starts, len(identities)))
    for first in range(0, len(starts), _MESHES):
        some = slice(first, first + _MESHES)
        unique = identities[starts[some]]
        for vertices, albedo, times in zip(
            model.vertices(unique), model.albedo(unique), repeats[some], strict=True
        ):
            normals = smooth_normals(vertices, model.triangles)
            yield from itertools.repeat(
                _Surfaces(vertices, normals, albedo, model.triangles), times
            )


def _render(
    meshes: Iterable[_Surfaces], angles: np.ndarray, frame: _Frame, shading: Shading
) -> np.ndarray:
    """Draws one mesh for each row of `angles`."""
    size, supersample = frame.image_size, frame.supersample
    if not 1 <= size <= 4096:
        raise ValueError(f"image_size: got {size}, must be 1 to 4096")
    if not 1 <= supersample <= 16:
        raise ValueError(f"supersample: got {supersample}, must be 1 to 16")
    images = np.empty((len(angles), size, size, 1), np.uint8)
    surface = _surface(shading)
    canvas = _Canvas.allocate(0, 0, size * supersample)
    drawn = 0
    for image, row, mesh in zip(images, angles, meshes, strict=False):
        canvas = canvas.fit(len(mesh.vertices), len(mesh.triangles))
        view = _view(frame, row, shading.light_elevation)
        _draw(mesh, view, surface, canvas, supersample, image[:, :, 0])
        drawn += 1
    if drawn < len(images):
        raise ValueError(f"meshes: got {drawn}, must be {len(images)}, one for each azimuth")
    return images


@numba.njit(cache=True, nogil=True)
def smooth_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals of the vertices, the mean of their triangles' weighted by area; float32 [V, 3].

    Args:
        vertices: float32 [V, 3].
        triangles: int32 [T, 3], counter-clockwise seen from outside.
    """
    normals = np.zeros_like(vertices)
    for t in range(len(triangles)):
        a, b, c = np.uint32(triangles[t, 0]), np.uint32(triangles[t, 1]), np.uint32(triangles[t, 2])
        ux = vertices[b, 0] - vertices[a, 0]
        uy = vertices[b, 1] - vertices[a, 1]
        uz = vertices[b, 2] - vertices[a, 2]
        vx = vertices[c, 0] - vertices[a, 0]
        vy = vertices[c, 1] - vertices[a, 1]
        vz = vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for i in (a, b, c):
            normals[i, 0] += nx
            normals[i, 1] += ny
            normals[i, 2] += nz
    for vertex in range(len(normals)):
        x, y, z = normals[vertex, 0], normals[vertex, 1], normals[vertex, 2]
        length = math.sqrt(x * x + y * y + z * z)
        if length > 0:
            scale = np.float32(1 / length)
            normals[vertex, 0] *= scale
            normals[vertex, 1] *= scale
            normals[vertex, 2] *= scale
    return normals


# What a sample shows is one integer: its depth above, its shade in the lower bits.
_SHADE_BITS = 12
_SHADE_MASK = (1 << _SHADE_BITS) - 1
_BRIGHTEST = np.float32(_SHADE_MASK)
_NEAREST = np.float32((1 << (31 - _SHADE_BITS)) - 1)
_FARTHER_THAN_ALL = -(1 << 31)

_STEPS = 256  # places in the picture are whole numbers of 1 / _STEPS of a sample
_STEP_BITS = 8
# Places are kept within so many steps of the picture's corner: products of two fit 64 bits.
_GUARD = np.float32(1 << 26)

_BLOCK = 4  # triangles are drawn in squares of so many samples
_COLUMNS = np.arange(_BLOCK * _BLOCK, dtype=np.float32) % _BLOCK
_ROWS = np.arange(_BLOCK * _BLOCK, dtype=np.float32) // _BLOCK
_TILE_BITS = 3  # back faces are compared with squares of 1 << _TILE_BITS samples


class _View(NamedTuple):
    """Camera, pose and light of one image, in the model's frame; all float32."""

    turn: np.ndarray  # [3, 3], the model's axes to the camera's
    center: np.ndarray  # [3]
    distance: np.float32  # from the camera to the center
    scale: np.float32  # steps in the picture for one unit of length at depth 1
    light: np.ndarray  # [3], to the light
    half: np.ndarray  # [3], half way between light and viewer


class _Surface(NamedTuple):
    """What `Shading` says, as the compiled code wants it."""

    ambient: np.float32
    diffuse: np.float32
    gleams: np.ndarray  # float32, the highlight for equally spaced cosines from 0 to 1
    background: int  # a shade
    ceiling: np.float32  # the grey value of the shade _BRIGHTEST


class _Canvas(NamedTuple):
    """Memory that drawing an image needs, kept from image to image."""

    x: np.ndarray  # int32 [V], place in the picture in steps, from the left
    y: np.ndarray  # int32 [V], from the top
    depth: np.ndarray  # float32 [V], larger is nearer, up to _NEAREST; 0 behind the camera
    outside: np.ndarray  # float32 [V], shade seen from the outer side, up to _BRIGHTEST
    inside: np.ndarray  # float32 [V], shade seen from the inner side
    fronts: np.ndarray  # int32 [T], the triangles to draw that show their outer side
    backs: np.ndarray  # int32 [T], and their inner side
    samples: (
        np.ndarray
    )  # int32 [fine + _BLOCK, fine + _BLOCK]; blocks may stick out at the right and below
    tiles: np.ndarray  # int32, the farthest depth in each square of samples

    def fit(self, vertices: int, triangles: int) -> "_Canvas":
        """This one, or another where a mesh needs lists of other lengths."""
        if (vertices, triangles) == (len(self.x), len(self.fronts)):
            return self
        return _Canvas.allocate(vertices, triangles, len(self.samples) - _BLOCK)

    @classmethod
    def allocate(cls, vertices: int, triangles: int, fine: int) -> "_Canvas":
        tiles = (fine >> _TILE_BITS) + 1
        return cls(
            x=np.empty(vertices, np.int32),
            y=np.empty(vertices, np.int32),
            depth=np.empty(vertices, np.float32),
            outside=np.empty(vertices, np.float32),
            inside=np.empty(vertices, np.float32),
            fronts=np.empty(triangles, np.int32),
            backs=np.empty(triangles, np.int32),
            samples=np.empty((fine + _BLOCK, fine + _BLOCK), np.int32),
            tiles=np.empty((tiles, tiles), np.int32),
        )


def _view(frame: _Frame, angles: np.ndarray, light_elevation: float) -> _View:
    azimuth, elevation, light_azimuth = angles
    turn = rotation(azimuth, elevation)
    light = light_direction(light_azimuth, light_elevation)
    half = light + np.array([0, 0, 1])  # The viewer is far away compared with the head.
    length = np.linalg.norm(half)
    if length > 1e-6:
        half /= length
    half_view = math.tan(math.radians(frame.camera.field_of_view) / 2)
    fine = frame.image_size * frame.supersample
    return _View(
        turn.astype(np.float32),
        frame.center,
        np.float32(frame.radius / half_view),
        np.float32(_STEPS * frame.camera.zoom * 0.5 * fine / half_view),
        (light @ turn).astype(np.float32),
        (half @ turn).astype(np.float32),
    )


def _surface(shading: Shading) -> _Surface:
    cosines = np.linspace(0, 1, 4097)
    gleams = shading.specular * cosines**shading.shininess
    ceiling = max(shading.ambient + shading.diffuse + shading.specular, shading.background, 1e-3)
    return _Surface(
        np.float32(shading.ambient),
        np.float32(shading.diffuse),
        np.append(gleams, gleams[-1]).astype(np.float32),
        round(shading.background / ceiling * _SHADE_MASK),
        np.float32(ceiling),
    )


@numba.njit(cache=True, nogil=True)
def _draw(
    mesh: _Surfaces,
    view: _View,
    surface: _Surface,
    canvas: _Canvas,
    supersample: int,
    image: np.ndarray,
) -> None:
    """Draws one mesh into `image`, uint8 [S, S]."""
    triangles = mesh.triangles
    _place(mesh.vertices, view, canvas)
    _shade(mesh.normals, mesh.albedo, view, surface, canvas)
    fronts, backs = _choose(triangles, canvas)
    canvas.samples[:] = surface.background - (1 << _SHADE_BITS)  # farther than any surface
    _fill(triangles, canvas.fronts[:fronts], canvas.outside, False, canvas)
    _measure_tiles(canvas)
    _fill(triangles, canvas.backs[:backs], canvas.inside, True, canvas)
    _average(canvas.samples, surface.ceiling, supersample, image)


@numba.njit(cache=True, nogil=True)
def _place(vertices: np.ndarray, view: _View, canvas: _Canvas) -> None:
    """Projects the vertices: `canvas.x`, `y` and `depth`."""
    x, y, depth = canvas.x, canvas.y, canvas.depth
    turn, center, distance, scale = view.turn, view.center, view.distance, view.scale
    near = np.float32(0.01) * distance
    middle = np.float32((len(canvas.samples) - _BLOCK) * (_STEPS // 2)) + np.float32(0.5)
    for i in range(len(vertices)):
        u, v, w = vertices[i, 0] - center[0], vertices[i, 1] - center[1], vertices[i, 2] - center[2]
        away = distance - (turn[2, 0] * u + turn[2, 1] * v + turn[2, 2] * w)
        nearness = np.float32(1) / max(away, near)
        right = middle + scale * nearness * (turn[0, 0] * u + turn[0, 1] * v + turn[0, 2] * w)
        down = middle - scale * nearness * (turn[1, 0] * u + turn[1, 1] * v + turn[1, 2] * w)
        x[i] = np.int32(np.floor(min(max(right, -_GUARD), _GUARD)))
        y[i] = np.int32(np.floor(min(max(down, -_GUARD), _GUARD)))
        depth[i] = nearness if away >= near else np.float32(0)
    # The maximum of floats that are not negative is that of their bits, which compilers are better at.
    bits = depth.view(np.int32)
    largest = np.int32(0)
    for i in range(len(bits)):
        largest = max(largest, bits[i])
    for i in range(len(depth)):
        if bits[i] == largest and largest > 0:
            full = _NEAREST / depth[i]
            for j in range(len(depth)):
                depth[j] = min(depth[j] * full, _NEAREST)
            break


@numba.njit(cache=True, nogil=True)
def _shade(
    normals: np.ndarray, albedo: np.ndarray, view: _View, surface: _Surface, canvas: _Canvas
) -> None:
    """Lights the vertices from either side: `canvas.outside` and `inside`."""
    outside, inside = canvas.outside, canvas.inside
    light, half, gleams = view.light, view.half, surface.gleams
    ambient, diffuse = surface.ambient, surface.diffuse
    full = _BRIGHTEST / surface.ceiling
    zero, one = np.float32(0), np.float32(1)
    last_index = np.int32(len(gleams) - 2)
    last = np.float32(last_index)
    for i in range(len(normals)):
        u, v, w = normals[i, 0], normals[i, 1], normals[i, 2]
        lit = u * light[0] + v * light[1] + w * light[2]
        glance = u * half[0] + v * half[1] + w * half[2]
        at = min(abs(glance), one) * last
        # Within the table even where a mesh has overflown.
        index = np.uint32(min(max(np.int32(at), np.int32(0)), last_index))
        gleam = gleams[index] + (at - np.float32(index)) * (gleams[index + 1] - gleams[index])
        gleam = gleam if glance * lit > zero else zero
        outer = albedo[i] * (ambient + diffuse * max(zero, lit)) + (gleam if lit > zero else zero)
        inner = albedo[i] * (ambient + diffuse * max(zero, -lit)) + (gleam if lit < zero else zero)
        outside[i] = min(full * outer, _BRIGHTEST)
        inside[i] = min(full * inner, _BRIGHTEST)


@numba.njit(cache=True, nogil=True)
def _choose(triangles: np.ndarray, canvas: _Canvas) -> tuple[int, int]:
    """Lists the triangles whose box holds a sample, by side: `canvas.fronts`, `backs`; returns how many."""
    x, y, depth, fronts, backs = canvas.x, canvas.y, canvas.depth, canvas.fronts, canvas.backs
    end = _STEPS * (len(canvas.samples) - _BLOCK)
    n_fronts, n_backs = 0, 0
    for t in range(len(triangles)):
        a, b, c = np.uint32(triangles[t, 0]), np.uint32(triangles[t, 1]), np.uint32(triangles[t, 2])
        left, right = _span(x[a], x[b], x[c], end)
        top, bottom = _span(y[a], y[b], y[c], end)
        area = _area(x, y, a, b, c)
        shown = (left <= right) & (top <= bottom) & (min(depth[a], depth[b], depth[c]) > 0)
        # Written anyway, counted if wanted: cheaper than a branch that nobody can predict.
        fronts[n_fronts] = t
        n_fronts += shown & (area > 0)
        backs[n_backs] = t
        n_backs += shown & (area < 0)
    return n_fronts, n_backs


@numba.njit(cache=True, nogil=True)
def _span(a: int, b: int, c: int, end: int) -> tuple[int, int]:
    """The first and the last sample between three places, within the picture; samples lie at half-integers."""
    first = (max(min(a, b, c), 0) + (_STEPS // 2 - 1)) >> _STEP_BITS
    last = (min(max(a, b, c), end) - _STEPS // 2) >> _STEP_BITS
    return first, last


@numba.njit(cache=True, nogil=True)
def _area(x: np.ndarray, y: np.ndarray, a: int, b: int, c: int) -> int:
    """Twice the area of a triangle in squared steps, positive for front faces (y points down)."""
    ax, ay = np.int64(x[a]), np.int64(y[a])
    return (x[c] - ax) * (y[b] - ay) - (y[c] - ay) * (x[b] - ax)


@numba.njit(cache=True, nogil=True)
def _fill(
    triangles: np.ndarray, chosen: np.ndarray, shade: np.ndarray, backs: bool, canvas: _Canvas
) -> None:
    """Draws the chosen triangles, which all show the same side, into `canvas.samples`."""
    x, y, depth, tiles = canvas.x, canvas.y, canvas.depth, canvas.tiles
    samples, stride = canvas.samples.reshape(-1), np.int64(canvas.samples.shape[1])
    end = _STEPS * (len(canvas.samples) - _BLOCK)
    block = np.empty(_BLOCK * _BLOCK, np.int32)
    for t in chosen:
        a, b, c = np.uint32(triangles[t, 0]), np.uint32(triangles[t, 1]), np.uint32(triangles[t, 2])
        if backs:
            b, c = c, b
        left, right = _span(x[a], x[b], x[c], end)
        top, bottom = _span(y[a], y[b], y[c], end)
        depth_a, depth_b, depth_c = depth[a], depth[b], depth[c]
        nearest = max(depth_a, depth_b, depth_c)
        if backs and _hidden(tiles, left, right, top, bottom, np.int32(nearest)):
            continue
        ax, bx, cx = np.int64(x[a]), np.int64(x[b]), np.int64(x[c])
        ay, by, cy = np.int64(y[a]), np.int64(y[b]), np.int64(y[c])

        # A sample is covered if it is on the inner side of all three edges, where these are not negative:
        #   edge_a(p) = (c - b) x (p - b), and so on around the triangle; edge_a is 0 at b and c, the area at a.
        # Samples are whole numbers of _STEPS apart, so after the first one dividing by _STEPS loses nothing.
        px, py = _STEPS * left + _STEPS // 2, _STEPS * top + _STEPS // 2
        edge_a = (cy - by) * (px - bx) - (cx - bx) * (py - by)
        edge_b = (ay - cy) * (px - cx) - (ax - cx) * (py - cy)
        edge_c = (by - ay) * (px - ax) - (bx - ax) * (py - ay)

        # Depth and shade are a's, and edge_b / area and edge_c / area of the way to b's and c's.
        per_area = 1.0 / np.float64(edge_a + edge_b + edge_c)
        per_step = _STEPS * per_area
        way_b, way_c = edge_b * per_area, edge_c * per_area
        way_right_b, way_right_c = (ay - cy) * per_step, (by - ay) * per_step
        way_down_b, way_down_c = (cx - ax) * per_step, (ax - bx) * per_step
        change_b, change_c = np.float64(depth_b - depth_a), np.float64(depth_c - depth_a)
        depth_first = depth_a + way_b * change_b + way_c * change_c
        depth_right = np.float32(way_right_b * change_b + way_right_c * change_c)
        depth_down = np.float32(way_down_b * change_b + way_down_c * change_c)
        farthest = min(depth_a, depth_b, depth_c)
        shade_a, shade_b, shade_c = shade[a], shade[b], shade[c]
        half = np.float32(0.5)  # Shades are rounded, not cut.
        change_b, change_c = np.float64(shade_b - shade_a), np.float64(shade_c - shade_a)
        shade_first = shade_a + way_b * change_b + way_c * change_c + half
        shade_right = np.float32(way_right_b * change_b + way_right_c * change_c)
        shade_down = np.float32(way_down_b * change_b + way_down_c * change_c)
        darkest = min(shade_a, shade_b, shade_c) + half
        brightest = max(shade_a, shade_b, shade_c) + half

        # Near an edge float32 is as exact as the integers were, for triangles up to 8192 samples long.
        edge_a, edge_b, edge_c = edge_a >> _STEP_BITS, edge_b >> _STEP_BITS, edge_c >> _STEP_BITS
        right_a, right_b, right_c = np.float32(cy - by), np.float32(ay - cy), np.float32(by - ay)
        down_a, down_b, down_c = np.float32(bx - cx), np.float32(cx - ax), np.float32(ax - bx)
        for i in range(0, bottom - top + 1, _BLOCK):
            for j in range(0, right - left + 1, _BLOCK):
                block_a = np.float32(edge_a + j * (cy - by) + i * (bx - cx))
                block_b = np.float32(edge_b + j * (ay - cy) + i * (cx - ax))
                block_c = np.float32(edge_c + j * (by - ay) + i * (ax - bx))
                block_depth = np.float32(depth_first + j * depth_right + i * depth_down)
                block_shade = np.float32(shade_first + j * shade_right + i * shade_down)
                # One loop without branches or calls, which compilers turn into vector instructions.
                for k in range(_BLOCK * _BLOCK):
                    across, along = _COLUMNS[k], _ROWS[k]
                    edge = min(
                        block_a + across * right_a + along * down_a,
                        block_b + across * right_b + along * down_b,
                        block_c + across * right_c + along * down_c,
                    )
                    level = block_depth + across * depth_right + along * depth_down
                    value = block_shade + across * shade_right + along * shade_down
                    level = min(max(level, farthest), nearest)
                    value = min(max(value, darkest), brightest)
                    sample = np.int32((np.int32(level) << _SHADE_BITS) | np.int32(value))
                    block[k] = sample if edge >= 0 else np.int32(_FARTHER_THAN_ALL)
                at = np.uint64((top + i) * stride + left + j)
                for row in range(_BLOCK):
                    for column in range(_BLOCK):
                        sample = block[row * _BLOCK + column]
                        samples[at + np.uint64(column)] = max(
                            samples[at + np.uint64(column)], sample
                        )
                    at += np.uint64(stride)


@numba.njit(cache=True, nogil=True)
def _hidden(tiles: np.ndarray, left: int, right: int, top: int, bottom: int, nearest: int) -> bool:
    """Whether all that is seen around a triangle is nearer than its nearest corner."""
    i, last_i = top >> _TILE_BITS, bottom >> _TILE_BITS
    j, last_j = left >> _TILE_BITS, right >> _TILE_BITS
    if last_i - i > 1 or last_j - j > 1:
        return False  # Too large to be worth looking.
    seen = min(min(tiles[i, j], tiles[i, last_j]), min(tiles[last_i, j], tiles[last_i, last_j]))
    return nearest < seen


@numba.njit(cache=True, nogil=True)
def _measure_tiles(canvas: _Canvas) -> None:
    """Finds the farthest depth in each square of samples: `canvas.tiles`."""
    samples, tiles = canvas.samples, canvas.tiles
    fine, width = len(samples) - _BLOCK, 1 << _TILE_BITS
    lowest = np.empty(tiles.shape[1] * width, np.int32)
    for i in range(len(tiles)):
        lowest[:] = (1 << 31) - 1
        for row in range(i * width, min(fine, (i + 1) * width)):
            for column in range(fine):
                lowest[column] = min(lowest[column], samples[row, column])
        for j in range(tiles.shape[1]):
            tiles[i, j] = lowest[j * width : (j + 1) * width].min() >> _SHADE_BITS


@numba.njit(cache=True, nogil=True)
def _average(samples: np.ndarray, ceiling: np.float32, supersample: int, image: np.ndarray) -> None:
    """Averages the shades of each pixel's samples into `image`, white where they are brighter."""
    size = len(image)
    share = np.float32(255.0 / _SHADE_MASK / (supersample * supersample)) * ceiling
    white = np.int32(min(np.float32(_SHADE_MASK) / ceiling, _BRIGHTEST))
    sums = np.empty(size, np.int32)
    for row in range(size):
        sums[:] = 0
        for i in range(supersample):
            for j in range(supersample):
                for column in range(size):
                    sample = samples[row * supersample + i, column * supersample + j]
                    sums[column] += min(sample & _SHADE_MASK, white)
        for column in range(size):
            image[row, column] = np.uint8(np.float32(sums[column]) * share + np.float32(0.5))
