"""Squares cut out of photographs, and heads out of these: what a network that knows heads can read.

Faces are found by scikit-image (`pip install 'dcign_tf[photos]'`), with the model that it ships: a cascade of local
binary patterns, trained on frontal faces (Liao et al. 2007, "Learning Multi-scale Block Local Binary Patterns for Face
Recognition"). Nothing is downloaded. It sees faces that look about toward the camera and stand about upright.

What is head and what background is found by its random walker (Grady 2006, "Random Walks for Image Segmentation"),
which starts from where in such a square there is nearly always, and nearly never, a head.
"""

import importlib.util
import re
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image

from dcign_tf import images
from dcign_tf.errors import DcignError, UsageError

CENTER, FACE = "center", "face"

# How many sides of what the detector marks as a face the square around it has: so many that a head fills it as in the
# renders of `--photographic`. `docs/make_photos.py --measure` finds it again.
_SIDES = 1.7

_LARGEST = 30_000  # pixels of a square's side: memory
_LONGEST = 640  # pixels of the longer side in which faces are looked for; larger photographs are made smaller
_SMALLEST = 40  # pixels of a face there
_CUT_SIDE = 100  # pixels of a square in which head and background are told apart
_CUT_BETA = 130.0  # how much edges hold up a random walker: scikit-image's usual value
_AGREEING = (6, 4)  # neighbors that must see a face, too; fewer where nothing is found
_STEP = 1.1  # from one size of faces to the next


class Square(NamedTuple):
    """A square of an image, in its pixels; may reach beyond its edges."""

    left: int
    top: int
    side: int


class Crop(NamedTuple):
    """What `crop` gives.

    Attributes:
        image: float32 [S, S] in [0, 1]. Beyond the edges of the photograph, its edges go on.
        square: where it was cut out.
        faces: how many faces were found; 0 where none were looked for.
    """

    image: np.ndarray
    square: Square
    faces: int


def available() -> bool:
    """Whether scikit-image is there."""
    return importlib.util.find_spec("skimage") is not None


def check_crop(how: str) -> None:
    """Checks that `crop` understands a text.

    Raises:
        UsageError: it does not.
    """
    if how not in (CENTER, FACE):
        _box(how)


