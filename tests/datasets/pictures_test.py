"""Image files of data sets become grey bytes, quickly, and what is no image is told."""

import io
import pathlib
import pickle
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dcign_tf import images
from dcign_tf.datasets import pictures
from dcign_tf.errors import DcignError


def _saved(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "P", "RGB", "LA", "RGBA"])
def test_every_mode_is_read_as_users_images_are(mode: str) -> None:
    colors = np.random.default_rng(0).integers(0, 256, [9, 11, 3], np.uint8)
    picture = Image.fromarray(colors)
    if mode == "I;16":
        picture = Image.fromarray(colors[..., 0].astype(np.uint16) * 257)
    else:
        picture = picture.convert(mode)
    data = _saved(picture)
    grey = pictures.read_grey(data)
    assert grey.dtype == np.uint8
    assert grey.shape == (9, 11)
    np.testing.assert_allclose(grey, images.read_image(data) * 255, atol=0.501)


def test_grey_is_the_papers_mixture() -> None:
    colors = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    grey = pictures.read_grey(_saved(Image.fromarray(colors)))
    assert grey.tolist() == [[54, 184, 18, 255]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB"])
def test_what_is_transparent_is_white(mode: str) -> None:
    if mode in ("RGBA", "LA"):
        rgba = np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [0, 0, 0, 51]]], np.uint8)
        data, expected = _saved(Image.fromarray(rgba).convert(mode)), [[255, 0, 204]]
    else:
        colors = Image.fromarray(np.array([[[0] * 3, [255] * 3, [9] * 3]], np.uint8))
        picture = colors.convert(mode, palette=Image.Palette.ADAPTIVE)
        hidden = picture.getpixel((0, 0))
        data, expected = _saved(picture, transparency=hidden), [[255, 255, 9]]
    assert pictures.read_grey(data).tolist() == expected


def test_orientation_is_undone() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = _saved(Image.new("L", (32, 16)), exif=exif)
    assert pictures.read_grey(data).shape == (32, 16)


def test_a_bomb_is_refused_by_its_header() -> None:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    data += struct.pack(">I", zlib.crc32(chunk)) + _saved(Image.new("L", (2, 2)))[33:]
    with pytest.raises(
        DcignError, match=r"^a.tar: b.png: has 100000 x 100000 pixels; at most 16 million"
    ):
        pictures.read_grey(data, "a.tar: b.png")


def test_files_are_read_by_any_process_and_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.png").write_bytes(_saved(Image.new("L", (3, 2), 7)))
    (tmp_path / "b.png").write_bytes(b"GIF89a")
    files = pickle.loads(pickle.dumps(pictures.ImageFiles(str(tmp_path), ("a.png", "b.png", "c"))))
    assert len(files) == 3
    assert files.read(0).tolist() == [[7] * 3] * 2
    with pytest.raises(DcignError, match=r"b\.png: not a PNG or JPEG image but a GIF"):
        files.read(1)
    with pytest.raises(DcignError, match=r"c: No such file"):
        files.read(2)


def test_names_sort_as_people_count() -> None:
    names = ["batch10", "batch2", "batch1", "batch02", "a", "10", "9", "batch2b", "²", ""]
    expected = ["", "9", "10", "a", "batch1", "batch02", "batch2", "batch2b", "batch10", "²"]
    assert sorted(names, key=pictures.natural) == expected


@given(st.lists(st.text()))
def test_any_names_sort_the_same_from_any_order(names: list[str]) -> None:
    names_backwards = names[::-1]
    assert sorted(names, key=pictures.natural) == sorted(names_backwards, key=pictures.natural)


@given(st.lists(st.integers(0, 10**30), unique=True))
def test_numbers_sort_by_value(numbers: list[int]) -> None:
    short = [n % 10**18 for n in numbers]
    names = sorted((f"batch{n}" for n in short), key=pictures.natural)
    assert names == [f"batch{n}" for n in sorted(short)]


def test_listing_a_folder(tmp_path: pathlib.Path) -> None:
    for name in ("10.png", "9.PNG", "8.jpeg", ".hidden.png", "readme.txt"):
        (tmp_path / name).touch()
    (tmp_path / "b2").mkdir()
    (tmp_path / "b10.png").mkdir()
    (tmp_path / ".git").mkdir()
    assert pictures.images_in(tmp_path) == ["8.jpeg", "9.PNG", "10.png"]
    assert pictures.folders_in(tmp_path) == ["b2", "b10.png"]
    assert pictures.files_in(tmp_path) == ["8.jpeg", "9.PNG", "10.png", "readme.txt"]
    with pytest.raises(DcignError, match="readme.txt: Not a directory; expected a folder"):
        pictures.folders_in(tmp_path / "readme.txt")
    with pytest.raises(DcignError, match="not a folder's name"):
        pictures.images_in("a\0b")


@settings(max_examples=100)
@given(st.data())
def test_damaged_images_give_an_image_or_an_error(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["PNG", "JPEG"]))
    mode = data.draw(st.sampled_from(["L", "RGB"]))
    content = bytearray(_saved(Image.new(mode, (9, 8), 77), kind))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        grey = pictures.read_grey(bytes(content), "fuzz")
    except DcignError as error:
        assert str(error).startswith("fuzz: ")
    else:
        assert grey.dtype == np.uint8
        assert grey.ndim == 2
