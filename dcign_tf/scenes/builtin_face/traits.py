"""What makes heads differ: named traits of shape and of shade, and the head as a function of them."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from dcign_tf.scenes.builtin_face import features, mesh, sculpture, skin
from dcign_tf.scenes.builtin_face.mesh import EARS, EYES, HAIR, SKIN, Mesh
from dcign_tf.scenes.builtin_face.paint import BROW, paint
from dcign_tf.scenes.builtin_face.shapes import bell, curve, smooth_step, spot, waves


@dataclasses.dataclass(frozen=True)
class Trait:
    """One way in which heads differ.

    Attributes:
        name: what it is called.
        effect: what one standard deviation more does.
        one_sided: whether its value is never negative.
    """

    name: str
    effect: str
    one_sided: bool = False


SHAPE_TRAITS = (
    Trait("skull_width", "skull 3.5 % wider"),
    Trait("skull_height", "vault 5 % higher above the brows"),
    Trait("skull_depth", "back of the head 4 % deeper"),
    Trait("face_height", "face 3 % longer below the eyes"),
    Trait("face_width", "face 3.5 % wider"),
    Trait("weight", "cheeks, jaw, chin and neck up to 4 mm fuller"),
    Trait("forehead_slope", "forehead recedes by 5 mm at the hairline"),
    Trait("forehead_bulge", "middle of the forehead 3 mm rounder"),
    Trait("temple_width", "temples 3 mm fuller"),
    Trait("brow_ridge", "bone of the brows 1.8 mm more prominent"),
    Trait("brow_height", "brows 1.5 mm higher"),
    Trait("brow_thickness", "brows a sixth thicker"),
    Trait("brow_tilt", "brows 3 degrees steeper, outer ends higher"),
    Trait("eye_spacing", "each eye 1.7 mm further out"),
    Trait("eye_size", "eyes 8 % larger"),
    Trait("eye_height", "eyes 1.5 mm higher"),
    Trait("eye_depth", "eyes 2 mm deeper in their sockets"),
    Trait("eye_tilt", "eyes turned by 5 degrees, outer corners higher"),
    Trait("eye_openness", "lids 1 mm further apart"),
    Trait("lid_fold", "folds of the upper lids 1 mm heavier"),
    Trait("eye_bags", "bags below the eyes 0.8 mm thicker"),
    Trait("cheekbones", "cheekbones 2.5 mm more prominent"),
    Trait("cheek_fullness", "cheeks 4 mm fuller"),
    Trait("nasolabial_fold", "furrows from nose to mouth 0.8 mm deeper"),
    Trait("nose_length", "nose 3 mm longer"),
    Trait("nose_bridge_height", "bridge of the nose 2.2 mm higher"),
    Trait("nose_bridge_width", "bridge of the nose 12 % wider"),
    Trait("nose_hump", "hump on the nose 1.5 mm higher"),
    Trait("nose_projection", "nose stands out 2.5 mm more"),
    Trait("nose_tip_size", "tip of the nose 12 % larger"),
    Trait("nose_tip_height", "tip of the nose 2.5 mm higher"),
    Trait("nose_bend", "nose 1 mm bent to the viewer's right"),
    Trait("nostril_width", "wings of the nose 1.7 mm further out"),
    Trait("mouth_height", "mouth 1.7 mm higher"),
    Trait("mouth_width", "mouth 8 % wider"),
    Trait("mouth_corners", "corners of the mouth 1.6 mm higher"),
    Trait("upper_lip_fullness", "upper lip 1.1 mm higher and rounder"),
    Trait("lower_lip_fullness", "lower lip 1.3 mm lower and rounder"),
    Trait("lip_protrusion", "lips 1.5 mm further forward"),
    Trait("jaw_width", "jaw 6 % wider, neck 3 %"),
    Trait("jaw_angle", "corners of the jaw 3 mm lower and 2 mm further out"),
    Trait("chin_length", "chin 3.5 mm longer"),
    Trait("chin_prominence", "chin 3.5 mm further forward"),
    Trait("chin_width", "chin 12 % wider"),
    Trait("double_chin", "skin below the chin 4 mm fuller", one_sided=True),
    Trait("ear_size", "ears 8 % larger"),
    Trait("ear_protrusion", "backs of the ears stand out 4 mm more"),
    Trait("ear_height", "ears 2.5 mm higher"),
    Trait("neck_width", "neck 6 % wider"),
    Trait("hair_volume_top", "hair 2.8 mm higher on the top"),
    Trait("hair_volume_sides", "hair 2.2 mm thicker at the sides and behind"),
    Trait("hair_part", "hair 1.7 mm higher on the viewer's right, lower on the left"),
    Trait("hair_curls", "curls 1.3 mm higher; hollows where the value is negative"),
    Trait("hair_waves", "wider waves 1.3 mm higher; hollows where the value is negative"),
    Trait("hair_length", "hair 3.5 cm longer over the ears and behind", one_sided=True),
    Trait("hair_fringe", "hair falls 4 to 12 mm further over the forehead, aslant", one_sided=True),
    Trait("hairline_height", "hairline 6 mm higher"),
    Trait("hairline_temples", "hairline 5 mm further back at the temples"),
)

SHADE_TRAITS = (
    Trait("skin_tone", "skin lighter by 0.11"),
    Trait("skin_cheeks", "cheeks and nose darker by 0.05"),
    Trait("skin_eye_shadow", "sockets darker by 0.05"),
    Trait("skin_freckles", "freckles stronger by 0.012"),
    Trait("lip_shade", "lips lighter by 0.06"),
    Trait("brow_shade", "brows lighter by 0.08"),
    Trait("iris_shade", "irises lighter by 0.1"),
    Trait("lash_shade", "edges of the lids darker by 0.07"),
    Trait("hair_fairness", "hair lighter by 0.16, brows by 0.09", one_sided=True),
    Trait("hair_strands", "strands stronger by 0.025"),
    Trait("hair_grey_sides", "hair at the sides lighter by 0.08", one_sided=True),
    Trait("beard_density", "beard and moustache darker by 0.11", one_sided=True),
    Trait("moustache", "moustache darker by 0.05"),
    Trait("goatee", "beard of the chin darker by 0.04"),
)


@dataclasses.dataclass
class _Change:
    """What one standard deviation of a trait does to the vertices; both float64 [V, 3].

    Attributes:
        move: is added to their positions.
        stretch: is added to the logarithms of the factors by which positions are multiplied after all moves.
    """

    move: np.ndarray
    stretch: np.ndarray | None = None


class Head:
    """The head as a function of its traits, in standard deviations. Traits that are not named are 0, the mean's."""

    def __init__(self) -> None:
        self.mesh: Mesh = mesh.join(
            {
                SKIN: skin.half(),
                EYES: features.eyeball(),
                EARS: features.ear(),
                HAIR: features.half_hair(),
            }
        )
        self._changes = _face(self.mesh) | _hair(self.mesh)
        self._mean_albedo, self._shades = paint(self.mesh)

    def vertices(self, values: Mapping[str, float]) -> np.ndarray:
        """Positions of the vertices, in centimetres; float64 [V, 3]."""
        points = self.mesh.points.copy()
        stretch = None
        for name, value in values.items():
            change = self._changes[name]
            points += value * change.move
            if change.stretch is not None:
                stretch = value * change.stretch + (0.0 if stretch is None else stretch)
        return points if stretch is None else points * np.exp(stretch)

    def albedo(self, values: Mapping[str, float]) -> np.ndarray:
        """Grey reflectance of the vertices, not yet limited to [0, 1]; float64 [V]."""
        return self._mean_albedo + sum(value * self._shades[name] for name, value in values.items())


