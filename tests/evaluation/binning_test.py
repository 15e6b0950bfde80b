import numpy as np
import pytest

from dcign_tf.evaluation import binning


def test_bins_of_equal_frequency_hold_as_many_values_each():
    values = np.random.default_rng(0).standard_normal(1000) ** 3
    bins = binning.equal_frequency(values, 20)
    assert np.bincount(bins).tolist() == [50] * 20
    assert (np.diff(bins[np.argsort(values)]) >= 0).all()


def test_equal_values_share_a_bin():
    values = np.array([1.0] * 10 + [2.0] * 10)
    bins = binning.equal_frequency(values, 4)
    assert len(set(bins[:10])) == len(set(bins[10:])) == 1
    assert bins[0] < bins[10]
    assert not np.ptp(binning.equal_frequency(np.ones(5), 4))


def test_bins_of_equal_width():
    values = np.array([0.0, 0.9, 1.0, 2.5, 3.9, 4.0])
    assert binning.equal_width(values, 4).tolist() == [0, 0, 1, 2, 3, 3]
    assert binning.equal_width(np.full(3, 7.0), 4).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("codes", "factors", "told"),
    [
        (np.zeros([4, 3]), np.zeros([5, 2]), "shapes"),
        (np.zeros([4]), np.zeros([4, 2]), "shapes"),
        (np.zeros([1, 3]), np.zeros([1, 2]), "2 or more"),
        (np.zeros([4, 1]), np.zeros([4, 2]), "1 latents"),
        (np.full([4, 3], np.nan), np.zeros([4, 2]), "finite"),
    ],
)
def test_arrays_that_do_not_fit(codes, factors, told):
    with pytest.raises(ValueError, match=told):
        binning.check(codes, factors)
