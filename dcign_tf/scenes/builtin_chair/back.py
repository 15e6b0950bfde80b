"""Backs. Posts that are the rear legs' upper ends are made with these, in `base`."""

from collections.abc import Callable, Iterator

import numpy as np

from dcign_tf.scenes.builtin_chair.plan import Plan
from dcign_tf.scenes.builtin_chair.solids import (
    Part,
    circle,
    fillet,
    loft,
    post,
    rectangle,
    slab,
    superellipse,
    sweep,
    tube,
)

_RAIL = 2.0  # thickness of rails and slats


def back(plan: Plan) -> Iterator[Part]:
    """The back and what holds it, with its cushion."""
    chair = plan.chair
    if chair.back == "shell":
        return
    yield from {
        "solid": _solid,
        "slats": _slats,
        "spindles": _spindles,
        "ladder": _ladder,
        "cross": _cross,
        "hoop": _hoop,
        "splat": _splat,
    }[chair.back](plan)
    if chair.back not in ("solid", "hoop"):
        yield _crest(plan)
        if not plan.is_framed and chair.kind != "windsor":
            yield from _posts(plan)
    if chair.cushion == "both":
        yield _cushion(plan)


def post_line(plan: Plan) -> tuple[float, float]:
    """u of the right post, and the v it ends at."""
    chair = plan.chair
    u = plan.half_back - chair.leg_thickness / 2
    if chair.back == "solid":
        half = chair.back_height * (1 - chair.back_gap) / 2
        power = chair.back_squareness
        reach = (1 - ((u + 0.5 * chair.leg_thickness) / (plan.half_back + 1.2)) ** power) ** (
            1 / power
        )
        return u, chair.back_height - half + 0.85 * half * reach
    return u, chair.back_height - 0.5 * chair.crest_height


def _posts(plan: Plan) -> Iterator[Part]:
    chair = plan.chair
    u, top = post_line(plan)
    size = 0.8 * chair.leg_thickness
    section = rectangle(size, size) if chair.leg_section == "square" else circle(size / 2)
    heights = np.linspace(-min(1.5, 0.6 * chair.seat_thickness), top, 8)
    for side in (-1, 1):
        path = plan.back(side * u, heights, 0)
        yield post("post", chair.back_shade, path, section, np.ones(8))


def _rail(
    plan: Plan,
    name: str,
    half: float,
    low: Callable[[np.ndarray], np.ndarray],
    high: Callable[[np.ndarray], np.ndarray],
    thickness: float = _RAIL,
) -> Part:
    """A bar from side to side; `low` and `high` give its edges' v for places across from -1 to 1."""
    share = np.linspace(-1, 1, 13)
    v = np.stack([low(share), high(share), high(share), low(share)], -1)
    w = np.array([-0.5, -0.5, 0.5, 0.5]) * thickness
    return loft(name, plan.chair.back_shade, plan.back(half * share[:, None], v, w), range(4))


def _crest(plan: Plan) -> Part:
    chair = plan.chair
    top, height, arch = chair.back_height, chair.crest_height, chair.crest_arch
    half = plan.half_back + (1.0 if chair.kind == "windsor" else 0.4)
    return _rail(
        plan,
        "crest",
        half,
        lambda s: top - height - 0.3 * arch * s**2,
        lambda s: top - arch * s**2,
        max(_RAIL, 0.8 * chair.leg_thickness) if plan.is_framed else 3.0,
    )


def _straight_rail(plan: Plan, middle: float, height: float) -> Part:
    half, _ = post_line(plan)
    return _rail(
        plan,
        "rail",
        half,
        lambda s: np.full_like(s, middle - height / 2),
        lambda s: np.full_like(s, middle + height / 2),
    )