def crop(image: np.ndarray, how: str, name: str = "the image") -> Crop:
    """Cuts a square out of a photograph.

    Args:
        image: float32 [H, W] in [0, 1], as `images.read_image` gives.
        how: "center" for the central square, "face" for a loose square around the largest face, or
            "left,top,right,bottom" of a square in the image's pixels.
        name: what to call the image in errors.

    Raises:
        UsageError: `how` is something else, or the middle of the square does not lie in the image.
        DcignError: no face is found, or scikit-image is not there to look for one.
    """
    height, width = image.shape
    if how == FACE:
        found = find_faces(image)
        if not found:
            raise DcignError(
                f"{name}: no face found; only upright ones that look about toward the camera are. Give a square "
                "around the head instead, --crop=left,top,right,bottom in pixels"
            )
        face = found[0]
        side = round(_SIDES * face.side)
        shift = (side - face.side) // 2
        square = Square(face.left - shift, face.top - shift, side)
        return Crop(_cut(image, square), square, len(found))
    if how == CENTER:
        side = min(height, width)
        square = Square((width - side) // 2, (height - side) // 2, side)
    else:
        square = _box(how)
        across, down = square.left + square.side / 2, square.top + square.side / 2
        if not (0 <= across < width and 0 <= down < height):
            raise UsageError(
                f"--crop: got {how}, but {name} has {width} x {height} pixels; the square's middle must lie in it"
            )
    return Crop(_cut(image, square), square, 0)


def cut_out(square: np.ndarray) -> np.ndarray:
    """Lays a head before black, as the paper's are and those of `--photographic=plain`.

    Args:
        square: float32 [S, S] in [0, 1], a head framed as `crop` frames a face.

    Returns:
        float32 [S, S] in [0, 1].

    Raises:
        DcignError: scikit-image is not there.
    """
    try:
        from skimage.segmentation import random_walker
    except ImportError:
        raise _missing("--cut_out") from None
    side = len(square)
    small = images.resize(square, _CUT_SIDE)
    v, u = (np.mgrid[:_CUT_SIDE, :_CUT_SIDE] + 0.5) / _CUT_SIDE
    across = np.abs(u - 0.5)
    # A face and a neck; and around them what hair, ears and shoulders may still reach.
    head = np.hypot((u - 0.5) / 0.2, (v - 0.43) / 0.27) < 1
    head |= (across < 0.12) & (v > 0.5)
    background = np.hypot((u - 0.5) / 0.42, (np.minimum(v, 0.47) - 0.47) / 0.47) > 1
    with warnings.catch_warnings():
        # It warns where probabilities are off by a thousandth.
        warnings.simplefilter("ignore")
        share = random_walker(
            small,
            np.where(head, 1, np.where(background, 2, 0)),
            beta=_CUT_BETA,
            mode="cg_j",
            tol=1e-3,
            return_full_prob=True,
        )[0]
    # Rather too little than a bright seam.
    return square * images.resize(np.clip((share - 0.6) * 4 + 0.5, 0, 1), side)


def find_faces(image: np.ndarray) -> list[Square]:
    """Finds faces that look about toward the camera.

    Args:
        image: float32 [H, W] in [0, 1].

    Returns:
        Squares from brow to chin and from cheek to cheek, the largest first.

    Raises:
        DcignError: scikit-image is not there.
    """
    try:
        from skimage import data, feature
    except ImportError:
        raise _missing("--crop=face") from None
    height, width = image.shape
    scale = min(1.0, _LONGEST / max(height, width))
    small = np.asarray(image, np.float32)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BOX))
    if min(small.shape) < _SMALLEST:
        return []
    cascade = feature.Cascade(data.lbp_frontal_face_cascade_filename())
    for agreeing in _AGREEING:
        marked = cascade.detect_multi_scale(
            img=np.clip(small, 0, 1),
            scale_factor=_STEP,
            step_ratio=1,
            min_size=(_SMALLEST, _SMALLEST),
            max_size=(min(small.shape),) * 2,
            min_neighbor_number=agreeing,
        )
        if marked:
            break
    squares = [Square(mark["c"], mark["r"], mark["width"]) for mark in marked]
    return [Square(*(round(part / scale) for part in square)) for square in _merge(squares)]


def _merge(squares: list[Square]) -> list[Square]:
    """One face may be marked several times: those whose middles lie within one another become their mean."""
    groups: list[list[Square]] = []
    for square in sorted(squares, key=lambda s: -s.side):
        for group in groups:
            first = group[0]
            away = max(
                abs(first.left - square.left + (first.side - square.side) / 2),
                abs(first.top - square.top + (first.side - square.side) / 2),
            )
            if away < first.side / 2:
                group.append(square)
                break
        else:
            groups.append([square])
    means = [
        Square(*(round(sum(part) / len(part)) for part in zip(*g, strict=True))) for g in groups
    ]
    return sorted(means, key=lambda s: -s.side)


def _missing(flag: str) -> DcignError:
    return DcignError(
        f"{flag}: needs the package scikit-image; install it: pip install 'dcign_tf[photos]'"
    )


def _box(text: str) -> Square:
    """The square that four numbers name."""
    if match := re.fullmatch(r"(-?\d{1,6}),(-?\d{1,6}),(\d{1,6}),(\d{1,6})", text, re.ASCII):
        left, top, right, bottom = map(int, match.groups())
        if 0 < right - left == bottom - top <= _LARGEST:
            return Square(left, top, right - left)
    raise UsageError(
        f"--crop: got {text!r}, must be {CENTER}, {FACE}, or left,top,right,bottom of a square in the image's pixels"
    )


def _cut(image: np.ndarray, square: Square) -> np.ndarray:
    rows = np.arange(square.top, square.top + square.side).clip(0, image.shape[0] - 1)
    columns = np.arange(square.left, square.left + square.side).clip(0, image.shape[1] - 1)
    return np.ascontiguousarray(image[np.ix_(rows, columns)], np.float32)
