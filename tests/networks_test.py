import numpy as np
import pytest

from dcign_tf import networks
from dcign_tf.layers import RowwiseConv2D


def shapes(model):
    return {layer.name: layer.output.shape[1:] for layer in model.layers}


def test_the_papers_encoder():
    encoder = networks.encoder()
    at = shapes(encoder)
    assert at["conv_pool1"] == (73, 73, 96)
    assert at["conv_pool2"] == (34, 34, 64)
    assert at["conv_pool3"] == (15, 15, 32)
    assert at["features"] == (7200,)
    assert [output.shape[1:] for output in encoder.outputs] == [(200,), (200,)]


def test_the_papers_decoder():
    decoder = networks.decoder()
    at = shapes(decoder)
    assert at["features"] == (7200,)
    sides = [at[name] for name in ("feature_map", "unpool_conv1", "unpool_conv2", "unpool_conv3")]
    assert sides == [(15, 15, 32), (24, 24, 32), (42, 42, 64), (78, 78, 96)]
    assert at["unpool_conv4"] == (150, 150, 1)


def test_the_papers_number_of_parameters():
    total = networks.encoder().count_params() + networks.decoder().count_params()
    assert total == 4_991_473  # 4.99 million


@pytest.mark.parametrize("size", [38, 54, 70, 86, 102, 118, 134, 150, 166])
def test_sizes_that_can_be_had(size):
    model = networks.decoder(size, (2, 2, 2), 5)
    assert model.output.shape[1:] == (size, size, 1)
    assert networks.encoder(size, (2, 2, 2), 5).input.shape[1:] == (size, size, 1)


@pytest.mark.parametrize(
    ("size", "nearest"),
    [(71, "70 and 86"), (149, "134 and 150"), (22, "38"), (0, "38"), (-5, "38"), (39, "38 and 54")],
)
def test_other_sizes_are_refused_with_the_nearest(size, nearest):
    with pytest.raises(ValueError, match=rf"image_size: got {size}, .*nearest: {nearest}$"):
        networks.decoder_base(size)


def test_filters_must_be_three():
    with pytest.raises(ValueError, match="must be three positive integers"):
        networks.encoder(54, (8, 8))
    with pytest.raises(ValueError, match="must be three positive integers"):
        networks.decoder(54, (8, 0, 8))


def test_dense_layers_around_the_code_start_small():
    for layer in (
        networks.encoder(54).get_layer("mean"),
        networks.decoder(54).get_layer("features"),
    ):
        assert abs(float(layer.kernel.numpy().std()) - 0.01) < 5e-4


@pytest.mark.parametrize("least", [0, 1e9])
def test_faster_networks_give_the_same(least):
    rng = np.random.default_rng(0)
    encoder = networks.encoder(54, (4, 3, 5), 7)
    decoder = networks.decoder(54, (4, 3, 6), 7)  # 16 and fewer after merging
    for weight in (*encoder.weights, *decoder.weights):
        # Biases start at 0, and would not be missed.
        weight.assign(weight.value + 0.1)
    images = rng.random((5, 54, 54, 1)).astype(np.float32)
    codes = rng.normal(size=(5, 7)).astype(np.float32)
    quick_encoder = networks.faster_encoder(encoder, least)
    quick_decoder = networks.faster_decoder(decoder, least)
    for ours, theirs in (
        *zip(quick_encoder(images), encoder(images), strict=True),
        (quick_decoder(codes), decoder(codes)),
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())
    rowwise = {
        layer.name
        for network in (quick_encoder, quick_decoder)
        for layer in network.layers
        if isinstance(layer, RowwiseConv2D)
    }
    # Those with few filters have a quicker form.
    wanted = {"conv_pool1", "conv_pool2", "conv_pool3", "unpool_conv1", "unpool_conv3"}
    assert rowwise == (set() if least else wanted)
    assert quick_decoder.get_layer("unpool_conv1").kernel.shape[-3:] == (4, 4, 16)
    assert quick_decoder.trainable_weights == quick_encoder.trainable_weights == []
    assert len(encoder.trainable_weights) == len(encoder.weights)


def test_the_papers_largest_convolutions_are_rowwise():
    encoder = networks.faster_encoder(networks.encoder())
    decoder = networks.faster_decoder(networks.decoder())
    layers = (*encoder.layers, *decoder.layers)
    names = [layer.name for layer in layers if isinstance(layer, RowwiseConv2D)]
    assert names == ["conv_pool2", "unpool_conv3"]
