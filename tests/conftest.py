"""What holds for all tests."""

import importlib.util
import signal


def pytest_configure() -> None:
    """Settings that no test has to repeat."""
    # Shells have what they start in the background ignore Ctrl-C; what tests start shall not.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # How long an example takes says more about what else the machine does than about the code.
    if importlib.util.find_spec("hypothesis"):
        import hypothesis

        hypothesis.settings.register_profile("patient", deadline=None)
        hypothesis.settings.load_profile("patient")
