"""A bar on a terminal, lines in a log."""

import io
import re

import pytest

from dcign_tf import progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_lines_with_rate_and_time_left() -> None:
    log = io.StringIO()
    with progress.progress(4, "rendering", "image", file=log, log_every_seconds=0) as bar:
        for step in range(4):
            bar.update(1, loss=step / 2)
    lines = log.getvalue().splitlines()
    assert len(lines) == 4
    assert "\r" not in log.getvalue()
    assert lines[0].startswith("rendering: 1/4 [00:00<00:00, ")
    assert re.fullmatch(r"rendering: 4/4 \[00:00<00:00, .*image/s, loss=1\.5\]", lines[-1])


def test_a_log_is_not_flooded_but_gets_the_last_state() -> None:
    log = io.StringIO()
    with progress.progress(1000, "rendering", file=log, log_every_seconds=60) as bar:
        for _ in range(1000):
            bar.update()
    (line,) = log.getvalue().splitlines()
    assert line.startswith("rendering: 1000/1000 ")


def test_steps_of_an_earlier_run_count() -> None:
    log = io.StringIO()
    with progress.progress(10, "training", initial=6, file=log) as bar:
        bar.update(2)
        assert bar.done == 8
    assert log.getvalue().startswith("training: 8/10 ")


def test_without_a_total() -> None:
    log = io.StringIO()
    with progress.progress(None, "reading", file=log) as bar:
        bar.update(3)
    assert log.getvalue().startswith("reading: 3 [")


def test_a_terminal_gets_a_bar() -> None:
    terminal = _Terminal()
    with progress.progress(4, "rendering", "image", file=terminal) as bar:
        bar.update(2)
        bar.write("a line of its own")
        bar.update(2, loss=0.25)
    text = terminal.getvalue()
    assert "\r" in text
    assert "a line of its own\n" in text
    assert "rendering: 100%" in text
    assert "4/4" in text
    assert "loss=0.25" in text


def test_a_line_of_its_own_in_a_log() -> None:
    log = io.StringIO()
    with progress.progress(4, "rendering", file=log) as bar:
        bar.write("a line of its own")
    assert log.getvalue().splitlines()[0] == "a line of its own"


def test_the_state_is_told_when_the_job_breaks_off() -> None:
    log = io.StringIO()
    with pytest.raises(KeyboardInterrupt), progress.progress(4, "rendering", file=log) as bar:
        bar.update(3)
        raise KeyboardInterrupt
    assert log.getvalue().startswith("rendering: 3/4 ")


def test_closing_twice_is_harmless() -> None:
    log = io.StringIO()
    with progress.progress(1, "rendering", file=log) as bar:
        bar.update()
        bar.close()
        bar.close()
    assert len(log.getvalue().splitlines()) == 1
