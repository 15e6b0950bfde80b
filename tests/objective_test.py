import numpy as np
import tensorflow as tf

from dcign_tf import objective

RNG = np.random.default_rng(0)


def test_divergence_is_the_closed_form():
    mean, log_variance = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(2, 3, 4))
    expected = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance)
    np.testing.assert_allclose(objective.divergence(mean, log_variance), expected, rtol=1e-10)


def test_likelihood_is_minus_the_cross_entropy_summed_over_pixels():
    images, logits = RNG.uniform(size=(3, 4, 4, 1)), RNG.normal(size=(3, 4, 4, 1)) * 3
    p = 1 / (1 + np.exp(-logits))
    entropy = -(images * np.log(p) + (1 - images) * np.log(1 - p)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(
        objective.log_likelihood(tf.constant(images), tf.constant(logits)), -entropy, rtol=1e-10
    )


def test_likelihood_of_extreme_logits_is_finite():
    images = np.array([0.0, 1.0], np.float32).reshape(2, 1, 1, 1)
    logits = np.array([200.0, -200.0], np.float32).reshape(2, 1, 1, 1)
    np.testing.assert_allclose(objective.log_likelihood(images, logits), [-200, -200])
