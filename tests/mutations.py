"""Damages files in many ways, and shows that what reads them only ever refuses them or gives something valid.

    def check(folder: pathlib.Path) -> None:  # In a test's module, where a child process can import it.
        table = chairs.load(str(folder / "rendered_chairs.tar"))
        assert ...

    @pytest.mark.slow
    def test_mutated_archives(tmp_path):
        ...  # writes a whole data set into tmp_path / "data"
        report = mutations.run(check, tmp_path / "data", ["rendered_chairs.tar"], count=1000)
        print(report)
        assert not report.problems, report
        assert report.valid and report.refused

`check` reads the data set as a user would, and raises a `DcignError` when that is refused. All else that goes wrong is
a problem: any other exception, a crash, more memory or time than allowed, a file written, changed or left outside
of `folder`, a process started, a connection made, an object unpickled.
"""

import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import random
import re
import resource
import shutil
import struct
import sys
import tempfile
import traceback
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

from dcign_tf.errors import DcignError

_NUMBERS = (0, 1, 2, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**60, 2**63 - 1)
_TEXTS = (
    b"0",
    b"-1",
    b"1e999",
    b"nan",
    b"inf",
    b"9" * 30,
    b"",
    b"\0",
    b"../../etc/passwd",
    b"\xff\xfe",
)
_ENOUGH = 20  # problems
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to four damages of any kind; half of them near the beginning, where formats keep what they say of the rest.

    Bits flipped, bytes overwritten, cut off, taken out, doubled, moved, put in, numbers of 1 to 8 bytes and either
    order replaced by absurd ones, numbers in text replaced by what is no number. The result differs from `data`.
    """
    content = data
    while content == data:
        for _ in range(rng.randint(1, 4)):
            content = rng.choice(_DAMAGES)(content, rng)
    return content


def mend_png(data: bytes) -> bytes:
    """Mends the checksums of a PNG's chunks, so that what was changed is not just refused for them."""
    mended, at = data[:8], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if at + 12 + length > len(data):
            break
        chunk = data[at + 4 : at + 8 + length]
        mended += struct.pack(">I", length) + chunk + struct.pack(">I", zlib.crc32(chunk))
        at += 12 + length
    return mended + data[at:]


def _place(data: bytes, rng: random.Random) -> int:
    return rng.randrange(min(len(data), rng.choice((64, 512, 1 << 62, 1 << 62))) or 1)


def _length(rng: random.Random) -> int:
    return int(2 ** rng.uniform(0, 12))


def _flip(data: bytes, rng: random.Random) -> bytes:
    content = bytearray(data)
    at = _place(data, rng)
    content[at : at + 1] = bytes(byte ^ (1 << rng.randrange(8)) for byte in content[at : at + 1])
    return bytes(content)


def _overwrite(data: bytes, rng: random.Random) -> bytes:
    at, length = _place(data, rng), rng.randint(1, 16)
    filler = rng.choice((rng.randbytes(length), b"\0" * length, b"\xff" * length))
    return data[:at] + filler + data[at + length :]


def _truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: _place(data, rng)]


def _remove(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + _length(rng) :]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at, length = _place(data, rng), _length(rng)
    return data[:at] + rng.choice((rng.randbytes(length), b"\0" * length)) + data[at:]


def _splice(data: bytes, rng: random.Random) -> bytes:
    """What stands at one place is put at another, over what is there or before it."""
    start, at, length = _place(data, rng), _place(data, rng), _length(rng)
    return data[:at] + data[start : start + length] + data[at + rng.choice((0, length)) :]


def _absurd_number(data: bytes, rng: random.Random) -> bytes:
    at, size = _place(data, rng), rng.choice((1, 2, 4, 8))
    order: Literal["little", "big"] = "little" if rng.random() < 0.5 else "big"
    present = int.from_bytes(data[at : at + size], order)
    number = rng.choice((*_NUMBERS, -1, -2, present - 1, present + 1, present * 2))
    value = (number % 2 ** (8 * size)).to_bytes(size, order)
    return data[:at] + value + data[at + size :]


