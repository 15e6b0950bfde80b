"""Trains a Deep Convolutional Inverse Graphics Network; the same command again resumes.

    dcign-train --workdir=runs/faces --data=data/faces --image_size=70

Without a data set in --data one is made there first, as dcign-data would by the same flags; with --render_on_the_fly
every step's scenes are drawn anew and nothing is stored. Watch it with `tensorboard --logdir runs`. SIGTERM and
Ctrl-C leave a checkpoint (exit status 143 and 130).
"""

import functools
import pathlib
import shlex

from absl import flags

from dcign_tf.cli import common, scene_flags

FLAGS = common.command_flags()
scene_flags.define(FLAGS)
scene_flags.define_tables(FLAGS)


def _list(name: str, default: list[str] | None, text: str) -> flags.FlagHolder:
    return flags.DEFINE_list(name, default, text, flag_values=FLAGS)


def _integer(name: str, default: int, text: str) -> flags.FlagHolder:
    return flags.DEFINE_integer(name, default, text, flag_values=FLAGS)


def _float(name: str, default: float, text: str) -> flags.FlagHolder:
    return flags.DEFINE_float(name, default, text, flag_values=FLAGS)


def _choice(name: str, default: str, choices: list[str], text: str) -> flags.FlagHolder:
    return flags.DEFINE_enum(name, default, choices, text, flag_values=FLAGS)


