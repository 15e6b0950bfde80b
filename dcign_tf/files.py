"""Files that appear whole or not at all, and reading no more than fits."""

import contextlib
import io
import os
import pathlib
import tempfile
from collections.abc import Iterator
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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
