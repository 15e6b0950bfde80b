"""Files of pictures to images and back inside of a graph, as `dcign_tf.images` does it outside of one.

A file is read only once its header has told that it can be: what it is, and how many pixels it holds. TensorFlow's own
decoders make room for whatever a header says, and of a GIF for all of its frames.

Formats: PNG (https://www.w3.org/TR/png-3/), JPEG (ITU-T T.81) with the orientation of EXIF 2.32, GIF
(https://www.w3.org/Graphics/GIF/spec-gif89a.txt), BMP with a BITMAPINFOHEADER or a later one.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from dcign_tf.images import GREY_OF_RGB, MAX_SIDE
from dcign_tf.serving.refusals import after, require

MAX_PIXELS = 1 << 24
MAX_BYTES = 1 << 25

# Of JPEG: with many scans a small file can take minutes. Of GIF: blocks are as short as their writer likes.
_MAX_SCANS = 100
_MAX_SEGMENTS = 2000
_MAX_BLOCKS = 20_000

# Which orientations show a camera's rows from the last to the first, and which its columns.
_MIRRORED = ((3, 4, 6, 7), (2, 3, 7, 8))

# So many zeros stand behind a file's bytes that headers can be read off the shortest.
_MARGIN = 64


def read(contents: tf.Tensor, size: int) -> tf.Tensor:
    """Grey images of pictures.

    PNG, JPEG, GIF (of which the first frame) and BMP (uncompressed, of 8, 24 or 32 bits) of any size and color
    mode. Colors become grey as in `images`; what is transparent shows black; a JPEG's EXIF orientation is applied;
    of 16 bits the upper 8 count. The central square is resized without aliasing.

    Args:
        contents: the files' bytes; string [N].
        size: side of the images.

    Returns:
        float32 [N, size, size, 1] in [0, 1]. The graph fails with a message for what is none of these formats,
        damaged, larger than `MAX_BYTES`, or of more than `MAX_PIXELS` pixels or `images.MAX_SIDE` along a side.
    """
    return tf.map_fn(
        lambda picture: _read_one(picture[0], picture[1], size),
        (tf.range(tf.size(contents)), contents),
        # One after the other: a large picture needs some hundred megabytes while it is read.
        parallel_iterations=1,
        fn_output_signature=tf.TensorSpec([size, size, 1], tf.float32),
    )


def write(images: tf.Tensor) -> tf.Tensor:
    """PNG files, string [N], of images in [0, 1], float32 [N, S, S, 1]."""
    return tf.io.encode_png(tf.cast(tf.round(255 * images), tf.uint8))


class _Picture(NamedTuple):
    """A file: what complaints call it, its bytes, and these as numbers with zeros behind them, uint8 [bytes + 64]."""

    name: tf.Tensor
    contents: tf.Tensor
    data: tf.Tensor


def _read_one(index: tf.Tensor, contents: tf.Tensor, size: int) -> tf.Tensor:
    name = tf.strings.join(["image_bytes[", tf.strings.as_string(index), "]"])
    length = tf.strings.length(contents)
    short = length <= MAX_BYTES
    words = [name, ": has ", length, f" bytes; at most {MAX_BYTES} are read"]
    contents = after(require(short, (lambda: short, lambda: words)), contents)
    data = tf.pad(tf.io.decode_raw(contents, tf.uint8), [[0, _MARGIN]])
    picture = _Picture(name, contents, data)
    kinds: dict[bytes, Callable[[_Picture, int], tf.Tensor]] = {
        b"\x89PNG\r\n\x1a\n": _read_png,
        b"\xff\xd8\xff": _read_jpeg,
        b"GIF8": _read_gif,
        b"BM": _read_bmp,
    }
    matches = [_has(data, 0, magic) for magic in kinds]
    readers = [*kinds.values(), _refuse]
    return tf.switch_case(
        tf.argmax(tf.cast([*matches, True], tf.int32), output_type=tf.int32),
        [functools.partial(reader, picture, size) for reader in readers],
    )


def _refuse(picture: _Picture, size: int) -> tf.Tensor:
    never = tf.strings.length(picture.contents) < 0
    words = [picture.name, ": not a PNG, JPEG, GIF or BMP image"]
    return after(require(never, (lambda: never, lambda: words)), tf.zeros([size, size, 1]))


def _read_png(picture: _Picture, size: int) -> tf.Tensor:
    data = picture.data
    contents = _checked(
        picture, "PNG", _has(data, 12, b"IHDR"), _number(data, 16, 4), _number(data, 20, 4)
    )
    transparent, exif = _walk_png(data)
    color_type = _small(data, 25, 1)
    with_alpha = (transparent > 0) | (color_type == 4) | (color_type == 6)
    pixels = tf.io.decode_png(contents, channels=4)
    # Of fewer than 8 bits, the decoder makes up an alpha that is not opaque.
    opaque = tf.maximum(pixels[..., 3], tf.where(with_alpha, tf.constant(0, tf.uint8), 255))
    return _fit(_flat(pixels, opaque), size, _orientation(data, exif))


def _walk_png(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where the transparent colors are told and where EXIF's data begin; 0 where there is nothing of it."""
    length = tf.size(data) - _MARGIN

    def step(at: tf.Tensor, transparent: tf.Tensor, exif: tf.Tensor) -> tuple[tf.Tensor, ...]:
        transparent = tf.where(_has(data, at + 4, b"tRNS"), at, transparent)
        exif = tf.where(_has(data, at + 4, b"eXIf"), at + 8, exif)
        following = tf.cast(at, tf.int64) + 12 + _number(data, at, 4)
        last = _has(data, at + 4, b"IDAT") | (following > tf.cast(length, tf.int64))
        return tf.where(last, length, tf.cast(following, tf.int32)), transparent, exif

    _, transparent, exif = tf.while_loop(
        lambda at, *_: at < length,
        step,
        (tf.constant(8), tf.constant(0), tf.constant(0)),
        maximum_iterations=_MAX_SEGMENTS,
    )
    return transparent, exif