_WORKDIR = flags.DEFINE_string(
    "workdir", None, "folder of the run: checkpoints, TensorBoard, the model", flag_values=FLAGS
)
_DATA = flags.DEFINE_string(
    "data",
    None,
    "folder of the data set (dcign-data); made first if there is none; default: <workdir>/data",
    flag_values=FLAGS,
)
_ON_THE_FLY = flags.DEFINE_boolean(
    "render_on_the_fly",
    False,
    "draw every step's faces anew instead of reading a data set",
    flag_values=FLAGS,
)
_DATA_SERVICE = flags.DEFINE_string(
    "data_service",
    None,
    "with --render_on_the_fly: grpc://host:port of a dispatcher (dcign-data --serve=dispatcher) whose workers render",
    flag_values=FLAGS,
)
_ENCODER_FILTERS = _list(
    "encoder_filters", ["96", "64", "32"], "channels of the encoder's three convolutions (Fig. 1)"
)
_DECODER_FILTERS = _list(
    "decoder_filters",
    ["32", "64", "96"],
    "channels of the decoder's feature map and first convolution, its second and third (Fig. 1)",
)
_LATENTS = _integer("latents", 200, "length of the graphics code")
_CIRCULAR = _list(
    "circular",
    [],
    "factors that turn all the way around: two latents each, of which the direction counts (see docs/training.md)",
)
_STRENGTH = _float(
    "invariance_strength",
    0.01,
    "weight of the signal that draws inactive latents to their group's mean (section 3.2)",
)
_CLAMP_TO = _choice(
    "clamp_to",
    "mean",
    ["mean", "first", "another"],
    "what inactive latents become: their group's mean (the paper), or those of its first image (the authors' code) or, "
    "for each image, of another one",
)
_PROCEDURE = _choice(
    "procedure",
    "clamp",
    ["clamp", "exchange", "ml_vae", "group_vae", "ada_gvae", "sgvb", "beta_vae"],
    "clamp is the paper's; exchange, ours, draws each image with what its mini-batch shares taken from another one of "
    "it, as re-rendering does; ml_vae, group_vae and ada_gvae grew from the paper's idea: latents that a mini-batch "
    "shares have the product or the average of its posteriors, and ada_gvae finds out by itself which these are; sgvb "
    "shares nothing, the entangled baseline of section 4.1.1, nor does beta_vae, which needs --beta",
)
_CLAMP_GRADIENT = _choice(
    "clamp_gradient",
    "replace",
    ["replace", "add"],
    "what clamped latents get: the invariance signal alone (the paper), or the objective's gradient through their mean "
    "as well",
)
_INVARIANCE = _choice(
    "invariance",
    "absolute",
    ["absolute", "relative"],
    "the invariance signal: a clamped latent's distance from its mean (the paper), or relative to how much the latent "
    "varies in the whole step, which needs --groups_per_step of 2 or more",
)
_INVARIANCE_WARMUP = _integer(
    "invariance_warmup_steps",
    0,
    "steps in which --invariance_strength rises linearly from 0; 0 is the paper",
)
_BETA = _float("beta", 1.0, "weight of the divergence from the prior, for any procedure")
_KL_WARMUP = _integer(
    "kl_warmup_steps", 0, "steps in which --beta rises linearly from 0; 0 is the paper"
)
_START_FROM = flags.DEFINE_string(
    "start_from",
    None,
    "a finished workdir, a .keras file or an exported model (such as saved_models/faces), whose weights to start from "
    "instead of random ones; its factors must be the data's, and its network is this run's",
    flag_values=FLAGS,
)
_STEPS = _integer("steps", 12000, "number of updates")
_GROUPS = _integer("groups_per_step", 1, "mini-batches in one update; 1 is the paper")
_RATIO = _list(
    "ratio",
    None,
    "how often each factor varies, in the data's order; by default 1 for each extrinsic factor (azimuth, elevation, "
    "light_azimuth of rendered scenes) and 10 for the intrinsic one, the rest (section 3.1)",
)
_WARMUP = _integer(
    "warmup_steps", 0, "steps at the start that use --warmup_ratio instead; 0 is the paper"
)
_WARMUP_RATIO = _list(
    "warmup_ratio",
    None,
    "as --ratio, for the first --warmup_steps steps; by default 1 for each extrinsic factor and 0 for the rest",
)
_OPTIMIZER = _choice(
    "optimizer",
    "adam",
    ["adam", "rmsprop", "muon"],
    "adam is the authors' rmsprop in today's terms; rmsprop takes the paper's words literally "
    "(momentum 0.1, L2 weight decay 0.01); muon, ours, learns in fewer steps (see docs/training.md)",
)
_LEARNING_RATE = _float("learning_rate", 5e-4, "at the start")
_SCHEDULE = _choice(
    "schedule", "constant", ["constant", "cosine"], "of the learning rate; cosine falls to 2 %"
)
_BETA_1 = _float(
    "beta_1", 0.9, "adam's and muon's first decay; the paper's momentum decay is 1 minus it"
)
_BETA_2 = _float("beta_2", 0.99, "adam's second decay; the paper's weight decay is 1 minus it")
_STRATEGY = _choice(
    "strategy",
    "auto",
    ["auto", "one_device", "mirrored", "multi_worker", "tpu"],
    "how a step's mini-batches are spread over devices and machines: auto takes the workers that TF_CONFIG names, or "
    "all GPUs it can share whole mini-batches among",
)
_DETERMINISTIC = flags.DEFINE_boolean(
    "deterministic", False, "same flags, same machine, same bits; may be slower", flag_values=FLAGS
)
_JIT_COMPILE = flags.DEFINE_boolean(
    "jit_compile", False, "compile the step's forward and backward pass with XLA", flag_values=FLAGS
)
_MIXED_PRECISION = _choice(
    "mixed_precision",
    "off",
    ["off", "bfloat16", "float16"],
    "type of convolutions and matrix products on devices that are faster with it; weights and sums stay float32",
)
_STEPS_PER_EXECUTION = _integer(
    "steps_per_execution",
    0,
    "steps that the device does at most before Python has its turn; 0: as many as take half a second",
)
_CALIBRATION = _integer(
    "calibration_images", 2000, "training images that the latents are calibrated to true values on"
)
_CHECKPOINT_EVERY = _integer("checkpoint_every", 500, "steps between checkpoints")
_KEEP = _integer("keep_checkpoints", 2, "how many checkpoints to keep")
_SUMMARY_EVERY = _integer("summary_every", 20, "steps between points of TensorBoard's curves")
_PICTURES_EVERY = _integer(
    "pictures_every", 500, "steps between TensorBoard's pictures and histograms"
)


