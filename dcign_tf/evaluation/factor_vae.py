"""The metric of Kim & Mnih 2018, "Disentangling by Factorising" (FactorVAE), for groups in which one factor varies.

In the paper a group has one factor fixed and all others random, and the latent that varies least in it, relative to
its variance over the data, is to tell which factor was fixed. Here a group has one factor random and all others
fixed (section 3.1 of Kulkarni et al. 2015), so the latent that varies most, relatively, is to tell which one varies.
The rest is the paper's: a classifier from that latent to the factor by majority vote, and its accuracy.
"""

import numpy as np

# Standard deviation below which a latent has collapsed to the prior and takes no part.
COLLAPSED = 0.05


def factor_vae(
    group_codes: np.ndarray,
    varied: np.ndarray,
    variances: np.ndarray,
    votes: int = 800,
    seed: int = 0,
) -> float:
    """How often the latent with the largest normalized variance tells which factor varies in a group.

    Each vote is the latent whose variance over a random half of a random group's images, divided by its variance over
    random images, is the largest. Half of the groups of each factor teach the majority vote; the other half test it.
    A latent that no teaching vote named tells nothing: it counts as a mistake.

    Args:
        group_codes: float [n, B, L], the means of the posteriors of n groups of B >= 4 images.
        varied: int [n], which factor varies in each group; at least two groups of each factor.
        variances: float [L], of each latent over images in which everything varies at once.
        votes: how many teach, and how many test; shared out evenly among the factors.
        seed: of the choice of votes.

    Returns:
        The accuracy on the testing votes, from about 1 over the number of factors, chance, to 1. NaN if all
        latents have collapsed.

    Raises:
        ValueError: the arrays do not fit, or there are too few groups.
    """
    group_codes = np.asarray(group_codes, np.float64)
    varied, variances = np.asarray(varied), np.asarray(variances, np.float64)
    groups, size, latents = group_codes.shape
    if varied.shape != (groups,) or variances.shape != (latents,):
        raise ValueError(
            f"varied, variances: got shapes {varied.shape} and {variances.shape}, must be ({groups},) and ({latents},)"
        )
    labels, counts = np.unique(varied, return_counts=True)
    if size < 4 or not len(labels) or counts.min() < 2:
        raise ValueError(
            f"group_codes: got groups of {size} images, {counts.tolist()} for each factor; must be 4 images, 2 groups "
            "or more"
        )
    alive = np.sqrt(variances) >= COLLAPSED
    if not alive.any():
        return float("nan")
    normalized = group_codes[:, :, alive] / np.sqrt(variances[alive])
    rng = np.random.default_rng(seed)

    def cast_votes(half: int) -> np.ndarray:
        """For each factor, how often each latent varied most; int [F, alive latents]."""
        table = np.zeros((len(labels), normalized.shape[2]), np.int64)
        for row, label in enumerate(labels):
            members = np.flatnonzero(varied == label)[half::2]
            for _ in range(max(1, votes // len(labels))):
                images = rng.choice(size, size // 2, replace=False)
                table[row, normalized[rng.choice(members), images].var(axis=0).argmax()] += 1
        return table

    teaching, testing = cast_votes(0), cast_votes(1)
    told = np.where(teaching.any(axis=0), teaching.argmax(axis=0), -1)
    right = testing[told, np.arange(testing.shape[1])][told >= 0]
    return float(right.sum() / testing.sum())
