"""The mean head's mesh: skin, eyeballs, ears and hair, dense where faces differ.

The skin is a stack of rings around the head. The rings follow what is on them (lids, the lips' borders, the line
of the mouth, the nose's base), so that edges of shape and of shade lie on edges of the mesh; each ring has its
own number of vertices, as many as the detail along it needs, and two neighbors are joined like the teeth of a
zip. Only the right half is made; the left one is its mirror image, so the mean is exactly symmetric.
"""

import dataclasses

import numpy as np

from dcign_tf.scenes.builtin_face import sculpture
from dcign_tf.scenes.builtin_face.sculpture import curve, smooth_step

SKIN, EYES, EARS, HAIR = range(4)


@dataclasses.dataclass(frozen=True)
class Mesh:
    """The mean head.

    Attributes:
        points: float64 [V, 3].
        triangles: int32 [T, 3], counter-clockwise from outside.
        part: [V], SKIN, EYES, EARS or HAIR.
        place: float64 [V, 2], where a vertex is on its part. Skin: the nominal angle from the front in degrees
            and the row's number; eyes: angle from the axis of sight and about it, in degrees; ears: distance
            from the middle to the rim (more than 1 is behind) and angle about it in degrees; hair: way from the
            crown (0) to the hairline (1) and angle about the crown from the front in degrees.
    """

    points: np.ndarray
    triangles: np.ndarray
    part: np.ndarray
    place: np.ndarray


# Rings of the skin by height as a function of the angle from the front in degrees (10 are about 1.2 cm).
_BROW_TOP = ((0, 3.3), (28, 3.5), (45, 3.2), (70, 2.6), (180, 3.0))
_CREASE = ((0, 1.25), (15, 1.25), (27, 1.35), (40, 1.1), (70, 0.9), (180, 1.2))
UPPER_LID = (
    (0.0, 0.05), (11.0, -0.02), (13.3, -0.12), (15.0, 0.10), (19.0, 0.33), (25.5, 0.45), (33.0, 0.38),
    (39.0, 0.16), (42.0, 0.02), (46.0, 0.08), (70.0, 0.1), (180.0, 0.3),
)  # fmt: skip
LOWER_LID = (
    (0.0, -0.30), (11.0, -0.28), (13.3, -0.24), (15.0, -0.26), (20.0, -0.40), (28.0, -0.50), (35.0, -0.42),
    (39.5, -0.20), (42.0, -0.08), (46.0, -0.12), (70.0, -0.2), (180.0, -0.1),
)  # fmt: skip
FISSURE = (13.3, 42.0)  # the corners of the eye
_ORBIT = ((0, -1.7), (30, -1.8), (60, -1.6), (180, -1.2))
_NOSE_MIDDLE = ((0, -2.9), (30, -3.0), (70, -2.6), (180, -2.0))
_NOSE_BASE = ((0, -4.85), (13, -4.75), (20, -4.6), (40, -4.5), (90, -3.9), (180, -3.2))
UPPER_LIP = (
    (0.0, -6.12), (4.0, -6.02), (9.0, -6.22), (15.0, -6.58), (20.5, -6.86), (26.0, -6.78), (60.0, -6.2),
    (90.0, -5.4), (180.0, -4.5),
)  # fmt: skip
MOUTH = (
    (0.0, -6.90), (4.5, -6.84), (10.0, -6.88), (20.5, -6.92), (26.0, -6.90), (60.0, -6.4), (90.0, -5.6),
    (180.0, -4.7),
)  # fmt: skip
LOWER_LIP = (
    (0.0, -7.95), (5.0, -7.92), (10.0, -7.72), (15.0, -7.38), (20.5, -6.98), (26.0, -7.05), (60.0, -6.6),
    (90.0, -5.8), (180.0, -4.9),
)  # fmt: skip
_BELOW_LIP = ((0, -8.7), (20, -8.5), (50, -7.8), (90, -6.4), (180, -5.4))
_CHIN = ((0, -11.0), (25, -10.7), (50, -9.2), (90, -7.4), (130, -6.9), (180, -6.8))

