"""What is set into the skin: eyeballs, ears and the hair."""

import numpy as np

from dcign_tf.scenes.builtin_face import sculpture
from dcign_tf.scenes.builtin_face.mesh import Patch, grid
from dcign_tf.scenes.builtin_face.shapes import bell, curve, smooth_step

PUPIL, IRIS = 9.0, 26.5  # their edges, in degrees from the axis of sight

# Where the ear on the viewer's right is attached: its middle.
EAR = np.array([6.9, -1.0, -1.2])
# Its outline about that: forward and up, in centimetres.
_EAR_OUTLINE = (
    (1.05, 0.9), (0.95, 1.7), (0.62, 2.4), (0.0, 2.85), (-0.8, 2.9), (-1.5, 2.5), (-1.92, 1.75), (-2.0, 0.8),
    (-1.85, -0.1), (-1.55, -0.95), (-1.25, -1.7), (-0.95, -2.4), (-0.5, -2.9), (0.1, -3.05), (0.6, -2.75),
    (0.85, -2.1), (0.98, -1.3), (1.05, -0.5), (1.08, 0.2),
)  # fmt: skip

# The hairline: height by the angle about the crown's axis from the front, in degrees.
HAIRLINE = (
    (0.0, 6.7), (20.0, 6.9), (32.0, 7.0), (42.0, 6.5), (50.0, 5.4), (57.0, 3.9), (63.0, 2.2), (70.0, -0.2),
    (76.0, -1.7), (82.0, -2.0), (88.0, -1.2), (96.0, 1.4), (108.0, 2.2), (120.0, 0.6), (130.0, -3.2),
    (145.0, -6.6), (180.0, -8.0),
)  # fmt: skip
CROWN = np.array([0.0, 2.5, -0.8])  # the middle of the skull, from which hair grows outward


def eyeball() -> Patch:
    """The eyeball on the viewer's right, in rings about the axis of sight."""
    tilts = (0.0, 4.0, 8.0, 9.5, 14.0, 20.0, 25.5, 27.5, 30.0, 36.0, 46.0, 58.0, 70.0, 84.0, 100.0)
    tilt, around = np.meshgrid(tilts, np.arange(28) * (360.0 / 28), indexing="ij")
    t, a = np.radians(tilt), np.radians(around)
    # The eyeball is wider than high, but the iris is round.
    wide = smooth_step(tilt, 28.0, 60.0)
    _, height, depth = sculpture.BALL
    x = (height + wide * (sculpture.BALL[0] - height)) * np.sin(t) * np.cos(a)
    y = height * np.sin(t) * np.sin(a)
    z = depth * np.cos(t) + 0.06 * smooth_step(tilt, 32.0, 10.0)  # with the cornea
    points = sculpture.EYE + np.stack([x, y, z], axis=-1)
    return grid(points, np.stack([tilt, around], axis=-1), around=True)


def ear() -> Patch:
    """The ear on the viewer's right, in rings from the bottom of its shell over the rim to its back."""
    columns = 40
    rim = _closed_curve(np.array(_EAR_OUTLINE), columns)
    # The outline runs clockwise, seen from outside.
    rim = rim[::-1]
    middle = np.array([0.15, -0.1])
    turn = np.degrees(np.arctan2(rim[:, 1] - middle[1], rim[:, 0] - middle[0])) % 360.0

    front = (0.0, 0.12, 0.24, 0.34, 0.44, 0.53, 0.61, 0.68, 0.75, 0.82, 0.88, 0.94, 0.985)
    back = (1.0, 0.97, 0.88, 0.7)
    rho = np.array(front + back)[:, None]
    forward, up = np.moveaxis(middle + rho[..., None] * (rim - middle), -1, 0)

    # The helix runs from above the shell around the back and fades into the lobe; the antihelix lies inside it.
    helix = smooth_step(turn, 15.0, 50.0) * smooth_step(turn, 262.0, 215.0)
    antihelix = smooth_step(turn, 35.0, 80.0) * smooth_step(turn, 250.0, 200.0)
    height = 0.42 * helix * bell(rho, 0.93, 0.075) + 0.36 * antihelix * bell(rho, 0.58, 0.10)
    height += 0.30 * bell(forward, 0.75, 0.3) * bell(up, -0.25, 0.5)  # tragus
    height -= 0.75 * bell(forward, 0.1, 0.5) * bell(up, -0.2, 0.7)  # shell
    height += 0.12 * bell(forward, 0.1, 0.6) * bell(up, -2.2, 0.6)  # lobe
    is_back = np.arange(len(rho))[:, None] > len(front)
    thickness = np.array((0.0,) * len(front) + (0.12, 0.3, 0.5, 1.1))[:, None]
    height = np.where(is_back, 0.25 * helix, height) - thickness

    # Its back stands off from the head; it leans back and its upper half outward.
    out = 0.22 + 0.38 * np.maximum(1.0 - forward, 0.0) + 0.05 * up + 0.9 * height
    lean = np.radians(8.0)
    points = EAR + np.stack(
        [
            out,
            forward * np.sin(lean) + up * np.cos(lean),
            forward * np.cos(lean) - up * np.sin(lean) + 0.35 * height,
        ],
        axis=-1,
    )
    place = np.stack(np.broadcast_arrays(np.where(is_back, 2.0 - rho, rho), turn), axis=-1)
    return grid(points, place, around=True)


