"""What holds for all tests."""

import signal


def pytest_configure() -> None:
    """Lets Ctrl-C interrupt what tests start: shells have what they start in the background ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
