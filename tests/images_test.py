"""Any PNG or JPEG is read as it looks; anything else is told apart."""

import io
import os
import pathlib
import stat
import struct
import sys
import tempfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps

from dcign_tf import images
from dcign_tf.errors import DcignError
from tests import mutations

_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def _png(
    pixels: np.ndarray,
    color: int,
    depth: int,
    extra: bytes = b"",
    size: tuple[int, int] | None = None,
) -> bytes:
    """A PNG file, by the specification; pixels are [H, W, channels] of `depth` bits."""
    height, width = pixels.shape[:2]
    rows = b""
    for row in pixels.reshape(height, -1):
        if depth == 16:
            packed = row.astype(">u2").tobytes()
        else:
            bits = np.unpackbits(row.astype(np.uint8)[:, np.newaxis], axis=1)[:, 8 - depth :]
            packed = np.packbits(bits.ravel()).tobytes()
        rows += b"\0" + packed
    shown = size or (width, height)
    header = struct.pack(">IIBBBBB", *shown, depth, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + extra
        + _chunk(b"IDAT", zlib.compress(rows))
        + _chunk(b"IEND", b"")
    )


def _saved(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _weighted(rgb: np.ndarray) -> np.ndarray:
    return rgb.astype(float) @ [0.21, 0.72, 0.07]


@pytest.fixture
def colors() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, [5, 7, 3], np.uint8)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_of_every_depth_spans_0_to_1(depth: int) -> None:
    top = 2**depth - 1
    pixels = np.array([[0, top, top // 2], [top, 1, 0]])
    read = images.read_image(_png(pixels, _GREY, depth))
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, pixels / top, atol=1e-7)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_grey_is_black(depth: int) -> None:
    top = 2**depth - 1
    pixels = np.array([[0, top, top // 2], [top, 1, 0]])
    read = images.read_image(_png(pixels, _GREY, depth, _chunk(b"tRNS", struct.pack(">H", top))))
    np.testing.assert_allclose(read, np.where(pixels == top, 0, pixels / top), atol=1e-7)


@pytest.mark.parametrize(("depth", "tolerance"), [(8, 1e-6), (16, 1 / 255)])
def test_color_is_weighed(depth: int, tolerance: float) -> None:
    top = 2**depth - 1
    pixels = np.random.default_rng(1).integers(0, top + 1, [4, 6, 3])
    pixels[0, 0], pixels[0, 1] = 0, top
    read = images.read_image(_png(pixels, _RGB, depth))
    np.testing.assert_allclose(read, _weighted(pixels) / top, atol=tolerance)
    assert (read[0, 0], read[0, 1]) == (0, 1)


@pytest.mark.parametrize("depth", [8, 16])
def test_the_transparent_color_is_black(depth: int) -> None:
    top = 2**depth - 1
    pixels = np.array([[[top, 0, 0], [0, top, 0], [top, top, top]]])
    extra = _chunk(b"tRNS", struct.pack(">3H", 0, top, 0))
    read = images.read_image(_png(pixels, _RGB, depth, extra))
    np.testing.assert_allclose(read, [[0.21, 0, 1]], atol=1e-6)


@pytest.mark.parametrize("depth", [8, 16])
def test_alpha_lies_over_black(depth: int) -> None:
    top = 2**depth - 1
    rgba = np.array([[[top, top, top, 0], [top, top, top, top], [top, 0, 0, top // 2]]])
    read = images.read_image(_png(rgba, _RGBA, depth))
    np.testing.assert_allclose(read, [[0, 1, 0.105]], atol=2e-3)
    grey_alpha = np.array([[[top, 0], [top, top], [top // 2, top // 2]]])
    read = images.read_image(_png(grey_alpha, _GREY_ALPHA, depth))
    np.testing.assert_allclose(read, [[0, 1, 0.25]], atol=4e-3)


def test_palettes_with_and_without_alpha() -> None:
    palette = _chunk(b"PLTE", bytes([255, 255, 255, 255, 0, 0, 0, 0, 255, 9, 9, 9]))
    pixels = np.array([[0, 1, 2]])
    for depth in (2, 4, 8):
        read = images.read_image(_png(pixels, _PALETTE, depth, palette))
        np.testing.assert_allclose(read, [[1, 0.21, 0.07]], atol=1e-6)
    read = images.read_image(_png(pixels, _PALETTE, 8, palette + _chunk(b"tRNS", bytes([0, 51]))))
    np.testing.assert_allclose(read, [[0, 0.21 / 5, 0.07]], atol=1e-6)


def test_interlaced_png(colors: np.ndarray) -> None:
    # Adam7: seven passes, each an image of its own with unfiltered rows.
    passes = [
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ]
    rows = b""
    for top, left, down, right in passes:
        part = colors[top::down, left::right]
        if part.size:
            rows += b"".join(b"\0" + row.tobytes() for row in part)
    header = struct.pack(">IIBBBBB", colors.shape[1], colors.shape[0], 8, _RGB, 0, 0, 1)
    data = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows))
    read = images.read_image(data + _chunk(b"IEND", b""))
    np.testing.assert_allclose(read, _weighted(colors) / 255, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpegs(mode: str, options: dict[str, object]) -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)[np.newaxis].repeat(48, axis=0)
    picture = Image.fromarray(np.stack([ramp] * 3, axis=-1)).convert(mode)
    read = images.read_image(_saved(picture, "JPEG", quality=95, **options))
    assert read.shape == (48, 64)
    np.testing.assert_allclose(read, ramp / 255, atol=0.03)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", [0, *range(1, 9), 77])
def test_exif_orientation(kind: str, orientation: int) -> None:
    picture = Image.new("L", (32, 16), 20)
    picture.paste(240, (0, 0, 16, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = _saved(picture, kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    read = images.read_image(data)
    assert read.shape == ((32, 16) if 5 <= orientation <= 8 else (16, 32))
    np.testing.assert_allclose(read, np.asarray(upright) / 255, atol=1e-6)


def test_broken_exif_is_passed_over(recwarn: pytest.WarningsRecorder) -> None:
    data = _saved(Image.new("L", (8, 8), 255), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff junk")
    np.testing.assert_allclose(images.read_image(data), 1, atol=1e-6)
    assert not recwarn.list


def test_files_and_bytes_read_alike(tmp_path: pathlib.Path, colors: np.ndarray) -> None:
    data = _saved(Image.fromarray(colors))
    path = tmp_path / "näme with spaces"  # What a file is, its name does not say.
    path.write_bytes(data)
    expected = images.read_image(data)
    for source in (path, str(path), bytearray(data), memoryview(data)):
        np.testing.assert_array_equal(images.read_image(source), expected)


def _jpeg_header(width: int, height: int) -> bytes:
    data = bytearray(_saved(Image.new("L", (8, 8)), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        _png(np.zeros([1, 1], int), _GREY, 8, size=(20000, 20000)),
        _png(np.zeros([1, 1], int), _GREY, 8, size=(2**31 - 1, 2**31 - 1)),
        _png(np.zeros([1, 1], int), _GREY, 8, size=(65_536, 1)),
        _jpeg_header(60000, 60000),
    ],
)
def test_a_bomb_is_refused_by_its_header(data: bytes) -> None:
    with pytest.raises(DcignError, match=r"^bomb: has \d+ x \d+ pixels; at most 100 million"):
        images.read_image(data, "bomb")


def test_many_pixels_are_read_in_parts_whatever_their_shape() -> None:
    tall = np.zeros([65_534, 7, 4], np.uint8)
    tall[::2] = 255
    read = images.read_image(_saved(Image.fromarray(tall), compress_level=1))
    assert read.shape == (65_534, 7)
    assert (read[:4, 0] == [1, 0, 1, 0]).all()
    assert read.mean(dtype=np.float64) == 0.5


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "an empty file"),
        (b"GIF89a....", "a GIF"),
        (b"BM......", "a BMP image"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "a WebP image"),
        (b"\0\0\0\x18ftypheic", "an HEIC"),
        (b"%PDF-1.7", "a PDF document"),
        (b"PK\x03\x04....", "a ZIP archive"),
        (b"<!DOCTYPE html>\n<html>", "HTML text"),
        ("Hällo, ".encode() * 100, "a text"),
        (b"\x00\x01\x02\xff\xfe", "the bytes 00 01 02 ff"),
        (b"\x89PNG\r\n\x1a", "the bytes 89 50 4e 47"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: pathlib.Path, data: bytes, told: str) -> None:
    path = tmp_path / "face.png"
    path.write_bytes(data)
    with pytest.raises(DcignError, match="not a PNG or JPEG image but") as raised:
        images.read_image(path)
    assert str(path) in str(raised.value)
    assert told in str(raised.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_image_is_an_error(kind: str, share: float, colors: np.ndarray) -> None:
    data = _saved(Image.fromarray(np.tile(colors, [20, 20, 1])), kind)
    with pytest.raises(DcignError, match=f"^half: a damaged or truncated {kind}"):
        images.read_image(data[: int(len(data) * share)], "half")


def test_files_that_cannot_be_read(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DcignError, match=r"nowhere\.png: No such file"):
        images.read_image(tmp_path / "nowhere.png")
    with pytest.raises(DcignError, match="Is a directory"):
        images.read_image(tmp_path)
    with pytest.raises(DcignError, match="not a file's name"):
        images.read_image("a\0b")


def test_a_file_that_may_not_be_read() -> None:
    # Root may read everything, so it is somebody else for a moment; pytest's own folders are closed to others.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        locked = pathlib.Path(folder, "locked.png")
        locked.write_bytes(b"x")
        locked.chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(DcignError, match=r"locked\.png.*Permission denied"):
                images.read_image(locked)
        finally:
            os.seteuid(user)


def test_endless_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 1 << 20)
    with pytest.raises(DcignError, match="larger than 1 MiB"):
        images.read_image("/dev/zero")


_SEEDS = [
    _png(np.arange(12).reshape(3, 4) * 5000, _GREY, 16, _chunk(b"tRNS", b"\x13\x88")),
    _png(np.arange(36).reshape(3, 4, 3), _RGB, 8, _chunk(b"tRNS", bytes(6))),
    _png(np.arange(24).reshape(3, 4, 2) * 10, _GREY_ALPHA, 8),
    _png(np.arange(12).reshape(3, 4) % 4, _PALETTE, 2, _chunk(b"PLTE", bytes(range(12)))),
    _saved(
        Image.new("RGB", (9, 7), (3, 90, 200)), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"
    ),
    _saved(Image.new("CMYK", (9, 7)), "JPEG", progressive=True),
]


@settings(max_examples=400)
@given(st.data())
def test_mutated_files_give_an_image_or_an_error(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(_SEEDS)))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, max(0, len(content) - 1)))
        match data.draw(st.integers(0, 2)):
            case 0:
                content[at : at + 1] = bytes([data.draw(st.integers(0, 255))])
            case 1:
                content[at : at + data.draw(st.integers(0, 20))] = b""
            case _:
                content[at:at] = data.draw(st.binary(max_size=8))
    if data.draw(st.booleans()) and content[:4] == b"\x89PNG":
        content = bytearray(mutations.mend_png(bytes(content)))
    try:
        image = images.read_image(bytes(content), "fuzz")
    except DcignError as error:
        assert str(error).startswith("fuzz: ")
        assert "\n" not in str(error)
    else:
        assert image.ndim == 2
        assert image.size > 0
        assert image.dtype == np.float32
        assert 0 <= image.min() <= image.max() <= 1


@given(st.binary(max_size=64), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]))
def test_any_bytes_give_an_image_or_an_error(data: bytes, start: bytes) -> None:
    try:
        images.read_image(start + data)
    except DcignError as error:
        assert str(error).startswith("the image: ")


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 40), st.integers(1, 40)),
        elements=st.floats(0, 1, width=32),
    ),
    st.integers(1, 50),
)
@settings(max_examples=50)
def test_fit_square_gives_squares_in_range(image: np.ndarray, size: int) -> None:
    fitted = images.fit_square(image, size)
    assert fitted.shape == (size, size, 1)
    assert fitted.dtype == np.float32
    assert 0 <= fitted.min() <= fitted.max() <= 1


def test_fit_square_takes_the_center_and_does_not_alias() -> None:
    wide = np.zeros([40, 100], np.float32)
    wide[:, 30:70] = 1
    np.testing.assert_allclose(images.fit_square(wide, 20), 1, atol=1e-6)
    np.testing.assert_allclose(images.fit_square(wide.T, 20), 1, atol=1e-6)
    stripes = np.tile([0.0, 1.0], [128, 64])
    inner = images.fit_square(stripes, 32)[4:-4, 4:-4]
    np.testing.assert_allclose(inner, 0.5, atol=0.02)
    same = np.random.default_rng(0).random([30, 30], np.float32)
    np.testing.assert_array_equal(images.fit_square(same, 30)[..., 0], same)


def test_written_pngs_read_back(tmp_path: pathlib.Path, colors: np.ndarray) -> None:
    images.write_png(tmp_path / "color.png", colors)
    np.testing.assert_allclose(
        images.read_image(tmp_path / "color.png"), _weighted(colors) / 255, atol=1e-6
    )
    grey = np.array([[[0.0], [0.5], [1.0]], [[-1], [7], [np.nan]]])
    images.write_png(tmp_path / "grey.png", grey)
    read = images.read_image(tmp_path / "grey.png") * 255
    np.testing.assert_allclose(read, [[0, 128, 255], [0, 255, 0]], atol=1e-4)


def test_gifs_loop_and_keep_their_frames(tmp_path: pathlib.Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, [5, 20, 30, 1], np.uint8)
    images.write_gif(tmp_path / "a.gif", frames, fps=20)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 5  # type: ignore[attr-defined]
        assert gif.info["loop"] == 0
        for index in range(5):
            gif.seek(index)
            assert gif.info["duration"] == 50
            np.testing.assert_array_equal(np.asarray(gif.convert("L")), frames[index, ..., 0])


@pytest.mark.parametrize("fps", [0, -1, 51, float("nan"), float("inf")])
def test_gifs_of_no_speed_are_refused(fps: float) -> None:
    with pytest.raises(ValueError, match="fps: got"):
        images.gif_bytes(np.zeros([2, 4, 4]), fps)
    with pytest.raises(ValueError, match="frames: got none"):
        images.gif_bytes([], 10)


def test_what_cannot_be_written_is_named(tmp_path: pathlib.Path) -> None:
    picture = np.zeros([4, 4])
    with pytest.raises(DcignError, match=r"nowhere/a\.png: cannot be written: No such file"):
        images.write_png(tmp_path / "nowhere" / "a.png", picture)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DcignError, match=r"folder\.png: is a folder"):
        images.write_png(tmp_path / "folder.png", picture)
    if sys.platform != "win32" and os.geteuid() != 0:
        tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
        with pytest.raises(DcignError, match=r"a\.png: cannot be written: Permission denied"):
            images.write_png(tmp_path / "a.png", picture)
        tmp_path.chmod(stat.S_IRWXU)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]
