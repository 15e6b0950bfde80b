"""Keras layers that Keras does not have."""

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dcign_tf import cpu_convolutions, toom_cook


class _Convolution(keras.layers.Layer):
    """What the layers of this module share: `keras.layers.Conv2D`'s weights, and checks of the arguments."""

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        *,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if int(filters) != filters or filters < 1:
            raise ValueError(f"filters: got {filters}, must be a positive integer")
        if int(kernel_size) != kernel_size or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size: got {kernel_size}, must be a positive odd integer")
        self.filters = int(filters)
        self.kernel_size = int(kernel_size)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape: Any) -> None:
        """Makes the weights, of `keras.layers.Conv2D`'s names and shapes."""
        self.kernel = self.add_weight(
            shape=(self.kernel_size, self.kernel_size, input_shape[-1], self.filters),
            initializer=self.kernel_initializer,
            name="kernel",
        )
        self.bias = self.add_weight(
            shape=(self.filters,), initializer=self.bias_initializer, name="bias"
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


@keras.saving.register_keras_serializable("dcign_tf")
class ConvPool2D(_Convolution):
    """Convolves ("valid"), takes the maximum of every 2 x 2 outputs, adds a bias, and applies ReLU.

    Equal to `Conv2D(filters, kernel_size)`, `MaxPooling2D(2)` and `ReLU()`, with the same weights in the same shapes;
    bias and ReLU, which change nothing about which output is the largest, come after the pooling, where there is a
    quarter of them to be computed. In training on a processor the three are one; see `cpu_convolutions`.

    Example:
        >>> ConvPool2D(96, 5)(tf.zeros([1, 150, 150, 1])).shape
        TensorShape([1, 73, 73, 96])

    Args:
        filters: channels of the output.
        kernel_size: side of the square kernel; odd.
        kernel_initializer: as in `keras.layers.Conv2D`.
        bias_initializer: as in `keras.layers.Conv2D`.

    Call arguments:
        inputs: float [N, H, W, C]; the output is [N, (H - k + 1) // 2, (W - k + 1) // 2, filters].
        training: whether gradients will be asked for.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Applies the layer."""
        kernel, bias = tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias)
        if training and cpu_convolutions.conv_pool_pays(inputs, kernel):
            return cpu_convolutions.conv_pool(inputs, kernel, bias)
        x = tf.nn.conv2d(inputs, kernel, strides=1, padding="VALID")
        x = tf.nn.max_pool2d(x, ksize=2, strides=2, padding="VALID")
        return tf.nn.relu(tf.nn.bias_add(x, bias))

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """[N, (H - k + 1) // 2, (W - k + 1) // 2, filters]."""
        sides = tuple(
            None if side is None else (side - self.kernel_size + 1) // 2
            for side in input_shape[1:3]
        )
        return (input_shape[0], *sides, self.filters)


