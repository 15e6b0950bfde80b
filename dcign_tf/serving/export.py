"""Trained models as SavedModels, which TensorFlow and TensorFlow Serving load without this package."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

import dcign_tf
from dcign_tf import exported, images
from dcign_tf.errors import DcignError, UsageError
from dcign_tf.model import DCIGN
from dcign_tf.serving import pictures, signatures, warmup
from dcign_tf.serving.description import factors_signature

# How often to take another version when others export under the same name at the same time.
_ATTEMPTS = 10


def export(
    model: DCIGN,
    name: str,
    version: int | None = None,
    output: str | os.PathLike[str] = "saved_models",
    provenance: Mapping[str, Any] | None = None,
    lite: Mapping[str, bytes] | None = None,
    samples: Iterable[Any] = (),
) -> pathlib.Path:
    """Writes `<output>/<name>/<version>/`, a SavedModel, with a model card and more in its `assets.extra`.

    Its signatures are those of `signatures`; rerender is `serving_default`, too. Beside the card are the requests of
    `warmup`, if they are `warmup.available`, and TensorFlow Lite files. The folder appears under its
    final name when it is complete, so that a server that polls for versions never sees half of one.

    Args:
        model: calibrated.
        name: the model's name for its users.
        version: 1 or more; by default the one after the highest there is.
        output: folder of all exported models; made if missing.
        provenance: what else the card says, such as the training's configuration and metrics; fit for JSON.
        lite: TensorFlow Lite files by their format, as `lite.convert` makes them.
        samples: images to start from in dcign-view, uint8 or float in [0, 1], [S, S, 1].

    Returns:
        The folder.

    Raises:
        UsageError: the name is not fit for a folder, or the version exists.
        DcignError: the model was not calibrated.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise UsageError(
            f"--name: got {name!r}, must be letters, digits, dots, dashes and underscores, "
            "beginning with a letter or digit"
        )
    if version is not None and version < 1:
        raise UsageError(f"--version: got {version}, must be 1 or more")
    home = pathlib.Path(output, name)
    if version is not None and (home / str(version)).exists():
        raise UsageError(
            f"--version: {home / str(version)} exists; give another, or none for the next free one"
        )
    faster = model.for_inference()
    functions = signatures.signatures(faster)
    functions |= signatures.bytes_signatures(faster, functions)
    functions["factors"] = factors_signature(faster)
    functions = {"serving_default": functions["rerender"], **functions}
    module = tf.Module()
    # The variables alone, by name (`exported.load` finds them by it): the Keras objects would be saved with notes that
    # only this package can read.
    module.weights_by_path = {weight.path: weight.value for weight in faster.weights}

    new_home = not home.exists()
    _make_folder(home)
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=".exporting.", dir=home))
    try:
        tf.saved_model.save(
            module,
            str(temporary),
            functions,
            # Otherwise the names of source files on this machine would be saved, too.
            tf.saved_model.SaveOptions(save_debug_info=False),
        )
        extra = temporary / exported.CARD.parent
        extra.mkdir(exist_ok=True)
        if warmup.available():
            warmup.write(temporary, name, functions)
        for kind, content in (lite or {}).items():
            (extra / f"{kind}.tflite").write_bytes(content)
        for number, sample in enumerate(samples):
            (temporary / exported.SAMPLES).mkdir(exist_ok=True)
            images.write_png(temporary / exported.SAMPLES / f"{number:03}.png", sample)
        card = _card(model, name, provenance or {})
        if lite:
            card["tflite"] = [f"{kind}.tflite" for kind in lite]
        for _ in range(_ATTEMPTS):
            number = version or _next_version(home)
            _write_card(temporary, {**card, "version": number})
            # Temporary folders are private; this one's final form is as public as any other.
            temporary.chmod(home.stat().st_mode & 0o777)
            final = home / str(number)
            try:
                # On POSIX this replaces an empty folder and refuses one that holds something.
                temporary.rename(final)
            except OSError:
                if version is not None or not final.exists():
                    raise
            else:
                return final
        raise DcignError(f"{home}: versions appear faster than this one can be named; try again")
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if new_home:
            with contextlib.suppress(OSError):  # Somebody else may use it by now.
                home.rmdir()
        raise


def _make_folder(path: pathlib.Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"--output: {path} cannot be a folder, a file is in the way") from error