def main(argv: list[str]) -> None:
    """Trains as the flags say."""
    del argv
    from dcign_tf import distribution, training
    from dcign_tf.errors import UsageError

    if not _WORKDIR.value:
        raise UsageError("--workdir: missing; name the folder of the run")
    workdir = pathlib.Path(_WORKDIR.value)
    network = {
        "encoder_filters": _numbers("encoder_filters", int),
        "decoder_filters": _numbers("decoder_filters", int),
        "latents": _LATENTS.value,
        "circular": tuple(_CIRCULAR.value),
    }
    if _START_FROM.value is not None:
        found = training.network_to_start_from(_START_FROM.value, workdir)
        network |= {name: value for name, value in found.items() if not FLAGS[name].present}
    config = training.TrainingConfig(
        **network,
        invariance_strength=_STRENGTH.value,
        clamp_to=_CLAMP_TO.value,
        procedure=_PROCEDURE.value,
        clamp_gradient=_CLAMP_GRADIENT.value,
        invariance=_INVARIANCE.value,
        invariance_warmup_steps=_INVARIANCE_WARMUP.value,
        beta=_BETA.value,
        kl_warmup_steps=_KL_WARMUP.value,
        start_from=_START_FROM.value,
        steps=_STEPS.value,
        groups_per_step=_GROUPS.value,
        ratio=_numbers("ratio", float) if _RATIO.value is not None else None,
        warmup_steps=_WARMUP.value,
        warmup_ratio=_numbers("warmup_ratio", float) if _WARMUP_RATIO.value is not None else None,
        optimizer=_OPTIMIZER.value,
        learning_rate=_LEARNING_RATE.value,
        schedule=_SCHEDULE.value,
        beta_1=_BETA_1.value,
        beta_2=_BETA_2.value,
        seed=FLAGS["seed"].value,
        strategy=_STRATEGY.value,
        deterministic=_DETERMINISTIC.value,
        jit_compile=_JIT_COMPILE.value,
        mixed_precision=_MIXED_PRECISION.value,
        steps_per_execution=_STEPS_PER_EXECUTION.value,
        calibration_images=_CALIBRATION.value,
        checkpoint_every=_CHECKPOINT_EVERY.value,
        keep_checkpoints=_KEEP.value,
        summary_every=_SUMMARY_EVERY.value,
        pictures_every=_PICTURES_EVERY.value,
    )
    service = None
    if _DATA_SERVICE.value is not None:
        from dcign_tf.datasets.service import parse_target

        service = parse_target("data_service", _DATA_SERVICE.value)
        if not _ON_THE_FLY.value:
            raise UsageError("--data_service: makes no sense without --render_on_the_fly")
    data = pathlib.Path(_DATA.value or workdir / "data")
    cluster = distribution.join(config.strategy, config.groups_per_step)
    with cluster.chief_first():  # It may have to make the data set.
        source = scene_flags.source_from_flags(
            FLAGS,
            data,
            _ON_THE_FLY.value,
            functools.partial(training.check, config, workdir=workdir),
            service,
        )
    # Where later commands find the images, next to the configuration that says what they must be.
    where = None if _ON_THE_FLY.value else str(data.resolve())
    training.train(
        config, source, workdir, data_path=where, cluster=cluster, command=_command_line()
    )
    if cluster.is_chief:
        print(f"{workdir / 'model.keras'}: trained and calibrated")


def _command_line() -> str:
    """The command with all flags that were given, those of flag files, too: what they say may change."""
    given = [
        FLAGS[name].serialize()
        for name in sorted(FLAGS)
        if FLAGS[name].present and name not in ("debug", "workdir")
    ]
    return shlex.join(["dcign-train", *filter(None, given)])


def _numbers(name: str, kind: type) -> tuple:
    try:
        return tuple(kind(text) for text in FLAGS[name].value)
    except ValueError:
        from dcign_tf.errors import UsageError

        raise UsageError(
            f"--{name}: got {','.join(FLAGS[name].value)}, must be numbers with commas between"
        ) from None


def main_entry() -> None:
    """Runs the command."""
    common.run(main, FLAGS)


if __name__ == "__main__":
    main_entry()
