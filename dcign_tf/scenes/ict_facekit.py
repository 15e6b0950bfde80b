"""ICT-FaceKit's morphable head (the ICT Face Model Light), read from a user's own copy and painted.

The model was learnt from light-stage scans by the USC Institute for Creative Technologies (Li et al. 2020,
"Learning Formation of Physically-Based Face Attributes") and is published under the MIT licence at
https://github.com/ICT-VGL/ICT-FaceKit. This package does not ship it. `load` reads

*   upstream's folder `FaceXModel` as a clone of the repository has it: Wavefront OBJ files of one topology, in
    which a mode of variation is the difference between its file and the neutral mesh, or
*   a compact `.npz` of the same numbers without what no camera sees (teeth, gums, lashes, tear film).

Both give the same vertices and triangles. Upstream has statistics of shape alone, so this file also paints
the head: `_paint` makes skin, lips, brows, hair, beard and eyes, each with modes of variation of its own, from
the material and the place of each vertex on the neutral mesh. Upstream's axes are those of
`dcign_tf.scenes.render` already: a head that faces +z, y up, x to the viewer's right, in centimetres.
"""

import dataclasses
import json
import math
import os
import pathlib
import re
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

from dcign_tf.errors import DcignError
from dcign_tf.scenes import wavefront
from dcign_tf.scenes.morphable import MorphableModel
from dcign_tf.scenes.render import smooth_normals

URL = "https://github.com/ICT-VGL/ICT-FaceKit"
LICENSE = "MIT licence, (c) 2020 USC Institute for Creative Technologies"
_WHERE = f"get it with `git clone {URL}` ({LICENSE}; not part of this package)"

# The materials a camera sees. Lashes, tear film and the like are thin shells over these that need
# transparency; teeth and gums lie behind closed lips.
MATERIALS = (
    "M_Face",
    "M_BackHead",
    "M_ScleraLeft",
    "M_ScleraRight",
    "M_IrisLeft",
    "M_IrisRight",
)
_FACE, _BACK, _SCLERA_LEFT, _SCLERA_RIGHT, _IRIS_LEFT, _IRIS_RIGHT = range(6)

# Framing: the middle of the head's volume, and half of what the camera sees there. Chin and hairline are nearer
# to the camera than the center and so fill about nine tenths of the picture.
_CENTER = (0.0, 2.9, 1.6)
_RADIUS = 12.3

_MAX_BYTES = 1 << 27  # of one stored array: a dozen times the largest there is


@dataclasses.dataclass(frozen=True)
class _Head:
    """What both formats hold: the neutral mesh and its modes of shape, in centimetres."""

    vertices: np.ndarray  # float32 [V, 3]
    triangles: np.ndarray  # int32 [T, 3]
    materials: np.ndarray  # uint8 [T], into MATERIALS
    identity_names: tuple[str, ...]
    identity: np.ndarray  # float32 [K, V, 3]
    expression_names: tuple[str, ...]
    expressions: np.ndarray  # float32 [E, V, 3]
    origin: str


def load(
    path: str | os.PathLike[str], identity_modes: int | None = None, expressions: bool = True
) -> MorphableModel:
    """Reads ICT-FaceKit's head as a morphable model with painted reflectance.

    Args:
        path: upstream's folder `FaceXModel`, the clone of the repository that holds it, or the compact `.npz`.
        identity_modes: how many of the identity modes to keep, the largest first; None keeps all that are
            there.
        expressions: whether to add the blendshapes, as one-sided modes of mild expressions.

    Returns:
        The model; `source` says what was read and under which licence.

    Raises:
        DcignError: there is nothing at `path`, or what is there is not ICT-FaceKit's model; the message names
            the file, and the line where there is one.
    """
    if identity_modes is not None and identity_modes < 1:
        raise ValueError(f"identity_modes: got {identity_modes}, must be at least 1")
    location = pathlib.Path(path)
    try:
        if location.is_dir():
            head = _read_folder(location, identity_modes, expressions)
        elif not location.exists():
            raise DcignError(f"{location}: no such file or folder; {_WHERE}")
        elif location.suffix.lower() == ".obj":
            raise DcignError(f"{location}: one file of the model; give the folder that holds it")
        else:
            head = _read_compact(location, identity_modes, expressions)
    except OSError as error:
        raise DcignError(f"{location}: cannot be read: {error.strerror or error}") from error
    return _build(head)


