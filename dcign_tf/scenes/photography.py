"""What photographs of people differ in besides the people: light, film, framing, background and clothes.

The paper's heads stand before black, in one light and in the middle of the picture; a network that has seen nothing
else takes a photograph's wall, its soft light or a hand's breadth of shift for something about the head. Here all of
this is random, and part of who is seen: `draw` gives the numbers that say it, and `take` what the renderer needs.

*   Light: how much of it comes from everywhere, how high the one light stands, how much skin gleams.
*   Film: exposure, gamma (cameras make dark tones lighter, the renderer does not), contrast, black that is not black.
*   Framing: loose crops, as by hand or around what a detector finds, from nearer or farther away.
*   Background: an even grey, a gradient, blurred shapes, shapes with an edge, stripes; often black or white.
*   Clothes: shoulders below the head, and in front of the neck.

Before black and without clothes (`PLAIN`) there is far less to learn: for networks that are shown heads cut out of
photographs (`dcign_tf.serving.faces.cut_out`), and not whole ones (`FULL`).

All are drawn with the picture's own coordinates, from 0 at the left and the top to 1.
"""

import dataclasses
import math
from typing import Any

import numba
import numpy as np

from dcign_tf.scenes.render import Camera, Shading, Take

_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")

PLAIN, FULL = "plain", "full"

_ZOOM = 0.85  # People crop heads with some room around them.
_CURVE = 1024  # entries of a film's curve
_BROAD, _FINE = 6, 14  # cells of the background's textures along a side, before they are stretched

# What is drawn, in order; each is uniform in [0, 1). `seed` stands for the textures.
NUMBERS = (
    "ambient",
    "light_elevation",
    "specular",
    "exposure",
    "gamma",
    "contrast",
    "black",
    "field_of_view",
    "zoom",
    "right",
    "up",
    "roll",
    "kind",
    "grey",
    "second_grey",
    "gradient",
    "gradient_direction",
    "broad",
    "fine",
    "edges",
    "area",
    "stripes",
    "stripe_width",
    "stripe_direction",
    "clothes",
    "clothes_grey",
    "clothes_height",
    "clothes_slope",
    "neckline",
    "neckline_depth",
    "seed",
)


def draw(rng: np.random.Generator, n: int) -> np.ndarray:
    """Draws how `n` photographs are taken; float32 [n, len(NUMBERS)], in [0, 1)."""
    return rng.random((n, len(NUMBERS)), np.float32)


def take(
    numbers: np.ndarray, image_size: int, camera: Camera, shading: Shading, kind: str = FULL
) -> Take:
    """How a photograph is taken.

    Args:
        numbers: [len(NUMBERS)], in [0, 1], a row of `draw`.
        image_size: height and width of the image in pixels.
        camera: whose zoom and field of view are varied.
        shading: whose shininess is kept; all else is varied.
        kind: `PLAIN` or `FULL`.

    Raises:
        ValueError: there are not as many numbers, or they are not in [0, 1].
    """
    if kind not in (PLAIN, FULL):
        raise ValueError(f"kind: got {kind!r}, must be {PLAIN} or {FULL}")
    values = np.asarray(numbers, np.float64)
    if values.shape != (len(NUMBERS),) or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"numbers: got {numbers!r}, must be {len(NUMBERS)} from 0 to 1")
    of = dict(zip(NUMBERS, values.tolist(), strict=True))
    # Flatter light there is in photographs, too; but a network that takes it for a property of the head, and not for
    # light from the front, does not re-light it.
    ambient = _between(of["ambient"], 0.1, 0.4)
    light = dataclasses.replace(
        shading,
        ambient=ambient,
        diffuse=1.0 - ambient,
        specular=_between(of["specular"] ** 2, 0.0, 0.18),
        light_elevation=_between(of["light_elevation"], 0.0, 50.0),
        background=0.0,
    )
    lens = dataclasses.replace(
        camera,
        field_of_view=min(
            max(camera.field_of_view * _between(of["field_of_view"], 0.5, 1.6), 1.0), 90.0
        ),
        zoom=min(max(camera.zoom * _ZOOM * math.exp(0.09 * _bell(of["zoom"])), 0.1), 100.0),
        right=camera.right + 0.04 * _bell(of["right"]),
        up=camera.up + 0.04 * _bell(of["up"]),
        roll=camera.roll + 4.0 * _bell(of["roll"]),
    )
    # The head's middle, and how large it is beside one that is not framed for a photograph.
    head = (0.5 + lens.right - camera.right, 0.5 - lens.up + camera.up, lens.zoom / camera.zoom)
    background, cover = np.zeros((2, image_size, image_size), np.uint8)
    if kind == FULL:
        background, cover = _surroundings(of, image_size, head)
    return Take(lens, light, _curve(of, light.brightest), background, cover)


