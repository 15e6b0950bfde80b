import io

import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image

from dcign_tf.evaluation import evaluate as measuring
from dcign_tf.evaluation import figures
from tests.evaluation import tiny


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    folder = tmp_path_factory.mktemp("octahedra")
    settings = measuring.Settings(images=40, groups=3, pairs=20)
    return measuring.run(
        tiny.model(folder), tiny.source(folder), "test", tiny.uncalibrated("sgvb"), settings
    )


@pytest.fixture(scope="module")
def measured(evaluation):
    return evaluation.network


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


def test_best_and_worst_are_ordered_by_error(measured, monkeypatch):
    shown = {}
    monkeypatch.setattr(
        figures, "_mosaic", lambda rows, sections, row_labels: shown.update(locals()) or b""
    )
    pairs = measured.pairs["azimuth"]
    figures.best_and_worst(measured, "azimuth", best=1, worst=1)
    errors = [float(label.removeprefix("MSE ")) for label in shown["row_labels"]]
    assert len(errors) == 2 and errors[0] < errors[1]
    codes = measured.network.edit(pairs.source_codes, "azimuth", pairs.values)
    by_hand = np.square(measured.network.decode(codes) - pairs.targets / 255).mean((1, 2, 3))
    means = [by_hand[pairs.groups == group].mean() for group in range(3)]
    np.testing.assert_allclose(errors, [min(means), max(means)], atol=6e-5)
    for row, group in zip(shown["rows"], np.argsort(means)[[0, -1]], strict=True):
        assert any(
            (np.rint(row[0] * 255) == image).all() for image in pairs.sources[pairs.groups == group]
        )


def test_both_networks_re_render_the_same_images(evaluation, monkeypatch):
    assert (_pixels(figures.entangled(evaluation.network, evaluation.baseline)) < 60).mean() > 0.2
    shown = {}
    monkeypatch.setattr(
        figures, "_mosaic", lambda rows, sections, row_labels: shown.update(locals()) or b""
    )
    figures.entangled(evaluation.network, evaluation.baseline, pairs=1)
    image, own, changed, other, other_changed, truth = shown["rows"][0]
    pairs = evaluation.network.pairs["azimuth"]
    assert len(shown["rows"]) == len(evaluation.network.pairs)
    change = [
        np.abs(image.astype(int) - target).sum()
        for image, target in zip(pairs.sources[:10], pairs.targets[:10], strict=True)
    ]
    most = max(range(10), key=lambda number: (change[number], number))
    assert (np.rint(image * 255) == pairs.sources[most]).all()
    assert (np.rint(truth * 255) == pairs.targets[most]).all()
    # Both have the same weights, and different ideas of which latent the azimuth is.
    assert (own == other).all()
    assert len({picture.tobytes() for picture in (own, changed, other_changed)}) == 3


def test_the_same_numbers_give_the_same_bytes_and_leave_pyplot_alone(measured):
    assert figures.inference(measured) == figures.inference(measured)
    assert not pyplot.get_fignums()


def test_angles_are_whole_degrees():
    labels = [figures._label(value, "degrees") for value in (-0.4, 0.0, 12.5, -79.9)]
    assert labels == ["0°", "0°", "12°", "−80°"]
