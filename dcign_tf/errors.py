"""Errors whose message is meant for the person at the keyboard.

Commands print the message of a `DcignError` as one line and exit with its `exit_status`; anything else that
escapes is a defect of this package.
"""

import re


class DcignError(Exception):
    """Something went wrong that its reader can mend; the message says what and how.

    Attributes:
        exit_status: what a command exits with when this error ends it.
    """

    exit_status = 1


class UsageError(DcignError):
    """A flag or an argument has a value that makes no sense; the message names it."""

    exit_status = 2


class Stopped(DcignError):
    """A signal asked a job to end, and it did; the message says how to go on.

    Args:
        message: for the person at the keyboard.
        number: the signal's; the exit status is 128 more, as a shell has it.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + number


def first_line(error: BaseException) -> str:
    """What an error says, in a line; without what TensorFlow adds, which node of which graph says so."""
    lines = (getattr(error, "message", "") or str(error)).strip().splitlines()
    told = re.sub(r"\{\{[^}]*\}\} ?|\s*\[Op:\w*\].*$", "", lines[0]) if lines else ""
    return told or type(error).__name__
