import json
import os
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from dcign_tf import exported, load_model, optimizers, training
from dcign_tf.datasets.scenes import SceneConfig
from dcign_tf.datasets.source import WHOLE, RenderedSource
from dcign_tf.errors import DcignError, UsageError
from dcign_tf.serving import export
from dcign_tf.training import TrainingConfig
from tests import faults

ROOT = pathlib.Path(__file__).resolve().parents[1]


def tiny_config(**changes):
    settings = {
        "encoder_filters": (4, 4, 4),
        "decoder_filters": (4, 4, 4),
        "latents": 8,
        "steps": 6,
        "ratio": (1.0, 1.0, 1.0, 1.0),
        "calibration_images": 80,
        "checkpoint_every": 2,
        "summary_every": 2,
        "pictures_every": 4,
        "learning_rate": 1e-3,
    }
    return TrainingConfig(**{**settings, **changes})


@pytest.fixture(scope="module")
def source():
    return RenderedSource(SceneConfig(image_size=38, group_size=4, supersample=1))


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    return workdir, training.train(tiny_config(), source, workdir)


def test_a_run_leaves_what_the_module_says(finished):
    workdir, model = finished
    assert {"config.json", "checkpoints", "tensorboard", "training.json", "model.keras"} <= {
        path.name for path in workdir.iterdir()
    }
    assert model.calibrated
    assert (workdir / "tensorboard" / "projector_config.pbtxt").exists()
    modes = {(workdir / name).stat().st_mode & 0o777 for name in ("model.keras", "config.json")}
    assert len(modes) == 1, "all files are as readable as the umask lets them be"
    assert not list(workdir.glob(".*")), "temporary files are left"
    report = json.loads((workdir / "training.json").read_text())
    assert report["steps"] == 6 and report["last"]["objective"] > 0
    again = load_model(str(workdir / "model.keras"))
    for ours, theirs in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_process_that_never_trained_reads_the_model(finished):
    path = str(finished[0] / "model.keras")
    code = "import sys, dcign_tf; print(type(dcign_tf.load_model(sys.argv[1]).optimizer).__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code, path], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "Adam"


def test_a_run_starts_from_another_ones_weights(finished, source, tmp_path):
    workdir, model = finished
    # A rate that changes nothing.
    still = tiny_config(steps=1, learning_rate=1e-30, start_from=str(workdir), seed=5)
    started = training.train(still, source, tmp_path / "run")
    for ours, theirs in zip(started.trainable_weights, model.trainable_weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_a_run_starts_from_an_exported_model(finished, source, tmp_path):
    model = finished[1]
    export.export(model, "faces", output=tmp_path)
    still = tiny_config(steps=1, learning_rate=1e-30, start_from=str(tmp_path / "faces"))
    started = training.train(still, source, tmp_path / "run")
    for ours, theirs in zip(started.trainable_weights, model.trainable_weights, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=0, atol=2e-6)
    (tmp_path / "faces" / "1" / exported.CARD).write_text("{}")
    with pytest.raises(UsageError, match="--start_from: .*card.json: not the card"):
        training.train(still, source, tmp_path / "new")


def test_what_a_run_started_from_may_be_gone_once_it_has_checkpoints(finished, source, tmp_path):
    begun = shutil.copytree(finished[0], tmp_path / "begun")
    config = tiny_config(start_from=str(begun))
    training.train(config, source, tmp_path / "run")
    (tmp_path / "run" / "model.keras").unlink()
    shutil.rmtree(begun)
    training.train(config, source, tmp_path / "run")
    with pytest.raises(UsageError, match="--start_from: .*begun: no such file or folder"):
        training.train(config, source, tmp_path / "new")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start_from": "nowhere"}, "--start_from: nowhere: no such file or folder"),
        ({"latents": 9}, "--latents=8, this run has --latents=9"),
        ({"encoder_filters": (4, 4, 5)}, "--encoder_filters=4,4,4, this run has .*=4,4,5"),
        ({"circular": ("azimuth",)}, "--circular=, this run has --circular=azimuth"),
    ],
)
def test_only_from_a_network_of_the_same_form(finished, source, tmp_path, changes, message):
    config = tiny_config(**{"start_from": str(finished[0]), **changes})
    with pytest.raises(UsageError, match=message):
        training.train(config, source, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_tensorboard_gets_scalars_histograms_and_pictures(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(
        str(finished[0] / "tensorboard"), size_guidance={"tensors": 0}
    ).Reload()
    tags = set(events.Tags()["tensors"])
    factors = ("azimuth", "elevation", "light_azimuth")
    assert {
        "training/objective",
        "training/negative_log_likelihood",
        "training/kl",
        "training/kl/intrinsic",
        "training/negative_log_likelihood/intrinsic",
        "training/invariance",
        "training/gradient_norm/encoder",
        "training/gradient_norm/decoder",
        "speed/images_per_second",
        "input_and_reconstruction",
        "latents/intrinsic",
        *(f"sweep/{factor}" for factor in factors),
        *(f"training/kl/{factor}" for factor in factors),
        *(f"validation/pearson/{factor}" for factor in factors),
    } <= tags
    # Of a factor whose groups came by, the likelihood is of the size of the whole one, not of its share.
    whole, part = (
        float(
            tf.make_ndarray(
                events.Tensors(f"training/negative_log_likelihood{name}")[0].tensor_proto
            )
        )
        for name in ("", "/intrinsic")
    )
    assert 0.5 * whole < part < 2 * whole
    assert [event.step for event in events.Tensors("training/objective")] == [2, 4, 6]
    assert [event.step for event in events.Tensors("sweep/azimuth")] == [4, 6]


def test_a_finished_run_is_not_trained_again(finished, source):
    workdir, model = finished
    before = (workdir / "training.json").read_bytes()
    again = training.train(tiny_config(), source, workdir)
    assert (workdir / "training.json").read_bytes() == before
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])


