"""Images with factors of unusual names, as tables: bars that spin and scale, each of a gray and a width of its own."""

import itertools
import pathlib

import numpy as np
from PIL import Image

from dcign_tf.datasets.tables import FixedGroup, ImageTable

SPINS = tuple(range(0, 360, 30))
SCALES = (0.5, 0.75, 1.0)
HEIGHT, WIDTH = 40, 48


def bar(identity: int, spin: float, scale: float) -> np.ndarray:
    """A bar with a thick end, turned about the image's middle; uint8 [40, 48]."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5 - np.array([HEIGHT, WIDTH])[:, None, None] / 2
    turn = np.radians(spin)
    along = (np.cos(turn) * x - np.sin(turn) * y) / scale
    across = np.abs(np.sin(turn) * x + np.cos(turn) * y) / scale
    width = 3 + identity % 3 + 2 * (along > 8)
    inside = (np.abs(along) < 16) & (across < width)
    return np.where(inside, 255 - 9 * identity, 20).astype(np.uint8)


class Bars:
    """The images of rows of (identity, spin, scale), drawn when asked for; implements `tables.Images`."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, row: int) -> np.ndarray:
        identity, spin, scale = self._rows[row]
        return bar(int(identity), spin, scale)


class Files:
    """Images in the PNG files of a folder; implements `tables.Images`."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def read(self, row: int) -> np.ndarray:
        return np.asarray(Image.open(self.names[row]))


def rows(identities: int = 12) -> np.ndarray:
    """All combinations of identity, spin and scale; float64 [N, 3]."""
    return np.array(list(itertools.product(range(identities), SPINS, SCALES)), np.float64)


def table(identities: int = 12, **changes: object) -> ImageTable:
    """The table of all bars."""
    return table_of(rows(identities), **changes)


def table_of(some: np.ndarray, **changes: object) -> ImageTable:
    """A table of rows of (identity, spin, scale)."""
    given: dict = {
        "source": "bars made by a test",
        "images": Bars(some),
        "factors": ("spin", "scale"),
        "values": {"spin": some[:, 1], "scale": some[:, 2]},
        "units": {"spin": "degrees", "scale": ""},
        "periods": {"spin": 360.0},
        "identity": some[:, 0].astype(np.int64),
    }
    return ImageTable(**(given | changes))


def write(folder: pathlib.Path, identities: int = 12) -> pathlib.Path:
    """The images as PNG files named by what they show."""
    folder.mkdir()
    for identity, spin, scale in rows(identities):
        name = f"{identity:.0f}_{spin:.0f}_{scale:.2f}.png"
        Image.fromarray(bar(int(identity), spin, scale)).save(folder / name)
    return folder


def load(path: str, known: bool = True, seed: int = 0) -> ImageTable:
    """A reader of such folders; `known` is whether it tells true values."""
    del seed
    names = sorted(pathlib.Path(path).glob("*.png"))
    shown = np.array([[float(part) for part in name.stem.split("_")] for name in names])
    files = Files(tuple(map(str, names)))
    if known:
        return table_of(shown, images=files)
    unknown = np.full(len(names), np.nan)
    return table_of(
        shown,
        images=files,
        values={"spin": unknown, "scale": unknown},
        groups=fixed_groups(shown),
    )


def fixed_groups(some: np.ndarray) -> tuple[FixedGroup, ...]:
    """Rows of (identity, spin, scale) put into the groups in which one factor varies."""
    groups = []
    for factor, alike in (("spin", [0, 2]), ("scale", [0, 1]), ("intrinsic", [1, 2])):
        for key in np.unique(some[:, alike], axis=0):
            members = np.flatnonzero((some[:, alike] == key).all(axis=1))
            groups.append(FixedGroup(None, factor, tuple(members.tolist())))
    return tuple(groups)
