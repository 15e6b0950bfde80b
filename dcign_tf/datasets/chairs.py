"""The 3D chairs of Aubry et al., "Seeing 3D chairs" (CVPR 2014), the data of the paper's section 4.2.

The archive `rendered_chairs.tar` holds renders of 1393 chairs, 62 of each: 31 azimuths at each of two elevations,
600 x 600 pixels on white:

    rendered_chairs/all_chair_names.mat
    rendered_chairs/<chair>/renders/image_001_p020_t011_r096.png

p is the elevation in degrees, t the azimuth, r the distance. Azimuths are multiples of 360 / 31 degrees, of which
the names hold the whole part. `all_chair_names.mat` (MATLAB v5) has the cell arrays `folder_names`, the chairs,
and `instance_names`, the names of each chair's images.

The code's one factor is the azimuth. Elevation, distance and which chair it is are what the paper leaves
undifferentiated: constant while the azimuth varies, free while all else does. So a chair at an elevation is an
identity of the table, and the split keeps a chair's identities together.
"""

import dataclasses
import io
import itertools
import os
import pathlib
import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from dcign_tf import matlab
from dcign_tf.datasets import pictures, tars
from dcign_tf.datasets.tables import Images, ImageTable
from dcign_tf.errors import DcignError, UsageError

SOURCE = "3D chairs (Aubry et al. 2014; https://www.di.ens.fr/willow/research/seeing3Dchairs)"
# Of the published 1393 chairs about as many as the paper: 1200 to train with, 150 to test with.
CHAIRS, TEST, VALIDATION = 1393, 150, 43

_FOLDER = "rendered_chairs"
_NAMES = "all_chair_names.mat"
_RENDERS = "renders"
_MAX_NAMES_BYTES = (
    1 << 20
)  # The published one has a fifth of that; compressed, it could grow a thousandfold.
_VIEW = re.compile(r"image_[0-9]{1,6}_p([0-9]{3})_t([0-9]{3})_r([0-9]{3})\.png")


class _View(NamedTuple):
    """An image as its name tells it; sorts by chair, then by what the chair is seen from."""

    chair: str
    elevation: int
    distance: int
    azimuth: int
    name: str


@dataclasses.dataclass(frozen=True)
class Cropped:
    """The middle of other images; implements `tables.Images`.

    Attributes:
        images: the others.
        share: of their shorter side that is kept, centered; above 0 and at most 1.
    """

    images: Images
    share: float

    def __len__(self) -> int:
        return len(self.images)

    def read(self, row: int) -> np.ndarray:
        """See `tables.Images.read`."""
        image = self.images.read(row)
        height, width = image.shape
        side = max(1, round(min(height, width) * self.share))
        top, left = (height - side) // 2, (width - side) // 2
        return image[top : top + side, left : left + side]


def load(path: str, *, crop: float = 2 / 3, seed: int = 0) -> ImageTable:
    """Reads the 3D chairs.

    Args:
        path: `rendered_chairs.tar`, from which images are read where they lie; or the folder `rendered_chairs` that
            unpacking it makes, or the folder that holds that.
        crop: the middle share of each image's side that is kept. Chairs leave wide margins: 2 / 3, the central
            400 x 400 pixels, is what others cut out of these images, too. 1 keeps all.
        seed: decides which chairs are for training, validation and testing, 1200, 43 and 150 of all.

    Returns:
        A table with the factor azimuth, in degrees; its `source` tells how many views are missing, if any are.

    Raises:
        DcignError: there are no such images; a file or folder is damaged; the archive holds what it should not.
        UsageError: `crop` is out of range.
    """
    if not 0 < crop <= 1:
        raise UsageError(f"crop: got {crop:g}, must be above 0 and at most 1")
    images: Images
    if os.path.isdir(path):
        root = pathlib.Path(path)
        if (root / _FOLDER).is_dir():
            root /= _FOLDER
        views = _views(path, _names_in(root))
        images = pictures.ImageFiles(str(root), tuple(view.name for view in views))
        listed = [_listed(str(file), _content(file)) for file in (root / _NAMES,) if file.exists()]
    else:
        members = tars.index(path)
        views = _views(path, members)
        names = tuple(view.name for view in views)
        places = np.array([members[name] for name in names], np.int64)
        images = tars.TarImages(path, names, places)
        listed = [
            _listed(f"{path}: {name}", tars.read(path, name, member))
            for name, member in members.items()
            if name.rpartition("/")[2] == _NAMES
        ]
    return _table(views, images if crop == 1 else Cropped(images, crop), listed, seed)


