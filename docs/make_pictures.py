"""Makes the README's pictures: faces and chairs straight from the renderer, and those that runs left behind.

python docs/make_pictures.py [path of ICT-FaceKit]
"""

import pathlib
import shutil
import sys

import numpy as np

from dcign_tf import images
from dcign_tf.datasets.chair_scenes import AZIMUTHS, ELEVATIONS, ChairConfig, ChairSampler
from dcign_tf.scenes import builtin_chair, load_source
from dcign_tf.scenes.morphable import MorphableModel
from dcign_tf.scenes.render import render

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PICTURES = _ROOT / "docs" / "pictures"
_FROM_RUNS = {
    "faces_ict/turned_and_raised.png": "turned_and_raised.png",
    "faces_ict/relit.png": "relit.png",
    "faces_ict/evaluation/inference.png": "inference_faces_ict.png",
    "faces_ict/evaluation/sweep_azimuth.png": "sweep_azimuth_faces_ict.png",
    "faces_ict/evaluation/sweep_elevation.png": "sweep_elevation_faces_ict.png",
    "faces_ict/evaluation/sweep_light_azimuth.png": "sweep_light_azimuth_faces_ict.png",
}


def eight_faces(model: MorphableModel, seed: int) -> np.ndarray:
    """Eight random draws, lit from the viewer's right; float32 [S, 8 S] in [0, 1]."""
    people = model.draw(np.random.default_rng(seed), 8)
    front = np.zeros(8)
    faces = render(model, people, front, front, front + 25.0, 150, supersample=3)
    return np.concatenate(list(faces[..., 0]), axis=1) / np.float32(255)


def chairs() -> np.ndarray:
    """The first 24 chairs of the test set, each from somewhere; float32 [3 S, 8 S] in [0, 1]."""
    sampler = ChairSampler(ChairConfig(image_size=150, supersample=3))
    rng = np.random.default_rng(2)
    meshes = [builtin_chair.mesh(sampler.chair("test", number)) for number in range(24)]
    seen = sampler.render(meshes, rng.choice(AZIMUTHS, 24), rng.choice(ELEVATIONS, 24))
    rows = [np.concatenate(list(row), axis=1) for row in seen[..., 0].reshape(3, 8, 150, 150)]
    return np.concatenate(rows) / np.float32(255)


def main(arguments: list[str]) -> None:
    """Writes what can be made into docs/pictures."""
    _PICTURES.mkdir(exist_ok=True)
    images.write_png(
        _PICTURES / "builtin_faces.png", eight_faces(load_source("builtin_face", None), 3)
    )
    images.write_png(_PICTURES / "builtin_chairs.png", chairs())
    if arguments:
        faces = eight_faces(load_source("ict_facekit", arguments[0]), 3)
        images.write_png(_PICTURES / "ict_faces.png", faces)
    for run, name in _FROM_RUNS.items():
        if (_ROOT / "runs" / run).exists():
            shutil.copyfile(_ROOT / "runs" / run, _PICTURES / name)


if __name__ == "__main__":
    main(sys.argv[1:])
