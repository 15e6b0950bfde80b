"""Continuous values as a few discrete ones, for measures that count."""

import numpy as np

BINS = 20


def equal_frequency(values: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Numbers of bins that hold as many values each, as far as ties allow; equal values share a bin.

    Args:
        values: float [N].
        bins: how many.

    Returns:
        int [N], 0 to bins - 1.
    """
    edges = np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1])
    return np.searchsorted(edges, values, side="right")


def equal_width(values: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Numbers of bins that are as wide each, from the smallest to the largest value.

    Args:
        values: float [N].
        bins: how many.

    Returns:
        int [N], 0 to bins - 1; all 0 where all values are equal.
    """
    low, high = float(np.min(values)), float(np.max(values))
    if not high > low:
        return np.zeros(len(values), np.int64)
    edges = np.linspace(low, high, bins + 1)[1:-1]
    return np.searchsorted(edges, values, side="right")


def classes(factor: np.ndarray, bins: int = BINS) -> np.ndarray:
    """A factor's values as classes: integers [N] as they are, floats [N] in bins of equal frequency."""
    return factor if factor.dtype.kind in "iub" else equal_frequency(factor, bins)


def check(codes: np.ndarray, factors: np.ndarray) -> None:
    """Raises ValueError unless the arrays are codes [N, L] and factors [N, F] of the same, finite observations."""
    codes, factors = np.asarray(codes), np.asarray(factors)
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors) or len(codes) < 2:
        raise ValueError(
            f"codes, factors: got shapes {codes.shape} and {factors.shape}; must be [N, L] and [N, F] with one N, "
            "2 or more"
        )
    if codes.shape[1] < 2 or factors.shape[1] < 1:
        raise ValueError(
            f"codes, factors: got {codes.shape[1]} latents and {factors.shape[1]} factors, must be 2 and 1 at least"
        )
    if not np.isfinite(codes).all() or not np.isfinite(factors).all():
        raise ValueError("codes, factors: must be finite")