def _build(head: _Head) -> MorphableModel:
    names = [f"identity/{name}" for name in head.identity_names]
    modes = list(head.identity)
    one_sided = [False] * len(modes)
    for name, mode in _expression_modes(head):
        names.append(f"expression/{name}")
        modes.append(mode)
        one_sided.append(True)
    paint = _paint(head)
    for name, mode in paint.shape_modes.items():
        names.append(name)
        modes.append(mode)
        one_sided.append(name in paint.one_sided)
    one_sided.extend(name in paint.one_sided for name in paint.albedo_modes)
    count = len(head.identity)
    return MorphableModel(
        mean_shape=head.vertices,
        shape_modes=np.stack(modes),
        mean_albedo=paint.mean_albedo,
        albedo_modes=np.stack(list(paint.albedo_modes.values())),
        triangles=head.triangles,
        shape_mode_names=tuple(names),
        albedo_mode_names=tuple(paint.albedo_modes),
        one_sided=np.array(one_sided),
        center=np.array(_CENTER),
        radius=_RADIUS,
        name="ict_facekit",
        source=(
            f"ICT-FaceKit ({URL}), {LICENSE}; {count} identity modes and "
            f"{len(head.expression_names)} blendshapes read from {head.origin}; reflectance painted by dcign_tf"
        ),
    )


# --- Expressions -----------------------------------------------------------------------------------------

# Blendshapes that only make sense together. Eyes move and blink in pairs, and `mouthClose` undoes what
# `jawOpen` does to the lips: alone it pushes one lip through the other.
_COUPLED: Mapping[str, tuple[str, ...]] = {
    "PupilDilate": ("PupilDilate_L", "PupilDilate_R"),
    "eyeBlink": ("eyeBlink_L", "eyeBlink_R"),
    "eyeLookDown": ("eyeLookDown_L", "eyeLookDown_R"),
    "eyeLookUp": ("eyeLookUp_L", "eyeLookUp_R"),
    "eyeLookLeft": ("eyeLookOut_L", "eyeLookIn_R"),
    "eyeLookRight": ("eyeLookIn_L", "eyeLookOut_R"),
    "eyeSquint": ("eyeSquint_L", "eyeSquint_R"),
    "eyeWide": ("eyeWide_L", "eyeWide_R"),
    "mouthClose": ("mouthClose", "jawOpen"),
}

# Weight of a blendshape at one standard deviation. Fifty mild ones come together in every draw, so each is small.
_WEIGHT = 0.15
_WEIGHTS: Mapping[str, float] = {
    "PupilDilate": 0.3,
    "eyeBlink": 0.12,
    "eyeLookDown": 0.12,
    "eyeLookUp": 0.12,
    "eyeLookLeft": 0.3,
    "eyeLookRight": 0.3,
    "eyeWide": 0.25,
    "jawOpen": 0.06,
    "mouthClose": 0.05,
    "mouthFunnel": 0.07,
    "mouthPucker": 0.08,
    "mouthRollLower": 0.08,
    "mouthRollUpper": 0.08,
    "mouthShrugLower": 0.1,
    "mouthShrugUpper": 0.1,
    "mouthUpperUp_L": 0.08,
    "mouthUpperUp_R": 0.08,
    "mouthLowerDown_L": 0.08,
    "mouthLowerDown_R": 0.08,
    "mouthSmile_L": 0.2,
    "mouthSmile_R": 0.2,
}


def _expression_modes(head: _Head) -> list[tuple[str, np.ndarray]]:
    """Named expression modes, what one standard deviation of each adds; float32 [V, 3] each."""
    shapes = dict(zip(head.expression_names, head.expressions, strict=True))
    coupled = {member for members in _COUPLED.values() for member in members} - {"jawOpen"}
    groups: dict[str, tuple[str, ...]] = {name: (name,) for name in shapes if name not in coupled}
    groups |= {
        name: members
        for name, members in _COUPLED.items()
        if all(member in shapes for member in members)
    }
    modes = []
    for name, members in sorted(groups.items()):
        mode = np.sum([shapes[member] for member in members], axis=0)
        modes.append((name, (_WEIGHTS.get(name, _WEIGHT) * mode).astype(np.float32)))
    return modes


