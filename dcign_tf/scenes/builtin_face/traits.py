"""What makes heads differ: named traits of shape and of shade, as functions on the mean head."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from dcign_tf.scenes.builtin_face import sculpture, topology
from dcign_tf.scenes.builtin_face.sculpture import curve, smooth_step
from dcign_tf.scenes.builtin_face.topology import EARS, EYES, HAIR, SKIN, Mesh


@dataclasses.dataclass(frozen=True)
class Trait:
    """One way in which heads differ.

    Attributes:
        name: what it is called.
        plus: what one standard deviation more does.
        one_sided: whether it only ever adds (its value is |N(0, 1)|).
    """

    name: str
    plus: str
    one_sided: bool = False


def _blob(p: np.ndarray, center: tuple[float, float, float], *radii: float) -> np.ndarray:
    """A smooth spot, 1 in its center, on both sides of the head."""
    q = np.column_stack([np.abs(p[:, 0]), p[:, 1:]]) - center
    return np.exp(-0.5 * np.sum((q / np.array(radii)) ** 2, axis=1))


# name, what +1 standard deviation does, one-sided
SHAPE_TRAITS = tuple(
    Trait(*row)
    for row in (
        ("skull_width", "skull 3.5 % wider"),
        ("skull_height", "vault 5 % higher above the brows"),
        ("skull_depth", "back of the head 4 % deeper"),
        ("face_height", "face 3 % longer below the eyes"),
        ("face_width", "face 3.5 % wider"),
        ("weight", "cheeks, jaw, chin and neck fuller"),
        ("forehead_slope", "forehead recedes by 5 mm at the hairline"),
        ("forehead_bulge", "middle of the forehead 3 mm rounder"),
        ("temple_width", "temples 3 mm fuller"),
        ("brow_ridge", "bone of the brows 1.8 mm more prominent"),
        ("brow_height", "brows 1.5 mm higher"),
        ("brow_thickness", "brows 25 % thicker"),
        ("brow_tilt", "outer ends of the brows higher"),
        ("eye_spacing", "each eye 1.7 mm further out"),
        ("eye_size", "eyes 8 % larger"),
        ("eye_height", "eyes 1.5 mm higher"),
        ("eye_depth", "eyes 2 mm deeper in their sockets"),
        ("eye_tilt", "outer corners of the eyes 5 degrees higher"),
        ("eye_openness", "lids 1 mm further apart"),
        ("lid_fold", "upper lids hang heavier over the eyes"),
        ("eye_bags", "bags below the eyes 0.8 mm thicker"),
        ("cheekbones", "cheekbones 2.5 mm more prominent"),
        ("cheek_fullness", "cheeks 4 mm fuller"),
        ("nasolabial_fold", "furrows from nose to mouth 1 mm deeper"),
        ("nose_length", "nose 3 mm longer"),
        ("nose_bridge_height", "bridge of the nose 2.2 mm higher"),
        ("nose_bridge_width", "bridge of the nose 12 % wider"),
        ("nose_hump", "hump on the nose 1.5 mm higher"),
        ("nose_projection", "nose stands out 2.5 mm more"),
        ("nose_tip_size", "tip of the nose 10 % larger"),
        ("nose_tip_height", "tip of the nose 2.5 mm higher"),
        ("nose_bend", "nose 1 mm bent to the viewer's right"),
        ("nostril_width", "wings of the nose 11 % wider"),
        ("mouth_height", "mouth 1.7 mm higher"),
        ("mouth_width", "mouth 8 % wider"),
        ("mouth_corners", "corners of the mouth 1.6 mm higher"),
        ("upper_lip_fullness", "upper lip 1 mm higher and rounder"),
        ("lower_lip_fullness", "lower lip 1.2 mm lower and rounder"),
        ("lip_protrusion", "lips 1.5 mm further forward"),
        ("jaw_width", "jaw 6 % wider"),
        ("jaw_angle", "corners of the jaw 3 mm lower and further out"),
        ("chin_length", "chin 3.5 mm longer"),
        ("chin_prominence", "chin 3.5 mm further forward"),
        ("chin_width", "chin 12 % wider"),
        ("double_chin", "skin below the chin 4 mm fuller", True),
        ("ear_size", "ears 8 % larger"),
        ("ear_protrusion", "ears stand out 3 mm more at their backs"),
        ("ear_height", "ears 2.5 mm higher"),
        ("neck_width", "neck 6 % wider"),
        ("hair_volume_top", "hair 2.8 mm higher on the top"),
        ("hair_volume_sides", "hair 2.2 mm thicker at the sides and the back"),
        ("hair_length", "hair 3.5 cm longer at the back and the sides", True),
        ("hair_part", "hair higher on the viewer's right, lower on the left"),
        ("hair_fringe", "hair falls 1.2 cm over the forehead, more on the viewer's left", True),
        ("hair_curls", "curls 1.3 mm higher; less than 0: others"),
        ("hair_waves", "waves 1.3 mm higher; less than 0: others"),
        ("hairline_height", "hairline 6 mm higher"),
        ("hairline_temples", "hairline 5 mm further back at the temples"),
    )
)

ALBEDO_TRAITS = tuple(
    Trait(*row)
    for row in (
        ("skin_tone", "skin lighter by 0.11"),
        ("skin_cheeks", "cheeks and nose darker by 0.05"),
        ("skin_eye_shadow", "sockets darker by 0.05"),
        ("skin_freckles", "freckles stronger by 0.015"),
        ("lip_shade", "lips lighter by 0.06"),
        ("brow_shade", "brows lighter by 0.08"),
        ("iris_shade", "irises lighter by 0.1"),
        ("lash_shade", "edges of the lids darker by 0.07"),
        ("hair_fairness", "hair and brows lighter by 0.16", True),
        ("hair_strands", "strands more visible by 0.03"),
        ("hair_grey_sides", "hair at the sides lighter by 0.08", True),
        ("beard_density", "beard darker by 0.11", True),
        ("moustache", "moustache darker by 0.05"),
        ("goatee", "beard of the chin darker by 0.04"),
    )
)


class Head:
    """The head as a function of its traits, all zero for the mean."""

    def __init__(self) -> None:
        self.mesh = topology.build()
        self._shape_fields = _shape_fields(self.mesh)
        self._mean_albedo, self._albedo_fields = _paint(self.mesh)

    def vertices(self, traits: Mapping[str, float]) -> np.ndarray:
        """Positions of the vertices; float64 [V, 3]."""
        p = self.mesh.points.copy()
        stretch = np.zeros_like(p)
        for name, value in traits.items():
            move, scale = self._shape_fields[name]
            if move is not None:
                p += value * move
            if scale is not None:
                stretch += value * scale
        # Stretching is about the eyes' height and the middle of the head, and after all that moves.
        return p * np.exp(stretch)

    def albedo(self, traits: Mapping[str, float]) -> np.ndarray:
        """Grey reflectance of the vertices; float64 [V]."""
        value = self._mean_albedo.copy()
        for name, amount in traits.items():
            value += amount * self._albedo_fields[name]
        return value


_Fields = dict[str, tuple[np.ndarray | None, np.ndarray | None]]


def _shape_fields(mesh: Mesh) -> _Fields:
    p = mesh.points
    x, y, z = p.T
    side, sign = np.abs(x), np.sign(x)
    skin, eyes, ears, hair = (mesh.part == k for k in (SKIN, EYES, EARS, HAIR))
    zero = np.zeros(len(p))
    fields: _Fields = {}

    def move(name, dx=None, dy=None, dz=None):  # type: ignore
        """dx is outward on both sides."""
        field = np.stack(
            [
                sign * (zero if dx is None else dx),
                zero if dy is None else dy,
                zero if dz is None else dz,
            ],
            axis=1,
        )
        fields[name] = (field, None)

    def stretch(name, sx=None, sy=None, sz=None):  # type: ignore
        fields[name] = (
            None,
            np.stack([zero if s is None else s + zero for s in (sx, sy, sz)], axis=1),
        )

    top = smooth_step(y, -10.0, 3.0)
    stretch("skull_width", sx=0.035 * (0.25 + 0.75 * smooth_step(y, -8.0, 3.0)))
    move("skull_height", dy=0.05 * np.maximum(y - 2.5, 0) * smooth_step(y, 2.0, 6.0))
    move(
        "skull_depth", dz=0.04 * (z - 1.0) * smooth_step(z, 2.0, -3.0) * smooth_step(y, -13.0, -4.0)
    )
    stretch("face_height", sy=0.03 * smooth_step(y, 0.5, -2.0) * smooth_step(z, -4.0, 2.0))
    stretch("face_width", sx=0.035 * smooth_step(y, 6.0, 0.0) * smooth_step(z, -6.0, 2.0))
    front = smooth_step(z, 1.0, 5.0)

    cheek = _blob(p, (5.2, -5.4, 4.5), 2.0, 2.4, 3.0)
    jowl = _blob(p, (4.6, -9.0, 3.5), 2.2, 1.8, 3.2)
    under = _blob(p, (0.0, -12.0, 5.0), 3.0, 1.6, 2.6)
    neck = smooth_step(y, -8.5, -13.0)
    stretch("neck_width", sx=0.06 * neck)
    fields["neck_width"] = (
        np.stack([zero, zero, 0.06 * (z + 2.6) * neck * smooth_step(z, 4.5, -1)], axis=1),
        fields["neck_width"][1],
    )
    move(
        "weight",
        dx=0.36 * cheek + 0.42 * jowl + 0.2 * neck * side / 5.4 + 0.05 * side / 7 * top,
        dy=-0.3 * under - 0.1 * jowl,
        dz=0.12 * cheek + 0.08 * jowl,
    )
    move("double_chin", dy=-0.4 * under, dx=0.15 * jowl)

    move(
        "forehead_slope",
        dz=-0.5 * smooth_step(y, 2.5, 9.0) * smooth_step(z, -2.0, 5.0),
        dy=-0.1 * smooth_step(y, 2.5, 9.0) * smooth_step(z, -2.0, 5.0),
    )
    move("forehead_bulge", dz=0.3 * _blob(p, (0.0, 5.6, 8.0), 3.5, 1.8, 4.0))
    move("temple_width", dx=0.3 * _blob(p, (6.5, 3.0, 4.5), 3.0, 2.0, 2.6))
    ridge = (
        np.exp(-0.5 * ((y - 2.1 - 0.1 * np.minimum(side, 3.5)) / 0.75) ** 2)
        * smooth_step(side, 6.0, 3.5)
        * front
    )
    move("brow_ridge", dz=0.18 * ridge, dy=-0.03 * ridge)

    brow_y = curve(BROW, side)
    above = y - brow_y
    near_brow = (
        smooth_step(np.abs(above), 1.35, 0.4)
        * smooth_step(side, 6.6, 5.4)
        * smooth_step(side, 0.1, 0.9)
        * front
        * skin
    )
    # Painted brows slide along the skin: what it rises forward or back comes along.
    slide = near_brow
    move("brow_height", dy=0.15 * slide, dz=-0.05 * slide)
    move("brow_thickness", dy=0.25 * near_brow * above * np.exp(-0.5 * (above / 0.5) ** 2))
    move("brow_tilt", dy=0.05 * near_brow * (side - 3.0))

    # Eyes move as wholes: lids and balls alike.
    ex, ey, ez = sculpture.EYE
    away = np.hypot((side - ex) / 1.25, (y - ey) / 1.0)
    eye = smooth_step(away, 2.7, 1.2) * smooth_step(z, 3.0, 5.5) * (skin | eyes)
    eye[eyes] = 1.0
    move("eye_spacing", dx=0.17 * eye)
    move(
        "eye_size", dx=0.08 * (side - ex) * eye, dy=0.08 * (y - ey) * eye, dz=0.06 * (z - ez) * eye
    )
    move("eye_height", dy=0.15 * eye)
    move("eye_depth", dz=-0.2 * eye)
    move("eye_tilt", dy=0.087 * (side - ex) * eye, dx=-0.087 * (y - ey) * eye)
    lid = skin * smooth_step(np.abs(side - ex), 1.6, 0.3) * front
    upper = smooth_step(y, 1.5, 0.7) * smooth_step(y, -0.05, 0.25)
    lower = smooth_step(y, 0.05, -0.25) * smooth_step(y, -1.4, -0.6)
    move("eye_openness", dy=lid * (0.075 * upper - 0.035 * lower), dz=lid * (-0.02 * upper))
    fold = _blob(p, (3.4, 0.95, 7.9), 1.3, 0.35, 1.5) * skin
    move("lid_fold", dy=-0.10 * fold, dz=0.12 * fold)
    bag = _blob(p, (3.2, -1.15, 7.9), 1.0, 0.42, 1.5) * skin
    move("eye_bags", dz=0.08 * bag, dy=-0.03 * bag)

    bone = _blob(p, (5.2, -2.0, 5.8), 1.6, 1.1, 1.8)
    move("cheekbones", dx=0.22 * bone, dz=0.16 * bone)
    full = _blob(p, (4.6, -5.0, 6.0), 1.6, 1.8, 2.0)
    move("cheek_fullness", dx=0.30 * full, dz=0.25 * full)
    furrow_x = np.interp(-y, [3.8, 5.2, 6.8], [2.0, 2.7, 3.2])
    furrow = (
        np.exp(-0.5 * ((side - furrow_x) / 0.25) ** 2)
        * smooth_step(y, -7.4, -6.4)
        * smooth_step(y, -3.4, -4.2)
        * front
    )
    beside = (
        np.exp(-0.5 * ((side - furrow_x - 0.55) / 0.35) ** 2)
        * smooth_step(y, -7.4, -6.4)
        * smooth_step(y, -3.0, -4.2)
        * front
    )
    move("nasolabial_fold", dz=-0.08 * furrow + 0.04 * beside)

    # The nose, from its root between the eyes to its base.
    nose = smooth_step(side, 3.0, 1.4) * front
    below = smooth_step(y, 0.5, -4.0)
    tail = smooth_step(y, -7.0, -4.8)
    move("nose_length", dy=-0.3 * nose * below * tail)
    bridge = smooth_step(side, 1.5, 0.2) * front * np.exp(-0.5 * ((y + 0.6) / 1.3) ** 2)
    move("nose_bridge_height", dz=0.22 * bridge)
    wide = smooth_step(side, 2.3, 0.9) * front * np.exp(-0.5 * ((y + 1.4) / 1.4) ** 2)
    move("nose_bridge_width", dx=0.12 * side * wide)
    move(
        "nose_hump",
        dz=0.15 * smooth_step(side, 1.2, 0.1) * front * np.exp(-0.5 * ((y + 1.7) / 0.8) ** 2),
    )
    out = (
        np.maximum(z - 8.9, 0.0)
        * smooth_step(side, 2.4, 1.2)
        * smooth_step(y, 1.0, -2.5)
        * smooth_step(y, -5.6, -4.7)
    )
    move("nose_projection", dz=0.11 * out)
    tip = _blob(p, (0.0, -3.7, 10.8), 1.2, 0.85, 1.2)
    move("nose_tip_size", dx=0.12 * side * tip, dy=0.12 * (y + 3.7) * tip, dz=0.10 * tip)
    high = _blob(p, (0.0, -3.9, 11.0), 1.2, 1.1, 1.3)
    move("nose_tip_height", dy=0.25 * high, dz=0.03 * high)
    bend = (
        smooth_step(side, 2.6, 0.8) * front * smooth_step(y, 0.5, -2.0) * smooth_step(y, -6.0, -4.6)
    )
    fields["nose_bend"] = (np.stack([0.1 * bend, zero, zero], axis=1), None)
    wing = _blob(p, (1.6, -4.1, 9.3), 0.9, 0.75, 1.1)
    move("nostril_width", dx=0.17 * wing * smooth_step(side, 0.1, 1.2))

    mouth = (
        smooth_step(side, 5.0, 2.6)
        * smooth_step(y, -4.9, -6.0)
        * smooth_step(y, -9.4, -8.0)
        * front
    )
    move("mouth_height", dy=0.17 * mouth)
    move("mouth_width", dx=0.08 * side * mouth)
    line = curve(MOUTH_LINE, side)
    corner = _blob(p, (2.5, -6.95, 8.0), 1.0, 0.8, 1.5)
    move("mouth_corners", dy=0.16 * corner, dx=0.03 * corner, dz=-0.04 * corner)
    up = y - line
    span = smooth_step(side, 2.5, 1.0) * front
    over = smooth_step(up, 0.0, 0.65) * smooth_step(up, 1.8, 0.8) * span
    pout_up = np.exp(-0.5 * ((up - 0.45) / 0.35) ** 2) * span
    move("upper_lip_fullness", dy=0.11 * over, dz=0.05 * pout_up)
    low = smooth_step(up, 0.0, -0.8) * smooth_step(up, -2.2, -1.0) * span
    pout_low = np.exp(-0.5 * ((up + 0.5) / 0.4) ** 2) * span
    move("lower_lip_fullness", dy=-0.13 * low, dz=0.09 * pout_low)
    lips = _blob(p, (0.0, -6.9, 9.3), 2.2, 1.1, 2.0)
    move("lip_protrusion", dz=0.15 * lips)

    jaw = (
        smooth_step(y, -2.5, -7.5)
        * (0.45 + 0.55 * smooth_step(y, -14.5, -11.0))
        * np.maximum(smooth_step(z, -3.5, 1.0), smooth_step(y, -8.0, -12.0))
    )
    stretch("jaw_width", sx=0.06 * jaw)
    angle = _blob(p, (5.4, -7.2, 1.5), 2.0, 1.6, 2.4)
    move("jaw_angle", dx=0.20 * angle, dy=-0.3 * angle)
    chin = smooth_step(y, -8.0, -10.5) * smooth_step(z, 0.0, 6.5) * smooth_step(y, -15.0, -11.0)
    move("chin_length", dy=-0.35 * chin)
    knob = _blob(p, (0.0, -10.3, 8.6), 2.4, 1.3, 2.6)
    move("chin_prominence", dz=0.35 * knob)
    move("chin_width", dx=0.12 * side * _blob(p, (1.2, -10.4, 8.0), 2.6, 1.4, 2.6))

    def ear(name, dx, dy, dz):  # type: ignore
        move(name, dx * ears, dy * ears, dz * ears)

    cx, cy, cz = sculpture.EAR
    ear("ear_size", 0.05 * np.maximum(side - cx, 0), 0.08 * (y - cy), 0.08 * (z - cz))
    ear("ear_protrusion", 0.13 * np.maximum(cz + 1.0 - z, 0), zero, zero)
    ear("ear_height", zero, 0.25 + zero, zero)

    fields.update(_hair_fields(mesh))
    return fields


def _hair_fields(mesh: Mesh) -> _Fields:
    p = mesh.points
    x, y, z = p.T
    hair = mesh.part == HAIR
    s, around = mesh.place.T
    zero = np.zeros(len(p))
    outward = p - topology.CROWN
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    # In proportion to how far it stands off the scalp, so that none shows through.
    off = hair * topology.hair_profile(s)
    high = smooth_step(y, 2.5, 8.0)
    ear = _blob(p, (7.5, 0.5, -1.2), 3.0, 3.2, 3.0)
    sides = off * (1 - high) * (1 - 0.8 * ear)
    part = np.clip(x / 4.0, -1.0, 1.0) * high * smooth_step(z, -6.0, 3.0)
    outward_fields = {
        "hair_volume_top": 0.28 * off * high,
        "hair_volume_sides": 0.22 * sides,
        "hair_part": 0.17 * off * part,
        "hair_curls": 0.13 * off * smooth_step(s, 0.1, 0.4) * (1 - 0.7 * ear) * _waves(p, 2.2, 17),
        "hair_waves": 0.13
        * off
        * smooth_step(s, 0.1, 0.4)
        * (1 - 0.7 * ear)
        * _waves(p * [1.0, 0.6, 0.6], 4.5, 29),
    }
    fields: _Fields = {
        name: (amount[:, None] * outward, None) for name, amount in outward_fields.items()
    }
    # The hairline moves by turning the hair about the axis through the ears, which keeps it on the skull.
    near = hair * smooth_step(s, 0.45, 1.0)
    turn = np.stack([zero, -(z - topology.CROWN[2]), y - topology.CROWN[1]], axis=1) / 8.0
    front = near * smooth_step(around, 62.0, 35.0)
    fields["hairline_height"] = ((-0.6 * front)[:, None] * turn, None)
    temple = near * np.exp(-0.5 * ((around - 42.0) / 13.0) ** 2)
    fields["hairline_temples"] = ((-0.5 * temple)[:, None] * turn, None)
    # Hair grows down from where it is, over the ears and the neck.
    grow = hair * smooth_step(s, 0.3, 1.0) * smooth_step(around, 86.0, 114.0)
    out = hair * smooth_step(s, 0.3, 0.85) * smooth_step(around, 72.0, 96.0)
    to_side = np.sign(x) * out * smooth_step(around, 178, 120)
    to_side = to_side * (1.0 - 0.6 * smooth_step(s, 0.75, 1.0))
    fields["hair_length"] = (
        np.stack([1.1 * to_side, -3.5 * grow, -0.35 * out * smooth_step(around, 110, 160)], axis=1),
        None,
    )
    fringe = near * smooth_step(around, 58.0, 25.0) * (0.65 - 0.35 * np.clip(x / 3.0, -1, 1))
    lifted = hair * smooth_step(s, 0.5, 0.9) * smooth_step(around, 58.0, 25.0)
    fields["hair_fringe"] = (
        (1.2 * fringe)[:, None] * turn + (0.12 * lifted)[:, None] * outward,
        None,
    )
    return fields


BROW = ((0.8, 2.15), (1.6, 2.45), (2.8, 2.75), (3.8, 2.85), (4.7, 2.6), (5.6, 1.9))
MOUTH_LINE = ((0.0, -6.9), (1.0, -6.87), (2.5, -6.92), (3.5, -6.92))


def _waves(points: np.ndarray, wavelength: float, seed: int) -> np.ndarray:
    """A smooth field without a pattern, of about unit variance: plane waves in directions spread over a sphere."""
    count = 24
    k = np.arange(count) + 0.5
    up = 1.0 - 2.0 * k / count
    around = 2.39996323 * k + seed
    flat = np.sqrt(1.0 - up * up)
    directions = np.stack([flat * np.cos(around), flat * np.sin(around), up])
    stretch = 0.7 + 0.6 * np.modf(k * 0.75487767 + seed * 0.331)[0]
    phases = 2 * np.pi * np.modf(k * 0.56984029 * (seed + 1) + seed * 0.618)[0]
    return np.cos(points @ (directions * stretch) * (2 * np.pi / wavelength) + phases).sum(
        axis=1
    ) * np.sqrt(2 / count)


def _paint(mesh: Mesh) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    p = mesh.points
    x, y, z = p.T
    side = np.abs(x)
    skin, eyes, ears, hair = (mesh.part == k for k in (SKIN, EYES, EARS, HAIR))
    angle, row = mesh.place.T
    front = smooth_step(z, 2.0, 5.0) * skin

    brow_half = np.interp(side, [0.8, 1.8, 4.0, 5.8], [0.32, 0.40, 0.30, 0.12])
    brow = front * smooth_step(np.abs(y - curve(BROW, side)) - brow_half, 0.16, -0.16)
    brow = brow * smooth_step(side, 0.65, 1.2) * smooth_step(side, 6.0, 5.2)

    degrees = np.degrees(np.arcsin(np.clip(side / 7.2, 0, 1)))
    lip_top, lip_low, line = (
        curve(c, degrees) for c in (topology.UPPER_LIP, topology.LOWER_LIP, topology.MOUTH)
    )
    at_mouth = front * smooth_step(z, 6.5, 7.2)
    lips = (
        at_mouth
        * smooth_step(y - lip_top, 0.10, -0.10)
        * smooth_step(y - lip_low, -0.12, 0.12)
        * smooth_step(side, 2.65, 2.3)
    )
    seam = at_mouth * np.exp(-0.5 * ((y - line) / 0.07) ** 2) * smooth_step(side, 2.9, 2.4)

    ex, ey, _ = sculpture.EYE
    lid_up, lid_low = curve(topology.UPPER_LID, degrees), curve(topology.LOWER_LID, degrees)
    in_fissure = smooth_step(side, 1.55, 1.8) * smooth_step(side, 4.85, 4.6)
    lash = (
        front
        * in_fissure
        * (
            smooth_step(y, lid_up + 0.16, lid_up + 0.02)
            * smooth_step(y, lid_low - 0.02, lid_low + 0.04)
        )
    )
    lower_edge = front * in_fissure * smooth_step(np.abs(y - lid_low), 0.14, 0.0)
    socket = _blob(p, (3.2, 0.9, 7.5), 1.5, 0.7, 2.5) * skin
    bags = _blob(p, (3.0, -1.0, 7.5), 1.2, 0.45, 2.5) * skin
    cheeks = _blob(p, (4.4, -3.0, 7.0), 1.5, 1.3, 3.0) * skin
    nose = _blob(p, (0.0, -3.6, 10.5), 1.2, 1.2, 2.0) * skin
    nostril = _blob(p, (0.66, -4.62, 10.0), 0.3, 0.22, 0.6) * skin

    stubble = skin * _hair_shadow(mesh)
    cheek_line = np.interp(side, [0.0, 2.4, 4.5, 6.0, 7.0], [-4.6, -5.6, -4.6, -2.4, 0.0])
    jaw_back = np.interp(y, [-11.0, -7.5, -5.0, 1.0], [3.0, 1.2, 0.2, 0.2])
    beard = (
        skin
        * smooth_step(y - cheek_line, 0.9, -1.1)
        * smooth_step(y, -13.5, -11.5)
        * smooth_step(z - jaw_back, -0.6, 1.6)
    )
    bare_lip = np.maximum(lips, 0.7 * _blob(p, (1.0, -8.55, 9.0), 0.9, 0.3, 3.0) * front)
    beard = beard * (1 - bare_lip)
    wisp = np.interp(side, [0.0, 0.5, 2.0, 3.0], [-4.95, -4.95, -5.5, -6.4])
    moustache = (
        front
        * smooth_step(y - wisp, 0.1, -0.3)
        * smooth_step(y - lip_top, -0.05, 0.2)
        * smooth_step(side, 3.1, 2.2)
        * (1 - lips)
    )
    moustache = moustache * (1 - 0.5 * _blob(p, (0.0, -5.2, 10.0), 0.3, 0.6, 2.0))
    chin = _blob(p, (0.0, -10.2, 8.5), 1.7, 1.4, 3.0) * skin * (1 - bare_lip)
    freckles = _waves(p, 0.9, 3) * (cheeks + nose)

    tilt = mesh.place[:, 0] * eyes
    iris = eyes * smooth_step(tilt, 27.5, 25.5)
    pupil = eyes * smooth_step(tilt, 9.5, 8.0)
    limbus = eyes * np.exp(-0.5 * ((tilt - 25.5) / 2.0) ** 2)
    caruncle = eyes * smooth_step(side, 2.1, 1.75)

    s, around = mesh.place.T
    direction = np.radians(around) * np.sign(x)
    strands = (
        hair
        * (
            np.cos(11 * direction + 0.7)
            + np.cos(17 * direction + 2.1 + 2 * s)
            + np.cos(27 * direction + 4.4)
        )
        / 1.5
    )
    clumps = hair * _waves(p, 2.6, 5)

    bare = (skin | ears) * (1 - brow) * (1 - lips)
    rho, turn = mesh.place.T
    ear_front = (
        ears
        * smooth_step(rho, 0.55, 0.9)
        * smooth_step(np.abs((turn + 180) % 360 - 180), 75.0, 35.0)
    )
    throat = skin * smooth_step(y, -9.0, -12.5) * smooth_step(z, 8.5, 5.0)
    ear_depth = ears * np.exp(-0.5 * (mesh.place[:, 0] / 0.35) ** 2)
    albedo = (
        0.64 * bare * (1 - stubble) + 0.14 * stubble + (skin * brow) * 0.26 + (skin * lips) * 0.46
    )
    albedo -= (
        0.30 * lash * (1 - brow)
        + 0.14 * lower_edge
        + 0.04 * socket
        + 0.03 * bags
        + 0.22 * seam
        + 0.40 * nostril
        + 0.16 * ear_depth
        + 0.22 * ear_front
        + 0.10 * throat
    )
    albedo += hair * (0.13 + 0.012 * strands + 0.012 * clumps)
    albedo += (
        eyes * (0.74 * (1 - iris) + 0.30 * (iris - pupil) + 0.03 * pupil)
        - 0.14 * limbus * (1 - pupil)
        - 0.2 * caruncle
        - 0.12 * eyes * smooth_step(y, 0.1, 0.6) * (1 - iris)
    )

    fields = {
        "skin_tone": (skin | ears) * (0.11 * (1 - brow) * (1 - 0.4 * lips) * (1 - stubble))
        + 0.02 * (eyes * (1 - iris))
        - 0.04 * nostril,
        "skin_cheeks": -0.05 * (cheeks + nose),
        "skin_eye_shadow": -0.05 * (socket + bags) * (1 - brow),
        "skin_freckles": 0.015 * freckles,
        "lip_shade": 0.06 * skin * lips,
        "brow_shade": 0.08 * skin * brow,
        "iris_shade": 0.10 * (iris - pupil),
        "lash_shade": -0.07 * (lash + lower_edge),
        "hair_fairness": hair * (0.16 + 0.012 * strands + 0.012 * clumps)
        + 0.09 * brow * skin
        + 0.15 * stubble,
        "hair_strands": 0.02 * strands + 0.015 * clumps,
        "hair_grey_sides": 0.08 * hair * smooth_step(y, 7.0, 1.0),
        "beard_density": -0.11 * np.maximum(beard, moustache) * (1.0 + 0.04 * _waves(p, 1.5, 11)),
        "moustache": -0.05 * moustache,
        "goatee": -0.04 * chin,
    }
    return np.clip(albedo, 0.0, 1.0), fields


def _hair_shadow(mesh: Mesh) -> np.ndarray:
    """Where the scalp is darker because hair grows there, even if it is shaved; [V]."""
    x, y, z = mesh.points.T
    around = np.degrees(np.arctan2(np.abs(x), z - topology.CROWN[2]))
    return smooth_step(y - curve(topology.HAIRLINE, around), 0.4, 2.0)


def central_difference(
    function: Callable[[dict[str, float]], np.ndarray], trait: Trait
) -> np.ndarray:
    """What one standard deviation of the trait adds, about the mean."""
    if trait.one_sided:
        return function({trait.name: 1.0}) - function({})
    return (function({trait.name: 1.0}) - function({trait.name: -1.0})) / 2
