import functools
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from dcign_tf import optimizers

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Keras's is for matrices, and says Adam's settings otherwise.
KERASS_MUON = functools.partial(
    keras.optimizers.Muon,
    momentum=0.9,
    weight_decay=None,
    adam_weight_decay=None,
    adam_beta_2=0.99,
    epsilon=1e-4,
)
SETTINGS = [
    (optimizers.Adam, keras.optimizers.Adam, {"beta_2": 0.99, "epsilon": 1e-4}),
    (optimizers.RMSprop, keras.optimizers.RMSprop, {"momentum": 0.1, "weight_decay": 0.01}),
    (optimizers.Muon, KERASS_MUON, {}),
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
            # Muon's products are done in another order.
            rtol = 1e-4 if ours is optimizers.Muon else 2e-6
            np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=rtol, atol=rtol / 20)
    assert int(mine.iterations.numpy()) == 8


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("ours", "_", "settings"), SETTINGS)
def test_a_step_with_one_bad_gradient_changes_nothing_and_counts(ours, _, settings, bad):
    mine = variables()
    # Weight decay is no matter of gradients and goes on.
    without_decay = {"weight_decay": 0.0} if ours is optimizers.RMSprop else {}
    optimizer = built(ours, of=mine, **{**settings, **without_decay})
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
    rtol = 1e-4 if ours is optimizers.Muon else 2e-6
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=rtol, atol=rtol / 20)
    assert scales == [2.0**15, 2.0**15, 2.0**15, 2.0**16]
    mine.apply([g * np.inf for g in gradients(9)], a)
    assert float(mine.scale_loss(2.0)) == 2.0**16
    for step in range(3):
        mine.apply(gradients(step), a)
    assert float(mine.scale_loss(1.0)) == 2.0**16, "it grows only after three in a row"


@pytest.mark.parametrize("shape", [(6, 200), (200, 6), (7, 7), (400, 90)])
def test_orthogonalizing_moves_each_singular_value_by_the_polynomials(shape):
    rng = np.random.default_rng(5)
    u, _, vt = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    # From much larger to much smaller, as gradients have them.
    values = np.geomspace(1, 1e-3, len(vt))
    matrix = u * values @ vt
    moved = values / np.linalg.norm(values)
    for _ in range(5):
        moved = 3.4445 * moved - 4.775 * moved**3 + 2.0315 * moved**5
    found = optimizers.orthogonalized(tf.constant(1e3 * matrix, tf.float32)).numpy()
    np.testing.assert_allclose(found, u * moved @ vt, atol=2e-3)
    assert (moved[values > 0.2] > 0.6).all() and (moved < 1.3).all()


def test_orthogonalizing_nothing_gives_nothing():
    assert not optimizers.orthogonalized(tf.zeros([3, 5])).numpy().any()


def test_a_convolutions_kernel_is_the_matrix_it_multiplies_windows_by():
    rng = np.random.default_rng(7)
    values = rng.normal(size=(3, 3, 2, 4)).astype(np.float32)
    kernel, matrix = keras.Variable(values), keras.Variable(values.reshape(18, 4))
    built(optimizers.Muon, of=[kernel]).apply([tf.constant(values)], [kernel])
    built(optimizers.Muon, of=[matrix]).apply([tf.reshape(tf.constant(values), [18, 4])], [matrix])
    np.testing.assert_array_equal(kernel.numpy().reshape(18, 4), matrix.numpy())
    # An update is as large as Adam's are: 0.2 of the rate.
    size = np.sqrt(np.mean((kernel.numpy() - values) ** 2))
    assert 0.75 < size / (0.2 * 0.01) < 1.2


@pytest.mark.parametrize("shape", [(3, 3, 5, 1), (1, 6)])
def test_a_single_row_or_column_is_adams(shape):
    gradient = tf.constant(np.random.default_rng(8).normal(size=shape), tf.float32)
    results = []
    for kind in (optimizers.Muon, optimizers.Adam):
        variable = keras.Variable(np.ones(shape, np.float32))
        built(kind, of=[variable], beta_2=0.99, epsilon=1e-4).apply([gradient], [variable])
        results.append(variable.numpy())
    np.testing.assert_array_equal(*results)


def test_without_loss_scale_the_loss_stays():
    assert built(optimizers.Adam).scale_loss(3.0) == 3.0


@pytest.mark.parametrize(("ours", "_", "settings"), SETTINGS)
def test_they_can_be_saved(ours, _, settings):
    optimizer = ours(0.01, dynamic_loss_scale=True, **settings)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is ours and again.get_config() == optimizer.get_config()


_ON_TWO_DEVICES = """
import sys

import keras
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from dcign_tf import optimizers
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    variable = keras.Variable([[1.0, 2.0], [3.0, 5.0]])
    optimizer = getattr(optimizers, sys.argv[1])(0.1, dynamic_loss_scale=True)
    optimizer.build([variable])

@tf.function
def step(value):
    def on_replica():
        second = tf.distribute.get_replica_context().replica_id_in_sync_group == 1
        optimizer.apply([tf.where(second, value, 1.0) * tf.eye(2)], [variable])
    strategy.run(on_replica)

def copies(of):
    return [copy.numpy().tolist() for copy in strategy.experimental_local_results(of.value)]

step(tf.constant(float("inf")))
assert copies(variable) == [[[1.0, 2.0], [3.0, 5.0]]] * 2
assert copies(optimizer.loss_scale) == [2.0**14] * 2
step(tf.constant(1.0))
first, second = copies(variable)
assert first == second and first[0][0] < 1.0 and first[0][1] == 2.0
assert copies(optimizer.loss_scale) == [2.0**14] * 2
"""


@pytest.mark.parametrize("name", ["Adam", "Muon"])
def test_one_replicas_bad_gradient_stops_all_of_them(name):
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", _ON_TWO_DEVICES, name], cwd=ROOT, env=quiet, check=True)
