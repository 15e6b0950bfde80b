"""What concerns a process as a whole: how it starts others, and its memory."""

import contextlib
import ctypes
import signal
import threading
from collections.abc import Iterator


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


def share_memory_pool() -> None:
    """Makes all threads of this process share one pool of memory, where the C library is glibc.

    By default each thread that compiles (XLA has several) gets a pool of its own, which keeps what it once needed: of
    training at the paper's size, a hundred megabytes. No difference in speed was seen.
    """
    arena_max = -8  # M_ARENA_MAX of malloc.h
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(arena_max, 1)
