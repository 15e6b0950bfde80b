"""Exports a trained model for TensorFlow Serving and for TensorFlow without dcign_tf.

Example:
  dcign-export --model=runs/faces --name=faces

writes saved_models/faces/1/ (or the next free version): a SavedModel with the signatures serving_default (re-
render: images and angles in, images out), encode, edit, decode and reconstruct, and the same for the bytes of picture
files (rerender_bytes, ...); in its assets.extra a model card, README.md and card.json, and requests that warm up
TensorFlow Serving (they need `pip install 'dcign_tf[serving]'`).

  dcign-export --model=runs/faces --name=faces --tflite=float16,int8

writes TensorFlow Lite files into assets.extra, too, and prints how large, fast and exact they are beside the
SavedModel. The scales of int8 are found with training images, and all are compared on test images; with a .keras
file as --model, which comes without data, both are what the model itself renders.
"""

import json
import pathlib
from typing import TYPE_CHECKING, Any

from absl import flags

from dcign_tf import errors
from dcign_tf.cli import common

if TYPE_CHECKING:
    import numpy as np

    from dcign_tf.model import DCIGN

_FORMATS = ("float32", "float16", "int8")
_KNOWN, _UNKNOWN = 100, 32

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
_TFLITE = flags.DEFINE_list(
    "tflite",
    [],
    "also write TensorFlow Lite files of these formats: float32, float16 (weights in half precision), int8 "
    "(networks in integers)",
    flag_values=FLAGS,
)

_SAMPLES = flags.DEFINE_multi_integer(
    "sample",
    [],
    "the number (0, 1, ...) of a held-out test image of the data --model, a workdir, was trained on, to be kept with "
    "the model as a picture to start from in dcign-view; give it again for more",
    lower_bound=0,
    flag_values=FLAGS,
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
    formats = _TFLITE.value
    if set(formats) - set(_FORMATS) or len(set(formats)) < len(formats):
        raise errors.UsageError(
            f"--tflite: got {','.join(formats)}, must be some of {', '.join(_FORMATS)}, each once"
        )
    from dcign_tf import exported, workdirs
    from dcign_tf import model as models
    from dcign_tf.serving import export, samples, signatures, warmup

    if folder := exported.find(_MODEL.value):
        raise errors.UsageError(
            f"--model: {folder} is exported already; it takes a workdir of dcign-train, or a .keras file"
        )
    file = workdirs.model_file(_MODEL.value)
    model = models.load_model(str(file))
    if not model.calibrated:
        raise errors.DcignError(f"{file}: {signatures.UNCALIBRATED}")
    provenance = _provenance(pathlib.Path(_MODEL.value))
    lite_files: dict[str, bytes] = {}
    if formats:
        from dcign_tf.serving import lite

        known, unknown = _examples(model)
        lite_files = {kind: lite.convert(model, kind, known) for kind in formats}
    pictures: Any = ()
    if _SAMPLES.value:
        pictures = samples.held_out(_MODEL.value, _SAMPLES.value, model.image_size)
    folder = export.export(
        model, _NAME.value, _VERSION.value, _OUTPUT.value, provenance, lite_files, pictures
    )
    print(f"wrote {folder}")
    if not warmup.available():
        print("without warm-up requests: pip install 'dcign_tf[serving]' brings what they need")
    if formats:
        size = sum(path.stat().st_size for path in (folder / "variables").iterdir())
        size += (folder / "saved_model.pb").stat().st_size
        rows = lite.compare(model, size, lite_files, unknown)
        print(lite.table(rows, model.units))


def _examples(model: "DCIGN") -> "tuple[np.ndarray, np.ndarray]":
    """Images to find the scales of int8 with, and others to compare with; float32 [N, S, S, 1]."""
    import numpy as np

    from dcign_tf.serving import samples

    counts = {"train": _KNOWN, "test": _UNKNOWN}
    if pathlib.Path(_MODEL.value).is_dir():
        found = [
            samples.mixed(_MODEL.value, split, count, model.image_size, "--tflite")
            for split, count in counts.items()
        ]
        if all(map(len, found)):
            return found[0], found[1]
    codes = np.random.default_rng(0).normal(size=[_KNOWN + _UNKNOWN, model.layout.latents])
    images = model.decode(codes.astype(np.float32)).numpy()
    return images[:_KNOWN], images[_KNOWN:]


def _provenance(workdir: pathlib.Path) -> dict[str, Any]:
    """What a workdir tells of its model's training and quality; nothing for other paths."""
    from dcign_tf import workdirs

    found: dict[str, Any] = {}
    if not workdir.is_dir():
        return found
    config = _read_json(workdir / "config.json")
    # Not where the data lie: that is a path of this machine and nobody else's.
    found.update({key: config[key] for key in ("data", "training") if key in config})
    if isinstance(command := config.get("command"), str):
        found["command"] = workdirs.without_places(command)
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
