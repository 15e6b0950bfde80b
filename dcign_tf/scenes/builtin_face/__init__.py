"""A human head made by code alone: no scans, no pictures, no data files.

How it is made, a module for each step:

1.  `sculpture`: a mean head in clay, as a distance function: ellipsoids, rods and stacked sections of the sizes
    of adult heads, joined and cut with rounded seams.
2.  `skin`, `features`, `mesh`: a mesh over it. Rays cast onto the sculpture give the skin's vertices, dense about
    eyes, nose and mouth and lined up with lids and lips; eyeballs, ears and a shell of hair are set in.
3.  `traits`: the head as a function of 58 named traits of shape. Each moves or stretches a region with soft
    borders; what is painted moves along.
4.  `paint`: its grey reflectance, with 14 traits of shade.

`builtin_face` makes a linear model of that function: each mode is the central finite difference over one standard
deviation to both sides of the mean. Traits that only ever add something (a beard, longer hair) are one-sided.

Lengths are centimetres; the origin lies between the pupils, at the depth of the ears. A random draw of all
traits looks like a person up to about 2.5 standard deviations.

What one standard deviation more of each trait does (* is one-sided):

    skull_width         skull 3.5 % wider
    skull_height        vault 5 % higher above the brows
    skull_depth         back of the head 4 % deeper
    face_height         face 3 % longer below the eyes
    face_width          face 3.5 % wider
    weight              cheeks, jaw, chin and neck up to 4 mm fuller
    forehead_slope      forehead recedes by 5 mm at the hairline
    forehead_bulge      middle of the forehead 3 mm rounder
    temple_width        temples 3 mm fuller
    brow_ridge          bone of the brows 1.8 mm more prominent
    brow_height         brows 1.5 mm higher
    brow_thickness      brows a sixth thicker
    brow_tilt           brows 3 degrees steeper, outer ends higher
    eye_spacing         each eye 1.7 mm further out
    eye_size            eyes 8 % larger
    eye_height          eyes 1.5 mm higher
    eye_depth           eyes 2 mm deeper in their sockets
    eye_tilt            eyes turned by 5 degrees, outer corners higher
    eye_openness        lids 1 mm further apart
    lid_fold            folds of the upper lids 1 mm heavier
    eye_bags            bags below the eyes 0.8 mm thicker
    cheekbones          cheekbones 2.5 mm more prominent
    cheek_fullness      cheeks 4 mm fuller
    nasolabial_fold     furrows from nose to mouth 0.8 mm deeper
    nose_length         nose 3 mm longer
    nose_bridge_height  bridge of the nose 2.2 mm higher
    nose_bridge_width   bridge of the nose 12 % wider
    nose_hump           hump on the nose 1.5 mm higher
    nose_projection     nose stands out 2.5 mm more
    nose_tip_size       tip of the nose 12 % larger
    nose_tip_height     tip of the nose 2.5 mm higher
    nose_bend           nose 1 mm bent to the viewer's right
    nostril_width       wings of the nose 1.7 mm further out
    mouth_height        mouth 1.7 mm higher
    mouth_width         mouth 8 % wider
    mouth_corners       corners of the mouth 1.6 mm higher
    upper_lip_fullness  upper lip 1.1 mm higher and rounder
    lower_lip_fullness  lower lip 1.3 mm lower and rounder
    lip_protrusion      lips 1.5 mm further forward
    jaw_width           jaw 6 % wider, neck 3 %
    jaw_angle           corners of the jaw 3 mm lower and 2 mm further out
    chin_length         chin 3.5 mm longer
    chin_prominence     chin 3.5 mm further forward
    chin_width          chin 12 % wider
    double_chin*        skin below the chin 4 mm fuller
    ear_size            ears 8 % larger
    ear_protrusion      backs of the ears stand out 4 mm more
    ear_height          ears 2.5 mm higher
    neck_width          neck 6 % wider
    hair_volume_top     hair 2.8 mm higher on the top
    hair_volume_sides   hair 2.2 mm thicker at the sides and behind
    hair_part           hair 1.7 mm higher on the viewer's right, lower on the left
    hair_curls          curls 1.3 mm higher; hollows where the value is negative
    hair_waves          wider waves 1.3 mm higher; hollows where the value is negative
    hair_length*        hair 3.5 cm longer over the ears and behind
    hair_fringe*        hair falls 4 to 12 mm further over the forehead, aslant
    hairline_height     hairline 6 mm higher
    hairline_temples    hairline 5 mm further back at the temples
    skin_tone           skin lighter by 0.11
    skin_cheeks         cheeks and nose darker by 0.05
    skin_eye_shadow     sockets darker by 0.05
    skin_freckles       freckles stronger by 0.012
    lip_shade           lips lighter by 0.06
    brow_shade          brows lighter by 0.08
    iris_shade          irises lighter by 0.1
    lash_shade          edges of the lids darker by 0.07
    hair_fairness*      hair lighter by 0.16, brows by 0.09
    hair_strands        strands stronger by 0.025
    hair_grey_sides*    hair at the sides lighter by 0.08
    beard_density*      beard and moustache darker by 0.11
    moustache           moustache darker by 0.05
    goatee              beard of the chin darker by 0.04
"""

import functools

import numpy as np

from dcign_tf.scenes.builtin_face.traits import SHADE_TRAITS, SHAPE_TRAITS, Head, mode
from dcign_tf.scenes.morphable import MorphableModel

# Framing: the head turns about its neck, as heads do. Of the points that were tried this one lets both azimuth and
# elevation be learned (docs/training.md). From chin to hairline the face fills three quarters of the picture's height.
_CENTER = (0.0, -2.0, -2.0)
_RADIUS = 14.0


@functools.cache
def builtin_face() -> MorphableModel:
    """Makes the built-in head as a morphable model; the same bytes each time."""
    head = Head()
    return MorphableModel(
        mean_shape=head.vertices({}),
        shape_modes=np.stack([mode(head.vertices, trait) for trait in SHAPE_TRAITS]),
        mean_albedo=head.albedo({}),
        albedo_modes=np.stack([mode(head.albedo, trait) for trait in SHADE_TRAITS]),
        triangles=head.mesh.triangles,
        shape_mode_names=tuple(trait.name for trait in SHAPE_TRAITS),
        albedo_mode_names=tuple(trait.name for trait in SHADE_TRAITS),
        one_sided=np.array([trait.one_sided for trait in SHAPE_TRAITS + SHADE_TRAITS]),
        center=np.array(_CENTER),
        radius=_RADIUS,
        name="builtin_face",
        source="made by code of dcign_tf (MIT licence); no scans or pictures of people went into it",
    )
