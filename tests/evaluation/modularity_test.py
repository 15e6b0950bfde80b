import numpy as np
import pytest

from dcign_tf.evaluation.modularity import area_under_curves, explicitness, modularity
from tests.evaluation import tiny

RNG = np.random.default_rng(0)
FACTORS = RNG.uniform(-1, 1, [1200, 4])
NOISE = RNG.standard_normal([1200, 4])


def test_modularity_by_hand():
    factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 5)
    both = factors[:, 0] + 2.0 * factors[:, 1]
    constant = np.zeros(20)
    # A latent of one factor, one that knows all of both, one that knows nothing.
    codes = np.stack([factors[:, 0], both, constant], axis=1)
    assert modularity(codes, factors) == pytest.approx((1 + 0 + 0) / 3)
    # Information log 2 on the first factor, and of the second what the three values leave.
    some = factors[:, 0] + factors[:, 1] * (factors[:, 0] == 0) * 2.0
    told = 0.25 * np.log(2) + 0.25 * np.log(0.5 / 0.75) * 0
    told = 0.25 * np.log(0.25 / (0.25 * 0.5)) * 2  # of values 0 and 2; of value 1 nothing
    codes = np.stack([some, constant], axis=1)
    assert modularity(codes, factors) == pytest.approx((1 - (told / np.log(2)) ** 2) / 2)


def test_modularity_of_perfect_and_rotated_codes():
    assert modularity(np.tanh(FACTORS), FACTORS) > 0.95
    assert modularity(tiny.rotated(FACTORS), FACTORS) < 0.6


def test_explicitness_of_perfect_rotated_and_random_codes():
    # A line tells low from high values; those in the middle it does not, so classes are what is told best.
    classes = (FACTORS > 0).astype(int)
    assert explicitness(FACTORS, classes) > 0.99
    assert explicitness(tiny.rotated(FACTORS), classes) > 0.99  # Entangled, but all is there.
    assert explicitness(NOISE, classes) == pytest.approx(0.5, abs=0.05)


def test_area_under_the_curve_by_hand():
    codes = np.array([[0.0], [1.0], [2.0], [3.0]])
    values = np.array([0, 0, 1, 1])
    # In the order of the code: 0 1 0 1, so that of the four pairs of unlike values three are in order.
    assert area_under_curves(codes, values, codes, np.array([0, 1, 0, 1])) == pytest.approx(3 / 4)


def test_values_that_were_never_seen_do_not_count():
    codes = np.array([[0.0], [1.0], [2.0], [3.0]])
    values = np.array([0, 0, 1, 1])
    more = np.concatenate([codes, [[9.0]]])
    area = area_under_curves(codes, values, more, np.array([0, 0, 1, 1, 7]))
    assert area == pytest.approx((1 + 2 / 3) / 2)


def test_what_does_not_vary():
    assert np.isnan(explicitness(NOISE, np.zeros([1200, 1], int)))
    assert modularity(np.zeros([9, 2]), RNG.integers(0, 2, [9, 2])) == 0
    with pytest.raises(ValueError, match="got 1, must be 2"):
        modularity(NOISE, FACTORS[:, :1])
