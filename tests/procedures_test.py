import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from dcign_tf import objective, procedures
from dcign_tf.procedures import PROCEDURES, ProcedureConfig

G, B, L = 2, 3, 4
RNG = np.random.default_rng(0)
MEAN = RNG.normal(size=(G, B, L))
LOG_VARIANCE = RNG.normal(size=(G, B, L))
ACTIVE = np.array([[True, False, False, True], [False, False, True, False]])
NOISE = RNG.normal(size=(G, B, L))
# The decoder is a sum with these weights: the gradient of its result at a code.
UPSTREAM = RNG.normal(size=(G, B, L))


def config(procedure, **settings):
    if procedure == "beta_vae":
        settings = {"beta": 4.0, **settings}
    return ProcedureConfig(procedure=procedure, **settings)


def computed(settings, mean=MEAN, log_variance=LOG_VARIANCE, active=ACTIVE, **arguments):
    """Value and gradients of what `DCIGN.measure` makes of posteriors, for a linear decoder."""
    mean, log_variance = tf.constant(mean), tf.constant(log_variance)
    with tf.GradientTape() as tape:
        tape.watch([mean, log_variance])
        out = settings.posteriors(mean, log_variance, tf.constant(active), **arguments)
        codes = out.mean + tf.exp(out.log_variance / 2) * NOISE
        divergence = objective.divergence(out.mean, out.log_variance)
        divergence = divergence if out.counts is None else divergence * out.counts
        weight = settings.kl_weight(arguments.get("step", 0), "float64")
        total = tf.reduce_sum(codes * UPSTREAM) + weight * tf.reduce_sum(divergence)
    return [total.numpy(), *(g.numpy() for g in tape.gradient(total, [mean, log_variance]))]


def by_hand(settings, shared_parameters, shared, counts):
    """The same in NumPy.

    Args:
        settings: of which beta is taken.
        shared_parameters: for means [B] and log-variances [B], the group's mean and log-variance, and their
            derivatives: of the mean by means and log-variances, of the log-variance by log-variances; [B] each.
        shared: which latents are, bool [G, L].
        counts: how often a shared latent's divergence counts in each image.
    """
    total, d_mean, d_log_variance = 0.0, np.zeros((G, B, L)), np.zeros((G, B, L))
    for g, latent in itertools.product(range(G), range(L)):
        m, s = MEAN[g, :, latent], LOG_VARIANCE[g, :, latent]
        u, e = UPSTREAM[g, :, latent], NOISE[g, :, latent]
        if shared[g, latent]:
            mean, log_variance, by_m, by_s, log_by_s = shared_parameters(m, s)
            mean, log_variance = np.full(B, mean), np.full(B, log_variance)
            often = counts
        else:
            mean, log_variance, often = m, s, 1.0
        deviation = np.exp(log_variance / 2)
        weight = settings.beta * often
        divergence = (mean**2 + np.exp(log_variance) - 1 - log_variance) / 2
        total += (u * (mean + deviation * e)).sum() + weight * divergence.sum()
        at_mean = u + weight * mean
        at_log_variance = u * e * deviation / 2 + weight * (np.exp(log_variance) - 1) / 2
        if shared[g, latent]:
            d_mean[g, :, latent] = at_mean.sum() * by_m
            d_log_variance[g, :, latent] = at_mean.sum() * by_s + at_log_variance.sum() * log_by_s
        else:
            d_mean[g, :, latent], d_log_variance[g, :, latent] = at_mean, at_log_variance
    return total, d_mean, d_log_variance


def product(m, s):
    precisions = np.exp(-s)
    share = precisions / precisions.sum()
    mean = (m * precisions).sum() / precisions.sum()
    return mean, -np.log(precisions.sum()), share, share * (mean - m), share


def average(m, s):
    variances = np.exp(s)
    share = variances / variances.sum()
    return m.mean(), np.log(variances.mean()), np.full(B, 1 / B), np.zeros(B), share


def seems_shared(mean=MEAN, log_variance=LOG_VARIANCE):
    """Ada-GVAE's choice, pair by pair."""
    size = mean.shape[1]
    distance = np.zeros((len(mean), mean.shape[2]))
    for i, j in itertools.permutations(range(size), 2):
        v_i, v_j = np.exp(log_variance[:, i]), np.exp(log_variance[:, j])
        difference = mean[:, i] - mean[:, j]
        distance += 0.5 * (np.log(v_j / v_i) + (v_i + difference**2) / v_j - 1)
    distance /= size * (size - 1)
    threshold = (distance.max(axis=1) + distance.min(axis=1)) / 2
    return distance, distance < threshold[:, np.newaxis]


