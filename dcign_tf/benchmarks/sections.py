"""What a part of the benchmark found, and how it is written down."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dcign_tf.benchmarks import workers

OURS = "dcign_tf"

# Units of time: what a second is in them.
_PER_SECOND = {"s": 1.0, "ms": 1e3}


class Settings(NamedTuple):
    """What all parts are told; by default the paper's network, on all cores.

    Attributes:
        image_size: side of the images.
        encoder_filters: of the encoder's convolutions.
        decoder_filters: of the decoder's.
        latents: length of the code.
        batch: images in a mini-batch.
        rounds: how often each candidate has its turn.
        warm_up: turns before those, which do not count.
        data: a data set of dcign-data to train on, at `image_size`; None to render one for the occasion.
        source: whose mesh renderers draw, a key of `scenes.SOURCES`.
        source_path: that source's files, if it needs some.
        quick: whether parts should be content with as little as shows that they work, whatever the figures.
    """

    image_size: int = 150
    encoder_filters: tuple[int, int, int] = (96, 64, 32)
    decoder_filters: tuple[int, int, int] = (32, 64, 96)
    latents: int = 200
    batch: int = 20
    rounds: int = 15
    warm_up: int = 2
    data: str | None = None
    source: str = "builtin_face"
    source_path: str | None = None
    quick: bool = False

    @property
    def network(self) -> dict[str, Any]:
        """What says which network it is; the arguments that the factories of training steps share."""
        return {
            "image_size": self.image_size,
            "encoder_filters": self.encoder_filters,
            "decoder_filters": self.decoder_filters,
            "latents": self.latents,
        }


class Row(NamedTuple):
    """One candidate in one respect.

    Attributes:
        candidate: its name.
        median: of all repetitions, in `unit`; None where nothing could be measured, and `note` says why.
        low: the first quartile.
        high: the third.
        unit: such as "ms".
        ratio: how many times better `OURS` does, the median over the turns: above 1 where we win, be it a time, a
            rate or an amount of memory; None where that means nothing, as in our own row.
        note: a few words.
        least: the smallest value.
        ratio_low: the ratio's first quartile.
        ratio_high: its third.
    """

    candidate: str
    median: float | None
    low: float | None
    high: float | None
    unit: str
    ratio: float | None = None
    note: str = ""
    least: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None


class Verdict(NamedTuple):
    """A target and what became of it.

    Attributes:
        target: in words, such as "at least 2.5 times as fast as the best PyTorch form".
        found: such as "2.9 times".
        reached: whether it was.
    """

    target: str
    found: str
    reached: bool


class Section(NamedTuple):
    """What a part of the benchmark found.

    Attributes:
        name: the part's, as in `--parts`.
        title: a heading.
        rows: one for each candidate in each respect.
        notes: sentences on what was measured and how to read it.
        verdicts: targets.
        pictures: PNGs by the names of their files.
    """

    name: str
    title: str
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    verdicts: Sequence[Verdict] = ()
    pictures: Mapping[str, bytes] = {}


def time_rows(
    outcomes: Mapping[str, workers.Outcome],
    unit: str = "s",
    ours: str | None = OURS,
    notes: Mapping[str, str] | None = None,
) -> list[Row]:
    """Rows of a race's outcomes.

    Args:
        outcomes: as `workers.race` gives them.
        unit: "s" or "ms".
        ours: the candidate that ratios compare with; None for no ratios.
        notes: on some of the candidates.

    Returns:
        A row for each candidate.
    """
    rows = []
    for name, outcome in outcomes.items():
        note = (notes or {}).get(name, "")
        if outcome.problem:
            rows.append(Row(name, None, None, None, unit, note=outcome.problem))
            continue
        median, low, high, least = (
            value * _PER_SECOND[unit] for value in workers.spread(outcome.seconds)
        )
        row = Row(name, median, low, high, unit, note=note, least=least)
        if ours is not None and name != ours:
            ratio = workers.ratios(outcome, outcomes[ours])
            row = row._replace(ratio=ratio.median, ratio_low=ratio.low, ratio_high=ratio.high)
        rows.append(row)
    return rows
