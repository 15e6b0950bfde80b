"""The skin: a stack of rings around the head, cast onto the sculpture.

The rings follow what is on them (brows, lids, nose, the lips' borders and the line between them), so that edges
of shape and of shade lie on edges of the mesh. Rings have as many vertices as the detail along them needs; two
neighbors are joined like the teeth of a zip.
"""

import dataclasses

import numpy as np

from dcign_tf.scenes.builtin_face import sculpture
from dcign_tf.scenes.builtin_face.mesh import Patch
from dcign_tf.scenes.builtin_face.shapes import curve, interpolate, smooth_step

_Curve = tuple[tuple[float, float], ...]

# Rings by their height in centimetres as a function of the angle from the front in degrees (10 are about 1.2 cm).
_FOREHEAD: _Curve = ((0, 7.6), (60, 7.5), (120, 7.4), (180, 7.3))
_BROW: _Curve = ((0, 3.3), (28, 3.5), (45, 3.2), (70, 2.6), (180, 3.0))
_CREASE: _Curve = ((0, 1.25), (15, 1.25), (27, 1.35), (40, 1.1), (70, 0.9), (180, 1.2))
UPPER_LID: _Curve = (
    (0.0, 0.05), (11.0, -0.02), (13.3, -0.12), (15.0, 0.10), (19.0, 0.33), (25.5, 0.45), (33.0, 0.38),
    (39.0, 0.16), (42.0, 0.02), (46.0, 0.08), (70.0, 0.1), (180.0, 0.3),
)  # fmt: skip
LOWER_LID: _Curve = (
    (0.0, -0.30), (11.0, -0.28), (13.3, -0.24), (15.0, -0.26), (20.0, -0.40), (28.0, -0.50), (35.0, -0.42),
    (39.5, -0.20), (42.0, -0.08), (46.0, -0.12), (70.0, -0.2), (180.0, -0.1),
)  # fmt: skip
_ORBIT: _Curve = ((0, -1.7), (30, -1.8), (60, -1.6), (180, -1.2))
_NOSE_MIDDLE: _Curve = ((0, -2.9), (30, -3.0), (70, -2.6), (180, -2.0))
_NOSE_BASE: _Curve = ((0, -4.85), (13, -4.75), (20, -4.6), (40, -4.5), (90, -3.9), (180, -3.2))
UPPER_LIP: _Curve = (
    (0.0, -6.12), (4.0, -6.02), (9.0, -6.22), (15.0, -6.58), (20.5, -6.86), (26.0, -6.78), (60.0, -6.2),
    (90.0, -5.4), (180.0, -4.5),
)  # fmt: skip
MOUTH: _Curve = (
    (0.0, -6.90), (4.5, -6.84), (10.0, -6.88), (20.5, -6.92), (26.0, -6.90), (60.0, -6.4), (90.0, -5.6),
    (180.0, -4.7),
)  # fmt: skip
LOWER_LIP: _Curve = (
    (0.0, -7.95), (5.0, -7.92), (10.0, -7.72), (15.0, -7.38), (20.5, -6.98), (26.0, -7.05), (60.0, -6.6),
    (90.0, -5.8), (180.0, -4.9),
)  # fmt: skip
_BELOW_LIP: _Curve = ((0, -8.7), (20, -8.5), (50, -7.8), (90, -6.4), (180, -5.4))
_CHIN: _Curve = ((0, -11.0), (25, -10.7), (50, -9.2), (90, -7.4), (130, -6.9), (180, -6.8))
_NECK: _Curve = ((0, -13.2), (90, -12.0), (180, -10.5))
_NECK_END = -27.0  # below any picture

_CORNERS = (13.3, 42.0)  # angles of the corners of the eye

# How far apart vertices are along a ring in centimetres, by the angle from the front in degrees. From the brows to
# the mouth all rings are alike: where vertices do not lie in line, curved surfaces have ruffles.
_TOP_STEPS: _Curve = ((0, 0.8), (64, 0.8))
_FACE_STEPS: _Curve = ((0, 0.17), (11, 0.15), (14, 0.125), (42, 0.13), (48, 0.22), (64, 0.5))
_CHIN_STEPS: _Curve = ((0, 0.35), (40, 0.35), (64, 0.5))
_NECK_STEPS: _Curve = ((0, 0.8), (64, 0.8))

# From here to the back, where vertices are furthest apart, all rings have the same angles.
_SIDE = 64.0
_BEHIND = (71, 78, 85, 92, 99, 106, 113, 120, 128, 136, 145, 154, 163, 172, 180)


