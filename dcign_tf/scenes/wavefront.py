"""Reading Wavefront OBJ files: vertices, and polygons by material, as triangles.

What a morphable model needs of the format: `v`, `f` and `usemtl` lines. Everything else (texture coordinates,
normals, groups, comments) is passed over.
"""

import dataclasses
import os
import pathlib

import numba
import numpy as np

from dcign_tf.errors import DcignError

# A damaged or foreign file must not take the machine's memory with it. The heads this package reads have some
# 30,000 vertices in 3 MB, in centimetres.
MAX_BYTES = 16 << 20
MAX_VERTICES = 200_000
MAX_COORDINATE = 1e6


@dataclasses.dataclass(frozen=True)
class Mesh:
    """A triangle mesh with materials.

    Attributes:
        vertices: float64 [V, 3].
        triangles: int32 [T, 3], indices of vertices, in the order of the file's polygons.
        triangle_material: int32 [T], into `materials`; -1 before the first `usemtl`.
        materials: names, in the order of their first use.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    triangle_material: np.ndarray
    materials: tuple[str, ...]


def read_vertices(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads the `v` lines of an OBJ file; float64 [V, 3].

    Raises:
        DcignError: the file cannot be read, is cut short, or holds a vertex that is no finite point.
    """
    return _vertices(_read(pathlib.Path(path)), path)


def read_mesh(path: str | os.PathLike[str]) -> Mesh:
    """Reads an OBJ file. A polygon becomes the fan of triangles about its first corner.

    Raises:
        DcignError: the file cannot be read, is cut short, or has a line that is malformed or refers to a
            vertex that is not there; the message names the line.
    """
    data = _read(pathlib.Path(path))
    vertices = _vertices(data, path)
    count = len(vertices)
    materials: dict[str, int] = {}
    material = -1
    triangles: list[tuple[int, int, int]] = []
    owners: list[int] = []
    for number, line in enumerate(data.splitlines(), 1):
        if line[:1] == b"f":
            keyword, *corners = line.split()
            if keyword != b"f":
                continue
            if len(corners) < 3:
                raise DcignError(
                    f"{path}: line {number}: got a face of {len(corners)} corners, needs 3 or more"
                )
            polygon = []
            for corner in corners:
                digits = corner.partition(b"/")[0]
                # The length comes first: Python refuses to convert thousands of digits.
                if not (digits.isdigit() and len(digits) < 12 and 1 <= int(digits) <= count):
                    raise DcignError(
                        f"{path}: line {number}: got vertex {_quote(digits)} in a face, "
                        f"must be 1 to {count}"
                    )
                polygon.append(int(digits) - 1)
            for k in range(1, len(polygon) - 1):
                triangles.append((polygon[0], polygon[k], polygon[k + 1]))
            owners.extend([material] * (len(polygon) - 2))
        elif line[:6] == b"usemtl":
            name = line[6:].decode("utf-8", "replace").strip()
            material = materials.setdefault(name, len(materials))
    return Mesh(
        vertices=vertices,
        triangles=np.array(triangles, np.int32).reshape(-1, 3),
        triangle_material=np.array(owners, np.int32),
        materials=tuple(materials),
    )


