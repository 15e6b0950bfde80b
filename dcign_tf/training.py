"""Training: devices, the loop, checkpoints and what TensorBoard shows.

A run lives in a folder, the workdir, and is a function of its configuration and its data: weights start from the
seed, the mini-batch and the posterior's noise of a step depend on the seed and the step's number alone. So a run
that was killed goes on from its last checkpoint as if nothing had happened.

    config.json     the configuration; another one is refused
    checkpoints/    the weights, the optimizer's state and the step; the latest few
    tensorboard/    scalars, histograms and pictures
    training.json   written at the end: the last losses, the time it took
    model.keras     written at the end: the calibrated model
"""

import collections
import contextlib
import dataclasses
import json
import math
import os
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dcign_tf import files
from dcign_tf.calibration import KNOTS
from dcign_tf.clamping import REFERENCES
from dcign_tf.code import CodeLayout
from dcign_tf.datasets.source import GroupSource, RenderedSource, explain_data_error
from dcign_tf.errors import DcignError, UsageError
from dcign_tf.model import DCIGN, PROCEDURES, load_model
from dcign_tf.networks import decoder_base
from dcign_tf.progress import Progress, progress

STRATEGIES = ("auto", "one_device", "mirrored")
OPTIMIZERS = ("adam", "rmsprop")
SCHEDULES = ("constant", "cosine")
# Settings that change neither the weights nor what is measured of them; a resumed run may change them.
_FREE = frozenset(
    {"checkpoint_every", "keep_checkpoints", "summary_every", "pictures_every", "strategy"}
)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """All that a training run depends on, besides its data. Defaults are the paper's (section 4).

    Attributes:
        encoder_filters: channels of the encoder's convolutions.
        decoder_filters: channels of the decoder's.
        latents: length of the code; extrinsic factors have one each, the rest is intrinsic.
        invariance_strength: weight of the invariance signal, relative to an objective summed over the group.
        clamp_to: "mean" (the paper) or "first" (the authors' code).
        procedure: "clamp" or "sgvb", the entangled baseline.
        steps: number of updates.
        groups_per_step: groups in a step's batch; 1 is the paper.
        ratio: how often each factor varies, in the order of the factors; by default 1 for each extrinsic factor
            and 10 for the intrinsic one (section 3.1).
        warmup_steps: how long to begin with another ratio; 0 is the paper. More groups of pose and light at first
            give these to their own latents before the intrinsic ones sharpen the picture.
        warmup_ratio: that other ratio; by default 1 for each extrinsic factor and 0 for the intrinsic one.
        optimizer: "adam", what the authors' "rmsprop" was in today's terms, or "rmsprop", the text read literally.
        learning_rate: at the start.
        schedule: "constant", or "cosine" down to 2 % of the learning rate at the last step.
        beta_1: share of itself the first moment keeps; the paper's "momentum decay" 0.1 is 1 - beta_1.
        beta_2: share of itself the second moment keeps; the paper's "weight decay" 0.01 is 1 - beta_2.
        seed: of the weights, the order of groups and the posterior's noise.
        strategy: "auto" (all GPUs, else one device), "one_device" or "mirrored".
        deterministic: whether TensorFlow may use only operations that give the same bits every time.
        jit_compile: whether XLA compiles the step.
        calibration_images: how many of the training set's mixed images fit the calibration.
        checkpoint_every: steps between checkpoints.
        keep_checkpoints: how many checkpoints to keep.
        summary_every: steps between points of TensorBoard's curves, each the mean since the last.
        pictures_every: steps between pictures, histograms and measurements on validation images.
    """

    encoder_filters: tuple[int, ...] = (96, 64, 32)
    decoder_filters: tuple[int, ...] = (32, 64, 96)
    latents: int = 200
    invariance_strength: float = 0.01
    clamp_to: str = "mean"
    procedure: str = "clamp"
    steps: int = 12000
    groups_per_step: int = 1
    ratio: tuple[float, ...] | None = None
    warmup_steps: int = 0
    warmup_ratio: tuple[float, ...] | None = None
    optimizer: str = "adam"
    learning_rate: float = 5e-4
    schedule: str = "constant"
    beta_1: float = 0.9
    beta_2: float = 0.99
    seed: int = 0
    strategy: str = "auto"
    deterministic: bool = False
    jit_compile: bool = False
    calibration_images: int = 2000
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    summary_every: int = 20
    pictures_every: int = 500

    def __post_init__(self) -> None:
        for name in ("steps", "groups_per_step", "checkpoint_every", "keep_checkpoints"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("summary_every", "pictures_every"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        _require(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "0 or more")
        for name, choices in (
            ("strategy", STRATEGIES),
            ("clamp_to", REFERENCES),
            ("procedure", PROCEDURES),
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
        ):
            value = getattr(self, name)
            _require(value in choices, name, value, f"one of {', '.join(choices)}")
        _require(0 < self.learning_rate < math.inf, "learning_rate", self.learning_rate, "positive")
        _require(
            self.calibration_images >= 2 * KNOTS,
            "calibration_images",
            self.calibration_images,
            f"{2 * KNOTS} or more",
        )
        for name in ("encoder_filters", "decoder_filters"):
            filters = getattr(self, name)
            _require(
                len(filters) == 3 and min(filters) >= 1,
                name,
                ",".join(map(str, filters)),
                "three positive integers",
            )
        _require(
            0 <= self.invariance_strength < math.inf,
            "invariance_strength",
            self.invariance_strength,
            "0 or more",
        )
        for name in ("beta_1", "beta_2"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "0 or more, below 1")

    def ratios(
        self, factors: tuple[str, ...], available: Collection[str] | None = None
    ) -> tuple[dict[str, float], dict[str, float]]:
        """How often each of `factors` varies: during the warm-up, and afterwards.

        Args:
            factors: all of them.
            available: those of which there are groups to train on; by default all. The others' share is 0 unless a
                ratio says something else.

        Raises:
            UsageError: a ratio has another number of values, negative ones, or only zeros.
        """
        shares = {f: float(available is None or f in available) for f in factors}
        *_, intrinsic = factors
        return (
            _ratio("warmup_ratio", self.warmup_ratio, factors) or {**shares, intrinsic: 0.0},
            _ratio("ratio", self.ratio, factors) or {**shares, intrinsic: 10 * shares[intrinsic]},
        )


def _ratio(
    flag: str, values: tuple[float, ...] | None, factors: tuple[str, ...]
) -> dict[str, float] | None:
    if values is None:
        return None
    fits = len(values) == len(factors) and min(values) >= 0 and 0 < sum(values) < math.inf
    _require(
        fits,
        flag,
        ",".join(f"{value:g}" for value in values),
        f"{len(factors)} numbers, 0 or more, for {', '.join(factors)}",
    )
    return dict(zip(factors, values, strict=True))


def _require(condition: bool, flag: str, value: object, right: str) -> None:
    if not condition:
        raise UsageError(f"--{flag}: got {value}, must be {right}")


def make_optimizer(config: TrainingConfig) -> keras.optimizers.Optimizer:
    """The optimizer of a configuration.

    The paper says "rmsprop, meta learning rate 0.0005, momentum decay 0.1, weight decay 0.01". In the authors' code
    the two decays are update rates: the first moment keeps 1 - 0.1 of itself, the second 1 - 0.01, both corrected for
    their start, which today is Adam(5e-4, beta_1=0.9, beta_2=0.99). There epsilon, 1e-8, stands inside of the root;
    1e-4 outside of it bounds the step alike. "rmsprop" takes the text at its word: RMSprop with a momentum of 0.1
    and an L2 weight decay of 0.01.
    """
    rate: Any = config.learning_rate
    if config.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, config.steps, alpha=0.02)
    if config.optimizer == "rmsprop":
        return keras.optimizers.RMSprop(rate, momentum=0.1, weight_decay=0.01)
    return keras.optimizers.Adam(rate, beta_1=config.beta_1, beta_2=config.beta_2, epsilon=1e-4)


def check(config: TrainingConfig, factors: tuple[str, ...], image_size: int) -> None:
    """Checks what a configuration alone cannot: that it fits its images.

    Call it before anything is rendered or written: a mistake must not cost a data set.

    Raises:
        UsageError: it does not; the message names the flag.
    """
    config.ratios(factors)
    extrinsic = len(factors) - 1
    _require(config.latents > extrinsic, "latents", config.latents, f"more than {extrinsic}")
    try:
        decoder_base(image_size)
    except ValueError as error:
        raise UsageError(f"--{error}") from error


def make_model(config: TrainingConfig, source: GroupSource) -> DCIGN:
    """A compiled model for a configuration and the images it will see, started from the seed."""
    check(config, source.factors, source.image_size)
    extrinsic = source.factors[:-1]
    sizes = dict.fromkeys(extrinsic, 1) | {source.factors[-1]: config.latents - len(extrinsic)}
    keras.utils.set_random_seed(config.seed)
    model = DCIGN(
        image_size=source.image_size,
        encoder_filters=config.encoder_filters,
        decoder_filters=config.decoder_filters,
        layout=CodeLayout(sizes),
        invariance_strength=config.invariance_strength,
        clamp_to=config.clamp_to,
        procedure=config.procedure,
        seed=config.seed,
        units=source.units,
    )
    model.compile(optimizer=make_optimizer(config), jit_compile=config.jit_compile)
    model.optimizer.build(model.trainable_variables)
    return model


def make_strategy(name: str, groups_per_step: int) -> tf.distribute.Strategy:
    """How the work is spread over the devices TensorFlow sees.

    Groups go to replicas whole, so that no group's mean straddles two devices.

    Raises:
        UsageError: the groups of a step cannot be shared out evenly.
    """
    devices = tf.config.list_logical_devices("GPU")
    if name == "one_device" or (name == "auto" and len(devices) < 2):
        return tf.distribute.get_strategy()
    devices = devices or tf.config.list_logical_devices("CPU")
    if groups_per_step % len(devices):
        if name == "auto":
            return tf.distribute.get_strategy()
        raise UsageError(
            f"--groups_per_step: got {groups_per_step}, must be a multiple of the {len(devices)} devices "
            "that --strategy=mirrored shares whole groups among"
        )
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def train(
    config: TrainingConfig,
    source: GroupSource,
    workdir: str | os.PathLike[str],
    data_path: str | None = None,
) -> DCIGN:
    """Trains in `workdir`, from its last checkpoint if it has one, and calibrates the result.

    Args:
        config: the configuration.
        source: where mini-batches come from.
        workdir: a folder of this configuration and data, or one that is new or empty.
        data_path: where `source` lies on disk, noted in config.json for the commands that come after.

    Returns:
        The trained and calibrated model, as saved in `model.keras`.

    Raises:
        UsageError: a setting is impossible, or `workdir` holds a run of another configuration.
        DcignError: the objective is no longer finite; the data are corrupt.
    """
    folder = pathlib.Path(workdir)
    check(config, source.factors, source.image_size)
    _claim(folder, config, source, data_path)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = make_strategy(config.strategy, config.groups_per_step)
    with strategy.scope():
        model = make_model(config, source)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    manager = tf.train.CheckpointManager(
        checkpoint, str(folder / "checkpoints"), max_to_keep=config.keep_checkpoints
    )
    if manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint).assert_existing_objects_matched()
    start = int(model.optimizer.iterations.numpy())
    if start >= config.steps and (folder / "model.keras").exists():
        return load_model(str(folder / "model.keras"))

    began = time.monotonic()
    recent = _Recent()
    if start < config.steps:
        dataset = _mini_batches(config, source, start)
        writer = tf.summary.create_file_writer(str(folder / "tensorboard"))
        with (
            writer.as_default(),
            progress(config.steps, "training", unit="step", initial=start) as bar,
        ):
            callbacks = [
                _Guard(source, manager),
                recent,
                _Checkpoints(manager, config),
                _Summaries(source, config, bar),
                _Bar(bar, recent),
            ]
            with _data_errors_explained(source):
                model.fit(
                    dataset,
                    epochs=1,
                    steps_per_epoch=config.steps - start,
                    callbacks=callbacks,
                    shuffle=False,  # the pipeline has its own order
                    verbose=0,
                )
    _calibrate(model, source, config.calibration_images)
    _save(model, folder / "model.keras")
    summary = {
        "steps": config.steps,
        "steps_in_this_run": config.steps - start,
        "seconds_in_this_run": round(time.monotonic() - began, 1),
        "last": {name: round(value, 6) for name, value in recent.means().items()},
    }
    with files.atomic_write(folder / "training.json", "w") as file:
        json.dump(summary, file, indent=2)
    return model


