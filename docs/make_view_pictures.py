"""Makes the README's pictures of dcign-view, and says how fast the page follows a slider.

python -m docs.make_view_pictures [model]

Needs Chromium, Playwright and scikit-image, whose photo of Eileen Collins (NASA, in the public domain) it uses. The
model is a path as `dcign-view --model` takes it, by default the one that ships.
"""

import pathlib
import statistics
import sys
import threading
from typing import Any

from dcign_tf.serving import engine, samples, shipped
from dcign_tf.serving.viewer import server
from dcign_tf.serving.viewer.studio import Studio
from tests import chromium

_PICTURES = pathlib.Path(__file__).resolve().parent / "pictures"
_MOVES = 60
# The first sample that ships is turned to the left and lit from the right; the photo looks ahead.
_VALUES = {"azimuth": range(10, 36, 5), "light_azimuth": (-50,)}
_VALUES_OF_PHOTO = {"azimuth": range(-10, -36, -5), "light_azimuth": (50,)}


def start(page: Any, url: str, photo: pathlib.Path | None) -> None:
    """Opens the page at its first sample, or at a photo."""
    with page.expect_response("**/api/render"):
        page.goto(url)
    if photo is not None:
        page.wait_for_selector("[aria-busy]", state="detached")
        with page.expect_response("**/api/render"):
            page.set_input_files("#file", photo)


def screenshot(
    browser: Any, url: str, name: str, photo: pathlib.Path | None = None, **settings: Any
) -> None:
    """Opens the page, turns and lights what is on it, and writes what is to be seen."""
    context = browser.new_context(**settings)
    page = context.new_page()
    start(page, url, photo)
    for factor, values in (_VALUES_OF_PHOTO if photo else _VALUES).items():
        for value in values if page.locator(f"#factor-{factor}").count() else ():
            page.locator(f"#factor-{factor}").fill(str(value))
            page.wait_for_selector("[aria-busy]", state="detached")
    page.evaluate("document.activeElement.blur()")
    page.wait_for_timeout(200)
    page.screenshot(path=_PICTURES / name)
    context.close()


def latencies(browser: Any, url: str, photo: pathlib.Path | None = None) -> list[float]:
    """How long each of some moves of the first slider takes to the screen; milliseconds."""
    page = browser.new_page(viewport={"width": 1240, "height": 800})
    start(page, url, photo)
    slider = page.locator("#sliders input").first
    slider.press("Home")
    found = []
    for _ in range(_MOVES):
        page.wait_for_selector("[aria-busy]", state="detached")
        shown = page.evaluate(
            """() => new Promise((done) => {
                const slider = document.querySelector("#sliders input");
                new MutationObserver((_, observer) => (observer.disconnect(),
                    done(Number(document.getElementById("latency").dataset.last))))
                    .observe(document.getElementById("latency"), {attributes: true});
                slider.stepUp();
                slider.dispatchEvent(new Event("input"));
            })"""
        )
        found.append(shown)
    page.close()
    return sorted(found)


def main(arguments: list[str]) -> None:
    """Writes docs/pictures/view.png, view_phone.png and view_photo.png and prints the latency."""
    import skimage.data

    path = pathlib.Path(arguments[0]) if arguments else shipped.find()
    opened = engine.open_engine(path)
    studio = Studio({path.name: opened}, samples.pictures_for(path, opened))
    studio.warm_up()
    listening = server.listen(studio, "127.0.0.1", 0)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    url = server.url_of(listening)
    with chromium.browser() as browser:
        desktop = {"width": 1240, "height": 770}
        screenshot(browser, url, "view.png", viewport=desktop, color_scheme="light")
        phone = {"width": 390, "height": 844}
        screenshot(
            browser,
            url,
            "view_phone.png",
            viewport=phone,
            device_scale_factor=2,
            is_mobile=True,
            has_touch=True,
            color_scheme="dark",
        )
        photo = pathlib.Path(skimage.data.__file__).with_name("astronaut.png")
        screenshot(browser, url, "view_photo.png", photo, viewport=desktop, color_scheme="light")
        for name, used in (("a sample", None), ("a photo, its detail kept", photo)):
            found = latencies(browser, url, used)
            print(
                f"{name}, {len(found)} moves of a slider, {opened.image_size} x {opened.image_size} pixels: "
                f"{statistics.median(found):.0f} ms from slider to picture (median), "
                f"{found[int(0.95 * len(found))]:.0f} ms (95th percentile)"
            )
    listening.shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
