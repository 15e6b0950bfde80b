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


@pytest.mark.parametrize("shift", [1, 3])
def test_clamping_to_another_image(shift):
    z = tf.constant(Z)
    with tf.GradientTape() as tape:
        tape.watch(z)
        out = clamp(z, ACTIVE, 0.3, "another", shift=shift)
        total = tf.reduce_sum(out * WEIGHTS)
    others = [(image - shift) % 5 for image in range(5)]
    np.testing.assert_array_equal(out[0, :, 1], Z[0, others, 1])
    np.testing.assert_array_equal(out[0, :, 0], Z[0, :, 0])
    signal = 0.3 * (Z - Z[:, others])
    expected = np.where(ACTIVE[:, np.newaxis], WEIGHTS, signal)
    np.testing.assert_allclose(tape.gradient(total, z), expected, rtol=1e-12)


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
    with pytest.raises(ValueError, match="'median', must be one of mean, first, another"):
        clamp(tf.constant(Z), ACTIVE, 0.01, "median")


def test_the_objectives_gradient_through_the_reference():
    for reference in ("mean", "first", "another"):
        z = tf.constant(Z)
        _, signal = forward_and_gradient(reference, 0.3)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(z)
            ours = tf.reduce_sum(clamp(z, ACTIVE, 0.3, reference, "add") * WEIGHTS)
            anchor = {
                "mean": tf.reduce_mean(z, axis=1, keepdims=True),
                "first": z[:, :1],
                "another": tf.concat([z[:, -1:], z[:, :-1]], axis=1),
            }[reference]
            plain = tf.reduce_sum(tf.where(ACTIVE[:, np.newaxis], z, anchor) * WEIGHTS)
        expected = tape.gradient(plain, z) + np.where(ACTIVE[:, np.newaxis], 0, signal)
        np.testing.assert_allclose(tape.gradient(ours, z), expected, rtol=1e-12, atol=1e-15)


def penalty(z):
    """What the docstring says the relative signal is the gradient of, for strength 1."""
    within = np.where(ACTIVE[:, np.newaxis], 0, z - z.mean(axis=1, keepdims=True))
    return ((within**2).sum(axis=(0, 1)) / (z.var(axis=(0, 1)) + 0.01) / 2).sum()


def relative_signal(z, strength=1.0, **arguments):
    z = tf.constant(z)
    with tf.GradientTape() as tape:
        tape.watch(z)
        nothing = tf.reduce_sum(0 * clamp(z, ACTIVE, strength, invariance="relative", **arguments))
    return tape.gradient(nothing, z).numpy()


def test_the_relative_signal_is_the_gradient_of_its_penalty():
    signal = relative_signal(Z, 0.7)
    for index in np.ndindex(Z.shape):
        nudge = np.zeros_like(Z)
        nudge[index] = 1e-6
        slope = (penalty(Z + nudge) - penalty(Z - nudge)) / 2e-6
        assert signal[index] == pytest.approx(0.7 * slope, rel=1e-6, abs=1e-8)
    assert (np.abs(signal[0, :, 0]) > 0).any(), (
        "an active latent of one group is held apart from the other"
    )


def test_the_relative_signal_does_not_shrink():
    large = 10 * Z  # So that what is added to the variance is little.
    signal = relative_signal(large)
    assert (np.abs(signal).max(axis=(0, 1)) > 0.01).all()
    along = (signal * large).sum(axis=(0, 1))
    np.testing.assert_allclose(along, 0, atol=1e-3 * np.abs(signal * large).sum(axis=(0, 1)).max())
    # Latents of another size are moved by as large a share of it.
    np.testing.assert_allclose(relative_signal(10 * large) * 10, signal, rtol=1e-2, atol=1e-3)
    # Those that tell nothing stay.
    assert np.abs(relative_signal(1e-9 * Z)).max() < 1e-4


def test_options_combine():
    z = tf.constant(Z)
    with tf.GradientTape() as tape:
        tape.watch(z)
        out = tf.reduce_sum(clamp(z, ACTIVE, 0.3, "mean", "add", "relative") * WEIGHTS)
    mean = np.broadcast_to(WEIGHTS.mean(axis=1, keepdims=True), Z.shape)
    expected = np.where(ACTIVE[:, np.newaxis], WEIGHTS, mean) + relative_signal(Z, 0.3)
    np.testing.assert_allclose(tape.gradient(out, z), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gradient": "none"}, "gradient: got 'none', must be one of replace, add"),
        ({"invariance": "none"}, "invariance: got 'none', must be one of absolute, relative"),
    ],
)
def test_unknown_options_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        clamp(tf.constant(Z), ACTIVE, 0.01, **arguments)
