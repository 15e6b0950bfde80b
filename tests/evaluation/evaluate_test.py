import json
import math

import numpy as np
import pytest

from dcign_tf.datasets.source import LabeledGroups
from dcign_tf.errors import DcignError
from dcign_tf.evaluation import evaluate as measuring
from dcign_tf.evaluation.evaluate import Settings, agreement, draw_pairs, evaluate, psnr
from dcign_tf.evaluation.interpretation import Interpretation
from tests.evaluation import tiny

SETTINGS = Settings(images=60, groups=3, pairs=25)
FACTORS = ("azimuth", "elevation", "light_azimuth")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("octahedra")


@pytest.fixture(scope="module")
def source(folder):
    return tiny.source(folder)


@pytest.fixture(scope="module")
def model(folder):
    return tiny.model(folder)


@pytest.fixture(scope="module")
def result(model, source):
    return measuring.run(model, source, "test", tiny.uncalibrated("sgvb"), SETTINGS)


@pytest.fixture(scope="module")
def metrics(result):
    return result.metrics


def test_metrics_have_the_shape_people_script_against(metrics, source):
    head = {key: metrics[key] for key in ("image_size", "steps", "data", "split", "n_images")}
    assert head == {
        "image_size": 38,
        "steps": None,
        "data": source.description,
        "split": "test",
        "n_images": 60,
    }
    for block in (metrics, metrics["baseline"]):
        assert set(block["reconstruction"]) == {"mse", "psnr_db"}
        for name, keys in (
            ("inference", {"pearson", "r2_calibrated", "median_abs_error", "median_abs_error_deg"}),
            ("rerendering", {"mse", "psnr_db", "mse_unchanged", "mse_exchanged"}),
        ):
            assert tuple(block[name]) == FACTORS
            assert all(set(numbers) == keys for numbers in block[name].values())
        assert tuple(block["invariance"]) == (*FACTORS, "intrinsic")
        assert tuple(block["disentanglement"]) == measuring.MEASURES
    assert metrics["latents"] == {"azimuth": 0, "elevation": 1, "light_azimuth": 2}
    json.dumps(metrics, allow_nan=False)


def test_reconstruction_and_inference_are_those_of_the_model(metrics, model, source):
    mixed = source.mixed("test", 60)
    mse = np.mean((np.asarray(model(mixed.images)) - mixed.images / 255.0) ** 2)
    assert metrics["reconstruction"]["mse"] == pytest.approx(mse, rel=1e-4)
    assert metrics["reconstruction"]["psnr_db"] == pytest.approx(-10 * np.log10(mse), rel=1e-4)
    latents = model.encode(mixed.images)[0].numpy()
    for row, (factor, inferred) in enumerate(model.infer(mixed.images).items()):
        true, numbers = mixed.values[factor], metrics["inference"][factor]
        r = np.corrcoef(latents[:, row], true)[0, 1]
        r2 = 1 - np.mean((inferred - true) ** 2) / np.var(true)
        error = np.median(np.abs(inferred - true))
        assert list(numbers.values()) == pytest.approx([abs(r), r2, error, error], rel=1e-3)


def test_rerendering_is_that_of_the_model_against_the_renderer(metrics, result, model):
    for factor, pairs in result.network.pairs.items():
        assert len(pairs.values) == 25
        unchanged = model(pairs.sources).numpy()
        rendered = model.rerender(pairs.sources, **{factor: pairs.values}).numpy()
        truth = pairs.targets / 255.0
        numbers = metrics["rerendering"][factor]
        assert numbers["mse"] == pytest.approx(np.mean((rendered - truth) ** 2), rel=1e-3)
        assert numbers["mse_unchanged"] == pytest.approx(
            np.mean((unchanged - truth) ** 2), rel=1e-3
        )
        codes = model.encode(pairs.sources)[0].numpy()
        column = model.layout.indices(factor)[0]
        codes[:, column] = model.encode(pairs.targets)[0][:, column]
        exchanged = np.mean((model.decode(codes).numpy() - truth) ** 2)
        assert numbers["mse_exchanged"] == pytest.approx(exchanged, rel=1e-3)


