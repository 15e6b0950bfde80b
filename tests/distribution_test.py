import json
import signal
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from dcign_tf import distribution, load_model, training
from dcign_tf.datasets.scenes import SceneConfig
from dcign_tf.datasets.source import RenderedSource, Share
from dcign_tf.distribution import Cluster, Place, read_tf_config
from dcign_tf.errors import DcignError, UsageError
from tests import clusters
from tests.training_test import points, tiny_config

SCENES = SceneConfig(image_size=38, group_size=4, supersample=1)
STEPS = 20


def config_of(strategy="auto", **changes):
    return tiny_config(
        steps=STEPS, groups_per_step=4, strategy=strategy, checkpoint_every=10, summary_every=4,
        pictures_every=1000, **changes,
    )  # fmt: skip


# One process of a cluster; notes which groups it renders to train on, and the weights it ends with.
TRAIN = """
import os, sys, threading
import keras
import tensorflow as tf
floatx, strategy, devices, workdir, notes = sys.argv[1:]
keras.config.set_floatx(floatx)
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * int(devices)
)
from dcign_tf import distribution, training
from dcign_tf.datasets.source import RenderedSource
from tests import distribution_test
config = distribution_test.config_of(strategy)
cluster = distribution.join(config.strategy, config.groups_per_step)
assert cluster.strategy.num_replicas_in_sync == (2 if strategy != "one_device" else 1)
source = RenderedSource(distribution_test.SCENES)
draw, numbers = source._sampler.group, []
def noted(split, factor, index, variant=0):
    if variant:
        numbers.append(index)
    return draw(split, factor, index, variant)
source._sampler.group = noted
model = training.train(config, source, workdir, cluster=cluster)
import numpy as np
np.savez(f"{notes}/{cluster.index}.npz", *model.get_weights(), numbers=numbers)
"""


def trained(path):
    """The weights that a process of `TRAIN` ended with, and the numbers of the groups it rendered."""
    with np.load(path) as file:
        weights = [file[name] for name in file.files if name != "numbers"]
        return weights, file["numbers"]


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """Weights after all steps on one device, by precision; the start among them."""

    def train(floatx):
        if floatx not in found:
            source = RenderedSource(SCENES)
            before = keras.config.floatx()
            keras.config.set_floatx(floatx)
            keras.config.set_dtype_policy(floatx)
            try:
                start = training.make_model(config_of(), source).get_weights()
                workdir = tmp_path_factory.mktemp("one_device")
                model = training.train(config_of("one_device"), source, workdir)
                found[floatx] = start, model.get_weights(), workdir
            finally:
                keras.config.set_floatx(before)
                keras.config.set_dtype_policy(before)
        return found[floatx]

    found: dict[str, tuple] = {}
    return train


def assert_same(ours, one_device, floatx):
    start, expected, _ = one_device(floatx)
    moved = max(np.abs(a - b).max() for a, b in zip(expected, start, strict=True))
    assert moved > 1e-3
    for own, theirs in zip(ours, expected, strict=True):
        assert own.dtype == theirs.dtype == floatx or own.dtype == "float32"
        tolerance = 1e-12 if floatx == "float64" else 0.01 * moved
        np.testing.assert_allclose(own, theirs, atol=tolerance, rtol=0)


