"""The variational objective: -log P(x | z) + KL(Q(z | x) || P(z)), Figure 1 of the paper.

Both terms are sums, over pixels and latents here and over the images of a group in `DCIGN.train_step`, as in the
authors' code: the strength of the invariance signal (1/100) is relative to sums.
"""

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


def posterior(mean: tf.Tensor, log_variance: tf.Tensor) -> tfp.distributions.Distribution:
    """Q(z | x): independent normals, equations 1-3; mean and log_variance are [..., L]."""
    return tfd.Normal(mean, tf.exp(0.5 * log_variance))


def divergence(mean: tf.Tensor, log_variance: tf.Tensor) -> tf.Tensor:
    """KL(Q(z | x) || N(0, 1)) of each latent in nats; [..., L]."""
    prior = tfd.Normal(tf.zeros([], mean.dtype), tf.ones([], mean.dtype))
    return tfd.kl_divergence(posterior(mean, log_variance), prior)


def log_likelihood(images: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """log P(x | z) of each image in nats, summed over its pixels; [N].

    The Bernoulli likelihood of grey values in [0, 1], that is minus the binary cross-entropy.

    Args:
        images: float [N, H, W, 1] in [0, 1].
        logits: float [N, H, W, 1], the decoder's output before the sigmoid.
    """
    likelihood = tfd.Independent(tfd.Bernoulli(logits=logits, dtype=logits.dtype), 3)
    return likelihood.log_prob(images)
