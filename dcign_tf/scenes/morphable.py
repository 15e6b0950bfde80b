"""Linear morphable models: a mean shape and reflectance with modes of variation, over one triangle mesh.

A scene's intrinsic properties (section 3.1 of the paper: shape, texture, expression) are the coefficients of
such a model, as in the Basel Face Model the paper drew its faces from (Paysan et al. 2009).
"""

import dataclasses
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numba
import numpy as np

from dcign_tf import files
from dcign_tf.errors import DcignError
from dcign_tf.npz import read_array

_FORMAT = 1
_MAX_BYTES = 1 << 30  # of one stored array: some thirty times the largest of ICT-FaceKit
_BLOCK = 16384  # floats of one mode handled at a time: what is summed stays in cache, and modes are read in long rows
_ARRAYS: Mapping[str, tuple[type[np.generic], int]] = {
    "mean_shape": (np.float32, 2),
    "shape_modes": (np.float32, 3),
    "mean_albedo": (np.float32, 1),
    "albedo_modes": (np.float32, 2),
    "triangles": (np.int32, 2),
    "one_sided": (np.bool_, 1),
    "center": (np.float32, 1),
}


@dataclasses.dataclass(frozen=True)
class MorphableModel:
    """Mean and linear modes of shape and of grey reflectance over a triangle mesh.

    The axes are those of `dcign_tf.scenes.render`: x to the viewer's right, y up, z toward the camera; a head
    faces +z. Lengths have any unit, the same for all arrays.

    Attributes:
        mean_shape: float32 [V, 3], the mean position of each vertex.
        shape_modes: float32 [K, V, 3], what one standard deviation of each mode adds to `mean_shape`.
        mean_albedo: float32 [V], the mean grey reflectance of each vertex, in [0, 1].
        albedo_modes: float32 [M, V], what one standard deviation of each mode adds to `mean_albedo`.
        triangles: int32 [T, 3], indices of vertices, counter-clockwise seen from outside.
        shape_mode_names: K names.
        albedo_mode_names: M names.
        one_sided: bool [K + M], modes whose coefficient is |N(0, 1)| instead of N(0, 1): expressions.
        center: float32 [3], the point the head turns about and the camera looks at.
        radius: half the height of what the camera sees at `center`.
        name: what the model is called.
        source: where it comes from and under which licence.
    """

    mean_shape: np.ndarray
    shape_modes: np.ndarray
    mean_albedo: np.ndarray
    albedo_modes: np.ndarray
    triangles: np.ndarray
    shape_mode_names: tuple[str, ...]
    albedo_mode_names: tuple[str, ...]
    one_sided: np.ndarray
    center: np.ndarray
    radius: float
    name: str
    source: str

    def __post_init__(self) -> None:
        indices = np.asarray(self.triangles)  # Looked at before they are cut to 32 bits.
        if indices.size and indices.dtype.kind not in "iu":
            raise ValueError(f"triangles: got dtype {indices.dtype}, must be integers")
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self.mean_shape):
            raise ValueError(
                f"triangles: got indices {indices.min()} to {indices.max()}, "
                f"must be 0 to {len(self.mean_shape) - 1}"
            )
        for field, (dtype, rank) in _ARRAYS.items():
            value = np.ascontiguousarray(getattr(self, field), dtype)
            if value.ndim != rank:
                raise ValueError(f"{field}: got shape {value.shape}, must have {rank} dimensions")
            object.__setattr__(self, field, value)
        vertices = len(self.mean_shape)
        expected = {
            "mean_shape": (vertices, 3),
            "shape_modes": (len(self.shape_mode_names), vertices, 3),
            "mean_albedo": (vertices,),
            "albedo_modes": (len(self.albedo_mode_names), vertices),
            "triangles": (len(self.triangles), 3),
            "one_sided": (self.coefficients,),
            "center": (3,),
        }
        for field, shape in expected.items():
            if getattr(self, field).shape != shape:
                raise ValueError(
                    f"{field}: got shape {getattr(self, field).shape}, must be {shape}"
                )
        for field in ("mean_shape", "shape_modes", "mean_albedo", "albedo_modes", "center"):
            if not np.isfinite(getattr(self, field)).all():
                raise ValueError(f"{field}: holds values that are not finite")
        if not (np.isfinite(self.radius) and self.radius > 0):
            raise ValueError(f"radius: got {self.radius}, must be positive")

    @property
    def coefficients(self) -> int:
        """How many numbers describe an identity: K of shape, then M of albedo."""
        return len(self.shape_mode_names) + len(self.albedo_mode_names)

    @property
    def mode_names(self) -> tuple[str, ...]:
        """The names of all coefficients, in order."""
        return self.shape_mode_names + self.albedo_mode_names

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Draws `n` identities from N(0, I), one-sided modes from |N(0, 1)|; float32 [n, K + M]."""
        values = rng.standard_normal((n, self.coefficients), np.float32)
        return np.where(self.one_sided, np.abs(values), values)

    def vertices(self, coefficients: np.ndarray) -> np.ndarray:
        """Positions of the vertices for coefficients [n, K + M]; float32 [n, V, 3]."""
        weights = self._weights(coefficients)[:, : len(self.shape_mode_names)]
        modes = self.shape_modes.reshape(len(self.shape_modes), self.mean_shape.size)
        combined = _combine(self.mean_shape.reshape(-1), modes, np.ascontiguousarray(weights))
        return combined.reshape(len(weights), len(self.mean_shape), 3)

    def albedo(self, coefficients: np.ndarray) -> np.ndarray:
        """Grey reflectance of the vertices for coefficients [n, K + M]; float32 [n, V] in [0, 1]."""
        weights = self._weights(coefficients)[:, len(self.shape_mode_names) :]
        combined = _combine(self.mean_albedo, self.albedo_modes, np.ascontiguousarray(weights))
        return np.clip(combined, 0.0, 1.0, out=combined)

    def _weights(self, coefficients: np.ndarray) -> np.ndarray:
        weights = np.asarray(coefficients, np.float32)
        if weights.ndim != 2 or weights.shape[1] != self.coefficients:
            raise ValueError(
                f"coefficients: got shape {weights.shape}, must be [n, {self.coefficients}]"
            )
        return weights

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the model as one `.npz` (no pickles), whole or not at all."""
        names: dict[str, Any] = {
            "shape_mode_names": np.array(self.shape_mode_names, np.str_),
            "albedo_mode_names": np.array(self.albedo_mode_names, np.str_),
            "radius": np.float64(self.radius),
            "name": np.str_(self.name),
            "source": np.str_(self.source),
            "format": np.int32(_FORMAT),
        }
        arrays: dict[str, Any] = {field: getattr(self, field) for field in _ARRAYS}
        with files.atomic_write(path) as file:
            np.savez_compressed(file, **arrays, **names)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "MorphableModel":
        """Reads what `save` wrote.

        Raises:
            DcignError: the file is missing, is no such `.npz`, or holds arrays that do not fit together.
        """
        try:
            with zipfile.ZipFile(path) as stored:
                if (version := int(_read(stored, "format", np.int32, 0))) != _FORMAT:
                    raise ValueError(f"format: got {version}, must be {_FORMAT}")
                return cls(
                    **{
                        field: _read(stored, field, dtype, rank)
                        for field, (dtype, rank) in _ARRAYS.items()
                    },
                    shape_mode_names=tuple(_read(stored, "shape_mode_names", np.str_, 1).tolist()),
                    albedo_mode_names=tuple(
                        _read(stored, "albedo_mode_names", np.str_, 1).tolist()
                    ),
                    radius=float(_read(stored, "radius", np.float64, 0)),
                    name=str(_read(stored, "name", np.str_, 0)),
                    source=str(_read(stored, "source", np.str_, 0)),
                )
        except FileNotFoundError:
            raise DcignError(f"{path}: no such file; expected a morphable model (.npz)") from None
        except OSError as error:
            raise DcignError(f"{path}: cannot be read: {error.strerror or error}") from error
        # Of a damaged file, zipfile, zlib and NumPy complain in a dozen ways.
        except Exception as error:
            detail = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DcignError(f"{path}: not a morphable model (.npz): {detail}") from error


