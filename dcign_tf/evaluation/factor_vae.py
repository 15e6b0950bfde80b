"""The metric of Kim & Mnih 2018, "Disentangling by Factorising" (FactorVAE).

In a batch in which one factor is fixed and all others are random, the latent that varies least, relative to its
variance over the data, should tell which factor was fixed.

The batches are drawn from images in which everything varies at once: a continuous factor counts as fixed within a bin.
The mini-batches of the paper's training procedure, in which one factor varies and all others are fixed, would ask for
the latent that varies most instead; but of 200 latents the largest variance in 20 images is mostly chance.
"""

import numpy as np

from dcign_tf.evaluation import binning

# Standard deviation below which a latent has collapsed to the prior and takes no part.
COLLAPSED = 0.05
# Observations in a batch, as in Locatello et al. 2019.
BATCH = 64


def factor_vae(
    codes: np.ndarray,
    factors: np.ndarray,
    bins: int = binning.BINS,
    votes: int = 800,
    seed: int = 0,
    batch: int = BATCH,
) -> float:
    """How often the latent with the smallest normalized variance tells which factor is fixed in a batch.

    Each vote is the latent whose variance over a batch, divided by its variance over all observations, is the
    smallest. Half of the observations teach a majority vote from latents to factors; its accuracy is measured on the
    other half. A latent that no teaching vote named tells nothing: it counts as a mistake.

    Args:
        codes: float [N, L], the means of the posteriors.
        factors: [N, F], F >= 2; integers are classes, floats are put into bins that hold as many observations each.
            Each value or bin should have 20 observations or more.
        bins: how many.
        votes: how many teach, and how many test; shared out evenly among the factors.
        seed: of the choice of batches.
        batch: observations in a batch; at most half of a bin's teaching or testing ones, which keeps batches different.

    Returns:
        The accuracy, from about 1 over the number of factors, chance, to 1. NaN if all latents have collapsed, or no
        bin holds enough observations.

    Raises:
        ValueError: the arrays do not fit or are not finite.
    """
    binning.check(codes, factors)
    codes, factors = np.asarray(codes, np.float64), np.asarray(factors)
    rng = np.random.default_rng(seed)
    deviations = codes.std(axis=0)
    alive = deviations >= COLLAPSED
    normalized = codes[:, alive] / deviations[alive]
    is_teaching = rng.permutation(len(codes)) % 2 == 0

    def cast_votes(chosen: np.ndarray) -> np.ndarray:
        """For each factor, how often each latent varied least; int [F, alive latents]."""
        table = np.zeros((factors.shape[1], normalized.shape[1]), np.int64)
        for row, column in enumerate(factors.T):
            label = binning.classes(column, bins)
            members = [np.flatnonzero((label == value) & chosen) for value in np.unique(label)]
            members = [images for images in members if len(images) >= 4]
            for _ in range(max(1, votes // len(table)) if members else 0):
                images = members[rng.integers(len(members))]
                some = rng.choice(images, min(batch, len(images) // 2), replace=False)
                table[row, normalized[some].var(axis=0).argmin()] += 1
        return table

    if not alive.any():
        return float("nan")
    teaching, testing = cast_votes(is_teaching), cast_votes(~is_teaching)
    if not teaching.any() or not testing.any():
        return float("nan")
    told = teaching.argmax(axis=0)
    right = np.where(teaching.any(axis=0), testing[told, np.arange(len(told))], 0)
    return float(right.sum() / testing.sum())
