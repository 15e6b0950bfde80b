import numpy as np
import pytest

from dcign_tf.evaluation.factor_vae import factor_vae
from tests.evaluation import tiny

RNG = np.random.default_rng(0)
FACTORS = RNG.uniform(-1, 1, [2000, 4])
NOISE = RNG.standard_normal([2000, 5])


def test_a_perfect_code_whatever_its_scale_and_order():
    codes = np.concatenate([NOISE, FACTORS[:, ::-1] * [0.2, -1, 30, 5] + 7], axis=1)
    assert factor_vae(codes, FACTORS) == 1


def test_a_random_code_is_right_by_chance():
    assert factor_vae(NOISE, FACTORS) == pytest.approx(1 / 4, abs=0.1)


def test_a_rotated_code_is_right_by_chance():
    assert factor_vae(tiny.rotated(FACTORS), FACTORS) < 0.5


def test_two_factors_in_one_latent_cannot_be_told_apart():
    classes = RNG.integers(0, 3, [2000, 3])
    both = classes[:, 0] + 3 * classes[:, 1]
    codes = np.stack([both, classes[:, 2]], axis=1) + 0.01 * NOISE[:, :2]
    # Fixing the second factor leaves a tenth of the shared latent's variance: that is told, as is the third factor's
    # own latent. Fixing the first leaves nearly all of it, and the vote is a toss.
    assert 0.6 < factor_vae(codes, classes) < 0.95


def test_collapsed_latents_take_no_part():
    codes = np.concatenate([FACTORS, 1e-3 * NOISE], axis=1)
    assert factor_vae(codes, FACTORS) == 1
    assert np.isnan(factor_vae(1e-3 * NOISE, FACTORS))


def test_classes_by_hand():
    # Each latent is constant where its factor is 0 and random where it is 1.
    classes = RNG.integers(0, 2, [400, 2])
    codes = RNG.standard_normal([400, 2])
    codes[:, 0] = np.where(classes[:, 0] == 0, 0.5, codes[:, 0])
    codes[:, 1] = np.where(classes[:, 1] == 0, 0.5, codes[:, 1])
    # With a factor fixed to 0 its latent varies not at all; fixed to 1, its latent has all of its variance and more,
    # the other one half of each kind, so the other is named: half of the votes are for each, right half the time.
    assert factor_vae(codes, classes) == pytest.approx(0.5, abs=0.1)


def test_too_few_observations_say_nothing():
    assert np.isnan(factor_vae(NOISE[:40], FACTORS[:40]))
