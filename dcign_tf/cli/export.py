"""Exports a trained model for TensorFlow Serving and for TensorFlow without dcign_tf.

Example:
  dcign-export --model=runs/faces --name=faces

writes saved_models/faces/1/ (or the next free version): a SavedModel with the signatures serving_default (re-
render: images and angles in, images out), encode, decode and reconstruct, and in its assets.extra a model card,
README.md and card.json.
"""

import json
import pathlib
from typing import Any

from absl import flags

from dcign_tf import errors
from dcign_tf.cli import common

FLAGS = common.command_flags()
_MODEL = flags.DEFINE_string(
    "model", None, "a workdir of dcign-train, or a .keras file", flag_values=FLAGS
)
_NAME = flags.DEFINE_string(
    "name", None, "what the model is called where it is served", flag_values=FLAGS
)
_VERSION = flags.DEFINE_integer(
    "version",
    None,
    "number of the version; by default one more than the highest there is",
    lower_bound=1,
    flag_values=FLAGS,
)
_OUTPUT = flags.DEFINE_string(
    "output", "saved_models", "folder of exported models", flag_values=FLAGS
)


def main(argv: list[str]) -> None:
    """Loads and exports."""
    del argv
    if not _MODEL.value:
        raise errors.UsageError("--model: required; a workdir of dcign-train, or a .keras file")
    if not _NAME.value:
        raise errors.UsageError("--name: required; what the model is called where it is served")
    if not _OUTPUT.value:
        raise errors.UsageError("--output: got an empty name, must be a folder")
    from dcign_tf import model as models
    from dcign_tf.serving import engine, export, signatures

    file = engine.keras_file(_MODEL.value)
    model = models.load_model(str(file))
    if not model.calibrated:
        raise errors.DcignError(f"{file}: {signatures.UNCALIBRATED}")
    folder = export.export(
        model, _NAME.value, _VERSION.value, _OUTPUT.value, _provenance(pathlib.Path(_MODEL.value))
    )
    print(f"wrote {folder}")


def _provenance(workdir: pathlib.Path) -> dict[str, Any]:
    """What a workdir tells of its model's training and quality; nothing for other paths."""
    found: dict[str, Any] = {}
    if not workdir.is_dir():
        return found
    config = _read_json(workdir / "config.json")
    # Not where the data lie: that is a path of this machine and nobody else's.
    found.update({key: config[key] for key in ("data", "training") if key in config})
    metrics = _read_json(workdir / "evaluation" / "metrics.json")
    if metrics:
        found["metrics"] = metrics
    return found


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise errors.DcignError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(content, dict):
        raise errors.DcignError(f"{path}: not a JSON object, as dcign_tf writes there")
    return content


def main_entry() -> None:
    """Runs the command."""
    common.run(main, FLAGS)


if __name__ == "__main__":
    main_entry()
