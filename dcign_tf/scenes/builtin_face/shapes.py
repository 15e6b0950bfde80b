"""The few functions of which the head is made: steps, bells, curves and waves."""

from collections.abc import Sequence

import numpy as np


def smooth_step(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Rises smoothly from 0 at `low` to 1 at `high`; falls if `high` is the smaller one."""
    t = np.clip((np.asarray(x, np.float64) - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def bell(x: np.ndarray, center: float | np.ndarray, width: float) -> np.ndarray:
    """A Gaussian, 1 at its center."""
    return np.exp(-0.5 * ((x - center) / width) ** 2)


def spot(
    points: np.ndarray, center: tuple[float, float, float], widths: tuple[float, float, float]
) -> np.ndarray:
    """A Gaussian in space, 1 at its center and at the center's mirror image; [N] for points [N, 3]."""
    away = np.column_stack([np.abs(points[:, 0]), points[:, 1:]]) - center
    return np.exp(-0.5 * np.sum((away / np.array(widths)) ** 2, axis=1))


def curve(points: Sequence[tuple[float, float]], x: np.ndarray) -> np.ndarray:
    """A smooth curve through points of rising x, constant beyond its ends.

    Cubic Hermite, with the slope at each point the harmonic mean of its neighbors', so that it never overshoots.
    """
    xs, ys = (np.array(values, np.float64) for values in zip(*points, strict=True))
    slopes = np.diff(ys) / np.diff(xs)
    tangents = np.zeros_like(ys)
    same_sign = slopes[1:] * slopes[:-1] > 0
    total = np.where(same_sign, slopes[1:] + slopes[:-1], 1.0)
    tangents[1:-1] = np.where(same_sign, 2 * slopes[1:] * slopes[:-1] / total, 0.0)
    x = np.clip(np.asarray(x, np.float64), xs[0], xs[-1])
    i = np.clip(np.searchsorted(xs, x, side="right") - 1, 0, len(slopes) - 1)
    width = xs[i + 1] - xs[i]
    t = (x - xs[i]) / width
    return (
        ys[i] * (1 + 2 * t) * (1 - t) ** 2
        + tangents[i] * width * t * (1 - t) ** 2
        + ys[i + 1] * t * t * (3 - 2 * t)
        + tangents[i + 1] * width * t * t * (t - 1)
    )


def interpolate(points: Sequence[tuple[float, float]], x: np.ndarray) -> np.ndarray:
    """Straight lines through points of rising x, constant beyond their ends."""
    xs, ys = np.array(points, np.float64).T
    return np.interp(x, xs, ys)


def waves(points: np.ndarray, wavelength: float, seed: int) -> np.ndarray:
    """A smooth field without a pattern, of about unit variance; [N] for points [N, 3].

    Plane waves whose directions are spread over a sphere. Fibonacci's spiral and multiples of irrational numbers
    give the same field on every machine, whatever its random generators.
    """
    count = 24
    k = np.arange(count) + 0.5
    up = 1.0 - 2.0 * k / count
    around = 2.39996323 * k + seed
    flat = np.sqrt(1.0 - up * up)
    directions = np.stack([flat * np.cos(around), flat * np.sin(around), up])
    stretch = 0.7 + 0.6 * np.modf(k * 0.75487767 + seed * 0.331)[0]
    phases = 2 * np.pi * np.modf(k * 0.56984029 * (seed + 1) + seed * 0.618)[0]
    angles = points @ (directions * stretch) * (2 * np.pi / wavelength) + phases
    return np.cos(angles).sum(axis=1) * np.sqrt(2 / count)