# How far apart vertices are along a ring, by the angle from the front (degrees to cm).
_TOP_STEPS = ((0, 0.8), (60, 0.8), (180, 1.2))
_BROW_STEPS = ((0, 0.3), (8, 0.2), (48, 0.2), (60, 0.5), (90, 0.7), (180, 1.3))
_EYE_STEPS = (
    (0, 0.22),
    (11, 0.15),
    (14, 0.11),
    (42, 0.12),
    (48, 0.2),
    (65, 0.5),
    (90, 0.7),
    (180, 1.3),
)
_NOSE_STEPS = ((0, 0.14), (14, 0.14), (20, 0.2), (30, 0.32), (60, 0.5), (90, 0.6), (180, 1.3))
_LIP_STEPS = ((0, 0.13), (20, 0.14), (26, 0.22), (40, 0.4), (60, 0.5), (90, 0.6), (180, 1.3))
_CHIN_STEPS = ((0, 0.35), (40, 0.35), (60, 0.5), (90, 0.6), (180, 1.3))
_NECK_STEPS = ((0, 0.8), (180, 1.2))


@dataclasses.dataclass(frozen=True)
class _Ring:
    name: str
    angles: np.ndarray  # degrees from the front, 0 to 180
    targets: np.ndarray  # where rays through the ring's vertices go
    through: np.ndarray  # and what points they pass


# From here to the back all rings have the same angles: so far apart, vertices that did not lie in line with those
# of the next ring would make ruffles.
_SIDE = 64.0
_BEHIND = np.array(
    [
        71.0,
        78.0,
        85.0,
        92.0,
        99.0,
        106.0,
        113.0,
        120.0,
        128.0,
        136.0,
        145.0,
        154.0,
        163.0,
        172.0,
        180.0,
    ]
)


def _angles(steps: tuple[tuple[float, float], ...], radius: float) -> np.ndarray:
    """Angles from 0 to 180 degrees, in front `steps` centimetres apart at the given radius."""
    fine = np.linspace(0.0, _SIDE, 257)
    xs, ys = zip(*steps, strict=True)
    count = np.radians(fine[1]) * radius / np.interp(fine, xs, ys)
    total = np.concatenate([[0.0], np.cumsum((count[1:] + count[:-1]) / 2)])
    front = np.interp(np.linspace(0.0, total[-1], max(4, round(total[-1])) + 1), total, fine)
    return np.concatenate([front, _BEHIND])


