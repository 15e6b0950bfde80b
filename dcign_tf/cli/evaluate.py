"""Measures a trained network on identities it never saw and draws what it learned.

Examples:
  dcign-evaluate --workdir=runs/faces
  dcign-evaluate --workdir=runs/faces --baseline_workdir=runs/entangled
  dcign-evaluate --workdir=runs/faces --data=data/other_faces
  dcign-evaluate --workdir=runs/faces --light_elevation=40
  dcign-evaluate --compare=runs/faces,runs/entangled

Into the workdir's folder evaluation/ it writes metrics.json, the paper's Fig. 4 to 7 as PNG, and report.html,
one page with all of it. The images are those of the data set the network was trained on, or of --data. Flags of
the scene, where given, change what the run was trained on, and such scenes are rendered on the fly.
"""

from typing import Any

from absl import flags

from dcign_tf.cli import common, scene_flags
from dcign_tf.errors import UsageError

FLAGS = common.command_flags()
scene_flags.define(FLAGS)
# Of no use here: nothing is stored, and there is nothing to train on.
for _name in ("train_groups", "validation_groups", "test_groups", "mixed_images", "processes"):
    delattr(FLAGS, _name)

_WORKDIR = flags.DEFINE_string("workdir", None, "a workdir of dcign-train", flag_values=FLAGS)
_DATA = flags.DEFINE_string(
    "data",
    None,
    "folder of another data set (dcign-data) than the one it was trained on",
    flag_values=FLAGS,
)
_SPLIT = flags.DEFINE_enum(
    "split", "test", ["test", "validation", "train"], "which part of the data", flag_values=FLAGS
)
_BASELINE = flags.DEFINE_string(
    "baseline_workdir",
    None,
    "workdir of the entangled baseline (dcign-train --procedure=sgvb), to compare with",
    flag_values=FLAGS,
)
_IMAGES = flags.DEFINE_integer(
    "images",
    2000,
    "images in which everything varies to measure on, at most",
    lower_bound=20,
    flag_values=FLAGS,
)
_GROUPS = flags.DEFINE_integer(
    "groups", 50, "mini-batches of each factor, at most", lower_bound=2, flag_values=FLAGS
)
_PAIRS = flags.DEFINE_integer(
    "pairs", 500, "re-renderings of each factor to measure", lower_bound=1, flag_values=FLAGS
)
_COMPARE = flags.DEFINE_list(
    "compare",
    None,
    "workdirs that were evaluated before, whose numbers are printed side by side, in Markdown",
    flag_values=FLAGS,
)


def main(argv: list[str]) -> None:
    """Evaluates as the flags say."""
    del argv
    if _COMPARE.value is not None:
        if _WORKDIR.value:
            raise UsageError("--workdir: has no use beside --compare; leave one of them out")
        from dcign_tf.evaluation import comparison

        print(comparison.table(comparison.read(_COMPARE.value)))
        return
    if not _WORKDIR.value:
        raise UsageError("--workdir: missing; name a workdir of dcign-train")
    from dcign_tf.evaluation import workdir

    run = workdir.find(_WORKDIR.value)
    baseline = (
        workdir.find(_BASELINE.value, "baseline_workdir") if _BASELINE.value is not None else None
    )
    from dcign_tf.evaluation.evaluate import Settings

    settings = Settings(_IMAGES.value, _GROUPS.value, _PAIRS.value)
    source = workdir.open_data(run, _DATA.value, _scene(), max(_IMAGES.value, 1000), _GROUPS.value)
    metrics = workdir.evaluate(run, source, _SPLIT.value, baseline, settings)
    print(table(metrics))
    print(f"wrote {run.folder / workdir.FOLDER}: metrics.json, report.html and figures")


def _scene() -> dict[str, Any]:
    """The scene's flags that are on the command line."""
    scene = flags.FlagValues()
    scene_flags.define(scene)
    return {name: FLAGS[name].value for name in scene if name in FLAGS and FLAGS[name].present}


def table(metrics: dict[str, Any]) -> str:
    """The most important numbers, in a few lines."""
    from dcign_tf.evaluation.report import amount, number

    lines = []
    for title, block in (("network", metrics), ("baseline", metrics["baseline"])):
        if not block:
            continue
        lines.append(
            f"{title:<14}{'|r|':>7}{'R2':>8}{'median error':>14}{'invariance':>12}{'re-rendered':>13}{'unchanged':>11}"
        )
        for factor, numbers in block["inference"].items():
            rendered = block["rerendering"][factor]
            lines.append(
                f"{factor:<14}{number(numbers['pearson'], 3):>7}{number(numbers['r2_calibrated'], 3):>8}"
                f"{amount(numbers['median_abs_error'], block['units'][factor]):>14}"
                f"{number(block['invariance'][factor], 3):>12}{number(rendered['mse']):>13}"
                f"{number(rendered['mse_unchanged']):>11}"
            )
        of_field = ", ".join(
            f"{name} {number(value, 3)}" for name, value in block["disentanglement"].items()
        )
        lines += [f"reconstruction MSE {number(block['reconstruction']['mse'])}", of_field]
    return "\n".join(lines)


def main_entry() -> None:
    """Runs the command."""
    common.run(main, FLAGS)


if __name__ == "__main__":
    main_entry()
