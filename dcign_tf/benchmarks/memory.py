"""Peak memory of training, of this package and its peers."""

from collections.abc import Mapping

from dcign_tf.benchmarks import training_step, workers
from dcign_tf.benchmarks.sections import OURS, Row, Section, Settings, Verdict
from dcign_tf.benchmarks.training_step import KERAS, TORCH
from dcign_tf.benchmarks.workers import Candidate, Outcome

KERAS_ALONE = "importing TensorFlow and Keras, no more"
TORCH_ALONE = "importing PyTorch, no more"
# What stays when hardly anything lies between the layers.
FEW = f"{OURS}, a batch of 2 images"
_MEGABYTE = 1e6


def measure(settings: Settings) -> Section:
    """Trains each for as long as its time is taken, in a process of its own, and reads off its peak memory."""
    few = {"network": settings.network, "images": training_step.faces(settings.image_size, 2)}
    parts = workers.race(
        [
            Candidate(FEW, f"{training_step.__name__}:ours", few),
            Candidate(
                KERAS_ALONE,
                f"{training_step.__name__}:imports",
                {"packages": ("tensorflow", "keras")},
            ),
            Candidate(
                TORCH_ALONE,
                f"{training_step.__name__}:imports",
                {"packages": ("torch",)},
                requires=("torch",),
            ),
        ],
        rounds=1,
        warm_up=1,
        title="memory",
    )
    return section(settings, training_step.race(settings), parts)


def section(
    settings: Settings, training: Mapping[str, Outcome], parts: Mapping[str, Outcome]
) -> Section:
    """Writes up what a race of training steps and one of what they consist of gave."""
    found = {name: training[name] for name in (OURS, *KERAS, *TORCH)} | dict(parts)
    own = found[OURS].peak_bytes
    rows = []
    for name, outcome in found.items():
        if outcome.problem:
            rows.append(Row(name, None, None, None, "MB", note=outcome.problem))
            continue
        peak = outcome.peak_bytes
        megabytes = peak / _MEGABYTE
        row = Row(name, megabytes, megabytes, megabytes, "MB")
        if name not in (KERAS_ALONE, TORCH_ALONE):
            base = found[TORCH_ALONE if name in TORCH else KERAS_ALONE].peak_bytes
            row = row._replace(
                ratio=None if name in (OURS, FEW) else peak / own,
                note=f"{(peak - base) / _MEGABYTE:.0f} MB more than its imports",
            )
        rows.append(row)
    verdicts = []
    for whom, names in (("PyTorch", TORCH), ("plain Keras", KERAS)):
        peaks = {name: found[name].peak_bytes for name in names if found[name].peak_bytes}
        if peaks:
            least = min(peaks, key=lambda name: peaks[name])
            verdicts.append(
                Verdict(
                    f"peak memory of training below {whom}'s",
                    f"{own / _MEGABYTE:.0f} MB against {peaks[least] / _MEGABYTE:.0f} MB ({least})",
                    own < peaks[least],
                )
            )
    return Section(
        "memory",
        f"Peak memory of training, batch {settings.batch}",
        rows,
        notes=[
            "The most resident memory that the process ever had, with all that its libraries take and what "
            "making the network and compiling it took. With a batch of 2 images hardly anything has to be kept between "
            "forward and backward pass: what is left then are libraries, compilers, weights and their optimizer."
        ],
        verdicts=verdicts,
    )