def _rings() -> list[_Ring]:
    rings: list[_Ring] = []

    # The vault: rays fan out from the middle of the head, from the crown down.
    center = np.array([0.0, 2.5, -0.5])
    for k in range(1, 10):
        polar = np.radians(49.0 * (k - 0.5) / 8.5)
        around = _angles(_TOP_STEPS, 8.0 * np.sin(polar))
        turn = np.radians(around)
        through = center + 9.0 * np.stack(
            [np.sin(polar) * np.sin(turn), np.cos(polar) + 0 * turn, np.sin(polar) * np.cos(turn)],
            axis=1,
        )
        rings.append(_Ring("vault", around, np.broadcast_to(center, through.shape), through))

    def band(name, upper, lower, count, upper_steps, lower_steps, first=0):  # type: ignore
        for k in range(first, count):
            f = k / count
            steps = tuple(
                (
                    a,
                    (1 - f) * np.interp(a, *zip(*upper_steps))
                    + f * np.interp(a, *zip(*lower_steps)),
                )
                for a in sorted({a for a, _ in upper_steps} | {a for a, _ in lower_steps})
            )
            around = _angles(steps, 7.5)
            rings.append(
                around_ring(name, around, (1 - f) * curve(upper, around) + f * curve(lower, around))
            )

    def around_ring(name, around, y):  # type: ignore
        x, z = sculpture.section_point(np.radians(around), y)
        through = np.stack([x, y, z], axis=1)
        # Rays point down a little below the nose and more toward the chin, up above the brows.
        drop = curve(((-11, 3.6), (-7, 1.2), (-5, 1.6), (-3.0, 1.0), (0, 0.0), (3, -0.6)), y)
        targets = np.stack([0 * y, y + drop * smooth_step(around, 120, 60), 0 * y], axis=1)
        return _Ring(name, around, targets, through)

    hair = tuple((a, 7.6 - 0.3 * (a / 180)) for a in (0, 60, 120, 180))
    band("forehead", hair, _BROW_TOP, 8, _TOP_STEPS, _BROW_STEPS)
    band("brow", _BROW_TOP, _CREASE, 14, _BROW_STEPS, _EYE_STEPS)
    band("upper_lid", _CREASE, UPPER_LID, 8, _EYE_STEPS, _EYE_STEPS)
    around = _angles(_EYE_STEPS, 7.5)
    # The corners of the eye must be vertices.
    for corner in FISSURE:
        around[np.argmin(np.abs(around - corner))] = corner
    up, low = curve(UPPER_LID, around), curve(LOWER_LID, around)
    middle, half = (up + low) / 2, (up - low) / 2
    rings.append(around_ring("upper_margin", around, up))
    rings.append(around_ring("upper_wall", around, middle + 0.5 * half))
    rings.append(around_ring("lower_wall", around, middle - 0.5 * half))
    band("lower_lid", LOWER_LID, _ORBIT, 9, _EYE_STEPS, _EYE_STEPS)
    rings[-9] = around_ring("lower_margin", around, low)
    band("nose", _ORBIT, _NOSE_MIDDLE, 6, _EYE_STEPS, _NOSE_STEPS)
    band("nose_base", _NOSE_MIDDLE, _NOSE_BASE, 18, _NOSE_STEPS, _NOSE_STEPS)
    band("philtrum", _NOSE_BASE, UPPER_LIP, 8, _NOSE_STEPS, _LIP_STEPS)
    band("upper_lip", UPPER_LIP, MOUTH, 8, _LIP_STEPS, _LIP_STEPS)
    band("lower_lip", MOUTH, LOWER_LIP, 9, _LIP_STEPS, _LIP_STEPS)
    band("below_lip", LOWER_LIP, _BELOW_LIP, 5, _LIP_STEPS, _CHIN_STEPS)
    band("chin", _BELOW_LIP, _CHIN, 10, _CHIN_STEPS, _CHIN_STEPS)

    # Under the jaw and down the neck, to where no picture reaches.
    def neck(around, y):  # type: ignore
        turn = np.radians(around)
        middle = -1.6 - 0.21 * (-8.0 - y)
        through = np.stack([5.4 * np.sin(turn), y, middle + 5.4 * np.cos(turn)], axis=1)
        return through, np.stack([0 * y, y + 1.0, middle], axis=1)

    for k in range(9):
        f = k / 9
        steps = tuple(
            (a, (1 - f) * np.interp(a, *zip(*_CHIN_STEPS)) + f * np.interp(a, *zip(*_NECK_STEPS)))
            for a in (0, 40, 60, 90, 180)
        )
        around = _angles(steps, 6.5)
        top = around_ring("", around, curve(_CHIN, around))
        end, end_target = neck(around, curve(((0, -13.2), (90, -12.0), (180, -10.5)), around))
        rings.append(
            _Ring(
                "under_chin",
                around,
                (1 - f) * top.targets + f * end_target,
                (1 - f) * top.through + f * end,
            )
        )
    for k in range(8):
        around = _angles(_NECK_STEPS, 5.5)
        f = k / 7
        through, targets = neck(
            around, (1 - f) * curve(((0, -13.2), (90, -12.0), (180, -10.5)), around) + f * -27.0
        )
        rings.append(_Ring("neck", around, targets, through))
    return rings


def _zip(first: np.ndarray, second: np.ndarray, a: int, b: int) -> list[tuple[int, int, int]]:
    """Joins two rings, of angles `first` above and `second` below, whose vertices start at a and b."""
    triangles = []
    i = j = 0
    while i < len(first) - 1 or j < len(second) - 1:
        down = i == len(first) - 1 or (
            j < len(second) - 1 and first[i + 1] + first[i] > second[j + 1] + second[j]
        )
        if down:
            triangles.append((a + i, b + j, b + j + 1))
            j += 1
        else:
            triangles.append((a + i, b + j, a + i + 1))
            i += 1
    return triangles


def _half_skin() -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    rings = _rings()
    targets = np.concatenate([ring.targets for ring in rings])
    through = np.concatenate([ring.through for ring in rings])
    away = through - targets
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    points = sculpture.cast(through + 5.0 * away, targets)
    starts = np.cumsum([0] + [len(ring.angles) for ring in rings])
    for row, ring in enumerate(rings):
        if ring.name in ("upper_wall", "lower_wall"):
            # Behind the edge of the lid the skin dives under the eyeball, which hides its end.
            margin = row - 1 if ring.name == "upper_wall" else row + 1
            edge = points[starts[margin] : starts[margin + 1]]
            q = (edge - sculpture.EYE) / sculpture.BALL
            inner = sculpture.EYE + sculpture.BALL * 0.80 * q / np.linalg.norm(
                q, axis=1, keepdims=True
            )
            inside = (ring.angles > FISSURE[0]) & (ring.angles < FISSURE[1])
            rows = points[starts[row] : starts[row + 1]]
            rows[inside] = inner[inside]
    place = np.concatenate(
        [
            np.stack([ring.angles, np.full(len(ring.angles), row)], axis=1)
            for row, ring in enumerate(rings)
        ]
    )
    triangles: list[tuple[int, int, int]] = []
    for row in range(len(rings) - 1):
        triangles += _zip(rings[row].angles, rings[row + 1].angles, starts[row], starts[row + 1])
    # The crown.
    top = sculpture.cast(np.array([[0.0, 20.0, -0.9]]), np.array([[0.0, 2.5, -0.9]]))
    count = len(points)
    points = np.concatenate([points, top])
    place = np.concatenate([place, [[0.0, -1.0]]])
    triangles += [(count, i, i + 1) for i in range(len(rings[0].angles) - 1)]
    return points, np.array(triangles), place, [ring.name for ring in rings]


