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
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

import dcign_tf
from dcign_tf.errors import DcignError, UsageError
from dcign_tf.model import DCIGN

CARD = pathlib.PurePath("assets.extra", "card.json")
UNCALIBRATED = (
    "this model was not calibrated, so it knows no values of factors: finish its training "
    "(dcign-train calibrates at the end)"
)

# How often to take another version when others export under the same name at the same time.
_ATTEMPTS = 10


def signatures(model: DCIGN) -> dict[str, Any]:
    """What a model does, as functions of tensors for any number N of images, 1 or more.

    Each takes and gives tensors by name: S is the side of the images, which are float32 in [0, 1], L the length
    of the code, and there is one name for each extrinsic factor, such as azimuth, in its unit.

        rerender      images [N, S, S, 1], <factor> [N] (NaN keeps it) -> images [N, S, S, 1]
        encode        images [N, S, S, 1] -> mean [N, L], log_variance [N, L], <factor> [N]
        edit          codes [N, L], <factor> [N] (NaN keeps it) -> codes [N, L]
        decode        codes [N, L] -> images [N, S, S, 1]
        reconstruct   images [N, S, S, 1] -> images [N, S, S, 1]

    Args:
        model: calibrated; it must outlive the functions.

    Returns:
        Concrete functions.

    Raises:
        DcignError: the model was not calibrated, or has a factor whose name is one of the names above.
    """
    if not model.calibrated:
        raise DcignError(UNCALIBRATED)
    taken = {"images", "codes", "mean", "log_variance"} & set(model.layout.extrinsic)
    if taken:
        raise DcignError(f"a factor of this model is named {taken.pop()}, as an input or output is")

    def rerender(images: tf.Tensor, **values: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"images": _single(model.rerender(images, **values))}

    def encode(images: tf.Tensor) -> dict[str, tf.Tensor]:
        mean, log_variance = model.encode(images)
        columns = {f: int(model.layout.indices(f)[0]) for f in model.layout.extrinsic}
        inferred = {f: model.calibration.value_of(f, mean[:, c]) for f, c in columns.items()}
        return {"mean": _single(mean), "log_variance": _single(log_variance), **inferred}

    def edit(codes: tf.Tensor, **values: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"codes": _single(model.edit(codes, **values))}

    def decode(codes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"images": _single(model.decode(codes))}

    def reconstruct(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"images": _single(model(images))}

    side = model.image_size
    images = tf.TensorSpec([None, side, side, 1], tf.float32, "images")
    codes = tf.TensorSpec([None, model.layout.latents], tf.float32, "codes")
    values = {f: tf.TensorSpec([None], tf.float32, f) for f in model.layout.extrinsic}
    return {
        "rerender": tf.function(rerender).get_concrete_function(images=images, **values),
        "encode": tf.function(encode).get_concrete_function(images=images),
        "edit": tf.function(edit).get_concrete_function(codes=codes, **values),
        "decode": tf.function(decode).get_concrete_function(codes=codes),
        "reconstruct": tf.function(reconstruct).get_concrete_function(images=images),
    }


def _single(values: tf.Tensor) -> tf.Tensor:
    """What leaves the model is float32, whatever precision it works in."""
    return tf.cast(values, tf.float32)


def export(
    model: DCIGN,
    name: str,
    version: int | None = None,
    output: str | os.PathLike[str] = "saved_models",
    provenance: Mapping[str, Any] | None = None,
) -> pathlib.Path:
    """Writes `<output>/<name>/<version>/`, a SavedModel, with a model card in its `assets.extra`.

    Its signatures are those of `signatures`; rerender is `serving_default`, too. The folder appears under its
    final name when it is complete, so that a server that polls for versions never sees half of one.

    Args:
        model: calibrated.
        name: the model's name for its users.
        version: 1 or more; by default the one after the highest there is.
        output: folder of all exported models; made if missing.
        provenance: what else the card says, such as the training's configuration and metrics; fit for JSON.

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
    functions = signatures(faster)
    module = tf.Module()
    # The variables alone, by name: the Keras objects would be saved with notes that only this package can read.
    module.weights_by_path = {weight.path: weight.value for weight in faster.weights}

    new_home = not home.exists()
    _make_folder(home)
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=".exporting.", dir=home))
    try:
        tf.saved_model.save(
            module,
            str(temporary),
            {
                "serving_default": functions["rerender"],
                **{k: functions[k] for k in ("encode", "edit", "decode", "reconstruct")},
            },
            # Otherwise the names of source files on this machine would be saved, too.
            tf.saved_model.SaveOptions(save_debug_info=False),
        )
        for _ in range(_ATTEMPTS):
            number = version or _next_version(home)
            _write_card(temporary, _card(model, name, number, provenance or {}))
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


def _card(model: DCIGN, name: str, version: int, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The model card: what the model is, what it takes, where it comes from."""
    config = model.get_config()
    return {
        "name": name,
        "version": version,
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
                "unit": model.units[factor],
            }
            for factor in model.layout.extrinsic
        },
        "config": {k: v for k, v in config.items() if k != "name"},
        **provenance,
    }


def _write_card(folder: pathlib.Path, card: Mapping[str, Any]) -> None:
    (folder / CARD).parent.mkdir(exist_ok=True)
    text = json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / CARD).write_text(f"{text}\n", "utf-8")
    (folder / CARD).with_name("README.md").write_text(_readme(card), "utf-8")


def _readme(card: Mapping[str, Any]) -> str:
    """The card for people."""
    side, latents = card["image_size"], card["latents"]
    factors = card["factors"]
    inputs = ", ".join(f"`{factor}` [N]" for factor in factors)
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
        "Signatures, for any number N of images; all tensors are float32, images lie in [0, 1], "
        "factors are in their units:",
        "",
        "| signature | takes | gives |",
        "|---|---|---|",
        f"| `serving_default` | `images` [N, {side}, {side}, 1], {inputs} (NaN keeps what the "
        "image shows) "
        f"| `images` [N, {side}, {side}, 1] |",
        f"| `encode` | `images` [N, {side}, {side}, 1] "
        f"| `mean` [N, {latents}], `log_variance` [N, {latents}], {inputs} |",
        f"| `edit` | `codes` [N, {latents}], {inputs} (NaN keeps it) | `codes` [N, {latents}] |",
        f"| `decode` | `codes` [N, {latents}] | `images` [N, {side}, {side}, 1] |",
        f"| `reconstruct` | `images` [N, {side}, {side}, 1] | `images` [N, {side}, {side}, 1] |",
        "",
    ]
    for title in ("data", "training", "metrics"):
        if title in card:
            text = json.dumps(card[title], indent=2, ensure_ascii=False)
            lines += [f"## {title.capitalize()}", "", "```json", text, "```", ""]
    return "\n".join(lines)