@keras.saving.register_keras_serializable("dcign_tf")
class UnpoolConv2D(_Convolution):
    """Unpools by two (nearest neighbor) and convolves ("valid"), without making the unpooled image.

    Equal to `UpSampling2D(2)` followed by `Conv2D(filters, kernel_size)`, with the same weights in the same shapes,
    but computed at the low resolution: where the kernel lies on the unpooled image depends only on whether the
    output's row and column are even or odd, and taps that fall on the same source pixel can be added beforehand.
    So each of the four parities is a convolution of the source with a kernel of (k // 2 + 1)^2 taps instead of
    k^2 (for 7 x 7: 16 multiplications per output instead of 49), and the four results are interleaved. In training
    on a processor, `cpu_convolutions` does it with fewer still.

    Example:
        >>> UnpoolConv2D(32, 7)(tf.zeros([1, 15, 15, 32])).shape
        TensorShape([1, 24, 24, 32])

    Args:
        filters: channels of the output.
        kernel_size: side of the square kernel; odd.
        activation: as in `keras.layers.Conv2D`.
        kernel_initializer: as in `keras.layers.Conv2D`.
        bias_initializer: as in `keras.layers.Conv2D`.

    Call arguments:
        inputs: float [N, H, W, C]; the output is [N, 2 H - k + 1, 2 W - k + 1, filters].
        training: whether gradients will be asked for.
    """

    def __init__(
        self, filters: int, kernel_size: int, *, activation: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(filters, kernel_size, **kwargs)
        self.activation = keras.activations.get(activation)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Applies the layer."""
        kernel, bias = tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias)
        if training and cpu_convolutions.unpool_conv_pays(inputs, kernel):
            relu = self.activation is keras.activations.relu
            x = cpu_convolutions.unpool_conv(inputs, kernel, bias, relu)
            return x if relu else self.activation(x)
        phases = cpu_convolutions.phase_kernels(kernel)
        x = tf.nn.conv2d(inputs, phases, strides=1, padding="VALID")
        # The bias joins before the interleaving: depth_to_space then moves finished values.
        x = tf.nn.bias_add(x, tf.tile(bias, [4]))
        return self.activation(tf.nn.depth_to_space(x, 2))

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """[N, 2 H - k + 1, 2 W - k + 1, filters]."""
        sides = tuple(
            None if side is None else 2 * side - self.kernel_size + 1 for side in input_shape[1:3]
        )
        return (input_shape[0], *sides, self.filters)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        activation = keras.activations.serialize(self.activation)
        return {**super().get_config(), "activation": activation}


@keras.saving.register_keras_serializable("dcign_tf")
class OnCircles(keras.layers.Layer):
    """Divides pairs of latents by their length, so that only their direction is left.

    With a posterior's prior of N(0, I) over a pair, the prior of its direction is uniform.

    Example:
        >>> OnCircles([1])(tf.constant([[5.0, 3.0, -4.0]])).numpy().round(2).tolist()
        [[5.0, 0.6000000238418579, -0.800000011920929]]

    Args:
        first: for each pair its first latent; the second is the next one.

    Call arguments:
        inputs: float [N, L]; the output is [N, L], all other latents as they were.
    """

    # Added to the square of the length: the gradient of a direction grows as the length shrinks.
    EPSILON = 1e-4

    def __init__(self, first: Sequence[int], **kwargs: Any) -> None:
        # Half of single precision is not enough for squares and directions.
        kwargs.setdefault("dtype", keras.config.dtype_policy().variable_dtype)
        super().__init__(**kwargs)
        self.first = tuple(sorted(int(index) for index in first))
        if any(b - a < 2 for a, b in itertools.pairwise((-2, *self.first))):
            raise ValueError(
                f"first: got {tuple(first)}, pairs must begin at 0 or later and not overlap"
            )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Applies the layer."""
        parts, done = [], 0
        for index in self.first:
            pair = inputs[:, index : index + 2]
            squared = tf.reduce_sum(tf.square(pair), axis=1, keepdims=True)
            if done < index:  # TensorFlow Lite's converter does not get on with nothing.
                parts.append(inputs[:, done:index])
            parts.append(pair / tf.sqrt(squared + self.EPSILON))
            done = index + 2
        if done < inputs.shape[1]:
            parts.append(inputs[:, done:])
        return tf.concat(parts, axis=1)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """[N, L]."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "first": list(self.first)}


@keras.saving.register_keras_serializable("dcign_tf")
class FewFiltersConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` ("valid", no strides) for so few filters that a matrix product would have hardly a column.

    Each pixel is multiplied with all taps of all filters in one matrix product, and the products are shifted and added.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Applies the layer."""
        taps: int = self.kernel_size[0]
        _, height, width, channels = inputs.shape
        kernel = tf.transpose(tf.convert_to_tensor(self.kernel), [0, 1, 3, 2])
        products = tf.matmul(
            tf.reshape(kernel, [-1, channels]),
            tf.reshape(inputs, [-1, channels]),
            transpose_b=True,
        )
        # Channels first: then what is shifted and added are whole rows.
        products = tf.reshape(products, [taps, taps, self.filters, -1, height, width])
        rows, columns = height - taps + 1, width - taps + 1
        shifted = [
            products[a, b, :, :, a : a + rows, b : b + columns]
            for a in range(taps)
            for b in range(taps)
        ]
        y = tf.transpose(tf.add_n(shifted), [1, 2, 3, 0])
        return self.activation(tf.nn.bias_add(y, tf.convert_to_tensor(self.bias)))


@keras.saving.register_keras_serializable("dcign_tf")
class RowwiseConv2D(keras.layers.Layer):
    """`keras.layers.Conv2D` ("valid", no strides) with fewer multiplications, for use and not for training.

    Toom's and Cook's method (`toom_cook`) along the rows, as TensorFlow operations that are quick everywhere: a matrix
    product before and after, and between them a convolution along the columns for each of eight points. For 5 x 5 and
    4 x 4 kernels that is two fifths of the multiplications.

    Args:
        filters: channels of the output.
        kernel_size: side of the square kernel, 2 to 8.
        pool: whether to take the maximum of every 2 x 2 outputs before the bias, as `ConvPool2D` does.
        activation: as in `keras.layers.Conv2D`.

    Call arguments:
        inputs: float [N, H, W, C], all but N known.
    """

    # From so many images on they are handled one by one: what lies between then stays in the processor's cache.
    _MANY = 4

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        *,
        pool: bool = False,
        activation: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.pool = pool
        self.activation = keras.activations.get(activation)

    def build(self, input_shape: Any) -> None:
        """Makes the weights: the kernel's values at the points, [8, 1, k, C, filters], and the bias."""
        self.kernel = self.add_weight(
            shape=(toom_cook.POINTS, 1, self.kernel_size, input_shape[-1], self.filters),
            name="kernel",
        )
        self.bias = self.add_weight(shape=(self.filters,), name="bias")

    def set_direct_weights(self, kernel: Any, bias: Any) -> None:
        """Sets the weights from those of `keras.layers.Conv2D`, [k, k, C, filters] and [filters]."""
        points = toom_cook.transforms(self.kernel_size)[1]
        values = np.einsum("ai,ijck->ajck", points, np.asarray(kernel, np.float64))
        self.set_weights([values[:, np.newaxis], bias])

    @staticmethod
    def direct_kernel(kernel: np.ndarray) -> np.ndarray:
        """The kernel, [k, k, C, filters] in float64, that `set_direct_weights` made a layer's kernel from."""
        read_off = np.linalg.pinv(toom_cook.transforms(kernel.shape[2])[1])
        return np.einsum("ia,ajck->ijck", read_off, kernel[:, 0].astype(np.float64))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Applies the layer."""
        return tf.cond(
            tf.shape(inputs)[0] < self._MANY,
            lambda: self._convolve(inputs),
            lambda: tf.map_fn(
                lambda image: self._convolve(image[tf.newaxis])[0], inputs, parallel_iterations=2
            ),
        )

    def _convolve(self, inputs: tf.Tensor) -> tf.Tensor:
        _, height, width, channels = inputs.shape
        before, after = (
            tf.constant(matrix, inputs.dtype)
            for matrix in toom_cook.row_transforms(self.kernel_size, height)
        )
        columns = width - self.kernel_size + 1
        kernels = tf.unstack(tf.convert_to_tensor(self.kernel))
        values = tf.matmul(before, tf.reshape(inputs, [-1, height, width * channels]))
        values = tf.reshape(
            values, [-1, toom_cook.POINTS, before.shape[0] // toom_cook.POINTS, width, channels]
        )
        products = [
            tf.nn.conv2d(values[:, point], kernel, 1, "VALID")
            for point, kernel in enumerate(kernels)
        ]
        products = tf.reshape(tf.stack(products, 1), [-1, before.shape[0], columns * self.filters])
        x = tf.reshape(tf.matmul(after, products), [-1, after.shape[0], columns, self.filters])
        if self.pool:
            x = tf.nn.max_pool2d(x, ksize=2, strides=2, padding="VALID")
        return self.activation(tf.nn.bias_add(x, tf.convert_to_tensor(self.bias)))

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """[N, H - k + 1, W - k + 1, filters], or half as high and wide if pooled."""
        sides = tuple((side - self.kernel_size + 1) // (1 + self.pool) for side in input_shape[1:3])
        return (input_shape[0], *sides, self.filters)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "pool": self.pool,
            "activation": keras.activations.serialize(self.activation),
        }


@keras.saving.register_keras_serializable("dcign_tf")
class Interleave(keras.layers.Layer):
    """Interleaves images that lie in four channels each: [N, H, W, 4 F] to [N, 2 H, 2 W, F]."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Applies the layer."""
        return tf.nn.depth_to_space(inputs, 2)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """[N, 2 H, 2 W, F]."""
        sides = tuple(None if side is None else 2 * side for side in input_shape[1:3])
        return (input_shape[0], *sides, input_shape[3] // 4)
