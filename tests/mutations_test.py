"""The harness sees what a reader must not do."""

import os
import pathlib
import pickle
import random
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcign_tf.errors import DcignError
from tests import mutations


@given(st.binary(), st.integers(0, 1000))
def test_mutants_differ_and_are_the_same_for_a_seed(data: bytes, seed: int) -> None:
    mutated = mutations.mutate(data, random.Random(seed))
    assert mutated != data
    assert mutated == mutations.mutate(data, random.Random(seed))


def _careful(folder: pathlib.Path) -> None:
    data = (folder / "a.txt").read_bytes()
    if len(data) != 100:
        raise DcignError(f"{folder}: got {len(data)} bytes, must be 100")


def _careless(folder: pathlib.Path) -> None:
    assert set((folder / "a.txt").read_bytes()) == {ord("a")}


def _dying(folder: pathlib.Path) -> None:
    if len((folder / "a.txt").read_bytes()) != 100:
        os._exit(3)


def _slow(folder: pathlib.Path) -> None:
    if len((folder / "a.txt").read_bytes()) > 100:
        time.sleep(100)


def _greedy(folder: pathlib.Path) -> None:
    if len((folder / "a.txt").read_bytes()) != 100:
        bytearray(1 << 30)


def _writing_elsewhere(folder: pathlib.Path) -> None:
    if len((folder / "a.txt").read_bytes()) != 100:
        try:
            (folder.parents[2] / "outside").write_text("")
        except Exception as error:
            raise DcignError("no") from error


def _leaving(folder: pathlib.Path) -> None:
    if len((folder / "a.txt").read_bytes()) != 100:
        pathlib.Path("left").touch()


def _starting(folder: pathlib.Path) -> None:
    if len((folder / "a.txt").read_bytes()) != 100:
        subprocess.run(["true"])


def _unpickling(folder: pathlib.Path) -> None:
    if len((folder / "a.txt").read_bytes()) != 100:
        pickle.loads(pickle.dumps(pathlib.Path))


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_bytes(b"a" * 100)
    return tmp_path / "data"


def test_a_careful_reader_has_no_problems(folder: pathlib.Path) -> None:
    report = mutations.run(_careful, folder, ["a.txt"], 50)
    assert not report.problems, report
    assert report.valid > 0
    assert report.refused > 0
    assert report.valid + report.refused == 50
    assert any("must be 100" in message for message in report.messages.values())


@pytest.mark.parametrize(
    ("check", "told"),
    [
        (_careless, "AssertionError"),
        (_dying, "died with status 3"),
        (_slow, "took more than 1 s"),
        (_greedy, "MemoryError"),
        (_writing_elsewhere, "open "),
        (_leaving, "left or changed elsewhere/left"),
        (_starting, "subprocess.Popen"),
        (_unpickling, "pickle.find_class"),
    ],
)
def test_what_no_reader_may_do_is_seen(check, told: str, folder: pathlib.Path) -> None:
    report = mutations.run(check, folder, ["a.txt"], 4, seed=1, seconds=1)
    assert report.problems
    assert all(told in problem for problem in report.problems), report
    assert (folder / "a.txt").read_bytes() == b"a" * 100


def test_a_broken_original_is_a_problem(folder: pathlib.Path) -> None:
    (folder / "a.txt").write_bytes(b"")
    report = mutations.run(_careful, folder, ["a.txt"], 4)
    assert report.problems[0].startswith("the undamaged data set: ")