def _short(value: object) -> str:
    """A value for a message; of a long description, its beginning and its end, where its checksum is."""
    text = str(value)
    return text if len(text) <= 80 else f"{text[:38]} ... {text[-38:]}"


def _mini_batches(config: TrainingConfig, source: GroupSource, start: int) -> tf.data.Dataset:
    """The groups of step `start` and all that follow; those of a step do not depend on `start`."""
    warmup, ratio = config.ratios(source.factors, source.available("train"))
    later = source.training(
        ratio, config.seed, config.groups_per_step, max(start, config.warmup_steps)
    )
    if start >= config.warmup_steps:
        return later
    first = source.training(warmup, config.seed, config.groups_per_step, start)
    return first.take(config.warmup_steps - start).concatenate(later)


def _claim(
    folder: pathlib.Path, config: TrainingConfig, source: GroupSource, data_path: str | None
) -> None:
    """Writes the configuration into a new workdir; refuses one that holds another."""
    # Told in full, since what is the default depends on the data.
    warmup, ratio = config.ratios(source.factors, source.available("train"))
    told = {"warmup_ratio": list(warmup.values()), "ratio": list(ratio.values())}
    described = {
        "training": json.loads(json.dumps(dataclasses.asdict(config) | told)),
        "data": source.description,
        "image_size": source.image_size,
        "factors": list(source.factors),
    }
    path = folder / "config.json"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        if (folder / "checkpoints").exists():
            raise UsageError(
                f"--workdir: {folder} has checkpoints but no config.json; give another folder"
            )
        with files.atomic_write(path, "w") as file:
            json.dump({**described, "data_path": data_path, **_scene(source)}, file, indent=2)
        return
    try:
        stored = json.loads(path.read_text("utf-8"))
        stored_training = dict(stored["training"])
        others = {key: stored[key] for key in described if key != "training"}
    except (ValueError, KeyError, TypeError) as error:
        raise DcignError(f"{path}: not the configuration of a run: {error}") from error
    wanted = {**described["training"], **{k: v for k, v in described.items() if k != "training"}}
    found = {**stored_training, **others}
    differing = [
        f"{name} (there {_short(found.get(name))}, asked {_short(wanted.get(name))})"
        for name in sorted(wanted.keys() | found.keys())
        if name not in _FREE and wanted.get(name) != found.get(name)
    ]
    if differing:
        raise UsageError(
            f"--workdir: {folder} holds a run of another configuration; these differ: {'; '.join(differing)}. "
            "Give another folder, or the same flags to resume"
        )


