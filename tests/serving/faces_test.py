"""Squares out of photographs. Faces are found by scikit-image, whose astronaut is the photograph."""

import importlib
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcign_tf import images
from dcign_tf.errors import DcignError, UsageError
from dcign_tf.serving import faces
from dcign_tf.serving.faces import Square

FACE = (225, 115)  # the middle of the astronaut's face, pixels from the left and the top


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    data = importlib.import_module("skimage.data")
    colors = data.astronaut()
    return (colors @ np.array(images.GREY_OF_RGB) / 255).astype(np.float32)


def middle(square: Square) -> np.ndarray:
    return np.array([square.left, square.top]) + square.side / 2


def test_a_face_is_found_at_any_size(astronaut: np.ndarray) -> None:
    for scale, photograph in (
        (1, astronaut),
        (3, astronaut.repeat(3, 0).repeat(3, 1)),
        (0.5, astronaut[::2, ::2]),
    ):
        face = faces.find_faces(photograph)[0]
        assert np.abs(middle(face) / scale - FACE).max() < 25
        assert 80 < face.side / scale < 130


def test_the_crop_is_loose_and_around_the_face(astronaut: np.ndarray) -> None:
    crop = faces.crop(astronaut, "face")
    assert crop.faces >= 1
    assert crop.image.shape == (crop.square.side,) * 2 and crop.image.dtype == np.float32
    assert np.abs(middle(crop.square) - FACE).max() < 25
    assert 140 < crop.square.side < 210
    left, top, side = crop.square
    np.testing.assert_array_equal(crop.image, astronaut[top : top + side, left : left + side])


def test_the_largest_of_several_faces_is_taken(astronaut: np.ndarray) -> None:
    head = astronaut[20:220, 120:330]
    small = head[::2, ::2]
    both = np.full((220, 400), 0.5, np.float32)
    both[10:210, 150:360] = head
    both[50:150, 20:125] = small
    found = faces.find_faces(both)
    assert len(found) == 2 and found[0].side > found[1].side
    assert np.abs(middle(found[0]) - (255, 105)).max() < 25
    assert np.abs(middle(found[1]) - (72, 97)).max() < 15
    assert faces.crop(both, "face").faces == 2


def test_no_face_is_an_error_that_says_what_helps() -> None:
    for shape in ((300, 200), (3, 5)):
        with pytest.raises(DcignError, match=r"wall\.png: no face found.*--crop=left,top"):
            faces.crop(np.full(shape, 0.3, np.float32), "face", "wall.png")


def test_without_scikit_image_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    for flag, call in (
        ("--crop=face", lambda image: faces.crop(image, "face")),
        ("--cut_out", faces.cut_out),
    ):
        with pytest.raises(
            DcignError, match=rf"{flag}: .*scikit-image.*pip install 'dcign_tf\[photos\]'"
        ):
            call(np.zeros((50, 50), np.float32))


def test_a_head_is_cut_out(astronaut: np.ndarray) -> None:
    square = faces.crop(astronaut, "face").image
    cut = faces.cut_out(square)
    assert cut.shape == square.shape and cut.dtype == np.float32
    side = len(square)
    top, third = cut[: side // 10], side // 3
    assert top[:, :20].max() < 0.02 and top[:, -20:].max() < 0.02
    np.testing.assert_allclose(
        cut[third : 2 * third, third : 2 * third],
        square[third : 2 * third, third : 2 * third],
        atol=0.02,
    )


@pytest.mark.parametrize("side", [8, 70, 333])
def test_what_is_cut_out_follows_edges(side: int) -> None:
    v, u = (np.mgrid[:side, :side] + 0.5) / side
    head = (np.hypot((u - 0.52) / 0.3, (v - 0.45) / 0.38) < 1) | (
        (abs(u - 0.52) < 0.16) & (v > 0.5)
    )
    stripes = np.where(np.sin(40 * u) > 0, 0.75, 0.85)
    photograph = np.where(head, 0.2, stripes).astype(np.float32)
    cut = faces.cut_out(photograph)
    assert 0 <= cut.min() and cut.max() <= 1
    if side < 50:
        return
    kept = np.abs(cut - photograph) < 0.03
    assert kept[head].mean() > 0.95
    assert (cut[~head] < 0.03).mean() > 0.95


def test_one_face_marked_several_times_is_one() -> None:
    marked = [Square(0, 0, 40), Square(4, 8, 36), Square(100, 0, 40), Square(110, 10, 20)]
    assert faces._merge(marked) == [Square(2, 4, 38), Square(105, 5, 30)]
    assert faces._merge([]) == []


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_squares_by_hand(height: int, width: int, data: st.DataObject) -> None:
    image = np.random.default_rng(height * 41 + width).random((height, width), np.float32)
    center = faces.crop(image, "center")
    np.testing.assert_array_equal(images.fit_square(center.image, 8), images.fit_square(image, 8))
    side = data.draw(st.integers(1, 50))
    left, top = data.draw(st.integers(-60, 60)), data.draw(st.integers(-60, 60))
    text = f"{left},{top},{left + side},{top + side}"
    across, down = left + side / 2, top + side / 2
    if min(left + side, top + side) < 0 or not (0 <= across < width and 0 <= down < height):
        with pytest.raises(UsageError, match="--crop: got"):
            faces.crop(image, text)
        return
    crop = faces.crop(image, text)
    assert crop.square == (left, top, side) and crop.faces == 0
    around = np.pad(image, 60, mode="edge")
    expected = around[60 + top : 60 + top + side, 60 + left : 60 + left + side]
    np.testing.assert_array_equal(crop.image, expected)


@given(st.text(max_size=20))
def test_other_texts_are_refused(text: str) -> None:
    if text in ("center", "face"):
        return
    with pytest.raises(UsageError, match="--crop: got .*must be center, face, or left,top,right"):
        faces.check_crop(text)


@pytest.mark.parametrize(
    "text", ["1,2,3", "0,0,5,6", "5,5,5,5", "5,5,4,4", "0,0,99999,99999", "a,b,c,d", "0,0,5.5,5.5"]
)
def test_what_is_no_square_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--crop: got"):
        faces.check_crop(text)
