"""Pictures read inside of a graph are those read outside of it; what cannot be read is refused before it costs much."""

import functools
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from dcign_tf import images
from dcign_tf.serving import pictures, refusals

SIZE = 38
MODES = ("L", "RGB", "LA", "RGBA", "P", "1", "I;16", "CMYK")


@functools.cache
def _reader() -> Any:
    spec = tf.TensorSpec([None], tf.string)
    return tf.function(pictures.read, autograph=False).get_concrete_function(spec, SIZE)


def _read(*files: bytes) -> np.ndarray:
    return _reader()(tf.constant(files)).numpy()[..., 0]


def _refusal(*files: bytes) -> str:
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        _read(*files)
    return refusals.reason(str(raised.value))


def _picture(mode: str, height: int, width: int, seed: int = 0) -> Image.Image:
    """Colored patches in any of the modes pictures are saved in."""
    rng = np.random.default_rng(seed)
    channels = {"L": 1, "RGB": 3, "LA": 2, "RGBA": 4}.get(mode, 3)
    patches = rng.integers(0, 256, [height // 5 + 1, width // 5 + 1, channels], np.uint8)
    pixels = patches.repeat(5, 0).repeat(5, 1)[:height, :width]
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    return picture.quantize(20) if mode == "P" else picture.convert(mode)


def _file(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _read_outside(file: bytes) -> np.ndarray:
    """What dcign-rerender makes of a picture, of a GIF or BMP once it has been saved as a PNG."""
    if not file.startswith((b"\x89PNG", b"\xff\xd8")):
        with Image.open(io.BytesIO(file)) as picture:
            file = _file(picture.convert("RGBA"), "PNG")
    return images.fit_square(images.read_image(file), SIZE)[..., 0]


@st.composite
def _files(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP"]))
    modes = {
        "PNG": MODES[:-1],
        "JPEG": ("L", "RGB", "CMYK"),
        "GIF": ("L", "RGB", "P", "1"),
        "BMP": ("L", "RGB", "RGBA", "P"),
    }
    mode = draw(st.sampled_from(modes[kind]))
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    picture = _picture(mode, height, width, draw(st.integers(0, 9)))
    options: dict[str, Any] = {}
    if kind in ("PNG", "GIF") and mode in ("L", "P", "1") and draw(st.booleans()):
        options["transparency"] = int(np.asarray(picture)[0, 0])
    if kind == "JPEG":
        options |= {"quality": draw(st.integers(30, 100)), "progressive": draw(st.booleans())}
    if kind in ("PNG", "JPEG"):
        exif = Image.Exif()
        exif[0x0112] = draw(st.integers(1, 8))
        options["exif"] = exif
    if kind == "GIF" and draw(st.booleans()):
        options |= {"save_all": True, "append_images": [_picture(mode, height, width, 10)]}
    return _file(picture, kind, **options)


@settings(max_examples=40)
@given(file=_files())
@example(file=_file(_picture("RGB", 200, 333), "JPEG"))
@example(file=_file(_picture("CMYK", 40, 50), "JPEG"))
@example(file=_file(_picture("RGBA", 301, 200), "PNG"))
@example(file=_file(_picture("P", 40, 50), "PNG", bits=4, transparency=3))
def test_inside_of_a_graph_as_outside(file: bytes) -> None:
    np.testing.assert_allclose(_read(file)[0], _read_outside(file), atol=1e-5)


def test_several_pictures_of_several_sizes() -> None:
    files = [_file(_picture("RGB", 50 + 9 * i, 80), kind) for i, kind in enumerate(("PNG", "BMP"))]
    found = _read(*files)
    assert found.shape == (2, SIZE, SIZE)
    for image, file in zip(found, files, strict=True):
        np.testing.assert_allclose(image, _read_outside(file), atol=1e-5)


def test_alpha_of_a_bmp() -> None:
    """Pillow writes none: a header of version 4, with masks."""
    pixels = np.random.default_rng(0).integers(0, 256, [SIZE, SIZE, 4], np.uint8)
    masks = b"\0\0\xff\0\0\xff\0\0\xff\0\0\0\0\0\0\xff"
    header = struct.pack("<IiiHHIIiiII", 108, SIZE, -SIZE, 1, 32, 3, 0, 0, 0, 0, 0) + masks
    header += bytes(108 - len(header))
    begin = 14 + len(header)
    file = b"BM" + struct.pack("<IHHI", begin + pixels.size, 0, 0, begin) + header
    found = _read(file + pixels[..., [2, 1, 0, 3]].tobytes())[0]
    expected = _read(_file(Image.fromarray(pixels), "PNG"))[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # The fourth byte of a plain one means nothing.
    plain = bytearray(file + pixels[..., [2, 1, 0, 3]].tobytes())
    plain[30] = 0
    expected = _read(_file(Image.fromarray(pixels[..., :3]), "PNG"))[0]
    np.testing.assert_allclose(_read(bytes(plain))[0], expected, atol=1e-6)


def test_round_trip() -> None:
    given_images = np.random.default_rng(1).random([3, SIZE, SIZE, 1], np.float32)
    files = pictures.write(tf.constant(given_images)).numpy()
    np.testing.assert_allclose(_read(*files), given_images[..., 0], atol=0.5 / 255 + 1e-6)


def _png_of(width: int, height: int) -> bytes:
    """A PNG that claims a size, and holds nothing of it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def _claiming(file: bytes, at: int, layout: str, width: int, height: int) -> bytes:
    """The same file whose header claims another size."""
    size = struct.pack(layout, width, height)
    return file[:at] + size + file[at + len(size) :]


def test_large_pictures_are_refused_by_their_headers() -> None:
    small = _picture("L", 20, 30)
    jpeg, gif, bmp = (_file(small, kind) for kind in ("JPEG", "GIF", "BMP"))
    frame = jpeg.index(b"\xff\xc0") + 5
    huge = {
        "1000000 x 1000000": _png_of(10**6, 10**6),
        "4097 x 4097": _png_of(4097, 4097),
        "65536 x 1": _png_of(65536, 1),
        "60001 x 60000": _claiming(jpeg, frame, ">HH", 60000, 60001),
        "50001 x 50000": _claiming(gif, gif.index(b"\x2c\0\0\0\0") + 5, "<HH", 50001, 50000),
        "70001 x 70000": _claiming(bmp, 18, "<ii", 70001, -70000),
    }
    for size, file in huge.items():
        told = _refusal(_file(small, "PNG"), file)
        assert told.startswith(f"image_bytes[1]: has {size} pixels; at most 16777216"), told
    assert _refusal(bytes(pictures.MAX_BYTES + 1)).startswith("image_bytes[0]: has 33554433 bytes")
    white = _file(Image.new("L", (4096, 4096), 255), "PNG")
    np.testing.assert_allclose(_read(white), 1, atol=1e-5)


def test_what_is_no_picture() -> None:
    webp = b"RIFF\x24\0\0\0WEBPVP8 "
    for file in (b"", b"B", b"hello", b"<svg/>", webp, b"II*\0", bytes(1000)):
        told = _refusal(file)
        assert told == "image_bytes[0]: not a PNG, JPEG, GIF or BMP image"
    assert "none of 8, 24 or 32 bits" in _refusal(_file(_picture("1", 9, 9), "BMP"))


def test_more_work_than_a_picture_is_worth() -> None:
    jpeg = _file(_picture("RGB", 40, 40), "JPEG", progressive=True)
    scan = jpeg.rindex(b"\xff\xda")
    many = jpeg[:-2] + 200 * jpeg[scan:-2] + jpeg[-2:]
    assert "damaged or truncated JPEG" in _refusal(many)
    filled = jpeg[:2] + 3000 * b"\xff\xfe\0\2" + jpeg[2:]
    assert "damaged or truncated JPEG" in _refusal(filled)
    gif = _file(_picture("L", 40, 40), "GIF")
    frame = gif.index(b"\x2c\0\0\0\0")
    blocks = gif[:frame] + b"\x21\xfe" + 25_000 * b"\1a" + b"\0" + gif[frame:]
    assert "damaged or truncated GIF" in _refusal(blocks)


@settings(max_examples=40)
@given(file=_files(), data=st.data())
def test_damaged_files_are_refused_or_read(file: bytes, data: st.DataObject) -> None:
    damaged = bytearray(file[: data.draw(st.integers(0, len(file)))])
    for _ in range(data.draw(st.integers(0, 3))):
        if damaged:
            place = data.draw(st.integers(0, len(damaged) - 1))
            damaged[place] = data.draw(st.integers(0, 255))
    try:
        found = _read(bytes(damaged))
    except tf.errors.InvalidArgumentError as error:
        assert refusals.reason(str(error))
    else:
        assert found.shape == (1, SIZE, SIZE)
        assert found.min() >= 0
        assert found.max() <= 1
