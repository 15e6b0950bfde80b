"""The encoder and the decoder of the paper's Figure 1, for any image size they can have."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from dcign_tf.cpu_convolutions import phase_kernels
from dcign_tf.layers import (
    ConvPool2D,
    FewFiltersConv2D,
    Interleave,
    OnCircles,
    RowwiseConv2D,
    UnpoolConv2D,
)

# Multiplications of a direct convolution of one image from which on another form of it is quicker.
ROWWISE_PAYS = 2.5e8
_SMALLEST = 38  # below, nothing is left of the image after the encoder's third pooling


def decoder_base(image_size: int) -> int:
    """The side n of the decoder's first feature map: four times x2 unpooling and 7 x 7 make 16 n - 90 of it.

    Raises:
        ValueError: no n gives `image_size`; the message names the nearest sizes that can be had.
    """
    if image_size < _SMALLEST or (image_size + 90) % 16 or int(image_size) != image_size:
        lower = max(_SMALLEST, (int(image_size) + 90) // 16 * 16 - 90)
        upper = max(_SMALLEST, lower + 16)
        sizes = f"{lower} and {upper}" if image_size > _SMALLEST else str(_SMALLEST)
        raise ValueError(
            f"image_size: got {image_size}, must be 16 n - 90 with n >= 8; nearest: {sizes}"
        )
    return (int(image_size) + 90) // 16


def encoder(
    image_size: int = 150, filters: Sequence[int] = (96, 64, 32), latents: int = 200
) -> keras.Model:
    """The de-rendering half: images [N, S, S, 1] to the posterior's mean and log-variance, each [N, latents].

    Three times 5 x 5 convolution, 2 x 2 max-pooling, ReLU (in that order, as in the authors' code), then one
    linear map for each output (equations 1 and 2), started from N(0, 0.01^2). How the convolutions start the
    paper does not say; they start as He et al. propose for ReLUs.
    """
    decoder_base(image_size)
    images = keras.Input((image_size, image_size, 1), name="images")
    x = images
    for index, channels in enumerate(_three(filters), 1):
        x = ConvPool2D(channels, 5, kernel_initializer="he_normal", name=f"conv_pool{index}")(x)
    x = keras.layers.Flatten(name="features")(x)
    mean = keras.layers.Dense(latents, kernel_initializer=_narrow(), name="mean")(x)
    log_variance = keras.layers.Dense(latents, kernel_initializer=_narrow(), name="log_variance")(x)
    return keras.Model(images, [mean, log_variance], name="encoder")


def decoder(
    image_size: int = 150,
    filters: Sequence[int] = (32, 64, 96),
    latents: int = 200,
    circles: Sequence[int] = (),
) -> keras.Model:
    """The rendering half: codes [N, latents] to logits of the images, [N, S, S, 1].

    A linear map to [n, n, filters[0]], then four times unpooling and 7 x 7 convolution; ReLU between. `circles` are the
    first latents of those pairs of which only the direction counts.
    """
    base = decoder_base(image_size)
    first, *_ = sizes = _three(filters)
    codes = keras.Input((latents,), name="codes")
    x = OnCircles(circles, name="on_circles")(codes) if circles else codes
    x = keras.layers.Dense(
        base * base * first, activation="relu", kernel_initializer=_narrow(), name="features"
    )(x)
    x = keras.layers.Reshape((base, base, first), name="feature_map")(x)
    for index, channels in enumerate(sizes, 1):
        x = UnpoolConv2D(
            channels,
            7,
            activation="relu",
            kernel_initializer="he_normal",
            name=f"unpool_conv{index}",
        )(x)
    logits = UnpoolConv2D(1, 7, name="unpool_conv4")(x)
    return keras.Model(codes, logits, name="decoder")


def faster_encoder(encoder: keras.Model, least: float = ROWWISE_PAYS) -> keras.Model:
    """An encoder for use only, with its large convolutions as `RowwiseConv2D`.

    It gives the same outputs and shares the weights of its other layers with `encoder`.

    Args:
        encoder: as `encoder` makes it.
        least: multiplications of a direct convolution of one image from which on it is large.
    """
    images = keras.Input(encoder.input.shape[1:], name="images")
    x = images
    for layer in encoder.layers[1:-2]:
        if not isinstance(layer, ConvPool2D) or _multiplications(layer.kernel, x.shape) < least:
            x = layer(x)
            continue
        faster = RowwiseConv2D(
            layer.filters, layer.kernel_size, pool=True, activation="relu", name=layer.name
        )
        x = faster(x)
        faster.set_direct_weights(layer.kernel, layer.bias)
    outputs = [layer(x) for layer in encoder.layers[-2:]]
    return keras.Model(images, outputs, name="encoder", trainable=False)


def faster_decoder(decoder: keras.Model, least: float = ROWWISE_PAYS) -> keras.Model:
    """A decoder for use only: the kernels for its unpooled images are merged once and for all, not at every call.

    It gives the same logits and shares the weights of its other layers with `decoder`, but cannot be trained: its
    kernels have more freedom than those they were merged from. The largest convolutions are `RowwiseConv2D`.

    Args:
        decoder: as `decoder` makes it.
        least: as in `faster_encoder`.
    """
    codes = keras.Input(decoder.input.shape[1:], name="codes")
    x = codes
    for layer in decoder.layers[1:]:
        if not isinstance(layer, UnpoolConv2D):
            x = layer(x)
            continue
        kernel = phase_kernels(tf.convert_to_tensor(layer.kernel))
        bias = np.tile(layer.bias, 4)
        taps, filters = kernel.shape[0], kernel.shape[-1]
        arguments = {"activation": layer.activation, "name": layer.name}
        if filters < 16:
            convolution = FewFiltersConv2D(filters, taps, **arguments)
        elif _multiplications(kernel, x.shape) >= least:
            convolution = RowwiseConv2D(filters, taps, **arguments)
        else:
            convolution = keras.layers.Conv2D(filters, taps, **arguments)
        x = Interleave(name=f"{layer.name}_interleave")(convolution(x))
        if isinstance(convolution, RowwiseConv2D):
            convolution.set_direct_weights(kernel, bias)
        else:
            convolution.set_weights([kernel, bias])
    return keras.Model(codes, x, name="decoder", trainable=False)


def _multiplications(kernel: tf.Tensor, shape: Sequence[int]) -> int:
    """How many multiplications a direct convolution of an image takes; `shape` is the images', [N, H, W, C]."""
    taps = kernel.shape[0]
    return int(np.prod(kernel.shape)) * (shape[1] - taps + 1) * (shape[2] - taps + 1)


def _three(filters: Sequence[int]) -> tuple[int, ...]:
    if len(filters) != 3 or any(int(f) != f or f < 1 for f in filters):
        raise ValueError(f"filters: got {tuple(filters)}, must be three positive integers")
    return tuple(int(f) for f in filters)


def _narrow() -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=0.01)
