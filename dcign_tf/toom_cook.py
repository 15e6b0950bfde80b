"""Toom's and Cook's method: convolutions of images with a fraction of the multiplications.

A convolution with an r x r kernel computes neighboring outputs from overlapping windows, and a direct one multiplies
each input with each tap anew. But a window of eight inputs and a kernel can be taken for polynomials: evaluated at
eight points and multiplied point by point they give the values of a third one, from which m = 9 - r outputs can be
read off: 8 multiplications instead of m r, and in two dimensions 64 instead of m^2 r^2 (there it is Winograd's method:
Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016). For 5 x 5 kernels that is 64 for 16 outputs
instead of 400, for 4 x 4 ones 64 for 25 outputs instead of 400. Evaluating takes sums with constant weights only, of
each input and output once, whereas the products, one for each pair of channels, are plain matrix products.

It is the same sum in another order, exact but for rounding, of which there is some four times as much as in the direct
sum (root mean square, 5 x 5 x 96 taps).

Functions of images take static shapes [S, H, W, C] and are made for XLA, which turns each into a pass or two over
memory; as plain TensorFlow operations they would be slow. What begins with `of_` is a gradient: functions that end in
`_back` are the adjoints of those that are named before. Where there is no XLA, `row_transforms` is for one dimension.
"""

import functools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import tensorflow as tf

# The points, besides infinity: small numbers whose powers stay near 1, which keeps rounding small.
_FINITE = tuple(Fraction(point) for point in ("0", "1", "-1", "2", "-2", "1/2", "-1/2"))
POINTS = len(_FINITE) + 1


def outputs_of(taps: int) -> int:
    """How many outputs a window of eight inputs has, with a kernel of so many taps; also the way to the next one."""
    return POINTS + 1 - taps


