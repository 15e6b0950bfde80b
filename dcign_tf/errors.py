"""Errors whose message is meant for the person at the keyboard.

Commands print the message of a `DcignError` as one line and exit with its `exit_status`; anything else that
escapes is a defect of this package.
"""


class DcignError(Exception):
    """Something went wrong that its reader can mend; the message says what and how.

    Attributes:
        exit_status: what a command exits with when this error ends it.
    """

    exit_status = 1


class UsageError(DcignError):
    """A flag or an argument has a value that makes no sense; the message names it."""

    exit_status = 2