@pytest.mark.parametrize("floatx", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_two_workers_give_one_devices_weights_and_read_each_group_once(
    floatx, one_device, tmp_path
):
    workdir = tmp_path / "run"
    environments = [{"TF_CONFIG": text} for text in clusters.tf_configs(2)]
    arguments = ["-c", TRAIN, floatx, "multi_worker", "1", str(workdir), str(tmp_path)]
    with clusters.processes(arguments, environments) as workers:
        outputs = [worker.communicate()[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    (weights, first), (same, second) = (trained(tmp_path / f"{i}.npz") for i in range(2))
    for ours, theirs in zip(weights, same, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert_same(weights, one_device, floatx)

    # Of each step's four groups the first two are one worker's and the last two the other's, each once. Some more
    # were rendered ahead.
    for numbers, share in ((first, {0, 1}), (second, {2, 3})):
        assert len(set(numbers)) == len(numbers)
        assert set(numbers % 4) == share
        assert {n for n in range(4 * STEPS) if n % 4 in share} <= set(numbers)

    # One set of logs and checkpoints, and of those the numbers that one device logs.
    assert len(list(workdir.glob("tensorboard/events*"))) == 1
    assert len(list(workdir.glob("checkpoints/ckpt-*/*.index"))) == 2
    assert not list(workdir.glob("**/.*"))
    assert "20/20" in outputs[0] and "/20 [" not in outputs[1], outputs
    for name in ("objective", "kl/intrinsic", "mse", "negative_log_likelihood/azimuth"):
        seen, expected = (points(d, f"training/{name}") for d in (workdir, one_device(floatx)[2]))
        assert seen.keys() == expected.keys() and len(seen) == 5
        for step, value in seen.items():
            assert value == pytest.approx(expected[step], rel=1e-3)


@pytest.mark.parametrize("floatx", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_two_devices_give_one_devices_weights(floatx, one_device, tmp_path):
    arguments = ["-c", TRAIN, floatx, "mirrored", "2", str(tmp_path / "run"), str(tmp_path)]
    with clusters.processes(arguments, [{}]) as (process,):
        output = process.communicate()[0]
    assert process.returncode == 0, output
    weights, numbers = trained(tmp_path / "0.npz")
    assert_same(weights, one_device, floatx)
    assert sorted(set(numbers)) == sorted(numbers) and set(range(4 * STEPS)) <= set(numbers)


COMMAND = (
    "-m", "dcign_tf.cli.train", "--render_on_the_fly", "--image_size=38", "--group_size=4", "--supersample=1",
    "--encoder_filters=2,2,2", "--decoder_filters=2,2,2", "--latents=6", "--groups_per_step=2", "--steps=400",
    "--calibration_images=80", "--checkpoint_every=20", "--strategy=multi_worker", "--deterministic",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_when_a_worker_is_killed_all_end_and_when_restarted_all_go_on(victim, tmp_path):
    def run(workdir, kill):
        environments = [{"TF_CONFIG": text} for text in clusters.tf_configs(2)]
        with clusters.processes([*COMMAND, f"--workdir={workdir}"], environments) as workers:
            while kill and not list(workdir.glob("checkpoints/ckpt-100/*.index")):
                assert all(worker.poll() is None for worker in workers)
                time.sleep(0.05)
            if kill:
                workers[victim].send_signal(signal.SIGKILL)
            outputs = [worker.communicate(timeout=300)[0] for worker in workers]
            return [worker.returncode for worker in workers], outputs

    statuses, outputs = run(tmp_path / "cut", kill=True)
    survivor = 1 - victim
    assert statuses[victim] == -signal.SIGKILL
    assert statuses[survivor] == 1, outputs
    last_line = outputs[survivor].strip().splitlines()[-1]
    assert f"worker {survivor} of 2 has lost another one" in last_line
    assert not (tmp_path / "cut" / "model.keras").exists()

    for name in ("cut", "whole"):
        statuses, outputs = run(tmp_path / name, kill=False)
        assert statuses == [0, 0], outputs
    report = json.loads((tmp_path / "cut" / "training.json").read_text())
    # The index is there a moment before the checkpoint counts.
    assert 80 <= 400 - report["steps_in_this_run"] < 400
    cut, whole = (load_model(str(tmp_path / name / "model.keras")) for name in ("cut", "whole"))
    for ours, theirs in zip(cut.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_shares_are_cut_out_of_the_whole_stream():
    source = RenderedSource(SCENES)
    ratio = dict.fromkeys(source.factors, 1.0)
    whole = list(source.training(ratio, 3, 6, 5).take(3).as_numpy_iterator())
    for of in (2, 3, 6):
        shares = [
            source.training(ratio, 3, 6, 5, Share(index, of)).take(3).as_numpy_iterator()
            for index in range(of)
        ]
        for (images, active), *parts in zip(whole, *shares, strict=True):
            np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), images)
            np.testing.assert_array_equal(np.concatenate([part[1] for part in parts]), active)
    for share in (Share(2, 2), Share(-1, 2), Share(0, 4)):
        with pytest.raises(ValueError, match="share: got"):
            source.training(ratio, 3, 6, 5, share)


def tf_config(cluster, task):
    return json.dumps({"cluster": cluster, "task": task})


def test_tf_configs_are_read():
    two = ["a:1", "b:2"]
    worker = {"type": "worker", "index": 1}
    assert read_tf_config(tf_config({"worker": two}, worker)) == Place(1, ("a:1", "b:2"))
    chief = {"chief": ["c:3"], "worker": two}
    assert read_tf_config(tf_config(chief, worker)) == Place(2, ("c:3", "a:1", "b:2"))
    assert read_tf_config(tf_config(chief, {"type": "chief", "index": "0"})).index == 0
    assert read_tf_config(tf_config({"worker": ["[::1]:80"]}, {"type": "worker", "index": 0}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "--strategy=multi_worker: the environment variable TF_CONFIG is missing"),
        ("{", "TF_CONFIG: Expecting property name"),
        ("[]", "TF_CONFIG: has no 'cluster' that is an object"),
        (tf_config([], {}), "has no 'cluster' that is an object"),
        (tf_config({"worker": ["a:1"]}, {"index": 0}), "has no 'type' that is a string"),
        (tf_config({"worker": ["a:1"]}, {"type": "chief", "index": 0}), "task.type is 'chief', must be one of worker"),
        (tf_config({"worker": ["a:1"]}, {"type": "worker"}), "task.index is None, must be 0 to 0"),
        (tf_config({"worker": ["a:1"]}, {"type": "worker", "index": 1}), "task.index is 1, must be 0 to 0"),
        (tf_config({"worker": ["a:1"]}, {"type": "worker", "index": True}), "task.index is True"),
        (tf_config({"worker": ["a"]}, {"type": "worker", "index": 0}), "cluster.worker has 'a', must be host:port"),
        (tf_config({"worker": "a:1"}, {"type": "worker", "index": 0}), "cluster.worker is 'a:1', must be a list"),
        (tf_config({"worker": ["a:1"] * 2}, {"type": "worker", "index": 0}), "cluster has an address twice"),
        (tf_config({"ps": ["a:1"]}, {"type": "ps", "index": 0}), "cluster has a job 'ps', there can be chief"),
        (tf_config({"chief": ["a:1", "b:1"]}, {"type": "chief", "index": 0}), "cluster.chief has several"),
        ("[" * 100_000, "TF_CONFIG"),
    ],
)  # fmt: skip
def test_malformed_tf_configs_are_refused(text, message):
    with pytest.raises(UsageError, match=message):
        read_tf_config(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
addresses = st.lists(st.sampled_from(["a:1", "b:2", "c:3", "d", ""]) | json_values, max_size=3)
almost = st.fixed_dictionaries(
    {
        "cluster": st.dictionaries(st.sampled_from(["chief", "worker", "ps"]), addresses | json_values),
        "task": st.fixed_dictionaries(
            {"type": st.sampled_from(["chief", "worker", "ps"]), "index": st.integers(-1, 4) | json_values}
        ),
    }
)  # fmt: skip


@given(st.text() | json_values.map(json.dumps) | almost.map(json.dumps))
def test_any_tf_config_is_read_or_refused(text):
    try:
        place = read_tf_config(text)
    except UsageError:
        return
    assert 0 <= place.index < len(place.addresses) == len(set(place.addresses))


def test_groups_that_cannot_be_shared_out_are_refused(monkeypatch):
    class Device:
        name = "CPU:0"

    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [Device()] * 3)
    message = "--groups_per_step: got 4, must be a multiple of the 3"
    with pytest.raises(UsageError, match=f"{message} devices that --strategy=mirrored"):
        distribution.make_strategy("mirrored", 4)
    text = tf_config({"worker": ["a:1", "b:1", "c:1"]}, {"type": "worker", "index": 0})
    monkeypatch.setenv("TF_CONFIG", text)
    for name in ("auto", "multi_worker"):
        with pytest.raises(UsageError, match=f"{message} workers that --strategy=multi_worker"):
            distribution.join(name, 4)


def test_a_process_alone_needs_nobody(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    cluster = distribution.join("auto", 3)
    assert (cluster.index, cluster.size, cluster.is_chief) == (0, 1, True)
    assert cluster.exchange([4, 5]).tolist() == [[4, 5]]
    cluster.agree(step=3)
    with cluster.chief_first():
        pass
    with pytest.raises(tf.errors.InternalError), cluster.losses_explained():
        raise tf.errors.InternalError(None, None, "a defect, and nobody's absence")


def test_several_workers_come_before_anything_else(monkeypatch):
    text = tf_config({"worker": ["127.0.0.1:1", "127.0.0.1:2"]}, {"type": "worker", "index": 0})
    monkeypatch.setenv("TF_CONFIG", text)
    tf.constant(0)
    with pytest.raises(DcignError, match="call dcign_tf.distribution.join before anything else"):
        distribution.join("multi_worker", 2)


def test_where_there_is_no_tpu_that_is_said(monkeypatch):
    monkeypatch.delenv("TPU_NAME", raising=False)
    with pytest.raises(UsageError, match=r"--strategy=tpu: found no TPU \(local\)"):
        distribution.join("tpu", 2)


def test_workers_that_disagree_are_told(monkeypatch):
    cluster = Cluster(tf.distribute.get_strategy(), Place(0, ("a:1", "b:1")))
    monkeypatch.setattr(cluster, "exchange", lambda row: np.array([row, [20, 7]]))
    with pytest.raises(
        DcignError, match="the workers differ in their checkpoint: 10, 20. All need"
    ):
        cluster.agree(checkpoint=10, configuration=7)
