"""The page in a real Chromium: what a hand with a mouse, a keyboard or a phone can do with it."""

import importlib
import io
import json
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dcign_tf import images, movies
from dcign_tf.errors import UsageError
from dcign_tf.serving import engine as engines
from dcign_tf.serving import samples, shipped
from dcign_tf.serving.viewer import server
from dcign_tf.serving.viewer.studio import Studio
from tests import chromium
from tests.serving import tiny

_FACTORS = ("azimuth", "elevation", "light_azimuth")

# What is on the panel's canvas; grey values, row by row.
_PIXELS = """
    (number) => {
        const canvas = document.querySelectorAll(".panel canvas")[number];
        const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return Array.from(data.filter((_, i) => i % 4 === 0));
    }
"""
# What the first model reads off that picture.
_READ_BACK = """
    async () => {
        const canvas = document.querySelector(".panel canvas");
        const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
        const answer = await fetch("/api/picture", {method: "POST", body: blob});
        return (await answer.json()).parts[0].values;
    }
"""


@pytest.fixture(scope="module")
def trained() -> bool:
    """Whether the first model is the one that ships, which has learned something."""
    try:
        shipped.find()
    except UsageError:
        return False
    return True


@pytest.fixture(scope="module")
def url(trained: bool) -> Iterator[str]:
    small = engines.engine_of(tiny.model())
    if trained:
        first = engines.open_engine(shipped.find())
        pictures = samples.pictures_for(shipped.find(), first)
    else:
        first, pictures = small, list(tiny.images(6)[..., 0])
    studio = Studio({"first": first, "small": small}, pictures)
    studio.warm_up()
    listening = server.listen(studio, "127.0.0.1", 0)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield server.url_of(listening)
    listening.shutdown()
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium.browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def desktop(browser: Any, url: str) -> Iterator[tuple[Any, chromium.Watch]]:
    """One page for all tests."""
    context = browser.new_context(viewport={"width": 1240, "height": 800})
    context.set_default_timeout(20_000)
    page = context.new_page()
    watch = chromium.Watch(page, url)
    page.goto(url)
    yield page, watch
    context.close()


@pytest.fixture
def page(desktop: tuple[Any, chromium.Watch]) -> Iterator[Any]:
    """The page with the first sample, nothing moved; nothing may go wrong on it."""
    page, watch = desktop
    _idle(page)
    page.evaluate("document.querySelector('[name=slot][value=first]').click()")
    with _rendering(page):
        page.get_by_role("button", name="Sample 1", exact=True).click()
    yield page
    assert not watch.errors
    assert not watch.foreign


def _rendering(page: Any) -> Any:
    """Waits for the pictures that follow from what is done within."""
    return page.expect_response("**/api/render")


def _idle(page: Any) -> None:
    """Waits until the page waits for nothing."""
    page.wait_for_selector("[aria-busy]", state="detached")


def _picture(page: Any, panel: int = 0) -> np.ndarray:
    """The picture shown, once everything that was asked for is there."""
    _idle(page)
    return np.array(page.evaluate(_PIXELS, panel))


def _value(page: Any, factor: str) -> float:
    return float(page.input_value(f"#factor-{factor}"))


def _differ(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.abs(one - other).mean() > 0.5)


def test_it_opens_with_a_picture_and_its_values(page: Any) -> None:
    assert _picture(page).std() > 5
    assert page.locator("#picture").get_attribute("src").startswith("data:image/png")
    for name in ("Azimuth", "Elevation", "Light azimuth"):
        slider = page.get_by_role("slider", name=name, exact=True)
        assert "in the picture" in slider.get_attribute("aria-valuetext")
    assert page.inner_text(".slider output").endswith("°")
    assert page.get_by_role("button", name="As in the picture", exact=True).is_disabled()


@pytest.mark.parametrize("factor", _FACTORS)
def test_each_slider_changes_the_picture_to_its_side(page: Any, trained: bool, factor: str) -> None:
    slider = page.locator(f"#factor-{factor}")
    seen = {}
    for key, value in (("Home", slider.get_attribute("min")), ("End", slider.get_attribute("max"))):
        with _rendering(page):
            slider.press(key)
        assert _value(page, factor) == float(value)
        seen[key] = (_picture(page), page.evaluate(_READ_BACK)[factor])
    assert _differ(seen["Home"][0], seen["End"][0])
    if trained:
        span = float(slider.get_attribute("max")) - float(slider.get_attribute("min"))
        assert seen["End"][1] - seen["Home"][1] > 0.3 * span
    with _rendering(page):
        slider.press("ArrowLeft")
    assert _value(page, factor) < float(slider.get_attribute("max"))


