"""How much arithmetic a training step needs."""

from collections.abc import Sequence


def training_multiplications(
    image_size: int = 150,
    encoder_filters: Sequence[int] = (96, 64, 32),
    decoder_filters: Sequence[int] = (32, 64, 96),
    latents: int = 200,
    batch: int = 20,
) -> int:
    """The multiplications of a training step's convolutions and linear maps, done exactly and directly.

    Directly: a value of a convolution's output costs one multiplication for each tap and input channel. The decoder's
    7 x 7 convolutions of unpooled images are counted with their taps merged, 16 instead of 49 (see `UnpoolConv2D`).
    Each layer counts three times, forward, for the gradient of its weights and for that of its input, but the first,
    whose input is the image and needs none. All else (pooling, biases, the objective, the optimizer) counts nothing.
    Algorithms that trade multiplications for additions, such as Winograd's, need fewer.

    Args:
        image_size: side of the images.
        encoder_filters: channels of the encoder's three convolutions.
        decoder_filters: channels of the decoder's feature map and first convolution, second, third.
        latents: length of the code.
        batch: images in the step.

    Returns:
        Multiplications, each of which goes with an addition.
    """
    layers = []
    side, channels = image_size, 1
    for filters in encoder_filters:
        side -= 4
        layers.append(side * side * 25 * channels * filters)
        side, channels = side // 2, filters
    layers.append(2 * side * side * channels * latents)
    side, channels = decoder_side(image_size), decoder_filters[0]
    layers.append(latents * side * side * channels)
    for filters in (*decoder_filters, 1):
        side = 2 * side - 6
        layers.append(side * side * 16 * channels * filters)
        channels = filters
    return batch * (3 * sum(layers) - layers[0])


def parameters(
    image_size: int = 150,
    encoder_filters: Sequence[int] = (96, 64, 32),
    decoder_filters: Sequence[int] = (32, 64, 96),
    latents: int = 200,
) -> int:
    """How many numbers a network learns; arguments as in `training_multiplications`."""
    count = 0
    side, channels = image_size, 1
    for filters in encoder_filters:
        count += (25 * channels + 1) * filters
        side, channels = (side - 4) // 2, filters
    count += 2 * (side * side * channels + 1) * latents
    channels = decoder_filters[0]
    count += (latents + 1) * decoder_side(image_size) ** 2 * channels
    for filters in (*decoder_filters, 1):
        count += (49 * channels + 1) * filters
        channels = filters
    return count


def decoder_side(image_size: int) -> int:
    """The side of the decoder's first feature map, as `networks.decoder_base` without importing TensorFlow."""
    return (image_size + 90) // 16