def mode(function: Callable[[Mapping[str, float]], np.ndarray], trait: Trait) -> np.ndarray:
    """What one standard deviation of a trait adds to a function of the head, by central differences.

    For one-sided traits, which have no other side, by the difference from the mean.
    """
    if trait.one_sided:
        return function({trait.name: 1.0}) - function({})
    return (function({trait.name: 1.0}) - function({trait.name: -1.0})) / 2


def _face(head: Mesh) -> dict[str, _Change]:
    points = head.points
    x, y, z = points.T
    side, sign = np.abs(x), np.sign(x)
    on_skin, on_eyes, on_ears = (
        (head.part == part).astype(np.float64) for part in (SKIN, EYES, EARS)
    )
    nothing = np.zeros(len(points))
    changes: dict[str, _Change] = {}

    def move(
        name: str, out: np.ndarray = nothing, up: np.ndarray = nothing, forth: np.ndarray = nothing
    ) -> None:
        """Outward means away from the middle, on both sides."""
        changes[name] = _Change(np.stack([sign * out, up, forth], axis=1))

    def stretch(name: str, wide: np.ndarray = nothing, high: np.ndarray = nothing) -> None:
        changes[name] = _Change(np.zeros_like(points), np.stack([wide, high, nothing], axis=1))

    front = smooth_step(z, 1.0, 5.0)

    # Skull, face, neck.
    stretch("skull_width", wide=0.035 * (0.25 + 0.75 * smooth_step(y, -8.0, 3.0)))
    move("skull_height", up=0.05 * np.maximum(y - 2.5, 0.0) * smooth_step(y, 2.0, 6.0))
    behind = smooth_step(z, 2.0, -3.0) * smooth_step(y, -13.0, -4.0)
    move("skull_depth", forth=0.04 * (z - 1.0) * behind)
    stretch("face_height", high=0.03 * smooth_step(y, 0.5, -2.0) * smooth_step(z, -4.0, 2.0))
    stretch("face_width", wide=0.035 * smooth_step(y, 6.0, 0.0) * smooth_step(z, -6.0, 2.0))
    neck = smooth_step(y, -8.5, -13.0)
    stretch("neck_width", wide=0.06 * neck)
    changes["neck_width"].move[:, 2] = 0.06 * (z + 2.6) * neck * smooth_step(z, 4.5, -1.0)
    cheek = spot(points, (5.2, -5.4, 4.5), (2.0, 2.4, 3.0))
    jowl = spot(points, (4.6, -9.0, 3.5), (2.2, 1.8, 3.2))
    throat = spot(points, (0.0, -12.0, 5.0), (3.0, 1.6, 2.6))
    move(
        "weight",
        out=0.36 * cheek + 0.42 * jowl + side * (0.037 * neck + 0.007 * smooth_step(y, -10.0, 3.0)),
        up=-0.3 * throat - 0.1 * jowl,
        forth=0.12 * cheek + 0.08 * jowl,
    )
    move("double_chin", out=0.15 * jowl, up=-0.4 * throat)

    # Forehead and brows. The painted brows slide along the skin.
    recede = smooth_step(y, 2.5, 9.0) * smooth_step(z, -2.0, 5.0)
    move("forehead_slope", up=-0.1 * recede, forth=-0.5 * recede)
    move("forehead_bulge", forth=0.3 * spot(points, (0.0, 5.6, 8.0), (3.5, 1.8, 4.0)))
    move("temple_width", out=0.3 * spot(points, (6.5, 3.0, 4.5), (3.0, 2.0, 2.6)))
    ridge = bell(y, 2.1 + 0.1 * np.minimum(side, 3.5), 0.75) * smooth_step(side, 6.0, 3.5) * front
    move("brow_ridge", up=-0.03 * ridge, forth=0.18 * ridge)
    above = y - curve(BROW, side)
    brow = smooth_step(np.abs(above), 1.8, 0.3) * front * on_skin
    brow *= smooth_step(side, 6.6, 5.4) * smooth_step(side, 0.1, 0.9)
    move("brow_height", up=0.15 * brow, forth=-0.05 * brow)
    move("brow_thickness", up=0.25 * brow * above * bell(above, 0.0, 0.5))
    move("brow_tilt", up=0.05 * brow * (side - 3.0))

    # Eyes move as wholes, lids and balls alike.
    ex, ey, ez = sculpture.EYE
    away = np.hypot((side - ex) / 1.25, y - ey)
    eye = np.maximum(smooth_step(away, 2.7, 1.2) * smooth_step(z, 3.0, 5.5) * on_skin, on_eyes)
    move("eye_spacing", out=0.17 * eye)
    move(
        "eye_size",
        out=0.08 * (side - ex) * eye,
        up=0.08 * (y - ey) * eye,
        forth=0.06 * (z - ez) * eye,
    )
    move("eye_height", up=0.15 * eye)
    move("eye_depth", forth=-0.2 * eye)
    move("eye_tilt", out=-0.087 * (y - ey) * eye, up=0.087 * (side - ex) * eye)
    lids = on_skin * front * smooth_step(np.abs(side - ex), 1.6, 0.3)
    upper = lids * smooth_step(y, 1.5, 0.7) * smooth_step(y, -0.05, 0.25)
    lower = lids * smooth_step(y, -1.4, -0.6) * smooth_step(y, 0.05, -0.25)
    move("eye_openness", up=0.075 * upper - 0.035 * lower, forth=-0.02 * upper)
    fold = on_skin * spot(points, (3.4, 0.95, 7.9), (1.3, 0.35, 1.5))
    move("lid_fold", up=-0.10 * fold, forth=0.12 * fold)
    bag = on_skin * spot(points, (3.2, -1.15, 7.9), (1.0, 0.42, 1.5))
    move("eye_bags", up=-0.03 * bag, forth=0.08 * bag)

    # Cheeks.
    bone = spot(points, (5.2, -2.0, 5.8), (1.6, 1.1, 1.8))
    move("cheekbones", out=0.22 * bone, forth=0.16 * bone)
    full = spot(points, (4.6, -5.0, 6.0), (1.6, 1.8, 2.0))
    move("cheek_fullness", out=0.30 * full, forth=0.25 * full)
    furrow = side - np.interp(-y, (3.8, 5.2, 6.8), (2.0, 2.7, 3.2))
    along = smooth_step(y, -7.4, -6.4) * smooth_step(y, -3.2, -4.2) * front
    move(
        "nasolabial_fold",
        forth=along * (0.03 * bell(furrow, 0.55, 0.35) - 0.06 * bell(furrow, 0.0, 0.25)),
    )

    # The nose, from its root between the eyes to its base.
    nose = smooth_step(side, 3.0, 1.4) * front
    move("nose_length", up=-0.3 * nose * smooth_step(y, 0.5, -4.0) * smooth_step(y, -7.0, -4.8))
    move(
        "nose_bridge_height", forth=0.22 * smooth_step(side, 1.5, 0.2) * front * bell(y, -0.6, 1.3)
    )
    bridge = smooth_step(side, 2.3, 0.9) * front * bell(y, -1.4, 1.4)
    move("nose_bridge_width", out=0.12 * side * bridge)
    move("nose_hump", forth=0.15 * smooth_step(side, 1.2, 0.1) * front * bell(y, -1.7, 0.8))
    standing = smooth_step(side, 2.4, 1.2) * smooth_step(y, 1.0, -2.5) * smooth_step(y, -5.6, -4.7)
    move("nose_projection", forth=0.11 * np.maximum(z - 8.9, 0.0) * standing)
    tip = spot(points, (0.0, -3.7, 10.8), (1.2, 0.85, 1.2))
    move("nose_tip_size", out=0.12 * side * tip, up=0.12 * (y + 3.7) * tip, forth=0.10 * tip)
    tip = spot(points, (0.0, -3.9, 11.0), (1.2, 1.1, 1.3))
    move("nose_tip_height", up=0.25 * tip, forth=0.03 * tip)
    bent = (
        smooth_step(side, 2.6, 0.8) * front * smooth_step(y, 0.5, -2.0) * smooth_step(y, -6.0, -4.6)
    )
    changes["nose_bend"] = _Change(np.stack([0.1 * bent, nothing, nothing], axis=1))
    wing = spot(points, (1.6, -4.1, 9.3), (0.9, 0.75, 1.1))
    move("nostril_width", out=0.17 * wing * smooth_step(side, 0.1, 1.2))

    # Mouth and lips.
    mouth = smooth_step(side, 5.0, 2.6) * front
    mouth_up = mouth * smooth_step(y, -4.8, -6.5) * smooth_step(y, -11.0, -8.0)
    move("mouth_height", up=0.17 * mouth_up)
    move(
        "mouth_width",
        out=0.08 * side * mouth * smooth_step(y, -4.9, -6.0) * smooth_step(y, -9.4, -8.0),
    )
    corner = spot(points, (2.5, -6.95, 8.0), (1.0, 0.8, 1.5))
    move("mouth_corners", out=0.03 * corner, up=0.16 * corner, forth=-0.04 * corner)
    above = y - curve(((0.0, -6.9), (1.0, -6.87), (2.5, -6.92), (3.5, -6.92)), side)
    lips = smooth_step(side, 2.5, 1.0) * front
    raised = lips * smooth_step(above, 0.0, 0.65) * smooth_step(above, 1.8, 0.8)
    move("upper_lip_fullness", up=0.11 * raised, forth=0.05 * lips * bell(above, 0.45, 0.35))
    lowered = lips * smooth_step(above, 0.0, -0.8) * smooth_step(above, -2.2, -1.0)
    move("lower_lip_fullness", up=-0.13 * lowered, forth=0.09 * lips * bell(above, -0.5, 0.4))
    move("lip_protrusion", forth=0.15 * spot(points, (0.0, -6.9, 9.3), (2.2, 1.1, 2.0)))

    # Jaw and chin. The neck follows the jaw halfway: none is wider than the other.
    jaw = smooth_step(y, -2.5, -7.5) * (0.45 + 0.55 * smooth_step(y, -14.5, -11.0))
    jaw *= np.maximum(smooth_step(z, -3.5, 1.0), smooth_step(y, -8.0, -12.0))
    stretch("jaw_width", wide=0.06 * jaw)
    angle = spot(points, (5.4, -7.2, 1.5), (2.0, 1.6, 2.4))
    move("jaw_angle", out=0.2 * angle, up=-0.3 * angle)
    chin = smooth_step(y, -8.0, -10.5) * smooth_step(z, 0.0, 6.5) * smooth_step(y, -15.0, -11.0)
    move("chin_length", up=-0.35 * chin)
    move("chin_prominence", forth=0.35 * spot(points, (0.0, -10.3, 8.6), (2.4, 1.3, 2.6)))
    move("chin_width", out=0.12 * side * spot(points, (1.2, -10.4, 8.0), (2.6, 1.4, 2.6)))

    # Ears.
    ax, ay, az = features.EAR
    move(
        "ear_size",
        out=0.05 * np.maximum(side - ax, 0.0) * on_ears,
        up=0.08 * (y - ay) * on_ears,
        forth=0.08 * (z - az) * on_ears,
    )
    move("ear_protrusion", out=0.13 * np.maximum(az + 1.0 - z, 0.0) * on_ears)
    move("ear_height", up=0.25 * on_ears)
    return changes


