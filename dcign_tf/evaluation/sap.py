"""The separated attribute predictability of Kumar, Sattigeri & Balakrishnan 2018, "Variational Inference of
Disentangled Latent Concepts from Unlabeled Observations".
"""  # noqa: D205 - a title is as long as it is.

import numpy as np

from dcign_tf.evaluation import binning


def sap(codes: np.ndarray, factors: np.ndarray) -> float:
    """Mean over factors of how much better the best latent predicts it than the second best.

    For a continuous factor, the only kind here, the prediction is a linear regression on that latent alone, and its
    quality R2: the squared correlation, Cov(z, v)^2 / (Var z Var v).

    Args:
        codes: float [N, L], the means of the posteriors.
        factors: float [N, F].

    Returns:
        0, no latent stands out, to 1, one latent is the factor and no other knows of it. NaN if no factor varies.

    Raises:
        ValueError: the arrays do not fit or are not finite.
    """
    binning.check(codes, factors)
    scores = np.sort(squared_correlations(codes, factors), axis=0)
    gaps = (scores[-1] - scores[-2])[np.ptp(np.asarray(factors, np.float64), axis=0) > 0]
    return float(gaps.mean()) if len(gaps) else float("nan")


def squared_correlations(codes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """The squared correlation of each latent with each factor, 0 where one does not vary; float [L, F]."""
    z = np.asarray(codes, np.float64) - np.mean(codes, axis=0, dtype=np.float64)
    v = np.asarray(factors, np.float64) - np.mean(factors, axis=0, dtype=np.float64)
    # A latent that is the same for all but rounding knows nothing.
    z[:, z.std(axis=0) < 1e-9] = 0
    product = np.outer((z**2).sum(0), (v**2).sum(0))
    return np.divide((z.T @ v) ** 2, product, out=np.zeros_like(product), where=product > 0)