def _mirror(points: np.ndarray, triangles: np.ndarray, place: np.ndarray, seam: np.ndarray):  # type: ignore
    """Adds the mirror image of a half, sharing the vertices on the `seam`."""
    points = points.copy()
    points[seam, 0] = 0.0
    other = np.flatnonzero(~seam)
    image = np.arange(len(points))
    image[other] = len(points) + np.arange(len(other))
    mirrored = points[other] * [-1.0, 1.0, 1.0]
    return (
        np.concatenate([points, mirrored]),
        np.concatenate([triangles, image[triangles][:, ::-1]]),
        np.concatenate([place, place[other]]),
    )


def _grid(rows: int, columns: int, around: bool) -> np.ndarray:
    """Triangles of a grid of vertices in row order, closed around if wanted."""
    out = []
    for r in range(rows - 1):
        for c in range(columns if around else columns - 1):
            n = (c + 1) % columns
            a, b = r * columns + c, r * columns + n
            d, e = a + columns, b + columns
            out += [(a, d, e), (a, e, b)]
    return np.array(out)


def _merge_pole(
    points: np.ndarray, triangles: np.ndarray, place: np.ndarray, columns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Makes one vertex of a grid's first row, whose vertices all lie in one place."""
    triangles = np.maximum(triangles - (columns - 1), 0)
    whole = (triangles[:, 0] != triangles[:, 1]) & (triangles[:, 0] != triangles[:, 2])
    whole &= triangles[:, 1] != triangles[:, 2]
    return points[columns - 1 :], triangles[whole], place[columns - 1 :]


def _eyeball() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # Rings about the axis of sight, close together at the edges of pupil and iris.
    tilt = np.array(
        [0.0, 4.0, 8.0, 9.5, 14.0, 20.0, 25.5, 27.5, 30.0, 36.0, 46.0, 58.0, 70.0, 84.0, 100.0]
    )
    columns = 28
    around = np.arange(columns) * 360.0 / columns
    t, a = np.meshgrid(np.radians(tilt), np.radians(around), indexing="ij")
    # The iris is a circle on an eyeball that is not a ball.
    size = np.sin(t)[..., None] * np.stack([np.cos(a), np.sin(a)], axis=-1)
    round_size = np.array([1.28, 1.28]) * size
    wide = sculpture.BALL[:2] * size
    w = smooth_step(np.degrees(t), 28.0, 60.0)[..., None]
    xy = (1 - w) * round_size + w * wide
    depth = np.cos(t) * sculpture.BALL[2]
    cornea = 0.06 * smooth_step(np.degrees(t), 32.0, 10.0)
    points = sculpture.EYE + np.concatenate([xy, (depth + cornea)[..., None]], axis=-1)
    points = points.reshape(-1, 3)
    place = np.stack([np.degrees(t).ravel(), np.degrees(a).ravel()], axis=1)
    return _merge_pole(points, _grid(len(tilt), columns, True), place, columns)


# The ear's outline around its middle: forward and up, in centimetres.
_EAR_OUTLINE = (
    (1.05, 0.9), (0.95, 1.7), (0.62, 2.4), (0.0, 2.85), (-0.8, 2.9), (-1.5, 2.5), (-1.92, 1.75), (-2.0, 0.8),
    (-1.85, -0.1), (-1.55, -0.95), (-1.25, -1.7), (-0.95, -2.4), (-0.5, -2.9), (0.1, -3.05), (0.6, -2.75),
    (0.85, -2.1), (0.98, -1.3), (1.05, -0.5), (1.08, 0.2),
)  # fmt: skip


def _ear() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    outline = np.array(_EAR_OUTLINE)
    columns = 40
    closed = np.concatenate([outline, outline[:1]])
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    # A periodic smoothing of the outline: Catmull-Rom through its points.
    s = np.arange(columns) * way[-1] / columns
    i = np.clip(np.searchsorted(way, s, side="right") - 1, 0, len(outline) - 1)
    t = ((s - way[i]) / (way[i + 1] - way[i]))[:, None]
    n = len(outline)
    a, b, c, d = (outline[(i + k) % n] for k in (-1, 0, 1, 2))
    rim = 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    )
    middle = np.array([0.15, -0.1])
    angle = np.degrees(np.arctan2(rim[:, 1] - middle[1], rim[:, 0] - middle[0]))  # 0 is forward
    rho = np.array(
        [
            0.0,
            0.12,
            0.24,
            0.34,
            0.44,
            0.53,
            0.61,
            0.68,
            0.75,
            0.82,
            0.88,
            0.94,
            0.985,
            1.0,
            0.97,
            0.88,
            0.7,
        ]
    )
    behind = np.arange(len(rho)) > 13
    r = rho[:, None]
    flat = middle + r[..., None] * (rim - middle)  # [R, C, 2]
    # How much helix there is: from the front at the top around the back, fading into the lobe.
    turn = angle % 360.0
    helix = smooth_step(turn, 15.0, 50.0) * smooth_step(turn, 262.0, 215.0)
    fold = smooth_step(turn, 35.0, 80.0) * smooth_step(turn, 250.0, 200.0)
    height = 0.42 * helix * np.exp(-0.5 * ((r - 0.93) / 0.075) ** 2)
    height += 0.36 * fold * np.exp(-0.5 * ((r - 0.58) / 0.10) ** 2)
    height += 0.30 * np.exp(
        -0.5 * ((flat[..., 0] - 0.75) / 0.3) ** 2 - 0.5 * ((flat[..., 1] + 0.25) / 0.5) ** 2
    )
    height -= 0.75 * np.exp(
        -0.5 * ((flat[..., 0] - 0.1) / 0.5) ** 2 - 0.5 * ((flat[..., 1] + 0.2) / 0.7) ** 2
    )
    height += 0.12 * np.exp(
        -0.5 * ((flat[..., 0] - 0.1) / 0.6) ** 2 - 0.5 * ((flat[..., 1] + 2.2) / 0.6) ** 2
    )
    thickness = np.array([0.0] * 13 + [0.12, 0.3, 0.5, 1.1])[:, None]
    height = np.where(behind[:, None], 0.25 * helix, height) - thickness * np.ones(columns)
    # The back of the ear stands away from the head.
    out = 0.22 + 0.38 * np.maximum(1.0 - flat[..., 0], 0.0)
    slant = np.radians(-8.0)
    forward, up = flat[..., 0], flat[..., 1]
    z = forward * np.cos(slant) - up * np.sin(-slant)
    y = forward * np.sin(-slant) + up * np.cos(slant)
    lean = 0.05 * up
    base = sculpture.EAR
    points = np.stack(
        [base[0] + out + height * 0.9 + lean, base[1] + y, base[2] + z + 0.35 * height], axis=-1
    )
    place = np.stack(
        [
            np.where(behind[:, None], 2.0 - r, r) * np.ones(columns),
            np.broadcast_to(turn, (len(rho), columns)),
        ],
        axis=-1,
    )
    # The outline runs clockwise, seen from outside.
    triangles = _grid(len(rho), columns, True)[:, ::-1]
    return _merge_pole(points.reshape(-1, 3), triangles, place.reshape(-1, 2), columns)


