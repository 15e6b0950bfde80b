"""One page that says how good a network is: a single HTML file that needs nothing from anywhere."""

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from dcign_tf import units

# What the page calls the measures of disentanglement, who defined them, and how to read them.
MEASURES = {
    "mig": (
        "MIG",
        "Chen et al. 2018",
        "how much more the best latent knows about a factor than the second best",
    ),
    "dci_disentanglement": (
        "DCI disentanglement",
        "Eastwood & Williams 2018",
        "whether a latent speaks of one factor only",
    ),
    "dci_completeness": (
        "DCI completeness",
        "Eastwood & Williams 2018",
        "whether a factor is told by one latent only",
    ),
    "dci_informativeness": (
        "DCI informativeness",
        "Eastwood & Williams 2018",
        "how well all latents together tell the factors, entangled or not",
    ),
    "dci_group_disentanglement": (
        "DCI disentanglement of groups",
        "Eastwood & Williams 2018",
        "whether a factor's latents, taken as one, speak of that factor only",
    ),
    "dci_group_completeness": (
        "DCI completeness of groups",
        "Eastwood & Williams 2018",
        "whether a factor is told by its own latents only",
    ),
    "sap": (
        "SAP",
        "Kumar et al. 2018",
        "how much better the best latent predicts a factor, by a straight line, than the second best",
    ),
    "factor_vae": (
        "FactorVAE",
        "Kim & Mnih 2018",
        "how often the latent that varies least among images in which one factor is fixed tells which factor it is",
    ),
    "modularity": (
        "Modularity",
        "Ridgeway & Mozer 2018",
        "how far a latent has information on one factor only, each latent counting as much",
    ),
    "explicitness": (
        "Explicitness",
        "Ridgeway & Mozer 2018",
        "how well a linear classifier on all latents tells a factor's values apart, from 1/2",
    ),
}


class Picture(NamedTuple):
    """A figure of the page.

    Attributes:
        name: its file's name.
        title: a heading.
        caption: a sentence or two on how to read it.
        png: the file's bytes.
    """

    name: str
    title: str
    caption: str
    png: bytes


def report(
    metrics: Mapping[str, Any], pictures: Sequence[Picture], configuration: Mapping[str, Any]
) -> str:
    """The page.

    Args:
        metrics: what metrics.json holds.
        pictures: the figures, in their order.
        configuration: of the run.

    Returns:
        The text of an HTML file.
    """
    blocks = {"network": metrics}
    if metrics["baseline"]:
        blocks["entangled baseline"] = metrics["baseline"]
    size = metrics["image_size"]
    steps = "" if metrics["steps"] is None else f", {metrics['steps']} steps of training"
    parts = [
        f"<p>{size} × {size} pixels{steps}. All numbers and pictures are of {metrics['n_images']} images, and of "
        f"groups of images, of the {html.escape(metrics['split'])} set; unless that is the training set, they show "
        "identities that training never saw.</p>",
        f'<p class="faded">{html.escape(metrics["data"])}</p>',
        "<h2>Factors</h2>",
        _factors(blocks),
        _notes(
            (
                "|r|",
                "correlation of the factor's latent with its true value, where everything varies; 1 is best",
            ),
            (
                "R², median error",
                "of the value read off the latent by a calibration fitted on training images; the paper's Fig. 6",
            ),
            (
                "invariance",
                "variance of the other factors' latents while only this factor varies, over their variance between "
                "random images; 0 is best",
            ),
            (
                "re-rendering",
                "mean squared error on [0, 1] after setting the factor to another true value, against the true picture "
                "of that; “unchanged” is the error of not setting it, “exchanged” of taking the latent that the "
                "network finds in that picture",
            ),
        ),
        "<h2>Reconstruction</h2>",
        _table(
            ("", "mean squared error", "peak signal to noise"),
            (
                (
                    name,
                    number(block["reconstruction"]["mse"]),
                    number(block["reconstruction"]["psnr_db"], 1, " dB"),
                )
                for name, block in blocks.items()
            ),
        ),
        "<h2>Disentanglement</h2>",
        _table(
            ("", *blocks),
            (
                (
                    title,
                    *(number(block["disentanglement"][key], 3) for block in blocks.values()),
                )
                for key, (title, _, _) in MEASURES.items()
            ),
        ),
        _notes(*((title, f"{text} ({who}); 1 is best") for title, who, text in MEASURES.values())),
        *(_figure(picture) for picture in pictures),
        "<h2>Configuration</h2>",
        _table(("setting", "value"), _settings(configuration), prose=True),
    ]
    return _PAGE.replace("{style}", _STYLE).replace("{body}", "\n".join(parts))


