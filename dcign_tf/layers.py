"""Keras layers that Keras does not have."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable("dcign_tf")
class UnpoolConv2D(keras.layers.Layer):
    """Unpools by two (nearest neighbor) and convolves ("valid"), without making the unpooled image.

    Equal to `UpSampling2D(2)` followed by `Conv2D(filters, kernel_size)`, with the same weights in the same shapes,
    but computed at the low resolution: where the kernel lies on the unpooled image depends only on whether the
    output's row and column are even or odd, and taps that fall on the same source pixel can be added beforehand.
    So each of the four parities is a convolution of the source with a kernel of (k // 2 + 1)^2 taps instead of
    k^2 (for 7 x 7: 16 multiplications per output instead of 49), and the four results are interleaved.

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
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        *,
        activation: Any = None,
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
        self.activation = keras.activations.get(activation)
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

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Applies the layer."""
        merge = tf.constant(_merging(self.kernel_size), self.compute_dtype)
        kernel = tf.einsum("pat,qbs,tsio->abipqo", merge, merge, tf.convert_to_tensor(self.kernel))
        taps = self.kernel_size // 2 + 1
        kernel = tf.reshape(kernel, [taps, taps, inputs.shape[-1], 4 * self.filters])
        phases = tf.nn.conv2d(inputs, kernel, strides=1, padding="VALID")
        # The bias joins before the interleaving: depth_to_space then moves finished values.
        phases = tf.nn.bias_add(phases, tf.tile(tf.convert_to_tensor(self.bias), [4]))
        return self.activation(tf.nn.depth_to_space(phases, 2))

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """[N, 2 H - k + 1, 2 W - k + 1, filters]."""
        sides = tuple(
            None if side is None else 2 * side - self.kernel_size + 1 for side in input_shape[1:3]
        )
        return (input_shape[0], *sides, self.filters)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "activation": keras.activations.serialize(self.activation),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


def _merging(kernel_size: int) -> np.ndarray:
    """Entry [p, a, t] is 1 where, at outputs of parity p, tap t of the kernel falls on source pixel a."""
    merge = np.zeros((2, kernel_size // 2 + 1, kernel_size))
    for parity in range(2):
        for tap in range(kernel_size):
            merge[parity, (parity + tap) // 2, tap] = 1
    return merge
