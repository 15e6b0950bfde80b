"""Where things are in one chair: its seat, and the surface that its back lies in.

Axes as in `dcign_tf.scenes.render`: x to the viewer's right, y up, z to the front; the ground is y = 0, the middle of
the seat x = z = 0. Centimeters.
"""

import math

import numpy as np

from dcign_tf.scenes.builtin_chair import solids
from dcign_tf.scenes.builtin_chair.traits import Chair

_SHELL_ROWS = 44


class Plan:
    """Measures derived from a chair's parameters.

    Attributes:
        chair: the parameters.
        slope: by how much the seat rises to the front.
        half_back: half the width of the back.
        is_framed: whether the rear legs go on upward and hold the back.
        cushion: thickness of the cushion on the seat, 0 where there is none.
    """

    def __init__(self, chair: Chair) -> None:
        self.chair = chair
        self.slope = math.tan(math.radians(chair.seat_tilt))
        self.half_back = chair.back_width * self.half_width(-chair.seat_depth / 2)
        self.is_framed = chair.base == "legs" and chair.kind in ("dining", "bar", "lounge")
        self.cushion = 0.0 if chair.cushion == "none" else chair.cushion_thickness
        self._lean = math.tan(math.radians(chair.back_recline))
        if chair.back == "shell":
            self._bend_shell()

    # --- Seat --------------------------------------------------------------------------------------------

    def half_width(self, z: float) -> float:
        """Half the width of the seat at z, its corners not rounded."""
        chair = self.chair
        narrower = chair.seat_taper * (0.5 - np.clip(z / chair.seat_depth, -0.5, 0.5))
        return float(chair.seat_width / 2 * (1 - narrower))

    def edge(self, z: float) -> float:
        """x of the seat's right edge at z."""
        chair = self.chair
        power = chair.seat_front if z > 0 else chair.seat_rear
        share = min(abs(2 * z / chair.seat_depth), 0.98)
        return self.half_width(z) * (1 - share**power) ** (1 / power)

    def rear_edge(self, x: np.ndarray) -> np.ndarray:
        """z of the seat's rear edge at x."""
        chair = self.chair
        share = np.clip(np.abs(x) / self.half_width(-chair.seat_depth / 3), 0, 0.98)
        return -chair.seat_depth / 2 * (1 - share**chair.seat_rear) ** (1 / chair.seat_rear)

    def corner(self, front: bool) -> tuple[float, float]:
        """x and z of the outermost point of the seat at one of its right corners."""
        power = self.chair.seat_front if front else self.chair.seat_rear
        z = (1 if front else -1) * 2 ** (-1 / power) * self.chair.seat_depth / 2
        return 2 ** (-1 / power) * self.half_width(z), z

    def top(self, z: np.ndarray | float) -> np.ndarray:
        """Height of the seat at z, without its hollow; the same for all x."""
        chair = self.chair
        z = np.asarray(z, float)
        falling = np.clip((2 * z / chair.seat_depth - 0.4) / 0.6, 0, None)
        return chair.seat_height + self.slope * z - chair.seat_fall * falling**2

    def bottom(self, x: float, z: float) -> float:
        """Height of the seat's lower side."""
        chair = self.chair
        if chair.back != "shell":
            return float(self.top(z)) - chair.seat_thickness
        rows = np.arange(len(self.shell_path))[:, None]
        side = np.linspace(0, 1, 41)
        y, z_there = np.moveaxis(self.shell(rows, side, -0.5), -1, 0)
        away = (side * self.shell_widths[:, None] - abs(x)) ** 2 + (z_there - z) ** 2
        away[self.shell_normals[:, 0] < 0.3] = np.inf  # That is the back.
        return float(y.flat[np.argmin(away)])

    def shell(
        self, row: np.ndarray, u: np.ndarray | float, height: np.ndarray | float
    ) -> np.ndarray:
        """Points of a shell.

        Args:
            row: numbers of rows, from the front of the seat to the top of the back.
            u: places across, from -1 to 1.
            height: above the middle of the sheet, -0.5 to 0.5 of its thickness.

        Returns:
            y and z, [..., 2], for arguments of the shape [...].
        """
        # Where its outline is rounded it ends further in, and lower.
        raised = self._shell_raised[row] * np.abs(u * self._shell_rounded[row]) ** 2.4
        above = height * self.chair.seat_thickness + raised
        return self.shell_path[row] + above[..., None] * self.shell_normals[row]

    # --- Back --------------------------------------------------------------------------------------------

    @property
    def back_line(self) -> float:
        """z of the middle of the back at the seat's height."""
        chair = self.chair
        rear = -chair.seat_depth / 2
        if chair.kind == "armchair":
            return rear + 3 - chair.back_thickness
        if chair.back == "solid" and not self.is_framed:
            return rear + 1 - chair.back_thickness
        return rear + 0.3 * chair.leg_thickness

    def back(
        self, u: np.ndarray | float, v: np.ndarray | float, w: np.ndarray | float
    ) -> np.ndarray:
        """Points of the back.

        Args:
            u: to the right, centimeters where the back is not flared.
            v: height above the rear of the seat.
            w: to the front of the surface that the back lies in.

        Returns:
            [..., 3] for arguments of the shape [...].
        """
        chair = self.chair
        u, v, w = (np.asarray(a, float) for a in np.broadcast_arrays(u, v, w))
        share = np.clip(v / chair.back_height, 0, 1)
        bent = np.clip(share / 0.4, 0, 1)
        bent = bent * bent * (3 - 2 * bent)
        z = chair.back_curve * ((u / self.half_back) ** 2 - 1) * bent
        z += chair.back_bow * np.sin(math.pi * share) - self._lean * v + w
        if chair.kind == "windsor":
            z += self.rear_edge(u) + 2.5
        else:
            z += self.back_line
        y = float(self.top(-chair.seat_depth / 2)) + v
        return np.stack([u * (1 + chair.back_flare * share), y, z], -1)

    # --- Shell -------------------------------------------------------------------------------------------

    def _bend_shell(self) -> None:
        """The middle line of a shell from the front of the seat to the top of the back, row by row.

        Sets `shell_path`, y and z [N, 2]; `shell_normals`, [N, 2]; `shell_widths`, half widths [N].
        """
        chair = self.chair
        front, rear = chair.seat_depth / 2, -chair.seat_depth / 2
        middle = chair.seat_height - chair.seat_thickness / 2
        points = [
            [0, middle + self.slope * front - chair.seat_fall, front],
            [0, middle + self.slope * front * 0.62, front * 0.62],
            [0, middle + self.slope * rear, rear],
            [0, middle + chair.back_height, rear - self._lean * chair.back_height],
        ]
        path = solids.fillet(points, 17, steps=16)[:, 1:]
        lengths = np.append(0, np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1)))
        # From 0 to 1 along the shell, closer at its ends, which are rounded.
        along = 0.5 - 0.5 * np.cos(np.linspace(0.09, math.pi - 0.09, _SHELL_ROWS))
        self.shell_path = np.stack(
            [np.interp(along * lengths[-1], lengths, path[:, i]) for i in (0, 1)], -1
        )
        tangents = np.gradient(self.shell_path, axis=0)
        tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
        self.shell_normals = np.stack([-tangents[:, 1], tangents[:, 0]], -1)  # up, and to the front
        seat, waist = chair.seat_width / 2, chair.seat_width / 2 * (1 - chair.seat_taper)
        widths = np.interp(
            along, [0, 0.3, 0.55, 0.8, 1], [seat, seat, waist, self.half_back, self.half_back]
        )
        self.shell_widths = _smooth(widths)
        rounded = np.ones_like(along)
        for share, power in (
            (along / 0.35, chair.seat_front),
            ((1 - along) / 0.45, chair.back_squareness),
        ):
            rounded *= (1 - np.clip(1 - share, 0, 1) ** power) ** (1 / power)
        self.shell_widths *= rounded
        self._shell_rounded = rounded
        deep = chair.shell_depth
        raised = np.interp(
            along, [0, 0.25, 0.52, 0.75, 1], [0.05 * deep, 0.2 * deep, deep, 0.6 * deep, 0.1 * deep]
        )
        self._shell_raised = _smooth(raised + np.interp(along, [0.5, 0.8], [0, chair.back_curve]))


def _smooth(values: np.ndarray) -> np.ndarray:
    """Values along a shell without kinks."""
    window = np.hanning(15)[1:-1]
    return np.convolve(np.pad(values, 6, "edge"), window / window.sum(), "valid")