def _scene(source: GroupSource) -> dict[str, Any]:
    """What is needed to draw the same scenes again, for a source that renders."""
    return {"scene": source.config.to_dict()} if isinstance(source, RenderedSource) else {}


def _calibrate(model: DCIGN, source: GroupSource, count: int) -> None:
    """Fits the curves of those factors whose true values are known, and says of which they are not."""
    mixed = source.mixed("train", count)
    values = dict(mixed.values)
    for factor, true in values.items():
        known = true[np.isfinite(true)]
        if len(known) < 2 * KNOTS or np.ptp(known) == 0:
            found = (
                f"{len(known)} of its true values are known"
                if len(known)
                else "no true value of it is known"
            )
            print(
                f"{factor}: not calibrated: {found}, {2 * KNOTS} different ones are needed; "
                "its values are those of its latent",
                file=sys.stderr,
            )
            values[factor] = np.full_like(true, np.nan)
    model.calibrate(mixed.images, values)


def _save(model: DCIGN, path: pathlib.Path) -> None:
    """Saves as `.keras`, whole or not at all."""
    # Keras wants a path with its own suffix, not an open file.
    with tempfile.TemporaryDirectory(prefix=".model.", dir=path.parent) as folder:
        temporary = pathlib.Path(folder, path.name)
        model.save(temporary)
        with files.atomic_write(path) as file, temporary.open("rb") as saved:
            shutil.copyfileobj(saved, file)