def test_back_to_what_is_in_the_picture(page: Any) -> None:
    before = _picture(page)
    for factor in ("azimuth", "elevation"):
        with _rendering(page):
            page.press(f"#factor-{factor}", "End")
    with _rendering(page):
        page.get_by_role("button", name="Elevation: as in the picture").click()
    assert page.evaluate("document.activeElement.id") == "factor-elevation"
    assert _differ(_picture(page), before)
    with _rendering(page):
        page.get_by_role("button", name="As in the picture", exact=True).click()
    np.testing.assert_array_equal(_picture(page), before)


def test_the_light_is_dragged_around_the_picture(page: Any) -> None:
    frame = page.locator(".panel .frame").bounding_box()
    sun = page.locator(".panel .sun")
    shown = []
    for side in (-1, 1):
        box = sun.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        middle = (frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2)
        page.mouse.move(middle[0], middle[1] - frame["height"])
        assert abs(_value(page, "light_azimuth")) < 1
        with _rendering(page):
            page.mouse.move(middle[0] + side * frame["width"], middle[1] - frame["height"])
        page.mouse.up()
        assert _value(page, "light_azimuth") == pytest.approx(side * 45, abs=1)
        assert (sun.bounding_box()["x"] > middle[0]) == (side > 0)
        shown.append(_picture(page))
    assert _differ(*shown)
    with _rendering(page):
        sun.press("ArrowLeft")
    assert _value(page, "light_azimuth") == pytest.approx(44, abs=1)
    assert float(sun.get_attribute("aria-valuenow")) == pytest.approx(44, abs=1)


def test_the_head_is_pulled_around(page: Any) -> None:
    box = page.locator(".panel canvas").bounding_box()
    before = {factor: _value(page, factor) for factor in ("azimuth", "elevation")}
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    with _rendering(page):
        page.mouse.move(box["x"] + box["width"] / 2 + 60, box["y"] + box["height"] / 2 - 10)
    page.mouse.up()
    assert _value(page, "azimuth") > before["azimuth"] + 5
    assert _value(page, "elevation") > before["elevation"]


def test_photos_are_taken_and_other_files_explained(
    page: Any, desktop: tuple[Any, chromium.Watch], tmp_path: pathlib.Path
) -> None:
    patches = np.random.default_rng(0).integers(0, 256, [6, 8, 3], np.uint8)
    photo = patches.repeat(20, axis=0).repeat(20, axis=1)
    before = _picture(page)
    for name in ("photo.jpg", "photo.webp"):  # The second one the browser has to convert.
        Image.fromarray(photo).save(tmp_path / name)
        with _rendering(page):
            page.set_input_files("#file", tmp_path / name)
        assert _differ(_picture(page), before)
    shown = page.locator("#picture").get_attribute("src")
    (tmp_path / "notes.txt").write_text("no picture at all")
    (tmp_path / "broken.png").write_bytes(images.png_bytes(photo)[:300])
    for name, told in (
        ("notes.txt", "not a PNG or JPEG image but a text"),
        ("broken.png", "damaged"),
    ):
        with page.expect_response("**/api/picture*"):
            page.set_input_files("#file", tmp_path / name)
        page.get_by_role("alert").filter(has_text=told).wait_for()
        assert page.locator("#picture").get_attribute("src") == shown
    assert page.get_by_role("alert").inner_text().startswith("This picture")
    # Chromium itself notes that requests were refused.
    refused, desktop[1].errors[:] = list(desktop[1].errors), []
    assert len(refused) == 2
    assert all("status of 400" in line for line in refused)


def test_a_face_is_found_and_its_detail_kept(page: Any, tmp_path: pathlib.Path) -> None:
    Image.fromarray(importlib.import_module("skimage.data").astronaut()).save(
        tmp_path / "photo.jpg"
    )
    detail = page.get_by_label("Keep its detail")
    assert not detail.is_checked()
    with _rendering(page):
        page.set_input_files("#file", tmp_path / "photo.jpg")
    kept = _picture(page)
    assert detail.is_checked() and detail.is_enabled()
    with _rendering(page):
        detail.uncheck()
    assert _differ(_picture(page), kept)
    with _rendering(page):
        detail.check()
    np.testing.assert_array_equal(_picture(page), kept)
    with _rendering(page):
        page.press("#factor-azimuth", "ArrowRight")
    assert _differ(_picture(page), kept)
    # Taken as it is, it has a background.
    page.get_by_label("Find the face in it").uncheck()
    with _rendering(page):
        page.set_input_files("#file", tmp_path / "photo.jpg")
    _picture(page)
    assert detail.is_disabled() and not detail.is_checked()
    page.get_by_label("Find the face in it").check()
    Image.new("RGB", (80, 80), (90, 90, 90)).save(tmp_path / "wall.png")
    with _rendering(page):
        page.set_input_files("#file", tmp_path / "wall.png")
    page.get_by_role("alert").filter(has_text="No face found").wait_for()