def number(value: float | None, digits: int = 5, unit: str = "") -> str:
    """A number with some digits behind the point; a dash for None."""
    return "-" if value is None else f"{value:.{digits}f}{unit}"


def amount(value: float | None, unit: str) -> str:
    """A number of some unit, of angles with one digit behind the point; a dash for None."""
    if value is None or unit == units.DEGREES:
        return number(value, 1, units.suffix(unit))
    return units.text(value, unit, 3)


def _factors(blocks: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for name, block in blocks.items():
        for factor, invariance in block["invariance"].items():
            inferred = block["inference"].get(factor, {})
            rendered = block["rerendering"].get(factor, {})
            label = factor.replace("_", " ")
            rows.append(
                (
                    label if len(blocks) == 1 else f"{label}, {name}",
                    number(inferred.get("pearson"), 3),
                    number(inferred.get("r2_calibrated"), 3),
                    amount(inferred.get("median_abs_error"), block["units"].get(factor, "")),
                    number(invariance, 3),
                    number(rendered.get("mse")),
                    number(rendered.get("psnr_db"), 1, " dB"),
                    number(rendered.get("mse_unchanged")),
                    number(rendered.get("mse_exchanged")),
                )
            )
    head = ("factor", "|r|", "R²", "median error", "invariance", "re-rendering", "", "unchanged")
    return _table((*head, "exchanged"), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]], prose: bool = False) -> str:
    def line(tag: str, cells: Iterable[str]) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

    body = "\n".join(line("td", row) for row in rows)
    kind = ' class="prose"' if prose else ""
    return f'<div class="wide"><table{kind}><thead>{line("th", head)}</thead><tbody>\n{body}\n</tbody></table></div>'


def _notes(*pairs: tuple[str, str]) -> str:
    items = (f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in pairs)
    return f"<dl>{''.join(items)}</dl>"


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    return (
        f"<h2>{html.escape(picture.title)}</h2>\n<p>{html.escape(picture.caption)}</p>\n"
        f'<div class="wide"><img alt="{html.escape(picture.title)}" src="data:image/png;base64,{data}"></div>'
    )


def _settings(configuration: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for key, value in configuration.items():
        if isinstance(value, Mapping):
            rows += _settings(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            rows.append((f"{prefix}{key}", text))
    return rows


_STYLE = """
body { margin: 0 auto; padding: 1rem 1rem 4rem; max-width: 1100px; color: #22262b; background: #fff;
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 1rem 0; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
.faded { color: #6b727a; font-size: .85rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #e6e8ea; text-align: right; white-space: nowrap; }
th { color: #6b727a; font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child, .prose th, .prose td { text-align: left; }
.prose td { white-space: normal; overflow-wrap: anywhere; }
dl { font-size: .9rem; color: #444b52; }
dt { font-weight: 600; }
dd { margin: 0 0 .4rem; }
img { display: block; width: 100%; min-width: 640px; height: auto; }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Evaluation of an inverse graphics network</title>
<style>{style}</style>
</head>
<body>
<h1>Evaluation of a Deep Convolutional Inverse Graphics Network</h1>
{body}
</body>
</html>
"""
