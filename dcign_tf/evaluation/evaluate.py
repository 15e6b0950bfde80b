"""How good a network is, in numbers: what the paper measures and what the field measures since.

The numbers are described where they are computed: `_reconstruction`, `_inference`, `_invariance`, `_rerendering`,
`_disentanglement`.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dcign_tf.calibration import correlated
from dcign_tf.datasets.source import GroupSource, LabeledGroups, LabeledImages
from dcign_tf.evaluation import dci
from dcign_tf.evaluation.factor_vae import factor_vae
from dcign_tf.evaluation.interpretation import Interpretation, check_fit
from dcign_tf.evaluation.mig import mig
from dcign_tf.evaluation.modularity import explicitness, modularity
from dcign_tf.evaluation.sap import sap
from dcign_tf.model import DCIGN
from dcign_tf.progress import progress
from dcign_tf.units import DEGREES

_FEWEST = 20  # images that measures of disentanglement can be taken on

# Measures of disentanglement, as metrics.json names them.
MEASURES = (
    "mig",
    "dci_disentanglement",
    "dci_completeness",
    "dci_informativeness",
    "dci_group_disentanglement",
    "dci_group_completeness",
    "sap",
    "factor_vae",
    "modularity",
    "explicitness",
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much to measure.

    Attributes:
        images: images in which everything varies, at most.
        groups: groups of each factor, at most.
        pairs: pairs of images of each extrinsic factor that re-rendering is measured on.
        seed: of all that is drawn at random.
    """

    images: int = 2000
    groups: int = 50
    pairs: int = 500
    seed: int = 0


class Pairs(NamedTuple):
    """Random pairs (i, j) of different images of a group in which one factor varies.

    Attributes:
        sources: uint8 [P, S, S, 1], the images i.
        targets: uint8 [P, S, S, 1], the images j.
        source_codes: float32 [P, L], codes of the images i.
        target_codes: float32 [P, L], codes of the images j.
        values: float32 [P], the factor's true value in image j; NaN where nobody knows it.
        groups: int [P], the number of their group.
    """

    sources: np.ndarray
    targets: np.ndarray
    source_codes: np.ndarray
    target_codes: np.ndarray
    values: np.ndarray
    groups: np.ndarray

    def first(self, count: int) -> "Pairs":
        """The first `count` of them."""
        return self.take(np.arange(min(count, len(self.values))))

    def take(self, which: np.ndarray) -> "Pairs":
        """Some of them, by their numbers."""
        return Pairs(*(column[which] for column in self))


class Measured(NamedTuple):
    """What was measured of one network, and what figures are drawn from.

    Attributes:
        metrics: a network's block of metrics.json.
        network: the network and what its latents mean.
        mixed: images in which everything varies.
        codes: float32 [N, L], their codes.
        pairs: for each extrinsic factor of which there are groups, the pairs it was re-rendered on.
        periods: of those factors that close.
    """

    metrics: dict[str, Any]
    network: Interpretation
    mixed: LabeledImages
    codes: np.ndarray
    pairs: dict[str, Pairs]
    periods: Mapping[str, float]


class Evaluation(NamedTuple):
    """The result of `run`.

    Attributes:
        metrics: what metrics.json holds.
        network: of the network.
        baseline: of the entangled network, if there is one.
    """

    metrics: dict[str, Any]
    network: Measured
    baseline: Measured | None


def evaluate(
    model: DCIGN,
    source: GroupSource,
    split: str = "test",
    baseline: DCIGN | None = None,
    settings: Settings = Settings(),
) -> dict[str, Any]:
    """Measures a network on identities that its training never saw.

    Args:
        model: a trained and calibrated network.
        source: the data it was trained on; also of others with the same factors and size of images.
        split: "test", "validation" or "train".
        baseline: an entangled network to compare it with, of the same data.
        settings: how much to measure.

    Returns:
        What metrics.json holds: numbers, texts and None where there is no finite number, as there is none of what
        needs true values where nobody knows them, or groups where there are none.

    Raises:
        DcignError: the network was not calibrated, does not fit the data, or the data have no such split.
    """
    return run(model, source, split, baseline, settings).metrics


def run(
    model: DCIGN,
    source: GroupSource,
    split: str = "test",
    baseline: DCIGN | None = None,
    settings: Settings = Settings(),
) -> Evaluation:
    """Does what `evaluate` does and also returns what figures are drawn from."""
    check_fit(model, source)
    if baseline is not None:
        check_fit(baseline, source, "the baseline")
    mixed = source.mixed(split, settings.images)
    groups = {
        factor: source.groups(split, factor, settings.groups)
        for factor in source.factors
        if factor in source.available(split)
    }
    measured = _measure(model, source, mixed, groups, settings, "evaluating")
    compared = None
    if baseline is not None:
        compared = _measure(baseline, source, mixed, groups, settings, "evaluating the baseline")
    metrics = {
        "image_size": model.image_size,
        "steps": _steps(model),
        "data": source.description,
        "split": split,
        "n_images": len(mixed.images),
        **measured.metrics,
        "baseline": None
        if baseline is None or compared is None
        else {"steps": _steps(baseline), **compared.metrics},
    }
    return Evaluation(_finite(metrics), measured, compared)


