"""A figure of what a model makes of photographs: each, its crop, its reconstruction, turned, and lit from elsewhere."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dcign_tf import images
from dcign_tf.serving import faces

if TYPE_CHECKING:
    from dcign_tf.serving.rerender import Engine

TURNS = (-60.0, -30.0, 0.0, 30.0, 60.0)
LIGHTS = (-70.0, 0.0, 70.0)

_PANEL = 150  # pixels
_GAP, _MARGIN, _LABEL = 4, 8, 20
_PAPER, _INK = 255, 0


class Photograph(NamedTuple):
    """A photograph and what of it is used.

    Attributes:
        name: what it is called in errors.
        image: float32 [H, W] in [0, 1].
        crop: see `faces.crop`.
    """

    name: str
    image: np.ndarray
    crop: str = faces.FACE


def figure(
    engine: "Engine", photographs: Sequence[Photograph], cut_out: bool = False
) -> np.ndarray:
    """Draws a row for each photograph.

    Args:
        engine: a model that knows an azimuth and a light_azimuth.
        photographs: at least one.
        cut_out: whether heads are cut out of their crops, for a model of `--photographic=plain`.

    Returns:
        uint8 [H, W].

    Raises:
        DcignError: as `faces.crop`.
    """
    crops = [faces.crop(image, crop, name) for name, image, crop in photographs]
    squares = [faces.cut_out(crop.image) if cut_out else crop.image for crop in crops]
    inputs = np.stack([images.fit_square(square, engine.image_size) for square in squares])
    columns = [
        ("crop", inputs),
        ("reconstruction", engine.reconstruct(inputs)),
        *((f"turned to {d:g}°", engine.rerender(inputs, {"azimuth": d})) for d in TURNS),
        *((f"light at {d:g}°", engine.rerender(inputs, {"light_azimuth": d})) for d in LIGHTS),
    ]
    pitch = _PANEL + _GAP
    width = 2 * _MARGIN + pitch * (1 + len(columns)) - _GAP
    sheet = Image.new("L", (width, 2 * _MARGIN + _LABEL + pitch * len(crops) - _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, label in enumerate(("photograph", *(label for label, _ in columns))):
        place = (_MARGIN + pitch * number + _PANEL / 2, _MARGIN + _LABEL / 2)
        draw.text(place, label, _INK, font, anchor="mm")
    for row, (photograph, crop) in enumerate(zip(photographs, crops, strict=True)):
        top = _MARGIN + _LABEL + pitch * row
        sheet.paste(_thumbnail(photograph.image, crop.square), (_MARGIN, top))
        for number, (_, column) in enumerate(columns, 1):
            panel = images.to_bytes(images.resize(column[row, ..., 0], _PANEL))
            sheet.paste(Image.fromarray(panel), (_MARGIN + pitch * number, top))
    return np.asarray(sheet)


def _thumbnail(image: np.ndarray, square: faces.Square) -> Image.Image:
    """The whole photograph, as large as fits into a panel, with its square marked."""
    height, width = image.shape
    scale = _PANEL / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = Image.fromarray(images.to_bytes(image)).resize(size, Image.Resampling.LANCZOS)
    left, top = square.left * scale, square.top * scale
    side = square.side * scale
    draw = ImageDraw.Draw(small)
    for inset, ink in ((0, 0), (1, 255)):
        draw.rectangle(
            (left + inset, top + inset, left + side - inset, top + side - inset), outline=ink
        )
    panel = Image.new("L", (_PANEL, _PANEL), _PAPER)
    panel.paste(small, ((_PANEL - size[0]) // 2, (_PANEL - size[1]) // 2))
    return panel
