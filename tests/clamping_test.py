import numpy as np
import pytest
import tensorflow as tf

from dcign_tf.clamping import clamp

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(2, 5, 4))
ACTIVE = np.array([[True, False, False, True], [False, False, True, False]])
WEIGHTS = RNG.normal(size=Z.shape)


def forward_and_gradient(reference="mean", strength=0.01):
    z = tf.constant(Z)
    with tf.GradientTape() as tape:
        tape.watch(z)
        out = clamp(z, ACTIVE, strength, reference)
        # The gradient of this at `out` is WEIGHTS: an upstream gradient that is easy to recognize.
        loss = tf.reduce_sum(out * WEIGHTS)
    return out.numpy(), tape.gradient(loss, z).numpy()


def test_forward_replaces_inactive_latents_by_their_groups_mean():
    out, _ = forward_and_gradient()
    for g in range(2):
        for latent in range(4):
            expected = Z[g, :, latent] if ACTIVE[g, latent] else np.full(5, Z[g, :, latent].mean())
            np.testing.assert_allclose(out[g, :, latent], expected, rtol=1e-12)


def test_backward_passes_active_gradients_and_replaces_inactive_ones():
    _, gradient = forward_and_gradient(strength=0.01)
    for g in range(2):
        for latent in range(4):
            z = Z[g, :, latent]
            expected = WEIGHTS[g, :, latent] if ACTIVE[g, latent] else 0.01 * (z - z.mean())
            np.testing.assert_allclose(gradient[g, :, latent], expected, rtol=1e-12)


def test_clamping_to_the_first_image():
    out, gradient = forward_and_gradient("first", 1.0)
    np.testing.assert_array_equal(out[0, :, 1], np.full(5, Z[0, 0, 1]))
    np.testing.assert_allclose(gradient[0, :, 1], Z[0, :, 1] - Z[0, 0, 1])


def test_groups_do_not_mix():
    alone = clamp(tf.constant(Z[:1]), ACTIVE[:1], 0.01)
    np.testing.assert_array_equal(alone, clamp(tf.constant(Z), ACTIVE, 0.01)[:1])


def test_the_same_inside_a_graph_with_unknown_sizes():
    graph = tf.function(
        lambda z, a: clamp(z, a, 0.5),
        input_signature=[
            tf.TensorSpec([None, None, 4], tf.float64),
            tf.TensorSpec([None, 4], tf.bool),
        ],
    )
    np.testing.assert_array_equal(graph(Z, ACTIVE), clamp(tf.constant(Z), ACTIVE, 0.5))


def test_an_unknown_reference_is_refused():
    with pytest.raises(ValueError, match="'median', must be one of mean, first"):
        clamp(tf.constant(Z), ACTIVE, 0.01, "median")