def _measure(
    model: DCIGN,
    source: GroupSource,
    mixed: LabeledImages,
    groups: Mapping[str, LabeledGroups],
    settings: Settings,
    description: str,
) -> Measured:
    network = Interpretation.of(model, source)
    extrinsic = tuple(network.places)
    coded = len(mixed.images) + sum(group.images[..., 0, 0, 0].size for group in groups.values())
    decoded = len(mixed.images) + 3 * settings.pairs * len(extrinsic)
    with progress(coded + decoded, description, unit="image") as bar:
        network.advance = bar.update
        codes = network.encode(mixed.images)
        group_codes = {factor: network.encode(group.images) for factor, group in groups.items()}
        pairs = {
            factor: draw_pairs(
                groups[factor], group_codes[factor], factor, settings.pairs, settings.seed + number
            )
            for number, factor in enumerate(extrinsic)
            if factor in groups
        }
        metrics = {
            "reconstruction": _reconstruction(network, codes, mixed.images),
            "rerendering": {f: _rerendering(network, f, pairs.get(f)) for f in extrinsic},
            "inference": _inference(network, codes, mixed.values, source.periods),
            "invariance": _invariance(network, codes, group_codes),
            "disentanglement": _disentanglement(network, codes, mixed.values, settings.seed),
            "latents": {
                f: first if not second else [first, *second]
                for f, (first, *second) in network.places.items()
            },
            "units": dict(network.units),
        }
        network.advance = lambda images: None
    order = (
        "reconstruction",
        "inference",
        "invariance",
        "rerendering",
        "disentanglement",
        "latents",
        "units",
    )
    ordered = {key: metrics[key] for key in order}
    return Measured(ordered, network, mixed, codes, pairs, source.periods)


def draw_pairs(
    group: LabeledGroups, codes: np.ndarray, factor: str, count: int, seed: int
) -> Pairs:
    """Draws pairs of different images of one group each, with replacement.

    Args:
        group: n groups of B >= 2 images in which `factor` varies.
        codes: float32 [n, B, L], of their images.
        factor: the factor.
        count: how many pairs.
        seed: of the choice; the same for networks that are to be compared.
    """
    n, size = codes.shape[:2]
    rng = np.random.default_rng(seed)
    which, i = rng.integers(n, size=count), rng.integers(size, size=count)
    j = (i + rng.integers(1, size, size=count)) % size
    return Pairs(
        group.images[which, i],
        group.images[which, j],
        codes[which, i],
        codes[which, j],
        group.values[factor][which, j],
        which,
    )


def _reconstruction(
    network: Interpretation, codes: np.ndarray, images: np.ndarray
) -> dict[str, float]:
    """Decodes the mean of each image's posterior and compares with the image."""
    mse = float(network.squared_errors(codes, images).mean())
    return {"mse": mse, "psnr_db": psnr(mse)}


def _inference(
    network: Interpretation,
    codes: np.ndarray,
    values: Mapping[str, np.ndarray],
    periods: Mapping[str, float],
) -> dict[str, dict[str, float]]:
    """Reads each factor off images in which everything varies at once: Fig. 6 in numbers.

    `pearson` is the absolute correlation of the raw latent and the true value, `r2_calibrated` the share of the value's
    variance that is explained after the calibration, `median_abs_error` the error one has to expect, in the factor's
    unit; of angles it is also called `median_abs_error_deg`.
    """
    inferred = network.infer(codes)
    result = {}
    for factor, (_, *second) in network.places.items():
        latent = network.latent(codes, factor)
        numbers = agreement(
            latent, inferred[factor], values[factor], periods.get(factor), bool(second)
        )
        if network.units[factor] == DEGREES:
            numbers["median_abs_error_deg"] = numbers["median_abs_error"]
        result[factor] = numbers
    return result


def agreement(
    latent: np.ndarray,
    inferred: np.ndarray,
    true: np.ndarray,
    period: float | None = None,
    circular: bool = False,
) -> dict[str, float]:
    """How well a latent, and the values read off it, tell the true values; all [N].

    Args:
        latent: the raw latents.
        inferred: the values read off them.
        true: the true values; NaN where nobody knows them.
        period: of a factor that closes; its errors are taken the shorter way around.
        circular: whether the latents are angles, in radians.

    Returns:
        Numbers as `_inference` describes them; NaN where no true value is known.
    """
    known = np.isfinite(true)
    latent, inferred, true = (np.asarray(v, np.float64)[known] for v in (latent, inferred, true))
    if not len(true):
        return dict.fromkeys(("pearson", "r2_calibrated", "median_abs_error"), math.nan)
    varies = np.ptp(latent) > 0 and np.ptp(true) > 0
    spread = np.square(true - true.mean()).sum()
    errors = np.abs(inferred - true)
    if period is not None:
        errors = np.minimum(errors % period, -errors % period)
    return {
        "pearson": correlated(latent, true, circular, period) if varies else math.nan,
        "r2_calibrated": float(1 - np.square(errors).sum() / spread) if spread else math.nan,
        "median_abs_error": float(np.median(errors)),
    }


