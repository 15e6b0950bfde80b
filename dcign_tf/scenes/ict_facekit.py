"""ICT-FaceKit's morphable head (the ICT Face Model Light), read from a user's own copy and painted.

The model was learnt from light-stage scans by the USC Institute for Creative Technologies (Li et al. 2020,
"Learning Formation of Physically-Based Face Attributes") and is published under the MIT licence at
https://github.com/ICT-VGL/ICT-FaceKit. This package does not ship it. `load` reads

*   upstream's folder `FaceXModel` as a clone of the repository has it: Wavefront OBJ files of one topology, in
    which a mode of variation is the difference between its file and the neutral mesh, or
*   a compact `.npz` of the same numbers without what no camera sees (teeth, gums, lashes, tear film).

Both give the same vertices and triangles. Upstream has statistics of shape alone: `dcign_tf.scenes.ict_paint`
makes the reflectance. Upstream's axes are those of `dcign_tf.scenes.render` already: a head that faces +z, y up,
x to the viewer's right, in centimetres.
"""

import dataclasses
import json
import os
import pathlib
import re
import zipfile
from collections.abc import Mapping

import numpy as np

from dcign_tf.errors import DcignError
from dcign_tf.npz import read_array
from dcign_tf.scenes import wavefront
from dcign_tf.scenes.ict_paint import MATERIALS, paint
from dcign_tf.scenes.morphable import MorphableModel

URL = "https://github.com/ICT-VGL/ICT-FaceKit"
LICENSE = "MIT licence, (c) 2020 USC Institute for Creative Technologies"
_WHERE = f"get it with `git clone {URL}` ({LICENSE}; not part of this package)"

# Framing: the middle of the head's volume, and half of what the camera sees there. Chin and hairline are nearer
# to the camera than the center and so fill about nine tenths of the picture.
_CENTER = (0.0, 2.3, 1.6)
_RADIUS = 12.6

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
    path: str | os.PathLike[str],
    identity_modes: int | None = None,
    expressions: bool = True,
    photographic: bool = False,
) -> MorphableModel:
    """Reads ICT-FaceKit's head as a morphable model with painted reflectance.

    Args:
        path: upstream's folder `FaceXModel`, the clone of the repository that holds it, or the compact `.npz`.
        identity_modes: how many of the identity modes to keep, the largest first; None keeps all that are
            there.
        expressions: whether to add the blendshapes, as one-sided modes of mild expressions.
        photographic: whether to add modes of what is common in photographs: broad smiles, teeth, and more hair.

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
    return _build(head, photographic)


def _build(head: _Head, photographic: bool) -> MorphableModel:
    names = [f"identity/{name}" for name in head.identity_names]
    modes = list(head.identity)
    one_sided = [False] * len(modes)
    expressions = _expression_modes(head)
    if photographic:
        expressions += _smile(head)
    for name, mode in expressions:
        names.append(f"expression/{name}")
        modes.append(mode)
        one_sided.append(True)
    painting = paint(head.vertices, head.triangles, head.materials, photographic)
    for name, mode in painting.shape_modes.items():
        names.append(name)
        modes.append(mode)
        one_sided.append(name in painting.one_sided)
    one_sided.extend(name in painting.one_sided for name in painting.albedo_modes)
    count = len(head.identity)
    return MorphableModel(
        mean_shape=head.vertices,
        shape_modes=np.stack(modes),
        mean_albedo=painting.mean_albedo,
        albedo_modes=np.stack(list(painting.albedo_modes.values())),
        triangles=head.triangles,
        shape_mode_names=tuple(names),
        albedo_mode_names=tuple(painting.albedo_modes),
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


# What a smile for the camera is made of. Fifty mild expressions never come together as one.
_SMILE: Mapping[str, float] = {
    "mouthSmile": 0.35,
    "mouthUpperUp": 0.25,
    "mouthLowerDown": 0.15,
    "cheekSquint": 0.25,
    "eyeSquint": 0.15,
}


def _smile(head: _Head) -> list[tuple[str, np.ndarray]]:
    """The mode of a broad smile; none where its blendshapes are not there."""
    shapes = dict(zip(head.expression_names, head.expressions, strict=True))
    parts = {f"{name}_{side}": weight for name, weight in _SMILE.items() for side in "LR"}
    if not parts.keys() <= shapes.keys():
        return []
    mode = np.sum([weight * shapes[name] for name, weight in parts.items()], axis=0)
    return [("smile", mode.astype(np.float32))]


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
            vertices = read_array(archive, "vertices", np.floating, (None, 3), _MAX_BYTES)
            count = len(vertices)
            triangles = read_array(archive, "triangles", np.integer, (None, 3), _MAX_BYTES)
            materials = read_array(
                archive, "triangle_material", np.integer, (len(triangles),), _MAX_BYTES
            )
            names = read_array(archive, "material_names", np.str_, (None,), _MAX_BYTES)
            identity = read_array(
                archive, "identity_modes", np.floating, (None, count, 3), _MAX_BYTES
            )
            identity = identity[:identity_modes].astype(np.float32)
            expression_names: tuple[str, ...] = ()
            shapes = np.zeros((0, count, 3), np.float32)
            if expressions:
                shapes = read_array(
                    archive, "expression_modes", np.floating, (None, count, 3), _MAX_BYTES
                )
                shapes = shapes.astype(np.float32)
                stored = read_array(
                    archive, "expression_names", np.str_, (len(shapes),), _MAX_BYTES
                )
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
