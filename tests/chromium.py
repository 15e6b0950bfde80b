"""A headless Chromium that opens pages for tests, and what the page did that it should not have done."""

import contextlib
import importlib
import shutil
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

# Nothing that looks like Chromium's own traffic, and nothing that a container has not got.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find() -> str | None:
    """Where Chromium is installed; None for nowhere."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """A Chromium, as Playwright's `Browser`; skips the test where there is none."""
    playwright = importlib.import_module("playwright.sync_api")
    path = find()
    if path is None:
        pytest.skip(
            "no Chromium here: .ci/run installs one and runs it, as does python3 run.py test after apt install chromium"
        )
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=list(_FLAGS))
        try:
            yield opened
        finally:
            opened.close()


class Watch:
    """Takes down a page's errors, and its requests to anywhere but where the page is from.

    Args:
        page: Playwright's `Page`, before it opens anything.
        url: where the page will be from.
    """

    def __init__(self, page: Any, url: str) -> None:
        self._home = urllib.parse.urlsplit(url).netloc
        self.errors: list[str] = []
        self.foreign: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._console)
        page.on("request", self._request)

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _request(self, request: Any) -> None:
        address = urllib.parse.urlsplit(request.url)
        if address.scheme not in ("data", "blob") and address.netloc != self._home:
            self.foreign.append(request.url)
