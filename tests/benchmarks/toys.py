"""Candidates that take no time, and tell on request what happened to them."""

import os
import signal
import sys
import time
from collections.abc import Callable


def diary(path: str, name: str, milliseconds: float = 1) -> Callable[..., None]:
    """Notes when it begins and when it ends."""

    def work(word: str = "") -> None:
        began = time.monotonic()
        time.sleep(milliseconds / 1e3)
        heavy = "numpy" in sys.modules
        seen = os.environ.get("TOY", "")
        with open(path, "a") as file:
            print(name, word, os.getpid(), began, time.monotonic(), heavy, seen, sep=",", file=file)

    return work


def hog(megabytes: int) -> Callable[[], None]:
    """Occupies memory for a moment, at its first repetition."""

    def work() -> None:
        bytes(bytearray(megabytes * 500_000)) + b"x"

    return work


def broken(how: str) -> Callable[[], None]:
    """Fails while it is made, while it works, or without a word."""
    if how == "made":
        raise ValueError("no such kernel\nand more that nobody reads")

    def work() -> None:
        if how == "works":
            raise MemoryError
        print("its last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    return work
