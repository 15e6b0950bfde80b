"""Starting processes that an interruption finds in good order."""

import contextlib
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
