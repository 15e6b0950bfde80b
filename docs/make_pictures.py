"""Makes the README's pictures: faces and chairs straight from the renderer, and those that runs left behind.

And those that dcign-view offers to start from, which ship with the package.

python docs/make_pictures.py [path of ICT-FaceKit]
"""

import pathlib
import shutil
import sys

import numpy as np

from dcign_tf import images
from dcign_tf.datasets.chair_scenes import AZIMUTHS, ELEVATIONS, ChairConfig, ChairSampler
from dcign_tf.datasets.scenes import SceneConfig, SceneSampler
from dcign_tf.scenes import builtin_chair, load_source
from dcign_tf.scenes.morphable import MorphableModel
from dcign_tf.scenes.render import render

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PICTURES = _ROOT / "docs" / "pictures"
_SAMPLES = _ROOT / "dcign_tf" / "serving" / "viewer" / "samples"
# Of the first 32 test heads in these ranges, and of the first 24 test chairs; chosen by eye, to be told apart.
_HEADS = (24, 0, 10, 3, 15, 22, 4, 11, 29, 26)
_CHAIRS = (0, 2, 5, 7, 9, 12, 14, 17, 20, 22)
_FROM_RUNS = {
    "faces_best/turned_and_raised.png": "turned_and_raised.png",
    "faces_best/relit.png": "relit.png",
    "faces_best/evaluation/inference.png": "inference_faces_best.png",
    "faces_best/evaluation/sweep_azimuth.png": "sweep_azimuth_faces_best.png",
    "faces_best/evaluation/sweep_elevation.png": "sweep_elevation_faces_best.png",
    "faces_best/evaluation/sweep_light_azimuth.png": "sweep_light_azimuth_faces_best.png",
    "compare/faces_paper/evaluation/inference.png": "inference_faces_paper.png",
    "faces_paper/evaluation/inference.png": "inference_faces_paper_150.png",
    "faces_best/evaluation/entangled.png": "faces_entangled.png",
    "chairs_paper/evaluation/inference.png": "inference_chairs_paper_150.png",
    "chairs_longer/evaluation/best_and_worst_azimuth.png": "chairs_best_and_worst.png",
    "chairs_longer/evaluation/entangled.png": "chairs_entangled.png",
}


def eight_faces(model: MorphableModel, seed: int) -> np.ndarray:
    """Eight random draws, lit from the viewer's right; float32 [S, 8 S] in [0, 1]."""
    people = model.draw(np.random.default_rng(seed), 8)
    front = np.zeros(8)
    faces = render(model, people, front, front, front + 25.0, 150, supersample=3)
    return np.concatenate(list(faces[..., 0]), axis=1) / np.float32(255)


def heads() -> np.ndarray:
    """The first 32 test heads in moderate poses; uint8 [32, S, S, 1]."""
    config = SceneConfig(
        image_size=150,
        group_size=8,
        azimuth_range=(-50.0, 50.0),
        elevation_range=(-15.0, 15.0),
        light_range=(-60.0, 60.0),
    )
    sampler = SceneSampler(config)
    return np.concatenate([sampler.group("test", "mixed", index).images for index in range(4)])


def chairs() -> np.ndarray:
    """The first 24 chairs of the test set, each from somewhere; uint8 [24, S, S, 1]."""
    sampler = ChairSampler(ChairConfig(image_size=150, supersample=3))
    rng = np.random.default_rng(2)
    meshes = [builtin_chair.mesh(sampler.chair("test", number)) for number in range(24)]
    return sampler.render(meshes, rng.choice(AZIMUTHS, 24), rng.choice(ELEVATIONS, 24))


def in_rows(pictures: np.ndarray) -> np.ndarray:
    """Pictures [N, S, S, 1], eight to a row; [N / 8 S, 8 S]."""
    rows = pictures[..., 0].reshape(-1, 8, *pictures.shape[1:3])
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows])


def main(arguments: list[str]) -> None:
    """Writes what can be made into docs/pictures."""
    _PICTURES.mkdir(exist_ok=True)
    images.write_png(
        _PICTURES / "builtin_faces.png", eight_faces(load_source("builtin_face", None), 3)
    )
    seats = chairs()
    images.write_png(_PICTURES / "builtin_chairs.png", in_rows(seats))
    _SAMPLES.mkdir(exist_ok=True)
    for kind, pictures, chosen in (("head", heads(), _HEADS), ("chair", seats, _CHAIRS)):
        for position, number in enumerate(chosen):
            images.write_png(_SAMPLES / f"{kind}_{position}.png", pictures[number])
    if arguments:
        faces = eight_faces(load_source("ict_facekit", arguments[0]), 3)
        images.write_png(_PICTURES / "ict_faces.png", faces)
    for run, name in _FROM_RUNS.items():
        if (_ROOT / "runs" / run).exists():
            shutil.copyfile(_ROOT / "runs" / run, _PICTURES / name)


if __name__ == "__main__":
    main(sys.argv[1:])
