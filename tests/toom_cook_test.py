import numpy as np
import pytest
import tensorflow as tf

from dcign_tf import toom_cook

SHAPE, FILTERS = (2, 13, 10, 3), 4


def evaluated(kernel):
    """A kernel [r, r, C, K] at the points, [64, C, K], in plain NumPy."""
    matrix = toom_cook.transforms(kernel.shape[0])[1]
    values = np.einsum("ai,bj,ijck->abck", matrix, matrix, kernel)
    return values.reshape(-1, *kernel.shape[2:])


def convolved(images, kernel):
    """A "valid" convolution by way of the points."""
    taps = kernel.shape[0]
    rows, columns = (side - taps + 1 for side in images.shape[1:3])
    step = toom_cook.outputs_of(taps)
    tiles = (-(-rows // step), -(-columns // step))
    values = toom_cook.evaluate(tf.constant(images), tiles, taps)
    values = tf.matmul(values, tf.constant(evaluated(kernel), values.dtype))
    return toom_cook.outputs(values, len(images), tiles, taps)[:, :rows, :columns].numpy()


@pytest.mark.parametrize("taps", [2, 3, 4, 5])
def test_transforms_correlate(taps):
    inputs, kernels, outputs = toom_cook.transforms(taps)
    assert (inputs.shape, kernels.shape, outputs.shape) == ((8, 8), (8, taps), (9 - taps, 8))
    rng = np.random.default_rng(0)
    window, kernel = rng.normal(size=8), rng.normal(size=taps)
    by_hand = [sum(kernel[k] * window[i + k] for k in range(taps)) for i in range(9 - taps)]
    np.testing.assert_allclose(outputs @ ((kernels @ kernel) * (inputs @ window)), by_hand)


@pytest.mark.parametrize("taps", [2, 3, 4, 5])
def test_convolves_images_exactly(taps):
    rng = np.random.default_rng(taps)
    images, kernel = rng.normal(size=SHAPE), rng.normal(size=(taps, taps, SHAPE[-1], FILTERS))
    direct = tf.nn.conv2d(images, kernel, 1, "VALID").numpy()
    np.testing.assert_allclose(convolved(images, kernel), direct, atol=1e-12 * np.abs(direct).max())


@pytest.mark.parametrize("taps", [2, 3, 4, 5, 7])
def test_row_transforms_correlate_columns_of_any_height(taps):
    rng = np.random.default_rng(taps)
    kernel = rng.normal(size=taps)
    of_kernel = toom_cook.transforms(taps)[1] @ kernel
    for rows in range(taps, taps + 12):
        column = rng.normal(size=rows)
        inputs, outputs = toom_cook.row_transforms(taps, rows)
        products = (inputs @ column).reshape(8, -1) * of_kernel[:, np.newaxis]
        np.testing.assert_allclose(
            outputs @ products.ravel(), np.correlate(column, kernel), atol=1e-12
        )


def test_rounding_is_a_few_times_that_of_the_direct_sum():
    # What the module's docstring states, for the network's largest sum.
    rng = np.random.default_rng(0)
    images = rng.normal(size=(1, 37, 37, 96))
    kernel = rng.normal(size=(5, 5, 96, 16)) / np.sqrt(25 * 96)
    exact = tf.nn.conv2d(images, kernel, 1, "VALID").numpy()
    narrow = images.astype(np.float32), kernel.astype(np.float32)
    direct = tf.nn.conv2d(*narrow, 1, "VALID").numpy()
    ours, theirs = (np.sqrt(np.mean(np.square(y - exact))) for y in (convolved(*narrow), direct))
    assert ours < 1e-5 * exact.std()
    assert ours < 12 * theirs


@pytest.mark.parametrize("taps", [2, 4, 5])
def test_gradients_are_adjoint(taps):
    # <f(x), y> = <x, f*(y)> for all x and y.
    rng = np.random.default_rng(1)
    tiles = (3, 2)
    x = rng.normal(size=SHAPE)
    values = toom_cook.evaluate(tf.constant(x), tiles, taps)
    y = rng.normal(size=values.shape)
    back = toom_cook.evaluate_back(tf.constant(y), SHAPE, tiles, taps)
    assert back.shape == SHAPE
    np.testing.assert_allclose(np.vdot(values, y), np.vdot(x, back))

    outputs = toom_cook.outputs(tf.constant(y), SHAPE[0], tiles, taps)
    of_outputs = rng.normal(size=outputs.shape)
    back = toom_cook.outputs_back(tf.constant(of_outputs), tiles, taps)
    np.testing.assert_allclose(np.vdot(outputs, of_outputs), np.vdot(y, back))


def test_fit_pads_and_cuts():
    x = tf.ones([1, 2, 3, 1])
    assert toom_cook.fit(x, (3, 2)).numpy()[0, :, :, 0].tolist() == [[1, 1], [1, 1], [0, 0]]
