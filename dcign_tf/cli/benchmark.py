"""Times this package against its peers on this machine.

Examples:
  dcign-benchmark
  dcign-benchmark --parts=training,memory --rounds=9 --output=benchmark
  dcign-benchmark --quick

Side by side, in turns: the training step against plain Keras and PyTorch, peak memory, the renderer against
VTK and Embree, the input pipeline, the exported model, how the step grows, and what determinism and distribution
cost. Peers that are not installed are left out; `pip install 'dcign_tf[benchmark]'` brings them. Leave the machine
alone meanwhile. All of it takes about half an hour on two cores. It prints a table in Markdown and writes benchmark.md,
benchmark.json and a plot into --output.
"""

from absl import flags

from dcign_tf.benchmarks import run
from dcign_tf.cli import common
from dcign_tf.errors import UsageError

FLAGS = common.command_flags()
_PARTS = flags.DEFINE_list(
    "parts",
    None,
    f"what to measure, some of {', '.join(run.PARTS)}; by default all",
    flag_values=FLAGS,
)
_ROUNDS = flags.DEFINE_integer(
    "rounds",
    15,
    "how often each candidate has its turn",
    lower_bound=2,
    flag_values=FLAGS,
)
_DATA = flags.DEFINE_string(
    "data",
    None,
    "folder of a data set (dcign-data) for the part pipeline; by default a small one is rendered for the occasion",
    flag_values=FLAGS,
)
_SOURCE = flags.DEFINE_string(
    "source",
    "builtin_face",
    "whose mesh the part rendering draws: builtin_face, ict_facekit or morphable_model, as in dcign-data",
    flag_values=FLAGS,
)
_SOURCE_PATH = flags.DEFINE_string(
    "source_path", None, "that source's files, as in dcign-data", flag_values=FLAGS
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "folder for the report; by default it is printed only", flag_values=FLAGS
)
_QUICK = flags.DEFINE_boolean(
    "quick",
    False,
    "tiny networks and three turns: shows in two minutes that everything works, its figures mean nothing",
    flag_values=FLAGS,
)


def main(argv: list[str]) -> None:
    """Measures as the flags say."""
    del argv
    from dcign_tf import scenes
    from dcign_tf.benchmarks.sections import Settings

    parts = list(run.PARTS) if _PARTS.value is None else _PARTS.value
    unknown = [part for part in parts if part not in run.PARTS]
    if unknown or not parts or len(set(parts)) < len(parts):
        raise UsageError(
            f"--parts: got {','.join(parts) or 'nothing'}, must be some of {', '.join(run.PARTS)}, each once"
        )
    if _OUTPUT.value == "":
        raise UsageError("--output: got an empty name, must be a folder")
    if _DATA.value == "":
        raise UsageError("--data: got an empty name, must be a folder of dcign-data")
    if "rendering" in parts:
        scenes.load_source(
            _SOURCE.value, _SOURCE_PATH.value
        )  # What is wrong with it is said at once.
    settings = Settings(
        rounds=_ROUNDS.value,
        data=_DATA.value,
        source=_SOURCE.value,
        source_path=_SOURCE_PATH.value,
    )
    if _QUICK.value:
        settings = settings._replace(
            image_size=38,
            encoder_filters=(2, 2, 2),
            decoder_filters=(2, 2, 2),
            latents=6,
            batch=4,
            rounds=3,
            warm_up=1,
            quick=True,
        )
    print(run.run(parts, settings, _OUTPUT.value), end="")


def main_entry() -> None:
    """Runs the command."""
    common.run(main, FLAGS)


if __name__ == "__main__":
    main_entry()