@dataclasses.dataclass(frozen=True)
class _Ring:
    """Rays from inside the head, one for each vertex.

    Attributes:
        angles: [N], degrees from the front, 0 to 180.
        origins: [N, 3], where the rays begin.
        through: [N, 3], points they pass, near the skin.
    """

    angles: np.ndarray
    origins: np.ndarray
    through: np.ndarray


def half() -> Patch:
    """The right half of the skin. A vertex's place is its angle from the front in degrees and its ring's number."""
    above = _vault()
    above += _band(_FOREHEAD, _BROW, 8, _TOP_STEPS, _FACE_STEPS)
    above += _band(_BROW, _CREASE, 14, _FACE_STEPS, _FACE_STEPS)
    above += _band(_CREASE, UPPER_LID, 8, _FACE_STEPS, _FACE_STEPS)
    eye = _eye()
    below = _band(LOWER_LID, _ORBIT, 9, _FACE_STEPS, _FACE_STEPS)[1:]
    below += _band(_ORBIT, _NOSE_MIDDLE, 6, _FACE_STEPS, _FACE_STEPS)
    below += _band(_NOSE_MIDDLE, _NOSE_BASE, 18, _FACE_STEPS, _FACE_STEPS)
    below += _band(_NOSE_BASE, UPPER_LIP, 8, _FACE_STEPS, _FACE_STEPS)
    below += _band(UPPER_LIP, MOUTH, 8, _FACE_STEPS, _FACE_STEPS)
    below += _band(MOUTH, LOWER_LIP, 9, _FACE_STEPS, _FACE_STEPS)
    below += _band(LOWER_LIP, _BELOW_LIP, 5, _FACE_STEPS, _CHIN_STEPS)
    below += _band(_BELOW_LIP, _CHIN, 10, _CHIN_STEPS, _CHIN_STEPS)
    below += _neck()
    rings = above + eye + below

    origins = np.concatenate([ring.origins for ring in rings])
    through = np.concatenate([ring.through for ring in rings])
    rays = through - origins
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    points = sculpture.cast(through + 5.0 * rays, origins)
    starts = np.cumsum([0] + [len(ring.angles) for ring in rings])

    # Behind the edges of the lids the skin dives below the eyeball, which hides the rest.
    upper, upper_wall, lower_wall, lower = (
        slice(starts[k], starts[k + 1]) for k in range(len(above), len(above) + 4)
    )
    inside = (eye[0].angles > _CORNERS[0]) & (eye[0].angles < _CORNERS[1])
    for edge, wall in ((upper, upper_wall), (lower, lower_wall)):
        away = (points[edge] - sculpture.EYE) / sculpture.BALL
        away *= 0.8 / np.linalg.norm(away, axis=1, keepdims=True)
        points[wall] = np.where(
            inside[:, None], sculpture.EYE + sculpture.BALL * away, points[wall]
        )

    angles = np.concatenate([ring.angles for ring in rings])
    numbers = np.repeat(np.arange(len(rings)), np.diff(starts))
    triangles = [
        _zip(rings[k].angles, rings[k + 1].angles, starts[k], starts[k + 1])
        for k in range(len(rings) - 1)
    ]
    crown = sculpture.cast(np.array([[0.0, 20.0, -0.9]]), np.array([[0.0, 2.5, -0.9]]))
    first = np.arange(len(rings[0].angles) - 1)
    triangles.append(np.stack([np.full_like(first, len(points)), first, first + 1], axis=1))
    return Patch(
        points=np.concatenate([points, crown]),
        triangles=np.concatenate(triangles),
        place=np.concatenate([np.stack([angles, numbers], axis=1), [[0.0, -1.0]]]),
        seam=np.append((angles == 0) | (angles == 180), True),
    )


def _angles(steps: _Curve, radius: float) -> np.ndarray:
    """Angles from 0 to 180 degrees, in front `steps` centimetres apart at the given radius."""
    fine = np.linspace(0.0, _SIDE, 257)
    density = np.radians(fine[1]) * radius / interpolate(steps, fine)
    total = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    count = max(4, round(total[-1]))
    front = np.interp(np.linspace(0.0, total[-1], count + 1), total, fine)
    if steps == _FACE_STEPS:
        for corner in _CORNERS:
            front[np.argmin(np.abs(front - corner))] = corner
    return np.concatenate([front, _BEHIND])


def _between(first: _Curve, second: _Curve, share: float) -> _Curve:
    """The straight mixture of two tables of steps."""
    if first == second:
        return first
    places = np.unique([place for place, _ in first + second])
    mixed = (1.0 - share) * interpolate(first, places) + share * interpolate(second, places)
    return tuple(zip(places, mixed, strict=True))