def _names_in(root: pathlib.Path) -> Iterable[str]:
    """The image files of all chairs, within `root`."""
    for chair in pictures.folders_in(root):
        renders = root / chair / _RENDERS
        if renders.is_dir():
            for file in pictures.images_in(renders):
                yield f"{chair}/{_RENDERS}/{file}"


def _views(path: str, names: Iterable[str]) -> list[_View]:
    """The images among files of the given names, sorted."""
    views = []
    for name in names:
        *folders, file = name.split("/")
        found = _VIEW.fullmatch(file)
        if found and len(folders) >= 2 and folders[-1] == _RENDERS:
            elevation, azimuth, distance = map(int, found.groups())
            views.append(_View(folders[-2], elevation, distance, azimuth, name))
    if not views:
        raise DcignError(
            f"{path}: holds no 3D chairs; expected <chair>/{_RENDERS}/image_000_p020_t000_r096.png and the like, "
            f"in {_FOLDER}.tar or the folder {_FOLDER}"
        )
    views.sort()
    for one, next_one in itertools.pairwise(views):
        if one[:-1] == next_one[:-1]:
            raise DcignError(
                f"{path}: {one.name} and {next_one.name}: are the same view of one chair"
            )
    return views


def _table(
    views: list[_View], images: Images, listed: list[tuple[list[str], list[str]]], seed: int
) -> ImageTable:
    """The table of the given views and their images; `listed` are chairs and images that should be there."""
    chairs = sorted({view.chair for view in views})
    order = np.random.default_rng(seed).permutation(len(chairs))
    # Of fewer chairs the same shares, but of three and more at least one for each split.
    least = int(len(chairs) >= 3)
    test, validation = (max(least, round(n * len(chairs) / CHAIRS)) for n in (TEST, VALIDATION))
    split_of = dict.fromkeys(chairs, "train")
    for n, chair in enumerate(order):
        if n < test + validation:
            split_of[chairs[chair]] = "test" if n < test else "validation"
    identities: dict[tuple[str, int, int], int] = {}
    identity = [identities.setdefault(view[:3], len(identities)) for view in views]
    azimuth = np.array([view.azimuth for view in views], np.float64) % 360
    return ImageTable(
        source=_described(views, listed),
        images=images,
        factors=("azimuth",),
        values={"azimuth": azimuth},
        units={"azimuth": "degrees"},
        periods={"azimuth": 360.0},
        identity=np.array(identity, np.int64),
        split=tuple(split_of[view.chair] for view in views),
    )


def _described(views: list[_View], listed: list[tuple[list[str], list[str]]]) -> str:
    """Where the images come from, how many there are and how many should be."""
    found = {view.chair for view in views}
    chairs, seen_from = set(found), {view[1:4] for view in views}
    for folders, instances in listed:
        chairs.update(folders)
        matches = (_VIEW.fullmatch(instance) for instance in instances)
        seen_from.update((int(m[1]), int(m[3]), int(m[2])) for m in matches if m)
    text = f"{SOURCE}; {len(views)} images of {len(found)} chairs"
    if missing := len(chairs) * len(seen_from) - len(views):
        text += f"; {missing} images are missing"
        if chairs > found:
            text += f", all of {len(chairs) - len(found)} chairs among them"
    return text


def _content(file: pathlib.Path) -> bytes:
    try:
        with open(file, "rb") as stream:
            return stream.read(_MAX_NAMES_BYTES + 1)
    except OSError as error:
        raise DcignError(f"{file}: {error.strerror or error}") from error


def _listed(name: str, data: bytes) -> tuple[list[str], list[str]]:
    """The chairs and the image names in the content of an `all_chair_names.mat`."""
    if len(data) > _MAX_NAMES_BYTES:
        raise DcignError(
            f"{name}: larger than {_MAX_NAMES_BYTES >> 20} MiB, too large for two lists of names"
        )
    file = io.BytesIO(data)
    try:
        variables = matlab.index(file)
        return matlab.texts(file, variables, "folder_names"), matlab.texts(
            file, variables, "instance_names"
        )
    except ValueError as error:
        raise DcignError(f"{name}: not a MATLAB file of two lists of names: {error}") from error
