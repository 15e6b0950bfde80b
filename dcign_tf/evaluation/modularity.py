"""Modularity and explicitness of Ridgeway & Mozer 2018, "Learning Deep Disentangled Embeddings With the F-Statistic
Loss".
"""  # noqa: D205 - a title is as long as it is.

import numpy as np

from dcign_tf.evaluation import binning
from dcign_tf.evaluation.mig import mutual_information


def modularity(codes: np.ndarray, factors: np.ndarray, bins: int = binning.BINS) -> float:
    """Mean over latents of how far each has information on one factor only (section 3).

    With m_if the mutual information of latent i and factor f, and m_i the largest of a latent, a latent's modularity is
    1 - sum over its other factors of m_if^2 / (m_i^2 (F - 1)). Every latent counts as much, also one that knows next
    to nothing; one that knows nothing at all counts as 0.

    Args:
        codes: float [N, L], the means of the posteriors.
        factors: [N, F], F >= 2; integers are classes, floats are put into bins.
        bins: how many, for latents (of equal width) and for factors (of equal frequency), as in `mig`.

    Returns:
        0, latents know as much of every factor, to 1.

    Raises:
        ValueError: the arrays do not fit or are not finite, or there is but one factor.
    """
    _check(codes, factors)
    latents = [binning.equal_width(column, bins) for column in np.asarray(codes, np.float64).T]
    classes = [binning.classes(column, bins) for column in np.asarray(factors).T]
    squares = np.square([[mutual_information(z, v) for v in classes] for z in latents])
    largest = squares.max(axis=1)
    # Below, a latent's information is the rounding of a sum that is 0.
    told = largest > 1e-24
    others = squares.sum(axis=1) - largest
    spread = others[told] / (largest[told] * (len(classes) - 1))
    return float(np.sum(1 - spread) / len(latents))


def explicitness(
    codes: np.ndarray, factors: np.ndarray, bins: int = binning.BINS, seed: int = 0
) -> float:
    """Mean over factors of how well a linear classifier on the code tells their values apart (section 3).

    The classifier is a multinomial logistic regression on standardized latents, fitted on one half of the observations.
    On the other half, the area under the ROC curve of each value against all others is taken and averaged.

    Args:
        codes: float [N, L], the means of the posteriors.
        factors: [N, F]; integers are classes, floats are put into bins that hold as many observations each.
        bins: how many; fewer, should there not be 20 observations for each.
        seed: of the split in halves.

    Returns:
        1/2, chance, to 1, every value can be told from all others. NaN if no factor varies.

    Raises:
        ValueError: the arrays do not fit or are not finite.
    """
    binning.check(codes, factors)
    codes = np.asarray(codes, np.float64)
    bins = max(2, min(bins, len(codes) // 20))
    order = np.random.default_rng(seed).permutation(len(codes))
    fitted, held_out = order[: len(codes) // 2], order[len(codes) // 2 :]
    areas = [
        area_under_curves(codes[fitted], values[fitted], codes[held_out], values[held_out])
        for values in (binning.classes(column, bins) for column in np.asarray(factors).T)
        if len(np.unique(values[fitted])) > 1
    ]
    return float(np.mean(areas)) if areas else float("nan")


def area_under_curves(
    codes: np.ndarray, values: np.ndarray, new_codes: np.ndarray, new_values: np.ndarray
) -> float:
    """Mean area under the ROC curves of a factor's values, each against all others, on new observations.

    Args:
        codes: float [N, L] that the classifier is fitted on.
        values: int [N], two values or more.
        new_codes: float [M, L] that it is tested on.
        new_values: int [M]; a value that is not among them, or not among `values`, does not count.

    Returns:
        0 to 1.
    """
    # They take a second to import, which only this function's callers should wait for.
    from sklearn import linear_model, metrics

    mean, deviation = codes.mean(axis=0), codes.std(axis=0)
    # A latent that does not vary tells nothing, whatever it is divided by.
    deviation = np.where(deviation > 0, deviation, 1)
    classifier = linear_model.LogisticRegression(max_iter=1000)
    classifier.fit((codes - mean) / deviation, values)
    likely = classifier.predict_proba((new_codes - mean) / deviation)
    areas = [
        metrics.roc_auc_score(new_values == value, column)
        for value, column in zip(classifier.classes_, likely.T, strict=True)
        if 0 < np.count_nonzero(new_values == value) < len(new_values)
    ]
    return float(np.mean(areas)) if areas else float("nan")


def _check(codes: np.ndarray, factors: np.ndarray) -> None:
    binning.check(codes, factors)
    if np.shape(factors)[1] < 2:
        raise ValueError(f"factors: got {np.shape(factors)[1]}, must be 2 or more")
