"""The mean head as an implicit surface: negative inside, zero on the skin, about the distance outside.

Sizes in centimetres are those of adult heads as anthropometry and artists' canons give them: the pupils lie at
half the height, 6.3 apart; the nose ends 4.7 below them, the lips meet at 6.9, the chin ends at 11.4; the head is
15 wide and 19 deep. The origin lies between the pupils, at the depth of the ears.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from dcign_tf.scenes.builtin_face.shapes import bell, curve, smooth_step

EYE = np.array([3.2, 0.0, 6.75])  # center of the eyeball on the viewer's right
BALL = np.array(
    [1.62, 1.28, 1.30]
)  # its radii: wider than a ball, so that it fills the corners of the lids
_LID = np.array([1.80, 1.44, 1.46])  # radii of what the lids wrap around it


# The face and the jaw as a stack of rounded sections: by height, half the width, the front's depth.
_WIDTH = (
    (-12.5, 3.0), (-11.3, 3.8), (-10.0, 4.75), (-8.0, 5.6), (-6.0, 6.1), (-4.0, 6.45), (-2.0, 6.7),
    (0.0, 6.85), (2.0, 6.75), (5.0, 6.6),
)  # fmt: skip
_FRONT = (
    (-12.5, 8.1), (-11.0, 8.5), (-10.0, 8.7), (-8.6, 8.75), (-7.0, 9.05), (-5.0, 9.1), (-3.0, 8.85),
    (-1.0, 8.6), (0.5, 8.65), (2.0, 9.05), (3.0, 9.1), (5.0, 8.7),
)  # fmt: skip
_MIDDLE = 0.6  # depth of the sections' middles
_POWER = 2.3  # 2 is an ellipse, more is boxier

_Vector = Sequence[float] | np.ndarray


def section(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half the width and half the depth of the face's section at height y."""
    return curve(_WIDTH, y), curve(_FRONT, y) - _MIDDLE


