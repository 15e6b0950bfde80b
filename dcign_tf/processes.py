"""What concerns a process as a whole: how it starts others, how it is asked to end, and its memory."""

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Lets new processes start with Ctrl-C ignored, or it would find them in the middle of their imports."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Only there may signals be handled.
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class StopRequested(KeyboardInterrupt):
    """SIGTERM or SIGINT came. As Ctrl-C, it is no `Exception`, that nobody takes it for a failure of theirs.

    Attributes:
        signal: which.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.signal = number


class StopSignals:
    """What `stop_signals` yields."""

    def __init__(self) -> None:
        self.caught: signal.Signals | None = None
        self._waiting = False

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, a signal is only noted: what is under way is for the block to finish, which looks at `check`.

        A second SIGINT ends the block at once, since a person waits; so does nothing else but SIGKILL.
        """
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False
        self.check()

    def check(self) -> None:
        """Raises StopRequested if a signal came."""
        if self.caught is not None:
            raise StopRequested(self.caught)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signals' handler."""
        del frame
        again, self.caught = self.caught is not None, signal.Signals(number)
        if not self._waiting or (again and number == signal.SIGINT):
            raise StopRequested(self.caught)
        if not again:
            # Not print: the signal may have come while something was being printed.
            with contextlib.suppress(OSError):
                os.write(2, f"\n{self.caught.name}: finishing the steps under way ...\n".encode())


@contextlib.contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Lets SIGTERM and SIGINT raise StopRequested in the main thread, at once or when it suits.

    A signal that is ignored (SIGINT, for a shell's jobs in the background) remains so.

    Yields:
        Whose `deferred` says when not at once. Elsewhere than in the main thread, no signal ever comes.
    """
    stops = StopSignals()
    if threading.current_thread() is not threading.main_thread():
        yield stops  # Only there may signals be handled.
        return
    before = {
        number: signal.signal(number, stops.handle)
        for number in (signal.SIGTERM, signal.SIGINT)
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield stops
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def share_memory_pool() -> None:
    """Makes all threads of this process share one pool of memory, where the C library is glibc.

    By default each thread that compiles (XLA has several) gets a pool of its own, which keeps what it once needed: of
    training at the paper's size, a hundred megabytes. No difference in speed was seen.
    """
    arena_max = -8  # M_ARENA_MAX of malloc.h
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(arena_max, 1)
