"""Pictures from anywhere as grey images, and images as PNG and GIF files.

Grey is 0.21 R + 0.72 G + 0.07 B, as in the authors' code. What is transparent shows black, the background of
the scenes.
"""

import io
import math
import os
import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin

from dcign_tf import files
from dcign_tf.errors import DcignError

GREY_OF_RGB = (0.21, 0.72, 0.07)
MAX_PIXELS = 100_000_000
MAX_SIDE = 65_535  # What JPEG can say; decoders spend their time by the row.
MAX_BYTES = 1 << 29

_PART = 1 << 18  # pixels
_ORIENTATION = 0x0112  # the EXIF tag
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
# How a file that is something else can begin, to tell its owner what it is.
_OTHER_KINDS = (
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
)


def read_image(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Reads a PNG or JPEG of any size, color mode, bit depth and orientation as a grey image.

    Colors become grey as above; alpha and transparent colors are laid over black; the EXIF orientation is
    applied; 16-bit grey keeps its precision, 16-bit color its range but only its upper 8 bits; of several
    frames the first is read.

    Args:
        source: a file's name, or its bytes.
        name: what to call the image in errors; the file's name by default.
        max_pixels: more than this many are refused before any is decoded.

    Returns:
        float32 [H, W] in [0, 1].

    Raises:
        DcignError: the file cannot be read, is no PNG or JPEG, is damaged, or has more than `max_pixels`
            pixels or `MAX_SIDE` along a side. That is found out before any pixel is decoded.
    """
    return _decode(source, name, max_pixels, _grey)


def read_grey(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Reads an image of a data set as `read_image` does, but in 8 bits, and what is transparent shows white.

    White is the background of the object renders that people publish. The common cases, opaque grey and color,
    never become floats: reading is about as fast as decoding.

    Args:
        source: a file's name, or its bytes.
        name: what to call the image in errors; the file's name by default.
        max_pixels: more than this many are refused before any is decoded.

    Returns:
        uint8 [H, W].

    Raises:
        DcignError: as `read_image`.
    """
    return _decode(source, name, max_pixels, _grey_bytes)


def _decode(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview,
    name: str | None,
    max_pixels: int,
    grey_of: Callable[[Image.Image, int], np.ndarray],
) -> np.ndarray:
    """The upright image that `grey_of` makes of the loaded picture and its bit depth; [H, W]."""
    if isinstance(source, bytes | bytearray | memoryview):
        name = name or "the image"
        data = bytes(source)
    else:
        name = name or os.fspath(source)
        data = read_bytes(source, name)
    opener: type[ImageFile.ImageFile]
    if data.startswith(_PNG):
        kind, opener = "PNG", PngImagePlugin.PngImageFile
    elif data.startswith(_JPEG):
        kind, opener = "JPEG", JpegImagePlugin.JpegImageFile
    else:
        raise DcignError(f"{name}: not a PNG or JPEG image but {_describe(data)}")
    try:
        # Pillow warns of oddities that do no harm, such as broken EXIF data.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Not Image.open: it would try other formats, and has another limit of pixels.
            with opener(io.BytesIO(data)) as picture:
                width, height = picture.size
                if width * height > max_pixels or max(width, height) > MAX_SIDE:
                    raise DcignError(
                        f"{name}: has {width} x {height} pixels; at most {max_pixels // 10**6} "
                        f"million are read, and {MAX_SIDE} along a side"
                    )
                picture.load()
                # Of PNG, byte 24 is the bit depth; JPEG has no transparency, for which alone it matters.
                grey = grey_of(picture, data[24])
                return _upright(grey, _orientation(picture))
    except (DcignError, MemoryError):
        raise
    except Exception as error:
        # Pillow's decoders answer damaged files with nearly every exception Python has.
        detail = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DcignError(f"{name}: a damaged or truncated {kind} ({detail})") from error


def read_bytes(path: str | os.PathLike[str], name: str) -> bytes:
    """Reads a file that may be an image, called `name` in errors.

    Raises:
        DcignError: it cannot be read, or has more than `MAX_BYTES`.
    """
    try:
        with open(path, "rb") as file:
            data = files.read_at_most(file, MAX_BYTES + 1)
    except OSError as error:
        raise DcignError(f"{name}: {error.strerror or error}") from error
    except ValueError as error:  # A zero byte in the name.
        raise DcignError(f"{name!r}: not a file's name ({error})") from error
    if len(data) > MAX_BYTES:
        raise DcignError(f"{name}: larger than {MAX_BYTES >> 20} MiB, too large for an image")
    return data


def _describe(data: bytes) -> str:
    """Says what a file is that is no PNG or JPEG."""
    if not data:
        return "an empty file"
    for start, kind in _OTHER_KINDS:
        if data.startswith(start):
            return kind
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "a WebP image"
    if data[4:8] == b"ftyp":
        return "an HEIC, AVIF or video file"
    try:
        text = data[:200].decode("utf-8", errors="strict" if len(data) <= 200 else "ignore")
    except UnicodeDecodeError:
        text = "\0"
    if text and all(letter.isprintable() or letter.isspace() for letter in text):
        return "an SVG, XML or HTML text" if text.lstrip().startswith("<") else "a text"
    return f"something else (it begins with the bytes {data[:4].hex(' ')})"


def _grey(picture: Image.Image, depth: int, background: float = 0) -> np.ndarray:
    """The pixels of a loaded picture of `depth` bits over `background`; float32 [H, W]."""
    transparent = picture.info.get("transparency")
    if picture.mode == "1":
        picture = picture.convert("L")
    if picture.mode == "L" or picture.mode.startswith("I"):
        values = np.asarray(picture)
        most = 255 if picture.mode == "L" else 65535
        grey = np.clip(values.astype(np.float32) / most, 0, 1)
        if isinstance(transparent, int):
            # The file says it in its own bit depth; pixels of fewer than 8 bits Pillow spreads to 8, and
            # of 1 bit the transparent value, too.
            grey[values == min(transparent * most // (2**depth - 1), most)] = background
        return grey
    if picture.mode == "CMYK":
        # Rounded down, as TensorFlow's decoder does it in exported models; Pillow rounds to the nearest.
        light = 255 - np.asarray(picture).astype(np.uint16)
        return _weigh((light[..., :3] * light[..., 3:] // 255).astype(np.uint8))
    if picture.mode == "RGB":
        pixels = np.asarray(picture)
        grey = _weigh(pixels)
        if isinstance(transparent, tuple):
            shown = np.array(transparent) >> (8 if depth == 16 else 0)
            grey[(pixels == shown).all(axis=-1)] = background
        return grey
    pixels = np.asarray(picture.convert("RGBA"))
    alpha = pixels[..., 3] / np.float32(255)
    return _weigh(pixels) * alpha + background * (1 - alpha)


def _grey_bytes(picture: Image.Image, depth: int) -> np.ndarray:
    """The pixels of a loaded picture of `depth` bits over white; uint8 [H, W]."""
    if "transparency" not in picture.info:
        if picture.mode == "L":
            return np.array(picture)
        if picture.mode == "RGB":
            return np.array(picture.convert("L", (*GREY_OF_RGB, 0)))
    return to_bytes(_grey(picture, depth, background=1))


def _weigh(pixels: np.ndarray) -> np.ndarray:
    """The grey of uint8 colors [H, W, 3 or 4]; float32 [H, W]."""
    weights = np.array(GREY_OF_RGB, np.float32) / 255
    flat = pixels.reshape(-1, pixels.shape[-1])
    grey = np.empty(len(flat), np.float32)
    # By parts: the colors of a large picture as floats would take three times the memory of the result.
    for start in range(0, len(flat), _PART):
        grey[start : start + _PART] = flat[start : start + _PART, :3].astype(np.float32) @ weights
    return np.minimum(grey, 1, out=grey).reshape(pixels.shape[:2])


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 (as it should be) to 8; 1 when nothing sensible is said."""
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # Broken notes beside the picture are no reason to refuse it.
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes how a camera was held."""
    if orientation >= 5:
        image = image.T
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def fit_square(image: np.ndarray, size: int) -> np.ndarray:
    """Crops an image to its central square and resizes it, without aliasing, to what a network takes.

    Args:
        image: float [H, W] in [0, 1].
        size: side of the result.

    Returns:
        float32 [size, size, 1] in [0, 1].
    """
    image = np.asarray(image, np.float32)
    height, width = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resize(image[top : top + side, left : left + side], size)[..., np.newaxis]


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes a square image [S, S] in [0, 1] with a Lanczos filter as wide as the coarser grid; [size, size]."""
    image = np.ascontiguousarray(image, np.float32)
    if image.shape == (size, size):
        return image
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS)
    return np.clip(np.asarray(resized), 0, 1)  # Lanczos overshoots at edges.


def to_bytes(images: Any) -> np.ndarray:
    """Images as uint8: floats in [0, 1] are scaled to 255 and rounded, uint8 stays."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    scaled = np.nan_to_num(np.asarray(images, np.float32)) * 255
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def png_bytes(image: Any) -> bytes:
    """A PNG file of an image, uint8 or float in [0, 1]; [H, W], [H, W, 1] (grey) or [H, W, 3]."""
    buffer = io.BytesIO()
    _picture(image).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def gif_bytes(frames: Sequence[Any] | np.ndarray, fps: float) -> bytes:
    """An animated GIF that loops forever.

    Args:
        frames: images as `png_bytes` takes, at least one, all of one shape. Equal neighbors become one longer frame.
        fps: frames per second, above 0 and at most 50; rounded to what the format can say, hundredths of a
            second for a frame.

    Raises:
        ValueError: there are no frames, or `fps` is out of range.
    """
    if not 0 < fps <= 50 or not math.isfinite(100 / fps):
        # Many viewers slow down what claims to be faster than 50 frames per second.
        raise ValueError(f"fps: got {fps}, must be above 0 and at most 50")
    pictures = [_picture(frame) for frame in frames]
    if not pictures:
        raise ValueError("frames: got none, must be one or more")
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=round(100 / fps) * 10,
        loop=0,
    )
    return buffer.getvalue()


def write_png(path: str | os.PathLike[str], image: Any) -> None:
    """Writes an image as `png_bytes` makes it, whole or not at all.

    Raises:
        DcignError: the file cannot be written.
    """
    write_bytes(path, png_bytes(image))


def write_gif(path: str | os.PathLike[str], frames: Sequence[Any] | np.ndarray, fps: float) -> None:
    """Writes an animation as `gif_bytes` makes it, whole or not at all.

    Raises:
        DcignError: the file cannot be written.
        ValueError: as `gif_bytes`.
    """
    write_bytes(path, gif_bytes(frames, fps))


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file whole or not at all; an error names it, not its temporary stand-in.

    Raises:
        DcignError: the file cannot be written.
    """
    if pathlib.Path(path).is_dir():
        raise DcignError(f"{os.fspath(path)}: is a folder, not a file that could be written")
    try:
        with files.atomic_write(path) as file:
            file.write(data)
    except OSError as error:
        reason = error.strerror or error
        raise DcignError(f"{os.fspath(path)}: cannot be written: {reason}") from error


def _picture(image: Any) -> Image.Image:
    pixels = to_bytes(image)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    return Image.fromarray(pixels)
