import keras
import numpy as np
import pytest
import tensorflow as tf

from dcign_tf import optimizers

SETTINGS = [
    (optimizers.Adam, keras.optimizers.Adam, {"beta_2": 0.99, "epsilon": 1e-4}),
    (optimizers.RMSprop, keras.optimizers.RMSprop, {"momentum": 0.1, "weight_decay": 0.01}),
]
RATE = keras.optimizers.schedules.CosineDecay(0.01, 20)


def variables():
    rng = np.random.default_rng(3)
    return [keras.Variable(rng.normal(size=shape).astype(np.float32)) for shape in ((3, 4), (5,))]


def gradients(seed):
    rng = np.random.default_rng(seed)
    return [tf.constant(rng.normal(size=shape), tf.float32) for shape in ((3, 4), (5,))]


def built(kind, *, of=None, **settings):
    optimizer = kind(RATE, **settings)
    optimizer.build(variables() if of is None else of)
    return optimizer


@pytest.mark.parametrize(("ours", "kerass", "settings"), SETTINGS)
def test_finite_steps_are_kerass(ours, kerass, settings):
    a, b = variables(), variables()
    mine, reference = built(ours, of=a, **settings), built(kerass, of=b, **settings)
    apply = tf.function(lambda *g: mine.apply(g, a))
    for step in range(8):
        apply(*gradients(step))
        reference.apply(gradients(step), b)
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=2e-6, atol=1e-7)
    assert int(mine.iterations.numpy()) == 8


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("ours", "_", "settings"), SETTINGS)
def test_a_step_with_one_bad_gradient_changes_nothing_and_counts(ours, _, settings, bad):
    mine = variables()
    # Weight decay is no matter of gradients and goes on.
    optimizer = built(ours, of=mine, **{**settings, "weight_decay": 0.0})
    apply = tf.function(lambda *g: optimizer.apply(g, mine))
    apply(*gradients(0))
    watched = [v for v in (*mine, *optimizer.variables) if v.name not in ("iteration", "applies")]
    before = [v.numpy() for v in watched]
    first, second = gradients(1)
    apply(first, tf.tensor_scatter_nd_update(second, [[2]], [bad]))
    for variable, value in zip(watched, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)
    assert int(optimizer.iterations.numpy()) == 2
    apply(*gradients(2))
    assert all((v.numpy() != old).any() for v, old in zip(mine, before, strict=False))


@pytest.mark.parametrize(("ours", "kerass", "settings"), SETTINGS)
def test_the_loss_scale_cancels_and_adapts(ours, kerass, settings, monkeypatch):
    monkeypatch.setattr(optimizers, "_GROWTH_STEPS", 3)
    a, b = variables(), variables()
    mine = built(ours, of=a, dynamic_loss_scale=True, **settings)
    reference = built(kerass, of=b, **settings)
    scales = []
    for step in range(4):
        scale = float(mine.scale_loss(1.0))
        mine.apply([g * scale for g in gradients(step)], a)
        reference.apply(gradients(step), b)
        scales.append(scale)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=2e-6, atol=1e-7)
    assert scales == [2.0**15, 2.0**15, 2.0**15, 2.0**16]
    mine.apply([g * np.inf for g in gradients(9)], a)
    assert float(mine.scale_loss(2.0)) == 2.0**16
    for step in range(3):
        mine.apply(gradients(step), a)
    assert float(mine.scale_loss(1.0)) == 2.0**16, "it grows only after three in a row"


def test_without_loss_scale_the_loss_stays():
    assert built(optimizers.Adam).scale_loss(3.0) == 3.0


@pytest.mark.parametrize(("ours", "_", "settings"), SETTINGS)
def test_they_can_be_saved(ours, _, settings):
    optimizer = ours(0.01, dynamic_loss_scale=True, **settings)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is ours and again.get_config() == optimizer.get_config()
