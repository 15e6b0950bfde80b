"""A head of eight triangles and data sets small enough for quick tests."""

import functools
import pathlib

import numpy as np

from dcign_tf.datasets import rendering
from dcign_tf.datasets.scenes import FACTORS, MIXED, SPLITS, SceneConfig
from dcign_tf.scenes.morphable import MorphableModel

# Groups of each split, differing so that a mix-up shows.
GROUPS = {
    "train": {**dict.fromkeys(FACTORS, 5), MIXED: 3},
    "validation": {**dict.fromkeys(FACTORS, 1), MIXED: 2},
    "test": {**dict.fromkeys(FACTORS, 2), MIXED: 1},
}
GROUPS_PER_SHARD = 2


@functools.cache
def model() -> MorphableModel:
    """An octahedron that can be stretched along three axes and shaded in two ways, one of them one-sided."""
    corners = np.array(
        [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float32
    )
    triangles = [
        [0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5],
    ]  # fmt: skip
    stretches = np.stack([0.15 * corners * np.eye(3, dtype=np.float32)[axis] for axis in range(3)])
    return MorphableModel(
        mean_shape=corners,
        shape_modes=stretches,
        mean_albedo=np.full(6, 0.7),
        albedo_modes=np.stack([0.05 * np.ones(6), 0.2 * corners[:, 2]]),
        triangles=np.array(triangles),
        shape_mode_names=("width", "height", "depth"),
        albedo_mode_names=("shade", "front"),
        one_sided=np.array([False] * 4 + [True]),
        center=np.zeros(3),
        radius=1.5,
        name="octahedron",
        source="an octahedron made by a test",
    )


def config(folder: pathlib.Path, **changes: object) -> SceneConfig:
    """Scenes of the octahedron, which is saved in `folder`."""
    path = folder / "octahedron.npz"
    if not path.exists():
        model().save(path)
    settings = {
        "source": "morphable_model",
        "source_path": str(path),
        "image_size": 12,
        "group_size": 4,
        "supersample": 1,
        "seed": 7,
    }
    return SceneConfig.from_dict({**settings, **changes})


def dataset(folder: pathlib.Path) -> pathlib.Path:
    """A rendered data set inside `folder`."""
    directory = folder / "dataset"
    rendering.render_dataset(
        config(folder), directory, GROUPS, processes=1, groups_per_shard=GROUPS_PER_SHARD
    )
    return directory


def contents(directory: pathlib.Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones too."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


assert tuple(GROUPS) == SPLITS
