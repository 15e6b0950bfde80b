"""Training: devices, the loop, checkpoints and what TensorBoard shows.

A run lives in a folder, the workdir, and is a function of its configuration and its data: weights start from the
seed, the mini-batch and the posterior's noise of a step depend on the seed and the step's number alone. So a run
that was killed goes on from its last checkpoint as if nothing had happened.

    config.json     the configuration; another one is refused
    checkpoints/    the weights, the optimizer's state and the step; the latest few
    lock            says who is training here (`workdirs`)
    tensorboard/    scalars, histograms and pictures; at the end, codes of validation images for its projector
    training.json   written at the end: the last losses, the time it took
    model.keras     written at the end: the calibrated model
"""

import collections
import contextlib
import dataclasses
import functools
import json
import math
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from dcign_tf import distribution, embedding, exported, files, optimizers, workdirs
from dcign_tf.calibration import KNOTS, correlated
from dcign_tf.checkpoints import Checkpoints
from dcign_tf.code import CodeLayout, told
from dcign_tf.datasets.source import WHOLE, GroupSource, RenderedSource, Share, explain_data_error
from dcign_tf.distribution import STRATEGIES, Cluster
from dcign_tf.errors import DcignError, UsageError
from dcign_tf.model import DCIGN, load_model
from dcign_tf.networks import decoder_base
from dcign_tf.procedures import ProcedureConfig
from dcign_tf.processes import StopSignals
from dcign_tf.progress import Progress, progress