def test_the_baseline_is_measured_on_the_same_pairs(result):
    for factor, pairs in result.network.pairs.items():
        np.testing.assert_array_equal(pairs.targets, result.baseline.pairs[factor].targets)
    assert result.metrics["baseline"]["latents"] == {
        factor: latent for factor, (latent,) in result.baseline.network.places.items()
    }


def test_pairs_are_different_images_of_one_group_with_the_second_ones_angle():
    images = np.arange(12, dtype=np.uint8).reshape(3, 4, 1, 1, 1)
    group = LabeledGroups(images, {"azimuth": 10.0 * images[..., 0, 0, 0]})
    codes = images[..., 0, 0].astype(np.float32)
    pairs = draw_pairs(group, codes, "azimuth", 200, seed=3)
    sources, targets = pairs.sources.ravel(), pairs.targets.ravel()
    assert (sources != targets).all()
    assert (sources // 4 == targets // 4).all()
    assert set(sources) == set(targets) == set(range(12))
    np.testing.assert_array_equal(pairs.values, 10.0 * targets)
    np.testing.assert_array_equal(pairs.source_codes.ravel(), sources)
    np.testing.assert_array_equal(pairs.target_codes.ravel(), targets)
    again = draw_pairs(group, codes, "azimuth", 200, seed=3)
    np.testing.assert_array_equal(again.targets, pairs.targets)


def test_agreement_by_hand():
    true = np.array([-10.0, 0.0, 10.0])
    numbers = agreement(np.array([2.0, 0.0, -2.0]), np.array([-10.0, 3.0, 4.0]), true)
    assert numbers["pearson"] == pytest.approx(1)
    assert numbers["r2_calibrated"] == pytest.approx(1 - (9 + 36) / 200)
    assert numbers["median_abs_error"] == 3
    assert math.isnan(agreement(np.zeros(3), np.zeros(3), true)["pearson"])


def test_invariance_by_hand(model, source):
    network = Interpretation.of(model, source)
    rng = np.random.default_rng(0)
    codes = rng.standard_normal([4000, 8])
    # Where azimuth varies, elevation does not, light varies half as much as at random, the intrinsic latents fully.
    scale = np.array([1, 0, np.sqrt(0.5), 1, 1, 1, 1, 1])
    still = np.zeros([2, 1000, 8])
    group_codes = {
        "azimuth": rng.standard_normal([2, 2000, 8]) * scale,
        "elevation": still,
        "light_azimuth": still,
        "intrinsic": still + rng.standard_normal([2, 1000, 8]) * [0, 0, 0, 9, 9, 9, 9, 9],
    }
    invariance = measuring._invariance(network, codes, group_codes)
    assert invariance["azimuth"] == pytest.approx(0.5, abs=0.05)
    assert (invariance["elevation"], invariance["intrinsic"]) == (0, 0)


def test_it_is_repeatable_and_takes_other_splits(metrics, model, source):
    again = evaluate(model, source, settings=SETTINGS)
    assert again == {**metrics, "baseline": None}
    assert evaluate(model, source, "validation", settings=SETTINGS)["split"] == "validation"


def test_a_network_that_answers_nothing_has_no_numbers_that_json_lacks(source):
    model = tiny.uncalibrated()
    model.calibrate(source.mixed("train").images, source.mixed("train").values)
    for weight in model.encoder.trainable_weights:
        weight.assign(0 * weight.value)
    metrics = evaluate(model, source, settings=SETTINGS)
    assert metrics["inference"]["azimuth"]["pearson"] is None
    assert metrics["invariance"]["azimuth"] is None
    assert metrics["disentanglement"]["factor_vae"] is None
    json.dumps(metrics, allow_nan=False)


def test_peak_signal_to_noise_ratio():
    assert psnr(0.01) == pytest.approx(20)
    assert psnr(0) == math.inf


def test_what_does_not_fit_is_refused_before_any_work(model, source, folder):
    with pytest.raises(DcignError, match="not calibrated"):
        evaluate(tiny.uncalibrated(), source)
    other = type(source)(tiny.scenes(folder, image_size=54))
    with pytest.raises(DcignError, match="38 x 38 pixels, the data's have 54 x 54"):
        evaluate(model, other)