@pytest.mark.parametrize("beta", [1.0, 2.5])
@pytest.mark.parametrize(
    ("procedure", "parameters", "shared", "counts"),
    [
        ("sgvb", None, np.zeros_like(ACTIVE), 1),
        ("ml_vae", product, ~ACTIVE, 1 / B),
        ("group_vae", average, ~ACTIVE, 1 / B),
        ("ada_gvae", average, seems_shared()[1], 1),
    ],
)
def test_gradients_are_those_derived_by_hand(procedure, parameters, shared, counts, beta):
    settings = config(procedure, beta=beta)
    for ours, expected in zip(
        computed(settings), by_hand(settings, parameters, shared, counts), strict=True
    ):
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-12)


def test_beta_vae_is_sgvb_with_another_weight():
    for ours, expected in zip(
        computed(config("beta_vae", beta=3.0)), computed(config("sgvb", beta=3.0)), strict=True
    ):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("beta", [1.0, 2.5])
@pytest.mark.parametrize("add", [False, True])
def test_the_clamps_gradients_are_those_derived_by_hand(add, beta):
    settings = config(
        "clamp",
        invariance_strength=0.3,
        beta=beta,
        clamp_gradient="add" if add else "replace",
    )
    total, *gradients = computed(settings, loss_scale=2.0)
    value = 0.0
    for g, latent in itertools.product(range(G), range(L)):
        active = ACTIVE[g, latent]
        raw = [values[g, :, latent] for values in (MEAN, LOG_VARIANCE)]
        m, s = raw if active else (np.full(B, values.mean()) for values in raw)
        u, e = UPSTREAM[g, :, latent], NOISE[g, :, latent]
        deviation = np.exp(s / 2)
        value += (u * (m + deviation * e)).sum() + beta * ((m**2 + np.exp(s) - 1 - s) / 2).sum()
        passed = [u + beta * m, u * e * deviation / 2 + beta * (np.exp(s) - 1) / 2]
        for gradient, values, objectives in zip(gradients, raw, passed, strict=True):
            # The signal takes part in a sum that was not multiplied by the loss scale here, so it is twice as large.
            signal = 0.6 * (values - values.mean())
            through = objectives.mean() if add else 0.0
            expected = objectives if active else through + signal
            np.testing.assert_allclose(gradient[g, :, latent], expected, rtol=1e-10, atol=1e-12)
    assert total == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("step", [0, 1, 2])
def test_an_exchanges_gradients_are_those_derived_by_hand(step):
    settings = config("exchange", beta=2.5)
    total, *gradients = computed(settings, step=step)
    # Whose shared latents an image is drawn with: in a group of three first the one's before, then the one's after.
    donors = [[2, 0, 1], [1, 2, 0]][step % 2]
    terms, expected = [], [np.zeros((G, B, L)), np.zeros((G, B, L))]
    for g, image, latent in np.ndindex(G, B, L):
        donor = image if ACTIVE[g, latent] else donors[image]
        m, s = MEAN[g, donor, latent], LOG_VARIANCE[g, donor, latent]
        u, e = UPSTREAM[g, image, latent], NOISE[g, image, latent]
        terms.append(u * (m + np.exp(s / 2) * e) + 2.5 * (m**2 + np.exp(s) - 1 - s) / 2)
        expected[0][g, donor, latent] += u + 2.5 * m
        expected[1][g, donor, latent] += u * e * np.exp(s / 2) / 2 + 2.5 * (np.exp(s) - 1) / 2
    assert total == pytest.approx(sum(terms), rel=1e-12)
    for ours, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_all_images_of_a_group_meet():
    mean = tf.constant(np.arange(5.0)[np.newaxis, :, np.newaxis])
    met = {
        (image, int(donor))
        for step in range(4)
        for image, donor in enumerate(
            config("exchange").posteriors(mean, mean, tf.constant([[False]]), step).mean[0, :, 0]
        )
    }
    assert met == {(a, b) for a in range(5) for b in range(5) if a != b}


def test_pairs_of_images_are_locatellos():
    """For two images: both directions' divergence by the closed form of one, and the threshold at half of the range."""
    mean, log_variance = MEAN[:, :2], LOG_VARIANCE[:, :2]
    distance, shared = seems_shared(mean, log_variance)
    first, second = (
        objective.posterior(tf.constant(mean[:, i]), tf.constant(log_variance[:, i]))
        for i in (0, 1)
    )
    both = (first.kl_divergence(second) + second.kl_divergence(first)) / 2
    np.testing.assert_allclose(distance, both, rtol=1e-10)
    out = config("ada_gvae").posteriors(
        tf.constant(mean), tf.constant(log_variance), tf.zeros([G, L], tf.bool)
    )
    np.testing.assert_array_equal(out.mean[:, 0] == out.mean[:, 1], shared)
    assert shared.any() and not shared.all()


