"""Training procedures: the paper's clamp, its weakly supervised descendants, and plain variational training.

A procedure takes the posteriors that the encoder gives of a group of images, and says what is sampled from and enters
the divergence from the prior. All else is the same for all: network, noise, likelihood, optimizer, and what a step
gives, sums over its groups.

    clamp      latents of factors that do not vary in the group become their group's mean; its gradient is the paper's
    ml_vae     they become the product of the group's posteriors
    group_vae  they become the average of the group's posteriors
    exchange   each image takes those of another one of its group (ours)
    ada_gvae   as group_vae for latents that seem not to vary; it is not told which factor does
    sgvb       nothing is shared: the paper's entangled baseline
    beta_vae   the same, with another weight of the divergence

The exchange is the clamp to another image of the group, with the objective's gradient and no other signal. It is what
re-rendering does, and what all else only hopes for: to take all but a factor from one image, and that factor from
elsewhere. A shared latent that tells the varying factor tells the other image's, which is of no use to the decoder; and
one that does not mean the same in all images of the group is found out, where a mean of them hides it. Exchanging what
two images share is an old idea (Mathieu et al. 2016, "Disentangling factors of variation in deep representations using
adversarial training", for images of one class); here any factor may be what varies.

The groups of ML-VAE and GVAE share their content and differ in style. Ours say which factor varies, whose latents are
the style; all others are the content, the intrinsic factor's as any other's. Groups in which the intrinsic factor
varies have pose and light for content.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from dcign_tf import clamping


class Posteriors(NamedTuple):
    """What is sampled from.

    Attributes:
        mean: [G, B, L].
        log_variance: [G, B, L].
        counts: how often each latent's divergence counts, [G, 1, L]; None for once in each image.
    """

    mean: tf.Tensor
    log_variance: tf.Tensor
    counts: tf.Tensor | None = None


def separate(mean: tf.Tensor, log_variance: tf.Tensor, active: tf.Tensor) -> Posteriors:
    """Leaves each image its own posterior (Kingma and Welling 2014, "Auto-encoding variational Bayes").

    Args:
        mean: [G, B, L].
        log_variance: [G, B, L].
        active: bool [G, L]; not looked at.
    """
    del active
    return Posteriors(mean, log_variance)


def product(mean: tf.Tensor, log_variance: tf.Tensor, active: tf.Tensor) -> Posteriors:
    """ML-VAE: Bouchacourt, Tomioka and Nowozin 2018, "Multi-level variational autoencoder" (arXiv:1705.08841).

    A shared latent has one posterior in the group, the product of the images' normals ("accumulating group evidence"):
    1 / v = sum of 1 / v_i, and m = v times the sum of m_i / v_i. Its divergence counts once for the group, as in the
    paper's bound. Each image draws its own sample of it.

    Args:
        mean: [G, B, L], m_i.
        log_variance: [G, B, L], log v_i.
        active: bool [G, L], true at the latents that are not shared.
    """
    weights = tf.nn.softmax(-log_variance, axis=1)
    shared_mean = tf.reduce_sum(weights * mean, axis=1, keepdims=True)
    shared_log_variance = -tf.reduce_logsumexp(-log_variance, axis=1, keepdims=True)
    return _shared(mean, log_variance, shared_mean, shared_log_variance, active)


def average(mean: tf.Tensor, log_variance: tf.Tensor, active: tf.Tensor) -> Posteriors:
    """GVAE: Hosoya 2019, "Group-based learning of disentangled representations" (arXiv:1809.02383).

    A shared latent has one posterior in the group, a normal with the average of the images' means and the average of
    their variances. Its divergence counts once for the group, as in the paper's bound. The paper draws one sample of
    it; here each image draws its own: the same bound in expectation, with less noise in its gradient.

    Args:
        mean: [G, B, L].
        log_variance: [G, B, L].
        active: bool [G, L], true at the latents that are not shared.
    """
    return _shared(mean, log_variance, *_average(mean, log_variance), active)


def adaptive(mean: tf.Tensor, log_variance: tf.Tensor, active: tf.Tensor) -> Posteriors:
    """Ada-GVAE: Locatello et al. 2020, "Weakly-supervised disentanglement without compromises" (arXiv:2002.02886).

    Nobody says which factor varies. For each latent the divergence between the posteriors of two images is measured;
    latents below half of the sum of the largest and the smallest are taken to be shared and averaged as by GVAE. Their
    divergence from the prior counts in each image, as in the paper's objective.

    The paper has pairs. In our groups all pairs share the same factors, so all of them vote: the divergence is its
    mean over all ordered pairs, and what is shared is shared by the whole group. For a group of two this is the paper's
    but for that mean of both directions, of which it takes one.

    Args:
        mean: [G, B, L], B of at least 2.
        log_variance: [G, B, L].
        active: bool [G, L]; not looked at.
    """
    del active
    distance = pairwise_divergence(mean, log_variance)
    largest, smallest = (reduce(distance, axis=1, keepdims=True) for reduce in _EXTREMES)
    varies = (distance >= (largest + smallest) / 2)[:, tf.newaxis]
    shared_mean, shared_log_variance = _average(mean, log_variance)
    return Posteriors(
        tf.where(varies, mean, shared_mean), tf.where(varies, log_variance, shared_log_variance)
    )


_EXTREMES = (tf.reduce_max, tf.reduce_min)


def pairwise_divergence(mean: tf.Tensor, log_variance: tf.Tensor) -> tf.Tensor:
    """KL(q_i || q_j) of each latent in nats, its mean over all pairs i != j of a group; [G, L].

    Args:
        mean: [G, B, L].
        log_variance: [G, B, L].
    """
    # Summed over i first, so that no [B, B] is needed: the logarithms of both orders cancel.
    precision = tf.exp(-log_variance)
    center = tf.reduce_mean(mean, axis=1, keepdims=True)
    spread = tf.reduce_mean(tf.square(mean - center), axis=1, keepdims=True)
    variance = tf.reduce_mean(tf.exp(log_variance), axis=1, keepdims=True)
    from_all = (variance + spread + tf.square(mean - center)) * precision - 1
    size = tf.cast(tf.shape(mean)[1], mean.dtype)
    return 0.5 * tf.reduce_mean(from_all, axis=1) * size / (size - 1)


def _average(mean: tf.Tensor, log_variance: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The normal with the average mean and variance of each group; [G, 1, L] each."""
    size = tf.cast(tf.shape(mean)[1], mean.dtype)
    total = tf.reduce_logsumexp(log_variance, axis=1, keepdims=True)
    return tf.reduce_mean(mean, axis=1, keepdims=True), total - tf.math.log(size)


