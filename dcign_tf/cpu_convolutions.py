"""The convolutions of Fig. 1 for training on a processor (CPU): with their neighbors in the network, and quick.

Two blocks make up nearly all of the network, convolution with max-pooling and unpooling with convolution, each with
bias and ReLU. Three things make them quick, and sparing with memory:

*   Toom's and Cook's method (`toom_cook`) needs a sixth of a direct 5 x 5 convolution's multiplications, and a
    nineteenth of those of unpooling and 7 x 7 convolution as they are usually written.
*   Images are handled a few at a time, so that what lies between the input and the output of a block, many times as
    large as both, stays in the processor's cache and never reaches memory. Max-pooling leaves behind no more than a
    byte for each output, which says where it came from.
*   XLA compiles evaluation, pooling, bias, activation and their gradients into few passes.

Both functions are exact but for rounding, have gradients of their own, and need static shapes; layers call them in
training where `conv_pool_pays` or `unpool_conv_pays`, and are plain TensorFlow elsewhere.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dcign_tf import toom_cook

# What lies between the input and the output of the images handled at a time, at most, in bytes.
_IN_CACHE = 12 << 20
# Fewer channels than these are not worth evaluating at points, for the sake of matrix products of so few columns.
_FEW = 16
# Multiplications of a direct convolution of all images from which on compiling (a second, some megabytes) pays.
_LEAST = 3e8

_compiled = functools.partial(tf.function, jit_compile=True, autograph=False)
# Outside of a graph a gradient tape would try to look into what is compiled, and find loops it cannot follow.
_in_graph = functools.partial(tf.function, autograph=False)


# --- Convolution and max-pooling ------------------------------------------------------------------------------


def conv_pool_pays(images: tf.Tensor, kernel: tf.Tensor) -> bool:
    """Whether `conv_pool` can and should be used: static shapes, a processor, and enough to do."""
    return _pays(images, kernel.shape[0], kernel.shape[-1])


@_in_graph
def conv_pool(images: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """relu(max_pool2x2(convolution(images, kernel)) + bias).

    Args:
        images: float32 or float64 [N, H, W, C], static.
        kernel: [r, r, C, K], 2 <= r <= 5.
        bias: [K].

    Returns:
        [N, (H - r + 1) // 2, (W - r + 1) // 2, K].
    """
    few = images.shape[-1] < _FEW
    forward = _few_channels_forward if few else _conv_pool_forward
    backward = _few_channels_backward if few else _conv_pool_backward

    @tf.custom_gradient
    def apply(images: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Any]:
        y, switches = forward(images, kernel, bias)
        return y, lambda of_y: backward(images, kernel, switches, of_y)

    return apply(images, kernel, bias)


@_compiled
def _conv_pool_forward(images: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> list[tf.Tensor]:
    taps, tiles, pooled = _conv_pool_sizes(images, kernel)
    weights = _evaluate_kernels(_points(taps, images.dtype), kernel)

    def body(x: tf.Tensor) -> Any:
        values = tf.matmul(toom_cook.evaluate(x, tiles, taps), weights)
        y = toom_cook.outputs(values, x.shape[0], tiles, taps)
        return _pool(y[:, : 2 * pooled[0], : 2 * pooled[1]], bias), ()

    shape = [*pooled, kernel.shape[-1]]
    outputs = [(shape, images.dtype), (shape, tf.uint8)]
    return _over_images(body, [images], _at_a_time(images, tiles, weights), outputs)[0]


@_compiled
def _conv_pool_backward(
    images: tf.Tensor, kernel: tf.Tensor, switches: tf.Tensor, of_y: tf.Tensor
) -> list[tf.Tensor]:
    taps, tiles, _ = _conv_pool_sizes(images, kernel)
    points = _points(taps, images.dtype)
    weights = _evaluate_kernels(points, kernel)

    def body(x: tf.Tensor, switches: tf.Tensor, of_y: tf.Tensor) -> Any:
        of_values = toom_cook.outputs_back(_unpool(of_y, switches), tiles, taps)
        of_points = tf.matmul(of_values, weights, transpose_b=True)
        of_images = toom_cook.evaluate_back(of_points, x.shape, tiles, taps)
        evaluated = toom_cook.evaluate(x, tiles, taps)
        return [of_images], [tf.matmul(evaluated, of_values, transpose_a=True)]

    (of_images,), (of_weights,) = _over_images(
        body,
        [images, switches, of_y],
        _at_a_time(images, tiles, weights),
        [(images.shape[1:], images.dtype)],
        [(weights.shape, images.dtype)],
    )
    of_kernel = _evaluate_kernels_back(points, of_weights, kernel.shape)
    return [of_images, of_kernel, _of_bias(switches, of_y)]


def _conv_pool_sizes(
    images: tf.Tensor, kernel: tf.Tensor
) -> tuple[int, tuple[int, int], tuple[int, int]]:
    """The kernel's taps, how many windows there are along H and W, and the size of what is left after pooling."""
    taps = kernel.shape[0]
    rows, columns = ((side - taps + 1) // 2 for side in images.shape[1:3])
    return taps, _tiles((2 * rows, 2 * columns), taps), (rows, columns)


# Of few channels (the first layer has one) the convolution is TensorFlow's own. What it makes, four times as much as
# is left after pooling and by far the largest array of the network, stays in the cache all the same.


def _few_channels_forward(images: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> list[tf.Tensor]:
    made = _made(images, kernel)

    def body(x: tf.Tensor) -> Any:
        return _compiled(_pool)(tf.nn.conv2d(x, kernel, 1, "VALID"), bias), ()

    shape = [made[0] // 2, made[1] // 2, kernel.shape[-1]]
    outputs = [(shape, images.dtype), (shape, tf.uint8)]
    return _over_images(body, [images], _at_a_time(images, made, kernel), outputs)[0]


def _few_channels_backward(
    images: tf.Tensor, kernel: tf.Tensor, switches: tf.Tensor, of_y: tf.Tensor
) -> list[tf.Tensor]:
    made = _made(images, kernel)

    @_compiled
    def unpool(of_y: tf.Tensor, switches: tf.Tensor) -> tf.Tensor:
        return toom_cook.fit(_unpool(of_y, switches), made)

    def body(x: tf.Tensor, switches: tf.Tensor, of_y: tf.Tensor) -> Any:
        return [], [_of_kernel(x, kernel.shape, unpool(of_y, switches))]

    _, (of_kernel,) = _over_images(
        body,
        [images, switches, of_y],
        _at_a_time(images, made, kernel),
        sums=[(kernel.shape, images.dtype)],
    )
    # Training asks for no gradient of the images, and TensorFlow leaves out what nobody asks for.
    of_images = tf.nn.conv2d_transpose(unpool(of_y, switches), kernel, images.shape, 1, "VALID")
    return [of_images, of_kernel, _of_bias(switches, of_y)]


def _made(images: tf.Tensor, kernel: tf.Tensor) -> tuple[int, int]:
    rows, columns = (side - kernel.shape[0] + 1 for side in images.shape[1:3])
    return rows, columns


_OFF = 4  # as a switch: the ReLU let nothing through


def _pool(y: tf.Tensor, bias: tf.Tensor) -> list[tf.Tensor]:
    """The largest of every four of y [S, H, W, K] plus a bias, if positive; and which it was, or `_OFF` (uint8)."""
    rows, columns = y.shape[1] // 2, y.shape[2] // 2
    y = tf.reshape(y[:, : 2 * rows, : 2 * columns], [-1, rows, 2, columns, 2, y.shape[-1]])
    largest, switches = y[:, :, 0, :, 0], tf.constant(0, tf.uint8)
    for place in range(1, 4):
        other = y[:, :, place // 2, :, place % 2]
        # Of equals the first one counts, as in TensorFlow's own pooling.
        switches = tf.where(other > largest, tf.constant(place, tf.uint8), switches)
        largest = tf.maximum(largest, other)
    pooled = tf.nn.relu(largest + bias)
    return [pooled, tf.where(pooled > 0, switches, tf.constant(_OFF, tf.uint8))]


def _unpool(of_y: tf.Tensor, switches: tf.Tensor) -> tf.Tensor:
    """The gradient before pooling and ReLU; [S, 2 H, 2 W, K]."""
    zero = tf.zeros([], of_y.dtype)
    places = [tf.where(switches == place, of_y, zero) for place in range(4)]
    rows = [tf.stack(places[:2], axis=3), tf.stack(places[2:], axis=3)]
    height, width, channels = of_y.shape[1:]
    return tf.reshape(tf.stack(rows, axis=2), [-1, 2 * height, 2 * width, channels])


def _of_bias(switches: tf.Tensor, of_y: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.where(switches == _OFF, tf.zeros([], of_y.dtype), of_y), [0, 1, 2])


# --- Unpooling and convolution ----------------------------------------------------------------------------------


def unpool_conv_pays(images: tf.Tensor, kernel: tf.Tensor) -> bool:
    """Whether `unpool_conv` can and should be used: static shapes, a processor, and enough to do."""
    return _pays(images, kernel.shape[0] // 2 + 1, 4 * kernel.shape[-1])


@_in_graph
def unpool_conv(images: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, relu: bool) -> tf.Tensor:
    """convolution(unpool(images), kernel) + bias, and of it only what is positive with `relu`.

    Args:
        images: float32 or float64 [N, H, W, C], static.
        kernel: [k, k, C, F], k odd, 3 <= k <= 9.
        bias: [F].
        relu: whether to apply ReLU.

    Returns:
        [N, 2 H - k + 1, 2 W - k + 1, F].
    """
    few = 4 * kernel.shape[-1] < _FEW
    forward = _few_filters_forward if few else _unpool_conv_forward
    backward = _few_filters_backward if few else _unpool_conv_backward

    @tf.custom_gradient
    def apply(images: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Any]:
        y = forward(images, kernel, bias, relu)
        return y, lambda of_y: backward(images, kernel, y, of_y, relu)

    return apply(images, kernel, bias)


def phase_kernels(kernel: tf.Tensor) -> tf.Tensor:
    """Kernels [k, k, C, F] for unpooled images as kernels for the images themselves; see `layers.UnpoolConv2D`.

    Returns:
        [k // 2 + 1, k // 2 + 1, C, 4 F]; channel (2 p + q) F + f is filter f at outputs of row parity p and column
        parity q.
    """
    merge = tf.constant(_merging(kernel.shape[0]), kernel.dtype)
    merged = tf.einsum("pat,qbs,tsio->abipqo", merge, merge, kernel)
    return tf.reshape(merged, [*merged.shape[:3], 4 * kernel.shape[-1]])


def unmerged_kernel(merged: np.ndarray) -> np.ndarray:
    """The reverse of `phase_kernels`: [k // 2 + 1, k // 2 + 1, C, 4 F] to [k, k, C, F], in float64.

    What no kernels merge to is taken for the nearest that some do.
    """
    kernel_size = 2 * merged.shape[0] - 1
    merge = _merging(kernel_size)
    split = np.linalg.pinv(merge.reshape(-1, kernel_size)).reshape(kernel_size, *merge.shape[:2])
    phases = merged.astype(np.float64).reshape([*merged.shape[:3], 2, 2, merged.shape[-1] // 4])
    return np.einsum("tpa,sqb,abipqo->tsio", split, split, phases)


def _phase_kernels_back(of_merged: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """The adjoint of `phase_kernels`; `shape` is the kernels'."""
    merge = tf.constant(_merging(shape[0]), of_merged.dtype)
    of_merged = tf.reshape(of_merged, [*of_merged.shape[:3], 2, 2, shape[-1]])
    return tf.einsum("pat,qbs,abipqo->tsio", merge, merge, of_merged)


@functools.cache
def _merging(kernel_size: int) -> np.ndarray:
    """Entry [p, a, t] is 1 where, at outputs of parity p, tap t of the kernel falls on source pixel a."""
    merge = np.zeros((2, kernel_size // 2 + 1, kernel_size))
    for parity in range(2):
        for tap in range(kernel_size):
            merge[parity, (parity + tap) // 2, tap] = 1
    return merge


@_compiled
def _unpool_conv_forward(
    images: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, relu: bool
) -> tf.Tensor:
    merged = phase_kernels(kernel)
    taps, made = merged.shape[0], _made(images, merged)
    tiles = _tiles(made, taps)
    weights = _evaluate_kernels(_points(taps, images.dtype), merged)

    def body(x: tf.Tensor) -> Any:
        values = tf.matmul(toom_cook.evaluate(x, tiles, taps), weights)
        y = toom_cook.outputs(values, x.shape[0], tiles, taps)
        y = _interleave(y[:, : made[0], : made[1]]) + bias
        return [tf.nn.relu(y) if relu else y], ()

    outputs = [([2 * made[0], 2 * made[1], kernel.shape[-1]], images.dtype)]
    return _over_images(body, [images], _at_a_time(images, tiles, weights), outputs)[0][0]


@_compiled
def _unpool_conv_backward(
    images: tf.Tensor, kernel: tf.Tensor, y: tf.Tensor, of_y: tf.Tensor, relu: bool
) -> list[tf.Tensor]:
    merged = phase_kernels(kernel)
    taps, made = merged.shape[0], _made(images, merged)
    tiles = _tiles(made, taps)
    points = _points(taps, images.dtype)
    weights = _evaluate_kernels(points, merged)

    def body(x: tf.Tensor, y: tf.Tensor, of_y: tf.Tensor) -> Any:
        of_y = _before_relu(y, of_y, relu)
        of_values = toom_cook.outputs_back(_split(of_y), tiles, taps)
        of_points = tf.matmul(of_values, weights, transpose_b=True)
        of_images = toom_cook.evaluate_back(of_points, x.shape, tiles, taps)
        evaluated = toom_cook.evaluate(x, tiles, taps)
        of_weights = tf.matmul(evaluated, of_values, transpose_a=True)
        return [of_images], [of_weights, tf.reduce_sum(of_y, [0, 1, 2])]

    (of_images,), (of_weights, of_bias) = _over_images(
        body,
        [images, y, of_y],
        _at_a_time(images, tiles, weights),
        [(images.shape[1:], images.dtype)],
        [(weights.shape, images.dtype), (kernel.shape[-1:], images.dtype)],
    )
    of_merged = _evaluate_kernels_back(points, of_weights, merged.shape)
    return [of_images, _phase_kernels_back(of_merged, kernel.shape), of_bias]


# With few filters (the last layer has one) each pixel is multiplied with all taps at once, in one matrix product,
# and the products are shifted and added. Backward there are many channels again, and TensorFlow's own convolutions
# are as good as any.


@_compiled
def _few_filters_forward(
    images: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, relu: bool
) -> tf.Tensor:
    merged = phase_kernels(kernel)
    taps, made = merged.shape[0], _made(images, merged)
    weights = tf.reshape(tf.transpose(merged, [0, 1, 3, 2]), [-1, images.shape[-1]])

    def body(x: tf.Tensor) -> Any:
        # Channels first: then what is shifted and added are whole rows.
        products = tf.einsum("shwc,oc->sohw", x, weights)
        products = tf.reshape(products, [-1, taps, taps, merged.shape[-1], *x.shape[1:3]])
        shifted = [
            products[:, a, b, :, a : a + made[0], b : b + made[1]]
            for a in range(taps)
            for b in range(taps)
        ]
        y = tf.transpose(functools.reduce(tf.add, shifted), [0, 2, 3, 1])
        y = _interleave(y) + bias
        return [tf.nn.relu(y) if relu else y], ()

    outputs = [([2 * made[0], 2 * made[1], kernel.shape[-1]], images.dtype)]
    return _over_images(body, [images], _at_a_time(images, images.shape[1:3], weights), outputs)[0][
        0
    ]


def _few_filters_backward(
    images: tf.Tensor, kernel: tf.Tensor, y: tf.Tensor, of_y: tf.Tensor, relu: bool
) -> list[tf.Tensor]:
    of_y = _before_relu(y, of_y, relu)
    merged, of_phases = phase_kernels(kernel), tf.nn.space_to_depth(of_y, 2)
    of_images = tf.nn.conv2d_transpose(of_phases, merged, images.shape, 1, "VALID")
    of_merged = _of_kernel(images, merged.shape, of_phases)
    of_kernel = _phase_kernels_back(of_merged, kernel.shape)
    return [of_images, of_kernel, tf.reduce_sum(of_y, [0, 1, 2])]


def _before_relu(y: tf.Tensor, of_y: tf.Tensor, relu: bool) -> tf.Tensor:
    return tf.where(y > 0, of_y, tf.zeros([], of_y.dtype)) if relu else of_y


def _interleave(phases: tf.Tensor) -> tf.Tensor:
    """[S, H, W, 4 F], the four parities, to [S, 2 H, 2 W, F]; `tf.nn.depth_to_space` in operations that XLA fuses."""
    height, width, channels = phases.shape[1:]
    y = tf.reshape(phases, [-1, height, width, 2, 2, channels // 4])
    y = tf.transpose(y, [0, 1, 3, 2, 4, 5])
    return tf.reshape(y, [-1, 2 * height, 2 * width, channels // 4])


def _split(y: tf.Tensor) -> tf.Tensor:
    """The reverse of `_interleave`."""
    height, width, channels = y.shape[1] // 2, y.shape[2] // 2, y.shape[-1]
    y = tf.reshape(y, [-1, height, 2, width, 2, channels])
    y = tf.transpose(y, [0, 1, 3, 2, 4, 5])
    return tf.reshape(y, [-1, height, width, 4 * channels])


# --- What both share ----------------------------------------------------------------------------------------------


def _pays(images: tf.Tensor, taps: int, filters: int) -> bool:
    if None in images.shape or images.dtype not in (tf.float32, tf.float64) or not 2 <= taps <= 5:
        return False
    # GPUs and TPUs have convolutions of their own, which come with as many tricks.
    if any(device.device_type != "CPU" for device in tf.config.list_logical_devices()):
        return False
    count, height, width, channels = images.shape
    made = max(0, height - taps + 1) * max(0, width - taps + 1)
    return count * made * taps**2 * channels * filters >= _LEAST


def _tiles(made: Sequence[int], taps: int) -> tuple[int, int]:
    """How many windows it takes along H and W."""
    rows, columns = (math.ceil(side / toom_cook.outputs_of(taps)) for side in made)
    return rows, columns


def _points(taps: int, dtype: tf.DType) -> tf.Tensor:
    return tf.constant(toom_cook.transforms(taps)[1], dtype)


def _evaluate_kernels(points: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Evaluates kernels [r, r, C, K] at the points: [64, C, K]."""
    values = tf.einsum("ai,bj,ijck->abck", points, points, kernel)
    return tf.reshape(values, [-1, *kernel.shape[2:]])


def _evaluate_kernels_back(
    points: tf.Tensor, of_values: tf.Tensor, shape: Sequence[int]
) -> tf.Tensor:
    """The adjoint of `_evaluate_kernels`; `shape` is the kernels'."""
    of_values = tf.reshape(of_values, [*points.shape[:1], *points.shape[:1], *shape[2:]])
    return tf.einsum("ai,bj,abck->ijck", points, points, of_values)


def _of_kernel(images: tf.Tensor, shape: Sequence[int], of_y: tf.Tensor) -> tf.Tensor:
    """The gradient of a kernel of a direct convolution."""
    return tf.raw_ops.Conv2DBackpropFilter(
        input=images,
        filter_sizes=shape,
        out_backprop=of_y,
        strides=[1, 1, 1, 1],
        padding="VALID",
    )


def _at_a_time(images: tf.Tensor, places: Sequence[int], weights: tf.Tensor) -> int:
    """How many images to handle at a time: as many as divide their number and fit the cache.

    Args:
        images: [N, H, W, C].
        places: how many there are, along H and W, of what is multiplied with `weights`.
        weights: of matrix products [64, C, K], else [..., K] or [K, C].
    """
    if len(weights.shape) == 3:
        numbers = weights.shape[0] * (weights.shape[1] + weights.shape[2])
    else:
        numbers = weights.shape[0] if len(weights.shape) == 2 else weights.shape[-1]
    each = places[0] * places[1] * numbers * images.dtype.size
    count, fitting = images.shape[0], max(1, _IN_CACHE // each)
    return max(n for n in range(1, count + 1) if count % n == 0 and n <= fitting)


_Specification = tuple[Sequence[int], tf.DType]


def _over_images(
    body: Callable[..., tuple[Sequence[tf.Tensor], Sequence[tf.Tensor]]],
    inputs: Sequence[tf.Tensor],
    at_a_time: int,
    outputs: Sequence[_Specification] = (),
    sums: Sequence[_Specification] = (),
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Calls `body` with some images at a time, one lot after the other.

    Args:
        body: gets images of each input, [S, ...]; returns outputs for them, [S, ...], and what is to be summed up.
        inputs: [N, ...] each.
        at_a_time: S; divides N.
        outputs: for each output the shape of one image's, and its type.
        sums: for each sum its shape and type.

    Returns:
        The outputs, [N, ...] each, and the sums.
    """
    steps = inputs[0].shape[0] // at_a_time
    if steps == 1:
        made, added = body(*inputs)
        return list(made), list(added)
    lots = [tf.reshape(x, [steps, at_a_time, *x.shape[1:]]) for x in inputs]
    arrays = tuple(
        tf.TensorArray(dtype, steps, element_shape=[at_a_time, *shape]) for shape, dtype in outputs
    )
    totals = tuple(tf.zeros(shape, dtype) for shape, dtype in sums)

    def step(i: tf.Tensor, arrays: Any, totals: Any) -> tuple[Any, ...]:
        made, added = body(*(lot[i] for lot in lots))
        arrays = tuple(array.write(i, value) for array, value in zip(arrays, made, strict=True))
        return i + 1, arrays, tuple(a + b for a, b in zip(totals, added, strict=True))

    _, arrays, totals = tf.while_loop(
        lambda i, *_: i < steps,
        step,
        (tf.constant(0), arrays, totals),
        maximum_iterations=steps,
        parallel_iterations=1,
    )
    stacked = [
        tf.reshape(array.stack(), [-1, *shape])
        for array, (shape, _) in zip(arrays, outputs, strict=True)
    ]
    return stacked, list(totals)
