"""Trained models for TensorFlow Lite: phones, single-board computers, wherever TensorFlow itself is too large."""

import contextlib
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from dcign_tf.layers import FewFiltersConv2D
from dcign_tf.model import DCIGN
from dcign_tf.serving import signatures

# What a model does in several steps here: see `convert`.
SIGNATURES = ("encode", "infer", "edit", "decode")


class Row(NamedTuple):
    """How a format does beside others.

    Attributes:
        format: of `convert`, or what it is compared with.
        size: in bytes.
        milliseconds: the median time of re-rendering one image.
        difference: of re-rendered pixels from those of the model itself, the mean of their sizes.
        largest: the largest of them.
        inferred: for each extrinsic factor, how far what is read off an image is from what the model itself reads, the
            mean, in its unit.
    """

    format: str
    size: int
    milliseconds: float
    difference: float
    largest: float
    inferred: Mapping[str, float]


def convert(model: DCIGN, kind: str, images: np.ndarray) -> bytes:
    """A model as a TensorFlow Lite file, of TensorFlow Lite's own operations alone.

    Its signatures, for any number N of images of side S, codes of length L:

        encode   images [N, S, S, 1] -> mean [N, L], log_variance [N, L]
        infer    codes [N, L] -> <factor> [N], in its unit
        edit     codes [N, L], <factor> [N] (NaN keeps it) -> codes [N, L]
        decode   codes [N, L] -> images [N, S, S, 1]

    Re-rendering is encode, edit, decode. They are apart so that factors stay float32 where all else becomes integers
    (and NaN something that can be told from a number). They check nothing.

    Args:
        model: calibrated.
        kind: "float32"; "float16", weights in half precision; "int8", the two networks in integers of 8 bits, whose
            scales are what `images` and their codes need.
        images: float32 [N, S, S, 1] in [0, 1], like those it will be used on.

    Returns:
        The file's bytes.
    """
    network = model.for_inference(direct=True)
    # One convolution sums in 32 bits what FewFiltersConv2D would round after each tap.
    decoder = keras.models.clone_model(network.decoder, clone_function=_plain)
    decoder.set_weights(network.decoder.get_weights())
    network.decoder = decoder
    functions = signatures.unchecked_functions(network)
    module = tf.Module()
    module.weights = [weight.value for weight in network.weights]
    with tempfile.TemporaryDirectory(prefix="dcign-export.") as folder:
        traced = {name: signatures.concrete(functions[name], model) for name in SIGNATURES}
        tf.saved_model.save(module, folder, traced)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(SIGNATURES)
        )
        if kind != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if kind == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if kind == "int8":
            converter.representative_dataset = lambda: _representative(model, images)
        with _without_warnings():
            return converter.convert()


def compare(
    model: DCIGN, exported: int, files: Mapping[str, bytes], images: np.ndarray, rounds: int = 30
) -> list[Row]:
    """Measures TensorFlow Lite files beside the model itself, in turns.

    Args:
        model: calibrated.
        exported: the size of the model's SavedModel, in bytes.
        files: what `convert` gave, by format.
        images: float32 [N, S, S, 1], which it was not given.
        rounds: how often each re-renders an image.

    Returns:
        A row for the model, and one for each file.
    """
    functions = signatures.signatures(model.for_inference())
    values = _draw(model, len(images))

    def rerender(images: np.ndarray, values: Mapping[str, np.ndarray]) -> tuple[Any, Any]:
        # In the same steps, so that the time is that of the same work.
        encoded = functions["encode"](images=tf.constant(images))
        given = {factor: tf.constant(value) for factor, value in values.items()}
        codes = functions["edit"](codes=encoded["mean"], **given)["codes"]
        inferred = {factor: encoded[factor].numpy() for factor in values}
        return functions["decode"](codes=codes)["images"].numpy(), inferred

    candidates = {"SavedModel": rerender, **{k: _interpreted(v) for k, v in files.items()}}
    found = {kind: candidate(images, values) for kind, candidate in candidates.items()}
    seconds: dict[str, list[float]] = {kind: [] for kind in candidates}
    one = images[:1], {factor: value[:1] for factor, value in values.items()}
    for turn in range(rounds + 1):
        for kind, candidate in candidates.items():
            begun = time.perf_counter()
            candidate(*one)
            if turn:  # The first one makes room for a single image.
                seconds[kind].append(time.perf_counter() - begun)
    wanted, read = found["SavedModel"]
    rows = []
    for kind, (rendered, inferred) in found.items():
        apart = np.abs(rendered - wanted)
        rows.append(
            Row(
                kind,
                len(files[kind]) if kind in files else exported,
                1e3 * statistics.median(seconds[kind]),
                float(apart.mean()),
                float(apart.max()),
                {f: float(np.abs(inferred[f] - read[f]).mean()) for f in values},
            )
        )
    return rows


def table(rows: Sequence[Row], units: Mapping[str, str]) -> str:
    """Rows as a table in Markdown.

    Args:
        rows: of `compare`.
        units: of the factors.
    """
    lines = [
        "| | size | one image re-rendered | pixels apart: mean, largest | inferred apart: mean |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        inferred = ", ".join(
            f"{factor} {apart:.2g} {units[factor]}".strip()
            for factor, apart in row.inferred.items()
        )
        lines.append(
            f"| {row.format} | {row.size / 1e6:.2f} MB | {row.milliseconds:.1f} ms "
            f"| {row.difference:.2g}, {row.largest:.2g} | {inferred} |"
        )
    return "\n".join(lines)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """TensorFlow 2.21 announces that its interpreter will move to a package of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _plain(layer: keras.layers.Layer) -> keras.layers.Layer:
    kind = keras.layers.Conv2D if isinstance(layer, FewFiltersConv2D) else type(layer)
    return kind.from_config(layer.get_config())


def _representative(model: DCIGN, images: np.ndarray) -> Iterator[tuple[str, dict[str, Any]]]:
    """What the two networks are given, one image after the other; the other signatures stay as they are."""
    codes = model.edit(model.encode_in_batches(images), **_draw(model, len(images))).numpy()
    for index in range(len(images)):
        yield "encode", {"images": images[index : index + 1]}
        yield "decode", {"codes": codes[index : index + 1]}


def _draw(model: DCIGN, count: int) -> dict[str, np.ndarray]:
    """Values of all factors, spread over their ranges; always the same."""
    rng = np.random.default_rng(0)
    ranges = model.factor_ranges.items()
    return {factor: rng.uniform(*ends, count).astype(np.float32) for factor, ends in ranges}


def _interpreted(file: bytes) -> Any:
    """Re-renders as `compare` does, with TensorFlow Lite's interpreter."""
    with _without_warnings():
        interpreter = tf.lite.Interpreter(model_content=file, num_threads=os.cpu_count())
    run = {name: interpreter.get_signature_runner(name) for name in SIGNATURES}

    def rerender(images: np.ndarray, values: Mapping[str, np.ndarray]) -> tuple[Any, Any]:
        mean = run["encode"](images=images)["mean"]
        codes = run["edit"](codes=mean, **values)["codes"]
        return run["decode"](codes=codes)["images"], run["infer"](codes=mean)

    return rerender
