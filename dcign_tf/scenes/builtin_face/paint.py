"""Grey reflectance: of the mean head, and what each trait of shade adds to it.

Everything is painted by the place of a vertex on the mean head, so that it stays on its feature when that moves.
"""

import numpy as np

from dcign_tf.scenes.builtin_face import features, skin
from dcign_tf.scenes.builtin_face.mesh import EARS, EYES, HAIR, SKIN, Mesh
from dcign_tf.scenes.builtin_face.shapes import bell, curve, smooth_step, spot, waves

# The middle of the brow on the viewer's right: x and height.
BROW = ((0.8, 2.15), (1.6, 2.45), (2.8, 2.75), (3.8, 2.85), (4.7, 2.6), (5.6, 1.9))


def paint(mesh: Mesh) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The mean's albedo [V] and, by trait, what one standard deviation adds to it [V]."""
    points = mesh.points
    x, y, z = points.T
    side = np.abs(x)
    on_skin, on_eyes, on_ears, on_hair = (
        (mesh.part == part).astype(np.float64) for part in (SKIN, EYES, EARS, HAIR)
    )
    front = smooth_step(z, 2.0, 5.0) * on_skin
    # About the angles by which the skin's rings are laid, which follow lids and lips.
    angle = np.degrees(np.arcsin(np.clip(side / 7.2, 0.0, 1.0)))

    half_width = np.interp(side, (0.8, 1.8, 4.0, 5.8), (0.32, 0.40, 0.30, 0.12))
    brow = smooth_step(np.abs(y - curve(BROW, side)) - half_width, 0.16, -0.16)
    brow *= front * smooth_step(side, 0.65, 1.2) * smooth_step(side, 6.0, 5.2)

    lip_top, lip_bottom, line = (
        curve(ring, angle) for ring in (skin.UPPER_LIP, skin.LOWER_LIP, skin.MOUTH)
    )
    at_mouth = front * smooth_step(z, 6.5, 7.2)
    lips = at_mouth * smooth_step(y - lip_top, 0.10, -0.10) * smooth_step(side, 2.65, 2.3)
    lips *= smooth_step(y - lip_bottom, -0.12, 0.12)
    seam = at_mouth * bell(y, line, 0.07) * smooth_step(side, 2.9, 2.4)

    upper, lower = curve(skin.UPPER_LID, angle), curve(skin.LOWER_LID, angle)
    at_lids = front * smooth_step(side, 1.55, 1.8) * smooth_step(side, 4.85, 4.6)
    lashes = at_lids * smooth_step(y - upper, 0.16, 0.02) * smooth_step(y - lower, -0.02, 0.04)
    lower_edge = at_lids * smooth_step(np.abs(y - lower), 0.14, 0.0)

    socket = on_skin * spot(points, (3.2, 0.9, 7.5), (1.5, 0.7, 2.5))
    bags = on_skin * spot(points, (3.0, -1.0, 7.5), (1.2, 0.45, 2.5))
    cheeks = on_skin * spot(points, (4.4, -3.0, 7.0), (1.5, 1.3, 3.0))
    nose = on_skin * spot(points, (0.0, -3.6, 10.5), (1.2, 1.2, 2.0))
    nostrils = on_skin * spot(points, (0.66, -4.62, 10.0), (0.3, 0.22, 0.6))
    throat = on_skin * smooth_step(y, -9.0, -12.5) * smooth_step(z, 8.5, 5.0)

    rho, turn = mesh.place.T
    shell = on_ears * bell(rho, 0.0, 0.35)
    toward_cheek = smooth_step(np.abs((turn + 180.0) % 360.0 - 180.0), 75.0, 35.0)
    ear_edge = on_ears * smooth_step(rho, 0.55, 0.9) * toward_cheek

    tilt = mesh.place[:, 0]
    pupil = on_eyes * smooth_step(tilt, features.PUPIL + 0.5, features.PUPIL - 1.0)
    disk = on_eyes * smooth_step(tilt, features.IRIS + 1.0, features.IRIS - 1.0)
    iris, sclera = disk - pupil, on_eyes - disk
    limbus = on_eyes * bell(tilt, features.IRIS - 1.0, 2.0)
    caruncle = on_eyes * smooth_step(side, 2.1, 1.75)
    lid_shadow = sclera * smooth_step(y, 0.1, 0.6)

    # The scalp has the color of the hair that grows on it, so that gaps in the hair do not show.
    around = np.degrees(np.arctan2(side, z - features.CROWN[2]))
    scalp = on_skin * smooth_step(y - curve(features.HAIRLINE, around), 0.9, 2.4)
    s, around = mesh.place.T
    turn = np.radians(around)
    strands = np.cos(11 * turn + 0.7) + np.cos(17 * turn + 2.1 + 2 * s) + np.cos(27 * turn + 4.4)
    strands *= on_hair / 1.5
    clumps = on_hair * waves(np.column_stack([side, y, z]), 2.6, 5)

    cheek_line = np.interp(side, (0.0, 2.4, 4.5, 6.0, 7.0), (-4.6, -5.6, -4.6, -2.4, 0.0))
    jaw_back = np.interp(y, (-11.0, -7.5, -5.0, 1.0), (3.0, 1.2, 0.2, 0.2))
    below_lip = front * spot(points, (1.0, -8.55, 9.0), (0.9, 0.3, 3.0))
    shaven = 1.0 - np.maximum(lips, 0.7 * below_lip)
    beard = on_skin * smooth_step(y - cheek_line, 0.9, -1.1) * smooth_step(y, -13.5, -11.5)
    beard *= smooth_step(z - jaw_back, -0.6, 1.6) * shaven
    below_nose = np.interp(side, (0.0, 0.5, 2.0, 3.0), (-4.95, -4.95, -5.5, -6.4))
    moustache = front * smooth_step(y - below_nose, 0.1, -0.3) * smooth_step(side, 3.1, 2.2)
    moustache *= smooth_step(y - lip_top, -0.05, 0.2) * (1.0 - lips)
    moustache *= 1.0 - 0.5 * spot(points, (0.0, -5.2, 10.0), (0.3, 0.6, 2.0))
    goatee = on_skin * spot(points, (0.0, -10.2, 8.5), (1.7, 1.4, 3.0)) * shaven

    bare = (on_skin + on_ears) * (1.0 - brow) * (1.0 - lips) * (1.0 - scalp)
    albedo = 0.64 * bare + 0.26 * brow + 0.46 * lips + 0.14 * scalp
    albedo -= 0.30 * lashes + 0.14 * lower_edge + 0.04 * socket + 0.03 * bags
    albedo -= 0.22 * seam + 0.40 * nostrils + 0.10 * throat + 0.16 * shell + 0.22 * ear_edge
    albedo += 0.13 * on_hair + 0.02 * strands + 0.015 * clumps
    albedo += 0.74 * sclera + 0.30 * iris + 0.03 * pupil
    albedo -= 0.14 * limbus * (1.0 - pupil) + 0.20 * caruncle + 0.12 * lid_shadow

    tanned = bare + lips * (0.6 - 0.6 * brow)
    return np.clip(albedo, 0.0, 1.0), {
        "skin_tone": 0.11 * tanned + 0.02 * sclera - 0.04 * nostrils,
        "skin_cheeks": -0.05 * (cheeks + nose),
        "skin_eye_shadow": -0.05 * (socket + bags) * (1.0 - brow),
        "skin_freckles": 0.012 * waves(points, 0.9, 3) * (cheeks + nose),
        "lip_shade": 0.06 * lips,
        "brow_shade": 0.08 * brow,
        "iris_shade": 0.10 * iris,
        "lash_shade": -0.07 * (lashes + lower_edge),
        "hair_fairness": 0.16 * on_hair + 0.02 * (strands + clumps) + 0.15 * scalp + 0.09 * brow,
        "hair_strands": 0.025 * strands + 0.02 * clumps,
        "hair_grey_sides": 0.08 * on_hair * smooth_step(y, 7.0, 1.0),
        "beard_density": -0.11
        * np.maximum(beard, moustache)
        * (1.0 + 0.04 * waves(points, 1.5, 11)),
        "moustache": -0.05 * moustache,
        "goatee": -0.04 * goatee,
    }
