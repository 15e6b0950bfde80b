"""A long run takes no more than a short one."""

import os
import pathlib
import threading

import numpy as np
import pytest

from tests import soak

_FLAT = {name: np.full(100, 50.0) for name in soak.UNITS}


def _soaked(**seen: np.ndarray) -> soak.Soak:
    return soak.Soak(np.arange(100) * 20.0, {**_FLAT, **seen})


def test_the_slope_is_that_of_the_second_half() -> None:
    rising = np.concatenate([np.linspace(0, 700, 50), np.full(50, 700.0)])
    assert abs(_soaked(memory=rising).slopes()["memory"]) < 1
    assert _soaked(memory=np.arange(100) * 0.2).slopes()["memory"] == pytest.approx(10)


def test_what_grows_is_told_and_drawn(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = ["--output", str(tmp_path / "soak.png")]
    assert soak.main(output, lambda steps: _soaked()) == 0
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")
    assert soak.main(output, lambda steps: _soaked(threads=np.arange(100) * 1.0)) == 1
    out = capsys.readouterr().out
    assert "threads: 99 at the end, at most 99; slope +50.00 per 1000 steps" in out
    assert out.endswith("it grows: threads\n")


@pytest.mark.skipif(
    not pathlib.Path("/proc/self/fd").exists(), reason="no /proc: .ci/run runs it, on Linux"
)
def test_it_sees_handles_threads_and_memory() -> None:
    before = soak.look(os.getpid())
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    with open(__file__):
        held = np.ones(10**7)
        after = soak.look(os.getpid())
    release.set()
    thread.join()
    assert after["file handles"] == before["file handles"] + 1
    assert after["threads"] == before["threads"] + 1
    assert 60 < after["memory"] - before["memory"] < 120, held.size


@pytest.mark.slow
@pytest.mark.skipif(
    not pathlib.Path("/proc/self/fd").exists(), reason="no /proc: .ci/run runs it, on Linux"
)
def test_two_thousand_steps_take_what_a_thousand_took(tmp_path: pathlib.Path) -> None:
    assert soak.main(["--output", str(tmp_path / "soak.png")]) == 0
