"""A progress bar where somebody watches, a line now and then where only a log file does."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

import tqdm


@contextlib.contextmanager
def progress(
    total: int | None,
    description: str,
    unit: str = "step",
    initial: int = 0,
    file: TextIO | None = None,
    log_every_seconds: float = 15.0,
) -> Iterator["Progress"]:
    """Shows how far a long job is, its rate and the time left.

        with progress(1000, "training", unit="step") as bar:
            for step in range(1000):
                ...
                bar.update(1, loss=0.25)

    Args:
        total: how many units the whole job has; None when nobody knows.
        description: what is being done, in a word or two.
        unit: what is counted, in the singular.
        initial: units already done by an earlier, interrupted run; they count for the bar, not for the rate.
        file: where to write; stderr by default.
        log_every_seconds: how often to write a line where `file` is no terminal.

    Yields:
        The bar; call its `update`.
    """
    bar = Progress(total, description, unit, initial, file or sys.stderr, log_every_seconds)
    try:
        yield bar
    finally:
        bar.close()


class Progress:
    """What `progress` yields."""

    def __init__(
        self,
        total: int | None,
        description: str,
        unit: str,
        initial: int,
        file: TextIO,
        log_every_seconds: float,
    ) -> None:
        self._on_terminal = file.isatty()
        self._file = file
        self._log_every_seconds = log_every_seconds
        self._last_logged = time.monotonic()
        self._logged_at: int | None = None
        # Elsewhere than on a terminal tqdm only does the arithmetic: it writes to nowhere and we write its line.
        self._bar = tqdm.tqdm(
            total=total,
            desc=description,
            unit=unit,
            initial=initial,
            file=file if self._on_terminal else _Nowhere(),
            dynamic_ncols=self._on_terminal,
            ncols=None if self._on_terminal else 0,
            mininterval=0.2,
            smoothing=0.05,
        )

    @property
    def done(self) -> int:
        """How many units are done, the initial ones included."""
        return int(self._bar.n)

    def update(self, n: int = 1, **values: Any) -> None:
        """Counts `n` more units as done.

        Args:
            n: how many.
            **values: numbers to show behind the rate, such as losses.
        """
        if values:
            self._bar.set_postfix(values, refresh=False)
        self._bar.update(n)
        now = time.monotonic()
        if not self._on_terminal and now - self._last_logged >= self._log_every_seconds:
            self._last_logged = now
            self._log()

    def write(self, line: str) -> None:
        """Writes a line of its own, without breaking the bar."""
        if self._on_terminal:
            self._bar.write(line, file=self._file)
        else:
            print(line, file=self._file, flush=True)

    def close(self) -> None:
        """Draws the last state and ends the line; harmless when called twice."""
        if self._bar.disable:
            return
        if not self._on_terminal and self._logged_at != self.done:
            self._log()
        self._bar.close()

    def _log(self) -> None:
        self._logged_at = self.done
        state = {**self._bar.format_dict, "ncols": None}
        counted = f"{state['n']}/{state['total']}" if state["total"] else f"{state['n']}"
        # A line of a log needs no drawn bar.
        line = tqdm.tqdm.format_meter(**{**state, "bar_format": _LOG_FORMAT, "counted": counted})
        print(line, file=self._file, flush=True)


_LOG_FORMAT = "{desc}: {counted} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


class _Nowhere:
    """A file that forgets."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        """Does nothing: there is nothing to flush."""
