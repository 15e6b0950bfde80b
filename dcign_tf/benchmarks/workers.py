"""Programs timed against each other: each in a process of its own, one at a time, in turns.

A candidate is the name of a factory, what to call it with, and what to call its result with. The factory runs in a
process that has imported nothing else, so that thread settings made by environment variables hold, that libraries do
not get into each other's way, and that the memory seen is the candidate's. The processes stay; turn by turn, A B C A
B C ..., one of them is told to do its work once and answers how long that took while all others sleep. Whatever slows
the machine down for a while so meets all candidates alike, and ratios may be taken turn by turn.
"""

import contextlib
import importlib
import importlib.util
import io
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import pickle
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dcign_tf.errors import DcignError
from dcign_tf.progress import progress

# Threads that wait for work must not spin: another candidate has its turn.
_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "KMP_BLOCKTIME": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}

# Seconds for a process to end by itself, once it has nothing left to do.
_PATIENCE = 5.0


class Candidate(NamedTuple):
    """Something to be timed.

    Attributes:
        name: what tables call it.
        factory: "package.module:function"; called once, in the candidate's process, it returns a function.
        arguments: of the factory; they must be picklable.
        call: of the function, whose every call is one repetition. Candidates that differ in nothing but name and
            `call` share a process.
        environment: variables set before anything is imported.
        requires: packages that must be installed for it, none of them needed by anything else here. Without one
            of them, or when the candidate fails, its outcome says so; a candidate that requires nothing must work.
    """

    name: str
    factory: str
    arguments: Mapping[str, Any] = {}
    call: Mapping[str, Any] = {}
    environment: Mapping[str, str] = {}
    requires: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """What was seen of a candidate.

    Attributes:
        name: the candidate's.
        seconds: of every repetition, in order; empty where there is a `problem`.
        peak_bytes: the most memory its process ever occupied (resident); 0 where there is a problem.
        problem: why there is nothing to see, such as "not installed: torch"; "" where there is.
    """

    name: str
    seconds: tuple[float, ...] = ()
    peak_bytes: int = 0
    problem: str = ""


class Spread(NamedTuple):
    """Of some numbers the median, the quartiles and the smallest."""

    median: float
    low: float
    high: float
    least: float


def spread(values: Sequence[float]) -> Spread:
    """Sums up one or more numbers."""
    low, median, high = (
        statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * [*values]
    )
    return Spread(median, low, high, min(values))


def ratios(outcome: Outcome, ours: Outcome) -> Spread:
    """How many times as long one candidate took as another, repetition by repetition."""
    pairs = zip(outcome.seconds, ours.seconds, strict=True)
    return spread([theirs / own for theirs, own in pairs])


def race(
    candidates: Sequence[Candidate],
    rounds: int,
    warm_up: int = 2,
    burst: int = 1,
    skip: int = 0,
    title: str = "racing",
) -> dict[str, Outcome]:
    """Times candidates in turns.

    Args:
        candidates: whose names all differ.
        rounds: how often each has its turn.
        warm_up: turns before those, which do not count; 1 or more, since in the first some are still getting ready.
        burst: repetitions in a turn; for candidates so quick that they should not begin with cold caches each time.
        skip: the first repetitions of a turn that do not count.
        title: what the progress bar says.

    Returns:
        The outcome of each candidate by its name, in the order given.

    Raises:
        DcignError: a candidate that requires no other packages failed.
    """
    if warm_up < 1:
        raise ValueError(f"warm_up: got {warm_up}, must be 1 or more")
    seconds: dict[str, list[float]] = {candidate.name: [] for candidate in candidates}
    problems = {candidate.name: _missing(candidate) for candidate in candidates}
    peaks = dict.fromkeys(seconds, 0)
    with contextlib.ExitStack() as stack:
        workers: dict[bytes, _Worker] = {}
        for candidate in candidates:
            if not problems[candidate.name]:
                key = _process(candidate)
                if key not in workers:
                    workers[key] = stack.enter_context(_worker(candidate))
        # All get ready at the same time; from then on, one works at a time.
        bar = stack.enter_context(
            progress(len(candidates) * (warm_up + rounds), title, unit="turn")
        )
        for turn in range(warm_up + rounds):
            for candidate in candidates:
                worker = workers.get(_process(candidate))
                if worker is not None and not problems[candidate.name]:
                    try:
                        took, peak = worker.work(candidate.call, burst)
                    except _Failed as failure:
                        if not candidate.requires:
                            raise DcignError(f"{candidate.name}: {failure}") from failure
                        problems[candidate.name] = f"failed: {failure}"
                    else:
                        peaks[candidate.name] = peak
                        if turn >= warm_up:
                            seconds[candidate.name] += took[skip:]
                bar.update()
    return {
        name: Outcome(name, problem=problem)
        if problem
        else Outcome(name, tuple(seconds[name]), peaks[name])
        for name, problem in problems.items()
    }


