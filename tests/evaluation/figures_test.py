import io

import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image

from dcign_tf.evaluation import evaluate as measuring
from dcign_tf.evaluation import figures
from tests.evaluation import tiny


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("octahedra")
    settings = measuring.Settings(images=40, groups=2, pairs=6)
    return measuring.run(tiny.model(folder), tiny.source(folder), settings=settings).network


def _pixels(png: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(png))
    assert picture.format == "PNG"
    assert picture.width == figures.WIDTH
    return np.asarray(picture.convert("L"))


@pytest.mark.parametrize("factor", ["azimuth", "elevation", "light_azimuth"])
def test_a_sweep_has_a_row_for_each_face(measured, factor):
    few, many = (_pixels(figures.sweep(measured, factor, faces=n)) for n in (1, 3))
    assert many.shape[0] - few.shape[0] == pytest.approx(2 * (1400 - 28 - 18) / 11, abs=2)
    # The image's background is black, and the labels stand on white.
    assert (few[70:-20, 20:130] < 10).mean() > 0.2
    assert (few[:15] > 250).mean() > 0.8


def test_a_sweep_changes_what_is_seen(measured):
    pixels = _pixels(figures.sweep(measured, "azimuth", faces=1)).astype(float)
    cell = (1400 - 28 - 18) / 11
    first, last = (round(14 + 18 + column * cell) + 5 for column in (2, 10))
    width = int(cell) - 10
    assert (
        np.abs(pixels[70:-20, first : first + width] - pixels[70:-20, last : last + width]).max()
        > 3
    )


def test_images_stand_above_their_reconstruction(measured):
    pixels = _pixels(figures.reconstructions(measured, faces=4))
    cell = (1400 - 124) / 4
    # Between the octahedron's corner and the frame the image is black.
    assert pixels[22, round(110 + cell / 2 - 100)] < 10
    assert pixels[round(12 + cell / 2), round(110 + cell / 2)] > 20


def test_rerenderings_and_inference_show_something(measured):
    assert (_pixels(figures.rerenderings(measured, pairs=2)) < 60).mean() > 0.2
    scattered = figures.inference(measured)
    assert scattered is not None
    pixels = _pixels(scattered)
    assert pixels.shape[0] == 890
    assert 0.01 < (pixels < 200).mean() < 0.5


def test_the_same_numbers_give_the_same_bytes_and_leave_pyplot_alone(measured):
    assert figures.inference(measured) == figures.inference(measured)
    assert not pyplot.get_fignums()


def test_angles_are_whole_degrees():
    labels = [figures._label(value, "degrees") for value in (-0.4, 0.0, 12.5, -79.9)]
    assert labels == ["0°", "0°", "12°", "−80°"]
