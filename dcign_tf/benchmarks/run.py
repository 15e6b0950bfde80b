"""Runs the parts of the benchmark one after the other."""

import importlib
import pathlib
from collections.abc import Sequence

from dcign_tf.benchmarks import report
from dcign_tf.benchmarks.sections import Section, Settings
from dcign_tf.errors import UsageError

# Each is a module with a function `measure(settings) -> Section`.
PARTS = {
    "training": "dcign_tf.benchmarks.training_step",
    "memory": "dcign_tf.benchmarks.memory",
    "pipeline": "dcign_tf.benchmarks.pipeline",
    "packing": "dcign_tf.benchmarks.packing",
    "serving": "dcign_tf.benchmarks.serving",
    "rendering": "dcign_tf.benchmarks.rendering",
    "scaling": "dcign_tf.benchmarks.scaling",
    "determinism": "dcign_tf.benchmarks.determinism",
    "distribution": "dcign_tf.benchmarks.distribution",
}


def run(parts: Sequence[str], settings: Settings, output: str | None = None) -> str:
    """Measures.

    Args:
        parts: keys of `PARTS`.
        settings: what to measure.
        output: a folder for the report, made if missing; what is known is written after each part. None for none.

    Returns:
        The report as Markdown.

    Raises:
        UsageError: `output` cannot be a folder.
        DcignError: something of this package failed; peers may.
    """
    if output is not None:
        try:
            pathlib.Path(output).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise UsageError(
                f"--output: {output} cannot be a folder, a file is in the way"
            ) from error
    where = report.machine()
    found: list[Section] = []
    for part in parts:
        found.append(importlib.import_module(PARTS[part]).measure(settings))
        if output is not None:
            report.write(output, where, settings, found)
    return report.markdown(where, settings, found)
