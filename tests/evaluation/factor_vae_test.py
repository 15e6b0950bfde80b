import numpy as np
import pytest

from dcign_tf.evaluation.factor_vae import factor_vae

RNG = np.random.default_rng(0)
VARIED = np.repeat([0, 1, 2], 20)


def _groups(latents_of: dict[int, list[int]], scale: np.ndarray) -> np.ndarray:
    """Codes of groups in which only the latents of one factor vary."""
    codes = np.repeat(RNG.standard_normal([60, 1, len(scale)]), 12, axis=1)
    for group, factor in enumerate(VARIED):
        for latent in latents_of[factor]:
            codes[group, :, latent] = RNG.standard_normal(12)
    return codes * scale


def test_a_perfect_code_whatever_its_scale_and_number_of_latents():
    scale = np.array([0.1, 1.0, 30.0, 5.0])
    codes = _groups({0: [0], 1: [3], 2: [1, 2]}, scale)
    assert factor_vae(codes, VARIED, scale**2) == 1


def test_a_random_code_is_right_by_chance():
    codes = RNG.standard_normal([60, 12, 8])
    assert factor_vae(codes, VARIED, np.ones(8)) == pytest.approx(1 / 3, abs=0.12)


def test_two_factors_in_one_latent_cannot_be_told_apart():
    scale = np.ones(3)
    codes = _groups({0: [0], 1: [0], 2: [2]}, scale)
    assert factor_vae(codes, VARIED, scale) == pytest.approx(2 / 3)


def test_collapsed_latents_take_no_part():
    scale = np.array([1.0, 1.0, 1.0, 0.01])
    codes = _groups({0: [0], 1: [1], 2: [2]}, scale)
    codes[:, :, 3] = RNG.standard_normal([60, 12])
    assert factor_vae(codes, VARIED, scale**2) == 1
    assert np.isnan(factor_vae(codes, VARIED, np.zeros(4)))


def test_a_latent_nobody_voted_for_tells_nothing():
    # Of each factor, groups with even and with odd numbers teach and test; they move different latents here.
    codes = np.zeros([4, 6, 4])
    for group, latent in enumerate((0, 1, 2, 3)):
        codes[group, :, latent] = RNG.standard_normal(6)
    assert factor_vae(codes, np.array([0, 0, 1, 1]), np.ones(4)) == 0


@pytest.mark.parametrize(
    ("codes", "varied", "variances", "told"),
    [
        (np.zeros([4, 6, 3]), np.array([0, 0, 1]), np.ones(3), "varied, variances"),
        (np.zeros([4, 6, 3]), np.array([0, 0, 1, 1]), np.ones(2), "varied, variances"),
        (np.zeros([3, 6, 3]), np.array([0, 0, 1]), np.ones(3), "2 groups"),
        (np.zeros([4, 3, 3]), np.array([0, 0, 1, 1]), np.ones(3), "4 images"),
    ],
)
def test_arrays_that_do_not_fit(codes, varied, variances, told):
    with pytest.raises(ValueError, match=told):
        factor_vae(codes, varied, variances)
