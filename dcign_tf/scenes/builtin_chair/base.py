"""What chairs stand on."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dcign_tf.scenes.builtin_chair.back import post_line
from dcign_tf.scenes.builtin_chair.plan import Plan
from dcign_tf.scenes.builtin_chair.solids import (
    Part,
    circle,
    fillet,
    lathe,
    post,
    rectangle,
    sweep,
    tube,
)

# Radius along a turned leg, from top to foot.
_TURNED = np.array(
    [
        [0, 0.8], [0.08, 0.95], [0.2, 1.15], [0.3, 1.0], [0.36, 0.62], [0.38, 0.62], [0.4, 0.9],
        [0.43, 0.9], [0.45, 0.66], [0.55, 0.95], [0.68, 1.12], [0.8, 0.9], [0.9, 0.7], [1, 0.6],
    ]
)  # fmt: skip


class _Leg(NamedTuple):
    """The axis of a leg."""

    top: np.ndarray  # [3], in the seat
    foot: np.ndarray  # [3], on the ground

    def at(self, height: float) -> np.ndarray:
        """Its point at a height."""
        share = (height - self.foot[1]) / (self.top[1] - self.foot[1])
        return self.foot + share * (self.top - self.foot)


def base(plan: Plan) -> Iterator[Part]:
    """The base."""
    yield from {
        "legs": _legs,
        "sled": _sled,
        "cantilever": _cantilever,
        "pedestal": _pedestal,
        "star": _star,
    }[plan.chair.base](plan)


def _embedded(plan: Plan) -> float:
    """How far supports reach into the seat."""
    return min(0.5 * plan.chair.seat_thickness, 2.0)


# --- Four legs -------------------------------------------------------------------------------------------


def _leg(plan: Plan, front: bool, side: int) -> _Leg:
    chair = plan.chair
    margin = chair.leg_thickness / 2
    x, z = plan.corner(front)
    x, z = x - margin, z - math.copysign(margin, z)
    if chair.kind == "armchair":  # the arms and the back are above them, too
        x += 0.6 * chair.arm_width
        z -= 0.0 if front else 0.6 * chair.back_thickness
    x, z = x * (1 - chair.leg_inset), z * (1 - chair.leg_inset)
    if plan.is_framed and not front:
        x, z = post_line(plan)[0], plan.back_line
    # Where the seat is lowest above the leg, or a corner of it could come out at the top.
    under = min(plan.bottom(x + dx, z + dz) for dx in (-margin, margin) for dz in (-margin, margin))
    top = np.array([side * x, under + _embedded(plan), z])
    slant = chair.leg_splay * 0.7 if front else -chair.leg_rake
    if plan.is_framed and not front:
        out = 0.0 if chair.leg_splay < 3 else chair.leg_splay * 0.6
    else:
        out = chair.leg_splay
    foot = np.array(
        [
            side * (x + math.tan(math.radians(out)) * under),
            0,
            z + math.tan(math.radians(slant)) * under,
        ]
    )
    return _Leg(top, foot)


def _legs(plan: Plan) -> Iterator[Part]:
    chair = plan.chair
    legs = {(front, side): _leg(plan, front, side) for front in (True, False) for side in (-1, 1)}
    thick = chair.leg_thickness
    section = rectangle(thick, thick) if chair.leg_section == "square" else circle(thick / 2, 14)
    for (front, side), leg in legs.items():
        if chair.leg_section == "turned" and (front or not plan.is_framed):
            down, sizes = _TURNED.T
        else:
            down, sizes = np.array([0, 1]), np.array([1, chair.leg_taper])
        path = leg.top + down[:, None] * (leg.foot - leg.top)
        if plan.is_framed and not front:
            u, top = post_line(plan)
            upper = plan.back(side * u, np.linspace(top, 1, 9), 0)
            path = np.concatenate([upper, path])
            sizes = np.concatenate([np.linspace(0.75, 1, 9), sizes])
        yield post("leg", chair.frame_shade, path, section, sizes)
    if chair.apron >= 2:
        yield from _aprons(plan, legs)
    yield from _stretchers(plan, legs)


_SIDES = (
    ((True, -1), (True, 1)),
    ((False, -1), (False, 1)),
    ((True, -1), (False, -1)),
    ((True, 1), (False, 1)),
)


def _aprons(plan: Plan, legs: dict[tuple[bool, int], _Leg]) -> Iterator[Part]:
    chair = plan.chair
    for one, other in _SIDES:
        ends = []
        for leg in (legs[one], legs[other]):
            x, _, z = leg.top
            end = leg.at(plan.bottom(x, z) - chair.apron / 2)
            end[1] += 0.2
            ends.append(end)
        section = rectangle(chair.apron + 0.4, min(1.8, 0.7 * chair.leg_thickness))
        yield sweep("apron", chair.frame_shade, ends, section, (0, 1, 0))


def _stretchers(plan: Plan, legs: dict[tuple[bool, int], _Leg]) -> Iterator[Part]:
    chair = plan.chair
    height = chair.stretcher_height * chair.seat_height
    thick = max(0.6 * chair.leg_thickness, 1.5)

    def bar(start: np.ndarray, end: np.ndarray) -> Part:
        if chair.leg_section == "square":
            section = rectangle(1.2 * thick, 0.8 * thick)
            return sweep("stretcher", chair.frame_shade, [start, end], section, (0, 1, 0))
        return tube("stretcher", chair.frame_shade, [start, end], thick / 2)

    front, rear, left, right = (
        tuple(legs[name].at(height * level) for name in side)
        for side, level in zip(_SIDES, (1.25, 1.25, 1, 1), strict=True)
    )
    if chair.stretchers in ("h", "box", "sides"):
        yield bar(*left)
        yield bar(*right)
    if chair.stretchers == "h":
        yield bar((left[0] + left[1]) / 2, (right[0] + right[1]) / 2)
    if chair.stretchers == "box":
        yield bar(*front)
        yield bar(*rear)
    if chair.stretchers == "ring":
        # Four legs of a symmetric chair stand on one circle.
        (x1, _, z1), (x2, _, z2) = right
        middle = (x1**2 + z1**2 - x2**2 - z2**2) / (2 * (z1 - z2))
        radius = math.hypot(x1, z1 - middle)
        yield _ring(plan, height, middle, radius, thick / 2)


def _ring(plan: Plan, height: float, z: float, radius: float, thickness: float) -> Part:
    angles = np.linspace(0, 2 * math.pi, 36, endpoint=False)
    path = np.stack([radius * np.cos(angles), np.full(36, height), z + radius * np.sin(angles)], -1)
    return sweep(
        "ring", plan.chair.frame_shade, path, circle(thickness, 10), (0, 1, 0), closed=True
    )


# --- Tubes -----------------------------------------------------------------------------------------------


def _sled(plan: Plan) -> Iterator[Part]:
    chair = plan.chair
    radius = min(chair.leg_thickness, 2.8 if chair.kind == "shell" else 5.0) / 2
    reach = 0.36 * chair.seat_depth
    x = plan.edge(reach) * (1 - chair.leg_inset) - radius - 1
    # As straight bars below a seat that need not be: they touch it where it is lowest.
    under = {z: plan.bottom(x, z) for z in np.linspace(-reach, reach, 9)}
    sag = min(
        height - np.interp(z, [-reach, reach], [under[-reach], under[reach]])
        for z, height in under.items()
    )
    lower = sag - radius + min(0.6, 0.4 * chair.seat_thickness)
    top = {z: under[z] + lower for z in (-reach, reach)}
    for side in (-1, 1):
        path = fillet(
            [
                [side * x, top[-reach], -reach],
                [side * x, top[reach], reach],
                [side * x, radius, 0.46 * chair.seat_depth],
                [side * x, radius, -0.52 * chair.seat_depth],
            ],
            5,
            closed=True,
        )
        yield sweep("runner", chair.frame_shade, path, circle(radius), (1, 0, 0), closed=True)
    for z in (0.6 * reach, -0.6 * reach):
        height = top[-reach] + (z + reach) / (2 * reach) * (top[reach] - top[-reach])
        height = min(height, plan.bottom(0, z) - 0.8 * radius + 0.2)
        yield tube("crossbar", chair.frame_shade, [[-x, height, z], [x, height, z]], 0.8 * radius)


def _cantilever(plan: Plan) -> Iterator[Part]:
    """One tube: down the back, along the seat, down in front, around on the ground, and up again."""
    chair = plan.chair
    radius = chair.leg_thickness / 2
    low = chair.back_gap * chair.back_height
    up = low + 0.75 * (chair.back_height - low)
    front, rear = 0.46 * chair.seat_depth, -0.5 * chair.seat_depth
    x = plan.edge(0.3 * rear) - radius - 0.4
    u = min(x, plan.half_back - radius - 1)
    back = plan.back(u, np.linspace(up, 5, 6), 0.4 - radius)
    under = {z: plan.bottom(x, z) - radius + 0.5 for z in (front - 2, rear)}
    side = [
        *back.tolist(),
        [u, under[rear], back[-1, 2]],
        [x, under[front - 2], front],
        [x, radius, front + 2],
        [x, radius, 0.95 * rear],
    ]
    other = [[-p[0], *p[1:]] for p in reversed(side)]
    yield tube("frame", chair.frame_shade, fillet(side + other, 7), radius)


# --- Columns ---------------------------------------------------------------------------------------------


def _pedestal(plan: Plan) -> Iterator[Part]:
    chair = plan.chair
    foot = chair.base_spread * 0.42 * chair.seat_width
    column = chair.column_thickness / 2
    top = plan.bottom(0, 0)
    if chair.column_thickness > 6.5:  # a tulip
        share = np.linspace(0, 1, 24)
        radius = column + (foot - column) * (1 - share) ** (3 + 0.5 * chair.base_slope)
        radius += 0.6 * column * share**6
        profile = np.stack([radius, 1 + share * (top - 1 + 0.4)], -1)
        profile = np.concatenate([[[foot, 0], [foot, 0]], profile])
    else:
        raised = 1.2 + chair.base_slope
        middle = 0.55 * top
        profile = np.array(
            [
                [foot, 0], [foot, 0], [foot, 0.9], [0.98 * foot, 1.3],
                [0.5 * foot, 1.3 + 0.25 * chair.base_slope], [2 * column, raised],
                [1.3 * column, raised + 1.2], [1.3 * column, middle], [1.3 * column, middle],
                [column, middle + 0.3], [column, middle + 0.3], [column, top + 0.4],
            ]
        )  # fmt: skip
    yield lathe("pedestal", chair.frame_shade, profile, points=36)
    yield _plate(plan)
    if chair.kind == "bar":
        height = chair.stretcher_height * chair.seat_height
        reach = 0.38 * chair.seat_width
        yield _ring(plan, height, 0.0, reach, 1.0)
        for angle in np.deg2rad([90, 210, 330]):
            end = [reach * math.cos(angle), height, reach * math.sin(angle)]
            yield tube("spoke", chair.frame_shade, [[0, height, 0], end], 0.8, 8)


def _plate(plan: Plan) -> Part:
    """Below a seat on a column."""
    top = plan.bottom(0, 0)
    radius = 0.24 * plan.chair.seat_width
    profile = [[radius, top - 1.2], [radius, top - 1.2], [radius, top + 0.5], [radius, top + 0.5]]
    return lathe("plate", plan.chair.frame_shade, profile, points=24)


def _star(plan: Plan) -> Iterator[Part]:
    chair = plan.chair
    top = plan.bottom(0, 0)
    reach = chair.base_spread * 0.5 * chair.seat_width
    column = chair.column_thickness / 2
    wheels = chair.casters == "casters"
    thick = chair.leg_thickness
    lowest = (chair.caster_size + 0.4) if wheels else 1.6
    at_end = lowest + 0.3 * thick
    at_hub = at_end + chair.base_slope
    for i in range(chair.star_points):
        angle = 2 * math.pi * (i + 0.5) / chair.star_points + math.pi / 2
        out = np.array([math.cos(angle), 0, math.sin(angle)])
        turned = np.array([-out[2], 0, out[0]])
        middle = 0.55 * at_hub + 0.45 * at_end
        path = np.outer([0, 0.5 * reach, reach], out)
        path[:, 1] = at_hub, middle, at_end
        sizes = np.array([1.1, 0.5 + 0.5 * chair.leg_taper, chair.leg_taper])[:, None, None]
        section = rectangle(thick, 0.8 * thick) * sizes
        yield sweep("star", chair.frame_shade, path, section, turned)
        end = out * (reach - 0.5 * thick * chair.leg_taper)
        if wheels:
            yield from _caster(plan, end, turned, at_end)
        else:
            yield lathe(
                "glide",
                0.5 * chair.frame_shade,
                [[1.8, 0], [1.8, 0], [1.4, at_end], [1.4, at_end]],
                end,
                points=12,
            )
    hub = 1.7 * column
    sleeve = at_hub + 0.45 * (top - at_hub)
    profile = [
        [hub, at_hub - 0.7 * thick], [hub, at_hub - 0.7 * thick], [hub, at_hub + 0.5 * thick],
        [1.3 * column, at_hub + 0.9 * thick], [1.3 * column, sleeve], [1.3 * column, sleeve],
        [0.8 * column, sleeve], [0.8 * column, sleeve], [0.8 * column, top + 0.3],
    ]  # fmt: skip
    yield lathe("column", chair.frame_shade, profile, points=24)
    yield _plate(plan)


def _caster(plan: Plan, at: np.ndarray, along: np.ndarray, top: float) -> Iterator[Part]:
    """Two wheels, and what they hang on; `along` is their axis."""
    chair = plan.chair
    radius = chair.caster_size / 2
    shade = 0.5 * chair.frame_shade
    center = at + np.array([0, radius, 0])
    for side in (-1, 1):
        ends = [center + side * along * 0.5, center + side * along * 2.1]
        yield tube("wheel", shade, ends, radius, 16)
    yield tube("axle", shade, [center - along, center + along], 0.7, 8)
    profile = [[0.8, radius - 0.5], [0.8, radius - 0.5], [0.8, top], [0.8, top]]
    yield lathe("stem", shade, profile, at, points=10)