# --- Reading ---------------------------------------------------------------------------------------------


_NEUTRAL = "generic_neutral_mesh.obj"
_INDICES = "vertex_indices.json"
# Blendshapes of later versions, which `vertex_indices.json` does not name.
_UNLISTED = ("PupilDilate_L", "PupilDilate_R", "cheekRaiser_L", "cheekRaiser_R")


def _read_folder(path: pathlib.Path, identity_modes: int | None, expressions: bool) -> _Head:
    """Reads upstream's OBJ files; of the modes, those that are there."""
    folder = next((f for f in (path, path / "FaceXModel") if (f / _NEUTRAL).exists()), None)
    if folder is None:
        raise DcignError(f"{path}: holds neither {_NEUTRAL} nor FaceXModel/{_NEUTRAL}; {_WHERE}")
    neutral = folder / _NEUTRAL
    mesh = wavefront.read_mesh(neutral)
    missing = [name for name in MATERIALS if name not in mesh.materials]
    if missing:
        raise DcignError(
            f"{neutral}: no `usemtl {missing[0]}`; expected ICT-FaceKit's neutral mesh; {_WHERE}"
        )
    to_ours = np.array(
        [MATERIALS.index(name) if name in MATERIALS else -1 for name in mesh.materials] + [-1]
    )
    materials = to_ours[
        mesh.triangle_material
    ]  # faces without a material are numbered -1: the last
    triangles = mesh.triangles[materials >= 0]
    empty = [name for k, name in enumerate(MATERIALS) if k not in materials]
    if empty:
        raise DcignError(f"{neutral}: no face of the material {empty[0]}")
    used = np.unique(triangles)
    renumbered = np.full(len(mesh.vertices), -1, np.int32)
    renumbered[used] = np.arange(len(used), dtype=np.int32)

    def mode(file: pathlib.Path) -> np.ndarray:
        vertices = wavefront.read_vertices(file)
        if len(vertices) != len(mesh.vertices):
            raise DcignError(
                f"{file}: holds {len(vertices)} vertices, must be {len(mesh.vertices)} as in {_NEUTRAL}"
            )
        return (vertices - mesh.vertices)[used].astype(np.float32)

    identities = sorted(
        file for file in folder.iterdir() if re.fullmatch(r"identity\d{3}\.obj", file.name)
    )
    if not identities:
        raise DcignError(f"{folder}: holds no identityNNN.obj, at least one is needed; {_WHERE}")
    identities = identities[:identity_modes]
    blendshapes = []
    if expressions:
        names = sorted({*_expression_names(folder / _INDICES), *_UNLISTED})
        blendshapes = [name for name in names if (folder / f"{name}.obj").exists()]
    shapes = np.empty((len(blendshapes), len(used), 3), np.float32)
    for shape, name in zip(shapes, blendshapes, strict=True):
        shape[:] = mode(folder / f"{name}.obj")
    return _Head(
        vertices=mesh.vertices[used].astype(np.float32),
        triangles=renumbered[triangles],
        materials=materials[materials >= 0].astype(np.uint8),
        identity_names=tuple(file.stem.removeprefix("identity") for file in identities),
        identity=np.stack([mode(file) for file in identities]),
        expression_names=tuple(blendshapes),
        expressions=shapes,
        origin=folder.resolve().name,
    )


