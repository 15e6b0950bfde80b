"""TensorBoard, opened in a real Chromium, shows what training wrote on every tab that we write for."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from dcign_tf import training
from dcign_tf.datasets.scenes import SceneConfig
from dcign_tf.datasets.source import RenderedSource
from dcign_tf.training import TrainingConfig
from tests import chromium

pytestmark = pytest.mark.slow

_PATIENCE = 60.0  # seconds


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A page of a Chromium, at the TensorBoard of a short run."""
    workdir = tmp_path_factory.mktemp("run")
    config = TrainingConfig(
        encoder_filters=(4, 4, 4),
        decoder_filters=(4, 4, 4),
        latents=8,
        steps=8,
        calibration_images=80,
        summary_every=2,
        pictures_every=4,
    )
    scenes = SceneConfig(image_size=38, group_size=4, supersample=1)
    training.train(config, RenderedSource(scenes, mixed_images=80, groups_per_factor=2), workdir)
    command = [sys.executable, "-m", "tensorboard.main", "--host=127.0.0.1", "--port=0"]
    with subprocess.Popen(
        [*command, f"--logdir={workdir}"], stderr=subprocess.PIPE, text=True
    ) as served:
        try:
            assert served.stderr is not None
            lines = iter(served.stderr.readline, "")
            url = next(m[0] for line in lines if (m := re.search(r"http://[^/ ]+/", line)))
            with chromium.browser() as browser:
                opened = browser.new_page(viewport={"width": 1300, "height": 900})
                watch = chromium.Watch(opened, url)
                opened.goto(url)
                yield opened
                assert not watch.foreign
        finally:
            served.terminate()


def _open(page: Any, tab: str) -> None:
    page.goto(f"{page.url.partition('#')[0]}#{tab.lower()}")
    page.reload()


def _wait(page: Any, text: str) -> None:
    """Waits until a text is to be seen, on the page or in a frame of it."""
    deadline = time.monotonic() + _PATIENCE
    again = time.monotonic() + 10
    while time.monotonic() < deadline:
        if (
            time.monotonic() > again
        ):  # It shows what it had read of the run when the page was opened.
            page.reload()
            again = time.monotonic() + 10
        for frame in page.frames:
            if frame.get_by_text(text).first.is_visible():
                return
        page.wait_for_timeout(200)
    raise AssertionError(f"{text!r} is not to be seen")


def test_scalars(page: Any) -> None:
    _open(page, "Scalars")
    _wait(page, "speed/images_per_second")
    _wait(page, "training/gradient_norm/decoder")


def test_images(page: Any) -> None:
    _open(page, "Images")
    _wait(page, "input_and_reconstruction")
    picture = page.locator("img[src*='/images/']").first
    picture.wait_for(timeout=1000 * _PATIENCE)
    assert picture.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 2 * 38


def test_histograms(page: Any) -> None:
    _open(page, "Histograms")
    _wait(page, "latents/azimuth")
    _wait(page, "latents/intrinsic")


def test_the_embedding(page: Any) -> None:
    _open(page, "Projector")
    _wait(page, "Points: 80")
    _wait(page, "Dimension: 8")