@contextlib.contextmanager
def _data_errors_explained(source: GroupSource) -> Iterator[None]:
    """Turns TensorFlow's complaint about a record into one that names the file."""
    try:
        yield
    except (
        tf.errors.DataLossError,
        tf.errors.InvalidArgumentError,
        tf.errors.NotFoundError,
    ) as error:
        explained = explain_data_error(source, error)
        if explained is None:
            raise
        raise explained from error


class _Recent(keras.callbacks.Callback):
    """Means of the logs over the last 100 steps."""

    def __init__(self) -> None:
        super().__init__()
        self._logs: collections.deque[Mapping[str, float]] = collections.deque(maxlen=100)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        self._logs.append({k: float(v) for k, v in (logs or {}).items()})

    def means(self) -> dict[str, float]:
        """For each logged name its mean."""
        names = self._logs[-1].keys() - {"active"} if self._logs else ()
        return {name: float(np.mean([logs[name] for logs in self._logs])) for name in names}


class _Bar(keras.callbacks.Callback):
    """Shows progress with the losses."""

    def __init__(self, bar: Progress, recent: _Recent) -> None:
        super().__init__()
        self._bar, self._recent = bar, recent

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        means = self._recent.means()
        shown = {"objective": "objective", "kl": "kl", "mse": "mse"}
        self._bar.update(1, **{label: f"{means[name]:.4g}" for name, label in shown.items()})


