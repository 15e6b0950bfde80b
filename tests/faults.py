"""Real faults, for tests to do: damaged files, full disks."""

import contextlib
import os
import pathlib
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator

import pytest

_DATA = "state.data-00000-of-00001"


def flip(path: pathlib.Path, bit: int) -> None:
    """Turns one bit of a file around."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def _flip_in_the_middle(path: pathlib.Path) -> None:
    flip(path, 4 * path.stat().st_size)


def _cut(path: pathlib.Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: pathlib.Path) -> None:
    os.truncate(path, 0)


def _zero_the_end(path: pathlib.Path) -> None:
    """What a power cut leaves of a file whose size, but not its content, reached the disk."""
    size = path.stat().st_size
    os.truncate(path, size // 2)
    os.truncate(path, size)


def _one_line_less(path: pathlib.Path) -> None:
    path.write_text(path.read_text().splitlines(keepends=True)[0])


def _of_file(name: str, damage: Callable[[pathlib.Path], object]) -> Callable[[pathlib.Path], str]:
    def work(checkpoint: pathlib.Path) -> str:
        damage(checkpoint / name)
        return name

    return work


def _sums_cut_to_a_line(checkpoint: pathlib.Path) -> str:
    _one_line_less(checkpoint / "SHA256SUMS")
    return "state.index"  # The second line's file is there, and nothing says what it must be.


def _emptied(checkpoint: pathlib.Path) -> str:
    for file in checkpoint.iterdir():
        file.unlink()
    return "SHA256SUMS"


def _a_file_too_many(checkpoint: pathlib.Path) -> str:
    shutil.copyfile(checkpoint / _DATA, checkpoint / "state.data-00001-of-00002")
    return "state.data-00001-of-00002"


def _a_file_in_its_place(checkpoint: pathlib.Path) -> str:
    shutil.rmtree(checkpoint)
    checkpoint.write_bytes(b"")
    return ""


DAMAGES: dict[str, Callable[[pathlib.Path], str]] = {
    "bit flipped in the data": _of_file(_DATA, _flip_in_the_middle),
    "bit flipped in the index": _of_file("state.index", _flip_in_the_middle),
    "bit flipped in the checksums": _of_file("SHA256SUMS", _flip_in_the_middle),
    "data cut off": _of_file(_DATA, _cut),
    "data half written": _of_file(_DATA, _zero_the_end),
    "data empty": _of_file(_DATA, _empty),
    "index cut off": _of_file("state.index", _cut),
    "checksums cut off": _of_file("SHA256SUMS", _cut),
    "checksums cut off at a line": _sums_cut_to_a_line,
    "checksums empty": _of_file("SHA256SUMS", _empty),
    "data missing": _of_file(_DATA, pathlib.Path.unlink),
    "index missing": _of_file("state.index", pathlib.Path.unlink),
    "checksums missing": _of_file("SHA256SUMS", pathlib.Path.unlink),
    "all files missing": _emptied,
    "a file too many": _a_file_too_many,
    "a file in its place": _a_file_in_its_place,
}
"""Each damages a checkpoint and returns the name of the file that must be told."""


def can_mount() -> bool:
    """Whether this process may mount file systems."""
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.suppress(OSError, subprocess.CalledProcessError),
        small_disk(folder, "1m"),
    ):
        return True
    return False


@contextlib.contextmanager
def small_disk(folder: str | os.PathLike[str], size: str) -> Iterator[pathlib.Path]:
    """A file system of this size, as `mount -t tmpfs` knows sizes, in a new folder within `folder`."""
    disk = pathlib.Path(folder, "disk")
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def resize(disk: pathlib.Path, size: str) -> None:
    """Gives a small disk another size."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


needs_mount = pytest.mark.skipif(
    not can_mount(), reason="may not mount file systems: .ci/run runs it as root on Linux"
)


@contextlib.contextmanager
def limited_files(size: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
