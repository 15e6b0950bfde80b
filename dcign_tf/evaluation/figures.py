"""Pictures of what a network has learned: the paper's Fig. 4 to 7 for any network and data.

Each function returns a PNG. Nothing here touches matplotlib's global state, so that a notebook keeps its own.
"""

import io
from typing import Any

import numpy as np
from matplotlib import backend_bases
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from dcign_tf import units
from dcign_tf.evaluation.evaluate import Measured, agreement, rerendered

WIDTH = 1400  # of all figures, in pixels
_DPI = 100
_INK = "#22262b"
_FADED = "#6b727a"
_DOTS = "#2a6f97"
_LINE = "#d1495b"


def sweep(measured: Measured, factor: str, faces: int = 5, values: int = 9) -> bytes:
    """Fig. 4 and 5a: one factor of held-out images swept over its calibrated range, all other latents held.

    Args:
        measured: a network and images it never saw.
        factor: an extrinsic factor.
        faces: rows.
        values: columns, besides the image and its reconstruction.

    Returns:
        A PNG: for each image itself, its reconstruction and its sweep, the value above each column.
    """
    chosen = _varied_rows(measured, faces)
    true = measured.mixed.values[factor][chosen]
    unit = measured.network.units[factor]
    return _mosaic(
        *_swept(measured, factor, measured.mixed.images[chosen], measured.codes[chosen], values),
        notes=["" if np.isnan(value) else _label(value, unit) for value in true],
    )


def best_and_worst(
    measured: Measured, factor: str, best: int = 5, worst: int = 3, values: int = 9
) -> bytes:
    """Fig. 7: a factor swept for those held-out identities that the network re-renders best, and worst.

    Args:
        measured: a network and images it never saw, in groups in which `factor` varies.
        factor: an extrinsic factor.
        best: rows of the smallest errors.
        worst: rows of the largest.
        values: columns, besides the image and its reconstruction.

    Returns:
        A PNG like that of `sweep`, with the group's mean error of re-rendering, beside each row.
    """
    pairs, network = measured.pairs[factor], measured.network
    errors = network.squared_errors(rerendered(network, factor, pairs), pairs.targets)
    groups, first = np.unique(pairs.groups, return_index=True)
    means = np.array([errors[pairs.groups == group].mean() for group in groups])
    order = means.argsort(kind="stable")
    if len(order) > best + worst:
        order = np.concatenate([order[:best], order[len(order) - worst :]])
    chosen = first[order]
    return _mosaic(
        *_swept(measured, factor, pairs.sources[chosen], pairs.source_codes[chosen], values),
        row_labels=[f"MSE {means[row]:.4f}" for row in order],
    )


def _swept(
    measured: Measured, factor: str, images: np.ndarray, codes: np.ndarray, values: int
) -> tuple[list[list[np.ndarray]], list[tuple[str, list[str]]]]:
    """Rows and sections of a mosaic: images, their reconstructions, and one factor over its calibrated range."""
    network = measured.network
    swept = np.linspace(*network.range(factor), values)
    rows = []
    for code, image in zip(codes, images, strict=True):
        repeated = np.repeat(code[np.newaxis], values, axis=0)
        shown = np.concatenate([code[np.newaxis], network.edit(repeated, factor, swept)])
        rows.append([image / 255.0, *network.decode(shown)])
    labels = [_label(value, network.units[factor]) for value in swept]
    return rows, [("", ["image", "reconstruction"]), (f"{_title(factor)}, set to", labels)]


