"""The data that the paper's authors released: mini-batches of 20 Basel faces in which one thing varies.

In one folder, four sets of mini-batches (github.com/willwhitney/dc-ign: cache_single_variation.lua, utils.lua), each
in one of two forms, of which the cached one is read where both are there:

    AZ_VARIED/face_<i>/*.png            20 images of 150 x 150 pixels; any names will do
    th_AZ_VARIED/FT_training/batch<i>   Torch7's float tensor [20, 1, 150, 150] in [0, 1]; 3000 of them
    th_AZ_VARIED/FT_test/batch<i>       350 of them

and the same for `EL_VARIED`, `LIGHT_AZ_VARIED` and `SHAPE_VARIED`. Which angles an image shows, nobody wrote down.
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from dcign_tf import images
from dcign_tf.code import INTRINSIC
from dcign_tf.datasets import pictures, t7
from dcign_tf.datasets.tables import FixedGroup, ImageTable
from dcign_tf.errors import DcignError, UsageError

SETS = {
    "AZ_VARIED": "azimuth",
    "EL_VARIED": "elevation",
    "LIGHT_AZ_VARIED": "light_azimuth",
    "SHAPE_VARIED": INTRINSIC,
}

_MAX_BATCH_BYTES = 64 << 20  # The authors' have 1.8 MB.
_BATCH_FILE = r"batch[0-9]{1,18}(\.t7)?"
_TOLERANCE = 1e-3  # By how much resizing and rounding may have left [0, 1].


def load(path: str, *, batch_size: int = 20) -> ImageTable:
    """Reads the authors' data; sets that are not there are left out, as `ImageTable.source` says.

    Each batch stays one group. `FT_training` and `FT_test` are for training and testing; sets without `FT_test`, as
    those in image files are, leave it open what is for testing. What is for validation the authors do not say.

    Args:
        path: folder of the sets.
        batch_size: images in each batch.

    Raises:
        UsageError: the option makes no sense.
        DcignError: there is no set in which an angle varies, or a batch is not whole; the message names it.
    """
    if not 2 <= batch_size <= 10_000:
        raise UsageError(f"--source_option=batch_size: got {batch_size}, must be 2 to 10000")
    there = set(pictures.folders_in(path))
    found: dict[str, list[_Batch]] = {}
    for name in SETS:
        if f"th_{name}" in there:
            found[name] = _cached(path, f"th_{name}", batch_size)
        elif name in there:
            found[name] = _pictured(path, name, batch_size)
    factors = tuple(SETS[name] for name in found if SETS[name] != INTRINSIC)
    if not factors:
        raise DcignError(
            f"{path}: holds no set of the authors' in which an angle varies; expected folders such as AZ_VARIED or "
            "th_AZ_VARIED"
        )
    batches = [(SETS[name], batch) for name, some in found.items() for batch in some]
    # Whose face it is nobody wrote down: batches of one number are taken to show the same, that they stay together.
    numbers: dict[tuple[str | None, int], int] = {}
    identity = [numbers.setdefault((b.split, b.number), len(numbers)) for _, b in batches]
    rows = np.arange(len(batches) * batch_size).reshape(-1, batch_size).tolist()
    return ImageTable(
        source=_source(found),
        images=_Images(
            path, tuple(file for _, batch in batches for file in batch.files), batch_size
        ),
        factors=factors,
        values=dict.fromkeys(factors, np.full(len(batches) * batch_size, np.nan)),
        units=dict.fromkeys(factors, "degrees"),
        periods={},
        identity=np.repeat(np.array(identity, np.int64), batch_size),
        groups=tuple(
            FixedGroup(batch.split, factor, tuple(rows[at]))
            for at, (factor, batch) in enumerate(batches)
        ),
    )


class _Batch(NamedTuple):
    """One mini-batch.

    Attributes:
        split: "train" or "test" where the authors say so.
        number: in the name of its file or folder.
        files: for each image the file it is in, within the folder of all sets.
    """

    split: str | None
    number: int
    files: tuple[str, ...]


def _pictured(path: str, name: str, batch_size: int) -> list[_Batch]:
    """The batches of a set whose images are in files of their own."""
    batches = []
    for at, folder in enumerate(pictures.folders_in(os.path.join(path, name))):
        names = pictures.images_in(os.path.join(path, name, folder))
        if len(names) != batch_size:
            raise DcignError(
                f"{os.path.join(path, name, folder)}: holds {len(names)} images, must be a mini-batch of {batch_size}"
            )
        number = re.search("[0-9]{1,18}$", folder)
        files = tuple(os.path.join(name, folder, image) for image in names)
        batches.append(_Batch(None, int(number[0]) if number else at, files))
    if not batches:
        raise DcignError(
            f"{os.path.join(path, name)}: empty; expected a folder of {batch_size} PNG images for each mini-batch"
        )
    return batches


def _cached(path: str, name: str, batch_size: int) -> list[_Batch]:
    """The batches of a set in Torch7's files."""
    there = pictures.folders_in(os.path.join(path, name))
    if "FT_training" not in there:
        raise DcignError(f"{os.path.join(path, name)}: has no folder FT_training")
    splits: dict[str, str | None] = {"FT_training": None}
    if "FT_test" in there:
        splits = {"FT_training": "train", "FT_test": "test"}
    batches = []
    sizes: set[int] = set()
    for part, split in splits.items():
        folder = os.path.join(path, name, part)
        files = [file for file in pictures.files_in(folder) if re.fullmatch(_BATCH_FILE, file)]
        if not files:
            raise DcignError(f"{folder}: holds no file batch1, batch2 and so on")
        for file in files:
            # Files of one size hold tensors of one shape: not all need be read now.
            place = os.path.join(folder, file)
            size = os.stat(place).st_size if os.path.exists(place) else -1
            if size not in sizes:
                _read_batch(place, batch_size)
                sizes.add(size)
            number = int(file.removeprefix("batch").removesuffix(".t7"))
            batches.append(_Batch(split, number, (os.path.join(name, part, file),) * batch_size))
    return batches


