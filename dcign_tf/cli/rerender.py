"""Turns, raises and re-lights what a picture shows.

Examples:
  dcign-rerender --image=face.png --azimuth=-60:60:7
  dcign-rerender --model=runs/faces --image=face.png --azimuth=-60:60:7
  dcign-rerender --model=runs/faces --image=face.jpg --azimuth=-60:60:7 --elevation=-20,0,20
  dcign-rerender --model=saved_models/faces --image=a.png --image=b.png --set=light_azimuth=-70:70:7
  dcign-rerender --model=runs/faces --sample=0 --azimuth=45
  dcign-rerender --image=me.jpg --crop=face --cut_out --azimuth=-45:45:7
  dcign-rerender --image=me.jpg --crop=face --cut_out --keep_detail --azimuth=-45:45:7

  dcign-rerender --model=runs/chairs --sample=3 --set=spin=0:330:12

  dcign-rerender --server=http://localhost:8501 --model=faces --image=face.png --azimuth=-60:60:7

The model (a trained network) reads one image, sets one or two factors to other values and renders the result: a
strip or a grid as a PNG, and an animated GIF beside it. Images may be any PNG or JPEG; their central square is
used, or what --crop says, and looks best when a head fills it as in training: before black, as --cut_out lays it, or
before anything if the model was trained on --photographic=full heads. Any factor of the model may be --set, in its
own unit; the factors of faces have flags of their own. Angles are degrees: azimuth 0 faces the camera and positive
turns to the viewer's right, positive elevation looks up, positive light_azimuth is light from the viewer's right.
"""

import os
import pathlib
from typing import TYPE_CHECKING

from absl import flags

from dcign_tf import errors
from dcign_tf.cli import common
from dcign_tf.serving import NAMED_FACTORS, server_address

if TYPE_CHECKING:
    import numpy as np

    from dcign_tf.serving import client, engine, rerender

_VALUES = "degrees: a number, a list such as -30,0,30, or start:stop:count such as -60:60:7"

FLAGS = common.command_flags()
_MODEL = flags.DEFINE_string(
    "model",
    None,
    "a workdir of dcign-train, a .keras file, or a folder that dcign-export made; by default the model of faces "
    "that ships with dcign_tf",
    flag_values=FLAGS,
)
_SERVER = flags.DEFINE_string(
    "server",
    None,
    "TensorFlow Serving's address, http://host:8501 or grpc://host:8500, for a model that runs there; --model is "
    "then its name on the server, by default faces",
    flag_values=FLAGS,
)
_IMAGES = flags.DEFINE_multi_string(
    "image", [], "a PNG or JPEG to re-render; give it again for more", flag_values=FLAGS
)
_SAMPLES = flags.DEFINE_multi_integer(
    "sample",
    [],
    "instead of --image: the number (0, 1, ...) of a held-out test image of the data --model, a "
    "workdir, was trained on; "
    "give it again for more",
    lower_bound=0,
    flag_values=FLAGS,
)
_CROP = flags.DEFINE_string(
    "crop",
    "center",
    "which square of an --image is used: center for the central one, face for a loose one around the largest face "
    "(needs scikit-image: pip install 'dcign_tf[photos]'), or left,top,right,bottom in its pixels",
    flag_values=FLAGS,
)
_CUT_OUT = flags.DEFINE_boolean(
    "cut_out",
    False,
    "lay the head of an --image before black, for models of such heads (needs scikit-image, too)",
    flag_values=FLAGS,
)
_KEEP_DETAIL = flags.DEFINE_boolean(
    "keep_detail",
    False,
    "for heads before black: carry along what the image shows of the face, laid over a head of no one in particular; "
    "the network gives the pose and all that the image does not show",
    flag_values=FLAGS,
)
_NAMED = {
    factor: flags.DEFINE_string(factor, None, f"{factor} to render, {_VALUES}", flag_values=FLAGS)
    for factor in NAMED_FACTORS
}
_SET = flags.DEFINE_multi_string(
    "set",
    [],
    "any factor of the model to render: --set=<factor>=<values>, with values as in --azimuth; "
    "give it again for more",
    flag_values=FLAGS,
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "the PNG to write; by default <image>_rerendered.png in the current folder",
    flag_values=FLAGS,
)
_GIF = flags.DEFINE_boolean(
    "gif", True, "also write an animation beside the PNG, as .gif", flag_values=FLAGS
)


