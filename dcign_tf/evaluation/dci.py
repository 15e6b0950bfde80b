"""Disentanglement, completeness and informativeness of Eastwood & Williams 2018, "A Framework for the Quantitative
Evaluation of Disentangled Representations".
"""  # noqa: D205 - a title is as long as it is.

import concurrent.futures
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dcign_tf.evaluation import binning


class DCI(NamedTuple):
    """Three numbers, each from 0 to 1, the best.

    Attributes:
        disentanglement: whether each latent is important for one factor only.
        completeness: whether each factor needs one latent only.
        informativeness: how well the code predicts factors it was not fitted on.
    """

    disentanglement: float
    completeness: float
    informativeness: float


def dci(codes: np.ndarray, factors: np.ndarray, seed: int = 0) -> DCI:
    """Fits a predictor of each factor from the code and looks at which latents it uses.

    Args:
        codes: float [N, L], the means of the posteriors.
        factors: [N, F], F >= 2; integers are classes.
        seed: of the split in halves and of the trees.

    Raises:
        ValueError: the arrays do not fit or are not finite, or there is but one factor.
    """
    return summary(*importances(codes, factors, seed))


def importances(
    codes: np.ndarray, factors: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """How important each latent is for predicting each factor, and how well the prediction works.

    The predictors are gradient-boosted trees, as in Locatello et al. 2019, fitted on one half of the observations and
    tested on the other. The importance of latent i for factor j, R_ij, is its share in lowering the trees' error.

    Args:
        codes: float [N, L], the means of the posteriors.
        factors: [N, F], F >= 2; integers are classes.
        seed: of the split in halves and of the trees.

    Returns:
        The importances R [L, F], and for each factor R2 on the other half (0 where it is negative), of a factor that is
        classes the accuracy; [F].

    Raises:
        ValueError: the arrays do not fit or are not finite, or there is but one factor.
    """
    # It takes a second to import, which only this function's callers should wait for.
    from sklearn import ensemble

    binning.check(codes, factors)
    codes, factors = np.asarray(codes), np.asarray(factors)
    if factors.shape[1] < 2:
        raise ValueError(f"factors: got {factors.shape[1]}, must be 2 or more")
    order = np.random.default_rng(seed).permutation(len(codes))
    fitted, held_out = order[: len(codes) // 2], order[len(codes) // 2 :]

    def fit(factor: np.ndarray) -> tuple[np.ndarray, float]:
        if factor.dtype.kind in "iub":
            trees = ensemble.GradientBoostingClassifier(random_state=seed)
        else:
            trees = ensemble.GradientBoostingRegressor(random_state=seed)
        trees.fit(codes[fitted], factor[fitted])
        score = float(trees.score(codes[held_out], factor[held_out]))
        return trees.feature_importances_, max(0.0, score)

    # Growing trees takes seconds, most of them outside of Python's lock.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        columns, scores = zip(*pool.map(fit, factors.T), strict=True)
    return np.stack(columns, axis=1), np.array(scores)


def summary(importances: np.ndarray, scores: np.ndarray) -> DCI:
    """The three numbers from importances [L, F] and the predictions' scores [F]."""
    return DCI(disentanglement(importances), completeness(importances), float(np.mean(scores)))


def of_groups(importances: np.ndarray, groups: Sequence[np.ndarray]) -> np.ndarray:
    """The importances of groups of latents, sums over their latents; [G, F].

    Args:
        importances: R [L, F].
        groups: for each group the latents in it, int [n].
    """
    return np.stack([importances[latents].sum(axis=0) for latents in groups])


def disentanglement(importances: np.ndarray) -> float:
    """Sum over latents of rho_i (1 - H_F(P_i)), P_ij = R_ij / sum_j R_ij, rho_i latent i's share of all importance.

    Args:
        importances: R, not negative, [L, F].

    Returns:
        0 to 1; 0 if nothing has any importance.
    """
    total = importances.sum()
    if not total > 0:
        return 0.0
    weights = importances.sum(axis=1) / total
    return float(np.sum(weights * (1 - _entropy(importances))))


def completeness(importances: np.ndarray) -> float:
    """Mean over factors of 1 - H_L(P_j), P_ij = R_ij / sum_i R_ij.

    Args:
        importances: R, not negative, [L, F].

    Returns:
        0 to 1; a factor for which nothing has any importance counts as 0.
    """
    return float(np.mean(1 - _entropy(importances.T)))


def _entropy(rows: np.ndarray) -> np.ndarray:
    """The entropy of each row, divided by its sum, to the base of the number of columns; 1 where the sum is 0."""
    sums = rows.sum(axis=1, keepdims=True)
    shares = np.divide(rows, sums, out=np.full(rows.shape, 1 / rows.shape[1]), where=sums > 0)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return -np.sum(shares * logs, axis=1) / np.log(rows.shape[1])