def test_a_run_goes_on_for_more_steps(finished, source, tmp_path):
    shorter = tmp_path / "shorter"
    shutil.copytree(finished[0], shorter)
    longer = training.train(tiny_config(steps=9), source, shorter)
    whole = training.train(tiny_config(steps=9), source, tmp_path / "whole")
    for ours, theirs in zip(longer.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert json.loads((shorter / "training.json").read_text())["steps_in_this_run"] == 3
    configurations = [
        json.loads((folder / "config.json").read_text()) for folder in (shorter, tmp_path / "whole")
    ]
    assert configurations[0] == configurations[1]
    assert_same_weights(longer, shorter)


def test_not_for_fewer_and_not_where_the_rate_depends_on_how_many(finished, source, tmp_path):
    with pytest.raises(UsageError, match="--steps: got 5, but .* has done 6 already; give 6 or"):
        training.train(tiny_config(steps=5), source, finished[0])
    assert json.loads((finished[0] / "config.json").read_text())["training"]["steps"] == 6
    for name in ("checkpoints", "model.keras"):
        without = tmp_path / f"without_{name}"
        shutil.copytree(finished[0], without, ignore=shutil.ignore_patterns(name))
        with pytest.raises(UsageError, match="--steps: got 5, but .* has done 6 already"):
            training.train(tiny_config(steps=5), source, without)
    training.train(tiny_config(steps=1, schedule="cosine"), source, tmp_path / "cosine")
    with pytest.raises(UsageError, match=r"steps \(there 1, asked 2\)"):
        training.train(tiny_config(steps=2, schedule="cosine"), source, tmp_path / "cosine")


def test_without_its_summary_a_run_has_not_ended(finished, source, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    for damage in ("[]", None):
        path = workdir / "training.json"
        if damage is None:
            path.unlink()
        else:
            path.write_text(damage)
        model = training.train(tiny_config(), source, workdir)
        assert json.loads(path.read_text())["steps_in_this_run"] == 0
        assert_same_weights(model, workdir)
        assert_same_weights(finished[1], workdir)


def test_another_configuration_is_refused_with_what_differs(finished, source):
    workdir, _ = finished
    with pytest.raises(UsageError, match=r"learning_rate \(there 0.001, asked 0.5\)"):
        training.train(tiny_config(learning_rate=0.5), source, workdir)
    other = RenderedSource(SceneConfig(image_size=54, group_size=4, supersample=1))
    with pytest.raises(UsageError, match="image_size"):
        training.train(tiny_config(), other, workdir)
    # How often to write is nobody's business but the user's.
    training.train(tiny_config(summary_every=3), source, workdir)


def test_a_run_that_is_older_than_a_setting_had_its_default(source, tmp_path):
    training.train(tiny_config(steps=1), source, tmp_path)
    path = tmp_path / "config.json"
    stored = json.loads(path.read_text())
    assert stored["training"].pop("beta") == 1.0
    path.write_text(json.dumps(stored))
    training.train(tiny_config(steps=1), source, tmp_path)
    with pytest.raises(UsageError, match=r"beta \(there 1.0, asked 2.0\)"):
        training.train(tiny_config(steps=1, beta=2.0), source, tmp_path)


def test_a_damaged_configuration_is_named(source, tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DcignError, match="config.json: not the configuration"):
        training.train(tiny_config(), source, tmp_path)


def test_it_learns(tmp_path):
    scenes = SceneConfig(
        image_size=38,
        group_size=10,
        supersample=1,
        azimuth_range=(-10, 10),
        elevation_range=(-5, 5),
    )
    source = RenderedSource(scenes, mixed_images=200)
    config = tiny_config(
        steps=150, learning_rate=2e-3, pictures_every=1000, summary_every=1000, checkpoint_every=1000,
        encoder_filters=(16, 16, 16), decoder_filters=(16, 16, 16), ratio=(0.0, 0.0, 1.0, 0.0),
    )  # fmt: skip
    model = training.train(config, source, tmp_path)
    # With nothing but groups of the light, its latent must be what follows the light.
    test = source.mixed("test")
    means = model.encode_in_batches(test.images)
    correlation = np.corrcoef(means[:, 2], test.values["light_azimuth"])[0, 1]
    assert abs(correlation) > 0.8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "--steps: got 0"),
        ({"ratio": (1.0, 2.0)}, "--ratio: got 1,2, must be 4 numbers"),
        ({"optimizer": "sgd"}, "--optimizer: got sgd, must be one of adam, rmsprop, muon"),
        ({"learning_rate": float("nan")}, "--learning_rate: got nan"),
        ({"latents": 3}, "--latents: got 3"),
        (
            {"procedure": "magic"},
            "--procedure: got 'magic', must be one of clamp, exchange, ml_vae",
        ),
        ({"procedure": "beta_vae"}, "--beta: got 1, must be another number"),
        (
            {"invariance": "relative"},
            "--groups_per_step: got 1, must be 2 or more for --invariance=relative",
        ),
        (
            {"mixed_precision": "float8"},
            "--mixed_precision: got float8, must be one of off, bfloat16",
        ),
        ({"steps_per_execution": -1}, "--steps_per_execution: got -1, must be 0 or more"),
        ({"encoder_filters": (4, 4)}, "--encoder_filters: got 4,4, must be three"),
    ],
)
def test_impossible_settings_are_refused(changes, message, source, tmp_path):
    with pytest.raises(UsageError, match=message):
        training.train(tiny_config(**changes), source, tmp_path / "run")