def _next_version(home: pathlib.Path) -> int:
    numbers = [int(entry.name) for entry in home.iterdir() if re.fullmatch(r"\d+", entry.name)]
    return max(numbers, default=0) + 1


def _card(model: DCIGN, name: str, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The model card: what the model is, what it takes, where it comes from."""
    config = model.get_config()
    return {
        "name": name,
        "version": 0,
        "exported": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "made_with": {
            "dcign_tf": dcign_tf.__version__,
            **{package: importlib.metadata.version(package) for package in ("tensorflow", "keras")},
        },
        "image_size": model.image_size,
        "latents": model.layout.latents,
        "parameters": int(model.encoder.count_params() + model.decoder.count_params()),
        "factors": {
            factor: {
                "latents": model.layout.indices(factor).tolist(),
                "range": [float(f"{end:.6g}") for end in model.factor_ranges[factor]],
                **({"period": model.periods[factor]} if factor in model.periods else {}),
                "unit": model.units[factor],
            }
            for factor in model.layout.extrinsic
        },
        "limits": {
            "images": signatures.MAX_IMAGES,
            "pixels_of_a_picture": pictures.MAX_PIXELS,
            "bytes_of_a_picture": pictures.MAX_BYTES,
        },
        "config": {k: v for k, v in config.items() if k != "name"},
        **provenance,
    }


def _write_card(folder: pathlib.Path, card: Mapping[str, Any]) -> None:
    text = json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / exported.CARD).write_text(f"{text}\n", "utf-8")
    (folder / exported.CARD).with_name("README.md").write_text(_readme(card), "utf-8")


def _readme(card: Mapping[str, Any]) -> str:
    """The card for people."""
    side, latents = card["image_size"], card["latents"]
    factors = card["factors"]
    values = ", ".join(f"`{factor}` [N]" for factor in factors)
    images, codes = f"`images` [N, {side}, {side}, 1]", f"`codes` [N, {latents}]"
    encoded = f"`mean` [N, {latents}], `log_variance` [N, {latents}], {values}"
    kept = f"{values} (NaN keeps what is shown)"
    pictured = "`image_bytes` [N]"
    rows = {
        "serving_default": (f"{images}, {kept}", images),
        "rerender": ("the same", "the same"),
        "encode": (images, encoded),
        "edit": (f"{codes}, {kept}", codes),
        "decode": (codes, images),
        "reconstruct": (images, images),
        "rerender_bytes": (f"{pictured}, {kept}", pictured),
        "encode_bytes": (pictured, encoded),
        "decode_bytes": (codes, pictured),
        "reconstruct_bytes": (pictured, pictured),
        "factors": ("`factor` [N], names", "`index`, `low`, `high`, `period`, `unit`, each [N]"),
    }
    limits = card["limits"]
    lines = [
        f"# {card['name']}, version {card['version']}",
        "",
        f"A Deep Convolutional Inverse Graphics Network for images of {side} x {side} pixels, "
        f"exported on {card['exported']} by "
        f"dcign_tf {card['made_with']['dcign_tf']} with TensorFlow "
        f"{card['made_with']['tensorflow']}. It has "
        f"{card['parameters']:,} parameters.",
        "",
        "| factor | latent | from | to | unit |",
        "|---|---|---|---|---|",
    ]
    for factor, facts in factors.items():
        low, high = facts["range"]
        latent = ", ".join(str(index) for index in facts["latents"])
        lines.append(f"| {factor} | {latent} | {low:.4g} | {high:.4g} | {facts['unit']} |")
    lines += [
        "",
        f"Signatures, for any number N from 1 to {limits['images']}; images are float32 in [0, 1], factors float32 in "
        f"their units, pictures the bytes of a PNG, JPEG, GIF or BMP of at most {limits['pixels_of_a_picture']:,} "
        "pixels, or of the PNG that is given back:",
        "",
        "| signature | takes | gives |",
        "|---|---|---|",
        *(f"| `{signature}` | {taken} | {given} |" for signature, (taken, given) in rows.items()),
        "",
    ]
    if "command" in card:
        lines += ["## Command", "", f"    {card['command']}", ""]
    for title in ("data", "training", "metrics"):
        if title in card:
            text = json.dumps(card[title], indent=2, ensure_ascii=False)
            lines += [f"## {title.capitalize()}", "", "```json", text, "```", ""]
    return "\n".join(lines)