def test_a_picture_is_dropped(page: Any) -> None:
    before = page.locator("#picture").get_attribute("src")
    with _rendering(page):
        page.evaluate(
            """async () => {
                const picture = await (await fetch("/api/samples/1")).blob();
                const data = new DataTransfer();
                data.items.add(new File([picture], "face.png", {type: "image/png"}));
                for (const kind of ["dragenter", "dragover", "drop"])
                    document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true}));
            }"""
        )
    assert page.locator("#picture").get_attribute("src") != before
    assert not page.evaluate("document.body.classList.contains('dropping')")


def test_drawing_morphing_and_comparing(page: Any) -> None:
    start = _picture(page)
    page.get_by_text("Morph into", exact=True).click()
    with _rendering(page):
        page.get_by_role("button", name="Draw a new one").click()
    assert _value(page, "blend") == 0.5
    assert _differ(_picture(page), start)
    with _rendering(page):
        page.press("#factor-blend", "Home")
    np.testing.assert_array_equal(_picture(page), start)
    with _rendering(page):
        page.get_by_label("Compare with").select_option("small")
    assert page.locator(".panel").count() == 2
    with _rendering(page):
        page.press("#factor-azimuth", "End")
    first, second = _picture(page, 0), _picture(page, 1)
    assert len(second) == 38 * 38
    assert first.std() > 1 and second.std() > 1
    with _rendering(page):
        page.get_by_role("button", name="Do not morph").click()
    assert page.locator("#factor-blend").count() == 0
    page.get_by_label("Compare with").select_option("nothing")
    assert page.locator(".panel").count() == 1


def test_animations_play_and_are_saved(page: Any, tmp_path: pathlib.Path) -> None:
    before = _value(page, "elevation")
    page.get_by_label("What to animate").select_option("Elevation")
    page.get_by_role("button", name="Play").click()
    while abs(_value(page, "elevation") - before) < 5:
        page.wait_for_timeout(50)
    page.get_by_role("button", name="Pause").click()
    for format_ in ("png", "gif", *(["mp4"] if movies.available() else [])):
        with page.expect_download() as download:
            page.click(f"#save-{format_}")
        assert download.value.suggested_filename.endswith(f".{format_}")
        saved = pathlib.Path(download.value.path()).read_bytes()
        if format_ == "mp4":
            assert saved[4:8] == b"ftyp"
        else:
            picture = Image.open(io.BytesIO(saved))
            assert picture.format == format_.upper()
            assert getattr(picture, "n_frames", 1) == (80 if format_ == "gif" else 1)


def test_of_requests_that_are_too_fast_only_the_newest_counts(page: Any) -> None:
    asked: list[float] = []

    def slowly(route: Any) -> None:
        asked.append(json.loads(route.request.post_data)["values"]["azimuth"])
        page.wait_for_timeout(150)
        route.continue_()

    page.route("**/api/render", slowly)
    moves = """
        async (count) => {
            const slider = document.getElementById("factor-azimuth");
            for (let i = 1; i <= count; i++) {
                slider.value = i;
                slider.dispatchEvent(new Event("input"));
                await new Promise((done) => setTimeout(done, 10));
            }
        }
    """
    page.evaluate(moves, 40)
    _idle(page)
    page.unroute("**/api/render")
    assert asked[0] == 1
    assert asked[-1] == 40
    assert len(asked) < 20
    shown = _picture(page)
    with _rendering(page):
        page.press("#factor-azimuth", "ArrowLeft")
    with _rendering(page):
        page.press("#factor-azimuth", "ArrowRight")
    np.testing.assert_array_equal(_picture(page), shown)


def test_everything_is_reached_by_keyboard(page: Any) -> None:
    page.evaluate("document.activeElement.blur()")
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "document.activeElement.id || document.activeElement.className || document.activeElement.name"
            )
        )
    wanted = {f"factor-{factor}" for factor in _FACTORS}
    wanted |= {
        "sun",
        "play",
        "swept",
        "save-png",
        "save-gif",
        "slot",
        "file",
        "random",
        "photo",
        "model",
        "compare",
    }
    assert wanted <= reached


def test_a_phone(browser: Any, url: str) -> None:
    context = browser.new_context(
        viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True, color_scheme="dark"
    )
    page = context.new_page()
    watch = chromium.Watch(page, url)
    with _rendering(page):
        page.goto(url)
    before = _picture(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    box = page.locator("#factor-azimuth").bounding_box()
    assert box["height"] >= 24
    with _rendering(page):
        page.touchscreen.tap(box["x"] + 15, box["y"] + box["height"] / 2)
    assert _differ(_picture(page), before)
    # The picture stays in sight.
    page.evaluate("window.scrollTo(0, 400)")
    assert page.locator(".panel canvas").bounding_box()["y"] >= 0
    context.close()
    assert not watch.errors
    assert not watch.foreign
