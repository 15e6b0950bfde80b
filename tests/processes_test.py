"""Signals are heeded at once, or when it suits."""

import signal
import threading

import pytest

from dcign_tf import processes
from dcign_tf.processes import StopRequested


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_at_once(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(StopRequested) as caught, processes.stop_signals():
        signal.raise_signal(number)
        pytest.fail("it did not")
    assert caught.value.signal == number
    assert not isinstance(caught.value, Exception), "whoever catches errors must not catch it"
    assert signal.getsignal(number) == before


def test_or_when_it_suits(capfd: pytest.CaptureFixture[str]) -> None:
    done = []
    with pytest.raises(StopRequested), processes.stop_signals() as stops:
        with stops.deferred():
            stops.check()
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)  # Some send it twice: that changes nothing.
            done.append("the step under way")
            assert stops.caught == signal.SIGTERM
        pytest.fail("the block's end is the last moment")
    assert done
    assert capfd.readouterr().err == "\nSIGTERM: finishing the steps under way ...\n"


def test_who_presses_twice_does_not_want_to_wait() -> None:
    with pytest.raises(StopRequested), processes.stop_signals() as stops, stops.deferred():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it waited")


def test_no_signal_no_stop() -> None:
    with processes.stop_signals() as stops, stops.deferred():
        pass
    assert stops.caught is None


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with processes.stop_signals() as stops:
            signal.raise_signal(signal.SIGINT)
        assert stops.caught is None
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_can_use_it_but_get_no_signals() -> None:
    before = signal.getsignal(signal.SIGTERM)
    found = []

    def work() -> None:
        with processes.stop_signals() as stops, stops.deferred():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]