def _expression_names(path: pathlib.Path) -> list[str]:
    try:
        with path.open("rb") as file:
            data = file.read(wavefront.MAX_BYTES)
        names = json.loads(data)["expressions"]
    except FileNotFoundError:
        raise DcignError(f"{path}: no such file; it names the expressions; {_WHERE}") from None
    except OSError as error:
        raise DcignError(f"{path}: cannot read this file: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, RecursionError):
        raise DcignError(f"{path}: not JSON with a list `expressions`, as upstream's is") from None
    # A name becomes part of a path.
    if not isinstance(names, list) or not all(
        isinstance(name, str) and re.fullmatch(r"\w{1,64}", name, re.ASCII) for name in names
    ):
        raise DcignError(f"{path}: `expressions` must be a list of names of letters and digits")
    return names


def _read_compact(path: pathlib.Path, identity_modes: int | None, expressions: bool) -> _Head:
    try:
        with zipfile.ZipFile(path) as archive:
            vertices = _read_array(archive, "vertices", "f", (None, 3))
            count = len(vertices)
            triangles = _read_array(archive, "triangles", "iu", (None, 3))
            materials = _read_array(archive, "triangle_material", "iu", (len(triangles),))
            names = _read_array(archive, "material_names", "U", (None,))
            identity = _read_array(archive, "identity_modes", "f", (None, count, 3))
            identity = identity[:identity_modes].astype(np.float32)
            expression_names: tuple[str, ...] = ()
            shapes = np.zeros((0, count, 3), np.float32)
            if expressions:
                shapes = _read_array(archive, "expression_modes", "f", (None, count, 3))
                shapes = shapes.astype(np.float32)
                stored = _read_array(archive, "expression_names", "U", (len(shapes),))
                expression_names = tuple(str(name) for name in stored)
    # Of a damaged file, zipfile, zlib and NumPy complain in a dozen ways.
    except Exception as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DcignError(f"{path}: not a compact ICT-FaceKit model (.npz): {detail}") from error
    for name, array in (("identity_modes", identity), ("triangles", triangles)):
        if len(array) == 0:
            raise DcignError(f"{path}: {name}: holds none, at least one is needed")
    for name, array in (
        ("vertices", vertices),
        ("identity_modes", identity),
        ("expression_modes", shapes),
    ):
        if not (np.abs(array) <= wavefront.MAX_COORDINATE).all():
            raise DcignError(
                f"{path}: {name}: holds values that are not finite or beyond "
                f"{wavefront.MAX_COORDINATE:.0e}"
            )
    for name, array, limit in (
        ("triangles", triangles, count),
        ("triangle_material", materials, len(names)),
    ):
        if not (0 <= array.min() and array.max() < limit):
            raise DcignError(
                f"{path}: {name}: got indices {array.min()} to {array.max()}, "
                f"must be 0 to {limit - 1}"
            )
    unknown = [str(name) for name in names if name not in MATERIALS]
    if unknown:
        raise DcignError(
            f"{path}: material_names: got {unknown[0]!r}, must be among {', '.join(MATERIALS)}"
        )
    to_ours = np.array([MATERIALS.index(name) for name in names], np.uint8)
    return _Head(
        vertices=vertices.astype(np.float32),
        triangles=triangles.astype(np.int32),
        materials=to_ours[materials],
        identity_names=tuple(f"{k:03d}" for k in range(len(identity))),
        identity=identity,
        expression_names=expression_names,
        expressions=shapes,
        origin=path.name,
    )


def _read_array(
    archive: zipfile.ZipFile, name: str, kinds: str, shape: tuple[int | None, ...]
) -> np.ndarray:
    """Reads one array after its header has proved to be as expected, so that a lie costs no memory.

    Args:
        archive: the `.npz`.
        name: of the array.
        kinds: NumPy's letters of the acceptable kinds of its dtype.
        shape: expected sizes; None is any.

    Raises:
        ValueError: the array is missing or not as expected.
    """
    member = f"{name}.npy"
    if member not in archive.namelist():
        raise ValueError(f"{name}: missing")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            found, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            found, _, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype.hasobject:
        raise ValueError(f"{name}: holds pickled objects, which are never read")
    if dtype.kind not in kinds:
        raise ValueError(f"{name}: got dtype {dtype}")
    if len(found) != len(shape) or any(
        want is not None and have != want for have, want in zip(found, shape, strict=True)
    ):
        expected = ", ".join("any" if want is None else str(want) for want in shape)
        raise ValueError(f"{name}: got shape {found}, must be ({expected})")
    if math.prod(found) * dtype.itemsize > _MAX_BYTES:
        raise ValueError(f"{name}: got shape {found} of {dtype}, which is too large for this model")
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


# --- Painting --------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Paint:
    mean_albedo: np.ndarray  # float32 [V]
    albedo_modes: dict[str, np.ndarray]  # float32 [V] each
    shape_modes: dict[str, np.ndarray]  # float32 [V, 3] each
    one_sided: frozenset[str]  # names among either


# Anchors on the neutral mesh, in centimetres: upstream's landmark vertices (`idx_to_landmark_verts`) of the right
# half, mirrored where they are used.
_EYE = (3.12, 3.60, 7.98)  # center of the eyeball
_BROW = ((0.95, 5.55), (1.6, 5.75), (2.6, 6.0), (3.8, 6.12), (4.9, 5.8), (5.9, 5.05))
_UPPER_LIP = ((-0.2, -2.48), (0.0, -2.52), (0.73, -2.38), (1.7, -2.78), (2.55, -3.48))
_MOUTH_LINE = ((0.0, -3.34), (1.0, -3.34), (2.21, -3.46), (2.6, -3.5))
_LOWER_LIP = ((0.0, -4.42), (1.03, -4.32), (1.8, -4.06), (2.55, -3.52))

# Height of the hairline by the angle about the head's axis, from the face (0) to the nape (180 degrees).
_HAIRLINE = (
    (0.0, 11.5),
    (20.0, 11.3),
    (35.0, 10.7),
    (46.0, 9.4),
    (55.0, 7.6),
    (63.0, 6.4),
    (70.0, 3.6),
    (76.0, 1.4),
    (86.0, 1.2),
    (94.0, 3.6),
    (104.0, 1.0),
    (112.0, -2.0),
    (135.0, -4.2),
    (180.0, -4.8),
)

_SKIN, _HAIR, _BROWS, _LIPS = 0.68, 0.12, 0.27, 0.46


def _step(x: np.ndarray, width: float) -> np.ndarray:
    """Rises smoothly from 0 at -width / 2 to 1 at width / 2."""
    t = np.clip(x / width + 0.5, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _bump(*scaled: np.ndarray) -> np.ndarray:
    """A Gaussian blob of the given distances, each in units of its width."""
    return np.exp(-0.5 * np.sum(np.square(np.broadcast_arrays(*scaled)), axis=0))


def _curve(points: Sequence[tuple[float, float]], x: np.ndarray) -> np.ndarray:
    places, values = np.array(points).T
    return np.interp(x, places, values)


def _noise(vertices: np.ndarray, wavelength: float, seed: int) -> np.ndarray:
    """A smooth field without a pattern: waves in directions spread over a sphere; about unit variance, [V]."""
    waves = 24
    k = np.arange(waves) + 0.5
    # Fibonacci's spiral and multiples of irrationals: the same numbers on every machine and version.
    up = 1.0 - 2.0 * k / waves
    around = 2.39996323 * k + seed
    flat = np.sqrt(1.0 - up * up)
    directions = np.stack([flat * np.cos(around), flat * np.sin(around), up])
    stretch = 0.7 + 0.6 * np.modf(k * 0.75487767 + seed * 0.331)[0]
    phases = 2 * np.pi * np.modf(k * 0.56984029 * (seed + 1) + seed * 0.618)[0]
    waves_at = np.cos(vertices @ (directions * stretch) * (2 * np.pi / wavelength) + phases)
    return waves_at.sum(axis=1) * np.sqrt(2.0 / waves)


def _above_hairline(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Distance from the hairline along the scalp, positive where there is hair; [V]."""
    places, heights = np.array(_HAIRLINE).T
    angle = np.degrees(np.arctan2(np.abs(x), z - 1.0))
    # The line's slope turns a difference of heights into a distance.
    arc = np.radians(places) * 7.5
    middles = (places[1:] + places[:-1]) / 2
    slope = np.interp(angle, middles, np.diff(heights) / np.diff(arc))
    return (y - np.interp(angle, places, heights)) / np.sqrt(1 + slope * slope)


def _hair(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """1 where the scalp has hair and 0 where it has none; [V]."""
    return _step(_above_hairline(x, y, z), 0.7)


def _paint(head: _Head) -> _Paint:
    """Reflectance of the head and its modes, by material and by place on the neutral mesh."""
    points = head.vertices.astype(np.float64)
    x, y, z = points.T
    side = np.abs(x)
    material = np.full(len(points), _FACE)
    for index in range(len(MATERIALS)):
        material[head.triangles[head.materials == index].ravel()] = index
    on_head = (material == _FACE) | (material == _BACK)
    # The mouth's and the sockets' insides have the material of the back of the head.
    inside = (material == _BACK) & (side < 5.0) & (y > -8.0) & (y < 6.5) & (z > 0.5)
    front = _step(z - 4.0, 2.0) * on_head * ~inside

    skull = 7.2 + 0.15 * (y - 1.0)
    ear = _step(side - skull - 0.25, 0.3) * (z < 2.2) * (y < 5.2) * (y > -3.5) * on_head
    scalp = on_head * ~inside * (1.0 - ear)
    hair = scalp * _hair(x, y, z)

    brow_y = _curve(_BROW, side)
    brow_reach = _step(side - 0.9, 0.5) * _step(5.9 - side, 1.0)
    brow_half = np.interp(side, [0.9, 1.8, 4.0, 6.0], [0.38, 0.45, 0.36, 0.2])

    brow = front * brow_reach * _step(brow_half - np.abs(y - brow_y), 0.5)

    upper, lower, line = (_curve(c, side) for c in (_UPPER_LIP, _LOWER_LIP, _MOUTH_LINE))
    lips = (
        front * _step(upper - y, 0.3) * _step(y - lower, 0.3) * _step(2.6 - side, 0.3) * (z > 9.0)
    )
    seam = front * _bump((y - line) / 0.1) * _step(2.85 - side, 0.3) * (z > 9.0)

    jaw = on_head * ~inside * _step(z - 2.5, 2.0) * _step(y + 9.5, 2.5)
    cheek_line = np.interp(side, [0.0, 2.5, 5.0, 7.0], [-1.2, -2.2, -2.4, 0.8])
    beard_area = jaw * _step(cheek_line - y, 1.6) * (1.0 - lips) * (1.0 - ear)
    moustache = front * _bump((y + 1.95) / 0.42, np.maximum(side - 1.6, 0) / 0.7) * (1.0 - lips)
    goatee = front * _bump((y + 6.0) / 1.3, x / 1.5) * (1.0 - lips)

    # Some faces are so thin that the mouth's lining comes through the chin: there it looks like skin.
    lining = inside & (z > 8.5) & (np.abs(y + 3.4) > 1.0) & (y < 0.0) & (y > -7.5)
    skin = on_head * (~inside | lining) * (1.0 - hair)
    bare = skin * (1.0 - brow) * (1.0 - lips)

    eyes = {}
    for iris, sclera, sign in (
        (_IRIS_LEFT, _SCLERA_LEFT, 1.0),
        (_IRIS_RIGHT, _SCLERA_RIGHT, -1.0),
    ):
        ball = (material == iris) | (material == sclera)
        radius = np.hypot(x - sign * 3.18, y - _EYE[1])
        eyes[sign] = np.where(ball & (z > _EYE[2]), radius, np.where(ball, 9.0, np.inf))
    from_axis = np.minimum(eyes[1.0], eyes[-1.0])
    eye = np.isfinite(from_axis)
    iris_disk = eye * _step(0.62 - from_axis, 0.12)
    pupil = eye * _step(0.26 - from_axis, 0.12)
    limbus = eye * _bump((from_axis - 0.6) / 0.08)

    eye_place = np.hypot((side - _EYE[0]) / 1.6, (y - 3.5) / 1.0)
    socket = front * _bump((side - 3.1) / 1.4, (y - 4.7) / 0.55) * (1.0 - brow)
    bags = front * _bump((side - 3.0) / 1.1, (y - 2.3) / 0.5)
    lash = front * _step(1.02 - eye_place, 0.35) * _step(eye_place - 0.6, 0.3) * (z > 8.0)
    nostril = on_head * _step(
        1.12
        - np.sqrt(
            np.square((side - 0.68) / 0.62) + ((y - 0.1) / 0.75) ** 2 + ((z - 10.8) / 1.05) ** 2
        ),
        0.3,
    )
    cheeks = bare * front * _bump((side - 4.6) / 1.5, (y - 0.3) / 1.5)
    nose = bare * front * _bump(x / 1.2, (y - 0.6) / 1.3) * (z > 10.0)

    # Strands run from the crown, so shades differ between directions about it.
    direction = np.arctan2(x, z + 1.0)
    strands = (
        np.cos(13 * direction + 2.7)
        + np.cos(21 * direction + 2.1 + 0.25 * y)
        + np.cos(34 * direction + 2.4)
    ) / 1.5
    clumps = _noise(points * np.array([1.0, 0.35, 0.6]), 2.4, 5)

    albedo = np.zeros(len(points))
    albedo += bare * _SKIN + skin * brow * (1 - lips) * _BROWS + skin * lips * _LIPS
    albedo += hair * _HAIR * (1.0 + 0.12 * strands + 0.12 * clumps)
    albedo -= bare * (0.10 * lash + 0.04 * socket + 0.03 * bags) + 0.18 * seam
    # The renderer casts no shadows: what should lie in shadow is painted dark.
    albedo *= 1.0 - 0.8 * nostril
    albedo[inside & ~lining] = 0.12
    albedo += eye * (0.84 * (1 - iris_disk) + 0.30 * (iris_disk - pupil) + 0.03 * pupil)
    albedo -= 0.12 * limbus * (1 - pupil)

    modes = {
        "skin/tone": 0.11 * skin + 0.02 * eye * (1 - iris_disk),
        "skin/blush": -0.04 * (cheeks + 0.6 * nose),
        "skin/forehead": 0.035 * bare * front * _bump(x / 3.0, (y - 9.0) / 1.6),
        "skin/eye_shadow": -0.06 * skin * socket,
        "skin/eye_bags": -0.045 * skin * bags,
        "skin/freckles": 0.018 * _noise(points, 1.3, 3) * (cheeks + nose),
        "lips/shade": 0.06 * skin * lips + 0.02 * seam,
        "lips/upper": 0.03 * skin * lips * _step(y - line, 0.2),
        "brows/shade": 0.07 * skin * brow,
        "hair/fairness": hair * (0.12 + 0.015 * strands + 0.015 * clumps) + 0.06 * skin * brow,
        "hair/strands": hair * 0.012 * strands,
        "hair/clumps": hair * 0.015 * _noise(points, 4.0, 8),
        "hair/grey_sides": 0.05 * hair * _step(8.0 - y, 5.0),
        "beard/shadow": -0.085 * skin * beard_area * (1.0 + 0.1 * _noise(points, 2.0, 11)),
        "beard/moustache": -0.08 * skin * moustache,
        "beard/goatee": -0.06 * skin * goatee,
        "eyes/iris": 0.09 * (iris_disk - pupil),
        "eyes/sclera": 0.05 * eye * (1 - iris_disk),
        "eyes/lashes": -0.06 * skin * lash,
    }
    for k in range(6):
        modes[f"skin/blotches_{k}"] = 0.016 * bare * _noise(points, 9.0 - k, 20 + k)

    outward = points - np.array([0.0, 3.0, 1.0])
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-6)
    # Hair begins to rise a little inside the hairline, so that its edge is hair and not a wall of skin.
    full = scalp * _step(_above_hairline(x, y, z) - 0.7, 1.0)
    high = _step(y - 9.0, 7.0)
    shapes = {
        "hair/volume_top": 0.8 * (full * high)[:, None] * outward,
        "hair/volume_sides": 0.7 * (full * (1 - high))[:, None] * outward * [1.0, 0.3, 1.0],
    }
    # What is painted on the skin moves when the vertices slide along the surface, which keeps its form.
    normals = smooth_normals(head.vertices, head.triangles).astype(np.float64)
    up, back = (
        axis - normals * (normals @ axis)[:, None] for axis in np.array([[0.0, 1, 0], [0, 0, -1]])
    )
    angle = np.degrees(np.arctan2(side, z - 1.0))
    near_line = scalp * _bump(_above_hairline(x, y, z) / 2.2)
    temple = _bump((angle - 44.0) / 12.0)
    above_brow = y - brow_y
    near_brow = front * _bump(above_brow / 0.8) * _step(6.6 - side, 1.6)
    slides = {
        "hair/hairline_height": 0.9 * near_line * _step(58.0 - angle, 30.0),
        "brows/height": 0.14 * near_brow,
        "brows/thickness": 0.16 * near_brow * above_brow,
        "brows/tilt": 0.06 * near_brow * (side - 3.4),
    }
    shapes |= {name: amount[:, None] * up for name, amount in slides.items()}
    shapes["hair/temples"] = 0.7 * (near_line * temple)[:, None] * back
    return _Paint(
        mean_albedo=np.clip(albedo, 0.0, 1.0).astype(np.float32),
        albedo_modes={name: mode.astype(np.float32) for name, mode in modes.items()},
        shape_modes={name: mode.astype(np.float32) for name, mode in shapes.items()},
        one_sided=frozenset(
            {
                "hair/fairness",
                "hair/volume_top",
                "hair/volume_sides",
                "beard/shadow",
                "beard/moustache",
                "beard/goatee",
            }
        ),
    )