def _closed_curve(corners: np.ndarray, count: int) -> np.ndarray:
    """Points along a smooth closed curve (Catmull-Rom) through the corners; [count, 2]."""
    lengths = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    ends = np.cumsum(lengths)
    way = np.arange(count) * ends[-1] / count
    i = np.searchsorted(ends, way, side="right")
    t = (1.0 - (ends[i] - way) / lengths[i])[:, None]
    a, b, c, d = (corners[(i + k) % len(corners)] for k in (-1, 0, 1, 2))
    cubic, square = 3 * b - a - 3 * c + d, 2 * a - 5 * b + 4 * c - d
    return b + 0.5 * t * ((c - a) + t * (square + t * cubic))


def hair_profile(s: np.ndarray) -> np.ndarray:
    """How far hair stands off the scalp: from 1 about the crown (s = 0) to 0 just inside the hairline (s = 1)."""
    return np.sqrt(1.0 - np.clip((s - 0.55) / 0.41, 0.0, 1.0) ** 2)


def half_hair() -> Patch:
    """The right half of the hair: a shell over the scalp whose edge dives into the skin at the hairline."""
    columns = np.linspace(0.0, 1.0, 55)
    around = np.interp(columns, (0.0, 0.3, 0.78, 1.0), (0.0, 48.0, 135.0, 180.0))
    turn = np.radians(around)
    hairline = curve(HAIRLINE, around) + 0.06 * np.cos(19 * turn) + 0.05 * np.cos(43 * turn)
    ray = np.stack([9.0 * np.sin(turn), 0.12 * (hairline - CROWN[1]), 9.5 * np.cos(turn)], axis=1)
    inside = np.stack([0 * turn, 0.88 * hairline + 0.12 * CROWN[1], 0 * turn + CROWN[2]], axis=1)
    edge = sculpture.cast(inside + 1.4 * ray, inside)

    # Rows from the crown down to the hairline, along great circles.
    way = np.array(
        (0.0, 0.05, 0.12, 0.2, 0.28, 0.36, 0.44, 0.52, 0.6, 0.67, 0.74, 0.8, 0.85, 0.89, 0.925, 0.95, 0.975, 1.0)
    )  # fmt: skip
    top = np.array([0.0, 1.0, -0.18]) / np.hypot(1.0, 0.18)
    ends = edge - CROWN
    ends /= np.linalg.norm(ends, axis=1, keepdims=True)
    full = np.arccos(np.clip(ends @ top, -1.0, 1.0))
    part = way[:, None] * full
    outward = np.sin(full - part)[..., None] * top + np.sin(part)[..., None] * ends
    outward /= np.sin(full)[:, None]
    flat = outward.reshape(-1, 3)
    scalp = sculpture.cast(CROWN + 14.0 * flat, np.broadcast_to(CROWN, flat.shape))
    scalp = scalp.reshape(outward.shape)

    s = way[:, None]
    volume = curve(
        ((0, 1.1), (40, 1.0), (60, 0.8), (85, 0.6), (110, 0.75), (135, 0.85), (180, 0.85)), around
    )
    volume = 1.2 + (volume - 1.2) * smooth_step(s, 0.0, 0.6)
    height = np.where(s > 0.96, -0.35 * (s - 0.96) / 0.04, volume * hair_profile(s))
    # Little above the ears, so that they stand out of it.
    near_ear = bell(scalp[..., 1], 0.5, 3.2) * bell(scalp[..., 2], -1.2, 3.0) * (around > 60)
    height *= 1.0 - 0.7 * near_ear
    # Tufts combed back from the face.
    tufts = np.cos(16 * turn + 1.5 * s) + 0.7 * np.cos(27 * turn + 1.0 - 2.5 * s)
    height += (
        0.06 * tufts * smooth_step(s, 0.08, 0.4) * np.where(s < 0.96, np.minimum(height, 1.0), 0.0)
    )
    place = np.stack(np.broadcast_arrays(s, around), axis=-1)
    return grid(scalp + height[..., None] * outward, place, around=False)
