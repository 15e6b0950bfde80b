import numpy as np
import pytest

from dcign_tf.errors import DcignError
from dcign_tf.evaluation.interpretation import Interpretation, check_fit, most_variable_latent
from tests.evaluation import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("octahedra")


@pytest.fixture(scope="module")
def network(folder):
    return Interpretation.of(tiny.model(folder), tiny.source(folder))


@pytest.fixture(scope="module")
def images(folder):
    return tiny.source(folder).mixed("test", 30).images


def test_it_does_what_the_model_does(network, images):
    model = network.model
    codes = network.encode(images)
    np.testing.assert_allclose(codes, model.encode(images)[0], atol=1e-5)
    np.testing.assert_allclose(network.decode(codes), model.decode(codes), atol=1e-5)
    for factor, degrees in model.infer(images).items():
        np.testing.assert_allclose(network.infer(codes)[factor], degrees, atol=1e-2)
        angles = np.linspace(-20, 20, len(images))
        np.testing.assert_allclose(
            network.decode(network.edit(codes, factor, angles)),
            model.rerender(images, **{factor: angles}),
            atol=1e-5,
        )
        assert network.range(factor) == model.factor_ranges[factor]


def test_groups_are_encoded_as_such(folder, network):
    groups = tiny.source(folder).groups("test", "azimuth", 2).images
    codes = network.encode(groups)
    assert codes.shape == (2, 5, 8)
    np.testing.assert_array_equal(codes[1], network.encode(groups[1]))


def test_errors_are_those_of_each_image(network, images):
    codes = network.encode(images)
    errors = network.squared_errors(codes, images)
    by_hand = [np.mean((network.decode(codes[i : i + 1]) - images[i] / 255) ** 2) for i in (0, 29)]
    np.testing.assert_allclose(errors[[0, 29]], by_hand, rtol=1e-4)


def test_work_done_is_told(network, images):
    done: list[int] = []
    network.advance = done.append
    network.decode(network.encode(images))
    network.advance = lambda count: None
    assert sum(done) == 60


def test_the_intrinsic_factor_has_the_other_latents(network):
    assert network.latents("elevation").tolist() == [1]
    assert network.latents("intrinsic").tolist() == [3, 4, 5, 6, 7]


def test_the_most_variable_latent_is_that_within_groups():
    codes = np.zeros([3, 4, 3])
    codes[:, :, 0] = np.array([-9, 0, 9])[:, np.newaxis]
    codes[:, :, 2] = np.array([-1, 1, -1, 1])
    assert most_variable_latent(codes) == 2


def test_latents_of_an_entangled_network_are_found_on_training_images(folder):
    source = tiny.source(folder)
    network = Interpretation.of(tiny.uncalibrated("sgvb"), source)
    for factor, (column,) in network.places.items():
        groups = network.encode(source.groups("train", factor).images)
        assert column == groups.var(axis=1).mean(axis=0).argmax()
        mixed = source.mixed("train")
        low, high = mixed.values[factor].min(), mixed.values[factor].max()
        assert network.range(factor) == pytest.approx((low, high))
    assert len(network.latents("intrinsic")) == 8 - len(set(network.places.values()))


def test_an_entangled_network_that_answers_nothing(folder):
    model = tiny.uncalibrated("sgvb")
    for weight in model.encoder.trainable_weights:
        weight.assign(0 * weight.value)
    with pytest.raises(DcignError, match="entangled network cannot be calibrated: azimuth"):
        Interpretation.of(model, tiny.source(folder))


def test_without_calibration_nothing_can_be_said(folder):
    with pytest.raises(DcignError, match="not calibrated"):
        Interpretation.of(tiny.uncalibrated(), tiny.source(folder))


def test_images_of_another_size(folder, tmp_path):
    other = type(tiny.source(folder))(tiny.scenes(tmp_path, image_size=54))
    with pytest.raises(DcignError, match="the model takes images of 38 x 38 pixels.* 54 x 54"):
        check_fit(tiny.model(folder), other)