def _absurd_float(data: bytes, rng: random.Random) -> bytes:
    at, kind = _place(data, rng), rng.choice("fd")
    value = struct.pack("<" + kind, rng.choice((float("nan"), float("inf"), -1e30, 1e-30)))
    return data[:at] + value + data[at + len(value) :]


def _absurd_text(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    found = re.compile(rb"[0-9]+").search(data, at)
    if found is None:
        return data
    return data[: found.start()] + rng.choice(_TEXTS) + data[found.end() :]


_DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip,
    _flip,
    _overwrite,
    _truncate,
    _remove,
    _insert,
    _splice,
    _absurd_number,
    _absurd_number,
    _absurd_float,
    _absurd_text,
)


@dataclasses.dataclass
class Report:
    """What became of the mutants.

    Attributes:
        valid: how many were read, with a valid result.
        refused: how many were refused with a `DcignError`.
        messages: some of the errors' texts, each the first of its kind.
        problems: a line or more for each mutant that did what none may do.
    """

    valid: int = 0
    refused: int = 0
    messages: dict[str, str] = dataclasses.field(default_factory=dict)
    problems: list[str] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.valid} read, {self.refused} refused, {len(self.problems)} problems"]
        return "\n".join((*lines, *self.problems[:10], *list(self.messages.values())[:12]))


def mutant(data: bytes, index: int, seed: int = 0, mutator: Any = mutate) -> bytes:
    """Mutant `index` of a run over a file of this content."""
    return bytes(mutator(data, random.Random(f"{seed} {index}")))


def run(
    check: Callable[[pathlib.Path], object],
    folder: pathlib.Path,
    victims: Sequence[str],
    count: int,
    seed: int = 0,
    megabytes: int = 256,
    seconds: float = 10,
    mutator: Callable[[bytes, random.Random], bytes] = mutate,
) -> Report:
    """Runs `check` on `count` copies of a data set, in each of which one file is damaged.

    All run in a child process that is started again should it crash or hang; the folder itself is not touched.

    Args:
        check: called with the damaged folder, which has the same name; a function that a child process can import.
        folder: a data set on which `check` succeeds.
        victims: files in it that are damaged in turn.
        count: how many mutants.
        seed: of the damages.
        megabytes: memory that one reading may take beyond what the process has after reading the undamaged data set.
        seconds: how long one reading may take.
        mutator: damages a file's content.

    Returns:
        What became of them.
    """
    report = Report()
    arguments = (check, folder, list(victims), count, seed, megabytes, mutator)
    index = 0
    while index < count and len(report.problems) < _ENOUGH:
        with _Child(index, *arguments) as child:
            # Starting and the first reading import and compile.
            kind, text = child.told(seconds + 120)
            if kind != "read":
                report.problems.append(f"the undamaged data set: {text}")
                return report
            while index < count and kind != "lost":
                kind, text = child.told(seconds)
                if kind == "read":
                    report.valid += 1
                elif kind == "refused":
                    report.refused += 1
                    report.messages.setdefault(re.sub("[0-9]+", "#", text)[-60:], text)
                else:
                    name = victims[index % len(victims)]
                    report.problems.append(f"mutant {index} of {name}, seed {seed}: {text}")
                index += 1
    return report


class _Child:
    """A process that reads mutants from a number on, and tells of each what became of it."""

    def __init__(self, start: int, check: Any, folder: pathlib.Path, *arguments: Any) -> None:
        self._room = tempfile.TemporaryDirectory()
        room = pathlib.Path(self._room.name)
        for name in ("data", "elsewhere", "temporary"):
            (room / name).mkdir()
        copy = room / "data" / folder.name
        shutil.copytree(folder, copy, symlinks=True)
        context = multiprocessing.get_context("spawn")
        self._pipe, sender = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_work, args=(sender, start, check, copy, *arguments), daemon=True
        )
        self._process.start()
        sender.close()

    def told(self, seconds: float) -> tuple[str, str]:
        """What became of the next one, and a text; "lost" when the process hangs or died."""
        try:
            if self._pipe.poll(seconds):
                kind, text = self._pipe.recv()
                return kind, text
            return "lost", f"took more than {seconds} s"
        except (EOFError, ConnectionError):
            self._process.join()
            return "lost", f"the process died with status {self._process.exitcode}"

    def __enter__(self) -> "_Child":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()
        self._room.cleanup()


