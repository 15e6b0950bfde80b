"""Arms."""

from collections.abc import Iterator

import numpy as np

from dcign_tf.scenes.builtin_chair.plan import Plan
from dcign_tf.scenes.builtin_chair.solids import (
    Part,
    circle,
    fillet,
    post,
    rectangle,
    slab,
    superellipse,
    sweep,
    tube,
)


def arms(plan: Plan) -> Iterator[Part]:
    """Both arms, if there are any."""
    kinds = {"straight": _straight, "loop": _loop, "padded": _padded, "box": _box}
    if plan.chair.arms in kinds:
        for side in (-1, 1):
            yield from kinds[plan.chair.arms](plan, side)


def _straight(plan: Plan, side: int) -> Iterator[Part]:
    """A bar from the back to a post in front, beside the seat; of windsor chairs, on the seat."""
    chair = plan.chair
    on_seat = chair.kind == "windsor"
    up = min(chair.arm_height + (0 if on_seat else 0.5 * plan.cushion), 0.75 * chair.back_height)
    u = plan.half_back - (1 if on_seat else chair.leg_thickness / 2)
    if chair.back == "hoop":  # narrower up there
        u *= (1 - (up / chair.back_height) ** chair.back_squareness) ** (1 / chair.back_squareness)
    rear = plan.back(u, up, 0)
    z = rear[2] + chair.arm_length * (chair.seat_depth / 2 - 0.5 * chair.leg_thickness - rear[2])
    thick = min(0.8 * chair.leg_thickness, 3.2)
    if on_seat:
        thick *= 0.7
        foot = np.array([plan.edge(z - 6) - 3, float(plan.top(z - 6)) - 1.2, z - 6])
        head = np.array([plan.edge(z - 6) + 1 + chair.arm_flare, rear[1] + 0.3, z - 2])
    else:
        x = plan.edge(z) + 0.15 * thick
        foot = np.array([x, plan.bottom(x, z) - 0.2, z])
        head = np.array([x + chair.arm_flare, rear[1] + 0.3, z])

    path = fillet([rear, 0.4 * rear + 0.6 * head, head + np.array([0, 0, 3])], 12) * (side, 1, 1)
    sections = np.repeat(rectangle(chair.arm_width, 2.2)[None], len(path), axis=0)
    sections[..., 0] *= np.linspace(0.75, 1, len(path))[:, None]
    yield sweep("arm", chair.arm_shade, path, sections, (1, 0, 0))
    section = rectangle(thick, thick) if chair.leg_section == "square" else circle(thick / 2)
    yield post("arm post", chair.arm_shade, np.array([foot, head]) * (side, 1, 1), section, [1, 1])
    if on_seat:
        back = foot[2] + 0.45 * (rear[2] - foot[2])
        ends = np.array([[plan.edge(back) - 3, foot[1], back], head + 0.45 * (rear - head)])
        yield tube("spindle", chair.back_shade, ends * (side, 1, 1), chair.bar_width / 6, 8)


def _under(plan: Plan, z: float, thickness: float) -> tuple[float, float, float]:
    """x below the seat, x beside it and y of what goes out from below the seat."""
    x = plan.edge(z)
    return (
        0.55 * x,
        x + thickness / 2 + plan.chair.arm_flare,
        plan.bottom(x, z) - thickness / 2 + 0.4,
    )


def _loop(plan: Plan, side: int) -> Iterator[Part]:
    """A tube from below the seat, up, to the front and down again."""
    chair = plan.chair
    radius = 0.5 * min(chair.leg_thickness, 3.0)
    reach = 0.5 * chair.arm_length * chair.seat_depth
    up = chair.seat_height + chair.arm_height
    rear, front = -0.6 * reach, 0.75 * reach
    inner, outer, low = _under(plan, rear, 2 * radius)
    inner_front, _, low_front = _under(plan, front, 2 * radius)
    outer = max(outer, _under(plan, front, 2 * radius)[1])
    path = fillet(
        [
            [inner, low, rear],
            [outer, low, rear],
            [outer, up, rear],
            [outer, up, front],
            [outer, low_front, front],
            [inner_front, low_front, front],
        ],
        5,
    )
    yield tube("arm", chair.arm_shade, path * (side, 1, 1), radius)


def _padded(plan: Plan, side: int) -> Iterator[Part]:
    """A pad on a bar that comes from below the seat."""
    chair = plan.chair
    inner, outer, low = _under(plan, -2, 1.6)
    up = chair.seat_height + chair.arm_height
    outer += 0.2 * chair.arm_width
    path = fillet([[inner, low, -2], [outer, low, -2], [outer, up + 0.6, -2]], 4)
    yield sweep("arm bar", chair.frame_shade, path * (side, 1, 1), rectangle(6, 1.6), (0, 0, 1))
    outline = superellipse(chair.arm_length * chair.seat_depth, chair.arm_width, 4, 4, 32)

    def place(u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
        return np.stack([side * outer + v, up + w, u + 1], -1)

    yield slab("arm pad", chair.arm_shade, outline, 3.0, 1.4, place, 0.3)


def _box(plan: Plan, side: int) -> Iterator[Part]:
    """An upholstered wall from the lower side of the seat to the height of the arm."""
    chair = plan.chair
    low, up = chair.seat_height - chair.seat_thickness, chair.seat_height + chair.arm_height
    rear, front = plan.back_line + 0.5, chair.seat_depth / 2 - (1 - chair.arm_length) * 20
    outline = superellipse(front - rear, up - low, 10, 7, 48)

    def place(u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
        out = w + chair.arm_flare * (v / (up - low) + 0.5)
        return np.stack(
            [side * (chair.seat_width / 2 - 1 + out), v + (up + low) / 2, u + (front + rear) / 2],
            -1,
        )

    edge = min(0.45 * chair.arm_width, chair.back_edge + 1)
    yield slab("arm", chair.arm_shade, outline, chair.arm_width, edge, place)