def _shared(
    mean: tf.Tensor,
    log_variance: tf.Tensor,
    shared_mean: tf.Tensor,
    shared_log_variance: tf.Tensor,
    active: tf.Tensor,
) -> Posteriors:
    """Images' own posteriors at active latents, at others the group's, whose divergence counts once."""
    active = active[:, tf.newaxis]
    size = tf.cast(tf.shape(mean)[1], mean.dtype)
    return Posteriors(
        tf.where(active, mean, shared_mean),
        tf.where(active, log_variance, shared_log_variance),
        tf.where(active, tf.ones([], mean.dtype), 1 / size),
    )


_Rule = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Posteriors]
# The clamp is no such rule: its backward pass is no gradient of its forward pass, and has settings. The exchange is the
# clamp with some that are its own.
_RULES: dict[str, _Rule] = {
    "ml_vae": product,
    "group_vae": average,
    "ada_gvae": adaptive,
    "sgvb": separate,
    "beta_vae": separate,
}
PROCEDURES = ("clamp", "exchange", *_RULES)
_TOLD_THE_FACTOR = frozenset({"clamp", "ml_vae", "group_vae", "exchange"})


@dataclasses.dataclass(frozen=True)
class ProcedureConfig:
    """A training procedure and its settings. Defaults are the paper's (section 3).

    Attributes:
        procedure: one of `PROCEDURES`.
        invariance_strength: of the clamp: weight of the signal that draws inactive latents to their group's mean,
            relative to an objective summed over the group.
        clamp_to: of the clamp: "mean" (the paper), "first" (the authors' code) or "another"; see `clamping.clamp`.
        clamp_gradient: of the clamp: what inactive latents get, the invariance signal alone ("replace", the paper) or
            the objective's gradient through their group's mean as well ("add"); see `clamping.clamp`.
        invariance: of the clamp: whether the means' signal is "absolute" (the paper) or "relative" to how much a latent
            varies in the whole step; see `clamping.clamp`.
        invariance_warmup_steps: steps in which the strength rises linearly from 0; 0 is the paper.
        beta: weight of the divergence from the prior, of any procedure; 1 is the paper and the variational bound.
            Higgins et al. 2017, "beta-VAE: learning basic visual concepts with a constrained variational framework".
        kl_warmup_steps: steps in which that weight rises linearly from 0; 0 is the paper. Sønderby et al. 2016,
            "Ladder variational autoencoders".

    Raises:
        ValueError: a setting is impossible; the message begins with its name.
    """

    procedure: str = "clamp"
    invariance_strength: float = 0.01
    clamp_to: str = "mean"
    clamp_gradient: str = "replace"
    invariance: str = "absolute"
    invariance_warmup_steps: int = 0
    beta: float = 1.0
    kl_warmup_steps: int = 0

    def __post_init__(self) -> None:
        _check_choice("procedure", self.procedure, PROCEDURES)
        _check_choice("clamp_to", self.clamp_to, clamping.REFERENCES)
        _check_choice("clamp_gradient", self.clamp_gradient, clamping.GRADIENTS)
        _check_choice("invariance", self.invariance, clamping.INVARIANCES)
        for name in ("invariance_strength", "beta", "invariance_warmup_steps", "kl_warmup_steps"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}: got {value}, must be 0 or more")
        if self.procedure == "beta_vae" and self.beta == 1:
            raise ValueError("beta: got 1, must be another number for beta_vae; with 1 it is sgvb")

    @property
    def names_latents(self) -> bool:
        """Whether training is told the factors, so that they have the latents of the layout."""
        return self.procedure in _TOLD_THE_FACTOR

    def procedure_settings(self) -> dict[str, Any]:
        """These settings, without those that a subclass adds, fit for JSON."""
        return {field.name: getattr(self, field.name) for field in _fields()}

    def posteriors(
        self,
        mean: tf.Tensor,
        log_variance: tf.Tensor,
        active: tf.Tensor,
        step: Any = 0,
        loss_scale: Any = 1.0,
    ) -> Posteriors:
        """What is sampled from and enters the divergence.

        Args:
            mean: of the posteriors that the encoder gives; [G, B, L].
            log_variance: likewise.
            active: which latents belong to the factor that varies in each group; bool [G, L].
            step: how many steps were done.
            loss_scale: what the objective will be multiplied by before it is differentiated. The clamp's invariance
                signal takes the place of a gradient that has been scaled.
        """
        if self.procedure in _RULES:
            return _RULES[self.procedure](mean, log_variance, active)
        strength: Any = 0.0
        reference, gradient, invariance = "another", "add", "absolute"
        if self.procedure == "clamp":
            strength = self.invariance_strength * loss_scale
            strength *= _rise(step, self.invariance_warmup_steps, mean.dtype)
            reference, gradient = self.clamp_to, self.clamp_gradient
            invariance = self.invariance
        # Another one at every step, so that all images of a group meet, whatever their order.
        others = tf.maximum(tf.shape(mean)[1] - 1, 1)
        shift = 1 + tf.cast(step, tf.int32) % others

        def clamped(latents: tf.Tensor, invariance: str) -> tf.Tensor:
            return clamping.clamp(latents, active, strength, reference, gradient, invariance, shift)

        # A log-variance is no matter of scale: for it there is but the absolute signal.
        return Posteriors(clamped(mean, invariance), clamped(log_variance, "absolute"))

    def kl_weight(self, step: Any, dtype: Any = "float32") -> Any:
        """The weight of the divergence in the objective after so many steps."""
        return self.beta * _rise(step, self.kl_warmup_steps, dtype)


def _fields() -> Sequence[dataclasses.Field]:
    return dataclasses.fields(ProcedureConfig)


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: got {value!r}, must be one of {', '.join(choices)}")


def _rise(step: Any, steps: int, dtype: Any) -> Any:
    """A line from 0 at the first step to 1 after `steps`; 1 if there are none."""
    return tf.minimum(tf.cast(step, dtype) / steps, 1) if steps else 1.0
