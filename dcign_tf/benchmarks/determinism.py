"""What it costs a training step that TensorFlow may use only operations that give the same bits every time."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dcign_tf.benchmarks import sections, training_step, workers
from dcign_tf.benchmarks.sections import Section, Settings
from dcign_tf.benchmarks.workers import Candidate, Outcome

DEFAULT = "by default"
DETERMINISTIC = "--deterministic"


def measure(settings: Settings) -> Section:
    """Times a step with and without, in turns."""
    images = training_step.faces(settings.image_size, settings.batch)
    outcomes = workers.race(
        [
            Candidate(
                name,
                f"{__name__}:steps",
                {"network": settings.network, "images": images, "deterministic": deterministic},
            )
            for name, deterministic in ((DEFAULT, False), (DETERMINISTIC, True))
        ],
        settings.rounds,
        settings.warm_up,
        title="determinism",
    )
    return section(settings, outcomes)


def section(settings: Settings, outcomes: Mapping[str, Outcome]) -> Section:
    """Writes up what a race of both gave."""
    cost, low, high = (
        100 * (value - 1)
        for value in workers.ratios(outcomes[DETERMINISTIC], outcomes[DEFAULT])[:3]
    )
    note = f"{cost:+.1f} % ({low:+.1f} to {high:+.1f})"
    return Section(
        "determinism",
        f"Determinism: {settings.image_size} x {settings.image_size}, batch {settings.batch}",
        sections.time_rows(outcomes, "ms", ours=None, notes={DETERMINISTIC: note}),
        notes=["A training step in two processes, one of which was told to be deterministic."],
    )


def steps(network: dict[str, Any], images: np.ndarray, deterministic: bool) -> Callable[[], None]:
    """A candidate: a training step."""
    import tensorflow as tf

    if deterministic:
        tf.config.experimental.enable_op_determinism()
    return training_step.ours(network, images)
