import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from dcign_tf.calibration import KNOTS, Calibration, fit_monotone

RNG = np.random.default_rng(0)
DEGREES = RNG.uniform(-90, 90, 2000)


def fitted(latent):
    calibration = Calibration(["azimuth"])
    calibration.fit({"azimuth": latent}, {"azimuth": DEGREES})
    return calibration


@pytest.mark.parametrize("sign", [1, -1])
def test_bent_latents_become_degrees_and_back(sign):
    calibration = fitted(sign * 3 * np.tanh(DEGREES / 60) + RNG.normal(size=2000) * 0.01)
    angles = np.linspace(-85, 85, 35).astype(np.float32)
    latents = calibration.latent_of("azimuth", angles)
    np.testing.assert_allclose(latents, sign * 3 * np.tanh(angles / 60), atol=0.03)
    np.testing.assert_allclose(calibration.value_of("azimuth", latents), angles, atol=2)


def test_a_jump_in_the_middle_survives():
    # The paper's Fig. 6 (a): the azimuth's latent switches between the left and the right profile.
    calibration = fitted(DEGREES / 30 + 5 * np.sign(DEGREES))
    np.testing.assert_allclose(calibration.latent_of("azimuth", [-60.0, 60.0]), [-7, 7], atol=0.2)
    np.testing.assert_allclose(calibration.value_of("azimuth", [-7.0, 7.0]), [-60, 60], atol=2)


def test_values_outside_are_taken_to_the_ends():
    calibration = fitted(DEGREES / 10)
    ends = calibration.latent_of("azimuth", [-500.0, 500.0]).numpy()
    np.testing.assert_allclose(ends, [-9, 9], atol=0.1)
    low, high = calibration.range("azimuth")
    assert low == pytest.approx(-90, abs=0.5) and high == pytest.approx(90, abs=0.5)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.floats(0, 2), st.sampled_from([1, -1]))
def test_curves_are_strictly_monotone_and_finite(seed, noise, sign):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, 200)
    y = sign * x + noise * rng.normal(size=200)
    curve = fit_monotone(x, y, np.linspace(-1, 1, KNOTS))
    steps = np.diff(curve)
    assert np.isfinite(curve).all() and ((steps > 0).all() or (steps < 0).all())


@pytest.mark.parametrize(
    ("latents", "degrees", "message"),
    [
        ({}, {"azimuth": DEGREES}, "azimuth: calibration needs its latents"),
        ({"azimuth": DEGREES[:9]}, {"azimuth": DEGREES[:9]}, "at least 66 images"),
        ({"azimuth": DEGREES * 0}, {"azimuth": DEGREES}, "latents are all equal"),
        ({"azimuth": DEGREES * np.nan}, {"azimuth": DEGREES}, "not finite"),
    ],
)
def test_what_cannot_be_fitted_is_refused(latents, degrees, message):
    with pytest.raises(ValueError, match=message):
        Calibration(["azimuth"]).fit(latents, degrees)


def test_curves_work_inside_graphs_and_for_any_shape():
    calibration = fitted(DEGREES)
    graph = tf.function(lambda x: calibration.latent_of("azimuth", x))
    np.testing.assert_allclose(graph(tf.zeros([2, 3])), np.zeros([2, 3]), atol=0.5)