def entangled(measured: Measured, baseline: Measured, pairs: int = 2) -> bytes:
    """Fig. 5b: the same re-rendering by a disentangled and by an entangled network.

    Args:
        measured: a network and images it never saw.
        baseline: an entangled network, on the same images.
        pairs: rows for each extrinsic factor: those whose two images differ most, of the first ten times as many.

    Returns:
        A PNG: from left to right the image, its reconstruction and its re-rendering by either network, the truth.
    """
    rows, labels = [], []
    for factor, drawn in measured.pairs.items():
        apart = drawn.first(10 * pairs)
        change = np.abs(apart.sources.astype(np.int16) - apart.targets).mean(axis=(1, 2, 3))
        chosen = np.sort(change.argsort(kind="stable")[-pairs:])
        of_both = [(measured.network, drawn.take(chosen))]
        of_both.append((baseline.network, baseline.pairs[factor].take(chosen)))
        shown = [list(of_both[0][1].sources / 255.0)]
        for network, some in of_both:
            shown += [list(network.decode(some.source_codes))]
            shown += [list(network.decode(rerendered(network, factor, some)))]
        shown.append(list(of_both[0][1].targets / 255.0))
        rows += [list(row) for row in zip(*shown, strict=True)]
        labels += [
            f"{_title(factor).replace(' ', chr(10))}\n{_target(value, measured.network.units[factor])}"
            for value in of_both[0][1].values
        ]
    both = ["reconstruction", "re-rendered"]
    sections = [("", ["image"]), ("disentangled", both), ("entangled", both), ("", ["truth"])]
    return _mosaic(rows, sections, row_labels=labels)


def reconstructions(measured: Measured, faces: int = 10) -> bytes:
    """Held-out images above what the network makes of them.

    Args:
        measured: a network and images it never saw.
        faces: columns.
    """
    chosen = np.arange(min(faces, len(measured.codes)))
    decoded = measured.network.decode(measured.codes[chosen])
    rows = [list(measured.mixed.images[chosen] / 255.0), list(decoded)]
    return _mosaic(rows, [("", [""] * len(chosen))], row_labels=["image", "network"])


def rerenderings(measured: Measured, pairs: int = 4) -> bytes:
    """Held-out images re-rendered with a factor at a value of which a true picture exists.

    Args:
        measured: a network and images it never saw.
        pairs: columns for each extrinsic factor.

    Returns:
        A PNG: above the image the network was given, in the middle its re-rendering, below the truth.
    """
    rows: list[list[np.ndarray]] = [[], [], []]
    sections = []
    for factor, drawn in measured.pairs.items():
        some = drawn.first(pairs)
        rows[0] += list(some.sources / 255.0)
        rows[1] += list(measured.network.decode(rerendered(measured.network, factor, some)))
        rows[2] += list(some.targets / 255.0)
        unit = measured.network.units[factor]
        sections.append((_title(factor), [_target(value, unit) for value in some.values]))
    return _mosaic(rows, sections, row_labels=["image", "re-rendered", "truth"])


def inference(measured: Measured) -> bytes | None:
    """Fig. 6: what the network reads off images in which everything varies, against the truth.

    Args:
        measured: a network and images it never saw.

    Returns:
        A PNG with a column for each extrinsic factor whose values are known: in its unit, after the calibration on
        training images, above; the raw latent, as in the paper, below. None where there is no such factor.
    """
    network, mixed = measured.network, measured.mixed
    inferred = network.infer(measured.codes)
    known = {
        factor: latents
        for factor, latents in network.places.items()
        if np.isfinite(mixed.values[factor]).any()
    }
    if not known:
        return None
    columns = len(known)
    spacing = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
    figure = Figure(figsize=(WIDTH / _DPI, 8.9), dpi=_DPI, layout=spacing)
    axes = figure.subplots(2, columns, squeeze=False)
    for column, (factor, latents) in enumerate(known.items()):
        true, raw = mixed.values[factor], network.latent(measured.codes, factor)
        circular = len(latents) > 1
        numbers = agreement(raw, inferred[factor], true, measured.periods.get(factor), circular)
        unit = units.words(network.units[factor])
        above, below = axes[0, column], axes[1, column]
        _scatter(above, true, inferred[factor])
        ends = np.array(network.range(factor))
        above.plot(ends, ends, color=_LINE, linewidth=1.2)
        above.set_xlabel(f"true {_words(factor)}{unit}")
        above.set_ylabel(f"inferred {_words(factor)}{unit}")
        above.set_title(
            f"{_title(factor)}\nR² = {numbers['r2_calibrated']:.3f}, "
            f"median error {units.text(numbers['median_abs_error'], network.units[factor], 2)}",
            color=_INK,
            fontsize=13,
        )
        _scatter(below, true, raw)
        below.set_xlabel(f"true {_words(factor)}{unit}")
        first, *_ = latents
        below.set_ylabel(
            f"angle of latents {first} and {first + 1} in radians"
            if circular
            else f"latent {first}"
        )
        below.set_title(f"|r| = {numbers['pearson']:.3f}", color=_INK, fontsize=13)
    return _png(figure)


