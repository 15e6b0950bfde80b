import keras
import numpy as np
import pytest
import tensorflow as tf

from dcign_tf.layers import ConvPool2D, OnCircles, RowwiseConv2D, UnpoolConv2D


def fused_and_plain(kernel_size, filters, channels, dtype, activation="relu"):
    """The layer and its twin with the same weights, built."""
    fused = UnpoolConv2D(filters, kernel_size, activation=activation, dtype=dtype)
    plain = keras.Sequential(
        [
            keras.layers.UpSampling2D(2, dtype=dtype),
            keras.layers.Conv2D(filters, kernel_size, activation=activation, dtype=dtype),
        ]
    )
    shape = (None, 9, 11, channels)
    fused.build(shape)
    plain.build(shape)
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=w.shape) for w in plain.get_weights()]
    plain.set_weights(weights)
    fused.set_weights(weights)  # Same shapes in the same order: weights are interchangeable.
    return fused, plain


def values_and_gradients(layer, x):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        # Weights of one sign: sums that cancel would show rounding, not mistakes.
        weights = np.random.default_rng(3).uniform(size=y.shape)
        loss = tf.reduce_sum(y * tf.constant(weights, y.dtype))
    return [y, *tape.gradient(loss, [x, *layer.trainable_variables])]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize(
    ("kernel_size", "filters", "channels"), [(7, 5, 3), (7, 1, 4), (5, 2, 3), (3, 3, 1), (1, 2, 2)]
)
def test_equals_unpooling_then_convolving(kernel_size, filters, channels, dtype, tolerance):
    fused, plain = fused_and_plain(kernel_size, filters, channels, dtype)
    x = np.random.default_rng(2).normal(size=(2, 9, 11, channels)).astype(dtype)
    for ours, theirs in zip(
        values_and_gradients(fused, x), values_and_gradients(plain, x), strict=True
    ):
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, atol=tolerance * scale, rtol=0)


def test_shapes_are_those_it_says():
    layer = UnpoolConv2D(4, 7)
    assert layer.compute_output_shape((None, 15, None, 3)) == (None, 24, None, 4)
    assert layer(np.zeros((2, 15, 10, 3), np.float32)).shape == (2, 24, 14, 4)


def test_config_round_trip():
    layer = UnpoolConv2D(4, 7, activation="relu", kernel_initializer="he_normal", name="up")
    again = UnpoolConv2D.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 7), "filters: got 0"), ((3, 4), "kernel_size: got 4"), ((3, -1), "kernel_size: got -1")],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        UnpoolConv2D(*arguments)


def test_conv_pool_equals_three_layers():
    fused = ConvPool2D(5, 5)
    plain = keras.Sequential(
        [keras.layers.Conv2D(5, 5), keras.layers.MaxPooling2D(2), keras.layers.ReLU()]
    )
    shape = (2, 17, 20, 3)
    fused.build(shape)
    plain.build(shape)
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=w.shape) for w in plain.get_weights()]
    plain.set_weights(weights)
    fused.set_weights(weights)
    x = rng.normal(size=shape).astype(np.float32)
    assert fused(x).shape == fused.compute_output_shape(shape) == (2, 6, 8, 5)
    for ours, theirs in zip(
        values_and_gradients(fused, x), values_and_gradients(plain, x), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max(), rtol=0)


def test_conv_pool_config_round_trip():
    layer = ConvPool2D(4, 5, kernel_initializer="he_normal", name="down")
    assert ConvPool2D.from_config(layer.get_config()).get_config() == layer.get_config()


def test_pairs_are_divided_by_their_length_and_their_gradient_is_along_the_circle():
    layer = OnCircles([3, 0], dtype="float64")
    x = tf.constant([[3.0, -4.0, 7.0, 0.0, 2.0], [0.0, 0.0, 1.0, -5.0, 12.0]], "float64")
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    np.testing.assert_allclose(y[0], [0.6, -0.8, 7, 0, 1], atol=1e-4)
    np.testing.assert_allclose(y[1], [0, 0, 1, -5 / 13, 12 / 13], atol=1e-4)
    jacobian = tape.jacobian(y, x)[0, :, 0].numpy()
    # Of x / sqrt(x x + e): (1 - y y) / sqrt(x x + e), next to nothing along the pair itself.
    length = np.sqrt(25 + OnCircles.EPSILON)
    by_hand = np.zeros([5, 5])
    by_hand[:2, :2] = (np.eye(2) - np.outer(y[0, :2], y[0, :2])) / length
    length = np.sqrt(4 + OnCircles.EPSILON)
    by_hand[3:, 3:] = (np.eye(2) - np.outer(y[0, 3:], y[0, 3:])) / length
    by_hand[2, 2] = 1
    np.testing.assert_allclose(jacobian, by_hand, atol=1e-12)
    assert OnCircles.from_config(layer.get_config()).first == (0, 3)
    assert layer.compute_output_shape((None, 5)) == (None, 5)


def test_pairs_that_overlap_are_refused():
    for first in ([0, 1], [-1], [2, 2]):
        with pytest.raises(ValueError, match="first: got"):
            OnCircles(first)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("taps", "height", "pool"),
    [
        *(
            (*sizes, pool)
            for sizes in [(2, 5), (4, 14), (5, 19), (7, 11)]
            for pool in (False, True)
        ),
        (4, 4, False),
    ],
)
def test_rowwise_equals_a_direct_convolution(taps, height, pool, dtype):
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(taps, taps, 3, 5)), rng.normal(size=5)
    layer = RowwiseConv2D(5, taps, pool=pool, activation="relu", dtype=dtype)
    direct = [keras.layers.Conv2D(5, taps, dtype=dtype)]
    direct += [keras.layers.MaxPooling2D(2, dtype=dtype)] if pool else []
    plain = keras.Sequential([*direct, keras.layers.ReLU(dtype=dtype)])
    shape = (None, height, 12, 3)
    layer.build(shape)
    plain.build(shape)
    layer.set_direct_weights(kernel, bias)
    plain.set_weights([kernel, bias])
    for count in (1, 3, 4, 7):  # Few at once, many one by one.
        x = rng.normal(size=(count, *shape[1:])).astype(dtype)
        expected = plain(x).numpy()
        assert layer(x).shape == layer.compute_output_shape(x.shape) == expected.shape
        tolerance = 2e-5 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(
            layer(x), expected, rtol=0, atol=tolerance * np.abs(expected).max()
        )


@pytest.mark.parametrize("taps", [3, 4, 5])
def test_rowwise_kernels_tell_the_direct_ones(taps):
    layer = RowwiseConv2D(5, taps)
    layer.build((None, 9, 12, 3))
    kernel = np.random.default_rng(taps).normal(size=[taps, taps, 3, 5])
    layer.set_direct_weights(kernel, np.zeros(5))
    found = RowwiseConv2D.direct_kernel(layer.get_weights()[0])
    np.testing.assert_allclose(found, kernel, rtol=0, atol=1e-6)


def test_rowwise_config_round_trip():
    layer = RowwiseConv2D(4, 5, pool=True, activation="relu", name="quick")
    assert RowwiseConv2D.from_config(layer.get_config()).get_config() == layer.get_config()
