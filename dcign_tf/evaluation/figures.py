"""Pictures of what a network has learned: the paper's Fig. 4, 5 and 6 for any network and data.

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

from dcign_tf.evaluation.evaluate import Measured, agreement

WIDTH = 1400  # of all figures, in pixels
_DPI = 100
_INK = "#22262b"
_FADED = "#6b727a"
_DOTS = "#2a6f97"
_LINE = "#d1495b"


def sweep(measured: Measured, factor: str, faces: int = 5, angles: int = 9) -> bytes:
    """Fig. 4 and 5a: one factor of held-out images swept over its calibrated range, all other latents held.

    Args:
        measured: a network and images it never saw.
        factor: an extrinsic factor.
        faces: rows.
        angles: columns, besides the image and its reconstruction.

    Returns:
        A PNG: for each image itself, its reconstruction and its sweep, the angle above each column.
    """
    network = measured.network
    chosen = _varied_rows(measured, faces)
    images = measured.mixed.images[chosen]
    values = np.linspace(*network.range(factor), angles)
    rows = []
    for code, image in zip(measured.codes[chosen], images, strict=True):
        repeated = np.repeat(code[np.newaxis], angles, axis=0)
        codes = np.concatenate([code[np.newaxis], network.edit(repeated, factor, values)])
        rows.append([image / 255.0, *network.decode(codes)])
    labels = ["image", "reconstruction", *(f"{value:.0f}°" for value in values)]
    notes = [f"{measured.mixed.degrees[factor][row]:.0f}°" for row in chosen]
    return _mosaic(rows, labels, f"{_title(factor)}, set to", gap_after=2, notes=notes)


def reconstructions(measured: Measured, faces: int = 10) -> bytes:
    """Held-out images above what the network makes of them.

    Args:
        measured: a network and images it never saw.
        faces: columns.
    """
    chosen = np.arange(min(faces, len(measured.codes)))
    decoded = measured.network.decode(measured.codes[chosen])
    rows = [list(measured.mixed.images[chosen] / 255.0), list(decoded)]
    return _mosaic(rows, [], "", row_labels=["image", "network"])


def rerenderings(measured: Measured, pairs: int = 4) -> bytes:
    """Held-out images re-rendered at an angle of which the renderer's own picture exists.

    Args:
        measured: a network and images it never saw.
        pairs: columns for each extrinsic factor.

    Returns:
        A PNG: above the image the network was given, in the middle its re-rendering, below the truth.
    """
    rows: list[list[np.ndarray]] = [[], [], []]
    labels = []
    for factor, drawn in measured.pairs.items():
        codes = measured.network.edit(drawn.source_codes[:pairs], factor, drawn.degrees[:pairs])
        rows[0] += list(drawn.sources[:pairs] / 255.0)
        rows[1] += list(measured.network.decode(codes))
        rows[2] += list(drawn.targets[:pairs] / 255.0)
        labels += [f"{_title(factor)}\nto {degrees:.0f}°" for degrees in drawn.degrees[:pairs]]
    return _mosaic(rows, labels, "", row_labels=["image", "re-rendered", "truth"])


def inference(measured: Measured) -> bytes:
    """Fig. 6: what the network reads off images in which everything varies, against the truth.

    Args:
        measured: a network and images it never saw.

    Returns:
        A PNG with a column for each extrinsic factor: in degrees, after the calibration on training images, above;
        the raw latent, as in the paper, below.
    """
    network, mixed = measured.network, measured.mixed
    inferred = network.infer(measured.codes)
    columns = len(network.columns)
    spacing = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
    figure = Figure(figsize=(WIDTH / _DPI, 8.9), dpi=_DPI, layout=spacing)
    axes = figure.subplots(2, columns, squeeze=False)
    for column, (factor, latent) in enumerate(network.columns.items()):
        true, raw = mixed.degrees[factor], measured.codes[:, latent]
        numbers = agreement(raw, inferred[factor], true)
        above, below = axes[0, column], axes[1, column]
        _scatter(above, true, inferred[factor])
        ends = np.array(network.range(factor))
        above.plot(ends, ends, color=_LINE, linewidth=1.2)
        above.set_xlabel(f"true {_words(factor)}, degrees")
        above.set_ylabel(f"inferred {_words(factor)}, degrees")
        above.set_title(
            f"{_title(factor)}\nR² = {numbers['r2_calibrated']:.3f}, "
            f"median error {numbers['median_abs_error_deg']:.1f}°",
            color=_INK,
            fontsize=13,
        )
        _scatter(below, true, raw)
        below.set_xlabel(f"true {_words(factor)}, degrees")
        below.set_ylabel(f"latent {latent}")
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
    """Images that are lit from the front half and face the camera somewhat, as far as there are enough such."""
    score = np.zeros(len(measured.codes))
    for factor, column in measured.mixed.degrees.items():
        low, high = measured.network.range(factor)
        score = np.maximum(score, np.abs(column - (low + high) / 2) / (high - low) * 2)
    # Those within the middle of every range come first, else in the order of the data.
    return np.argsort(score > 0.65, kind="stable")[:count]


def _mosaic(
    rows: list[list[np.ndarray]],
    labels: list[str],
    title: str,
    gap_after: int = 0,
    row_labels: list[str] | None = None,
    notes: list[str] | None = None,
) -> bytes:
    """Pictures [S, S, 1] in [0, 1] in rows and columns.

    Args:
        rows: the pictures.
        labels: of the columns; none for an empty list.
        title: above the labels, over the columns behind the gap.
        gap_after: how many columns stand before a wider gap; 0 for no such gap.
        row_labels: left of the rows.
        notes: in the corner of the first picture of each row.
    """
    columns = len(rows[0])
    left, right, gap = (110 if row_labels else 14), 14, (18 if gap_after else 0)
    space = 4
    cell = (WIDTH - left - right - gap) / columns
    lines = max([label.count("\n") + 1 for label in labels], default=0)
    top = 14 + 20 * lines + (28 if title else 0)
    height = round(top + cell * len(rows) + 14)
    figure = Figure(figsize=(WIDTH / _DPI, height / _DPI), dpi=_DPI, facecolor="white")

    def text(x: float, y: float, words: str, **style: Any) -> None:
        figure.text(x / WIDTH, 1 - y / height, words, **{"color": _INK, "fontsize": 11, **style})

    def start(column: int) -> float:
        return left + column * cell + (gap if gap_after and column >= gap_after else 0)

    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            x, y = start(column) + space / 2, top + row * cell + space / 2
            side = cell - space
            axes = figure.add_axes(
                (x / WIDTH, 1 - (y + side) / height, side / WIDTH, side / height)
            )
            axes.imshow(picture[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="bicubic")
            axes.set_axis_off()
    for column, label in enumerate(labels):
        middle = start(column) + cell / 2
        text(middle, top - 5, label, ha="center", va="bottom")
    if title:
        middle = (start(gap_after) + start(columns - 1) + cell) / 2
        text(middle, 16, title, ha="center", va="top", fontsize=12, fontweight="bold")
    for row, label in enumerate(row_labels or []):
        text(left - 10, top + (row + 0.5) * cell, label, ha="right", va="center")
    for row, note in enumerate(notes or []):
        y = top + row * cell + cell - 8
        text(left + 8, y, note, ha="left", va="bottom", color="white", fontsize=9)
    return _png(figure)


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
