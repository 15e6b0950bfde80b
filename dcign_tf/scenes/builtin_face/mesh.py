"""The mean head's mesh: skin, eyeballs, ears and hair. Right halves are made, left ones are their mirror images."""

import dataclasses
from typing import NamedTuple

import numpy as np

SKIN, EYES, EARS, HAIR = range(4)


class Patch(NamedTuple):
    """A part of the head's surface.

    Attributes:
        points: float64 [V, 3].
        triangles: [T, 3], counter-clockwise from outside.
        place: float64 [V, 2], where each vertex is on the patch; what the numbers mean is up to the patch.
        seam: bool [V], the vertices in the plane of symmetry, which both halves of a head share.
    """

    points: np.ndarray
    triangles: np.ndarray
    place: np.ndarray
    seam: np.ndarray


@dataclasses.dataclass(frozen=True)
class Mesh:
    """The mean head.

    Attributes:
        points: float64 [V, 3].
        triangles: int32 [T, 3], counter-clockwise from outside.
        part: [V], SKIN, EYES, EARS or HAIR.
        place: float64 [V, 2], where a vertex is on its part. Skin: angle from the front in degrees, and number of
            the ring; eyes: angle from the axis of sight and about it, in degrees; ears: distance from the middle,
            1 at the rim and more behind, and angle about it in degrees, 0 forward; hair: way from the crown (0) to
            the hairline (1), and angle about the head from the front in degrees.
    """

    points: np.ndarray
    triangles: np.ndarray
    part: np.ndarray
    place: np.ndarray


def join(halves: dict[int, Patch]) -> Mesh:
    """Mirrors the halves of the parts and makes one mesh of all."""
    points, triangles, parts, places = [], [], [], []
    start = 0
    for part, half in halves.items():
        whole = _mirror(half)
        points.append(whole.points)
        triangles.append(whole.triangles + start)
        parts.append(np.full(len(whole.points), part))
        places.append(whole.place)
        start += len(whole.points)
    return Mesh(
        points=np.concatenate(points),
        triangles=np.concatenate(triangles).astype(np.int32),
        part=np.concatenate(parts),
        place=np.concatenate(places),
    )


def _mirror(half: Patch) -> Patch:
    points = half.points.copy()
    points[half.seam, 0] = 0.0
    other = np.flatnonzero(~half.seam)
    image = np.arange(len(points))
    image[other] = len(points) + np.arange(len(other))
    return Patch(
        points=np.concatenate([points, points[other] * [-1.0, 1.0, 1.0]]),
        # A mirror image winds the other way around.
        triangles=np.concatenate([half.triangles, image[half.triangles][:, ::-1]]),
        place=np.concatenate([half.place, half.place[other]]),
        seam=np.concatenate([half.seam, np.zeros(len(other), bool)]),
    )


def grid(points: np.ndarray, place: np.ndarray, around: bool) -> Patch:
    """A patch of a grid of vertices whose first row is a single point, the pole.

    Args:
        points: [R, C, 3]; counter-clockwise from outside is down the rows, then along the columns.
        place: [R, C, 2].
        around: whether the last column joins the first; if not, the first and the last one lie on the seam.
    """
    rows, columns = points.shape[:2]
    number = np.maximum(np.arange(rows * columns).reshape(rows, columns) - (columns - 1), 0)
    right = np.roll(number, -1, axis=1)
    if not around:
        number, right = number[:, :-1], right[:, :-1]
    a, b, c, d = number[:-1], right[:-1], number[1:], right[1:]
    triangles = np.stack([np.stack([a, c, d], -1), np.stack([a, d, b], -1)], axis=2).reshape(-1, 3)
    triangles = triangles[
        triangles[:, 0] != triangles[:, 2]
    ]  # beside the pole there is half a cell
    seam = np.zeros((rows, columns), bool)
    if not around:
        seam[:, [0, -1]] = True
    skip = columns - 1
    return Patch(
        points.reshape(-1, 3)[skip:], triangles, place.reshape(-1, 2)[skip:], seam.ravel()[skip:]
    )