def _read(archive: zipfile.ZipFile, name: str, dtype: type[np.generic], rank: int) -> np.ndarray:
    return read_array(archive, name, dtype, (None,) * rank, _MAX_BYTES)


@numba.njit(cache=True, nogil=True)
def _combine(mean: np.ndarray, modes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """mean [D] + weights [n, K] @ modes [K, D], added mode by mode.

    A matrix product is no quicker, and BLAS sums in an order that depends on its threads and on n; here one
    identity has the same bytes whatever is computed beside it.
    """
    n, size = len(weights), len(mean)
    out = np.empty((n, size), np.float32)
    fours, mode_fours = n - n % 4, len(modes) - len(modes) % 4
    for start in range(0, size, _BLOCK):
        stop = min(size, start + _BLOCK)
        for i in range(n):
            out[i, start:stop] = mean[start:stop]
        for i in range(0, fours, 4):
            for k in range(0, mode_fours, 4):
                _add_fours(out, modes, weights, i, k, start, stop)
        for i in range(fours, n):
            for k in range(0, mode_fours, 4):
                _add_four(out[i], modes, weights[i], k, start, stop)
        for i in range(n):
            for k in range(mode_fours, len(modes)):
                row, mode, weight = out[i, start:stop], modes[k, start:stop], weights[i, k]
                for j in range(stop - start):
                    row[j] += weight * mode[j]
    return out


@numba.njit(cache=True, nogil=True)
def _add_fours(
    out: np.ndarray, modes: np.ndarray, weights: np.ndarray, i: int, k: int, start: int, stop: int
) -> None:
    """Adds four modes from k to four rows from i: the same sums with a quarter of the loads and stores."""
    a, b = out[i, start:stop], out[i + 1, start:stop]
    c, d = out[i + 2, start:stop], out[i + 3, start:stop]
    mode_0, mode_1 = modes[k, start:stop], modes[k + 1, start:stop]
    mode_2, mode_3 = modes[k + 2, start:stop], modes[k + 3, start:stop]
    a0, a1, a2, a3 = weights[i, k], weights[i, k + 1], weights[i, k + 2], weights[i, k + 3]
    i += 1
    b0, b1, b2, b3 = weights[i, k], weights[i, k + 1], weights[i, k + 2], weights[i, k + 3]
    i += 1
    c0, c1, c2, c3 = weights[i, k], weights[i, k + 1], weights[i, k + 2], weights[i, k + 3]
    i += 1
    d0, d1, d2, d3 = weights[i, k], weights[i, k + 1], weights[i, k + 2], weights[i, k + 3]
    for j in range(stop - start):
        m0, m1, m2, m3 = mode_0[j], mode_1[j], mode_2[j], mode_3[j]
        a[j] = a[j] + a0 * m0 + a1 * m1 + a2 * m2 + a3 * m3
        b[j] = b[j] + b0 * m0 + b1 * m1 + b2 * m2 + b3 * m3
        c[j] = c[j] + c0 * m0 + c1 * m1 + c2 * m2 + c3 * m3
        d[j] = d[j] + d0 * m0 + d1 * m1 + d2 * m2 + d3 * m3


@numba.njit(cache=True, nogil=True)
def _add_four(
    out: np.ndarray, modes: np.ndarray, weights: np.ndarray, k: int, start: int, stop: int
) -> None:
    """Adds four modes from k to one row: memory is quicker to read at four places at once."""
    row = out[start:stop]
    mode_0, mode_1 = modes[k, start:stop], modes[k + 1, start:stop]
    mode_2, mode_3 = modes[k + 2, start:stop], modes[k + 3, start:stop]
    w0, w1, w2, w3 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
    for j in range(stop - start):
        row[j] = row[j] + w0 * mode_0[j] + w1 * mode_1[j] + w2 * mode_2[j] + w3 * mode_3[j]
