"""Re-renders images at given values of factors: strips, grids and animations with their labels."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dcign_tf import images as image_files
from dcign_tf import units
from dcign_tf.errors import UsageError
from dcign_tf.serving import NAMED_FACTORS

if (
    TYPE_CHECKING
):  # It needs TensorFlow, and mistakes on a command line should not have to wait for that.
    from dcign_tf.serving import detail, engine
    from dcign_tf.serving.client import Client

    # One on this machine, or one on a server; or either, with what a picture shows laid over.
    Engine = engine.Engine | Client | detail.Detailed

MAX_VALUES = 50
MAX_RENDERED = 1000
FPS = 20.0

# A few images at the edge of what was seen in training decide on the ends of a model's ranges; so far beyond them its
# ends, to which it takes all angles, are as good an answer as any.
TOLERANCE = 0.02
_SMALLEST_PANEL = 128
_GAP = 4
_MARGIN = 8
_FONT_SIZES = (14, 12, 10, 9)
_LABEL_HEIGHT = 20
_PAPER, _INK = 255, 0
_FRAMES = (40, 150)  # at least and at most, on the way there

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


def parse_values(text: str, flag: str) -> tuple[float, ...]:
    """Reads values of a factor as they are written on command lines.

    Example:
        >>> parse_values("-60:60:5", "azimuth"), parse_values("30", "azimuth"), parse_values("0,-5,10", "azimuth")
        ((-60.0, -30.0, 0.0, 30.0, 60.0), (30.0,), (0.0, -5.0, 10.0))

    Args:
        text: a number, numbers with commas between, or start:stop:count, both ends included.
        flag: what to call it in errors.

    Raises:
        UsageError: it is something else, or too much.
    """
    right = f"a number, a list such as -30,0,30, or start:stop:count such as -60:60:7 (count 2 to {MAX_VALUES})"
    compact = re.sub(r"\s+", "", text)
    if match := re.fullmatch(rf"({_NUMBER}):({_NUMBER}):(\d{{1,9}})", compact):
        start, stop, count = float(match[1]), float(match[2]), int(match[3])
        if not 2 <= count <= MAX_VALUES:
            raise UsageError(f"--{flag}: got {text!r} with a count of {count}, must be {right}")
        values = tuple(start + (stop - start) * i / (count - 1) for i in range(count))
    elif re.fullmatch(rf"{_NUMBER}(,{_NUMBER})*", compact):
        values = tuple(float(part) for part in compact.split(","))
        if len(values) > MAX_VALUES:
            raise UsageError(f"--{flag}: got {len(values)} values, at most {MAX_VALUES} are drawn")
    else:
        raise UsageError(f"--{flag}: got {text!r}, must be {right}")
    if not all(math.isfinite(value) for value in values):
        raise UsageError(f"--{flag}: got {text!r}, must be finite; it takes {right}")
    return values


@dataclasses.dataclass(frozen=True)
class Rendered:
    """What `rerender` gives.

    Attributes:
        sheet: the strip or grid with its labels; uint8 [H, W].
        frames: the animation, there and back, to be shown at `FPS`; uint8 [F, h, w].
        inferred: what the model reads off the input images, in the factors' units; [N].
        images: the re-rendered images alone; float32 [N, R, C, S, S, 1] with R values of the
            second factor that has several and C of the first, 1 where there is none.
    """

    sheet: np.ndarray
    frames: np.ndarray
    inferred: Mapping[str, np.ndarray]
    images: np.ndarray


def check_values(engine: "Engine", wanted: Mapping[str, Sequence[float]], images: int) -> None:
    """Checks that a model can render what is asked for.

    Args:
        engine: the model, here or on a server.
        wanted: for some factors the values they shall take.
        images: how many input images there are.

    Raises:
        UsageError: a factor is unknown, a value outside of the model's range, or there are more values or
            images than one picture can show.
    """
    known = ", ".join(engine.factor_ranges)
    if not wanted:
        first, (low, high) = next(iter(engine.factor_ranges.items()))
        raise UsageError(
            f"no factor to set: give one or two of {', '.join(map(_flag, engine.factor_ranges))}, "
            f"such as {_flag(first)}={low:.2g}:{high:.2g}:7"
        )
    for factor, values in wanted.items():
        if factor not in engine.factor_ranges:
            raise UsageError(f"{factor}: not a factor of this model; it has {known}")
        low, high = engine.factor_ranges[factor]
        slack = 1000 * engine.periods.get(factor, 0) or TOLERANCE * (high - low)
        for value in values:
            if not low - slack <= value <= high + slack:
                raise UsageError(
                    f"{_flag(factor)}: got {value:g}, must be between {low:.4g} and "
                    f"{f'{high:.4g} {engine.units[factor]}'.strip()}, what this model was calibrated on"
                )
    several = [factor for factor, values in wanted.items() if len(values) > 1]
    if len(several) > 2:
        raise UsageError(
            f"{_flag(several[2])}: {len(several)} factors ({', '.join(several)}) have several values; "
            "at most two can, give the others one"
        )
    if len(several) == 2 and images > 1:
        raise UsageError(
            f"{_flag(several[1])}: a grid of two factors shows one image, got {images}; give one image "
            "or vary one factor"
        )
    count = images * math.prod(len(values) for values in wanted.values())
    if count > MAX_RENDERED:
        raise UsageError(
            f"{count} images to render, at most {MAX_RENDERED} fit into a picture; give fewer "
            "values or images"
        )


def _flag(factor: str) -> str:
    """How dcign-rerender is told a factor."""
    return f"--{factor}" if factor in NAMED_FACTORS else f"--set={factor}"


def rerender(
    engine: "Engine", images: np.ndarray, wanted: Mapping[str, Sequence[float]]
) -> Rendered:
    """Renders images at all combinations of the given values, and draws them.

    One factor with several values gives a strip, with a row for each image: input, reconstruction, then the
    image at each value. Two such factors give a grid, the first factor along its columns, the second along its
    rows. Without one, each image is shown beside its input.

    Args:
        engine: the model.
        images: float32 [N, S, S, 1].
        wanted: for some extrinsic factors the values they shall take; factors that are not named stay as they
            are in the image.

    Raises:
        UsageError: as `check_values`.
    """
    check_values(engine, wanted, len(images))
    # In the model's order, so that the same request gives the same picture however it is written.
    wanted = {f: tuple(wanted[f]) for f in engine.factor_ranges if f in wanted}
    several = [factor for factor, values in wanted.items() if len(values) > 1]
    columns = several[0] if several else next(iter(wanted))
    rows = several[1] if len(several) > 1 else None
    fixed = {f: values[0] for f, values in wanted.items() if f not in (columns, rows)}

    row_values: Sequence[float] = wanted[rows] if rows else (math.nan,)
    path = [(row, column) for row in row_values for column in wanted[columns]]
    settings = {
        columns: [column for _, column in path],
        **{f: [v] * len(path) for f, v in fixed.items()},
    }
    if rows:
        settings[rows] = [row for row, _ in path]
    side = engine.image_size
    rendered = _render(engine, images, settings)
    shape = (len(images), len(row_values), len(wanted[columns]), side, side, 1)
    rendered = rendered.reshape(shape)
    reconstructed = engine.reconstruct(images)
    inferred = engine.infer(images)

    labels = _Labels(engine.units)
    if rows is None:
        sheet = _draw_strip(
            images, reconstructed, rendered[:, 0], columns, wanted[columns], fixed, labels
        )
    else:
        sheet = _draw_grid(
            images[0], reconstructed[0], rendered[0], (rows, columns), wanted, fixed, labels
        )
    frames = _animate(engine, images, inferred, wanted, (rows, columns))
    return Rendered(sheet, frames, inferred, rendered)


def _render(
    engine: "Engine", images: np.ndarray, settings: Mapping[str, Sequence[float]]
) -> np.ndarray:
    """Every image at every setting; float32 [N, P, S, S, 1] for P values of each factor."""
    count = len(next(iter(settings.values())))
    repeated = np.repeat(images, count, axis=0)
    tiled = {factor: np.tile(values, len(images)) for factor, values in settings.items()}
    return engine.rerender(repeated, tiled).reshape(len(images), count, *images.shape[1:])


# Drawing.


class _Sheet:
    """White paper, with images and text on it."""

    def __init__(self, width: int, height: int) -> None:
        self._paper = Image.new("L", (width, height), _PAPER)
        self._draw = ImageDraw.Draw(self._paper)

    def image(self, image: np.ndarray, left: int, top: int) -> None:
        panel = image_files.to_bytes(image_files.resize(image[..., 0], panel_side(len(image))))
        self._paper.paste(Image.fromarray(panel), (left, top))

    def text(self, text: str, left: int, top: int, width: int, centered: bool = True) -> None:
        """Writes on one line of `_LABEL_HEIGHT`, smaller or shortened where it would not fit."""
        for size in _FONT_SIZES:
            font = ImageFont.load_default(size)
            if font.getlength(text) <= width:
                break
        while font.getlength(text) > width and len(text) > 1:
            text = f"{text.removesuffix('…')[:-1]}…"
        x, anchor = (left + width / 2, "mm") if centered else (left, "lm")
        self._draw.text((x, top + _LABEL_HEIGHT / 2), text, _INK, font, anchor=anchor)

    @property
    def pixels(self) -> np.ndarray:
        return np.array(self._paper)


def panel_side(image_size: int) -> int:
    """How large an image is shown: a whole multiple of its own size, at least 128 pixels."""
    return image_size * math.ceil(_SMALLEST_PANEL / image_size)


@dataclasses.dataclass(frozen=True)
class _Labels:
    """Values of factors in words. The font that comes with Pillow has no longer minus sign."""

    units: Mapping[str, str]

    def one(self, factor: str, value: float) -> str:
        return f"{factor.replace('_', ' ')} {units.text(value, self.units[factor])}"

    def all(self, fixed: Mapping[str, float]) -> str:
        return ", ".join(self.one(factor, value) for factor, value in fixed.items())


def _draw_strip(
    images: np.ndarray,
    reconstructed: np.ndarray,
    rendered: np.ndarray,
    factor: str,
    values: Sequence[float],
    fixed: Mapping[str, float],
    words: _Labels,
) -> np.ndarray:
    """Rows of input | reconstruction | the image at each value; uint8 [H, W]."""
    side, count = panel_side(images.shape[1]), len(images)
    pitch = side + _GAP
    # The input and its reconstruction stand apart from what was changed.
    lefts = [_MARGIN, _MARGIN + pitch, *(3 * _MARGIN + pitch * (2 + i) for i in range(len(values)))]
    caption = _LABEL_HEIGHT if fixed else 0
    height = 2 * _MARGIN + _LABEL_HEIGHT + pitch * count - _GAP + caption
    sheet = _Sheet(lefts[-1] + side + _MARGIN, height)
    labels = ["input", "reconstruction", *(words.one(factor, value) for value in values)]
    for left, label in zip(lefts, labels, strict=True):
        sheet.text(label, left, _MARGIN, side)
    for index in range(count):
        top = _MARGIN + _LABEL_HEIGHT + pitch * index
        row = (images[index], reconstructed[index], *rendered[index])
        for left, image in zip(lefts, row, strict=True):
            sheet.image(image, left, top)
    if fixed:
        width = lefts[-1] + side - lefts[2]
        sheet.text(words.all(fixed), lefts[2], height - _MARGIN - caption, width, centered=False)
    return sheet.pixels


def _draw_grid(
    image: np.ndarray,
    reconstructed: np.ndarray,
    rendered: np.ndarray,
    factors: tuple[str, str],
    wanted: Mapping[str, Sequence[float]],
    fixed: Mapping[str, float],
    words: _Labels,
) -> np.ndarray:
    """Input and reconstruction at the left, then the image at all values of two factors; [H, W]."""
    rows, columns = factors
    side = panel_side(image.shape[0])
    pitch = side + _GAP
    label_width = max(90, side // 2)
    left = _MARGIN + side + 2 * _MARGIN + label_width + _GAP
    width = left + pitch * len(wanted[columns]) - _GAP + _MARGIN
    caption = _LABEL_HEIGHT if fixed else 0
    grid_height = _LABEL_HEIGHT + pitch * len(wanted[rows]) - _GAP
    height = 2 * _MARGIN + max(grid_height, 2 * (_LABEL_HEIGHT + pitch)) + caption
    sheet = _Sheet(width, height)
    for index, (label, shown) in enumerate((("input", image), ("reconstruction", reconstructed))):
        top = _MARGIN + index * (_LABEL_HEIGHT + pitch)
        sheet.text(label, _MARGIN, top, side)
        sheet.image(shown, _MARGIN, top + _LABEL_HEIGHT)
    for index, value in enumerate(wanted[columns]):
        sheet.text(words.one(columns, value), left + pitch * index, _MARGIN, side)
    for row, value in enumerate(wanted[rows]):
        top = _MARGIN + _LABEL_HEIGHT + pitch * row
        middle = top + (side - _LABEL_HEIGHT) // 2
        sheet.text(words.one(rows, value), left - label_width - _GAP, middle, label_width)
        for column, shown in enumerate(rendered[row]):
            sheet.image(shown, left + pitch * column, top)
    if fixed:
        sheet.text(words.all(fixed), left, height - _MARGIN - caption, width - left, centered=False)
    return sheet.pixels


# Animation.


def _animate(
    engine: "Engine",
    images: np.ndarray,
    inferred: Mapping[str, np.ndarray],
    wanted: Mapping[str, Sequence[float]],
    factors: tuple[str | None, str],
) -> np.ndarray:
    """The images beside their inputs as the factors go through their values and back; [F, h, w]."""
    stops = _stops(inferred, wanted, factors)
    steps = len(next(iter(stops.values()))[0]) - 1
    count = min(max(_FRAMES[0], 3 * steps + 1), _FRAMES[1], MAX_RENDERED // len(images))
    settings = {f: np.stack([_resample(row, count) for row in rows]) for f, rows in stops.items()}
    rendered = np.concatenate(
        [
            _render(
                engine, images[i : i + 1], {f: rows[i].tolist() for f, rows in settings.items()}
            )
            for i in range(len(images))
        ]
    )
    side = panel_side(images.shape[1])
    pitch = side + _GAP
    frames = []
    for frame in range(count):
        width, height = 2 * side + _GAP, 2 * _LABEL_HEIGHT + pitch * len(images) - _GAP
        sheet = _Sheet(width + 2 * _MARGIN, height + 2 * _MARGIN)
        for left, label in ((_MARGIN, "input"), (_MARGIN + pitch, "re-rendered")):
            sheet.text(label, left, _MARGIN, side)
        # What starts from each image's own angle has no one label.
        told = {}
        for factor, rows in settings.items():
            step = _step(*engine.factor_ranges[factor])
            if np.ptp(rows[:, frame]) < step / 2:
                told[factor] = round(rows[0, frame] / step) * step
        caption = _Labels(engine.units).all(told)
        sheet.text(caption, _MARGIN, _MARGIN + height - _LABEL_HEIGHT, width)
        for index, image in enumerate(images):
            top = _MARGIN + _LABEL_HEIGHT + pitch * index
            sheet.image(image, _MARGIN, top)
            sheet.image(rendered[index, frame], _MARGIN + pitch, top)
        frames.append(sheet.pixels)
    return np.stack(frames + frames[-2:0:-1])


def _step(low: float, high: float) -> float:
    """The power of ten that a number running over a range is rounded to: about a hundredth of it."""
    return float(10.0 ** math.floor(math.log10((high - low) / 50)))


def _stops(
    inferred: Mapping[str, np.ndarray],
    wanted: Mapping[str, Sequence[float]],
    factors: tuple[str | None, str],
) -> dict[str, list[list[float]]]:
    """For each factor and image, the values an animation passes through, as many for each."""
    rows, columns = factors
    count = len(inferred[columns])
    if len(wanted[columns]) == 1:
        # Nothing to sweep through: from what the image shows to what was asked for.
        return {f: [[float(inferred[f][i]), v[0]] for i in range(count)] for f, v in wanted.items()}
    path = [(math.nan, column) for column in wanted[columns]]
    if rows:
        # As an ox plows, so that nothing jumps.
        path = [
            (row, column)
            for i, row in enumerate(wanted[rows])
            for column in (wanted[columns] if i % 2 == 0 else wanted[columns][::-1])
        ]
    stops = {f: [[v[0]] * len(path)] * count for f, v in wanted.items()}
    stops[columns] = [[column for _, column in path]] * count
    if rows:
        stops[rows] = [[row for row, _ in path]] * count
    return stops


def _resample(stops: Sequence[float], count: int) -> np.ndarray:
    """`count` values that go evenly from the first stop to the last."""
    return np.interp(np.linspace(0, len(stops) - 1, count), np.arange(len(stops)), stops)