def _slat(
    plan: Plan,
    name: str,
    low: tuple[float, float],
    high: tuple[float, float],
    width: Callable[[np.ndarray], np.ndarray],
    thickness: float = 1.4,
) -> Part:
    """A flat bar between two points (u, v); `width` is that for places from 0 to 1 along it."""
    share = np.linspace(0, 1, 11)
    u = low[0] + (high[0] - low[0]) * share
    v = low[1] + (high[1] - low[1]) * share
    sides = np.array([-0.5, 0.5, 0.5, -0.5]) * width(share)[:, None]
    along = np.array(high) - np.array(low)
    along /= np.linalg.norm(along)
    w = np.array([-0.5, -0.5, 0.5, 0.5]) * thickness
    loops = plan.back(u[:, None] + sides * along[1], v[:, None] - sides * along[0], w)
    return loft(name, plan.chair.back_shade, loops, range(4))


def _foot(plan: Plan) -> tuple[float, Part | None]:
    """Where upright bars start: at a lower rail, or in the seat."""
    chair = plan.chair
    middle = 0.6 * chair.back_gap * chair.back_height + 0.5 * plan.cushion
    room = chair.back_height - chair.crest_height - middle
    if chair.back_gap < 0.15 or chair.kind == "windsor" or room < 8:
        return -min(1.5, 0.6 * chair.seat_thickness), None
    return middle, _straight_rail(plan, middle, 3.5)


def _uprights(plan: Plan) -> tuple[float, float, np.ndarray, list[Part]]:
    low, rail = _foot(plan)
    high = plan.chair.back_height - 0.6 * plan.chair.crest_height
    room = plan.half_back - plan.chair.leg_thickness
    places = np.linspace(-room, room, plan.chair.bars + 2)[1:-1]
    return low, high, places, [rail] if rail else []


def _slats(plan: Plan) -> Iterator[Part]:
    low, high, places, rail = _uprights(plan)
    yield from rail
    width = min(plan.chair.bar_width, 0.75 * float(places[1] - places[0]))
    for u in places:
        yield _slat(plan, "slat", (u, low), (u, high), lambda s: np.full_like(s, width))


def _spindles(plan: Plan) -> Iterator[Part]:
    chair = plan.chair
    low, high, places, rail = _uprights(plan)
    yield from rail
    radius = chair.bar_width / 6
    if chair.kind == "windsor":
        places = np.linspace(-1, 1, chair.bars) * (plan.half_back - 1)
    share = np.linspace(0, 1, 9)
    for i, u in enumerate(places):
        outer = chair.kind == "windsor" and i in (0, len(places) - 1)
        path = plan.back(u, low + (high - low) * share, 0)
        yield tube("spindle", chair.back_shade, path, 1.4 * radius if outer else radius, 8)


def _ladder(plan: Plan) -> Iterator[Part]:
    chair = plan.chair
    low = max(chair.back_gap, 0.12) * chair.back_height + 0.6 * plan.cushion
    high = chair.back_height - chair.crest_height
    pitch = (high - low) / chair.rungs
    height = min(chair.bar_width, 0.6 * pitch)
    for i in range(chair.rungs):
        yield _straight_rail(plan, low + i * pitch + height / 2, height)


def _cross(plan: Plan) -> Iterator[Part]:
    chair = plan.chair
    low = max(0.5 * chair.back_gap, 0.12) * chair.back_height + 0.3 * plan.cushion
    high = chair.back_height - 0.8 * chair.crest_height
    yield _straight_rail(plan, low, 3.5)
    half, _ = post_line(plan)
    width = 0.8 * chair.bar_width
    for side in (-1, 1):
        yield _slat(
            plan,
            "cross",
            (-side * (half - 1), low),
            (side * (half - 1), high),
            lambda s: np.full_like(s, width),
            1.4 + 0.2 * side,
        )


def _splat(plan: Plan) -> Iterator[Part]:
    chair = plan.chair
    low, rail = _foot(plan)
    if rail:
        yield rail
    widest = 2.4 * chair.bar_width + 2
    high = chair.back_height - 0.6 * chair.crest_height

    def width(s: np.ndarray) -> np.ndarray:
        return widest * (0.72 - 0.28 * np.cos(2 * np.pi * s**0.8) + 0.12 * s)

    yield _slat(plan, "splat", (0, low), (0, high), width)


