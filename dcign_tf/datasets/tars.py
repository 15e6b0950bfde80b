"""Files inside uncompressed tar archives, read where they lie: nothing is unpacked.

An archive is somebody else's: members that would be written outside of where it is unpacked, links, devices,
sparse files and names given twice have no place among images, and are refused before anything is read.
"""

import dataclasses
import io
import os
import tarfile
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dcign_tf.datasets import pictures
from dcign_tf.errors import DcignError

MAX_MEMBERS = 1 << 18
MAX_BYTES = 1 << 26  # of one member; an image larger than that is none

_BLOCK = tarfile.BLOCKSIZE
_MAX_HEADER = 1 << 20
_COMPRESSED = {
    b"\x1f\x8b\x08": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
}


class Member(NamedTuple):
    """Where a file lies in an archive: its bytes are `size` from `offset` on."""

    offset: int
    size: int


def index(path: str | os.PathLike[str]) -> dict[str, Member]:
    """Finds the regular files of an archive by reading its headers.

    Args:
        path: a tar archive: POSIX, GNU or the old kind, not compressed.

    Returns:
        For each file's name, without a leading "./", its place, in the order of the archive.

    Raises:
        DcignError: the archive cannot be read, is damaged or cut short, or holds what archives of images do not.
    """
    path = os.fspath(path)
    try:
        with _Headers(path) as file:
            start = file.read(_BLOCK)
            for magic, tool in _COMPRESSED.items():
                if start.startswith(magic):
                    raise DcignError(
                        f"{path}: a compressed archive, in which files cannot be found without unpacking it; "
                        f"run `{tool} {path}` first"
                    )
            return dict(_members(path, file))
    except OSError as error:
        raise DcignError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:  # A zero byte in the name.
        raise DcignError(f"{path!r}: not a file's name ({error})") from error


def read(path: str | os.PathLike[str], name: str, member: Member) -> bytes:
    """Reads one file of an archive.

    Raises:
        DcignError: it cannot be read; the message names the archive and the member.
    """
    try:
        with open(path, "rb") as file:
            file.seek(member.offset)
            data = file.read(member.size)
    except OSError as error:
        raise DcignError(f"{path}: {name}: {error.strerror or error}") from error
    if len(data) < member.size:
        raise DcignError(f"{path}: {name}: is cut short; the archive has changed meanwhile")
    return data


@dataclasses.dataclass(frozen=True, eq=False)
class TarImages:
    """Images in an archive; implements `tables.Images`.

    Attributes:
        path: of the archive.
        names: of each image's member.
        places: int64 [N, 2], offset and size of each.
    """

    path: str
    names: tuple[str, ...]
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def read(self, row: int) -> np.ndarray:
        """See `tables.Images.read`."""
        offset, size = self.places[row].tolist()
        data = read(self.path, self.names[row], Member(offset, size))
        return pictures.read_grey(data, f"{self.path}: {self.names[row]}")


class _Headers(io.FileIO):
    """What tarfile may read of an archive: headers, but nothing so long that it must be a lie."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size) or b""


def _members(path: str, file: io.FileIO) -> Iterator[tuple[str, Member]]:
    """Names and places of the regular files."""
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    seen: set[str] = set()
    try:
        # Names that are not UTF-8 must still be fit to be printed.
        with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="replace") as archive:
            for member in archive:
                name = _checked_name(path, member)
                if name in seen:
                    raise DcignError(f"{path}: {name}: is in the archive twice")
                seen.add(name)
                if len(seen) > MAX_MEMBERS:
                    raise DcignError(f"{path}: has more than {MAX_MEMBERS} members")
                if not member.isreg():
                    continue
                offset, size = member.offset_data, member.size
                if not (0 <= offset <= end and 0 <= size <= end - offset):
                    raise DcignError(
                        f"{path}: {name}: is cut short; the archive is damaged or its download incomplete"
                    )
                if size > MAX_BYTES:
                    raise DcignError(
                        f"{path}: {name}: has {size} bytes; at most {MAX_BYTES >> 20} MiB are read"
                    )
                yield name, Member(offset, size)
            # tarfile stops without a word at a header that it cannot read.
            file.seek(archive.offset)
            if file.read(_BLOCK) != bytes(_BLOCK):
                raise DcignError(
                    f"{path}: ends without the mark at the end of a tar archive, after {len(seen)} members; it "
                    "is damaged or its download incomplete"
                )
    except (DcignError, OSError, MemoryError):
        raise
    # Damaged archives are answered with a dozen kinds of exceptions.
    except Exception as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DcignError(f"{path}: not a tar archive, or a damaged one ({detail})") from error


def _checked_name(path: str, member: tarfile.TarInfo) -> str:
    """A member's name without "./", once it has proved harmless."""
    name = member.name
    if name.startswith("/") or ".." in name.split("/") or "\0" in name:
        raise DcignError(f"{path}: {name!r}: is a name outside the archive's own folder")
    if member.issym() or member.islnk():
        raise DcignError(f"{path}: {name}: is a link; only files and folders belong in here")
    if member.issparse():
        raise DcignError(f"{path}: {name}: is a sparse file; only plain ones can be read")
    if not (member.isreg() or member.isdir()):
        raise DcignError(f"{path}: {name}: is a device; only files and folders belong in here")
    while name.startswith("./"):
        name = name[2:]
    return name