def test_the_papers_optimizer_in_todays_terms():
    adam = training.make_optimizer(TrainingConfig())
    assert isinstance(adam, keras.optimizers.Adam)
    assert (float(adam.learning_rate), adam.beta_1, adam.beta_2) == pytest.approx((5e-4, 0.9, 0.99))
    literal = training.make_optimizer(TrainingConfig(optimizer="rmsprop"))
    assert isinstance(literal, keras.optimizers.RMSprop)
    assert (literal.momentum, literal.weight_decay) == (0.1, 0.01)
    ours = training.make_optimizer(TrainingConfig(optimizer="muon", beta_2=0.9))
    assert isinstance(ours, optimizers.Muon) and ours.beta_2 == 0.9
    falling = training.make_optimizer(TrainingConfig(schedule="cosine", steps=100))
    falling.build([keras.Variable([0.0])])
    falling.iterations.assign(100)
    assert float(falling.learning_rate) == pytest.approx(0.02 * 5e-4)


class _Poisoned:
    """A source whose images turn into NaN at the fourth step, in a group of the light."""

    def __init__(self, source):
        self._source = source

    def __getattr__(self, name):
        return getattr(self._source, name)

    def training(self, ratio, seed, groups_per_step=1, start_step=0, share=WHOLE):
        clean = self._source.training(ratio, seed, groups_per_step, start_step, share)

        def poison(index, element):
            images = tf.cast(element[0], tf.float32) / 255
            bad = index == 3
            nan = tf.where(bad, float("nan"), 0.0)
            return images + nan, tf.where(bad, 2, element[1])

        return clean.enumerate(start_step).map(poison)