def _source(found: Mapping[str, list[_Batch]]) -> str:
    sets = ", ".join(f"{len(batches)} of {name}" for name, batches in found.items())
    missing = [name for name in SETS if name not in found]
    return f"mini-batches released by Kulkarni et al. (2015), who state no licence: {sets}" + (
        f"; without {', '.join(missing)}, not there" if missing else ""
    )


@dataclasses.dataclass(frozen=True)
class _Images:
    """Images in files of their own or in Torch7's; implements `tables.Images`."""

    root: str
    names: tuple[str, ...]
    batch_size: int

    def __len__(self) -> int:
        return len(self.names)

    def read(self, row: int) -> np.ndarray:
        path = os.path.join(self.root, self.names[row])
        if path.lower().endswith(pictures.SUFFIXES):
            return pictures.read_grey(path)
        place = row % self.batch_size
        image = _read_batch(path, self.batch_size)[place]
        # A NaN is neither above nor below.
        if not (image.min() >= -_TOLERANCE and image.max() <= 1 + _TOLERANCE):
            raise DcignError(
                f"{path}: image {place + 1}: has values from {image.min()} to {image.max()}, must be within 0 to 1"
            )
        if len(image) == 3:
            image = np.tensordot(images.GREY_OF_RGB, image, 1)
        return images.to_bytes(image.reshape(image.shape[-2:]))


def _read_batch(path: str, batch_size: int) -> np.ndarray:
    """The tensor in a file; [batch_size, 1 or 3, H, W]."""
    tensor = t7.read(path, _MAX_BATCH_BYTES)
    if not isinstance(tensor, np.ndarray) or tensor.dtype not in (np.float32, np.float64):
        raise DcignError(f"{path}: holds no tensor of floats, which a mini-batch is")
    size, channels, *sides = tensor.shape if tensor.ndim == 4 else (0, 0)
    if size != batch_size or channels not in (1, 3) or min(sides) < 1:
        shape = " x ".join(map(str, tensor.shape))
        raise DcignError(
            f"{path}: holds a tensor {shape}, must be {batch_size} x 1 x height x width"
        )
    return tensor
