"""Image files of data sets: one at a time as grey bytes, and lists of them as `Images`."""

import dataclasses
import os
import re
from collections.abc import Callable

import numpy as np

from dcign_tf import images
from dcign_tf.errors import DcignError

# Packing reads as many images at once as there are cores; networks take images of some hundred pixels a side.
MAX_PIXELS = 1 << 24
SUFFIXES = (".png", ".jpg", ".jpeg")


def read_grey(
    data: bytes | str | os.PathLike[str], name: str | os.PathLike[str] | None = None
) -> np.ndarray:
    """Reads an image of a data set, given its bytes or its file's name, as `images.read_grey` does; uint8 [H, W].

    Args:
        data: the bytes of a PNG or JPEG, or its file's name.
        name: what to call it in errors, such as the archive and its member; the file's name by default.

    Raises:
        DcignError: it cannot be read, is no PNG or JPEG, is damaged, or has more than `MAX_PIXELS` pixels.
    """
    return images.read_grey(data, None if name is None else os.fspath(name), MAX_PIXELS)


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """Images in files of their own; implements `tables.Images`.

    Attributes:
        root: folder of all of them.
        names: of each image's file, within `root`.
    """

    root: str
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, row: int) -> np.ndarray:
        """See `tables.Images.read`."""
        return read_grey(os.path.join(self.root, self.names[row]))


def natural(name: str) -> tuple[tuple[tuple[int, str], ...], str]:
    """A key that sorts names as people count: batch2 before batch10."""
    # Splitting leaves texts at even places and digits at odd ones. Names that count alike (1, 01) sort as texts.
    counted = tuple(
        (int(part), "") if at % 2 else (-1, part)
        for at, part in enumerate(re.split("([0-9]{1,18})", name))
    )
    return counted, name


def folders_in(folder: str | os.PathLike[str]) -> list[str]:
    """Names of the folders in a folder, sorted naturally; hidden ones are passed over.

    Raises:
        DcignError: `folder` is none, or cannot be read.
    """
    return _names(folder, lambda entry: entry.is_dir())


def images_in(folder: str | os.PathLike[str]) -> list[str]:
    """Names of the PNG and JPEG files in a folder, sorted naturally; hidden ones are passed over.

    Raises:
        DcignError: `folder` is none, or cannot be read.
    """
    return _names(
        folder, lambda entry: entry.name.lower().endswith(SUFFIXES) and not entry.is_dir()
    )


def files_in(folder: str | os.PathLike[str]) -> list[str]:
    """Names of all that is in a folder and is no folder, sorted naturally; hidden ones are passed over.

    Raises:
        DcignError: `folder` is none, or cannot be read.
    """
    return _names(folder, lambda entry: not entry.is_dir())


def _names(folder: str | os.PathLike[str], wanted: Callable[[os.DirEntry[str]], bool]) -> list[str]:
    folder = os.fspath(folder)
    try:
        with os.scandir(folder) as entries:
            # Hidden files: what systems and editors leave beside images, such as ._image.png.
            names = [
                entry.name for entry in entries if not entry.name.startswith(".") and wanted(entry)
            ]
    except OSError as error:
        raise DcignError(f"{folder}: {error.strerror or error}; expected a folder") from error
    except ValueError as error:  # A zero byte in the name.
        raise DcignError(f"{folder!r}: not a folder's name ({error})") from error
    return sorted(names, key=natural)
