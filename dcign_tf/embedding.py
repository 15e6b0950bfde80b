"""What TensorBoard's projector shows: the codes of images, each as its picture, with what is known of it.

The projector reads, from the folder of a run, `projector_config.pbtxt`, which names a table of points, a table of
their labels, and one picture of all their pictures.
"""

import math
import os
import pathlib
from collections.abc import Mapping

import numpy as np

from dcign_tf import files, images

MOST = 1000  # Points that a browser moves smoothly.

_CONFIG = "projector_config.pbtxt"
_POINTS, _LABELS, _SPRITE = "codes.tsv", "codes_labels.tsv", "codes.png"
_LARGEST_SPRITE = 8192  # Side in pixels; larger ones the projector does not show.
_SIDE = 48


def write(
    folder: str | os.PathLike[str],
    codes: np.ndarray,
    pictures: np.ndarray,
    values: Mapping[str, np.ndarray],
) -> None:
    """Writes an embedding into the folder of a run's summaries; one that is there is replaced.

    Args:
        folder: as TensorBoard's `--logdir` shows it.
        codes: [N, L].
        pictures: what they are the codes of, uint8 or float in [0, 1], [N, S, S, 1].
        values: for some factors their values, [N]; NaN where nobody knows one.

    Raises:
        ValueError: the numbers of codes, pictures and values differ, or there are none.
    """
    count = len(codes)
    if not count or {count} != {len(pictures), *map(len, values.values())}:
        raise ValueError(
            f"codes, pictures, values: got {count}, {len(pictures)} and {[*map(len, values.values())]}, must be as "
            "many of each, at least one"
        )
    folder = pathlib.Path(folder)
    side = min(_SIDE, pictures.shape[1], _LARGEST_SPRITE // math.ceil(math.sqrt(count)))
    folder.mkdir(parents=True, exist_ok=True)
    with files.atomic_write(folder / _POINTS, "w") as file:
        np.savetxt(file, codes, "%.6g", "\t")
    with files.atomic_write(folder / _LABELS, "w") as file:
        file.write(_labels(count, values))
    images.write_png(folder / _SPRITE, _sprite(pictures, side))
    # The list of files comes last, when they are there.
    with files.atomic_write(folder / _CONFIG, "w") as file:
        file.write(
            "embeddings {\n"
            '  tensor_name: "codes"\n'
            f'  tensor_path: "{_POINTS}"\n'
            f"  tensor_shape: {count}\n"
            f"  tensor_shape: {codes.shape[1]}\n"
            f'  metadata_path: "{_LABELS}"\n'
            "  sprite {\n"
            f'    image_path: "{_SPRITE}"\n'
            f"    single_image_dim: {side}\n"
            f"    single_image_dim: {side}\n"
            "  }\n"
            "}\n"
        )


def _labels(count: int, values: Mapping[str, np.ndarray]) -> str:
    """A table with a line for each point, behind a line of names."""
    columns = {"image": [str(number) for number in range(count)]}
    for factor, column in values.items():
        columns[factor] = ["" if math.isnan(value) else f"{value:.4g}" for value in column]
    rows = zip(*columns.values(), strict=True)
    return "\n".join("\t".join(row) for row in [tuple(columns), *rows]) + "\n"


def _sprite(pictures: np.ndarray, side: int) -> np.ndarray:
    """All pictures in one, row by row in a square of squares; uint8 [R side, R side]."""
    across = math.ceil(math.sqrt(len(pictures)))
    sheet = np.zeros([across, side, across, side], np.uint8)
    for number, picture in enumerate(images.to_bytes(pictures)):
        small = images.resize(picture[..., 0] / np.float32(255), side)
        sheet[number // across, :, number % across] = images.to_bytes(small)
    return sheet.reshape(across * side, across * side)