def test_the_adaptive_rule_does_not_look_at_what_varies():
    settings = config("ada_gvae")
    for ours, expected in zip(computed(settings), computed(settings, active=~ACTIVE), strict=True):
        np.testing.assert_array_equal(ours, expected)


@given(
    st.integers(2, 6).flatmap(
        lambda size: st.lists(
            st.tuples(st.floats(-5, 5), st.floats(-4, 4)), min_size=size, max_size=size
        )
    )
)
def test_the_divergence_of_all_pairs_is_their_mean(images):
    mean, log_variance = np.array(images).T[:, np.newaxis, :, np.newaxis]
    distance, _ = seems_shared(mean, log_variance)
    ours = procedures.pairwise_divergence(tf.constant(mean), tf.constant(log_variance))
    scale = np.exp(np.ptp(log_variance)) * (1 + np.ptp(mean) ** 2)
    np.testing.assert_allclose(ours, distance, atol=1e-13 * scale, rtol=1e-10)


@pytest.mark.parametrize("procedure", PROCEDURES)
def test_groups_do_not_mix_and_images_are_in_no_order(procedure):
    whole = computed(config(procedure))[1:]
    order = [2, 0, 1]
    out = config(procedure).posteriors(*map(tf.constant, (MEAN, LOG_VARIANCE, ACTIVE)))
    turned = config(procedure).posteriors(
        *map(tf.constant, (MEAN[:, order], LOG_VARIANCE[:, order], ACTIVE))
    )
    alone = config(procedure).posteriors(
        *map(tf.constant, (MEAN[:1], LOG_VARIANCE[:1], ACTIVE[:1]))
    )
    for values, expected in zip(turned[:2], out[:2], strict=True):
        np.testing.assert_allclose(values, expected.numpy()[:, order], rtol=1e-12)
    for values, expected in zip(alone[:2], out[:2], strict=True):
        np.testing.assert_allclose(values, expected[:1], rtol=1e-12)
    assert all(np.isfinite(gradient).all() for gradient in whole)


@pytest.mark.parametrize("procedure", PROCEDURES)
def test_certain_and_vague_posteriors_stay_finite(procedure):
    mean = np.array([[[0.0], [1e3], [-1e3]]], np.float32)
    log_variance = np.array([[[-40.0], [0.0], [40.0]]], np.float32)
    out = config(procedure).posteriors(
        tf.constant(mean), tf.constant(log_variance), tf.constant([[False]])
    )
    assert np.isfinite(out.mean).all() and np.isfinite(out.log_variance).all()


def test_warming_up():
    settings = config("clamp", invariance_warmup_steps=10, kl_warmup_steps=4, beta=3.0)
    assert [float(settings.kl_weight(step)) for step in (0, 1, 2, 4, 9)] == pytest.approx(
        [0, 0.75, 1.5, 3, 3]
    )
    assert config("clamp", beta=3.0).kl_weight(0) == 3.0
    inactive = np.zeros_like(ACTIVE)
    for step, share in ((0, 0.0), (5, 0.5), (10, 1.0), (99, 1.0)):
        _, gradient, _ = computed(settings, active=inactive, step=step)
        distance = MEAN - MEAN.mean(axis=1, keepdims=True)
        np.testing.assert_allclose(gradient, 0.01 * share * distance, rtol=1e-6)


def test_which_procedures_are_told_the_factor():
    told = {name for name in PROCEDURES if config(name).names_latents}
    assert told == {"clamp", "exchange", "ml_vae", "group_vae"}
    for name in PROCEDURES:
        ours, other = computed(config(name)), computed(config(name), active=~ACTIVE)
        assert (ours[0] != other[0]) == (name in told)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"procedure": "magic"}, "procedure: got 'magic', must be one of clamp, exchange, ml_vae"),
        ({"clamp_to": "median"}, "clamp_to: got 'median', must be one of mean, first, another"),
        ({"clamp_gradient": "both"}, "clamp_gradient: got 'both', must be one of replace, add"),
        ({"invariance": "some"}, "invariance: got 'some', must be one of absolute, relative"),
        ({"invariance_strength": float("nan")}, "invariance_strength: got nan"),
        ({"beta": -1.0}, "beta: got -1.0, must be 0 or more"),
        ({"beta": float("inf")}, "beta: got inf"),
        ({"kl_warmup_steps": -1}, "kl_warmup_steps: got -1"),
        ({"invariance_warmup_steps": -1}, "invariance_warmup_steps: got -1"),
        ({"procedure": "beta_vae"}, "beta: got 1, must be another number for beta_vae"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ProcedureConfig(**settings)
