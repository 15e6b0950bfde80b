"""The quick forms against plain layers, forward and backward; sizes that are no multiple of anything included."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dcign_tf import cpu_convolutions
from dcign_tf.layers import ConvPool2D, UnpoolConv2D


@pytest.fixture(autouse=True)
def small_counts(monkeypatch):
    """Uses the quick forms however little there is to do, a few images at a time."""
    monkeypatch.setattr(cpu_convolutions, "_LEAST", 0)
    monkeypatch.setattr(cpu_convolutions, "_FEW", 5)
    monkeypatch.setattr(cpu_convolutions, "_IN_CACHE", 60_000)


def plain_conv_pool(filters, size, dtype):
    return keras.Sequential(
        [
            keras.layers.Conv2D(filters, size, activation="relu", dtype=dtype),
            keras.layers.MaxPooling2D(2, dtype=dtype),
        ]
    )


def plain_unpool_conv(filters, size, dtype, activation):
    return keras.Sequential(
        [
            keras.layers.UpSampling2D(2, dtype=dtype),
            keras.layers.Conv2D(filters, size, activation=activation, dtype=dtype),
        ]
    )


def values_and_gradients(layer, x, **arguments):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, **arguments)
        weights = np.random.default_rng(3).uniform(0.5, 1, size=y.shape)
        loss = tf.reduce_sum(y * tf.constant(weights, y.dtype))
    return [y, *tape.gradient(loss, [x, *layer.trainable_variables])]


def assert_twins(ours, plain, shape, dtype, tolerance):
    ours.build(shape)
    plain.build(shape)
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=w.shape) for w in plain.get_weights()]
    plain.set_weights(weights)
    ours.set_weights(weights)  # Same shapes in the same order: weights are interchangeable.
    x = rng.normal(size=shape).astype(dtype)
    expected = values_and_gradients(plain, x)
    found = values_and_gradients(ours, x, training=True)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max(), rtol=0)


# Compiling takes seconds, so that each line shows several things.
@pytest.mark.parametrize(
    ("size", "shape", "filters", "dtype", "tolerance"),
    [
        (5, (6, 17, 22, 6), 8, "float64", 1e-10),
        (5, (6, 17, 22, 6), 8, "float32", 2e-5),
        (3, (5, 11, 12, 5), 6, "float64", 1e-10),
        (5, (4, 18, 19, 1), 7, "float64", 1e-10),  # few channels
        (5, (4, 18, 19, 1), 7, "float32", 2e-5),
    ],
)
def test_conv_pool(size, shape, filters, dtype, tolerance):
    layer = ConvPool2D(filters, size, dtype=dtype)
    assert_twins(layer, plain_conv_pool(filters, size, dtype), shape, dtype, tolerance)


@pytest.mark.parametrize(
    ("size", "shape", "filters", "activation", "dtype", "tolerance"),
    [
        (7, (6, 9, 12, 6), 5, "relu", "float64", 1e-10),
        (7, (6, 9, 12, 6), 5, "relu", "float32", 2e-5),
        (5, (3, 6, 7, 2), 3, "tanh", "float64", 1e-10),
        (3, (2, 7, 5, 5), 2, None, "float64", 1e-10),
        (7, (4, 9, 10, 8), 1, None, "float64", 1e-10),  # few filters
        (9, (2, 9, 9, 3), 1, "relu", "float32", 2e-5),  # few filters
    ],
)
def test_unpool_conv(size, shape, filters, activation, dtype, tolerance):
    layer = UnpoolConv2D(filters, size, activation=activation, dtype=dtype)
    plain = plain_unpool_conv(filters, size, dtype, activation)
    assert_twins(layer, plain, shape, dtype, tolerance)


def test_training_takes_the_quick_form_and_inference_does_not(monkeypatch):
    used = []

    def watched(name):
        original = getattr(cpu_convolutions, name)

        def call(*arguments):
            used.append(name)
            return original(*arguments)

        return call

    for name in ("conv_pool", "unpool_conv"):
        monkeypatch.setattr(cpu_convolutions, name, watched(name))
    x = np.zeros((2, 12, 12, 6), np.float32)
    for layer in (ConvPool2D(6, 5), UnpoolConv2D(6, 7)):
        layer(x)
        assert used == []
        layer(x, training=True)
        assert len(used) == 1
        used.clear()


def test_the_same_bits_every_time():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 17, 22, 6)).astype(np.float32)
    layer = ConvPool2D(8, 5)
    layer.build(x.shape)
    first = values_and_gradients(layer, x, training=True)
    for _ in range(3):
        again = values_and_gradients(layer, x, training=True)
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_nan_is_not_lost_in_pooling():
    x = np.zeros((2, 12, 12, 6), np.float32)
    x[0, 3, 3, 2] = np.nan
    layer = ConvPool2D(6, 5)
    assert np.isnan(layer(x, training=True)).any()


@pytest.mark.parametrize(
    ("shape", "dtype", "kernel"),
    [
        ((None, 20, 20, 8), "float32", (5, 5, 8, 8)),  # how many images is not known
        ((2, 20, 20, 8), "float16", (5, 5, 8, 8)),  # rounding would be too much
        ((2, 20, 20, 8), "float32", (7, 7, 8, 8)),  # more taps than the points allow for
    ],
)
def test_what_the_quick_form_is_not_made_for(shape, dtype, kernel):
    images = tf.TensorSpec(shape, dtype)
    assert not cpu_convolutions.conv_pool_pays(images, tf.TensorSpec(kernel, dtype))


def test_little_work_is_not_worth_compiling(monkeypatch):
    monkeypatch.setattr(cpu_convolutions, "_LEAST", 1e6)
    images, kernel = tf.zeros([1, 12, 12, 8]), tf.zeros([5, 5, 8, 8])
    assert 8 * 8 * 25 * 8 * 8 < 1e6  # multiplications of one image
    assert not cpu_convolutions.conv_pool_pays(images, kernel)
    assert cpu_convolutions.conv_pool_pays(tf.zeros([10, 12, 12, 8]), kernel)


@pytest.mark.parametrize("taps", [3, 5, 7])
def test_phase_kernels_tell_the_kernel(taps):
    kernel = np.random.default_rng(taps).normal(size=[taps, taps, 2, 3])
    phases = cpu_convolutions.phase_kernels(tf.constant(kernel)).numpy()
    np.testing.assert_allclose(cpu_convolutions.unmerged_kernel(phases), kernel, atol=1e-12)


def test_phase_kernels_add_taps_that_fall_on_one_pixel():
    kernel = np.arange(1.0, 10).reshape(3, 3, 1, 1)
    phases = cpu_convolutions.phase_kernels(tf.constant(kernel)).numpy()
    assert phases.shape == (2, 2, 1, 4)
    # At an output of even row and column the unpooled pixels are a a b over a a b over c c d.
    assert phases[:, :, 0, 0].tolist() == [[1 + 2 + 4 + 5, 3 + 6], [7 + 8, 9]]
