"""The encoder and the decoder of the paper's Figure 1, for any image size they can have."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from dcign_tf.cpu_convolutions import phase_kernels
from dcign_tf.layers import ConvPool2D, FewFiltersConv2D, Interleave, OnCircles, UnpoolConv2D

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


def merged_decoder(decoder: keras.Model) -> keras.Model:
    """A decoder with the kernels for its unpooled images merged once and for all, not at every call.

    It gives the same logits and shares the weights of its other layers with `decoder`, but cannot be trained: its
    kernels have more freedom than those they were merged from.
    """
    codes = keras.Input(decoder.input.shape[1:], name="codes")
    x = codes
    for layer in decoder.layers[1:]:
        if not isinstance(layer, UnpoolConv2D):
            x = layer(x)
            continue
        kernel = phase_kernels(tf.convert_to_tensor(layer.kernel))
        few = kernel.shape[-1] < 16
        convolution = (FewFiltersConv2D if few else keras.layers.Conv2D)(
            kernel.shape[-1], kernel.shape[0], activation=layer.activation, name=layer.name
        )
        x = Interleave(name=f"{layer.name}_interleave")(convolution(x))
        convolution.set_weights([kernel, np.tile(layer.bias, 4)])
    return keras.Model(codes, x, name="decoder", trainable=False)


def _three(filters: Sequence[int]) -> tuple[int, ...]:
    if len(filters) != 3 or any(int(f) != f or f < 1 for f in filters):
        raise ValueError(f"filters: got {tuple(filters)}, must be three positive integers")
    return tuple(int(f) for f in filters)


def _narrow() -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=0.01)