def _scatter(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    axes.scatter(x, y, s=9, color=_DOTS, alpha=0.45, linewidths=0, rasterized=True)
    axes.tick_params(colors=_FADED, labelsize=10)
    axes.xaxis.label.set(color=_INK, fontsize=11)
    axes.yaxis.label.set(color=_INK, fontsize=11)
    axes.grid(color="#e6e8ea", linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#b8bec4")


def _varied_rows(measured: Measured, count: int) -> np.ndarray:
    """Images in the middle of every factor's range, as far as there are enough such."""
    score = np.zeros(len(measured.codes))
    for factor, column in measured.mixed.values.items():
        if not np.isfinite(column).any():
            continue
        low, high = measured.network.range(factor)
        score = np.maximum(score, np.abs(column - (low + high) / 2) / (high - low) * 2)
    # Those within the middle of every range come first, else in the order of the data.
    return np.argsort(score > 0.65, kind="stable")[:count]


def _mosaic(
    rows: list[list[np.ndarray]],
    sections: list[tuple[str, list[str]]],
    row_labels: list[str] | None = None,
    notes: list[str] | None = None,
) -> bytes:
    """Pictures [S, S, 1] in [0, 1] in rows and columns.

    Args:
        rows: the pictures.
        sections: for sections of columns, with gaps between them, a title and the labels of its columns.
        row_labels: left of the rows.
        notes: in the corner of the first picture of each row.
    """
    labels = [label for _, section in sections for label in section]
    # How many gaps stand before each column.
    gaps = [number for number, (_, section) in enumerate(sections) for _ in section]
    left, right, gap, space = (110 if row_labels else 14), 14, 18, 4
    cell = (WIDTH - left - right - gap * gaps[-1]) / len(labels)
    titles = 30 if any(title for title, _ in sections) else 0
    top = 12 + titles + (22 if any(labels) else 0)
    height = round(top + cell * len(rows) + 12)
    figure = Figure(figsize=(WIDTH / _DPI, height / _DPI), dpi=_DPI, facecolor="white")

    def text(x: float, y: float, words: str, **style: Any) -> None:
        figure.text(x / WIDTH, 1 - y / height, words, **{"color": _INK, "fontsize": 11, **style})

    starts = [left + column * cell + gap * gaps[column] for column in range(len(labels))]
    for row, pictures in enumerate(rows):
        for x, picture in zip(starts, pictures, strict=True):
            y, side = top + row * cell + space / 2, cell - space
            place = ((x + space / 2) / WIDTH, 1 - (y + side) / height, side / WIDTH, side / height)
            axes = figure.add_axes(place)
            axes.imshow(picture[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="bicubic")
            axes.set_axis_off()
    for x, label in zip(starts, labels, strict=True):
        text(x + cell / 2, top - 5, label, ha="center", va="bottom")
    for number, (title, _) in enumerate(sections):
        inside = [x for x, before in zip(starts, gaps, strict=True) if before == number]
        middle = (inside[0] + inside[-1] + cell) / 2
        text(middle, 12, title, ha="center", va="top", fontsize=12.5, fontweight="bold")
    for row, label in enumerate(row_labels or []):
        text(left - 10, top + (row + 0.5) * cell, label, ha="right", va="center")
    for row, note in enumerate(notes or []):
        bottom = top + (row + 1) * cell - 8
        text(left + 8, bottom, note, ha="left", va="bottom", color="white", fontsize=9)
    return _png(figure)


def _target(value: float, unit: str) -> str:
    """What a factor is set to; where nobody knows the value, it is that of the true picture."""
    return f"to {_label(value, unit)}" if np.isfinite(value) else "as the truth"


def _label(value: float, unit: str) -> str:
    """A value with its unit, of angles whole degrees."""
    value = float(value)
    if unit == units.DEGREES:
        value = round(value)
    return units.text(value, unit, 3).replace("-", "−")


def _png(figure: Figure) -> bytes:
    canvas: backend_bases.FigureCanvasBase = FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    # No date and version of matplotlib: the same numbers, the same bytes.
    canvas.print_figure(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def _words(factor: str) -> str:
    return factor.replace("_", " ")


def _title(factor: str) -> str:
    return _words(factor).capitalize()