def peak_memory() -> int:
    """The most memory this process ever occupied (resident), in bytes."""
    try:
        # What getrusage tells on Linux, a process inherits from the one that started it.
        status = pathlib.Path("/proc/self/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    except (OSError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


def _process(candidate: Candidate) -> bytes:
    """What candidates that share a process have in common."""
    return pickle.dumps(candidate._replace(name="", call={}))


def _missing(candidate: Candidate) -> str:
    absent = [name for name in candidate.requires if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


class _Failed(Exception):
    """A worker could not do its work; the message is one line."""


class _Worker:
    """The parent's end of a worker."""

    def __init__(
        self,
        process: Any,
        connection: multiprocessing.connection.Connection,
        log: pathlib.Path,
    ) -> None:
        self._process, self._connection, self._log = process, connection, log
        self._failure = ""

    def work(self, call: Mapping[str, Any], count: int) -> tuple[list[float], int]:
        """Has the work done `count` times; the seconds of each, and the process's peak memory so far."""
        if self._failure:
            raise _Failed(self._failure)
        try:
            self._connection.send((dict(call), count))
            answer = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            answer = f"its process ended with status {self._process.exitcode}{self._last_words()}"
        if isinstance(answer, str):
            self._failure = answer
            raise _Failed(answer)
        return answer

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


@contextlib.contextmanager
def _worker(candidate: Candidate) -> Iterator[_Worker]:
    """Starts a worker, and ends it with the block."""
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    with tempfile.TemporaryDirectory(prefix="dcign-benchmark.") as folder:
        log = pathlib.Path(folder, "log")
        process = context.Process(
            target=_serve, args=(its, candidate, str(log)), name=candidate.name, daemon=True
        )
        process.start()
        its.close()
        try:
            yield _Worker(process, ours, log)
        finally:
            ours.close()
            process.join(_PATIENCE)
            process.kill()
            process.join()


def _serve(
    connection: multiprocessing.connection.Connection, candidate: Candidate, log: str
) -> None:
    """What a worker does: makes the candidate, then works whenever it is told to, until nobody is there to tell."""
    os.environ.update({**_ENVIRONMENT, **candidate.environment})
    with open(log, "w") as file:
        # Libraries greet on both; a table is to be read there.
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    with contextlib.suppress(EOFError, ConnectionError, KeyboardInterrupt):
        answer = _making(candidate)
        while True:
            connection.send(answer(*connection.recv()))


def _making(
    candidate: Candidate,
) -> Callable[[Mapping[str, Any], int], tuple[list[float], int] | str]:
    """Calls the factory; what it gives answers requests, with a line where it or its factory failed."""
    try:
        module, _, function = candidate.factory.partition(":")
        work = getattr(importlib.import_module(module), function)(**candidate.arguments)
    except Exception as error:
        failure = _in_a_line(error)
        return lambda call, count: failure

    def answer(call: Mapping[str, Any], count: int) -> tuple[list[float], int] | str:
        try:
            return _times(work, call, count), peak_memory()
        except Exception as error:  # Whatever it is, the parent tells it.
            return _in_a_line(error)

    return answer


def _times(work: Callable[..., Any], call: Mapping[str, Any], count: int) -> list[float]:
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        work(**call)
        seconds.append(time.perf_counter() - began)
    return seconds


def _in_a_line(error: Exception) -> str:
    lines = io.StringIO(str(error).strip()).readlines()
    return f"{type(error).__name__}: {lines[0].strip()[:200]}" if lines else type(error).__name__
