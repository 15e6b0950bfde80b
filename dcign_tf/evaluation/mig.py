"""The mutual information gap of Chen, Li, Grosse & Duvenaud 2018, "Isolating Sources of Disentanglement in VAEs".

For each factor, how much more the latent that knows most about it knows than the latent that knows second most.
"""

import numpy as np

from dcign_tf.evaluation import binning


def mig(codes: np.ndarray, factors: np.ndarray, bins: int = binning.BINS) -> float:
    """Mean over factors of (I(z_1; v) - I(z_2; v)) / H(v), z_1 and z_2 the latents with the most information on v.

    Information is counted in a table: latents in bins of equal width, as is usual since Locatello et al. 2019, and
    factors in bins that hold as many observations each.

    Args:
        codes: float [N, L], the means of the posteriors.
        factors: [N, F]; integers are classes, floats are put into bins.
        bins: how many, for latents and for factors.

    Returns:
        0, no latent stands out, to 1, one latent knows all and no other anything; of a continuous factor a perfect
        latent reaches about 0.9, since the two kinds of bins do not coincide. NaN if no factor varies.

    Raises:
        ValueError: the arrays do not fit or are not finite.
    """
    binning.check(codes, factors)
    gaps = []
    binned = [binning.equal_width(column, bins) for column in np.asarray(codes, np.float64).T]
    for column in np.asarray(factors).T:
        factor = binning.classes(column, bins)
        own = entropy(factor)
        if own == 0:
            continue
        information = sorted(
            (mutual_information(latent, factor) for latent in binned), reverse=True
        )
        gaps.append((information[0] - information[1]) / own)
    return float(np.mean(gaps)) if gaps else float("nan")


def entropy(values: np.ndarray) -> float:
    """The entropy of the empirical distribution of integers [N], in nats."""
    shares = np.unique(values, return_counts=True)[1] / len(values)
    return float(-np.sum(shares * np.log(shares)))


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """The mutual information of the empirical joint distribution of integers [N] and [N], in nats."""
    _, a = np.unique(a, return_inverse=True)
    _, b = np.unique(b, return_inverse=True)
    table = np.bincount(a * (b.max() + 1) + b, minlength=(a.max() + 1) * (b.max() + 1))
    joint = table.reshape(a.max() + 1, b.max() + 1) / len(a)
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    seen = joint > 0
    return float(np.sum(joint[seen] * np.log(joint[seen] / independent[seen])))