def section_point(angle: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and z of the face's section at height y, in the direction `angle` (radians from the front)."""
    width, depth = section(y)
    sine, cosine = np.sin(angle), np.cos(angle)
    radius = (np.abs(sine) ** _POWER + np.abs(cosine) ** _POWER) ** (-1 / _POWER)
    return radius * sine * width, _MIDDLE + radius * cosine * depth


def _union(a: np.ndarray, b: np.ndarray, blend: float) -> np.ndarray:
    """The smaller of two distances; where they differ by less than `blend`, with the seam filled."""
    h = np.maximum(blend - np.abs(a - b), 0.0) / blend
    return np.minimum(a, b) - h * h * (blend / 4)


def _common(a: np.ndarray, b: np.ndarray, blend: float) -> np.ndarray:
    return -_union(-a, -b, blend)


def _cut(a: np.ndarray, b: np.ndarray, blend: float) -> np.ndarray:
    """What is in `a` but not in `b`."""
    return -_union(-a, b, blend)


def _ellipsoid(p: np.ndarray, center: _Vector, radii: _Vector, tilt: float = 0.0) -> np.ndarray:
    """An ellipsoid; `tilt` turns its x axis up, in degrees."""
    q = p - np.array(center)
    if tilt:
        c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
        q = np.stack([c * q[:, 0] + s * q[:, 1], -s * q[:, 0] + c * q[:, 1], q[:, 2]], axis=1)
    scaled = q / np.array(radii)
    inner = np.linalg.norm(scaled, axis=1)
    outer = np.linalg.norm(scaled / np.array(radii), axis=1)
    return inner * (inner - 1.0) / np.maximum(outer, 1e-9)


def _cone(
    p: np.ndarray, a: Sequence[float], b: Sequence[float], radius_a: float, radius_b: float
) -> np.ndarray:
    """A rod from a to b with round ends of different radii."""
    start, along = np.array(a), np.array(b) - np.array(a)
    t = np.clip((p - start) @ along / (along @ along), 0.0, 1.0)
    return np.linalg.norm(p - start - t[:, None] * along, axis=1) - (
        radius_a + t * (radius_b - radius_a)
    )


def _rope(p: np.ndarray, points: Sequence[tuple[float, float, float, float]]) -> np.ndarray:
    """A bent rod through points (x, y, z, radius)."""
    pieces = [_cone(p, a[:3], b[:3], a[3], b[3]) for a, b in itertools.pairwise(points)]
    distance = pieces[0]
    for piece in pieces[1:]:
        distance = _union(distance, piece, 0.15)
    return distance


def cranium(p: np.ndarray) -> np.ndarray:
    """Distance from the brain case alone, right half."""
    vault = _ellipsoid(p, (0.0, 3.3, -0.9), (7.35, 8.1, 8.9))
    forehead = _ellipsoid(p, (0.0, 4.6, 2.4), (6.3, 5.6, 6.7))
    occiput = _ellipsoid(p, (0.0, 1.6, -4.2), (6.3, 6.0, 5.5))
    return _union(_union(vault, forehead, 1.5), occiput, 1.5)


def _base(p: np.ndarray) -> np.ndarray:
    x, y, z = p.T
    width, depth = section(y)
    scaled = (np.abs(x / width) ** _POWER + np.abs((z - _MIDDLE) / depth) ** _POWER) ** (1 / _POWER)
    flat = np.hypot(x, z - _MIDDLE)
    face = flat * (1.0 - 1.0 / np.maximum(scaled, 1e-6))
    face = _common(face, y - 4.5, 2.0)
    # The lower edge of the jaw runs from under the ear to the chin and rises to the side of it.
    edge = np.array([0.0, -7.6, -1.2]), np.array([0.0, -11.2, 6.6])
    along = edge[1] - edge[0]
    normal = np.array([0.0, -along[2], along[1]]) / np.linalg.norm(along)
    face = _common(face, (p - edge[0]) @ normal - 0.03 * (6.0 - x), 1.6)
    face = _common(face, -z - 2.0, 3.0)
    head = _union(cranium(p), face, 1.2)

    neck = np.array([0.0, -8.0, -1.6]), np.array([0.0, -27.0, -5.6])
    axis = (neck[1] - neck[0]) / np.linalg.norm(neck[1] - neck[0])
    q = p - neck[0]
    height = q @ axis
    q = q - height[:, None] * axis
    flare = 5.05 + 2.5 * smooth_step(height, 9.0, 20.0) ** 2
    cylinder = np.hypot(q[:, 0], 1.02 * np.hypot(q[:, 1], q[:, 2])) - flare
    cylinder = _common(cylinder, -height - 6.0, 3.0)
    return _union(head, cylinder, 2.2)


def distance(p: np.ndarray) -> np.ndarray:
    """About the distance from the skin of points [N, 3] to the mean head's; negative inside, [N]."""
    p = np.column_stack([np.abs(p[:, 0]), p[:, 1:]])
    d = _base(p)
    # Only the front has features: the others need not pay for them.
    front = np.flatnonzero((p[:, 2] > 1.5) & (p[:, 1] < 5.5) & (p[:, 1] > -13.0) & (d < 4.0))
    d[front] = _features(p[front], d[front])
    return d


def _features(p: np.ndarray, d: np.ndarray) -> np.ndarray:
    # Cheekbones, the chin, the roundness of the teeth below the lips.
    d = _union(d, _ellipsoid(p, (3.95, -2.1, 5.1), (1.95, 1.6, 2.5), -12.0), 1.6)
    d = _union(d, _ellipsoid(p, (0.0, -10.0, 7.6), (2.4, 1.35, 1.5)), 1.2)
    d = _union(d, _ellipsoid(p, (0.0, -6.6, 6.6), (3.9, 2.6, 2.65)), 1.2)
    # Sockets, then the ridge of the brows above them.
    d = _cut(d, _ellipsoid(p, (3.3, 0.25, 9.5), (2.2, 1.25, 1.75), 4.0), 1.6)
    d = _cut(d, _ellipsoid(p, (1.6, 0.1, 9.8), (0.8, 1.1, 1.3)), 1.1)
    ridge = (
        (0.6, 2.0, 8.55, 0.45),
        (2.2, 2.3, 8.15, 0.5),
        (3.9, 2.35, 7.1, 0.45),
        (4.9, 1.8, 5.8, 0.4),
    )
    d = _union(d, _rope(p, ridge), 1.3)
    d = _union(d, _ellipsoid(p, EYE, _LID), 0.30)
    # The nose: a wedge with a narrow back, its ball, its wings.
    d = _union(d, _cone(p, (0.0, 0.2, 7.65), (0.0, -3.4, 8.95), 1.0, 1.35), 1.1)
    back = (
        (0.0, 1.6, 8.3, 0.6),
        (0.0, 0.5, 8.3, 0.5),
        (0.0, -1.4, 9.55, 0.6),
        (0.0, -3.1, 10.5, 0.72),
    )
    d = _union(d, _rope(p, back), 0.8)
    d = _union(d, _ellipsoid(p, (0.0, -3.45, 10.5), (1.0, 0.82, 0.9)), 0.5)
    d = _union(d, _ellipsoid(p, (1.15, -3.95, 9.35), (0.62, 0.60, 0.9), 10.0), 0.45)
    d = _union(d, _cone(p, (0.0, -3.95, 10.5), (0.0, -4.7, 9.1), 0.42, 0.42), 0.35)
    d = _cut(d, _ellipsoid(p, (0.68, -4.55, 9.95), (0.3, 0.30, 0.55), 12.0), 0.25)
    # The furrow from the nose to the corner of the mouth, and that above the lips.
    furrow = ((2.0, -4.0, 9.3, 0.08), (2.7, -5.2, 9.2, 0.12), (3.2, -6.6, 8.7, 0.08))
    d = _cut(d, _rope(p, furrow), 0.9)
    d = _cut(d, _cone(p, (0.0, -4.9, 10.0), (0.0, -6.0, 10.2), 0.12, 0.2), 0.35)
    upper = (
        (0.0, -6.48, 9.42, 0.52), (0.6, -6.42, 9.36, 0.53), (1.5, -6.58, 8.95, 0.44), (2.2, -6.77, 8.3, 0.3),
        (2.8, -6.9, 7.6, 0.2),
    )  # fmt: skip
    lower = (
        (0.0, -7.44, 9.22, 0.60), (0.8, -7.42, 9.1, 0.58), (1.7, -7.20, 8.62, 0.44), (2.3, -6.99, 8.1, 0.28),
        (2.8, -6.9, 7.6, 0.2),
    )  # fmt: skip
    d = _union(d, _union(_rope(p, upper), _rope(p, lower), 0.2), 0.4)
    x, y, _ = p.T
    line = curve(((0.0, -6.90), (0.8, -6.86), (1.6, -6.90), (2.5, -6.92), (3.0, -6.92)), x)
    d += 0.22 * bell(y, line, 0.11) * smooth_step(x, 2.75, 1.9)
    d += 0.06 * bell(y, -6.94, 0.3) * bell(x, 2.7, 0.28)
    # Below the lower lip.
    return _cut(d, _ellipsoid(p, (0.0, -8.65, 10.15), (2.0, 0.5, 0.95)), 0.8)


def cast(start: np.ndarray, target: np.ndarray, offset: float = 0.0) -> np.ndarray:
    """Where rays from outside first meet the skin, or the surface `offset` above it.

    Args:
        start: [N, 3], points outside.
        target: [N, 3], points inside, toward which the rays go.
        offset: height above the skin.

    Returns:
        float64 [N, 3]; the targets, for rays that meet nothing before.
    """
    ray = target - start
    length = np.linalg.norm(ray, axis=1)
    ray = ray / length[:, None]
    t = np.zeros(len(start))
    active = np.arange(len(start))
    for _ in range(60):
        step = distance(start[active] + t[active, None] * ray[active]) - offset
        # Blends and sections are not true distances: shorter steps never pass through the skin.
        t[active] = np.minimum(t[active] + 0.7 * step, length[active])
        active = active[(np.abs(step) > 2e-4) & (t[active] < length[active])]
        if not len(active):
            break
    return start + t[:, None] * ray