_CHANGES = (
    "os.chmod",
    "os.chown",
    "os.link",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.truncate",
    "os.utime",
)
_NEVER = (
    "marshal.loads",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.system",
    "pickle.find_class",
    "socket.connect",
    "subprocess.Popen",
)


class Forbidden(BaseException):
    """A reader did what none may do. Not an `Exception`: no reader may pass over it."""


def _work(
    pipe: multiprocessing.connection.Connection,
    start: int,
    check: Callable[[pathlib.Path], object],
    folder: pathlib.Path,
    victims: list[str],
    count: int,
    seed: int,
    megabytes: int,
    mutator: Any,
) -> None:
    """What the child does."""
    room = folder.parent.parent
    os.chdir(room / "elsewhere")
    os.environ["TMPDIR"] = tempfile.tempdir = str(room / "temporary")
    originals = {name: (folder / name).read_bytes() for name in victims}
    before = _tree(room)
    watch = _Watch(room)
    first = _outcome(check, folder)  # Imports and compiles, which takes memory and writes caches.
    pipe.send(_watched(check, folder, watch, before) if first[0] == "read" else first)
    limit = _address_space() + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    for index in range(start, count):
        name = victims[index % len(victims)]
        (folder / name).write_bytes(mutant(originals[name], index, seed, mutator))
        before = _tree(room)
        pipe.send(_watched(check, folder, watch, before))
        (folder / name).write_bytes(originals[name])


def _watched(
    check: Callable[[pathlib.Path], object],
    folder: pathlib.Path,
    watch: "_Watch",
    before: set[tuple[str, int]],
) -> tuple[str, str]:
    with watch:
        told = _outcome(check, folder)
    if watch.seen:
        return "problem", "; ".join(watch.seen)
    changed = sorted(path for path, _ in _tree(folder.parent.parent) ^ before)
    if changed:
        return "problem", f"left or changed {', '.join(changed[:5])}"
    return told


def _outcome(check: Callable[[pathlib.Path], object], folder: pathlib.Path) -> tuple[str, str]:
    try:
        check(folder)
    except DcignError as error:
        text = str(error)
        if not text or "\n" in text or len(text) > 2000:
            return "problem", f"a refusal that is no line of text: {text[:200]!r}"
        return "refused", text
    except BaseException:
        return "problem", traceback.format_exc(limit=-4)
    return "read", ""


class _Watch:
    """Python's audit events while a reader is at work; they cannot be turned off, only passed over."""

    def __init__(self, room: pathlib.Path) -> None:
        self.seen: list[str] = []
        self._room = os.path.realpath(room) + os.sep
        self._on = False
        sys.addaudithook(self._hook)

    def __enter__(self) -> None:
        self.seen.clear()
        self._on = True

    def __exit__(self, *_: object) -> None:
        self._on = False

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._on:
            return
        if event == "open":
            path, _, flags = arguments
            wrong = bool(flags & _WRITING) and isinstance(path, str | bytes) and self._outside(path)
        elif event in _CHANGES:
            wrong = any(
                isinstance(path, str | bytes) and self._outside(path) for path in arguments[:2]
            )
        else:
            wrong = event in _NEVER
        if wrong and not self._importing():
            self.seen.append(f"{event} {arguments!r:.200}")
            raise Forbidden(self.seen[-1])

    def _outside(self, path: str | bytes) -> bool:
        if path in ("/dev/null", b"/dev/null"):
            return False
        return not os.path.realpath(os.fsdecode(path)).startswith(self._room)

    def _importing(self) -> bool:
        """Whether a module is being imported: that reads and writes compiled code."""
        frame: Any = sys._getframe(2)
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                return True
            frame = frame.f_back
        return False


def _tree(folder: pathlib.Path) -> set[tuple[str, int]]:
    """All files and folders below one, with the files' sizes."""
    found = set()
    for top, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(top, name)
            found.add(
                (os.path.relpath(path, folder), os.lstat(path).st_size if name in files else -1)
            )
    return found


def _address_space() -> int:
    """How much of its address space this process uses, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
