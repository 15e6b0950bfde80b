"""Paints ICT-FaceKit's head, whose model has statistics of shape but none of reflectance.

Skin, lips, brows, hair, beard and eyes come from the material and the place of each vertex on the neutral mesh,
in centimetres, each with modes of variation of its own. Shades vary by modes of albedo. Edges vary by modes of
shape: where a hairline or a brow lies is changed by sliding vertices along the surface, which takes what is
painted on them along and, unlike a sum of albedos, keeps it crisp and of one shade.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dcign_tf.scenes.render import smooth_normals

# The materials a camera sees. Lashes, tear film and the like are thin shells over these that need
# transparency; teeth and gums lie behind closed lips.
MATERIALS = (
    "M_Face",
    "M_BackHead",
    "M_ScleraLeft",
    "M_ScleraRight",
    "M_IrisLeft",
    "M_IrisRight",
)
_FACE, _BACK = 0, 1

# Anchors on the neutral mesh, in centimetres: upstream's landmark vertices (`idx_to_landmark_verts`) of the right
# half, mirrored where they are used.
_EYEBALL = (3.12, 3.60, 7.98)
_IRIS = (3.18, 3.60)
_BROW = ((0.95, 5.55), (1.6, 5.75), (2.6, 6.0), (3.8, 6.12), (4.9, 5.8), (5.9, 5.05))
_UPPER_LIP = ((-0.2, -2.48), (0.0, -2.52), (0.73, -2.38), (1.7, -2.78), (2.55, -3.48))
_MOUTH_LINE = ((0.0, -3.34), (1.0, -3.34), (2.21, -3.46), (2.6, -3.5))
_LOWER_LIP = ((0.0, -4.42), (1.03, -4.32), (1.8, -4.06), (2.55, -3.52))

# Height of the hairline by the angle about the head's axis, from the face (0) to the nape (180 degrees).
_HAIRLINE = (
    (0.0, 11.5),
    (20.0, 11.3),
    (35.0, 10.7),
    (46.0, 9.4),
    (55.0, 7.6),
    (63.0, 6.4),
    (70.0, 3.6),
    (76.0, 1.4),
    (86.0, 1.2),
    (94.0, 3.6),
    (104.0, 1.0),
    (112.0, -2.0),
    (135.0, -4.2),
    (180.0, -4.8),
)

_SKIN, _HAIR, _BROWS, _LIPS = 0.68, 0.12, 0.27, 0.46

_ONE_SIDED = frozenset(
    {
        "hair/fairness",
        "hair/volume_top",
        "hair/volume_sides",
        "beard/shadow",
        "beard/moustache",
        "beard/goatee",
        "hair/thickness",
        "hair/length",
        "hair/fringe",
        "mouth/teeth",
    }
)


@dataclasses.dataclass(frozen=True)
class Paint:
    """Reflectance of the head, and modes of it and of what hair and brows do to the shape.

    Attributes:
        mean_albedo: float32 [V].
        albedo_modes: name -> float32 [V], what one standard deviation adds.
        shape_modes: name -> float32 [V, 3], likewise.
        one_sided: the names of modes whose coefficients are |N(0, 1)|.
    """

    mean_albedo: np.ndarray
    albedo_modes: dict[str, np.ndarray]
    shape_modes: dict[str, np.ndarray]
    one_sided: frozenset[str]


def paint(
    vertices: np.ndarray, triangles: np.ndarray, materials: np.ndarray, photographic: bool = False
) -> Paint:
    """Paints the neutral head.

    Args:
        vertices: float32 [V, 3], upstream's neutral mesh, in centimetres.
        triangles: int32 [T, 3].
        materials: [T], indices into `MATERIALS`.
        photographic: whether to add modes of what people wear in photographs: full, long and falling hair, and teeth.
    """
    regions = _find_regions(vertices.astype(np.float64), triangles, materials)
    albedo = _mean_albedo(regions)
    modes = _albedo_modes(regions)
    normals = smooth_normals(vertices, triangles)
    shapes = _hair_volume(regions) | _slides(regions, normals)
    if photographic:
        shapes |= _more_hair(regions, normals)
        # From some way off, what an open mouth shows of teeth is that it is not dark.
        modes["mouth/teeth"] = 0.3 * (regions.mouth & (regions.points[:, 1] < 0.0))
    return Paint(
        mean_albedo=np.clip(albedo, 0.0, 1.0).astype(np.float32),
        albedo_modes={name: mode.astype(np.float32) for name, mode in modes.items()},
        shape_modes={name: mode.astype(np.float32) for name, mode in shapes.items()},
        one_sided=_ONE_SIDED,
    )


@dataclasses.dataclass(frozen=True)
class _Regions:
    """What lies where: for each vertex, how much of it belongs to a region, 0 to 1; float64 [V] each."""

    points: np.ndarray  # float64 [V, 3]
    front: np.ndarray  # the face without ears and neck
    scalp: np.ndarray  # the head's outside without the ears
    hair: np.ndarray
    skin: np.ndarray  # all that is no hair, brows and lips included
    bare: np.ndarray  # skin without brows and lips
    mouth: np.ndarray  # bool: the dark inside of it
    brow: np.ndarray
    above_brow: np.ndarray  # centimetres
    lips: np.ndarray
    upper_lip: np.ndarray
    seam: np.ndarray  # the line between the lips
    nostrils: np.ndarray
    cheeks: np.ndarray
    nose: np.ndarray
    lids: np.ndarray  # above the eye
    bags: np.ndarray  # below the eye
    lashes: np.ndarray
    beard: np.ndarray
    moustache: np.ndarray
    goatee: np.ndarray
    eye: np.ndarray  # bool: both balls
    iris: np.ndarray  # the disk, pupil included
    limbus: np.ndarray  # the iris' dark rim
    pupil: np.ndarray
    strands: np.ndarray  # lighter and darker strands of hair, about -1 to 1


def _find_regions(points: np.ndarray, triangles: np.ndarray, materials: np.ndarray) -> _Regions:
    x, y, z = points.T
    side = np.abs(x)
    material = np.full(len(points), _FACE)
    for index in range(len(MATERIALS)):
        material[triangles[materials == index].ravel()] = index
    on_head = (material == _FACE) | (material == _BACK)
    # The mouth's and the sockets' insides have the material of the back of the head.
    inside = (material == _BACK) & (side < 5.0) & (y > -8.0) & (y < 6.5) & (z > 0.5)
    front = _step(z - 4.0, 2.0) * on_head * ~inside

    skull = 7.2 + 0.15 * (y - 1.0)
    ear = _step(side - skull - 0.25, 0.3) * (z < 2.2) * (y < 5.2) * (y > -3.5) * on_head
    scalp = on_head * ~inside * (1.0 - ear)
    hair = scalp * _step(_above_hairline(points), 0.7)
    # Some faces are so thin that the mouth's lining comes through the chin: there it looks like skin.
    lining = inside & (z > 8.5) & (np.abs(y + 3.4) > 1.0) & (y < 0.0) & (y > -7.5)
    skin = on_head * (~inside | lining) * (1.0 - hair)

    above_brow = y - _curve(_BROW, side)
    thickness = np.interp(side, [0.9, 1.8, 4.0, 6.0], [0.38, 0.45, 0.36, 0.2])
    reach = _step(side - 0.9, 0.5) * _step(5.9 - side, 1.0)
    brow = front * reach * _step(thickness - np.abs(above_brow), 0.5)

    upper, lower, line = (_curve(c, side) for c in (_UPPER_LIP, _LOWER_LIP, _MOUTH_LINE))
    lips = (
        front * _step(upper - y, 0.3) * _step(y - lower, 0.3) * _step(2.6 - side, 0.3) * (z > 9.0)
    )
    bare = skin * (1.0 - brow) * (1.0 - lips)
    jaw = on_head * ~inside * _step(z - 2.5, 2.0) * _step(y + 9.5, 2.5)
    cheek_line = np.interp(side, [0.0, 2.5, 5.0, 7.0], [-1.2, -2.2, -2.4, 0.8])

    eye = ~on_head
    # The iris lies behind a cornea that is part of the sclera's mesh: both are painted, by the distance from
    # the eye's axis.
    from_axis = np.where(z > _EYEBALL[2], np.hypot(side - _IRIS[0], y - _IRIS[1]), 9.0)
    almond = np.hypot((side - _EYEBALL[0]) / 1.6, (y - 3.5) / 1.0)
    from_nostril = np.sqrt(
        ((side - 0.68) / 0.62) ** 2 + ((y - 0.1) / 0.75) ** 2 + ((z - 10.8) / 1.05) ** 2
    )
    # Strands run from the crown, so shades differ between directions about it.
    direction = np.arctan2(x, z + 1.0)
    strands = (
        np.cos(13 * direction + 2.7)
        + np.cos(21 * direction + 2.1 + 0.25 * y)
        + np.cos(34 * direction + 2.4)
    ) / 1.5
    return _Regions(
        points=points,
        front=front,
        scalp=scalp,
        hair=hair,
        skin=skin,
        bare=bare,
        mouth=inside & ~lining,
        brow=brow,
        above_brow=above_brow,
        lips=lips,
        upper_lip=lips * _step(y - line, 0.2),
        seam=front * _bump((y - line) / 0.1) * _step(2.85 - side, 0.3) * (z > 9.0),
        # Their outer walls come through the wings of thin noses: these stay light.
        nostrils=on_head * _step(1.12 - from_nostril, 0.3) * _step(1.0 - side, 0.3),
        cheeks=bare * front * _bump((side - 4.6) / 1.5, (y - 0.3) / 1.5),
        nose=bare * front * _bump(x / 1.2, (y - 0.6) / 1.3) * (z > 10.0),
        lids=front * _bump((side - 3.1) / 1.4, (y - 4.7) / 0.55) * (1.0 - brow),
        bags=front * _bump((side - 3.0) / 1.1, (y - 2.3) / 0.5),
        lashes=front * _step(1.02 - almond, 0.35) * _step(almond - 0.6, 0.3) * (z > 8.0),
        beard=jaw * _step(cheek_line - y, 1.6) * (1.0 - lips) * (1.0 - ear),
        moustache=front * _bump((y + 1.95) / 0.42, np.maximum(side - 1.6, 0) / 0.7) * (1.0 - lips),
        goatee=front * _bump((y + 6.0) / 1.3, x / 1.5) * (1.0 - lips),
        eye=eye,
        iris=eye * _step(0.62 - from_axis, 0.12),
        limbus=eye * _bump((from_axis - 0.6) / 0.08),
        pupil=eye * _step(0.26 - from_axis, 0.12),
        strands=strands,
    )


def _mean_albedo(on: _Regions) -> np.ndarray:
    clumps = _noise(on.points * np.array([1.0, 0.35, 0.6]), 2.4, 5)
    albedo = (
        on.bare * _SKIN + on.skin * on.brow * (1 - on.lips) * _BROWS + on.skin * on.lips * _LIPS
    )
    albedo += on.hair * _HAIR * (1.0 + 0.12 * on.strands + 0.12 * clumps)
    albedo -= on.bare * (0.10 * on.lashes + 0.04 * on.lids + 0.03 * on.bags) + 0.18 * on.seam
    # The renderer casts no shadows: what should lie in shadow is painted dark.
    albedo *= 1.0 - 0.8 * on.nostrils
    albedo[on.mouth] = 0.12
    albedo += on.eye * (0.84 * (1 - on.iris) + 0.30 * (on.iris - on.pupil) + 0.03 * on.pupil)
    albedo -= 0.12 * on.limbus * (1 - on.pupil)
    return albedo


def _albedo_modes(on: _Regions) -> dict[str, np.ndarray]:
    x, y, _ = on.points.T
    clumps = _noise(on.points * np.array([1.0, 0.35, 0.6]), 2.4, 5)
    brow = on.skin * on.brow
    modes = {
        "skin/tone": 0.11 * on.skin + 0.02 * on.eye * (1 - on.iris),
        "skin/blush": -0.04 * (on.cheeks + 0.6 * on.nose),
        "skin/forehead": 0.035 * on.bare * on.front * _bump(x / 3.0, (y - 9.0) / 1.6),
        "skin/eye_shadow": -0.06 * on.skin * on.lids,
        "skin/eye_bags": -0.045 * on.skin * on.bags,
        "skin/freckles": 0.012 * _noise(on.points, 1.3, 3) * (on.cheeks + on.nose),
        "lips/shade": 0.06 * on.skin * on.lips + 0.02 * on.seam,
        "lips/upper": 0.03 * on.skin * on.upper_lip,
        "brows/shade": 0.07 * brow,
        "hair/fairness": on.hair * (0.12 + 0.015 * on.strands + 0.015 * clumps) + 0.06 * brow,
        "hair/strands": on.hair * 0.012 * on.strands,
        "hair/clumps": on.hair * 0.015 * _noise(on.points, 4.0, 8),
        "hair/grey_sides": 0.05 * on.hair * _step(8.0 - y, 5.0),
        "beard/shadow": -0.085 * on.skin * on.beard * (1.0 + 0.1 * _noise(on.points, 2.0, 11)),
        "beard/moustache": -0.08 * on.skin * on.moustache,
        "beard/goatee": -0.06 * on.skin * on.goatee,
        "eyes/iris": 0.09 * (on.iris - on.pupil),
        "eyes/sclera": 0.05 * on.eye * (1 - on.iris),
        "eyes/lashes": -0.06 * on.skin * on.lashes,
    }
    for k in range(6):
        modes[f"skin/blotches_{k}"] = 0.016 * on.bare * _noise(on.points, 9.0 - k, 20 + k)
    return modes


def _hair_volume(on: _Regions) -> dict[str, np.ndarray]:
    outward = on.points - np.array([0.0, 3.0, 1.0])
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-6)
    # Hair begins to rise a little inside the hairline, so that its edge is hair and not a wall of skin.
    full = on.scalp * _step(_above_hairline(on.points) - 0.7, 1.0)
    high = _step(on.points[:, 1] - 9.0, 7.0)
    return {
        "hair/volume_top": 0.8 * (full * high)[:, None] * outward,
        "hair/volume_sides": 0.7 * (full * (1 - high))[:, None] * outward * [1.0, 0.3, 1.0],
    }


def _more_hair(on: _Regions, normals: np.ndarray) -> dict[str, np.ndarray]:
    """Modes of hair that is not cut short."""
    x, y, z = on.points.T
    outward = on.points - np.array([0.0, 3.0, 1.0])
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-6)
    above, angle = _above_hairline(on.points), _angle(on.points)
    full = on.scalp * _step(above - 1.0, 2.0)
    # Behind the ears it falls, and stands off from what it covers. Skin stays, or it would come into sight.
    behind = _step(angle - 108.0, 24.0)
    hanging = on.scalp * behind * _step(above - 0.6, 0.8) * _step(5.0 - y, 9.0)
    aside = np.stack(
        [np.sign(x) * _step(155.0 - angle, 50.0), 0 * y, -0.4 * _step(angle - 120.0, 60.0)], axis=1
    )
    # A strand over the forehead; its edge goes down along the skin and lies on it.
    front = (
        on.scalp
        * _step(55.0 - angle, 35.0)
        * _step(above - 0.3, 0.8)
        * _bump(np.maximum(above, 0.0) / 3.0)
    )
    aslant = 0.65 - 0.35 * np.clip(x / 3.0, -1.0, 1.0)
    down = np.array([0.0, -1.0, 0.0]) - normals * (normals @ np.array([0.0, -1.0, 0.0]))[:, None]
    return {
        "hair/thickness": 0.9 * full[:, None] * outward * [1.0, 0.8, 1.0],
        "hair/length": hanging[:, None] * (1.1 * aside + np.array([0.0, -3.0, 0.0])),
        "hair/fringe": (front * aslant)[:, None] * (2.0 * down + 0.3 * normals),
    }


def _slides(on: _Regions, normals: np.ndarray) -> dict[str, np.ndarray]:
    """Modes that move what is painted on the skin along it."""
    side = np.abs(on.points[:, 0])
    normals = normals.astype(np.float64)
    up, back = (
        axis - normals * (normals @ axis)[:, None] for axis in np.array([[0.0, 1, 0], [0, 0, -1]])
    )
    angle = _angle(on.points)
    near_line = on.scalp * _bump(_above_hairline(on.points) / 2.2)
    near_brow = on.front * _bump(on.above_brow / 0.8) * _step(6.6 - side, 1.6)
    upward = {
        "hair/hairline_height": 0.9 * near_line * _step(58.0 - angle, 30.0),
        "brows/height": 0.14 * near_brow,
        "brows/thickness": 0.16 * near_brow * on.above_brow,
        "brows/tilt": 0.06 * near_brow * (side - 3.4),
    }
    modes = {name: amount[:, None] * up for name, amount in upward.items()}
    modes["hair/temples"] = 0.7 * (near_line * _bump((angle - 44.0) / 12.0))[:, None] * back
    return modes


def _step(x: np.ndarray, width: float) -> np.ndarray:
    """Rises smoothly from 0 at -width / 2 to 1 at width / 2."""
    t = np.clip(x / width + 0.5, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _bump(*scaled: np.ndarray) -> np.ndarray:
    """A Gaussian blob of the given distances, each in units of its width."""
    return np.exp(-0.5 * np.sum(np.square(np.broadcast_arrays(*scaled)), axis=0))


def _curve(points: Sequence[tuple[float, float]], x: np.ndarray) -> np.ndarray:
    places, values = np.array(points).T
    return np.interp(x, places, values)


def _noise(vertices: np.ndarray, wavelength: float, seed: int) -> np.ndarray:
    """A smooth field without a pattern: waves in directions spread over a sphere; about unit variance, [V]."""
    waves = 24
    k = np.arange(waves) + 0.5
    # Fibonacci's spiral and multiples of irrationals: the same numbers on every machine and version.
    up = 1.0 - 2.0 * k / waves
    around = 2.39996323 * k + seed
    flat = np.sqrt(1.0 - up * up)
    directions = np.stack([flat * np.cos(around), flat * np.sin(around), up])
    stretch = 0.7 + 0.6 * np.modf(k * 0.75487767 + seed * 0.331)[0]
    phases = 2 * np.pi * np.modf(k * 0.56984029 * (seed + 1) + seed * 0.618)[0]
    waves_at = np.cos(vertices @ (directions * stretch) * (2 * np.pi / wavelength) + phases)
    return waves_at.sum(axis=1) * np.sqrt(2.0 / waves)


def _angle(points: np.ndarray) -> np.ndarray:
    """Degrees about the head's vertical axis, 0 at the face and 180 at the nape, either side; [V]."""
    return np.degrees(np.arctan2(np.abs(points[:, 0]), points[:, 2] - 1.0))


def _above_hairline(points: np.ndarray) -> np.ndarray:
    """Distance from the hairline along the scalp in centimetres, positive where there is hair; [V]."""
    places, heights = np.array(_HAIRLINE).T
    angle = _angle(points)
    # The line's slope turns a difference of heights into a distance.
    arc = np.radians(places) * 7.5
    middles = (places[1:] + places[:-1]) / 2
    slope = np.interp(angle, middles, np.diff(heights) / np.diff(arc))
    return (points[:, 1] - np.interp(angle, places, heights)) / np.sqrt(1 + slope * slope)
