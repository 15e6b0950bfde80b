import numpy as np
import pytest

from dcign_tf.evaluation.sap import sap, squared_correlations
from tests.evaluation import tiny

RNG = np.random.default_rng(0)
FACTORS = RNG.uniform(-1, 1, [4000, 3])
NOISE = RNG.standard_normal([4000, 5])


def test_scores_are_squared_correlations():
    codes = np.concatenate([FACTORS @ RNG.standard_normal([3, 3]), NOISE], axis=1)
    scores = squared_correlations(codes, FACTORS)
    for row in range(8):
        for column in range(3):
            r = np.corrcoef(codes[:, row], FACTORS[:, column])[0, 1]
            assert scores[row, column] == pytest.approx(r**2)


def test_the_gap_by_hand():
    factor = np.array([[-1.0], [0.0], [1.0]])
    # Correlations 1 and 1/2: the second latent is (-1, 2, -1) + (-1, 0, 1), in that share.
    second = np.array([-1.0, 0.0, 1.0]) + np.array([-1.0, 2.0, -1.0])
    codes = np.stack([factor[:, 0], second, np.zeros(3)], axis=1)
    assert sap(codes, factor) == pytest.approx(1 - 0.25)


def test_perfect_rotated_and_random_codes():
    factors = np.concatenate([FACTORS, FACTORS[::-1, :1]], axis=1)
    assert sap(np.concatenate([factors * 5 - 2, NOISE], axis=1), factors) > 0.99
    assert sap(tiny.rotated(factors), factors) < 0.05
    assert sap(NOISE, FACTORS) < 0.01


def test_what_does_not_vary_knows_nothing():
    assert squared_correlations(np.ones([9, 2]), RNG.random([9, 1])).max() == 0
    assert np.isnan(sap(NOISE, np.ones([4000, 1])))
