"""What a reader of somebody's images gives: the images, and what is known of each.

A reader (one file of this package for each format) turns files into an `ImageTable`. Forming mini-batches, splitting
by identity, resizing and packing into records are then the same for all of them.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np


class Images(Protocol):
    """Images to be had one at a time, by any process: implementations can be pickled."""

    def __len__(self) -> int: ...

    def read(self, row: int) -> np.ndarray:
        """Image `row` in grey as it is stored, before cropping and resizing; uint8 [H, W].

        Raises:
            DcignError: it cannot be read; the message names the file, and the member of an archive.
        """
        ...


class FixedGroup(NamedTuple):
    """Images that the data themselves put into one mini-batch.

    Attributes:
        split: "train", "validation" or "test"; None leaves it to the packer.
        factor: the name of the factor that varies, "intrinsic" for all that has no name.
        rows: which images.
    """

    split: str | None
    factor: str
    rows: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class ImageTable:
    """N images and what is known of them.

    Attributes:
        source: where they come from and under which licence, in a line.
        images: the images.
        factors: names of the extrinsic factors in the order of the code's latents: lower-case identifiers.
        values: for each factor its true value in each image, float64 [N], degrees for angles; NaN where nobody knows.
        units: for each factor its unit, "degrees" for angles, "" for pure numbers.
        periods: for those factors that close (360 for a full turn in degrees), their period in that unit.
        identity: int64 [N], what each image shows apart from the factors; images of one identity are never in two
            splits. All zeros where there is one identity only.
        split: for each image, its split, where the data prescribe one; None elsewhere.
        groups: the mini-batches that the data come in; None where they are to be formed from the values.
    """

    source: str
    images: Images
    factors: tuple[str, ...]
    values: Mapping[str, np.ndarray]
    units: Mapping[str, str]
    periods: Mapping[str, float]
    identity: np.ndarray
    split: tuple[str, ...] | None = None
    groups: tuple[FixedGroup, ...] | None = None
