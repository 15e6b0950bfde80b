"""What reading mini-batches from records costs a training step."""

import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

from dcign_tf.benchmarks import sections, workers
from dcign_tf.benchmarks.sections import Section, Settings, Verdict
from dcign_tf.benchmarks.workers import Candidate
from dcign_tf.datasets import rendering
from dcign_tf.datasets.manifest import Manifest
from dcign_tf.datasets.scenes import FACTORS, SceneConfig

CACHED = "step on one batch in memory"
RECORDS = "step on records"
ALONE = "reading a batch of records, without training"
# While a batch in memory has its turn, mini-batches of records pile up. They do not count.
_BURST, _SKIP = 14, 8


def measure(settings: Settings) -> Section:
    """Trains on real records and on one batch, in turns."""
    if settings.data is not None:
        return _measure(settings, settings.data)
    with tempfile.TemporaryDirectory(prefix="dcign-benchmark.") as folder:
        scenes = SceneConfig(image_size=settings.image_size, group_size=settings.batch)
        groups = dict.fromkeys(FACTORS, 2 if settings.quick else 16)
        rendering.render_dataset(scenes, folder, {"train": groups})
        return _measure(settings, folder)


def _measure(settings: Settings, folder: str) -> Section:
    manifest = Manifest.load(pathlib.Path(folder))
    network = {**settings.network, "image_size": manifest.image_size}
    outcomes = workers.race(
        [
            Candidate(
                name, f"{__name__}:steps", {"network": network, "folder": folder}, {"what": name}
            )
            for name in (CACHED, RECORDS, ALONE)
        ],
        rounds=max(2, settings.rounds // 5),
        warm_up=1,
        burst=_BURST,
        skip=_SKIP,
        title="input pipeline",
    )
    rows = sections.time_rows(outcomes, "ms", ours=None)
    ratio = workers.ratios(outcomes[RECORDS], outcomes[CACHED])
    reading = workers.spread(outcomes[ALONE].seconds).median
    share = 100 * reading / workers.spread(outcomes[CACHED].seconds).median
    rows = [
        row._replace(note=f"{share:.2f} % of a step") if row.candidate == ALONE else row
        for row in rows
    ]
    cost, low, high = (100 * (value - 1) for value in ratio[:3])
    return Section(
        "pipeline",
        f"Input pipeline: {manifest.image_size} x {manifest.image_size}, groups of {manifest.group_size}",
        rows,
        notes=[
            f"Both train in one process, {_BURST} steps in turn, of which the first {_SKIP} do not count: by then "
            "mini-batches that were read ahead in the other's turn are used up. The files were read before and are in "
            "the system's cache.",
        ],
        verdicts=[
            Verdict(
                "input pipeline costs less than 3 % of a step",
                f"{cost:+.1f} % ({low:+.1f} to {high:+.1f}); reading alone takes {share:.2f} %",
                cost < 3,
            )
        ],
    )


def steps(network: dict[str, Any], folder: str) -> Callable[[str], None]:
    """A candidate: a training step on records or on a batch in memory, or reading alone."""
    from dcign_tf.benchmarks import keras_twin, training_step
    from dcign_tf.datasets.source import RecordSource
    from dcign_tf.training import TrainingConfig

    source = RecordSource(folder)
    _, ratio = TrainingConfig().ratios(source.factors)
    model = training_step.compiled(network)
    reading = iter(source.training(ratio, seed=1))
    work = {
        CACHED: keras_twin.train_steps(model, keras_twin.cached(next(reading)[0].numpy())),
        RECORDS: keras_twin.train_steps(model, source.training(ratio, seed=0)),
        ALONE: lambda: next(reading),
    }
    return lambda what: work[what]()
