import numpy as np
import pytest

from dcign_tf.evaluation.mig import entropy, mig, mutual_information
from tests.evaluation import tiny

RNG = np.random.default_rng(0)
FACTORS = RNG.uniform(-1, 1, [4000, 3])
NOISE = RNG.standard_normal([4000, 5])


def test_information_by_hand():
    a = np.array([0, 0, 1, 1])
    assert entropy(a) == pytest.approx(np.log(2))
    assert mutual_information(a, a) == pytest.approx(np.log(2))
    assert mutual_information(a, np.array([0, 1, 0, 1])) == pytest.approx(0)
    # p(a, b) = 1/2, 1/4, 0, 1/4: the sum of p log p / (p_a p_b).
    b = np.array([0, 0, 0, 1])
    by_hand = 0.5 * np.log(0.5 / (0.5 * 0.75)) + 0.25 * np.log(0.25 / (0.5 * 0.75))
    by_hand += 0.25 * np.log(0.25 / (0.5 * 0.25))
    assert mutual_information(a, b) == pytest.approx(by_hand)


def test_the_gap_by_hand():
    factor = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    best = factor.astype(float)
    half = (factor > 1).astype(float)
    codes = np.stack([half, best, np.zeros(8)], axis=1)
    # Of log 4, the best latent knows all and the second log 2.
    assert mig(codes, factor[:, np.newaxis]) == pytest.approx(0.5)


def test_a_perfect_code_has_nearly_one():
    codes = np.concatenate([FACTORS[:, ::-1] * [3, -1, 10], NOISE], axis=1)
    # Not 1: bins of equal width and bins of equal frequency do not quite coincide.
    assert mig(codes, FACTORS) > 0.85


def test_a_rotated_code_has_little_and_a_random_one_nothing():
    factors = np.concatenate([FACTORS, FACTORS[::-1, :1]], axis=1)
    assert mig(tiny.rotated(factors), factors) < 0.1
    assert mig(NOISE, FACTORS) < 0.02


def test_a_factor_that_does_not_vary_does_not_count():
    codes = np.concatenate([FACTORS, NOISE], axis=1)
    constant = np.concatenate([FACTORS, np.ones([4000, 1])], axis=1)
    assert mig(codes, constant) == pytest.approx(mig(codes, FACTORS))
    assert np.isnan(mig(codes, np.ones([4000, 1])))
