"""Strips, grids and animations show what was asked for, where it was asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcign_tf import images as image_files
from dcign_tf.errors import UsageError
from dcign_tf.serving import engine as engines
from dcign_tf.serving import rerender
from tests.serving import tiny


@pytest.fixture(scope="module")
def engine() -> engines.Engine:
    return engines.engine_of(tiny.model())


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("30", [30]),
        ("-7.5", [-7.5]),
        ("+.5", [0.5]),
        ("1e1", [10]),
        ("-60:60:7", [-60, -40, -20, 0, 20, 40, 60]),
        ("10:-10:3", [10, 0, -10]),
        (" -60 : 60 : 2 ", [-60, 60]),
        ("-40, 0,40", [-40, 0, 40]),
        ("5,5", [5, 5]),
    ],
)
def test_angles_are_read(text: str, values: list[float]) -> None:
    assert rerender.parse_values(text, "azimuth") == pytest.approx(values)


@pytest.mark.parametrize(
    "text",
    [
        *["", "x", "1:2", "1:2:3:4", "0:10:1", "0:10:0", "0:10:-3", "0:10:2.5", "0:10:51"],
        *["0:10:999999999999", "1,,2", "1,", "nan", "inf", "1e999", "0:1e999:3", "1;2", "0x10"],
        ",".join(["1"] * 51),
    ],
)
def test_what_is_no_angle_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--light_azimuth: got "):
        rerender.parse_values(text, "light_azimuth")


@given(st.text(st.sampled_from("0123456789.,:-+e naif"), max_size=12) | st.text(max_size=8))
def test_any_text_is_angles_or_an_error(text: str) -> None:
    try:
        values = rerender.parse_values(text, "azimuth")
    except UsageError:
        return
    assert 1 <= len(values) <= rerender.MAX_VALUES
    assert np.isfinite(values).all()


@given(st.lists(st.floats(-1000, 1000), min_size=1, max_size=20))
def test_lists_of_numbers_round_trip(values: list[float]) -> None:
    text = ",".join(repr(value) for value in values)
    assert rerender.parse_values(text, "azimuth") == tuple(values)


@pytest.mark.parametrize(
    ("degrees", "count", "told"),
    [
        ({}, 1, "no factor to set: give one or two of --azimuth, --elevation, --light_azimuth"),
        ({"roll": [1.0]}, 1, "roll: not a factor of this model; it has azimuth, elevation"),
        ({"intrinsic": [1.0]}, 1, "intrinsic: not a factor of this model"),
        ({"elevation": [0.0, 60.0]}, 1, "--elevation: got 60, must be between -25 and 25 degrees"),
        ({"azimuth": [-95.0]}, 1, "--azimuth: got -95, must be between -90 and 90 degrees"),
        ({f: [0.0, 1.0] for f in tiny.FACTORS}, 1, "--light_azimuth: 3 factors .* at most two"),
        ({f: [0.0, 1.0] for f in tiny.FACTORS[:2]}, 2, "--elevation: a grid .* got 2"),
        ({"azimuth": [0.0] * 50}, 21, "1050 images to render, at most 1000"),
    ],
)
def test_what_a_model_cannot_show_is_refused(
    engine: engines.Engine, degrees: dict[str, list[float]], count: int, told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        rerender.check_values(engine, degrees, count)


def test_the_ends_of_a_range_need_not_be_met_exactly(engine: engines.Engine) -> None:
    # A model's ranges are those of the images it was calibrated on, a little less than those of the scenes.
    rerender.check_values(engine, {"azimuth": [-93.5, 93.5]}, 1)


def _panel(image: np.ndarray) -> np.ndarray:
    side = rerender.panel_side(tiny.SIZE)
    return image_files.to_bytes(image_files.resize(image[..., 0], side))


def _found(sheet: np.ndarray, panel: np.ndarray) -> tuple[int, int]:
    """Where a panel lies on a sheet: top, left. Grey values may be one off: batches of other sizes round otherwise."""
    sheet, panel, side = sheet.astype(np.int16), panel.astype(np.int16), len(panel)
    starts = np.lib.stride_tricks.sliding_window_view(sheet, 16, axis=1)
    tops, lefts = np.nonzero((np.abs(starts - panel[0, :16]) <= 1).all(axis=-1))
    places = {(int(top), int(left)) for top, left in zip(tops, lefts, strict=True)}
    at = [
        (top, left)
        for top, left in places
        if (part := sheet[top : top + side, left : left + side]).shape == panel.shape
        and np.abs(part - panel).max() <= 1
    ]
    assert len(at) == 1
    return at[0]


def test_a_strip_for_each_image(engine: engines.Engine) -> None:
    images = tiny.images(2)
    result = rerender.rerender(engine, images, {"azimuth": (-80.0, 0.0, 80.0)})
    assert result.images.shape == (2, 1, 3, 38, 38, 1)
    tops = []
    for index in range(2):
        expected = tiny.model().rerender(
            np.repeat(images[index : index + 1], 3, 0), azimuth=[-80, 0, 80]
        )
        np.testing.assert_allclose(result.images[index, 0], expected, atol=1e-5)
        shown = [
            images[index],
            engine.reconstruct(images[index : index + 1])[0],
            *result.images[index, 0],
        ]
        places = [_found(result.sheet, _panel(image)) for image in shown]
        assert places == sorted(places, key=lambda place: place[1])
        assert len({top for top, _ in places}) == 1
        tops.append(places[0][0])
    assert tops[0] + rerender.panel_side(38) < tops[1]
    # White paper around, and black ink above each column.
    assert (result.sheet[0] == 255).all()
    labels = result.sheet[: tops[0]]
    for _, left in places:
        assert (labels[:, left : left + 152] < 100).sum() > 20


def test_a_grid_of_two_factors(engine: engines.Engine) -> None:
    image = tiny.images(1)
    degrees = {"elevation": (-20.0, 20.0), "light_azimuth": (5.0,), "azimuth": (-60.0, 0.0, 60.0)}
    result = rerender.rerender(engine, image, degrees)
    assert result.images.shape == (1, 2, 3, 38, 38, 1)
    places = np.zeros([2, 3, 2], int)
    for row, elevation in enumerate(degrees["elevation"]):
        for column, azimuth in enumerate(degrees["azimuth"]):
            shown = result.images[0, row, column]
            expected = tiny.model().rerender(
                image, azimuth=azimuth, elevation=elevation, light_azimuth=5.0
            )
            np.testing.assert_allclose(shown, expected[0], atol=1e-5)
            places[row, column] = _found(result.sheet, _panel(shown))
    assert (np.diff(places[..., 0], axis=0) > 152).all()
    assert (np.diff(places[..., 1], axis=1) > 152).all()
    input_top, input_left = _found(result.sheet, _panel(image[0]))
    below_top, _ = _found(result.sheet, _panel(engine.reconstruct(image)[0]))
    assert input_left < places[..., 1].min()
    assert below_top > input_top


def test_the_same_request_gives_the_same_picture_in_any_order(engine: engines.Engine) -> None:
    image = tiny.images(1)
    one = rerender.rerender(engine, image, {"azimuth": (0.0, 9.0), "elevation": (1.0, 2.0)})
    two = rerender.rerender(engine, image, {"elevation": (1.0, 2.0), "azimuth": (0.0, 9.0)})
    np.testing.assert_array_equal(one.sheet, two.sheet)


def test_single_values_give_one_image_and_a_way_there(engine: engines.Engine) -> None:
    images = tiny.images(2)
    result = rerender.rerender(engine, images, {"azimuth": (60.0,), "light_azimuth": (-30.0,)})
    assert result.images.shape == (2, 1, 1, 38, 38, 1)
    expected = tiny.model().rerender(images, azimuth=60.0, light_azimuth=-30.0)
    np.testing.assert_allclose(result.images[:, 0, 0], expected, atol=1e-5)
    # The animation's turning point is what was asked for.
    middle = result.frames[len(result.frames) // 2]
    for image in (images[0], result.images[0, 0, 0], images[1], result.images[1, 0, 0]):
        _found(middle, _panel(image))


@pytest.mark.parametrize(
    "degrees",
    [
        {"azimuth": (-60.0, -20.0, 20.0, 60.0)},
        {"azimuth": (-60.0, 60.0), "elevation": (-20.0, 20.0)},
        {"azimuth": tuple(np.linspace(-60, 60, 12)), "elevation": tuple(np.linspace(-20, 20, 12))},
    ],
)
def test_animations_go_there_and_back(
    engine: engines.Engine, degrees: dict[str, tuple[float, ...]]
) -> None:
    image = tiny.images(1)
    result = rerender.rerender(engine, image, degrees)
    frames = result.frames
    assert frames.dtype == np.uint8
    assert 60 <= len(frames) <= 2 * 150
    np.testing.assert_array_equal(frames[1:], frames[:0:-1])
    _found(frames[0], _panel(result.images[0, 0, 0]))
    _found(frames[0], _panel(image[0]))


def test_panels_are_whole_multiples_and_large_enough() -> None:
    assert [rerender.panel_side(size) for size in (38, 70, 128, 150)] == [152, 140, 128, 150]


def test_long_names_are_shortened() -> None:
    sheet = rerender._Sheet(60, 20)
    sheet.text("a name that is far too long for its column", 10, 0, 40)
    assert (sheet.pixels[:, 10:50] < 100).any()
    assert (sheet.pixels[:, :9] == 255).all()
    assert (sheet.pixels[:, 51:] == 255).all()