def _invariance(
    network: Interpretation, codes: np.ndarray, group_codes: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """How much the latents of the other factors vary where only one factor does.

    For groups in which that factor varies: the variance of another factor's latents within groups over their variance
    between random images, both summed over its latents; averaged over the other factors. 0 is perfect, 1 is no
    better than chance.
    """
    between = codes.var(axis=0, ddof=1, dtype=np.float64)
    factors = network.model.layout.factors
    result = dict.fromkeys(factors, math.nan)
    for factor, of_groups in group_codes.items():
        within = of_groups.var(axis=1, ddof=1, dtype=np.float64).mean(axis=0)
        ratios = []
        for other in factors:
            if other != factor:
                latents = network.latents(other)
                total = between[latents].sum()
                ratios.append(within[latents].sum() / total if total > 0 else math.nan)
        result[factor] = float(np.mean(ratios))
    return result


def _rerendering(network: Interpretation, factor: str, pairs: Pairs | None) -> dict[str, float]:
    """Encodes one image, sets one factor to another value, decodes, compares with the true image of that scene.

    `mse` and `psnr_db` take the true value through the calibration, if it is known. Beside them, `mse_unchanged`
    leaves the factor as it is, which any use of the latent must beat, and `mse_exchanged` takes the latent that the
    network itself finds in the other image.
    """
    mse = mse_unchanged = mse_exchanged = math.nan
    if pairs is not None:
        mse_unchanged, mse_exchanged = (
            float(network.squared_errors(codes, pairs.targets).mean())
            for codes in (pairs.source_codes, exchanged(network, factor, pairs))
        )
        if np.isfinite(pairs.values).all():
            edited = rerendered(network, factor, pairs)
            mse = float(network.squared_errors(edited, pairs.targets).mean())
    return {
        "mse": mse,
        "psnr_db": psnr(mse),
        "mse_unchanged": mse_unchanged,
        "mse_exchanged": mse_exchanged,
    }


def exchanged(network: Interpretation, factor: str, pairs: Pairs) -> np.ndarray:
    """Codes of the images i with the factor's latent of the images j; float32 [P, L]."""
    codes = pairs.source_codes.copy()
    latents = list(network.places[factor])
    codes[:, latents] = pairs.target_codes[:, latents]
    return codes


def rerendered(network: Interpretation, factor: str, pairs: Pairs) -> np.ndarray:
    """Codes of the images i with the factor set to its value in the images j; float32 [P, L].

    Where nobody knows that value, the network has to find it in the image itself: `exchanged`.
    """
    if np.isfinite(pairs.values).all():
        return network.edit(pairs.source_codes, factor, pairs.values)
    return exchanged(network, factor, pairs)


def _disentanglement(
    network: Interpretation, codes: np.ndarray, values: Mapping[str, np.ndarray], seed: int
) -> dict[str, float]:
    """The field's measures, of all latents and the extrinsic factors, on images in which everything varies.

    `dci_group_*` take all latents of a factor as one: what the intrinsic ones know of pose and light counts the same,
    shared out among two hundred of them or not.

    Factors of which no true value is known, and images of which one of the others' is not, are left out.
    """
    told = [column for column in values.values() if np.isfinite(column).any()]
    known = np.all(np.isfinite(told), axis=0) if told else np.zeros(len(codes), bool)
    measures = dict.fromkeys(MEASURES, math.nan)
    if known.sum() < _FEWEST:
        return measures
    factors, codes = np.stack(told, axis=1)[known], network.numbers(codes[known])
    measures |= {
        "mig": mig(codes, factors),
        "sap": sap(codes, factors),
        "explicitness": explicitness(codes, factors, seed=seed),
    }
    if len(told) > 1:  # Of one factor, these cannot tell anything.
        importances, scores = dci.importances(codes, factors, seed)
        trees = dci.summary(importances, scores)
        groups = [network.latents(factor) for factor in network.model.layout.factors]
        grouped = dci.of_groups(importances, groups)
        measures |= {f"dci_{name}": value for name, value in trees._asdict().items()}
        measures |= {
            "dci_group_disentanglement": dci.disentanglement(grouped),
            "dci_group_completeness": dci.completeness(grouped),
            "factor_vae": factor_vae(codes, factors, seed=seed),
            "modularity": modularity(codes, factors),
        }
    return measures


def psnr(mse: float) -> float:
    """The peak signal to noise ratio in dB of images in [0, 1]."""
    return math.inf if mse == 0 else -10 * math.log10(mse)


def _steps(model: DCIGN) -> int | None:
    """How many updates a network had; None where it does not say."""
    optimizer = getattr(model, "optimizer", None)
    return None if optimizer is None else int(optimizer.iterations.numpy())


def _finite(value: Any) -> Any:
    """The same with floats of six digits, and None for those that are not finite, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