# The hairline: angle about the crown from the front (degrees), height, how far the hair stands off the scalp.
HAIRLINE = (
    (0.0, 6.7), (20.0, 6.9), (32.0, 7.0), (42.0, 6.5), (50.0, 5.4), (57.0, 3.9), (63.0, 2.2), (70.0, -0.2),
    (76.0, -1.7), (82.0, -2.0), (88.0, -1.2), (96.0, 1.4), (108.0, 2.2), (120.0, 0.6), (130.0, -3.2),
    (145.0, -6.6), (180.0, -8.0),
)  # fmt: skip
CROWN = np.array([0.0, 2.5, -0.8])


def hair_profile(s: np.ndarray) -> np.ndarray:
    """How far hair stands off the scalp, from 1 about the crown (s = 0) to 0 near the hairline (1)."""
    return np.sqrt(np.clip(1.0 - np.clip((s - 0.55) / 0.41, 0.0, 1.0) ** 2, 0.0, 1.0))


def _half_hair() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    columns = 61
    around = np.interp(np.linspace(0, 1, columns), [0, 0.3, 0.78, 1.0], [0.0, 48.0, 135.0, 180.0])
    y = (
        curve(HAIRLINE, around)
        + 0.06 * np.cos(np.radians(around) * 19)
        + 0.05 * np.cos(np.radians(around) * 43)
    )
    turn = np.radians(around)
    through = np.stack([9.0 * np.sin(turn), y, CROWN[2] + 9.5 * np.cos(turn)], axis=1)
    targets = np.stack([0 * y, y - 0.12 * (y - 2.5), 0 * y + CROWN[2]], axis=1)
    edge = sculpture.cast(through + 4.0 * (through - targets) / 9.0, targets)
    ends = edge - CROWN
    ends /= np.linalg.norm(ends, axis=1, keepdims=True)
    top = np.array([0.0, 1.0, -0.18]) / np.linalg.norm([0.0, 1.0, -0.18])
    way = np.array(
        [
            0.0,
            0.05,
            0.12,
            0.2,
            0.28,
            0.36,
            0.44,
            0.52,
            0.6,
            0.67,
            0.74,
            0.8,
            0.85,
            0.89,
            0.925,
            0.95,
            0.975,
            1.0,
        ]
    )
    full = np.arccos(np.clip(ends @ top, -1, 1))
    angle = way[:, None] * full
    directions = (np.sin(full - angle)[..., None] * top + np.sin(angle)[..., None] * ends) / np.sin(
        full
    )[:, None]
    directions = directions.reshape(-1, 3)
    scalp = sculpture.cast(CROWN + 18.0 * directions, np.broadcast_to(CROWN, directions.shape))
    s, a = (v.ravel() for v in np.broadcast_arrays(way[:, None], around))
    volume = curve(
        ((0, 1.1), (40, 1.0), (60, 0.8), (85, 0.6), (110, 0.75), (135, 0.85), (180, 0.85)), a
    )
    volume = 1.2 + (volume - 1.2) * smooth_step(s, 0.0, 0.6)
    height = volume * hair_profile(s)
    height = np.where(s > 0.96, -0.35 * (s - 0.96) / 0.04, height)
    # Little hair above the ears, so that they stand out of it; tufts combed back from the face.
    x, hy, z = scalp.T
    height *= 1.0 - 0.7 * np.exp(-0.5 * ((hy - 0.5) / 3.2) ** 2 - 0.5 * ((z + 1.2) / 3.0) ** 2) * (
        a > 60
    )
    tufts = np.cos(np.radians(a) * 16 + 1.5 * s) + 0.7 * np.cos(np.radians(a) * 27 + 1.0 - 2.5 * s)
    height += 0.06 * tufts * smooth_step(s, 0.08, 0.4) * (s < 0.96) * np.minimum(height, 1.0)
    points = scalp + height[:, None] * directions
    place = np.stack([s, a], axis=1)
    triangles = _grid(len(way), columns, False)
    place[:columns, 1] = 0.0
    return _merge_pole(points, triangles, place, columns)


def build() -> Mesh:
    """Makes the mean head's mesh."""
    points, triangles, place, _ = _half_skin()
    pieces = [(SKIN, *_mirror(points, triangles, place, (place[:, 0] == 0) | (place[:, 0] == 180)))]
    nobody = np.zeros(10**6, bool)
    for part, (points, triangles, place) in ((EYES, _eyeball()), (EARS, _ear())):
        pieces.append((part, *_mirror(points, triangles, place, nobody[: len(points)])))
    points, triangles, place = _half_hair()
    pieces.append(
        (HAIR, *_mirror(points, triangles, place, (place[:, 1] == 0) | (place[:, 1] == 180)))
    )
    start = 0
    all_triangles = []
    for _, points, triangles, _ in pieces:
        all_triangles.append(triangles + start)
        start += len(points)
    return Mesh(
        points=np.concatenate([piece[1] for piece in pieces]),
        triangles=np.concatenate(all_triangles).astype(np.int32),
        part=np.concatenate([np.full(len(piece[1]), piece[0]) for piece in pieces]),
        place=np.concatenate([piece[3] for piece in pieces]),
    )