def _vault() -> list[_Ring]:
    """Rays that fan out from the middle of the head, from the crown down to the forehead."""
    center = np.array([0.0, 2.5, -0.5])
    rings = []
    for k in range(9):
        polar = np.radians(49.0 * (k + 0.5) / 8.5)
        angles = _angles(_TOP_STEPS, 8.0 * np.sin(polar))
        sine, cosine = np.sin(np.radians(angles)), np.cos(np.radians(angles))
        rays = np.stack(
            [np.sin(polar) * sine, np.full_like(sine, np.cos(polar)), np.sin(polar) * cosine],
            axis=1,
        )
        rings.append(_Ring(angles, np.broadcast_to(center, rays.shape), center + 9.0 * rays))
    return rings


def _level(angles: np.ndarray, height: np.ndarray) -> _Ring:
    """Rays that pass the section of the face at the given heights."""
    x, z = sculpture.section_point(np.radians(angles), height)
    # Level behind. In front they point down below the eyes, so that they meet the lower sides of nose, lips and
    # chin, too, and up above the brows.
    drop = curve(
        ((-11.0, 3.6), (-7.0, 1.2), (-5.0, 1.6), (-3.0, 1.0), (0.0, 0.0), (3.0, -0.6)), height
    )
    rise = height + drop * smooth_step(angles, 120.0, 60.0)
    origins = np.stack([np.zeros_like(x), rise, np.zeros_like(x)], axis=1)
    return _Ring(angles, origins, np.stack([x, height, z], axis=1))


def _band(
    upper: _Curve, lower: _Curve, count: int, upper_steps: _Curve, lower_steps: _Curve
) -> list[_Ring]:
    """Rings from the curve `upper` down to, but without, the curve `lower`."""
    rings = []
    for k in range(count):
        share = k / count
        angles = _angles(_between(upper_steps, lower_steps, share), 7.5)
        height = (1.0 - share) * curve(upper, angles) + share * curve(lower, angles)
        rings.append(_level(angles, height))
    return rings


def _eye() -> list[_Ring]:
    """The edges of the lids, with two rings between them."""
    angles = _angles(_FACE_STEPS, 7.5)
    up, low = curve(UPPER_LID, angles), curve(LOWER_LID, angles)
    return [_level(angles, up + share * (low - up)) for share in (0.0, 0.25, 0.75, 1.0)]


def _neck() -> list[_Ring]:
    """Under the jaw and down the neck."""

    def level(angles: np.ndarray, height: np.ndarray) -> _Ring:
        middle = -1.6 + 0.21 * (height + 8.0)
        sine, cosine = np.sin(np.radians(angles)), np.cos(np.radians(angles))
        return _Ring(
            angles,
            np.stack([0.0 * sine, height + 1.0, middle], axis=1),
            np.stack([5.4 * sine, height, middle + 5.4 * cosine], axis=1),
        )

    rings = []
    for k in range(9):
        share = k / 9
        angles = _angles(_between(_CHIN_STEPS, _NECK_STEPS, share), 6.5)
        chin, neck = _level(angles, curve(_CHIN, angles)), level(angles, curve(_NECK, angles))
        rings.append(
            _Ring(
                angles,
                (1.0 - share) * chin.origins + share * neck.origins,
                (1.0 - share) * chin.through + share * neck.through,
            )
        )
    angles = _angles(_NECK_STEPS, 5.5)
    for share in np.linspace(0.0, 1.0, 8):
        rings.append(level(angles, (1.0 - share) * curve(_NECK, angles) + share * _NECK_END))
    return rings


def _zip(upper: np.ndarray, lower: np.ndarray, start: int, next_start: int) -> np.ndarray:
    """Joins two rings with triangles.

    Args:
        upper: angles of the upper ring's vertices, which are numbered from `start`.
        lower: angles of the lower ring's, numbered from `next_start`.
        start: see `upper`.
        next_start: see `lower`.
    """
    triangles = []
    i = j = 0
    while i < len(upper) - 1 or j < len(lower) - 1:
        # The ring that lags behind takes the next step.
        if i == len(upper) - 1 or (
            j < len(lower) - 1 and upper[i + 1] + upper[i] > lower[j + 1] + lower[j]
        ):
            triangles.append((start + i, next_start + j, next_start + j + 1))
            j += 1
        else:
            triangles.append((start + i, next_start + j, start + i + 1))
            i += 1
    return np.array(triangles)
