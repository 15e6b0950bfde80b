"""Files in the Basel Face Model's formats, of a made-up head: an egg with a nose, dark eyes, and a mark on its left."""

import dataclasses
import os
from typing import Any

import h5py
import numpy as np
import scipy.io


@dataclasses.dataclass
class Head:
    """Millimetres and colors of 0 to 1; triangles are counter-clockwise from outside and counted from 0."""

    vertices: np.ndarray  # [V, 3]
    colors: np.ndarray  # [V, 3]
    triangles: np.ndarray  # [T, 3]
    # Orthonormal modes [3V, K] and standard deviations [K].
    shape_modes: np.ndarray
    shape_deviations: np.ndarray
    color_modes: np.ndarray
    color_deviations: np.ndarray
    expression_mean: np.ndarray  # [3V]
    expression_modes: np.ndarray
    expression_deviations: np.ndarray


def surface(
    rows: int, columns: int, side: float = 110.0, low: float = -60.0, high: float = 85.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices and triangles of an egg cut off behind and at the neck; and each vertex's longitude and latitude."""
    u, v = np.meshgrid(np.linspace(-side, side, columns), np.linspace(low, high, rows))
    a, b = np.radians(u.ravel()), np.radians(v.ravel())
    nose = np.exp(-((a / 0.2) ** 2) - ((b + 0.1) / 0.2) ** 2)
    points = np.stack(
        [75 * np.sin(a) * np.cos(b), 105 * np.sin(b), 95 * np.cos(a) * np.cos(b) + 20 * nose], 1
    )
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    right, up = corner + 1, corner + columns
    triangles = np.concatenate(
        [np.stack([corner, right, up], 1), np.stack([right, up + 1, up], 1)]
    )
    return points, triangles, np.stack([a, b], 1)


def head(rows: int = 22, columns: int = 31, modes: int = 4, expressions: int = 3) -> Head:
    points, triangles, angles = surface(rows, columns)
    colors = np.tile([0.8, 0.6, 0.5], (len(points), 1))

    def spot(longitude: float, latitude: float, size: float) -> np.ndarray:
        return np.hypot(angles[:, 0] - longitude, angles[:, 1] - latitude) < size

    colors[spot(-0.5, 0.25, 0.2) | spot(0.5, 0.25, 0.2)] = [0.05, 0.1, 0.2]
    colors[np.hypot(angles[:, 0] / 2, angles[:, 1] + 0.5) < 0.15] = [0.6, 0.1, 0.1]
    colors[spot(0.8, -0.25, 0.25)] = 1.0  # on its own left cheek
    rng = np.random.default_rng(7)

    def basis(count: int) -> np.ndarray:
        waves = rng.normal(size=(count, 3, 2)) * 1.5
        phases = rng.uniform(0, 2 * np.pi, (count, 3))
        fields = np.cos(np.einsum("va,kca->vck", angles, waves) + phases.T)
        return np.linalg.qr(fields.reshape(3 * len(points), count))[0]

    scale = np.sqrt(3 * len(points))
    return Head(
        points,
        colors,
        triangles,
        basis(modes),
        scale * np.geomspace(3, 0.3, modes),
        basis(modes),
        scale * np.geomspace(0.08, 0.01, modes),
        rng.normal(0, 0.5, 3 * len(points)),
        basis(expressions),
        scale * np.geomspace(1.5, 0.2, expressions),
    )


def variables_2009(made: Head) -> dict[str, Any]:
    """What `01_MorphableModel.mat` holds of it."""
    column = (-1, 1)
    return {
        "shapeMU": (1000 * made.vertices).reshape(column).astype(np.float32),
        "shapePC": made.shape_modes.astype(np.float32),
        "shapeEV": (1000 * made.shape_deviations).reshape(column).astype(np.float32),
        "texMU": (255 * made.colors).reshape(column).astype(np.float32),
        "texPC": made.color_modes.astype(np.float32),
        "texEV": (255 * made.color_deviations).reshape(column).astype(np.float32),
        "tl": made.triangles[:, ::-1].astype(np.float64) + 1,  # clockwise
        "segbin": np.zeros((len(made.vertices), 4)),
    }


def save_2009(path: os.PathLike[str], made: Head, compressed: bool = True, **changes: Any) -> None:
    variables = {**variables_2009(made), **changes}
    present = {name: value for name, value in variables.items() if value is not None}
    scipy.io.savemat(path, present, do_compression=compressed)


def save_73(path: os.PathLike[str], made: Head, **changes: Any) -> None:
    """As MATLAB saves with `-v7.3`."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in {**variables_2009(made), **changes}.items():
            file.create_dataset(name, data=value.T, chunks=True, compression=3, shuffle=True)
    with open(path, "r+b") as raw:
        text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan  1 00:00:00 2024"
        raw.write(text.ljust(124) + b"\x00\x02IM")


def variables_2017(made: Head) -> dict[str, Any]:
    """What `model2017-1_bfm_nomouth.h5` holds of it."""
    single = np.float32
    return {
        "shape/model/mean": made.vertices.ravel().astype(single),
        "shape/model/pcaBasis": made.shape_modes.astype(single),
        "shape/model/pcaVariance": (made.shape_deviations**2).astype(single),
        "shape/model/noiseVariance": np.zeros(1, single),
        "shape/representer/points": made.vertices.T.astype(single),
        "shape/representer/cells": made.triangles.T.astype(np.int32),
        "color/model/mean": made.colors.ravel().astype(single),
        "color/model/pcaBasis": made.color_modes.astype(single),
        "color/model/pcaVariance": (made.color_deviations**2).astype(single),
        "expression/model/mean": made.expression_mean.astype(single),
        "expression/model/pcaBasis": made.expression_modes.astype(single),
        "expression/model/pcaVariance": (made.expression_deviations**2).astype(single),
    }


def save_2017(path: os.PathLike[str], made: Head, **changes: Any) -> None:
    """Changes name variables with dots; what begins with one is left out if its value is None."""
    variables = variables_2017(made)
    for name, value in changes.items():
        for stored in [n for n in variables if n.startswith(name)]:
            del variables[stored]
        if value is not None:
            variables[name] = value
    with h5py.File(path, "w") as file:
        for name, value in variables.items():
            file[name] = value
