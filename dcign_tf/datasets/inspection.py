"""What is in a data set, in words and in a picture that a person can check at a glance."""

import os
import pathlib
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dcign_tf import units
from dcign_tf.datasets import rendering
from dcign_tf.datasets.manifest import MIXED, SPLITS, Manifest
from dcign_tf.datasets.scenes import Group
from dcign_tf.errors import DcignError

GetGroup = Callable[[str, str, int], Group]

_COLUMNS = 10
_CELL = 128  # pixels
_GAP, _MARGIN = 6, 12
_LINE = 17
_LEFT = 190
_PAPER, _INK, _FADED = 255, 30, 110


def open_dataset(directory: str | os.PathLike[str]) -> tuple[Manifest, str, GetGroup]:
    """Opens a data set's folder.

    Returns:
        The manifest, the state of the files in words, and what gives a group.

    Raises:
        DcignError: it holds no data set, or not a whole one.
    """
    # TensorFlow, which dcign-data otherwise does without.
    from dcign_tf.datasets.source import RecordSource

    source = RecordSource(directory)
    manifest = source.manifest
    size = sum(file.size for file in manifest.files.values())
    try:
        rendering.verify_dataset(directory)
        state = "all as they were written"
    except DcignError as error:
        state = str(error)

    def group(split: str, factor: str, index: int) -> Group:
        if factor == MIXED:
            size = manifest.group_size
            some = source.mixed(split, (index + 1) * size)
            images, values = some.images[-size:], [v[-size:] for v in some.values.values()]
        else:
            groups = source.groups(split, factor, index + 1)
            images, values = groups.images[-1], [v[-1] for v in groups.values.values()]
        return Group(images, np.stack(values, axis=1), np.zeros([len(images), 0], np.float32))

    return manifest, f"{len(manifest.files)}, {size / 1e6:.1f} MB, {state}", group


def describe(manifest: Manifest) -> list[str]:
    """The lines of a text that says what a data set holds."""
    lines = [
        manifest.source,
        f"images: {manifest.image_size} x {manifest.image_size} pixels, {manifest.group_size} in a mini-batch",
    ]
    identities = manifest.settings.get("identities")
    if manifest.coefficients:
        lines.append(f"identities: random, of {manifest.coefficients} coefficients each")
    elif isinstance(identities, dict):
        counted = ", ".join(f"{n} for {split}" for split, n in identities.items())
        lines.append(f"identities: {counted}")
    width = max(len(factor) for factor in (*manifest.factors, MIXED)) + 2
    lines.append(f"{'mini-batches':<{width}}" + "".join(f"{split:>12}" for split in SPLITS))
    for factor in (*manifest.factors, MIXED):
        counts = [manifest.groups.get(split, {}).get(factor, 0) for split in SPLITS]
        lines.append(
            f"{factor:<{width}}{''.join(f'{n:>12}' for n in counts)}{_values(manifest, factor)}"
        )
    return lines


def _values(manifest: Manifest, factor: str) -> str:
    """The range of a factor in words."""
    if factor not in manifest.ranges:
        return ""
    ends, unit = manifest.ranges[factor], manifest.units[factor]
    if ends is None:
        return "  values unknown"
    period = manifest.periods.get(factor)
    closes = f", closing after {units.text(period, unit)}" if period else ""
    return f"  {units.text(ends[0], unit)} to {units.text(ends[1], unit)}{closes}"


def picture_path(directory: str | os.PathLike[str]) -> pathlib.Path:
    """Where a data set's picture goes: beside its folder, whose content is the data set's alone."""
    folder = pathlib.Path(directory).resolve()
    return folder.with_name(f"{folder.name}.png")


def contact_sheet(manifest: Manifest, group: GetGroup, columns: int = _COLUMNS) -> np.ndarray:
    """A row for each factor, with one mini-batch in the order of that factor's values, and a row of mixed images.

    Args:
        manifest: of the data set.
        group: gives a group of a split, a factor and an index.
        columns: images in a row, at most.

    Returns:
        uint8 [H, W].
    """
    columns = min(columns, manifest.group_size)
    rows = []
    for factor in (*manifest.factors, MIXED):
        split = next((s for s in SPLITS if manifest.groups.get(s, {}).get(factor)), None)
        if split is not None:
            rows.append((factor, split, group(split, factor, 0)))
    extrinsic = manifest.factors[:-1]
    # Where everything varies, each image has all its values below it.
    heights = [_CELL + _LINE * (len(extrinsic) if factor == MIXED else 1) for factor, _, _ in rows]
    heights = [max(height, _LINE * (len(extrinsic) + 2)) + 2 * _GAP for height in heights]
    width = _MARGIN + _LEFT + columns * (_CELL + _GAP) + _MARGIN
    paper = Image.new("L", (width, 2 * _MARGIN + sum(heights)), _PAPER)
    draw = ImageDraw.Draw(paper)
    top = _MARGIN
    for (factor, split, some), height in zip(rows, heights, strict=True):
        values = {f: some.values[:, i] for i, f in enumerate(extrinsic)}
        title = "everything varies" if factor == MIXED else f"{_words(factor)} varies"
        _text(draw, (_MARGIN, top), title, _LEFT - _GAP, _INK, 15)
        told = [] if factor == MIXED else [f for f in extrinsic if f != factor]
        lines = [f"{_words(f)} {_span(values[f], manifest.units[f])}" for f in told]
        for number, line in enumerate([f"({split})", *lines], 1):
            place = (_MARGIN, top + 4 + number * _LINE)
            _text(draw, place, line, _LEFT - _GAP, _FADED, 12)
        order = np.arange(len(some.images))
        if factor in values:
            order = np.argsort(values[factor], kind="stable")
        for column, place_in_group in enumerate(order[_spread(len(order), columns)]):
            left = _MARGIN + _LEFT + column * (_CELL + _GAP)
            image = Image.fromarray(some.images[place_in_group, ..., 0])
            paper.paste(image.resize((_CELL, _CELL), Image.Resampling.LANCZOS), (left, top))
            shown = extrinsic if factor == MIXED else [f for f in extrinsic if f == factor]
            for number, name in enumerate(shown):
                label = units.text(float(values[name][place_in_group]), manifest.units[name])
                if factor == MIXED:
                    label = f"{_words(name)} {label}"
                place = (left, top + _CELL + number * _LINE)
                _text(draw, place, label, _CELL, _INK, 12)
        top += height
    return np.array(paper)


def _spread(count: int, columns: int) -> np.ndarray:
    """`columns` of `count` places, the first and the last among them."""
    return np.linspace(0, count - 1, columns).round().astype(int)


def _span(values: np.ndarray, unit: str) -> str:
    """One value, or two where they are not all equal."""
    low, high = float(np.min(values)), float(np.max(values))
    if low == high or np.isnan(low):
        return units.text(low, unit)
    return f"{units.text(low, unit)} to {units.text(high, unit)}"


def _words(factor: str) -> str:
    return factor.replace("_", " ")


def _text(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    width: int,
    ink: int,
    size: int,
) -> None:
    """Writes a line, smaller or shortened where it would not fit."""
    font = ImageFont.load_default(size)
    while font.getlength(text) > width and size > 9:
        size -= 1
        font = ImageFont.load_default(size)
    while font.getlength(text) > width and len(text) > 1:
        text = f"{text.removesuffix('…')[:-1]}…"
    draw.text(place, text, ink, font)