class _Guard(keras.callbacks.Callback):
    """Stops at the first step whose objective or gradient is not finite."""

    def __init__(self, source: GroupSource, manager: tf.train.CheckpointManager) -> None:
        super().__init__()
        self._source, self._manager = source, manager

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        bad = [name for name, value in (logs or {}).items() if not math.isfinite(value)]
        if bad:
            step = int(self.model.optimizer.iterations.numpy())
            active = int((logs or {})["active"])
            last = self._manager.latest_checkpoint
            raise DcignError(
                f"step {step}: {bad[0]} is not finite, in a group in which "
                f"{self._source.factors[active]} varies; last good checkpoint: {last or 'none yet'}. "
                "A smaller --learning_rate may help"
            )


class _Checkpoints(keras.callbacks.Callback):
    """Writes a checkpoint now and then, and at the end."""

    def __init__(self, manager: tf.train.CheckpointManager, config: TrainingConfig) -> None:
        super().__init__()
        self._manager, self._config = manager, config

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        step = int(self.model.optimizer.iterations.numpy())
        if step % self._config.checkpoint_every == 0 or step == self._config.steps:
            self._manager.save(checkpoint_number=step)


class _Summaries(keras.callbacks.Callback):
    """What TensorBoard shows."""

    _ROWS = 6
    _SWEEP = 7

    def __init__(self, source: GroupSource, config: TrainingConfig, bar: Progress) -> None:
        super().__init__()
        self._config, self._bar = config, bar
        self._validation = source.mixed("validation")
        self._sums: dict[str, float] = collections.defaultdict(float)
        self._count, self._since = 0, time.monotonic()
        self._images_per_step = config.groups_per_step * source.group_size

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        step = int(self.model.optimizer.iterations.numpy())
        self._count += 1
        for name, value in (logs or {}).items():
            self._sums[name] += value
        if step % self._config.summary_every == 0:
            for name, value in self._means().items():
                tf.summary.scalar(f"training/{name}", value, step)
            rate = self._count * self._images_per_step / (time.monotonic() - self._since)
            tf.summary.scalar("speed/images_per_second", rate, step)
            self._sums.clear()
            self._count, self._since = 0, time.monotonic()
        if step % self._config.pictures_every == 0 or step == self._config.steps:
            paused = time.monotonic()
            self._show(step)
            self._since += time.monotonic() - paused

    def _means(self) -> dict[str, float]:
        """Means since the last point; the likelihood of a factor's groups over those steps that had any."""
        means = {name: total / self._count for name, total in self._sums.items()}
        means.pop("active", None)
        for name in [name for name in means if name.startswith("share/")]:
            share, likelihood = (
                means.pop(name),
                f"negative_log_likelihood/{name.removeprefix('share/')}",
            )
            if share > 0:
                means[likelihood] /= share
            else:
                del means[likelihood]
        return means

    def _show(self, step: int) -> None:
        model, layout = self.model, self.model.layout
        images = self._validation.images
        means = model.encode_in_batches(images)
        for factor in layout.factors:
            tf.summary.histogram(f"latents/{factor}", means[:, layout.indices(factor)], step)
        told = []
        for factor in layout.extrinsic:
            latent, truth = means[:, layout.indices(factor)[0]], self._validation.values[factor]
            known = np.isfinite(truth)
            latent, truth = latent[known], truth[known]
            if known.any() and np.ptp(latent) > 0 and np.ptp(truth) > 0:
                correlation = np.corrcoef(latent, truth)[0, 1]
                tf.summary.scalar(f"validation/pearson/{factor}", abs(correlation), step)
                told.append(f"{factor} {abs(correlation):.2f}")
        some = images[:100]
        decoded = model.decode(means[:100]).numpy()
        error = np.mean((decoded - some / 255.0) ** 2)
        tf.summary.scalar("validation/mse", error, step)
        correlations = f"|r| of {', '.join(told)}; " if told else ""
        self._bar.write(
            f"step {step}, on validation images: {correlations}reconstruction MSE {error:.4f}"
        )
        pairs = np.concatenate([some[: self._ROWS] / 255.0, decoded[: self._ROWS]], axis=2)
        tf.summary.image("input_and_reconstruction", _stack(pairs), step)
        for factor in layout.extrinsic:
            column = layout.indices(factor)[0]
            low, high = np.quantile(means[:, column], [0.02, 0.98])
            codes = np.repeat(means[: self._ROWS], self._SWEEP, axis=0)
            codes[:, column] = np.tile(
                np.linspace(low, high, self._SWEEP), len(means[: self._ROWS])
            )
            swept = model.decode(codes).numpy()
            rows = swept.reshape(-1, self._SWEEP, *swept.shape[1:])
            tf.summary.image(
                f"sweep/{factor}", _stack(np.concatenate(list(rows.swapaxes(0, 1)), 2)), step
            )


def _stack(rows: np.ndarray) -> np.ndarray:
    """Rows of pictures [n, H, W, 1], one above the other, as one picture [1, n H, W, 1]."""
    return np.concatenate(list(rows), axis=0)[np.newaxis].astype(np.float32)
