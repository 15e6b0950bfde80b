import html.parser
import re

import pytest

from dcign_tf.evaluation.report import Picture, number, report

BLOCK = {
    "reconstruction": {"mse": 0.0061, "psnr_db": 22.15},
    "inference": {"azimuth": {"pearson": 0.961, "r2_calibrated": 0.93, "median_abs_error": 6.25}},
    "invariance": {"azimuth": 0.12, "intrinsic": None},
    "rerendering": {
        "azimuth": {"mse": 0.0081, "psnr_db": 20.9, "mse_unchanged": 0.031, "mse_exchanged": 0.008}
    },
    "disentanglement": {
        "mig": 0.31,
        "dci_disentanglement": 0.4,
        "dci_completeness": 0.5,
        "dci_informativeness": 0.6,
        "dci_group_disentanglement": 0.65,
        "dci_group_completeness": 0.66,
        "sap": 0.7,
        "factor_vae": None,
        "modularity": 0.8,
        "explicitness": 0.9,
    },
    "units": {"azimuth": "degrees"},
}
METRICS = {
    "image_size": 70,
    "steps": 1200,
    "data": "<faces> & more",
    "split": "test",
    "n_images": 2000,
    **BLOCK,
    "baseline": None,
}
PICTURES = [Picture("a.png", "A < B", "how to read it", b"\x89PNG...")]
CONFIG = {"training": {"steps": 1200, "ratio": [1.0, 10.0]}, "data": "<faces> & more"}


class _Page(html.parser.HTMLParser):
    """Checks that every element is closed, and collects what the page would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.loaded += [value for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_needs_nothing_from_anywhere():
    text = report(METRICS, PICTURES, CONFIG)
    page = _Page(text)
    assert [source.split(",")[0] for source in page.loaded] == ["data:image/png;base64"]
    assert not re.search(r"https?:|url\(|@import|<script", text)


def test_it_says_what_was_measured():
    text = report(METRICS, PICTURES, CONFIG)
    for words in (
        "70 × 70 pixels, 1200 steps",
        "&lt;faces&gt; &amp; more",
        "A &lt; B",
        "<td>0.961</td><td>0.930</td><td>6.2°</td><td>0.120</td><td>0.00810</td><td>20.9 dB</td>",
        "<td>training.ratio</td><td>[1.0, 10.0]</td>",
        "<td>FactorVAE</td><td>-</td>",
    ):
        assert words in text
    assert "<faces>" not in text


def test_the_baseline_stands_beside_the_network():
    text = report({**METRICS, "baseline": BLOCK}, PICTURES, CONFIG)
    _Page(text)
    assert "azimuth, entangled baseline" in text
    assert "<td>MIG</td><td>0.310</td><td>0.310</td>" in text


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "-"), (0.25, "0.25000"), (-1.0, "-1.00000"), (0, "0.00000")]
)
def test_numbers(value, shown):
    assert number(value) == shown