def _hair(head: Mesh) -> dict[str, _Change]:
    points = head.points
    x, y, z = points.T
    hair = (head.part == HAIR).astype(np.float64)
    s, around = (
        head.place.T
    )  # from the crown (0) to the hairline (1), and about the head from the front
    outward = points - features.CROWN
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)

    # Volume changes in proportion to how far hair stands off the scalp, so that none shows through.
    volume = hair * features.hair_profile(s)
    top = smooth_step(y, 2.5, 8.0)
    ear = spot(points, (7.5, 0.5, -1.2), (3.0, 3.2, 3.0))
    rough = volume * smooth_step(s, 0.1, 0.4) * (1.0 - 0.7 * ear)
    grown = {
        "hair_volume_top": 0.28 * volume * top,
        "hair_volume_sides": 0.22 * volume * (1.0 - top) * (1.0 - 0.8 * ear),
        "hair_part": 0.17 * volume * top * smooth_step(z, -6.0, 3.0) * np.clip(x / 4.0, -1.0, 1.0),
        "hair_curls": 0.13 * rough * waves(points, 2.2, 17),
        "hair_waves": 0.13 * rough * waves(points * [1.0, 0.6, 0.6], 4.5, 29),
    }
    changes = {name: _Change(amount[:, None] * outward) for name, amount in grown.items()}

    # Longer hair covers ears and neck, and stands off from them.
    longer = hair * smooth_step(s, 0.3, 1.0) * smooth_step(around, 86.0, 114.0)
    off = hair * smooth_step(s, 0.3, 0.85) * smooth_step(around, 72.0, 96.0)
    aside = off * smooth_step(around, 178.0, 120.0) * (1.0 - 0.6 * smooth_step(s, 0.75, 1.0))
    back = off * smooth_step(around, 110.0, 160.0)
    # It presses the ears to the head, so that it hides them.
    pressed = -0.27 * (head.part == EARS) * np.maximum(np.abs(x) - features.EAR[0], 0.0)
    changes["hair_length"] = _Change(
        np.stack([(1.1 * aside + pressed) * np.sign(x), -3.5 * longer, -0.35 * back], axis=1)
    )

    # The hairline slides over the skull, up and back or down and forth.
    slide = np.zeros_like(points)
    movable = np.flatnonzero(hair * smooth_step(s, 0.45, 1.0) * smooth_step(around, 80.0, 75.0))
    slide[movable] = _slide(outward[movable])
    rim = hair * smooth_step(s, 0.45, 1.0)
    front = smooth_step(around, 58.0, 25.0)
    changes["hairline_height"] = _Change(
        (0.6 * rim * smooth_step(around, 62.0, 35.0))[:, None] * slide
    )
    changes["hairline_temples"] = _Change((0.5 * rim * bell(around, 42.0, 13.0))[:, None] * slide)
    aslant = 0.65 - 0.35 * np.clip(x / 3.0, -1.0, 1.0)
    lifted = 0.08 * front * hair * smooth_step(s, 0.5, 0.9)
    changes["hair_fringe"] = _Change(
        (-1.2 * rim * front * aslant)[:, None] * slide + lifted[:, None] * outward
    )
    return changes


def _slide(outward: np.ndarray) -> np.ndarray:
    """Where the scalp goes as directions from the skull's middle turn back by one centimetre; [N, 3]."""
    middle = np.broadcast_to(features.CROWN, outward.shape)
    angle = 0.1
    places = []
    for a in (angle, -angle):
        # About the axis through the ears.
        back = np.array([[1, 0, 0], [0, np.cos(a), np.sin(a)], [0, -np.sin(a), np.cos(a)]])
        places.append(sculpture.cast(middle + 14.0 * (outward @ back.T), middle))
    return (places[0] - places[1]) / (2 * angle) / 8.0