def test_warming_up_uses_another_ratio_and_resumes_anywhere(source):
    config = tiny_config(
        warmup_steps=4, warmup_ratio=(0.0, 1.0, 0.0, 0.0), ratio=(0.0, 0.0, 0.0, 1.0)
    )
    whole = list(training._mini_batches(config, source, 0).take(8).as_numpy_iterator())
    assert [int(active[0]) for _, active in whole] == [1] * 4 + [3] * 4
    for start in (2, 4, 5):
        rest = training._mini_batches(config, source, start).take(2).as_numpy_iterator()
        for (images, _), (expected, _) in zip(rest, whole[start : start + 2], strict=True):
            np.testing.assert_array_equal(images, expected)


def test_a_loss_that_is_not_finite_stops_with_step_factor_and_checkpoint(source, tmp_path):
    # However many steps the device is ahead, and whatever came after the bad one.
    for steps_per_execution, every, last_good in ((0, 2, "ckpt-2"), (6, 6, "none yet")):
        config = tiny_config(
            steps_per_execution=steps_per_execution,
            **dict.fromkeys(("checkpoint_every", "summary_every", "pictures_every"), every),
        )
        workdir = tmp_path / str(every)
        with pytest.raises(
            DcignError,
            match=rf"step 4: .* light_azimuth varies; last good .*{last_good}\. Group 1 of the step's 1 has pixels "
            "that are not finite: mend the data; the same command then resumes",
        ):
            training.train(config, _Poisoned(source), workdir)
        assert not (workdir / "model.keras").exists()


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        # Of the second step's objective, which is what the first step's update led to.
        (6, r"step 2: \w+ is not finite, .* last good checkpoint: none yet"),
        # There is no other step that could tell.
        (1, r"step 1: \S+ is not finite after it; last good checkpoint: none yet"),
    ],
)
def test_a_step_too_far_is_told_from_bad_data(steps, message, source, tmp_path):
    config = tiny_config(steps=steps, learning_rate=1e38 * 3.4, optimizer="rmsprop")
    with pytest.raises(DcignError, match=f"{message}. The data are finite; a smaller"):
        training.train(config, source, tmp_path)
    assert not training.Checkpoints(tmp_path / "checkpoints", None).latest


def run_python(code, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
    )