def _read(path: pathlib.Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise DcignError(f"{path}: not a file; expected a Wavefront OBJ file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DcignError(f"{path}: cannot read this OBJ file: {error.strerror or error}") from error
    if len(data) > MAX_BYTES:
        raise DcignError(
            f"{path}: larger than {MAX_BYTES >> 20} MiB, which no head of this kind is"
        )
    if not data.endswith((b"\n", b"\r")):
        found = "is empty" if not data else "ends in the middle of a line: it is cut short"
        raise DcignError(f"{path}: {found}; expected a whole Wavefront OBJ file")
    return data


def _vertices(data: bytes, path: str | os.PathLike[str]) -> np.ndarray:
    bound = min(data.count(b"v ") + data.count(b"v\t"), MAX_VERTICES)
    points = np.empty((bound, 3))
    count = _scan(np.frombuffer(data, np.uint8), points)
    if count > 0:
        return points[:count].copy()
    # Numbers with many digits, or something is wrong.
    lines = data.splitlines()
    rows = [line for line in lines if line[:2] in (b"v ", b"v\t")]
    if not rows:
        raise DcignError(f"{path}: holds no vertex (`v x y z`); expected a Wavefront OBJ file")
    if len(rows) > MAX_VERTICES:
        raise DcignError(f"{path}: holds {len(rows)} vertices, must be at most {MAX_VERTICES}")
    vertices = _points(rows)
    if vertices is not None:
        return vertices
    # Something is wrong: look again, line by line, for where.
    for number, line in enumerate(lines, 1):
        if line[:2] in (b"v ", b"v\t") and _points([line]) is None:
            raise DcignError(
                f"{path}: line {number}: got {_quote(line)}, must be `v x y z` with three numbers "
                f"within {MAX_COORDINATE:.0e}"
            )
    raise AssertionError("vertices were refused together that are right on their own")


def _points(rows: list[bytes]) -> np.ndarray | None:
    """The coordinates in `v` lines, float64 [N, 3]; None if one is malformed or out of bounds."""
    try:
        # After the coordinates some programs write a weight or a color: these are not read.
        points = np.loadtxt(rows, np.float64, comments=None, usecols=(1, 2, 3), ndmin=2)
    except ValueError:
        return None
    right = points.shape == (len(rows), 3) and (np.abs(points) <= MAX_COORDINATE).all()
    return points if right else None  # NaN is not within bounds either


def _quote(text: bytes) -> str:
    shown = text.decode("utf-8", "replace")
    return repr(shown if len(shown) <= 40 else shown[:40] + "...")


@numba.njit(cache=True, nogil=True)
def _scan(data: np.ndarray, points: np.ndarray) -> int:
    """Reads the `v` lines of a file whose numbers are as programs write them.

    Args:
        data: uint8 [bytes].
        points: float64 [at least as many as there are, 3], written.

    Returns:
        How many vertices there are; -1 at the first that needs a closer look.
    """
    size = len(data)
    count = 0
    i = 0
    while i < size:
        if data[i] == 118 and i + 1 < size and (data[i + 1] == 32 or data[i + 1] == 9):  # "v "
            if count == len(points):
                return -1
            i += 2
            for axis in range(3):
                while i < size and (data[i] == 32 or data[i] == 9):
                    i += 1
                negative = i < size and data[i] == 45
                if i < size and (data[i] == 45 or data[i] == 43):
                    i += 1
                mantissa, digits, exponent = np.int64(0), 0, np.int64(0)
                while i < size and 48 <= data[i] <= 57 and digits < 18:
                    mantissa = 10 * mantissa + (np.int64(data[i]) - 48)
                    digits += 1
                    i += 1
                if i < size and data[i] == 46:  # "."
                    i += 1
                    while i < size and 48 <= data[i] <= 57 and digits < 18:
                        mantissa = 10 * mantissa + (np.int64(data[i]) - 48)
                        digits += 1
                        exponent -= 1
                        i += 1
                if digits == 0:
                    return -1
                if i < size and (data[i] == 101 or data[i] == 69):  # "e"
                    i += 1
                    below = i < size and data[i] == 45
                    if i < size and (data[i] == 45 or data[i] == 43):
                        i += 1
                    power, digits = np.int64(0), 0
                    while i < size and 48 <= data[i] <= 57 and digits < 4:
                        power = 10 * power + (np.int64(data[i]) - 48)
                        digits += 1
                        i += 1
                    if digits == 0:
                        return -1
                    exponent += -power if below else power
                # A number ends with a blank or with its line.
                if i < size and not (data[i] == 32 or 9 <= data[i] <= 10 or data[i] == 13):
                    return -1
                # Integers below 2^53 and powers of ten up to 22 are floats, so one operation on them rounds
                # as it should.
                if mantissa >= 2**53 or not -22 <= exponent <= 22:
                    return -1
                if exponent < 0:
                    value = mantissa / 10.0**-exponent
                else:
                    value = mantissa * 10.0**exponent
                if not value <= MAX_COORDINATE:
                    return -1
                points[count, axis] = -value if negative else value
            count += 1
        while i < size and data[i] != 10 and data[i] != 13:
            i += 1
        i += 1
    return count
