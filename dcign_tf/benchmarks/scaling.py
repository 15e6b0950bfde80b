"""How a training step's time grows with the batch, the images, the code and the number of groups."""

import io
from collections.abc import Mapping, Sequence

from dcign_tf.benchmarks import sections, training_step, workers
from dcign_tf.benchmarks.sections import Section, Settings
from dcign_tf.benchmarks.workers import Candidate, Spread

PICTURE = "scaling.png"
_AXES: dict[str, tuple[int, ...]] = {
    "batch": (5, 10, 20, 40),
    "image_size": (54, 86, 118, 150, 214),
    "latents": (50, 200, 800),
    "groups": (1, 2, 4),
}
_QUICK_AXES: dict[str, tuple[int, ...]] = {"batch": (2, 4), "latents": (6, 12)}
_LABELS = {
    "batch": "images in the batch",
    "image_size": "side of the images",
    "latents": "latents",
    "groups": "groups of images in a step",
}


def measure(settings: Settings) -> Section:
    """Times a training step along each axis, all else as in the settings."""
    rows = []
    curves: dict[str, dict[int, Spread]] = {}
    for axis, values in (_QUICK_AXES if settings.quick else _AXES).items():
        outcomes = workers.race(
            [_candidate(settings, axis, value) for value in values],
            rounds=max(2, settings.rounds // 5),
            warm_up=settings.warm_up,
            title=f"growth with {axis}",
        )
        rows += sections.time_rows(outcomes, "ms", ours=None)
        curves[axis] = {
            value: workers.spread(outcome.seconds)
            for value, outcome in zip(values, outcomes.values(), strict=True)
        }
    return Section(
        "scaling",
        "Growth of the training step",
        rows,
        notes=[
            f"One thing is changed at a time; else {settings.image_size} x {settings.image_size}, "
            f"{settings.latents} latents, one group of {settings.batch}.",
        ],
        pictures={PICTURE: plot(curves)},
    )


def _candidate(settings: Settings, axis: str, value: int) -> Candidate:
    sizes = {"image_size": settings.image_size, "batch": settings.batch, "groups": 1}
    network = settings.network
    if axis in sizes:
        sizes[axis] = value
    if axis in network:
        network[axis] = value
    return Candidate(
        f"{_LABELS[axis]}: {value}",
        f"{training_step.__name__}:ours",
        {"network": network, "images": training_step.faces(**sizes)},
    )


def plot(curves: Mapping[str, Mapping[int, Spread]]) -> bytes:
    """Draws seconds against each axis, both logarithmic, and what proportional growth would be.

    Args:
        curves: for each axis, for each value, the seconds of a step.

    Returns:
        A PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    figure = Figure(figsize=(3.5 * len(curves), 3.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for panel, (axis, points) in zip(panels, curves.items(), strict=True):
        xs = list(points)
        medians = [point.median for point in points.values()]
        errors = [
            [point.median - point.low for point in points.values()],
            [point.high - point.median for point in points.values()],
        ]
        panel.errorbar(xs, medians, errors, marker="o", color="#2a6f97", capsize=3)
        power = 2 if axis == "image_size" else 1
        panel.plot(xs, _growth(xs, medians[-1], power), "--", color="#6b727a", linewidth=1)
        panel.set(xscale="log", yscale="log", xlabel=_LABELS[axis])
        panel.set_xticks(xs, [str(x) for x in xs], minor=False)
        panel.set_xticks([], minor=True)
    panels[0].set_ylabel("seconds per training step")
    panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panels[0].yaxis.set_minor_locator(NullLocator())
    panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    figure.suptitle(
        "Training step; dashed: proportional to what is varied, or to the number of pixels",
        fontsize=10,
    )
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _growth(xs: Sequence[int], last: float, power: int) -> list[float]:
    """A power law through the last point."""
    return [last * (x / xs[-1]) ** power for x in xs]
