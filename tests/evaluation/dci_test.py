import numpy as np
import pytest

from dcign_tf.evaluation.dci import completeness, dci, disentanglement, of_groups
from tests.evaluation import tiny

RNG = np.random.default_rng(0)
FACTORS = RNG.uniform(-1, 1, [600, 4])
NOISE = RNG.standard_normal([600, 4])


def test_importances_of_one_latent_for_each_factor():
    assert disentanglement(np.eye(3)) == pytest.approx(1)
    assert completeness(np.eye(3)) == pytest.approx(1)


def test_importances_spread_evenly():
    assert disentanglement(np.ones([5, 3])) == pytest.approx(0)
    assert completeness(np.ones([5, 3])) == pytest.approx(0)


def test_by_hand():
    # Latent 0 speaks of both factors, latent 1 of the second only, latent 2 of none.
    importances = np.array([[1.0, 0.5], [0.0, 0.5], [0.0, 0.0]])
    both = -(2 / 3 * np.log2(2 / 3) + 1 / 3 * np.log2(1 / 3))
    assert disentanglement(importances) == pytest.approx(0.75 * (1 - both) + 0.25)
    assert completeness(importances) == pytest.approx((1 + 1 - np.log(2) / np.log(3)) / 2)


def test_latents_taken_as_one():
    # Two latents share a factor: together they have it to themselves.
    importances = np.array([[0.5, 0.0], [0.5, 0.0], [0.0, 1.0]])
    grouped = of_groups(importances, [np.array([0, 1]), np.array([2])])
    assert grouped.tolist() == [[1, 0], [0, 1]]
    assert completeness(importances) < 0.9 and completeness(grouped) == pytest.approx(1)


def test_importances_of_nothing():
    assert disentanglement(np.zeros([3, 2])) == 0
    assert completeness(np.zeros([3, 2])) == pytest.approx(0)


def test_a_perfect_code():
    result = dci(np.concatenate([np.tanh(FACTORS[:, ::-1]), NOISE], axis=1), FACTORS)
    assert min(result) > 0.95


def test_a_rotated_code_informs_but_mixes():
    result = dci(tiny.rotated(FACTORS), FACTORS)
    assert result.disentanglement < 0.3
    assert result.completeness < 0.3
    assert result.informativeness > 0.6


def test_a_random_code_tells_nothing():
    result = dci(NOISE, FACTORS)
    assert result.disentanglement < 0.1
    assert result.informativeness < 0.1


def test_classes_are_classified():
    classes = (FACTORS[:, :2] > 0).astype(int)
    result = dci(FACTORS, classes)
    assert min(result) > 0.95


def test_it_is_repeatable():
    assert dci(NOISE[:200], FACTORS[:200]) == dci(NOISE[:200], FACTORS[:200])


def test_one_factor_cannot_be_mixed_with_others():
    with pytest.raises(ValueError, match="got 1, must be 2"):
        dci(NOISE, FACTORS[:, :1])