@functools.cache
def transforms(taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The matrices of the method for kernels of `taps` taps, in one dimension.

    Of a window x [8] and a kernel w [taps], outputs @ ((kernels @ w) * (inputs @ x)) is the list of the 9 - taps
    values sum_k w[k] x[i + k].

    Returns:
        inputs [8, 8], kernels [8, taps], outputs [9 - taps, 8]; float64.
    """
    # A matrix that multiplies polynomials by their values is, transposed, one that correlates.
    inputs = np.array(_inverse(_evaluation(POINTS)), np.float64).T
    kernels = np.array(_evaluation(taps), np.float64)
    outputs = np.array(_evaluation(outputs_of(taps)), np.float64).T
    return inputs, kernels, outputs


def row_transforms(taps: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The method along the rows of an image, all windows at once, as two matrices.

    A convolution is then outputs @ products; the products at each point are those of inputs @ image, convolved along
    the columns with the kernel's values at that point.

    Args:
        taps: of the kernel.
        rows: of the image.

    Returns:
        inputs [8 * windows, rows] and outputs [rows - taps + 1, 8 * windows]; all windows' values at one point come
        before those at the next one. float64.
    """
    of_window, _, read_off = transforms(taps)
    made, step = rows - taps + 1, outputs_of(taps)
    windows = -(-made // step)
    inputs = np.zeros((POINTS, windows, step * windows + taps - 1))
    outputs = np.zeros((step * windows, POINTS, windows))
    for window in range(windows):
        first = step * window
        inputs[:, window, first : first + POINTS] = of_window
        outputs[first : first + step, :, window] = read_off
    # Rows beyond the image are zero, outputs beyond it are not wanted.
    return inputs.reshape(-1, inputs.shape[-1])[:, :rows], outputs[:made].reshape(made, -1)


def _evaluation(coefficients: int) -> list[list[Fraction]]:
    """The matrix that evaluates a polynomial at all points; its value at infinity is its leading coefficient."""
    finite = [[point**k for k in range(coefficients)] for point in _FINITE]
    return [*finite, [Fraction(0)] * (coefficients - 1) + [Fraction(1)]]


def _inverse(matrix: list[list[Fraction]]) -> list[list[Fraction]]:
    """The inverse of a matrix, exactly (Gauss and Jordan)."""
    n = len(matrix)
    rows = [[*row, *(Fraction(i == j) for j in range(n))] for i, row in enumerate(matrix)]
    for i in range(n):
        pivot = next(k for k in range(i, n) if rows[k][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for k in range(n):
            if k != i:
                factor = rows[k][i]
                rows[k] = [a - factor * b for a, b in zip(rows[k], rows[i], strict=True)]
    return [row[n:] for row in rows]


# --- Images -----------------------------------------------------------------------------------------------


def evaluate(images: tf.Tensor, tiles: Sequence[int], taps: int) -> tf.Tensor:
    """Evaluates the windows of images at the points.

    Args:
        images: [S, H, W, C].
        tiles: how many windows there are along H and along W; what lies beyond the image is zero.
        taps: of the kernel.

    Returns:
        [64, S * windows, C].
    """
    step = outputs_of(taps)
    # Padded or cut once: what follows sees whole tiles only, whose axes can be split without copying.
    x = fit(images, (step * (tiles[0] + 1), step * (tiles[1] + 1)))
    values = _evaluate(_evaluate(x, 2, taps), 2, taps)
    return tf.reshape(values, [POINTS**2, -1, images.shape[-1]])


def evaluate_back(
    values: tf.Tensor, shape: Sequence[int], tiles: Sequence[int], taps: int
) -> tf.Tensor:
    """The adjoint of `evaluate`; `shape` is the images'."""
    x = tf.reshape(values, [POINTS, POINTS, shape[0], *tiles, shape[-1]])
    x = _evaluate_back(_evaluate_back(x, 2, taps), 2, taps)
    return fit(x, shape[1:3])


def outputs(values: tf.Tensor, count: int, tiles: Sequence[int], taps: int) -> tf.Tensor:
    """The outputs whose values at the points are given.

    Args:
        values: [64, S * windows, K].
        count: S.
        tiles: windows along H and along W.
        taps: of the kernel.

    Returns:
        [S, H, W, K], 9 - taps outputs along each side of each window.
    """
    y = tf.reshape(values, [POINTS, POINTS, count, *tiles, values.shape[-1]])
    y = _outputs(_outputs(y, 2, taps), 3, taps)
    step = outputs_of(taps)
    return tf.reshape(y, [count, tiles[0] * step, tiles[1] * step, values.shape[-1]])


def outputs_back(of_outputs: tf.Tensor, tiles: Sequence[int], taps: int) -> tf.Tensor:
    """The adjoint of `outputs`, also for fewer outputs than all windows have."""
    step = outputs_of(taps)
    y = fit(of_outputs, (tiles[0] * step, tiles[1] * step))
    y = tf.reshape(y, [y.shape[0], tiles[0], step, tiles[1], step, y.shape[-1]])
    matrix = transforms(taps)[2].T
    values = tf.stack(_apply(matrix, [y[:, :, :, :, i] for i in range(step)]))
    values = tf.stack(_apply(matrix, [values[:, :, :, i] for i in range(step)]))
    return tf.reshape(values, [POINTS**2, -1, of_outputs.shape[-1]])


def fit(x: tf.Tensor, size: Sequence[int]) -> tf.Tensor:
    """Images [S, H, W, C] of another height and width: zeros join, or pixels go, below and at the right."""
    x = x[:, : size[0], : size[1]]
    missing = [wanted - there for wanted, there in zip(size, x.shape[1:3], strict=True)]
    return tf.pad(x, [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]]) if any(missing) else x


# --- One dimension ------------------------------------------------------------------------------------------


def _evaluate(x: tf.Tensor, axis: int, taps: int) -> tf.Tensor:
    """Evaluates the windows along an axis; the points become a new first axis.

    The axis is a whole number of steps long, one more than there are windows.
    """
    step, shape = outputs_of(taps), x.shape
    tiles = shape[axis] // step - 1
    x = tf.reshape(x, [*shape[:axis], tiles + 1, step, *shape[axis + 1 :]])
    entries = []
    for entry in range(POINTS):
        tile, inside = divmod(entry, step)
        part = _cut(x, axis, tile, tile + tiles)
        entries.append(part[(*[slice(None)] * (axis + 1), inside)])
    return tf.stack(_apply(transforms(taps)[0], entries))


def _evaluate_back(values: tf.Tensor, axis: int, taps: int) -> tf.Tensor:
    """The adjoint of `_evaluate`: puts values back to where they came from and adds up what overlaps."""
    step, matrix = outputs_of(taps), transforms(taps)[0]
    margins = [[int(a == axis + 1)] * 2 for a in range(len(values.shape))]
    values = tf.pad(values, margins)
    tiles = values.shape[axis + 1] - 1
    # Place i of a tile is place i of the window that begins there, and place step + i of the window before.
    points = [_cut(values[j], axis, 1, tiles + 1) for j in range(POINTS)]
    points += [_cut(values[j], axis, 0, tiles) for j in range(POINTS)]
    before = np.vstack([matrix.T, np.zeros((step, POINTS))])[step : 2 * step]
    weights = np.hstack([matrix.T[:step], before])
    x = tf.stack(_apply(weights, points), axis=axis + 1)
    return tf.reshape(x, [*x.shape[:axis], tiles * step, *x.shape[axis + 2 :]])


def _outputs(values: tf.Tensor, axis: int, taps: int) -> tf.Tensor:
    """Reads outputs off values at the points (the first axis); they become a new axis after `axis` of the others."""
    points = [values[j] for j in range(POINTS)]
    return tf.stack(_apply(transforms(taps)[2], points), axis=axis + 1)


def _cut(x: tf.Tensor, axis: int, start: int, stop: int) -> tf.Tensor:
    return x[(*[slice(None)] * axis, slice(start, stop))]


def _apply(matrix: np.ndarray, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The product of one of the matrices with a list of tensors.

    Opposite points share half of the work: at one of them a polynomial is the sum of its even and its odd powers, at
    the other their difference.
    """
    pairs = [(j, j + 1) for j in range(1, POINTS - 1, 2)]
    if len(matrix) == POINTS:  # The points are rows.
        rows = [_combine(matrix[0], values)]
        for one, other in pairs:
            even = _combine((matrix[one] + matrix[other]) / 2, values)
            odd = _combine((matrix[one] - matrix[other]) / 2, values)
            rows += [even + odd, even - odd]
        return [*rows, _combine(matrix[-1], values)]
    # They are columns, possibly more than once.
    values, matrix = list(values), matrix.copy()
    for first in range(0, len(values), POINTS):
        for one, other in ((first + j, first + k) for j, k in pairs):
            values[one], values[other] = (
                values[one] + values[other],
                values[one] - values[other],
            )
            half = matrix[:, [one, other]] / 2
            matrix[:, one], matrix[:, other] = half[:, 0] + half[:, 1], half[:, 0] - half[:, 1]
    return [_combine(row, values) for row in matrix]


def _combine(weights: Sequence[float], values: Sequence[tf.Tensor]) -> tf.Tensor:
    """The sum of some tensors with constant weights, without those whose weight is zero."""
    terms = [
        value if weight == 1 else value * tf.constant(weight, value.dtype)
        for weight, value in zip(weights, values, strict=True)
        if weight != 0
    ]
    return functools.reduce(tf.add, terms)
