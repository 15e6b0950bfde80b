"""Anyone's mini-batches as folders of images: `<root>/<factor>/<group>/*.png`.

    renders/
      azimuth/anna/*.png     in each of these folders only the azimuth varies
      azimuth/bert/*.png
      smile/anna/*.jpg       in these only the smile
      intrinsic/a/*.png      in these all that has no name of its own

or the same below `train`, `validation` and `test`, to say what is for which. Groups of one name are taken to show the
same thing, and stay in one split. Names sort as people count; hidden files, and those that are no images by their
names, are passed over.
"""

import os
import re

import numpy as np

from dcign_tf.code import INTRINSIC
from dcign_tf.datasets import pictures
from dcign_tf.datasets.manifest import MIXED, SPLITS
from dcign_tf.datasets.tables import FixedGroup, ImageTable
from dcign_tf.errors import DcignError


def load(path: str) -> ImageTable:
    """Reads folders of mini-batches. Which factor varies is known; its true values are not.

    Args:
        path: the folder of all.

    Returns:
        The table; its factors are sorted by name.

    Raises:
        DcignError: a folder is not as it must be; the message names it.
    """
    tops: dict[str | None, str] = {None: ""}
    there = pictures.folders_in(path)
    if splits := [name for name in there if name in SPLITS]:
        others = [name for name in there if name not in SPLITS]
        if others:
            raise DcignError(
                f"{path}: has folders {splits[0]} and {others[0]}; either all must be splits ({', '.join(SPLITS)}), or "
                "all must be factors"
            )
        tops = {split: split for split in splits}
    files: list[str] = []
    groups: list[FixedGroup] = []
    identity: list[int] = []
    numbers: dict[tuple[str | None, str], int] = {}
    for split, top in tops.items():
        for factor in pictures.folders_in(os.path.join(path, top)):
            for name in _groups_of(path, os.path.join(top, factor)):
                folder = os.path.join(top, factor, name)
                images = pictures.images_in(os.path.join(path, folder))
                if len(images) < 2:
                    raise DcignError(
                        f"{os.path.join(path, folder)}: holds {len(images)} PNG or JPEG images, must be 2 or more for "
                        "something to vary"
                    )
                rows = range(len(files), len(files) + len(images))
                groups.append(FixedGroup(split, factor, tuple(rows)))
                files.extend(os.path.join(folder, image) for image in images)
                number = numbers.setdefault((split, name), len(numbers))
                identity.extend([number] * len(images))
    factors = tuple(sorted({group.factor for group in groups} - {INTRINSIC}))
    if not factors:
        raise DcignError(
            f"{path}: holds no mini-batches of a named factor; expected folders such as azimuth/1 with images"
        )
    return ImageTable(
        source="folders of mini-batches, of whoever gave them",
        images=pictures.ImageFiles(path, tuple(files)),
        factors=factors,
        values=dict.fromkeys(factors, np.full(len(files), np.nan)),
        units=dict.fromkeys(factors, ""),
        periods={},
        identity=np.array(identity, np.int64),
        groups=tuple(groups),
    )


def check_factor_name(name: str, where: str) -> None:
    """Checks that a factor can have this name.

    Raises:
        DcignError: it cannot; the message starts with `where`.
    """
    if not re.fullmatch("[a-z][a-z0-9_]{0,63}", name) or name == MIXED:
        raise DcignError(
            f"{where}: a factor's name must be lower-case letters, digits and underscores, a letter first, and not "
            f"{MIXED}"
        )


def _groups_of(path: str, folder: str) -> list[str]:
    """The folders of mini-batches of a factor."""
    place = os.path.join(path, folder)
    check_factor_name(os.path.basename(folder), place)
    if pictures.images_in(place):
        raise DcignError(f"{place}: has images; they must be in a folder for each mini-batch")
    groups = pictures.folders_in(place)
    if not groups:
        raise DcignError(f"{place}: empty; expected a folder of images for each mini-batch")
    return groups
