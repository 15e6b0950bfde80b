"""The report says what was found, reads as a table, and appears whole or not at all."""

import json
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcign_tf.benchmarks import report
from dcign_tf.benchmarks.sections import Row, Section, Settings, Verdict, time_rows
from dcign_tf.benchmarks.workers import Outcome

_WHERE = report.Machine(
    "A Processor",
    2,
    25.3,
    "Linux",
    "3.11.7",
    {"dcign_tf": "0.1.0", "torch": "2.13.0"},
    {"OMP_NUM_THREADS": "2"},
    "2026-11-26",
)
_SECTIONS = [
    Section(
        "first",
        "First: of two",
        [
            Row("dcign_tf", 0.5, 0.25, 1.0, "s"),
            Row("other", 1234.5, 1000.0, 2000.0, "ms", 2.0, "a|b", 900.0, 1.5, 2.5),
            Row("absent", None, None, None, "ms", note="not installed: it"),
        ],
        ["It is so."],
        [Verdict("twice as fast", "2.00 times", True), Verdict("tiny", "huge", False)],
        {"plot.png": b"\x89PNG"},
    )
]


def test_markdown() -> None:
    lines = report.markdown(_WHERE, Settings(rounds=7), _SECTIONS).splitlines()
    assert lines[0] == "A Processor, 2 cores, 25 GB of memory; Linux, Python 3.11.7; 2026-11-26."
    assert lines[1] == "dcign_tf 0.1.0, torch 2.13.0."
    assert "OMP_NUM_THREADS=2" in lines[2] and "medians of 7 turns" in lines[2]
    table = [line for line in lines if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]
    assert ["**First: of two**", "", "", "", ""] in cells
    assert ["dcign_tf", "0.500 s", "0.250 - 1.00", "", ""] in cells
    assert ["other", "1234 ms", "1000 - 2000", "2.00 x (1.50 - 2.50)", "a\\|b"] in cells
    assert ["absent", "-", "", "", "not installed: it"] in cells
    assert ["twice as fast", "2.00 times", "reached"] in cells
    assert ["tiny", "huge", "**not reached**"] in cells
    assert len({len(line) for line in table[:6]}) == 1  # aligned
    assert "![First: of two](plot.png)" in lines
    assert lines[-1] == "* **First**: It is so."


def test_figures_that_mean_nothing_reach_no_target() -> None:
    text = report.markdown(_WHERE, Settings(quick=True), _SECTIONS)
    assert "mean nothing" in text
    assert "reached" not in text


@given(st.floats(1e-6, 1e9))
def test_numbers_are_near_enough(value: float) -> None:
    shown = report._number(value)
    assert abs(float(shown) - value) <= 0.0051 * value
    assert "e" not in shown or value < 1e-3


def test_files(tmp_path: pathlib.Path) -> None:
    settings = Settings(data="/secret/place", source_path="/secret/place")
    report.write(tmp_path, _WHERE, settings, _SECTIONS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        report.JSON,
        report.MARKDOWN,
        "plot.png",
    ]
    text = (tmp_path / report.JSON).read_text()
    found = json.loads(text)
    assert "secret" not in text
    assert found["machine"]["threads"] == {"OMP_NUM_THREADS": "2"}
    assert found["settings"]["encoder_filters"] == [96, 64, 32]
    (section,) = found["sections"]
    assert section["rows"][1]["ratio_low"] == 1.5 and section["rows"][2]["median"] is None
    assert section["verdicts"][1] == {"target": "tiny", "found": "huge", "reached": False}
    assert section["pictures"] == ["plot.png"]
    markdown = (tmp_path / report.MARKDOWN).read_text()
    assert markdown == report.markdown(_WHERE, settings, _SECTIONS)


def test_this_machine() -> None:
    where = report.machine()
    assert where.processor and where.cores >= 1
    assert where.memory_gb is None or where.memory_gb > 0.5
    assert {"dcign_tf", "tensorflow", "keras"} <= where.versions.keys()


def test_rows_of_a_race() -> None:
    outcomes = {
        "dcign_tf": Outcome("dcign_tf", (0.1, 0.2, 0.4), 1),
        "other": Outcome("other", (0.2, 0.4, 1.2), 1),
        "absent": Outcome("absent", problem="not installed: it"),
    }
    ours, other, absent = time_rows(outcomes, "ms", notes={"other": "slow"})
    assert (ours.median, ours.least, ours.ratio) == (200, 100, None)
    assert other.median == 400 and other.note == "slow"
    assert [other.ratio, other.ratio_low, other.ratio_high] == pytest.approx([2, 2, 2.5])
    assert absent == Row("absent", None, None, None, "ms", note="not installed: it")
    assert time_rows(outcomes, ours=None)[1].ratio is None