def assert_same_weights(model, workdir):
    again = load_model(str(workdir / "model.keras"))
    for ours, theirs in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_damaged_model_is_made_again(finished, source, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    os.truncate(workdir / "model.keras", 5000)
    training.train(tiny_config(), source, workdir)
    assert (
        "model.keras: not a .keras file, or a truncated one; it is made" in capsys.readouterr().err
    )
    assert_same_weights(finished[1], workdir)


@faults.needs_mount
def test_a_full_disk_keeps_the_last_good_state(finished, source, tmp_path):
    one = finished[0] / "checkpoints" / "ckpt-6"
    size = sum(path.stat().st_size for path in one.iterdir()) // 1000
    with faults.small_disk(tmp_path, f"{3 * size // 2}k") as disk:
        with pytest.raises(
            DcignError, match=r"no space left on the disk .*resumes from .*/ckpt-2$"
        ):
            training.train(tiny_config(), source, disk / "run")
        assert not list((disk / "run").rglob(".*")), "what is half there takes up room"
        faults.resize(disk, "100m")
        training.train(tiny_config(), source, disk / "run")
        assert_same_weights(finished[1], disk / "run")


def test_so_does_a_limit_on_files(finished, source, tmp_path):
    with (
        faults.limited_files(20000),
        pytest.raises(DcignError, match=r"no space left .* File too large\. Make room, or .* starts again$"),
    ):  # fmt: skip
        training.train(tiny_config(), source, tmp_path / "run")
    assert not list((tmp_path / "run").rglob(".*"))


class _Stopping:
    """A source that has no more images after some steps, as if the run had been killed then."""

    def __init__(self, source, steps):
        self._source, self._steps = source, steps

    def __getattr__(self, name):
        return getattr(self._source, name)

    def training(self, *arguments):
        return self._source.training(*arguments).take(self._steps)


def points(workdir, name):
    """The steps and values of a curve in TensorBoard."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(workdir / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    return {e.step: float(tf.make_ndarray(e.tensor_proto)) for e in events.Tensors(name)}


@pytest.mark.parametrize(
    "settings",
    [
        {"mixed_precision": "float16"},
        pytest.param({"mixed_precision": "bfloat16"}, marks=pytest.mark.slow),
        pytest.param({"jit_compile": True}, marks=pytest.mark.slow),
        pytest.param({"jit_compile": True, "mixed_precision": "float16"}, marks=pytest.mark.slow),
    ],
)
def test_it_learns_the_fast_ways_too_and_resumes(settings, source, tmp_path):
    config = tiny_config(
        steps=60, checkpoint_every=10, summary_every=10, pictures_every=1000, learning_rate=3e-3,
        encoder_filters=(8, 8, 8), decoder_filters=(8, 8, 8), **settings,
    )  # fmt: skip
    with pytest.raises(tf.errors.OutOfRangeError):
        training.train(config, _Stopping(source, 37), tmp_path)
    scale = points(tmp_path, "training/loss_scale") if "float16" in settings.values() else None
    model = training.train(config, source, tmp_path)
    likelihood = points(tmp_path, "training/negative_log_likelihood")
    assert sorted(likelihood) == [10, 20, 30, 40, 50, 60]
    assert likelihood[60] < 0.97 * likelihood[10]
    if scale:
        # It had to come down from its start, and went on from where it was.
        after = points(tmp_path, "training/loss_scale")
        assert scale[30] < 2**15 and after[40] <= 2 * scale[30]
    assert (
        json.loads((tmp_path / "config.json").read_text())["training"].items() >= settings.items()
    )
    # What is left is for everybody, in single precision.
    again = load_model(str(tmp_path / "model.keras"))
    assert again.calibrated and again.compute_dtype == model.compute_dtype == "float32"
    for ours, theirs in zip(model.get_weights(), again.get_weights(), strict=True):
        assert theirs.dtype == np.float32
        np.testing.assert_array_equal(ours, theirs)


def test_muons_momentum_is_kept_too(source, tmp_path):
    config = tiny_config(steps=6, checkpoint_every=3, optimizer="muon")
    with pytest.raises(tf.errors.OutOfRangeError):
        training.train(config, _Stopping(source, 4), tmp_path / "stopped")
    resumed = training.train(config, source, tmp_path / "stopped")
    through = training.train(config, source, tmp_path / "through")
    for one, other in zip(resumed.get_weights(), through.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


_MIRRORED = """
import sys
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from dcign_tf import distribution, training
from dcign_tf.datasets.scenes import SceneConfig
from dcign_tf.datasets.source import RenderedSource
from tests.training_test import tiny_config
source = RenderedSource(SceneConfig(image_size=38, group_size=4, supersample=1))
for strategy in ("one_device", "mirrored"):
    config = tiny_config(
        steps=20, groups_per_step=4, strategy=strategy, pictures_every=1000, kl_warmup_steps=10,
        procedure=sys.argv[2], clamp_gradient="add", invariance_warmup_steps=10,
    )
    training.train(config, source, f"{sys.argv[1]}/{strategy}")
assert distribution.make_strategy("mirrored", 4).num_replicas_in_sync == 2
"""


# distribution_test has the quick one, without options.
@pytest.mark.slow
@pytest.mark.parametrize("procedure", ["clamp", "ml_vae"])
def test_two_devices_give_one_devices_weights(procedure, tmp_path):
    assert run_python(_MIRRORED, tmp_path, procedure).wait() == 0
    one, two = (
        load_model(str(tmp_path / run / "model.keras")) for run in ("one_device", "mirrored")
    )
    start = training.make_model(
        tiny_config(), RenderedSource(SceneConfig(image_size=38, group_size=4, supersample=1))
    )
    for ours, theirs, before in zip(
        one.trainable_variables, two.trainable_variables, start.trainable_variables, strict=True
    ):
        moved = np.abs(ours.numpy() - before.numpy()).max()
        assert moved > 0
        np.testing.assert_allclose(theirs, ours, atol=0.01 * moved, rtol=0)


def test_devices_with_one_group_each_have_none_to_compare():
    config = tiny_config(invariance="relative", groups_per_step=4)
    config.check_groups(2)
    with pytest.raises(UsageError, match="--groups_per_step: got 4, must be 8 or more"):
        config.check_groups(4)
    tiny_config(invariance="relative", groups_per_step=4, procedure="sgvb").check_groups(4)
