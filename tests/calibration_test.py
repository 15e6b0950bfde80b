import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from dcign_tf.calibration import KNOTS, Calibration, correlated, fit_monotone

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


@settings(max_examples=50)
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


def wrapped(angles):
    return np.angle(np.exp(1j * np.asarray(angles)))


def circular(latent, values, period=None):
    calibration = Calibration(["azimuth"], ["azimuth"])
    periods = {} if period is None else {"azimuth": period}
    calibration.fit({"azimuth": wrapped(latent)}, {"azimuth": values}, periods)
    return calibration


TURNS = {
    "sign": st.sampled_from([1, -1]),
    "shift": st.floats(-10, 10),
    "bend": st.floats(-0.6, 0.6),
}


@settings(max_examples=30)
@given(period=st.sampled_from([360.0, 1.0]), low=st.floats(-2, 2), **TURNS)
def test_what_turns_all_the_way_around_has_no_seam(period, low, sign, shift, bend):
    values = (low + RNG.uniform(0, 1, 1500)) * period

    def angle(values):
        phase = np.asarray(values, np.float64) * 2 * np.pi / period
        return sign * (phase + bend * np.sin(phase + 1)) + shift

    calibration = circular(angle(values), values, period)
    for start in (low - 1, low, low + 3.3):
        asked = (start + np.linspace(0, 1, 41)) * period
        angles = calibration.latent_of("azimuth", asked).numpy()
        np.testing.assert_allclose(wrapped(angles - angle(asked)), 0, atol=0.06)
        # The beginning and the end of a turn are one picture.
        np.testing.assert_allclose(wrapped(angles[0] - angles[-1]), 0, atol=1e-3)
        told = calibration.value_of("azimuth", wrapped(angle(asked))).numpy()
        error = np.abs(told - asked) % period
        assert np.minimum(error, period - error).max() < 0.03 * period
        lowest, highest = calibration.range("azimuth")
        assert highest - lowest == pytest.approx(period, rel=1e-4)
        assert (told >= lowest - 1e-3 * period).all() and (told <= highest + 1e-3 * period).all()


@settings(max_examples=30)
@given(reach=st.floats(0.5, 2.8), **TURNS)
def test_an_arc_of_the_circle_is_a_line(reach, sign, shift, bend):
    def angle(degrees):
        share = np.asarray(degrees, np.float64) / 90
        return sign * reach * (share + bend * share**2 / 2) / (1 + abs(bend) / 2) + shift

    calibration = circular(angle(DEGREES), DEGREES)
    asked = np.linspace(-85, 85, 35)
    latents = calibration.latent_of("azimuth", asked).numpy()
    np.testing.assert_allclose(wrapped(latents - angle(asked)), 0, atol=0.05)
    np.testing.assert_allclose(calibration.value_of("azimuth", wrapped(latents)), asked, atol=2.5)
    # What lies beyond the arc belongs to its nearer end.
    beyond = wrapped(angle([-90, 90]) + np.array([-sign, sign]) * 0.1)
    np.testing.assert_allclose(calibration.value_of("azimuth", beyond), [-90, 90], atol=2.5)


def test_a_direction_of_which_nobody_knows_values_is_its_angle_in_degrees():
    calibration = circular(RNG.uniform(-4, 4, 200), np.full(200, np.nan))
    angles = calibration.latent_of("azimuth", [-90.0, 270.0, 0.0]).numpy()
    np.testing.assert_allclose(wrapped(angles), [-np.pi / 2, -np.pi / 2, 0], atol=1e-5)
    told = calibration.value_of("azimuth", [np.pi / 2, -3 * np.pi / 2]).numpy()
    np.testing.assert_allclose(told, [90, 90], atol=1e-3)


def test_correlation_along_a_line_around_a_circle_and_along_an_arc():
    noise = RNG.normal(size=2000)
    line = DEGREES + 30 * noise
    assert correlated(line, DEGREES) == pytest.approx(abs(np.corrcoef(line, DEGREES)[0, 1]))
    turns = RNG.uniform(0, 360, 2000)
    assert correlated(wrapped(2 - np.radians(turns)), turns, True, 360.0) == pytest.approx(1)
    spread = correlated(wrapped(np.radians(turns) + 0.5 * noise), turns, True, 360.0)
    assert spread == pytest.approx(np.exp(-(0.5**2) / 2), abs=0.02)
    assert correlated(wrapped(noise), turns, True, 360.0) < 0.1
    assert correlated(wrapped(3 - np.radians(DEGREES)), DEGREES, True) == pytest.approx(1)