def _between(value: float, low: float, high: float) -> float:
    return low + (high - low) * value


def _bell(value: float) -> float:
    """From uniform to a triangle's distribution of variance 1: about normal, but never beyond 2.45."""
    side = 1.0 - 2.0 * abs(value - 0.5)
    return math.copysign(math.sqrt(6.0) * (1.0 - math.sqrt(side)), value - 0.5)


def _curve(of: dict[str, float], brightest: float) -> np.ndarray:
    """The film's grey values for equally spaced intensities up to the brightest; float32 [_CURVE]."""
    exposure = math.exp(_between(of["exposure"], math.log(0.5), math.log(1.5)))
    gamma = math.exp(_between(of["gamma"], math.log(0.5), math.log(1.05)))
    light = np.linspace(0.0, brightest * exposure, _CURVE)
    # White comes slowly, as it does from a camera.
    grey = np.minimum(light / (1.0 + 0.15 * light), 1.0) ** gamma
    steep = grey * grey * (3.0 - 2.0 * grey)
    grey += _between(of["contrast"], -0.1, 0.7) * (steep - grey)
    black = 0.09 * of["black"] ** 2
    return (black + (1.0 - black) * grey).astype(np.float32)


def _surroundings(
    of: dict[str, float], size: int, head: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """The background with clothes on it, and where these lie before the head; uint8 [S, S] each."""
    rng = np.random.Generator(np.random.Philox(int(of["seed"] * 2**32)))
    # One more than a spline of three cells reaches on either side.
    broad = rng.standard_normal((_BROAD + 3, _BROAD + 3), np.float32)
    second = rng.standard_normal((_BROAD + 3, _BROAD + 3), np.float32)
    fine = rng.standard_normal((_FINE + 3, _FINE + 3), np.float32)
    stretch_x, stretch_y, offset, phase = rng.random(4)
    grey, second_grey = of["grey"], of["second_grey"]
    plain = of["kind"]
    if plain < 0.08:
        grey = 0.06 * grey
    elif plain < 0.2:
        grey = 1.0 - 0.15 * grey
    busy = max(plain - 0.5, 0.0) / 0.5  # Half of the backgrounds are even, or nearly.
    direction = 2 * math.pi * of["gradient_direction"]
    slope = 0.5 * of["gradient"] ** 2
    turn = math.pi * of["stripe_direction"]
    stripes = busy * 0.5 * max(of["stripes"] - 0.7, 0.0)
    waves = math.exp(_between(of["stripe_width"], math.log(1.5), math.log(9.0)))
    # From the chin down; far below the picture where there are none.
    clothes_height = _between(of["clothes_height"], 0.38, 0.6) if of["clothes"] < 0.8 else 9.0
    numbers = np.array(
        [
            grey,
            slope * math.cos(direction),
            slope * math.sin(direction),
            0.04 + busy * 0.22 * of["broad"],
            0.01 + busy * 0.14 * of["fine"] ** 2,
            min(2.0 * busy, 1.0) * (second_grey - grey),
            math.exp(_between(of["edges"], 0.0, math.log(25.0))),
            _between(of["area"], -0.9, 0.9),
            stripes,
            2 * math.pi * waves * math.cos(turn),
            2 * math.pi * waves * math.sin(turn),
            2 * math.pi * phase,
            _between(stretch_x, 0.35, 1.0),
            _between(stretch_y, 0.35, 1.0),
            head[1] + head[2] * clothes_height,
            head[0] + 0.1 * (offset - 0.5),
            _between(of["clothes_slope"], 0.05, 0.4),
            _between(of["neckline"], 0.08, 0.26),
            _between(of["neckline_depth"], 0.05, 0.4),
            of["clothes_grey"] ** 1.5,
        ],
        np.float32,
    )
    images = np.empty((2, size, size), np.uint8)
    _paint(numbers, broad, second, fine, images)
    return images[0], images[1]


@_compiled
def _spline(at: np.float32) -> tuple[Any, Any, Any, Any]:
    """Weights of the four knots around a place between the second and the third, a cubic B-spline's."""
    one, sixth = np.float32(1), np.float32(1 / 6)
    rest = one - at
    a, d = rest * rest * rest * sixth, at * at * at * sixth
    b = np.float32(2 / 3) - at * at * (one - np.float32(0.5) * at)
    return a, b, one - a - b - d, d


@_compiled
def _blend(knots: np.ndarray, place: float, out: np.ndarray) -> None:
    """A row of a texture: the rows of `knots` around `place`, blended."""
    first = min(int(place), len(knots) - 4)
    a, b, c, d = _spline(np.float32(place - first))
    for k in range(len(out)):
        out[k] = (
            a * knots[first, k]
            + b * knots[first + 1, k]
            + c * knots[first + 2, k]
            + d * knots[first + 3, k]
        )


@_compiled
def _paint(
    numbers: np.ndarray, broad: np.ndarray, second: np.ndarray, fine: np.ndarray, images: np.ndarray
) -> None:
    """Draws the background and the cover, [2, S, S]; `numbers` are those of `_surroundings`, in order."""
    grey, slope_x, slope_y, some_broad, some_fine = numbers[:5]
    change, edge, area, stripes, wave_x, wave_y, phase, stretch_x, stretch_y = numbers[5:14]
    top, middle, slope, neckline, depth, clothes = numbers[14:]
    size = images.shape[1]
    zero, one, half = np.float32(0), np.float32(1), np.float32(0.5)
    pixel = one / np.float32(size)
    row_1, row_2 = np.empty(broad.shape[1], np.float32), np.empty(second.shape[1], np.float32)
    row_3 = np.empty(fine.shape[1], np.float32)
    cells, more = np.float32(len(broad) - 3), np.float32(len(fine) - 3)
    for row in range(size):
        v = (np.float32(row) + half) * pixel
        _blend(broad, v * stretch_y * cells, row_1)
        _blend(second, v * stretch_y * cells, row_2)
        _blend(fine, v * stretch_y * more, row_3)
        for column in range(size):
            u = (np.float32(column) + half) * pixel
            place = u * stretch_x * cells
            k = np.uint32(place)
            a, b, c, d = _spline(place - np.float32(k))
            soft = a * row_1[k] + b * row_1[k + 1] + c * row_1[k + 2] + d * row_1[k + 3]
            shape = a * row_2[k] + b * row_2[k + 1] + c * row_2[k + 2] + d * row_2[k + 3]
            place = u * stretch_x * more
            k = np.uint32(place)
            a, b, c, d = _spline(place - np.float32(k))
            small = a * row_3[k] + b * row_3[k + 1] + c * row_3[k + 2] + d * row_3[k + 3]
            value = grey + slope_x * (u - half) + slope_y * (v - half)
            value += some_broad * soft + some_fine * small
            value += change * min(max(edge * (shape - area) + half, zero), one)
            if stripes > zero:
                value += stripes * np.sin(wave_x * u + wave_y * v + phase + soft)
            # Shoulders fall off on either side of the neck, which comes out of a wedge.
            aside = abs(u - middle)
            below = v - top - slope * aside
            on = min(max(below / (np.float32(2) * pixel) + half, zero), one)
            beside = aside - neckline * (one - below / depth)
            before = min(max(beside / (np.float32(2) * pixel) + half, zero), one)
            value += on * (clothes + some_fine * small - value)
            images[0, row, column] = np.uint8(min(max(value, zero), one) * np.float32(255) + half)
            images[1, row, column] = np.uint8(on * before * np.float32(255) + half)
