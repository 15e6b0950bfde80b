"""Files that appear whole or not at all, reading no more than fits, locks, and disks that are full."""

import contextlib
import errno
import io
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    """Opens a temporary file beside `path` that takes its name once it is complete and on disk.

    Args:
        path: the final name; a file of that name is replaced.
        mode: "wb" or "w" (UTF-8).

    Yields:
        The open file. When the block raises, the temporary file is removed and `path` left as it was.
    """
    target = pathlib.Path(path)
    handle, temporary = tempfile.mkstemp(
        prefix=f".{target.name}.", suffix=".tmp", dir=target.parent
    )
    try:
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def read_at_most(file: IO[bytes], count: int) -> bytes:
    """All that an open file holds, or its first `count` bytes if it holds more.

    The file's own `read(count)` would make room for `count` bytes however few there are.
    """
    content = io.BytesIO()
    while part := file.read(min(count - content.tell(), 1 << 20)):
        content.write(part)
    return content.getvalue()


def sync(path: str | os.PathLike[str]) -> None:
    """Waits until a file's content, or a folder's list of names, is on disk and would outlast a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(
    path: str | os.PathLike[str], taken: Callable[[], Exception], flags: int = os.O_RDONLY
) -> Iterator[int | None]:
    """Locks a file or folder for the length of a block.

    The kernel lets go of the lock with the block or the process, however that ends.

    Args:
        path: what to lock.
        taken: makes the error that is raised when another has the lock.
        flags: how to open it.

    Yields:
        Its descriptor; the only one by which this process may open it, for on a network's file systems closing
        another one would undo the lock. None on systems without locks: there, only the user keeps order.
    """
    try:
        import fcntl
    except ImportError:
        yield None
        return
    handle = os.open(path, flags, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise taken() from None
        except OSError:
            pass  # A file system without locks.
        yield handle
    finally:
        os.close(handle)


# A disk, a user's quota, a process's limit (ulimit -f).
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_full(error: BaseException) -> bool:
    """Whether an error says that no more can be written: Python's own, or TensorFlow's, whose words tell."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    of_tensorflow = any(kind.__name__ == "OpError" for kind in type(error).__mro__)
    return of_tensorflow and any(os.strerror(number) in str(error) for number in _FULL)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