OPTIMIZERS = ("adam", "rmsprop", "muon")
SCHEDULES = ("constant", "cosine")
# Keras's names of the precisions.
PRECISIONS = {"off": None, "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
# Settings that change neither the weights nor what is measured of them; a resumed run may change them.
_FREE = frozenset(
    {
        "checkpoint_every",
        "keep_checkpoints",
        "summary_every",
        "pictures_every",
        "steps_per_execution",
        "strategy",
    }
)
# How long one call of the device may take: a progress bar should move, and an interruption be heeded.
_SECONDS_PER_EXECUTION = 0.5


@dataclasses.dataclass(frozen=True)
class TrainingConfig(ProcedureConfig):
    """All that a training run depends on, besides its data. Defaults are the paper's (section 4).

    Attributes:
        procedure: this and all of `ProcedureConfig`.
        encoder_filters: channels of the encoder's convolutions.
        decoder_filters: channels of the decoder's.
        latents: length of the code; extrinsic factors have one each, circular ones two, the rest is intrinsic.
        circular: extrinsic factors whose latents are a direction, of those that turn all the way around.
        start_from: a finished workdir, a `.keras` file or an exported model, whose weights to start from instead of
            random ones; None for random ones.
        steps: number of updates.
        groups_per_step: groups in a step's batch; 1 is the paper.
        ratio: how often each factor varies, in the order of the factors; by default 1 for each extrinsic factor
            and 10 for the intrinsic one (section 3.1).
        warmup_steps: how long to begin with another ratio; 0 is the paper. More groups of pose and light at first
            give these to their own latents before the intrinsic ones sharpen the picture.
        warmup_ratio: that other ratio; by default 1 for each extrinsic factor and 0 for the intrinsic one.
        optimizer: "adam", what the authors' "rmsprop" was in today's terms; "rmsprop", the text read literally; or
            "muon", ours, which learns in fewer steps.
        learning_rate: at the start.
        schedule: "constant", or "cosine" down to 2 % of the learning rate at the last step.
        beta_1: share of itself the first moment keeps; the paper's "momentum decay" 0.1 is 1 - beta_1.
        beta_2: share of itself the second moment keeps; the paper's "weight decay" 0.01 is 1 - beta_2.
        seed: of the weights, the order of groups and the posterior's noise.
        strategy: how steps are spread over devices and machines, a name of `distribution.STRATEGIES`.
        deterministic: whether TensorFlow may use only operations that give the same bits every time.
        jit_compile: whether XLA compiles the forward and backward pass.
        mixed_precision: "off", or the type of convolutions and matrix products, "bfloat16" or "float16". Weights and
            sums stay float32; float16 comes with a loss scale that adapts itself.
        steps_per_execution: how many steps the device does at most before Python has its turn; 0, as many as take
            about half a second. Checkpoints, summaries and pictures come at their own steps all the same.
        calibration_images: how many of the training set's mixed images fit the calibration.
        checkpoint_every: steps between checkpoints.
        keep_checkpoints: how many checkpoints to keep.
        summary_every: steps between points of TensorBoard's curves, each the mean since the last; between two of
            them nothing is read from the device.
        pictures_every: steps between pictures, histograms and measurements on validation images.
    """

    encoder_filters: tuple[int, ...] = (96, 64, 32)
    decoder_filters: tuple[int, ...] = (32, 64, 96)
    latents: int = 200
    circular: tuple[str, ...] = ()
    start_from: str | None = None
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
    mixed_precision: str = "off"
    steps_per_execution: int = 0
    calibration_images: int = 2000
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    summary_every: int = 20
    pictures_every: int = 500

    def __post_init__(self) -> None:
        try:
            super().__post_init__()
        except ValueError as error:
            raise UsageError(f"--{error}") from error
        self.check_groups()
        for name in ("steps", "groups_per_step", "checkpoint_every", "keep_checkpoints"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("summary_every", "pictures_every"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("warmup_steps", "steps_per_execution"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        for name, choices in (
            ("strategy", STRATEGIES),
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("mixed_precision", tuple(PRECISIONS)),
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
        for name in ("beta_1", "beta_2"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "0 or more, below 1")

    def check_groups(self, devices: int = 1) -> None:
        """Checks that each device has groups to compare, where the procedure compares them.

        Raises:
            UsageError: it has not.
        """
        _require(
            self.procedure != "clamp"
            or self.invariance == "absolute"
            or self.groups_per_step >= 2 * devices,
            "groups_per_step",
            self.groups_per_step,
            f"{2 * devices} or more for --invariance=relative, which compares groups on a device",
        )

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
    and an L2 weight decay of 0.01. "muon" is `optimizers.Muon`; the first decay is its momentum, too.
    """
    rate: Any = config.learning_rate
    if config.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, config.steps, alpha=0.02)
    scaling = config.mixed_precision == "float16"
    if config.optimizer == "rmsprop":
        return optimizers.RMSprop(rate, momentum=0.1, weight_decay=0.01, dynamic_loss_scale=scaling)
    kind = optimizers.Muon if config.optimizer == "muon" else optimizers.Adam
    return kind(
        rate,
        beta_1=config.beta_1,
        beta_2=config.beta_2,
        epsilon=1e-4,
        dynamic_loss_scale=scaling,
    )


def check(
    config: TrainingConfig,
    factors: tuple[str, ...],
    image_size: int,
    workdir: str | os.PathLike[str] | None = None,
) -> None:
    """Checks what a configuration alone cannot: that it fits its images, and the model that it starts from.

    Call it before anything is rendered or written: a mistake must not cost a data set.

    Args:
        config: the configuration.
        factors: of the images.
        image_size: height and width of the images.
        workdir: where to train. With checkpoints there, what the run started from is not needed any more.

    Raises:
        UsageError: it does not; the message names the flag.
    """
    config.ratios(factors)
    *extrinsic, _ = factors
    _require(
        not config.circular or config.names_latents,
        "circular",
        ",".join(config.circular),
        f"left out for --procedure={config.procedure}, which gives no factor latents of its own",
    )
    for name in config.circular:
        _require(name in extrinsic, "circular", name, f"one of {', '.join(extrinsic)}")
    fewest = sum(_sizes(config, factors).values())
    _require(config.latents > fewest, "latents", config.latents, f"more than {fewest}")
    try:
        decoder_base(image_size)
    except ValueError as error:
        raise UsageError(f"--{error}") from error
    resumes = workdir is not None and pathlib.Path(workdir, workdirs.CHECKPOINTS).exists()
    if config.start_from is not None and not resumes:
        _starting_model(config, factors, image_size)


def _layout(config: TrainingConfig, factors: tuple[str, ...]) -> CodeLayout:
    sizes = _sizes(config, factors)
    return CodeLayout(sizes | {factors[-1]: config.latents - sum(sizes.values())}, config.circular)


def network_to_start_from(
    start_from: str, workdir: str | os.PathLike[str] | None = None
) -> dict[str, Any]:
    """The settings of the network that a run starts from.

    Args:
        start_from: as in `TrainingConfig`.
        workdir: the run's. Where it has begun, its own configuration tells, and `start_from` may be gone.

    Returns:
        Those settings of `TrainingConfig` that must be as they were; none where a workdir's configuration is damaged.

    Raises:
        UsageError: there is no such model.
    """
    if workdir is None or not pathlib.Path(workdir, workdirs.CHECKPOINTS).exists():
        return _network(_read_start(start_from))
    # What is wrong with it is told when the workdir is claimed.
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        there = json.loads(pathlib.Path(workdir, "config.json").read_text("utf-8"))["training"]
        return {
            name: tuple(there[name]) if name != "latents" else there[name]
            for name in ("encoder_filters", "decoder_filters", "latents", "circular")
        }
    return {}


def _read_start(path: str) -> DCIGN:
    try:
        folder = exported.find(path)
        return exported.load(folder) if folder else load_model(str(workdirs.model_file(path)))
    except DcignError as error:
        raise UsageError(f"--start_from: {error}") from error


def _network(model: DCIGN) -> dict[str, Any]:
    return {
        "encoder_filters": tuple(model.encoder_filters),
        "decoder_filters": tuple(model.decoder_filters),
        "latents": model.layout.latents,
        "circular": tuple(model.layout.circular),
    }


def _starting_model(config: TrainingConfig, factors: tuple[str, ...], image_size: int) -> DCIGN:
    """The model of --start_from, whose weights fit the one that is to be trained."""
    model = _read_start(config.start_from or "")
    layout = _layout(config, factors)
    for flag, found in {"image_size": model.image_size, **_network(model)}.items():
        wanted = image_size if flag == "image_size" else getattr(config, flag)
        if found != wanted:
            there, here = (
                ",".join(map(str, value)) if isinstance(value, tuple) else value
                for value in (found, wanted)
            )
            raise UsageError(
                f"--start_from: {config.start_from} was trained with --{flag}={there}, this run has --{flag}={here}; "
                "both must be the same"
            )
    if model.layout != layout:
        raise UsageError(
            f"--start_from: {config.start_from} has latents for {', '.join(model.layout.factors)}, the data's factors "
            f"are {', '.join(factors)}; both must be the same"
        )
    return model


def _sizes(config: TrainingConfig, factors: tuple[str, ...]) -> dict[str, int]:
    """How many latents each extrinsic factor has."""
    return {factor: 2 if factor in config.circular else 1 for factor in factors[:-1]}


def make_model(config: TrainingConfig, source: GroupSource) -> DCIGN:
    """A compiled model for a configuration and the images it will see, started from the seed."""
    keras.utils.set_random_seed(config.seed)
    model = DCIGN(
        image_size=source.image_size,
        encoder_filters=config.encoder_filters,
        decoder_filters=config.decoder_filters,
        layout=_layout(config, source.factors),
        seed=config.seed,
        units=source.units,
        **config.procedure_settings(),
        dtype=PRECISIONS[config.mixed_precision],
    )
    model.compile(
        optimizer=make_optimizer(config), jit_compile=config.jit_compile, auto_scale_loss=False
    )
    model.optimizer.build(model.trainable_variables)
    return model


def train(
    config: TrainingConfig,
    source: GroupSource,
    workdir: str | os.PathLike[str],
    data_path: str | None = None,
    cluster: Cluster | None = None,
    command: str | None = None,
) -> DCIGN:
    """Trains in `workdir`, from its last checkpoint if it has one, and calibrates the result.

    Args:
        config: the configuration.
        source: where mini-batches come from.
        workdir: a folder of this configuration and data, or one that is new or empty. With a constant learning rate
            it may have had fewer steps, of which this run is then the continuation.
        data_path: where `source` lies on disk, noted in config.json for the commands that come after.
        cluster: from `distribution.join`, which with several workers must be called before `source` is opened; by
            default it is called here. Of several workers the first alone writes into `workdir`, which all must see.
        command: that does the same, noted likewise.

    Returns:
        The trained and calibrated model, as saved in `model.keras`.

    Raises:
        UsageError: a setting is impossible, `workdir` holds a run of another configuration, or another trainer is at
            work in it.
        Stopped: SIGTERM or SIGINT came; the state is saved.
        DcignError: the objective or a weight is no longer finite; the data are corrupt; the disk is full; no
            checkpoint is undamaged.
    """
    check(config, source.factors, source.image_size, workdir)
    # Told in full, since what is the default depends on the data.
    warmup, ratio = config.ratios(source.factors, source.available("train"))
    told = {"warmup_ratio": list(warmup.values()), "ratio": list(ratio.values())}
    described = {
        "training": dataclasses.asdict(config) | told,
        "data": source.description,
        "image_size": source.image_size,
        "factors": list(source.factors),
    }
    cluster = cluster or distribution.join(config.strategy, config.groups_per_step)
    config.check_groups(cluster.strategy.num_replicas_in_sync)
    folder = pathlib.Path(workdir)
    with cluster.losses_explained(), workdirs.at_work(folder, cluster.is_chief) as stops:
        if cluster.is_chief:
            noted = {"data_path": data_path, **_scene(source)}
            if command is not None:
                noted["command"] = command
            # Without a schedule that ends with the run, a longer one begins as a shorter one does.
            free = _FREE | {"steps"} if config.schedule == "constant" else _FREE
            workdirs.claim(folder, described, noted, free, dataclasses.asdict(TrainingConfig()))
        return _train(config, source, folder, cluster, stops)


def _finished(folder: pathlib.Path, steps: int) -> DCIGN | None:
    """The model of a run that has ended after so many steps."""
    path = folder / "model.keras"
    if workdirs.steps_of_model(folder) != steps:
        return None
    try:
        return load_model(str(path))
    except DcignError as error:
        print(f"warning: {error}; it is made again", file=sys.stderr)
        return None


def _train(
    config: TrainingConfig,
    source: GroupSource,
    folder: pathlib.Path,
    cluster: Cluster,
    stops: StopSignals,
) -> DCIGN:
    """As `train`, as one of the processes of a cluster, in a folder of this configuration that is its own."""
    finished = _finished(folder, config.steps)
    cluster.agree(model=int(finished is not None), configuration=_fingerprint(config, source))
    if finished is not None:
        return finished
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    with cluster.strategy.scope():
        model = make_model(config, source)
    checkpoints = Checkpoints(
        folder / workdirs.CHECKPOINTS,
        tf.train.Checkpoint(model=model, optimizer=model.optimizer),
        config.keep_checkpoints,
    )
    checkpoints.restore()
    start = int(model.optimizer.iterations.numpy())
    if start == 0 and config.start_from is not None:
        begun = _starting_model(config, source.factors, source.image_size)
        with cluster.strategy.scope():
            for weight, value in zip(model.trainable_weights, begun.trainable_weights, strict=True):
                weight.assign(value.numpy())
    cluster.agree(checkpoint=start)

    began = time.monotonic()
    log = _Log(source.factors)
    if start < config.steps:
        with _data_errors_explained(source), stops.deferred():
            _run(config, source, model, cluster, checkpoints, folder / "tensorboard", log, stops)
    if cluster.is_chief:
        if config.mixed_precision != "off":
            model = _in_single_precision(model)
        _calibrate(model, source, config.calibration_images)
        _save(model, folder / "model.keras")
        shown = source.mixed("validation", embedding.MOST)
        if len(shown.images):
            codes = model.encode_in_batches(shown.images)
            embedding.write(folder / "tensorboard", codes, shown.images, shown.values)
        summary = {
            "steps": config.steps,
            "steps_in_this_run": config.steps - start,
            "seconds_in_this_run": round(time.monotonic() - began, 1),
            "last": {name: round(value, 6) for name, value in log.recent().items()},
        }
        with files.atomic_write(folder / workdirs.SUMMARY, "w") as file:
            json.dump(summary, file, indent=2)
    cluster.agree(step=config.steps)  # The others wait for the chief: all are done, or none is.
    return model if cluster.is_chief else load_model(str(folder / "model.keras"))


def _fingerprint(config: TrainingConfig, source: GroupSource) -> int:
    """A number that differs where weights would."""
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k not in _FREE}
    return zlib.crc32(json.dumps([settings, source.description]).encode())


def _run(
    config: TrainingConfig,
    source: GroupSource,
    model: DCIGN,
    cluster: Cluster,
    checkpoints: Checkpoints,
    tensorboard: pathlib.Path,
    log: "_Log",
    stops: StopSignals,
) -> None:
    """Does the steps that are left, with what is due in between; of several workers, the chief tells and saves."""
    step = start = int(model.optimizer.iterations.numpy())
    batches = cluster.batches(
        functools.partial(_mini_batches, config, source, start), config.groups_per_step
    )
    run = _make_runner(model, cluster, batches, log)
    at_once = config.steps_per_execution or 1
    with contextlib.ExitStack() as stack:
        bar: Progress | None = None
        if cluster.is_chief:
            stack.enter_context(tf.summary.create_file_writer(str(tensorboard)).as_default())
            bar = stack.enter_context(progress(config.steps, "training", "step", start))
            summaries = _Summaries(source, config, bar)

        def due(every: int) -> bool:
            return step % every == 0 or step == config.steps

        while step < config.steps:
            moments = (config.checkpoint_every, config.summary_every, config.pictures_every)
            count = min(at_once, config.steps - step, *(every - step % every for every in moments))
            # Some would wait forever, did not all do the same steps in a call.
            count = int(cluster.exchange([count]).min())
            called = time.monotonic()
            log.add(step, count, run(count))
            seconds = time.monotonic() - called
            if not config.steps_per_execution:
                at_once = max(1, int(_SECONDS_PER_EXECUTION * count / seconds))
            step += count
            # From here on, a signal is too late for this round; one that any of the workers got is for all.
            caught = int(cluster.exchange([stops.caught or 0]).max())
            stopping = caught > 0
            if stopping and stops.caught is None:
                stops.caught = signal.Signals(caught)
            if stopping or any(map(due, moments)):
                try:
                    log.read()
                except _NotFiniteError as error:
                    raise _explained(error, config, source, checkpoints) from None
            means = log.since_last_point() if step % config.summary_every == 0 else None
            if bar is not None and means is not None:
                summaries.plot(step, means)
            if bar is not None and (stopping or due(config.checkpoint_every)):
                _check_finite(model, step, checkpoints)
                checkpoints.save(step)
            if stopping:
                # Whoever leaves first takes the others' connection away: the chief has to be done.
                cluster.agree(step=step)
                stops.check()
            if bar is None:
                continue
            if due(config.pictures_every):
                summaries.show(model, step)
            shown = log.recent()
            bar.update(
                count, **{k: f"{shown[k]:.4g}" for k in ("objective", "kl", "mse") if k in shown}
            )


class _Outcome(NamedTuple):
    """What some steps logged, K values each; on the device.

    Attributes:
        sums: float [K], over the steps in which a value was finite.
        counts: float [K], how many those were.
        bad: int, the first step with a value that must not be like that, counted from 0; -1 for none.
        bad_values: float [K], what it logged.
    """

    sums: tf.Tensor
    counts: tf.Tensor
    bad: tf.Tensor
    bad_values: tf.Tensor


def _make_runner(
    model: DCIGN, cluster: Cluster, batches: Iterator[Any], log: "_Log"
) -> Callable[[int], _Outcome]:
    """Returns a function that does the next so many steps in one call, without a look at what they give."""
    strategy = cluster.strategy

    def logged(element: Any) -> tf.Tensor:
        logs = model.train_step(element)
        log.names = list(logs)
        return tf.stack([tf.cast(value, tf.float32) for value in logs.values()])

    def step(done: tf.Tensor, sums: Any, counts: Any, bad: Any, bad_values: Any) -> Any:
        on_replicas = strategy.run(logged, args=(next(batches),))
        rows = tf.stack(strategy.experimental_local_results(on_replicas))  # [replicas, K]
        wrong = ~tf.math.is_finite(rows)
        if "loss_scale" in log.names:
            # Gradients too large for float16 are what a loss scale is there for.
            scale = rows[:, log.names.index("loss_scale")]
            norms = tf.constant([name.startswith("gradient_norm/") for name in log.names])
            wrong &= ~(norms & (scale > optimizers.SMALLEST_LOSS_SCALE)[:, tf.newaxis])
        wrong = tf.reduce_any(wrong, axis=1)
        first = tf.reduce_any(wrong) & (bad < 0)
        culprit = rows[tf.argmax(tf.cast(wrong, tf.int32))]
        values = tf.reduce_mean(rows, axis=0)
        finite = tf.math.is_finite(values)
        return (
            done + 1,
            sums + tf.where(finite, values, 0.0),
            counts + tf.cast(finite, tf.float32),
            tf.where(first, done, bad),
            tf.where(first, culprit, bad_values),
        )

    @tf.function(autograph=False)
    def steps(count: tf.Tensor) -> _Outcome:
        # How many values there are, only the first step tells: sums with one zero broadcast.
        zeros, any_length = tf.zeros([1]), tf.TensorShape([None])
        _, *found = tf.while_loop(
            lambda done, *_: done < count,
            step,
            (0, zeros, zeros, -1, zeros),
            (tf.TensorShape([]), any_length, any_length, tf.TensorShape([]), any_length),
        )
        everywhere = _Outcome(*cluster.gather(found))
        # All workers come to the same conclusion, also about who was first to see a bad step.
        first = tf.where(everywhere.bad < 0, tf.int32.max, everywhere.bad)
        culprit = tf.argmin(first)
        return _Outcome(
            tf.reduce_mean(everywhere.sums, axis=0),
            tf.reduce_mean(everywhere.counts, axis=0),
            everywhere.bad[culprit],
            everywhere.bad_values[culprit],
        )

    return lambda count: steps(tf.constant(count))


_TOO_FAST = "The data are finite; a smaller --learning_rate may help, in another --workdir"


class _NotFiniteError(Exception):
    """A step went wrong; says which, what and where.

    Attributes:
        step: its number, counted from 1.
    """

    def __init__(self, step: int, message: str) -> None:
        super().__init__(f"step {step}: {message}")
        self.step = step


def _explained(
    error: _NotFiniteError, config: TrainingConfig, source: GroupSource, checkpoints: Checkpoints
) -> DcignError:
    """The error with its likely cause: a step's mini-batches can be had once more, to be looked at."""
    images, _ = next(iter(_mini_batches(config, source, error.step - 1)))
    finite = tf.math.is_finite(tf.cast(images, tf.float32))
    bad = np.flatnonzero(~tf.reduce_all(finite, axis=[1, 2, 3, 4]).numpy())
    advice = _TOO_FAST
    if len(bad):
        advice = (
            f"Group {bad[0] + 1} of the step's {len(images)} has pixels that are not finite: mend the data; "
            "the same command then resumes"
        )
    return DcignError(
        f"{error}; last good checkpoint: {checkpoints.latest or 'none yet'}. {advice}"
    )


def _check_finite(model: DCIGN, step: int, checkpoints: Checkpoints) -> None:
    """Raises DcignError if a number that a checkpoint would hold is not finite.

    Gradients can be finite and so large that their squares, or the weights they lead to, are not: no objective has told
    so far.
    """
    for variable in (*model.weights, *model.optimizer.variables):
        value = variable.value
        if value.dtype.is_floating and not tf.reduce_all(tf.math.is_finite(value)):
            raise DcignError(
                f"step {step}: {variable.path} is not finite after it; last good checkpoint: "
                f"{checkpoints.latest or 'none yet'}. {_TOO_FAST}"
            )


class _Log:
    """What steps logged; it stays on the device until it is read."""

    def __init__(self, factors: tuple[str, ...]) -> None:
        self.names: list[str] = []
        self._factors = factors
        self._unread: list[tuple[int, int, _Outcome]] = []
        self._read: collections.deque[tuple[int, np.ndarray, np.ndarray]] = collections.deque()
        self._since_last_point: list[tuple[int, np.ndarray, np.ndarray]] = []

    def add(self, step: int, count: int, outcome: _Outcome) -> None:
        """Takes what `count` steps after `step` gave."""
        self._unread.append((step, count, outcome))

    def read(self) -> None:
        """Gets all values from the device.

        Raises:
            _NotFiniteError: one of them must not be like that.
        """
        unread, self._unread = self._unread, []
        for step, count, outcome in unread:
            bad = int(outcome.bad)
            if bad >= 0:
                values = dict(zip(self.names, outcome.bad_values.numpy(), strict=True))
                name = next(name for name, value in values.items() if not math.isfinite(value))
                raise _NotFiniteError(
                    step + bad + 1,
                    f"{name} is not finite, in a group in which "
                    f"{self._factors[int(values['active'])]} varies",
                )
            piece = (count, outcome.sums.numpy(), outcome.counts.numpy())
            self._read.append(piece)
            self._since_last_point.append(piece)
        while (
            sum(count for count, *_ in self._read) - (self._read[0][0] if self._read else 0) > 100
        ):
            self._read.popleft()

    def recent(self) -> dict[str, float]:
        """For each name its mean over the last hundred steps that were read, or a few more."""
        return self._means(self._read)

    def since_last_point(self) -> dict[str, float]:
        """For each name its mean over the steps read since this was last asked."""
        pieces, self._since_last_point = self._since_last_point, []
        return self._means(pieces)

    def _means(self, pieces: Iterable[tuple[int, np.ndarray, np.ndarray]]) -> dict[str, float]:
        pieces = list(pieces)
        if not pieces:
            return {}
        sums = np.sum([sums for _, sums, _ in pieces], axis=0)
        counts = np.sum([counts for _, _, counts in pieces], axis=0)
        means = zip(self.names, sums, counts, strict=True)
        return {name: float(s / n) for name, s, n in means if n > 0 and name != "active"}


def _mini_batches(
    config: TrainingConfig, source: GroupSource, start: int, share: Share = WHOLE
) -> tf.data.Dataset:
    """A share of the groups of step `start` and all that follow; those of a step do not depend on `start`."""
    warmup, ratio = config.ratios(source.factors, source.available("train"))
    later = source.training(
        ratio, config.seed, config.groups_per_step, max(start, config.warmup_steps), share
    )
    if start >= config.warmup_steps:
        return later
    first = source.training(warmup, config.seed, config.groups_per_step, start, share)
    return first.take(config.warmup_steps - start).concatenate(later)


def _scene(source: GroupSource) -> dict[str, Any]:
    """What is needed to draw the same scenes again, for a source that renders."""
    return {"scene": source.config.to_dict()} if isinstance(source, RenderedSource) else {}


def _in_single_precision(model: DCIGN) -> DCIGN:
    """The same model for those who use it, without its optimizer."""
    single = DCIGN.from_config(model.get_config())
    single.set_weights(model.get_weights())
    return single


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
    model.calibrate(mixed.images, values, source.periods)


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
        tf.errors.UnknownError,
    ) as error:
        explained = explain_data_error(source, error)
        if explained is None:
            raise
        raise explained from error


class _Summaries:
    """What TensorBoard shows."""

    _ROWS = 6
    _SWEEP = 7

    def __init__(self, source: GroupSource, config: TrainingConfig, bar: Progress) -> None:
        self._bar = bar
        self._validation = source.mixed("validation")
        self._periods = source.periods
        self._images_per_point = config.summary_every * config.groups_per_step * source.group_size
        self._since: float | None = None

    def plot(self, step: int, means: dict[str, float]) -> None:
        """Adds a point to each curve; the likelihood of a factor's groups is that of those steps that had any."""
        for name in [name for name in means if name.startswith("share/")]:
            share = means.pop(name)
            likelihood = f"negative_log_likelihood/{name.removeprefix('share/')}"
            if share > 0:
                means[likelihood] /= share
            else:
                del means[likelihood]
        for name, value in means.items():
            tf.summary.scalar(f"training/{name}", value, step)
        now = time.monotonic()
        # The first point's steps may not be as many, and include compilation.
        if self._since is not None:
            tf.summary.scalar(
                "speed/images_per_second", self._images_per_point / (now - self._since), step
            )
        self._since = now

    def show(self, model: DCIGN, step: int) -> None:
        """Adds pictures, histograms and measurements on validation images."""
        paused = time.monotonic()
        self._show(model, step)
        if self._since is not None:
            self._since += time.monotonic() - paused

    def _show(self, model: DCIGN, step: int) -> None:
        layout = model.layout
        images = self._validation.images
        means = model.encode_in_batches(images)
        for factor in layout.factors:
            tf.summary.histogram(f"latents/{factor}", means[:, layout.indices(factor)], step)
        shown = []
        for factor in layout.extrinsic:
            latent = told(means, layout.indices(factor))
            truth = self._validation.values[factor]
            known = np.isfinite(truth)
            latent, truth = latent[known], truth[known]
            if known.any() and np.ptp(latent) > 0 and np.ptp(truth) > 0:
                correlation = correlated(
                    latent, truth, factor in layout.circular, self._periods.get(factor)
                )
                tf.summary.scalar(f"validation/pearson/{factor}", correlation, step)
                shown.append(f"{factor} {correlation:.2f}")
        some = images[:100]
        decoded = model.decode(means[:100]).numpy()
        error = np.mean((decoded - some / 255.0) ** 2)
        tf.summary.scalar("validation/mse", error, step)
        correlations = f"|r| of {', '.join(shown)}; " if shown else ""
        self._bar.write(
            f"step {step}, on validation images: {correlations}reconstruction MSE {error:.4f}"
        )
        pairs = np.concatenate([some[: self._ROWS] / 255.0, decoded[: self._ROWS]], axis=2)
        tf.summary.image("input_and_reconstruction", _stack(pairs), step)
        for factor in layout.extrinsic:
            codes = np.repeat(means[: self._ROWS], self._SWEEP, axis=0)
            codes[:, layout.indices(factor)] = np.tile(
                _stops(means, layout, factor, self._SWEEP), [len(means[: self._ROWS]), 1]
            )
            swept = model.decode(codes).numpy()
            rows = swept.reshape(-1, self._SWEEP, *swept.shape[1:])
            tf.summary.image(
                f"sweep/{factor}", _stack(np.concatenate(list(rows.swapaxes(0, 1)), 2)), step
            )


def _stops(means: np.ndarray, layout: CodeLayout, factor: str, count: int) -> np.ndarray:
    """Latents of a factor along its range, or once around its circle; float32 [count, n]."""
    if factor in layout.circular:
        turn = np.linspace(-np.pi, np.pi, count, dtype=np.float32)
        return np.stack([np.cos(turn), np.sin(turn)], axis=1)
    low, high = np.quantile(means[:, layout.indices(factor)], [0.02, 0.98])
    return np.linspace(low, high, count, dtype=np.float32)[:, np.newaxis]


def _stack(rows: np.ndarray) -> np.ndarray:
    """Rows of pictures [n, H, W, 1], one above the other, as one picture [1, n H, W, 1]."""
    return np.concatenate(list(rows), axis=0)[np.newaxis].astype(np.float32)