def _hoop(plan: Plan) -> Iterator[Part]:
    chair = plan.chair
    half, top, power = plan.half_back, chair.back_height, chair.back_squareness
    sunk = -min(1.5, 0.6 * chair.seat_thickness)
    angles = np.linspace(0, np.pi, 33)
    u = half * np.sign(np.cos(angles)) * np.abs(np.cos(angles)) ** (2 / power)
    v = sunk + (top - sunk) * np.sin(angles) ** (2 / power)
    yield tube("hoop", chair.back_shade, plan.back(u, v, 0), chair.bar_width / 4, 10)
    share = np.linspace(0, 1, 9)
    for at in np.linspace(-1, 1, chair.bars + 2)[1:-1]:
        above = at * half * 0.94
        reach = (1 - abs(above / half) ** power) ** (1 / power)
        path = plan.back(above * (0.78 + 0.22 * share), sunk + (top - sunk) * reach * share, 0)
        yield tube("spindle", chair.back_shade, path, chair.bar_width / 7, 8)


def _solid(plan: Plan) -> Iterator[Part]:
    chair = plan.chair
    low = chair.back_gap * chair.back_height
    half, shift = plan.half_back + 1.2, 0.0
    if chair.kind == "armchair":  # down to the lower side of the seat
        low, half = -chair.seat_thickness, plan.half_back
    if plan.is_framed:
        shift = 0.5 * chair.leg_thickness - 0.6
    middle, height = (chair.back_height + low) / 2, chair.back_height - low
    outline = superellipse(
        2 * half, height, max(chair.back_squareness, 4), chair.back_squareness, 48
    )

    def place(u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
        return plan.back(u, v + middle, w + shift)

    dome = 0.12 * chair.back_thickness if chair.back_edge > 1.5 else 0.0
    yield slab(
        "back", chair.back_shade, outline, chair.back_thickness, chair.back_edge, place, dome
    )
    if plan.is_framed or chair.kind == "armchair" or chair.base == "cantilever":
        return
    up = low + 0.45 * height
    if chair.base == "sled":
        yield from _tubes(plan, up)
    else:
        yield _spine(plan, low, up)


def _spine(plan: Plan, low: float, up: float) -> Part:
    """One flat bar from below the seat to the middle of a back."""
    chair = plan.chair
    under = plan.bottom(0, 0) - 0.3
    behind = -1.0
    at = plan.back(0, np.linspace(max(low - 4, 3), up, 12), behind)
    rear = [0, plan.bottom(0, -chair.seat_depth / 2) - 0.3, at[0, 2] - 0.5]
    path = fillet(np.array([[0, under, 0], rear, *at]), 6)
    return sweep("spine", chair.frame_shade, path, rectangle(7, 1.6), (1, 0, 0))


def _tubes(plan: Plan, up: float) -> Iterator[Part]:
    """Two tubes from below the seat to the sides of a back."""
    chair = plan.chair
    radius = chair.leg_thickness / 2
    u = plan.half_back - radius - 2
    at = plan.back(u, np.linspace(4, up, 6), 0.3 - radius)
    for side in (-1, 1):
        under = plan.bottom(u, 0) - radius + 0.4
        rear = [u, plan.bottom(u, -chair.seat_depth / 2) - radius + 0.4, at[0, 2]]
        path = fillet(np.array([[u, under, 0], rear, *at]), 6) * (side, 1, 1)
        yield tube("tube", chair.frame_shade, path, radius)


def _cushion(plan: Plan) -> Part:
    chair = plan.chair
    low = plan.cushion - 1.0
    high = chair.back_height * (0.97 if chair.kind == "armchair" else 1.0)
    thickness = 0.8 * chair.cushion_thickness
    forward = chair.back_thickness if chair.back == "solid" else _RAIL / 2
    if plan.is_framed:
        forward += 0.4 * chair.leg_thickness
    width = 2 * plan.half_back - 3
    outline = superellipse(width, high - low, 5, min(chair.back_squareness, 6), 48)

    def place(u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
        return plan.back(u, v + (high + low) / 2, w + forward - 0.6)

    return slab(
        "back cushion",
        chair.cushion_shade,
        outline,
        thickness,
        0.45 * thickness,
        place,
        chair.cushion_dome,
    )
