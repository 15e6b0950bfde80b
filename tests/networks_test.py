import numpy as np
import pytest

from dcign_tf import networks


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


def test_merged_decoder_gives_the_same_images():
    decoder = networks.decoder(54, (4, 3, 6), 7)  # 16 and fewer after merging
    for weight in decoder.weights:  # Biases start at 0, and would not be missed.
        weight.assign(weight.value + 0.1)
    merged = networks.merged_decoder(decoder)
    codes = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
    expected = decoder(codes).numpy()
    np.testing.assert_allclose(merged(codes), expected, atol=1e-5 * np.abs(expected).max())
    assert merged.get_layer("unpool_conv1").kernel.shape[:2] == (4, 4)
    assert merged.trainable_weights == []
