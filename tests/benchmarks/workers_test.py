"""The arithmetic of races, and races of real processes."""

import itertools
import pathlib
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcign_tf.benchmarks import workers
from dcign_tf.errors import DcignError

_HERE = "tests.benchmarks.toys"


class _Entry(NamedTuple):
    name: str
    word: str
    pid: str
    began: float
    ended: float
    heavy: str
    seen: str


def _diary(path: pathlib.Path, name: str, **more: Any) -> workers.Candidate:
    return workers.Candidate(name, f"{_HERE}:diary", {"path": str(path), "name": name}, **more)


def _read(path: pathlib.Path) -> list[_Entry]:
    rows = [line.split(",") for line in path.read_text().splitlines()]
    return [_Entry(n, w, p, float(b), float(e), h, s) for n, w, p, b, e, h, s in rows]


def test_candidates_take_turns_and_never_work_at_the_same_time(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "diary"
    slow = workers.Candidate(
        "c", f"{_HERE}:diary", {"path": str(path), "name": "c", "milliseconds": 20}
    )
    outcomes = workers.race(
        [_diary(path, "a"), slow, _diary(path, "b")],
        rounds=3,
        warm_up=1,
        title="trying",
    )
    entries = _read(path)
    assert [entry.name for entry in entries] == ["a", "c", "b"] * 4
    assert all(one.ended <= other.began for one, other in itertools.pairwise(entries))
    assert len({entry.pid for entry in entries}) == 3
    assert "trying: 12/12" in capsys.readouterr().err
    assert {entry.heavy for entry in entries} == {"False"}  # nothing that fixes thread counts
    assert list(outcomes) == ["a", "c", "b"]
    assert [len(outcome.seconds) for outcome in outcomes.values()] == [3, 3, 3]
    assert min(outcomes["c"].seconds) >= 0.02
    assert workers.ratios(outcomes["c"], outcomes["a"]).median > 2


def test_bursts_and_what_of_them_does_not_count(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "diary"
    candidates = [_diary(path, "a"), _diary(path, "b")]
    outcomes = workers.race(candidates, rounds=2, warm_up=1, burst=3, skip=1)
    assert [entry.name for entry in _read(path)] == list("aaabbb" * 3)
    assert len(outcomes["a"].seconds) == 2 * 2


def test_candidates_that_differ_in_the_call_alone_share_a_process(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "diary"
    one = _diary(path, "x", call={"word": "one"})
    two = one._replace(name="y", call={"word": "two"})
    other = one._replace(name="z", environment={"TOY": "set"})
    outcomes = workers.race([one, two, other], rounds=1, warm_up=1)
    assert list(outcomes) == ["x", "y", "z"]
    entries = _read(path)
    assert [(entry.word, entry.seen) for entry in entries[:3]] == [
        ("one", ""),
        ("two", ""),
        ("one", "set"),
    ]
    assert entries[0].pid == entries[1].pid != entries[2].pid


def test_peak_memory_is_the_candidates_own() -> None:
    ballast = bytes(bytearray(300_000_000))  # this process has it, the candidates do not
    hogs = [workers.Candidate(str(n), f"{_HERE}:hog", {"megabytes": n}) for n in (1, 200)]
    outcomes = workers.race(hogs, rounds=1, warm_up=1)
    small, large = outcomes["1"].peak_bytes, outcomes["200"].peak_bytes
    assert 5e6 < small < 100e6
    assert 190e6 < large - small < 220e6
    assert workers.peak_memory() > len(ballast)


def test_peers_that_are_missing_or_fail_are_told_of(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "diary"
    peers = {
        "absent": _diary(path, "absent", requires=("json", "no_such_package_anywhere")),
        **{
            how: workers.Candidate(how, f"{_HERE}:broken", {"how": how}, requires=("json",))
            for how in ("made", "works", "dies")
        },
    }
    outcomes = workers.race([_diary(path, "ours"), *peers.values()], rounds=2, warm_up=1)
    assert {name: outcomes[name].problem for name in peers} == {
        "absent": "not installed: no_such_package_anywhere",
        "made": "failed: ValueError: no such kernel",
        "works": "failed: MemoryError",
        "dies": "failed: its process ended with status -9: its last words",
    }
    assert all(not outcomes[name].seconds for name in peers)
    assert len(outcomes["ours"].seconds) == 2
    assert {entry.name for entry in _read(path)} == {"ours"}


def test_what_needs_nobody_else_must_work() -> None:
    with pytest.raises(DcignError, match="^ours: ValueError: no such kernel$"):
        workers.race(
            [workers.Candidate("ours", f"{_HERE}:broken", {"how": "made"})], rounds=1, warm_up=1
        )


@given(st.lists(st.floats(1e-6, 1e6), min_size=1))
def test_a_spread_is_in_order(values: list[float]) -> None:
    found = workers.spread(values)
    assert min(values) == found.least <= found.low <= found.median <= found.high <= max(values)


def test_ratios_are_taken_turn_by_turn() -> None:
    ours = workers.Outcome("ours", (1.0, 2.0, 10.0, 1.0, 1.0))
    theirs = workers.Outcome("theirs", (3.0, 6.0, 30.0, 2.0, 4.0))
    assert workers.ratios(theirs, ours) == workers.Spread(3.0, 3.0, 3.0, 2.0)
    assert workers.spread((1.0, 2.0, 3.0, 4.0, 5.0)) == workers.Spread(3.0, 2.0, 4.0, 1.0)