def main(argv: list[str]) -> None:
    """Checks all that can be checked without TensorFlow, then renders and writes."""
    del argv
    if _SERVER.value is not None:
        server_address.parse_address(_SERVER.value, "--server")
        if _SAMPLES.value:
            raise errors.UsageError(
                "--sample: needs a workdir, which a server does not have; give --image with --server"
            )
    if bool(_IMAGES.value) == bool(_SAMPLES.value):
        raise errors.UsageError("--image: give one or more of --image, or of --sample, not both")
    if "" in _IMAGES.value:
        raise errors.UsageError("--image: got an empty name, must be a PNG or JPEG file")
    from dcign_tf import images
    from dcign_tf.serving import shipped

    wanted = _wanted()
    output = _output_path()
    model: str | pathlib.Path
    if _SERVER.value is not None:
        model = "faces" if _MODEL.value is None else _MODEL.value
    else:
        model = _MODEL.value or shipped.find()
    pictures = _pictures()

    import numpy as np

    from dcign_tf.serving import rerender

    engine = _engine(model)
    rerender.check_values(engine, wanted, len(pictures) or len(_SAMPLES.value))
    if pictures:
        names = list(_IMAGES.value)
        inputs = np.stack([images.fit_square(picture, engine.image_size) for picture in pictures])
    else:
        from dcign_tf.serving import samples

        names = [f"test image {number}" for number in _SAMPLES.value]
        inputs = samples.held_out(model, _SAMPLES.value, engine.image_size)
    result = rerender.rerender(engine, inputs, wanted)

    files = {output: images.png_bytes(result.sheet)}
    if _GIF.value:
        files[output.with_suffix(".gif")] = images.gif_bytes(result.frames, rerender.FPS)
    for path, content in files.items():
        images.write_bytes(path, content)
    for index, name in enumerate(names):
        read = (
            f"{f} {values[index]:.4g} {engine.units[f]}".rstrip()
            for f, values in result.inferred.items()
        )
        print(f"{name}: inferred {', '.join(read)}")
    print(f"wrote {' and '.join(str(path) for path in files)}")


def _pictures() -> list["np.ndarray"]:
    """The squares of the input images."""
    from dcign_tf import images
    from dcign_tf.serving import faces

    for flag in ("crop", "cut_out"):
        if FLAGS[flag].present and not _IMAGES.value:
            raise errors.UsageError(f"--{flag}: makes no sense with --sample; it is for --image")
    faces.check_crop(_CROP.value)
    pictures = []
    for path in _IMAGES.value:
        cropped = faces.crop(images.read_image(path), _CROP.value, path)
        if cropped.faces > 0:
            square = cropped.square
            corners = (
                f"{square.left},{square.top},{square.left + square.side},{square.top + square.side}"
            )
            found = (
                "a face" if cropped.faces == 1 else f"{cropped.faces} faces and took the largest"
            )
            print(f"{path}: found {found}; used the square {corners}")
        pictures.append(faces.cut_out(cropped.image) if _CUT_OUT.value else cropped.image)
    return pictures


def _engine(model: str | pathlib.Path) -> "rerender.Engine":
    """The model of this name on the server, or at this place here."""
    known: engine.Engine | client.Client
    if _SERVER.value is not None:
        from dcign_tf.serving.client import Client

        known = Client(_SERVER.value, str(model))
    else:
        from dcign_tf.serving.engine import open_engine

        known = open_engine(model)
    if not _KEEP_DETAIL.value:
        return known
    from dcign_tf.serving.detail import Detailed

    return Detailed(known)


def _wanted() -> dict[str, tuple[float, ...]]:
    """The values of all factors that were named, one way or the other."""
    from dcign_tf.serving import rerender

    values = {
        factor: rerender.parse_values(flag.value, factor)
        for factor, flag in _NAMED.items()
        if flag.value is not None
    }
    for setting in _SET.value:
        factor, equals, text = (part.strip() for part in setting.partition("="))
        if not equals or not factor.isidentifier():
            raise errors.UsageError(
                f"--set: got {setting!r}, must be <factor>=<values>, such as azimuth=-60:60:7"
            )
        if factor in values:
            raise errors.UsageError(f"--set: {factor} is given twice; once is right")
        values[factor] = rerender.parse_values(text, f"set={factor}")
    return values


def _output_path() -> pathlib.Path:
    """Where the PNG goes.

    Raises:
        UsageError: that is no place for it, or would replace an input.
    """
    if _OUTPUT.value is not None:
        output = pathlib.Path(_OUTPUT.value)
    elif _IMAGES.value:
        output = pathlib.Path(f"{pathlib.Path(_IMAGES.value[0]).stem}_rerendered.png")
    else:
        output = pathlib.Path(f"sample{_SAMPLES.value[0]}_rerendered.png")
    if output.suffix.lower() != ".png" or output.stem in ("", "."):
        raise errors.UsageError(f"--output: got {_OUTPUT.value!r}, must be the name of a .png file")
    if not output.parent.is_dir():
        raise errors.UsageError(f"--output: got {output}, but there is no folder {output.parent}")
    for path in _IMAGES.value:
        if os.path.exists(path) and output.exists() and os.path.samefile(path, output):
            raise errors.UsageError(
                f"--output: {output} is an input image; it would be overwritten"
            )
    return output


def main_entry() -> None:
    """Runs the command."""
    common.run(main, FLAGS)


if __name__ == "__main__":
    main_entry()
