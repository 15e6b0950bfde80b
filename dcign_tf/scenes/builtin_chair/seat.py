"""Seats and cushions."""

from collections.abc import Iterator

import numpy as np

from dcign_tf.scenes.builtin_chair.plan import Plan
from dcign_tf.scenes.builtin_chair.solids import Part, sheet, slab, superellipse


def seat(plan: Plan) -> Iterator[Part]:
    """The seat, with the back where both are one shell, and the cushion on it."""
    chair = plan.chair
    yield _shell(plan) if chair.back == "shell" else _seat(plan)
    if plan.cushion:
        yield _cushion(plan)


def _seat(plan: Plan) -> Part:
    chair = plan.chair
    outline = superellipse(
        chair.seat_width, chair.seat_depth, chair.seat_rear, chair.seat_front, 48
    )

    def place(u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
        narrower = 1 - chair.seat_taper * (0.5 - v / chair.seat_depth)
        return np.stack([u * narrower, plan.top(v) - chair.seat_thickness + w, v], -1)

    dome = -min(chair.seat_dish, 0.5 * chair.seat_thickness)
    return slab(
        "seat", chair.seat_shade, outline, chair.seat_thickness, chair.seat_edge, place, dome
    )


def _cushion(plan: Plan) -> Part:
    chair = plan.chair
    width, depth, shift = 0.9 * chair.seat_width, 0.88 * chair.seat_depth, 0.02 * chair.seat_depth
    front, rear = chair.seat_front, chair.seat_rear
    if chair.kind == "armchair":  # fits in between the arms
        width, depth, shift = chair.seat_width - 1, chair.seat_depth - 1, 1.5
    elif chair.kind == "windsor":
        width, depth = 0.8 * chair.seat_width, 0.78 * chair.seat_depth
    elif chair.back == "shell":
        width, depth, shift = 0.72 * chair.seat_width, 0.7 * chair.seat_depth, 0.0
        front = rear = 3.0
    thickness = chair.cushion_thickness
    outline = superellipse(width, depth, min(rear, 7), min(front, 7), 48)

    def place(u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
        z = v + shift
        narrower = 1 - chair.seat_taper * (0.5 - v / chair.seat_depth)
        level = chair.seat_height + plan.slope * z
        sunk = 0.8 if chair.back == "shell" else 0.4
        return np.stack([u * narrower, level - sunk + w, z], -1)

    return slab(
        "cushion",
        chair.cushion_shade,
        outline,
        thickness,
        0.45 * thickness,
        place,
        chair.cushion_dome,
    )


def _shell(plan: Plan) -> Part:
    chair = plan.chair

    def place(row: np.ndarray, u: np.ndarray, height: np.ndarray) -> np.ndarray:
        rows = row.astype(int)
        y, z = np.moveaxis(plan.shell(rows, u, height), -1, 0)
        return np.stack([u * plan.shell_widths[rows], y, z], -1)

    return sheet("shell", chair.seat_shade, len(plan.shell_path), place)
