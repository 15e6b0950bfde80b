"""What a served model's users wait for: encoding, decoding and re-rendering, from the exported SavedModel."""

import math
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from dcign_tf.benchmarks import sections, workers
from dcign_tf.benchmarks.sections import OURS, Row, Section, Settings, Verdict
from dcign_tf.benchmarks.workers import Candidate, Outcome

_TWIN = "plain Keras"
_VERBS = ("encode", "decode", "rerender")
_MANY = 64
# A call takes milliseconds: enough of them in a turn to see the slowest one in a hundred.
_BURST = 20


def measure(settings: Settings) -> Section:
    """Times calls with one image, and with many."""
    one = _race(settings, 1, 2 if settings.quick else _BURST)
    many = _race(settings, _MANY, 1)
    rows: list[Row] = []
    for verb in _VERBS:
        for row in _pair(one, verb, 1):
            took = sorted(one[row.candidate].seconds)
            p99 = 1e3 * took[math.ceil(0.99 * len(took)) - 1]
            rows.append(row._replace(note=f"p99 {p99:.1f} ms"))
    for verb in _VERBS:
        rows += [_per_second(row) for row in _pair(many, verb, _MANY)]
    ours, twin = (one[_name(who, "rerender", 1)] for who in (OURS, _TWIN))
    ratio = workers.ratios(twin, ours)
    return Section(
        "serving",
        f"Use of the exported model: {settings.image_size} x {settings.image_size}",
        rows,
        notes=[
            "From the SavedModel that dcign-export writes, loaded without this package, against a tf.function of the "
            "same network in plain Keras layers with the same weights. For one image the time of a call, its "
            f"median (p50) and 99th percentile; for {_MANY} images how many a second.",
        ],
        verdicts=[
            Verdict(
                "re-rendering of one image at least 2.5 times as fast as plain Keras",
                f"{ratio.median:.2f} times ({ratio.low:.2f} to {ratio.high:.2f})",
                ratio.median >= 2.5,
            )
        ],
    )


def exported(network: dict[str, Any]) -> Callable[[str, int], Mapping[str, Any]]:
    """A candidate: the functions of an exported model, with random weights."""
    import tensorflow as tf

    from dcign_tf.serving.export import export

    model = calibrated(network)
    with tempfile.TemporaryDirectory(prefix="dcign-benchmark.") as folder:
        loaded = tf.saved_model.load(str(export(model, "benchmark", output=folder)))
    inputs = _Inputs(model)

    def work(verb: str, count: int) -> Mapping[str, Any]:
        name = "serving_default" if verb == "rerender" else verb
        found = loaded.signatures[name](**inputs(verb, count))
        return {key: value.numpy() for key, value in found.items()}

    return work


def plain(network: dict[str, Any]) -> Callable[[str, int], Mapping[str, Any]]:
    """A candidate: the same in plain Keras layers, with the same weights."""
    import tensorflow as tf

    from dcign_tf.benchmarks import keras_twin

    model = calibrated(network)
    twin = keras_twin.Twin(**network)
    twin.encoder.set_weights(model.encoder.get_weights())
    twin.decoder.set_weights(model.decoder.get_weights())

    def encode(images: tf.Tensor) -> dict[str, tf.Tensor]:
        mean, log_variance = twin.encoder(images)
        return {"mean": mean, "log_variance": log_variance}

    def decode(codes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"images": tf.sigmoid(twin.decoder(codes))}

    def rerender(images: tf.Tensor, **degrees: tf.Tensor) -> dict[str, tf.Tensor]:
        return decode(model.edit(twin.encoder(images)[0], **degrees))

    functions = {
        function.__name__: tf.function(function, reduce_retracing=True)
        for function in (encode, decode, rerender)
    }
    inputs = _Inputs(model)

    def work(verb: str, count: int) -> Mapping[str, Any]:
        found = functions[verb](**inputs(verb, count))
        return {key: value.numpy() for key, value in found.items()}

    return work


def calibrated(network: dict[str, Any]) -> Any:
    """A `DCIGN` of random weights, calibrated with nonsense: how fast it is does not depend on either."""
    import numpy as np

    from dcign_tf.benchmarks import training_step

    model = training_step.compiled(network)
    rng = np.random.default_rng(0)
    size = network["image_size"]
    images = rng.integers(0, 256, [100, size, size, 1], np.uint8)
    model.calibrate(
        images, {factor: rng.uniform(-60, 60, len(images)) for factor in model.layout.extrinsic}
    )
    return model


class _Inputs:
    """What the functions are called with, made in advance."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._made: dict[tuple[str, int], dict[str, Any]] = {}

    def __call__(self, verb: str, count: int) -> dict[str, Any]:
        key = verb, count
        if key not in self._made:
            self._made[key] = self._make(verb, count)
        return self._made[key]

    def _make(self, verb: str, count: int) -> dict[str, Any]:
        import numpy as np
        import tensorflow as tf

        rng = np.random.default_rng(count)
        if verb == "decode":
            return {
                "codes": tf.constant(
                    rng.normal(size=[count, self._model.layout.latents]), "float32"
                )
            }
        side = self._model.image_size
        given = {"images": tf.constant(rng.random([count, side, side, 1], np.float32))}
        if verb == "rerender":
            for factor in self._model.layout.extrinsic:
                # One factor is set, the others stay.
                angle = 30.0 if factor == "azimuth" else np.nan
                given[factor] = tf.fill([count], np.float32(angle))
        return given


def _race(settings: Settings, count: int, burst: int) -> dict[str, Outcome]:
    candidates = [
        Candidate(
            _name(who, verb, count),
            f"{__name__}:{factory}",
            {"network": settings.network},
            {"verb": verb, "count": count},
        )
        for verb in _VERBS
        for who, factory in ((OURS, "exported"), (_TWIN, "plain"))
    ]
    return workers.race(
        candidates, settings.rounds, settings.warm_up, burst, title=f"serving, images: {count}"
    )


def _name(who: str, verb: str, count: int) -> str:
    return f"{verb.replace('rer', 're-r')}, {count} image{'s' if count > 1 else ''}: {who}"


def _pair(outcomes: Mapping[str, Outcome], verb: str, count: int) -> list[Row]:
    names = [_name(who, verb, count) for who in (OURS, _TWIN)]
    return sections.time_rows({name: outcomes[name] for name in names}, "ms", ours=names[0])


def _per_second(row: Row) -> Row:
    """Images in a second, from milliseconds for `_MANY`."""
    assert row.median is not None and row.low is not None and row.high is not None
    median, low, high = (1e3 * _MANY / value for value in (row.median, row.high, row.low))
    return row._replace(median=median, low=low, high=high, unit="images/s", least=None)