def _read_jpeg(picture: _Picture, size: int) -> tf.Tensor:
    frame, exif = _walk_jpeg(picture.data)
    scans = tf.math.count_nonzero((picture.data[:-1] == 0xFF) & (picture.data[1:] == 0xDA))
    contents = _checked(
        picture,
        "JPEG",
        (frame > 0) & (scans <= _MAX_SCANS),
        _number(picture.data, frame + 7, 2),
        _number(picture.data, frame + 5, 2),
    )
    # What Pillow's decoder does; TensorFlow's default is another one, which is a little faster and less exact.
    pixels = tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE")
    return _fit(pixels, size, _orientation(picture.data, exif))


def _walk_jpeg(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where the frame's header begins and where EXIF's data do; 0 where there is none."""
    length = tf.size(data) - _MARGIN

    def step(at: tf.Tensor, frame: tf.Tensor, exif: tf.Tensor) -> tuple[tf.Tensor, ...]:
        code, size = _small(data, at + 1, 1), _small(data, at + 2, 2)
        marked = _number(data, at, 1) == 0xFF
        fill = code == 0xFF
        alone = (code == 0x01) | ((code >= 0xD0) & (code <= 0xD7))
        header = (code >= 0xC0) & (code <= 0xCF) & (code != 0xC4) & (code != 0xC8) & (code != 0xCC)
        # After the start of a scan, or the end, no header can come.
        segment = (code > 0x01) & ~fill & ~alone & ((code < 0xD8) | (code > 0xDA)) & (size >= 2)
        frame = tf.where(marked & header & segment, at, frame)
        found = marked & (code == 0xE1) & (exif == 0) & _has(data, at + 4, b"Exif\0\0")
        exif = tf.where(found, at + 10, exif)
        skipped = tf.where(fill, 1, tf.where(alone, 2, tf.where(segment, 2 + size, length)))
        at = tf.where(marked & (frame == 0), at + skipped, length)
        return at, frame, exif

    _, frame, exif = tf.while_loop(
        lambda at, *_: at < length,
        step,
        (tf.constant(2), tf.constant(0), tf.constant(0)),
        maximum_iterations=_MAX_SEGMENTS,
    )
    return frame, exif


def _orientation(data: tf.Tensor, exif: tf.Tensor) -> tf.Tensor:
    """How the camera was held, 1 (upright) to 8, from EXIF's data, which are a TIFF file; 1 where nothing is said."""
    little = _has(data, exif, b"II")
    directory = tf.cast(exif, tf.int64) + _number(data, exif + 4, 4, little)
    directory = tf.cast(tf.minimum(directory, tf.size(data, tf.int64) - _MARGIN), tf.int32)
    count = _small(data, directory, 2, little)
    table = data[directory + 2 : directory + 2 + 12 * count]
    entries = tf.reshape(table[: tf.size(table) // 12 * 12], [-1, 12])
    held = _number_of(entries[:, :2], little) == 0x0112
    values = tf.boolean_mask(_number_of(entries[:, 8:10], little), held & (exif > 0))
    value = tf.concat([values, [1]], axis=0)[0]
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _read_gif(picture: _Picture, size: int) -> tf.Tensor:
    frame, end = _walk_gif(picture.data)
    contents = _checked(
        picture,
        "GIF",
        end > 0,
        _number(picture.data, frame + 5, 2, little=True),
        _number(picture.data, frame + 7, 2, little=True),
    )
    # The decoder would decode all frames there are: so there is but one.
    first = tf.strings.join([tf.strings.substr(contents, 0, end), b";"])
    return _fit(tf.io.decode_gif(first)[0], size)


def _walk_gif(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where the first frame's descriptor begins and where the frame ends; 0 where there is none."""
    length = tf.size(data) - _MARGIN
    # What the walk is amid: a block's start, an extension's parts, a frame's parts.
    start, extension, image = 0, 1, 2

    def step(
        at: tf.Tensor, amid: tf.Tensor, frame: tf.Tensor, end: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        byte = _small(data, at, 1)
        starts = amid == start
        new_extension, new_frame = starts & (byte == 0x21), starts & (byte == 0x2C)
        lost = starts & ~new_extension & ~new_frame
        ends = ~starts & (byte == 0)
        end = tf.where(ends & (amid == image), at + 1, end)
        frame = tf.where(new_frame, at, frame)
        skipped = tf.where(starts, 2, byte + 1)
        skipped = tf.where(new_frame, 11 + _gif_colors(data, at + 9), skipped)
        amid = tf.where(new_extension, extension, tf.where(new_frame, image, amid))
        amid = tf.where(ends, start, amid)
        return tf.where(lost | (end > 0), length, at + skipped), amid, frame, end

    zero = tf.constant(0)
    _, _, frame, end = tf.while_loop(
        lambda at, *_: at < length,
        step,
        (13 + _gif_colors(data, 10), zero, zero, zero),
        maximum_iterations=_MAX_BLOCKS,
    )
    return frame, end


def _gif_colors(data: tf.Tensor, at: tf.Tensor | int) -> tf.Tensor:
    """How many bytes the table of colors takes that the flags at a place announce."""
    flags = _small(data, at, 1)
    return tf.where(flags >= 0x80, 3 * tf.bitwise.left_shift(2, flags % 8), 0)


def _read_bmp(picture: _Picture, size: int) -> tf.Tensor:
    data = picture.data
    header, bits, packing = (_number(data, at, n, True) for at, n in ((14, 4), (28, 2), (30, 4)))
    width, height = (_signed(_number(data, at, 4, True)) for at in (18, 22))
    # Packed "by masks" are pixels with alpha; the usual masks are those that the decoder takes for granted.
    usual = _has(data, 54, b"\0\0\xff\0\0\xff\0\0\xff\0\0\0")
    masked = (bits == 32) & (packing == 3) & usual
    plain = ((bits == 8) | (bits == 24) | (bits == 32)) & (packing == 0)
    contents = _checked(
        picture,
        "BMP, or none of 8, 24 or 32 bits without compression",
        (header >= 40) & (plain | masked),
        width,
        tf.abs(height),
    )
    pixels = tf.io.decode_bmp(contents)
    opaque = ~(masked & (header >= 56) & _has(data, 66, b"\0\0\0\xff"))

    def look_up() -> tf.Tensor:
        table = data[14 + tf.cast(header, tf.int32) :][:1024]
        colors = tf.reshape(tf.pad(table, [[0, 1024 - tf.size(table)]]), [256, 4])
        found = tf.gather(tf.reverse(colors[:, :3], [1]), tf.cast(pixels[..., 0], tf.int32))
        return _fit(found, size)

    def flatten() -> tf.Tensor:
        return _fit(
            _flat(pixels, tf.where(opaque, tf.constant(255, tf.uint8), pixels[..., 3])), size
        )

    def plain_colors() -> tf.Tensor:
        return _fit(tf.ensure_shape(pixels, [None, None, 3]), size)

    which = tf.cast(bits == 24, tf.int32) + 2 * tf.cast(bits == 32, tf.int32)
    return tf.switch_case(which, [look_up, plain_colors, flatten])


def _checked(
    picture: _Picture, kind: str, whole: tf.Tensor, width: tf.Tensor, height: tf.Tensor
) -> tf.Tensor:
    """The file's bytes, once its header is found to be sound and not to promise too much."""
    some = (width > 0) & (height > 0)
    fits = (width * height <= MAX_PIXELS) & (tf.maximum(width, height) <= MAX_SIDE)
    many = [picture.name, ": has ", width, " x ", height, " pixels; "]
    right = f"at most {MAX_PIXELS} are read, and {MAX_SIDE} along a side"
    checked = require(
        whole & some & fits,
        (lambda: whole & some, lambda: [picture.name, f": a damaged or truncated {kind}"]),
        (lambda: fits, lambda: [*many, right]),
    )
    return after(checked, picture.contents)


def _flat(pixels: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """Colors, uint8 [H, W, 3 or more], over black, as grey; float32 [H, W, 1], 0 to 255.

    Args:
        pixels: the colors.
        alpha: how opaque they are, uint8 [H, W].
    """
    grey = tf.add_n([w * tf.cast(pixels[..., i], tf.float32) for i, w in enumerate(GREY_OF_RGB)])
    return (grey * tf.cast(alpha, tf.float32) / 255)[..., tf.newaxis]


def _fit(pixels: tf.Tensor, size: int, orientation: tf.Tensor | int = 1) -> tf.Tensor:
    """The central square of colors or grey, 0 to 255, [H, W, 3 or 1], as an upright image [size, size, 1]."""
    turned = [tf.reduce_any(tf.equal(orientation, which)) for which in _MIRRORED]
    height, width = tf.unstack(tf.shape(pixels)[:2])
    side = tf.minimum(height, width)
    # Of an odd rest the smaller half is cut off above and to the left of the upright image.
    top, left = (
        (long - side + tf.cast(mirrored, tf.int32)) // 2
        for long, mirrored in zip((height, width), turned, strict=True)
    )
    square = pixels[top : top + side, left : left + side]
    image = tf.image.resize(square, [size, size], tf.image.ResizeMethod.LANCZOS3, antialias=True)
    if pixels.shape[-1] == 3:
        # After resizing, which does not care: large pictures would make large floats.
        image = tf.tensordot(image, tf.constant(GREY_OF_RGB), 1)[..., tf.newaxis]
    image = tf.reverse(image, tf.boolean_mask([0, 1], turned))
    image = tf.transpose(image, tf.where(tf.greater_equal(orientation, 5), [1, 0, 2], [0, 1, 2]))
    return tf.ensure_shape(tf.clip_by_value(image / 255, 0, 1), [size, size, 1])


def _has(data: tf.Tensor, at: tf.Tensor | int, magic: bytes) -> tf.Tensor:
    """Whether some bytes stand at a place."""
    return tf.reduce_all(_bytes(data, at, len(magic)) == tf.constant(list(magic), tf.uint8))


def _number(
    data: tf.Tensor, at: tf.Tensor | int, count: int, little: tf.Tensor | bool = False
) -> tf.Tensor:
    """The number of some bytes at a place, the last or the first of them the lowest; int64 []."""
    return _number_of(_bytes(data, at, count), little)


def _small(
    data: tf.Tensor, at: tf.Tensor | int, count: int, little: tf.Tensor | bool = False
) -> tf.Tensor:
    """The same of one byte or two; int32 []."""
    return tf.cast(_number(data, at, count, little), tf.int32)


def _number_of(data: tf.Tensor, little: tf.Tensor | bool) -> tf.Tensor:
    """Numbers of bytes [..., count]; int64 [...]."""
    falling = [256**i for i in reversed(range(data.shape[-1]))]
    weights = tf.where(little, tf.constant(falling[::-1], tf.int64), tf.constant(falling, tf.int64))
    return tf.reduce_sum(tf.cast(data, tf.int64) * weights, axis=-1)


def _signed(number: tf.Tensor) -> tf.Tensor:
    """A number of 32 bits read as one with a sign."""
    return tf.where(number < 1 << 31, number, number - (1 << 32))


def _bytes(data: tf.Tensor, at: tf.Tensor | int, count: int) -> tf.Tensor:
    at = tf.minimum(at, tf.size(data) - _MARGIN)
    return tf.ensure_shape(data[at : at + count], [count])
