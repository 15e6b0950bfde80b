"""The solids that chairs are put together from: closed surfaces with crisp edges where they have edges.

All are lofts: closed loops of as many points each, one after the other, joined by triangles. What is to look like
an edge has its vertices twice, so that normals, which are means over a vertex's triangles, do not run across it.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Part(NamedTuple):
    """A closed surface of one shade.

    Attributes:
        name: what it is, as in "leg".
        vertices: float64 [V, 3], centimeters.
        triangles: int64 [T, 3], counter-clockwise seen from outside.
        shade: its albedo.
    """

    name: str
    vertices: np.ndarray
    triangles: np.ndarray
    shade: float


Place = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def loft(
    name: str,
    shade: float,
    loops: np.ndarray,
    corners: Sequence[int] = (),
    joined: bool = False,
    crisp_ends: bool = True,
) -> Part:
    """Joins loops of points to a closed surface.

    Args:
        name: of the part.
        shade: of the part.
        loops: [N, M, 3], the loops in order, each closed on itself.
        corners: which points of the loops lie on an edge that runs along the loft.
        joined: whether the last loop is followed by the first one, as in a ring; otherwise the ends are capped.
        crisp_ends: whether the caps meet the sides at an edge.
    """
    rows, columns = loops.shape[:2]
    sources, triangles = _topology(rows, columns, tuple(corners), joined, crisp_ends)
    points = loops.reshape(-1, 3)
    if not joined:
        points = np.concatenate([points, loops[[0, -1]].mean(axis=1)])
    return _outward(Part(name, points[sources], triangles, shade))


@functools.cache
def _topology(
    rows: int, columns: int, corners: tuple[int, ...], joined: bool, crisp_ends: bool
) -> tuple[np.ndarray, np.ndarray]:
    """What lofts of one size have in common.

    Returns:
        sources: [V], for each vertex which point it lies on: of the loops, or one of the two middles that follow.
        triangles: [T, 3].
    """
    # Columns at corners are there twice: `after` is the copy of the strip that follows, `before` of the one before.
    is_corner = np.zeros(columns, bool)
    is_corner[list(corners)] = True
    after = np.arange(columns) + np.cumsum(is_corner)
    before = after - is_corner
    wide = columns + int(is_corner.sum())
    grid = np.empty((rows, wide), int)
    grid[:, after] = grid[:, before] = np.arange(rows * columns).reshape(rows, columns)
    sources = [grid.reshape(-1)]
    right = np.roll(before, -1)
    first = np.arange(rows if joined else rows - 1)[:, None] * wide
    second = (first + wide) % (rows * wide)
    a, b, c, d = first + after, first + right, second + right, second + after
    triangles = [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)]
    if not joined:
        count = rows * wide
        for end, row in enumerate((0, rows - 1)):
            rim, following = row * wide + after, row * wide + right
            if crisp_ends:
                sources.append(row * columns + np.arange(columns))
                rim = count + np.arange(columns)
                following = np.roll(rim, -1)
                count += columns
            sources.append(np.array([rows * columns + end]))
            middle = np.full(columns, count)
            count += 1
            fan = (middle, rim, following) if end else (middle, following, rim)
            triangles.append(np.stack(fan, -1))
    return np.concatenate(sources), np.concatenate(triangles)


def _outward(part: Part) -> Part:
    """The part with its triangles turned so that it has a positive volume."""
    a, b, c = np.moveaxis((part.vertices - part.vertices[0])[part.triangles], 1, 0)
    turned = (1, 2, 0), (2, 0, 1)
    cross = b[:, turned[0]] * c[:, turned[1]] - b[:, turned[1]] * c[:, turned[0]]
    return part if np.vdot(a, cross) > 0 else part._replace(triangles=part.triangles[:, ::-1])


# --- Sections and paths ----------------------------------------------------------------------------------


def circle(radius: float, points: int = 12) -> np.ndarray:
    """A section; [points, 2]. One of its points is the lowest."""
    angles = np.arange(points) * (2 * math.pi / points) - math.pi / 2
    return radius * np.stack([np.cos(angles), np.sin(angles)], -1)


def rectangle(width: float, height: float) -> np.ndarray:
    """A section with four corners; [4, 2]."""
    return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (width / 2, height / 2)


def superellipse(width: float, height: float, low: float, high: float, points: int) -> np.ndarray:
    """An outline between ellipse (exponent 2) and rectangle (large ones); [points, 2].

    Args:
        width: along the first axis.
        height: along the second one.
        low: exponent of the half where the second coordinate is negative.
        high: exponent of the other half.
        points: how many.
    """
    angles = np.linspace(0, 2 * math.pi, 16 * points + 1)
    across, along = np.cos(angles), np.sin(angles)
    power = 2 / np.where(along < 0, low, high)
    curve = np.stack(
        [
            np.sign(across) * np.abs(across) ** power * (width / 2),
            np.sign(along) * np.abs(along) ** power * (height / 2),
        ],
        -1,
    )
    # Even angles crowd at the corners, even steps miss them: something in between.
    steps = np.linalg.norm(np.diff(curve, axis=0), axis=1)
    measure = np.append(0, np.cumsum(steps / steps.sum() + 1 / len(steps)))
    wanted = (np.arange(points) + 0.5) * (measure[-1] / points)
    return np.stack([np.interp(wanted, measure, curve[:, i]) for i in (0, 1)], -1)


def fillet(
    points: npt.ArrayLike, radius: float, closed: bool = False, steps: int = 5
) -> np.ndarray:
    """A path through `points` whose corners are rounded; [N, 3].

    Args:
        points: [n, 3].
        radius: how far before and after a corner the path leaves the straight lines, where these are long enough.
        closed: whether the last point is followed by the first one.
        steps: points of a rounded corner, less one.
    """
    corners = np.asarray(points, float)
    n = len(corners)
    path = []
    t = np.linspace(0, 1, steps + 1)[:, None]
    for i, corner in enumerate(corners):
        if not closed and i in (0, n - 1):
            path.append(corner[None])
            continue
        to_last, to_next = corners[i - 1] - corner, corners[(i + 1) % n] - corner
        reach = min(radius, 0.49 * np.linalg.norm(to_last), 0.49 * np.linalg.norm(to_next))
        start = corner + to_last / np.linalg.norm(to_last) * reach
        end = corner + to_next / np.linalg.norm(to_next) * reach
        path.append((1 - t) ** 2 * start + 2 * t * (1 - t) * corner + t**2 * end)
    return np.concatenate(path)


# --- Solids ----------------------------------------------------------------------------------------------


def sweep(
    name: str,
    shade: float,
    path: npt.ArrayLike,
    section: np.ndarray,
    across: npt.ArrayLike,
    closed: bool = False,
) -> Part:
    """Moves a section along a path.

    Args:
        name: of the part.
        shade: of the part.
        path: [N, 3].
        section: [M, 2], or [N, M, 2] where it changes; four points are taken for corners.
        across: the direction of the section's first axis, apart from what of it is along the path.
        closed: whether the path is a ring.
    """
    points = np.asarray(path, float)
    tangents = _tangents(points, closed)
    first = np.asarray(across, float) - tangents * (tangents @ np.asarray(across, float))[:, None]
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    return _swept(name, shade, points, section, tangents, first, closed)


def tube(name: str, shade: float, path: npt.ArrayLike, radius: float, points: int = 12) -> Part:
    """A round bar along any open path [N, 3]."""
    middle = np.asarray(path, float)
    tangents = _tangents(middle, False)
    # Carried along, the section does not twist.
    side = np.cross(tangents[0], np.eye(3)[np.argmin(np.abs(tangents[0]))])
    first = np.empty_like(middle)
    for i, tangent in enumerate(tangents):
        side = side - tangent * (side @ tangent)
        side /= np.linalg.norm(side)
        first[i] = side
    return _swept(name, shade, middle, circle(radius, points), tangents, first, False)


def _tangents(points: np.ndarray, closed: bool) -> np.ndarray:
    steps = np.roll(points, -1, axis=0) - points
    steps /= np.maximum(np.linalg.norm(steps, axis=1, keepdims=True), 1e-9)
    tangents = steps + np.roll(steps, 1, axis=0)
    if not closed:
        tangents[0], tangents[-1] = steps[0], steps[-2]
    return tangents / np.linalg.norm(tangents, axis=1, keepdims=True)


def _swept(
    name: str,
    shade: float,
    points: np.ndarray,
    section: np.ndarray,
    tangents: np.ndarray,
    first: np.ndarray,
    closed: bool,
) -> Part:
    second = np.cross(first, tangents)
    second *= np.where(second[:, 1].sum() < 0, -1, 1)  # up, where there is an up
    sections = np.broadcast_to(section, (len(points), *section.shape[-2:]))
    loops = (
        points[:, None] + sections[..., :1] * first[:, None] + sections[..., 1:] * second[:, None]
    )
    corners = range(4) if section.shape[-2] == 4 else ()
    return loft(name, shade, loops, corners, joined=closed)


def post(
    name: str, shade: float, path: npt.ArrayLike, section: np.ndarray, sizes: npt.ArrayLike
) -> Part:
    """A bar that goes up; its sections are level, so that it stands flat on the ground.

    Args:
        name: of the part.
        shade: of the part.
        path: [N, 3].
        section: [M, 2], x and z; four points are taken for corners.
        sizes: [N], what the section is multiplied by.
    """
    points = np.asarray(path, float)
    loops = np.repeat(points[:, None], len(section), axis=1)
    loops[..., [0, 2]] += np.asarray(sizes)[:, None, None] * section
    return loft(name, shade, loops, range(4) if len(section) == 4 else ())


def lathe(
    name: str,
    shade: float,
    profile: npt.ArrayLike,
    center: npt.ArrayLike = (0.0, 0.0, 0.0),
    points: int = 32,
    axis: int = 1,
) -> Part:
    """A turned solid.

    Args:
        name: of the part.
        shade: of the part.
        profile: [N, 2], radius and place along the axis. Where it turns by much, two rows at one place make an edge.
        center: what the axis goes through.
        points: of a circle.
        axis: 0, 1 or 2 for x, y or z.
    """
    radius, along = np.asarray(profile, float).T
    round_ = circle(1.0, points)
    loops = np.empty((len(radius), points, 3))
    loops[..., axis] = along[:, None]
    loops[..., (axis + 1) % 3] = radius[:, None] * round_[:, 1]
    loops[..., (axis + 2) % 3] = radius[:, None] * round_[:, 0]
    return loft(name, shade, loops + np.asarray(center))


def slab(
    name: str,
    shade: float,
    outline: np.ndarray,
    thickness: float,
    edge: float,
    place: Place,
    dome: float = 0.0,
) -> Part:
    """A panel or a cushion: an outline, thickened, its edges rounded.

    Args:
        name: of the part.
        shade: of the part.
        outline: [M, 2], counter-clockwise about the origin.
        thickness: between the two faces at the edge.
        edge: radius of the rounded edges, at most half the thickness.
        place: takes coordinates of any one shape, the outline's two and the height above the lower face, to
            points in space [..., 3].
        dome: how much higher the upper face is in the middle.
    """
    size = np.abs(outline).max(axis=0)
    edge = min(edge, 0.499 * thickness, 0.9 * float(size.min()))
    steps = 4 if edge > 0.8 else 2
    angles = np.linspace(0, math.pi / 2, steps + 1)
    inside = np.array([0.08, 0.3, 0.55, 0.78, 0.93])
    rims = [(scale, edge, 0.0) for scale in inside]
    rims += [(1.0, edge * (1 - math.sin(a)), edge * (1 - math.cos(a))) for a in angles]
    rims += [(1.0, edge * (1 - math.cos(a)), thickness - edge * (1 - math.sin(a))) for a in angles]
    rims += [(scale, edge, thickness) for scale in inside[::-1]]
    loops = np.empty((len(rims), len(outline), 3))
    # Over a square, what depends on the distance from the rim alone is a pyramid; this is a pillow.
    parabolas = [np.prod(1 - (scale * outline / size) ** 2, axis=1) for scale, _, _ in rims]
    flat = np.prod(1 - (outline / size) ** 2, axis=1)
    for row, (scale, inset, height) in enumerate(rims):
        rise = dome * (parabolas[row] - flat) / (1 - flat)
        # Not along the normals: these meet where corners are tighter than the edge is round.
        loops[row, :, :2] = scale * outline * (1 - inset / size)
        loops[row, :, 2] = height + rise * height / thickness
    return loft(name, shade, place(loops[..., 0], loops[..., 1], loops[..., 2]), crisp_ends=False)


def sheet(name: str, shade: float, rows: int, place: Place, across: int = 19) -> Part:
    """A bent sheet with rounded side edges, row by row.

    Args:
        name: of the part.
        shade: of the part.
        rows: how many.
        place: takes row numbers, places across from -1 to 1, and heights above the middle of the sheet from -0.5 to
            0.5 of its thickness, all of one shape, to points in space [..., 3].
        across: points across.
    """
    across_once = np.cos(np.linspace(math.pi, 0, across))  # closer at the edges
    u = np.concatenate([across_once, across_once[::-1]])
    height = np.repeat([0.5, -0.5], across) * np.sqrt(1 - 0.8 * u**12)
    row = np.arange(rows, dtype=float)
    loops = place(*np.broadcast_arrays(row[:, None], u, height))
    return loft(name, shade, loops)
