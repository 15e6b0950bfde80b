"""ICT-FaceKit's loader: on small folders in upstream's format, and on the real model where there is one."""

import io
import json
import os
import pathlib
import re
import shutil
import zipfile
from collections.abc import Callable

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from dcign_tf.errors import DcignError
from dcign_tf.scenes import ict_facekit, ict_paint
from dcign_tf.scenes.morphable import MorphableModel
from dcign_tf.scenes.render import render, smooth_normals

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]

# --- A head of a few quads in upstream's format --------------------------------------------------

# One strip of two quads and a triangle for each material, and between them one that no camera sees.
_MATERIALS = ("M_Face", "M_BackHead", "M_Teeth", *ict_paint.MATERIALS[2:])
_PLACES = {
    "M_Face": (0.0, 1.0, 11.0),
    "M_BackHead": (0.0, 9.0, -8.0),
    "M_Teeth": (0.0, -3.0, 8.0),
    "M_ScleraLeft": (3.1, 3.6, 9.6),
    "M_IrisLeft": (3.1, 3.6, 9.4),
    "M_ScleraRight": (-3.1, 3.6, 9.6),
    "M_IrisRight": (-3.1, 3.6, 9.4),
}
_STRIP = np.array([(x, y, 0) for y in (0, 1, 2) for x in (0, 1)] + [(0.5, 3, 0)], np.float64)


def _points() -> np.ndarray:
    return np.concatenate([_STRIP + _PLACES[name] for name in _MATERIALS])


def _obj(points: np.ndarray) -> bytes:
    lines = ["#" * 90, "# ICT FaceKit", "", "mtllib ICTFaceModelMaterial.mtl"]
    lines += [f"v {x:.6g} {y:.6g} {z:.6g}" for x, y, z in points]
    lines += [f"vt 0.{k} 0.5" for k in range(1, 8)]
    for k, name in enumerate(_MATERIALS):
        start = 7 * k + 1
        lines.append(f"usemtl {name}")
        for corners in ((0, 1, 3, 2), (2, 3, 5, 4), (4, 5, 6)):
            lines.append("f " + " ".join(f"{start + c}/{c + 1}" for c in corners))
    return ("\n".join(lines) + "\n").encode()


def _mode(seed: int) -> np.ndarray:
    return np.round(np.random.default_rng(seed).normal(size=(len(_points()), 3)), 2)


_MODES = {"identity000": 0, "identity001": 1, "identity007": 7, "jawOpen": 8, "eyeBlink_L": 9}


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """A clone of the repository: `FaceXModel` within it has three identities and two expressions."""
    folder = tmp_path / "ICT-FaceKit" / "FaceXModel"
    folder.mkdir(parents=True)
    (folder / "generic_neutral_mesh.obj").write_bytes(_obj(_points()))
    for name, seed in _MODES.items():
        (folder / f"{name}.obj").write_bytes(_obj(_points() + _mode(seed)))
    names = ["jawOpen", "eyeBlink_L", "eyeBlink_R", "browDown_L"]
    (folder / "vertex_indices.json").write_text(json.dumps({"expressions": names}))
    return folder


def _visible() -> np.ndarray:
    """Upstream's indices of the vertices that stay: all but the teeth's."""
    return np.flatnonzero(np.repeat([name != "M_Teeth" for name in _MATERIALS], 7))


def _compact(**changes: object) -> bytes:
    visible = _visible()
    strip = np.array([(0, 1, 3), (0, 3, 2), (2, 3, 5), (2, 5, 4), (4, 5, 6)])
    names = [name for name in _MATERIALS if name != "M_Teeth"]
    arrays = {
        "vertices": _points()[visible].astype(np.float32),
        "triangles": np.concatenate([strip + 7 * k for k in range(6)]).astype(np.int32),
        "triangle_material": np.repeat(np.arange(6), 5).astype(np.uint8),
        "material_names": np.array(names),
        "vertex_uv": np.zeros((42, 2), np.float32),
        "identity_modes": np.stack([_mode(k)[visible] for k in (0, 1, 7)]).astype(np.float16),
        "expression_modes": np.stack([_mode(k)[visible] for k in (9, 8)]).astype(np.float16),
        "expression_names": np.array(["eyeBlink_L", "jawOpen"]),
        "source_vertex_index": visible.astype(np.int32),
    }
    arrays |= changes
    file = io.BytesIO()
    np.savez(file, **{name: value for name, value in arrays.items() if value is not None})
    return file.getvalue()


# --- What is read --------------------------------------------------------------------------------


def test_a_folder_is_read(folder: pathlib.Path) -> None:
    model = ict_facekit.load(folder)
    visible = _visible()
    np.testing.assert_array_equal(model.mean_shape, _points()[visible].astype(np.float32))
    np.testing.assert_array_equal(
        model.triangles[:5], [(0, 1, 3), (0, 3, 2), (2, 3, 5), (2, 5, 4), (4, 5, 6)]
    )
    assert len(model.triangles) == 30 and model.triangles.max() == 41
    for k, (name, seed) in enumerate((("000", 0), ("001", 1), ("007", 7))):
        assert model.shape_mode_names[k] == f"identity/{name}"
        # Upstream writes six significant digits.
        np.testing.assert_allclose(model.shape_modes[k], _mode(seed)[visible], atol=2e-4)
    # Half a blink is not read: eyes blink together.
    assert [n for n in model.shape_mode_names if n.startswith("expression/")] == [
        "expression/jawOpen"
    ]
    jaw = model.shape_modes[3] / _mode(8)[visible]
    np.testing.assert_allclose(jaw, jaw.mean(), rtol=0.05)
    assert 0 < jaw.mean() < 0.2
    assert not model.one_sided[:3].any() and model.one_sided[3]
    assert "3 identity modes and 2 blendshapes" in model.source
    assert "MIT" in model.source and ict_facekit.URL in model.source


def test_the_clone_that_holds_the_folder_is_as_good(folder: pathlib.Path) -> None:
    _assert_same(ict_facekit.load(folder), ict_facekit.load(str(folder.parent)))


def _assert_same(a: MorphableModel, b: MorphableModel, tolerance: float = 0.0) -> None:
    for field in ("mean_shape", "mean_albedo", "albedo_modes", "triangles", "one_sided", "center"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field), err_msg=field)
    np.testing.assert_allclose(a.shape_modes, b.shape_modes, rtol=0, atol=tolerance)
    assert a.albedo_mode_names == b.albedo_mode_names
    assert a.radius == b.radius


def test_the_compact_file_gives_the_same_model(
    folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "compact.npz"
    path.write_bytes(_compact())
    compact = ict_facekit.load(path)
    _assert_same(compact, ict_facekit.load(folder), 3e-3)  # its modes are stored in float16
    # The compact file numbers its identities without gaps.
    assert compact.shape_mode_names[:3] == ("identity/000", "identity/001", "identity/002")
    assert "compact.npz" in compact.source


def test_fewer_modes_on_request(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "compact.npz"
    path.write_bytes(_compact(expression_modes=None, expression_names=None))
    (folder / "vertex_indices.json").unlink()  # names expressions alone
    for source in (folder, path):
        model = ict_facekit.load(source, identity_modes=2, expressions=False)
        kept = [n for n in model.shape_mode_names if n.startswith(("identity/", "expression/"))]
        assert kept == ["identity/000", "identity/001"]
        with pytest.raises(ValueError, match="identity_modes: got 0"):
            ict_facekit.load(source, identity_modes=0)


def test_eyes_move_together_and_a_closed_mouth_needs_its_jaw(folder: pathlib.Path) -> None:
    shapes = {"eyeBlink_R": 10, "eyeLookOut_L": 11, "eyeLookIn_R": 12, "mouthClose": 13}
    for name, seed in shapes.items():
        (folder / f"{name}.obj").write_bytes(_obj(_points() + _mode(seed)))
    names = [*shapes, "jawOpen", "eyeBlink_L"]
    (folder / "vertex_indices.json").write_text(json.dumps({"expressions": names}))
    model = ict_facekit.load(folder)
    modes = dict(zip(model.shape_mode_names, model.shape_modes, strict=True))
    expressions = sorted(name for name in modes if name.startswith("expression/"))
    assert expressions == [
        f"expression/{name}" for name in ("eyeBlink", "eyeLookLeft", "jawOpen", "mouthClose")
    ]
    for name, parts in {
        "eyeBlink": (9, 10),
        "eyeLookLeft": (11, 12),
        "mouthClose": (13, 8),
    }.items():
        whole = (_mode(parts[0]) + _mode(parts[1]))[_visible()]
        mode = modes[f"expression/{name}"]
        weight = float((mode * whole).sum() / (whole * whole).sum())
        assert 0.02 < weight < 0.5
        np.testing.assert_allclose(mode, weight * whole, atol=1e-3)


# --- What is refused -----------------------------------------------------------------------------


def _edit(name: str, change: Callable[[bytes], bytes]) -> Callable[[pathlib.Path], None]:
    def apply(folder: pathlib.Path) -> None:
        file = folder / name
        file.write_bytes(change(file.read_bytes()))

    return apply


@pytest.mark.parametrize(
    ("damage", "messages"),
    [
        (
            _edit("identity001.obj", lambda data: re.sub(rb"\nv .*", b"", data, count=1)),
            ["identity001.obj: holds 48 vertices, must be 49 as in generic_neutral_mesh.obj"],
        ),
        (_edit("jawOpen.obj", lambda data: data[:-3]), ["jawOpen.obj: ", "cut short"]),
        (
            _edit("jawOpen.obj", lambda data: data.replace(b"\nv ", b"\nv x", 1)),
            ["jawOpen.obj: line 5: ", "three numbers"],
        ),
        (
            _edit("generic_neutral_mesh.obj", lambda data: data.replace(b"f 1/", b"f 50/")),
            ["generic_neutral_mesh.obj: line ", "must be 1 to 49"],
        ),
        (
            _edit("generic_neutral_mesh.obj", lambda data: data.replace(b"M_IrisLeft", b"M_Iris")),
            ["generic_neutral_mesh.obj: no `usemtl M_IrisLeft`"],
        ),
        (
            _edit(
                "generic_neutral_mesh.obj",
                lambda data: data[: data.index(b"usemtl M_IrisRight") + 19],
            ),
            ["generic_neutral_mesh.obj: no face of the material M_IrisRight"],
        ),
        (
            lambda folder: [file.unlink() for file in folder.glob("identity*")],
            ["FaceXModel: holds no identityNNN.obj", ict_facekit.URL],
        ),
        (
            lambda folder: (folder / "generic_neutral_mesh.obj").unlink(),
            ["holds neither generic_neutral_mesh.obj nor FaceXModel/", ict_facekit.URL, "MIT"],
        ),
        (
            lambda folder: (folder / "vertex_indices.json").unlink(),
            ["vertex_indices.json: no such file"],
        ),
        (_edit("vertex_indices.json", lambda data: data[:-1]), ["vertex_indices.json: not JSON"]),
        (_edit("vertex_indices.json", lambda data: b"[1]"), ["vertex_indices.json: not JSON"]),
        (
            _edit("vertex_indices.json", lambda data: b"[" * 99999),
            ["vertex_indices.json: not JSON"],
        ),
        (
            _edit("vertex_indices.json", lambda data: b'{"expressions": ["../jawOpen"]}'),
            ["vertex_indices.json: `expressions` must be"],
        ),
        (
            lambda folder: (folder / "jawOpen.obj").unlink() or (folder / "jawOpen.obj").mkdir(),
            ["jawOpen.obj: not a file"],
        ),
    ],
)
def test_a_damaged_folder_is_refused(
    folder: pathlib.Path, damage: Callable[[pathlib.Path], object], messages: list[str]
) -> None:
    damage(folder)
    with pytest.raises(DcignError) as error:
        ict_facekit.load(folder)
    for message in messages:
        assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_path_says_where_to_get_the_model(tmp_path: pathlib.Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path / "none.npz"):
        with pytest.raises(DcignError) as error:
            ict_facekit.load(path)
        message = str(error.value)
        assert str(path) in message and "https://github.com/ICT-VGL/ICT-FaceKit" in message
        assert "MIT licence" in message


def test_one_obj_file_is_not_the_model(folder: pathlib.Path) -> None:
    with pytest.raises(DcignError, match="give the folder"):
        ict_facekit.load(folder / "identity000.obj")


class _Unpickled:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("a pickle was loaded",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(
            ({name: None}, f"{name}: missing")
            for name in ("vertices", "triangles", "triangle_material", "material_names")
        ),
        ({"identity_modes": None}, "identity_modes: missing"),
        ({"expression_modes": None}, "expression_modes: missing"),
        ({"expression_names": np.array(["a"])}, r"expression_names: got shape \(1,\)"),
        ({"vertices": np.zeros((42, 2), np.float32)}, r"vertices: got shape \(42, 2\)"),
        ({"vertices": np.zeros((42, 3), np.int32)}, "vertices: got dtype int32"),
        ({"vertices": np.zeros((41, 3), np.float32)}, "identity_modes: got shape"),
        ({"vertices": np.full((42, 3), np.nan, np.float32)}, "vertices: holds values that are not"),
        ({"vertices": np.full((42, 3), 1e300)}, "vertices: holds values that are not"),
        ({"triangles": np.zeros((30, 3))}, "triangles: got dtype float64"),
        ({"triangles": np.full((30, 3), 42, np.int32)}, "triangles: got indices 42 to 42"),
        ({"triangles": np.full((30, 3), -1, np.int32)}, "triangles: got indices -1"),
        (
            {"triangles": np.zeros((0, 3), np.int32), "triangle_material": np.zeros(0, np.uint8)},
            "triangles: holds none",
        ),
        ({"triangle_material": np.full(30, 6, np.uint8)}, "triangle_material: got indices 6 to 6"),
        ({"material_names": np.array(["M_Face"] * 5 + ["M_Hat"])}, "got 'M_Hat', must be among"),
        ({"material_names": np.array([_Unpickled()], object)}, "material_names: .*pickled"),
        ({"identity_modes": np.zeros((0, 42, 3), np.float16)}, "identity_modes: holds none"),
        (
            {"identity_modes": np.zeros((9000, 42, 120)[:2], np.float16)},
            "identity_modes: got shape",
        ),
    ],
)
def test_a_damaged_compact_file_is_refused(
    tmp_path: pathlib.Path, changes: dict[str, object], message: str
) -> None:
    path = tmp_path / "damaged.npz"
    path.write_bytes(_compact(**changes))
    with pytest.raises(DcignError, match=message) as error:
        ict_facekit.load(path)
    assert str(path) in str(error.value)


def test_a_compact_file_that_lies_about_its_size_costs_no_memory(tmp_path: pathlib.Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f2", "fortran_order": False, "shape": (10**9, 42, 3)}
    )
    path = tmp_path / "lie.npz"
    path.write_bytes(_compact(identity_modes=None))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("identity_modes.npy", header.getvalue())
    with pytest.raises(DcignError, match=r"identity_modes: got shape .* too large"):
        ict_facekit.load(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a zip", _compact()[:-500]])
def test_what_is_no_compact_file_is_refused(tmp_path: pathlib.Path, content: bytes) -> None:
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    with pytest.raises(DcignError, match=r"other\.npz: not a compact ICT-FaceKit model"):
        ict_facekit.load(path)


_FUZZ = hypothesis.settings(
    max_examples=100,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)


def _damage(data: st.DataObject, content: bytes) -> bytes:
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(damaged)))
        stop = start + data.draw(st.integers(0, 8))
        damaged[start:stop] = data.draw(st.binary(max_size=8))
    return bytes(damaged)


@hypothesis.given(st.data())
@_FUZZ
def test_any_damage_to_the_compact_file_is_noticed_or_harmless(
    tmp_path: pathlib.Path, data: st.DataObject
) -> None:
    path = tmp_path / "fuzz.npz"
    path.write_bytes(_damage(data, _compact()))
    try:
        model = ict_facekit.load(path)
    except DcignError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    else:
        assert np.isfinite(model.vertices(model.draw(np.random.default_rng(0), 1))).all()


@hypothesis.given(st.data(), st.sampled_from(["generic_neutral_mesh", "identity000", "jawOpen"]))
@_FUZZ
def test_any_damage_to_a_folder_is_noticed_or_harmless(
    folder: pathlib.Path, data: st.DataObject, name: str
) -> None:
    file = folder / f"{name}.obj"
    whole = file.read_bytes()
    file.write_bytes(_damage(data, whole))
    try:
        model = ict_facekit.load(folder)
    except DcignError as error:
        assert str(error).startswith(f"{folder}") and "\n" not in str(error)
    else:
        assert np.isfinite(model.vertices(model.draw(np.random.default_rng(0), 1))).all()
    finally:
        file.write_bytes(whole)


# --- The real model ------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def data() -> pathlib.Path:
    """The folder with `FaceXModel` and `ict_facekit_light.npz`, which are not part of the repository."""
    default = REPOSITORY.parent / "shared" / "data" / "ict_facekit"
    path = pathlib.Path(os.environ.get("DCIGN_ICT_PATH", default))
    for name in ("ict_facekit_light.npz", "FaceXModel/generic_neutral_mesh.obj"):
        if not (path / name).is_file():
            pytest.skip(
                f"no {name} in {path}: python3 run.py test runs it where DCIGN_ICT_PATH names its folder"
            )
    return path


@pytest.fixture(scope="session")
def compact(data: pathlib.Path) -> MorphableModel:
    return ict_facekit.load(data / "ict_facekit_light.npz")


def test_upstreams_files_and_the_compact_file_agree(
    data: pathlib.Path, compact: MorphableModel
) -> None:
    model = ict_facekit.load(data / "FaceXModel")
    assert len(model.mean_shape) == 17202 and len(model.triangles) == 34332
    np.testing.assert_array_equal(model.mean_shape, compact.mean_shape)
    np.testing.assert_array_equal(model.triangles, compact.triangles)
    np.testing.assert_array_equal(model.mean_albedo, compact.mean_albedo)
    np.testing.assert_array_equal(model.albedo_modes, compact.albedo_modes)
    assert "4 identity modes and 2 blendshapes" in model.source
    stored = dict(zip(compact.shape_mode_names, compact.shape_modes, strict=True))
    for name, mode in zip(model.shape_mode_names, model.shape_modes, strict=True):
        np.testing.assert_allclose(mode, stored[name], rtol=1e-3, atol=5e-4, err_msg=name)


def test_the_compact_model_has_all_modes(compact: MorphableModel) -> None:
    names = compact.shape_mode_names
    assert sum(name.startswith("identity/") for name in names) == 100
    assert sum(name.startswith("expression/") for name in names) >= 45
    assert len(set(compact.mode_names)) == compact.coefficients
    one_sided = dict(zip(compact.mode_names, compact.one_sided, strict=True))
    assert all(one_sided[name] for name in names if name.startswith("expression/"))
    assert not any(one_sided[name] for name in names if name.startswith("identity/"))


# Vertices of upstream's landmarks on the midline and on the head's left: tip of the nose, chin, outer end of the
# left brow, middle of the lower lip, middle of the upper lip.
_NOSE, _CHIN, _BROW_END, _LOWER_LIP, _UPPER_LIP = 4857, 966, 2509, 5518, 0


@pytest.fixture(scope="session")
def landmark(data: pathlib.Path) -> Callable[[int], int]:
    with np.load(data / "ict_facekit_light.npz") as stored:
        upstream = stored["source_vertex_index"]
    return lambda vertex: int(np.flatnonzero(upstream == vertex)[0])


def test_the_head_faces_the_viewer(compact: MorphableModel, landmark: Callable[[int], int]) -> None:
    points = compact.mean_shape
    assert points[landmark(_NOSE), 2] == pytest.approx(points[:, 2].max(), abs=0.1)
    assert points[landmark(_CHIN), 1] < points[landmark(_NOSE), 1] < points[landmark(_BROW_END), 1]
    assert points[landmark(_BROW_END), 0] > 4  # its left is the viewer's right
    a, b, c = (points[compact.triangles[:, k]] for k in range(3))
    assert np.einsum("ij,ij->", a, np.cross(b, c)) > 0  # triangles face outward


def test_features_are_painted_where_they_are(
    compact: MorphableModel, landmark: Callable[[int], int]
) -> None:
    x, y, z = compact.mean_shape.T
    albedo = compact.mean_albedo

    def shade(px: float, py: float, least_z: float) -> float:
        near = (np.hypot(x - px, y - py) < 0.35) & (z > least_z)
        assert near.any()
        return float(albedo[near].mean())

    cheek = shade(4.5, 0.0, 6.0)
    forehead = shade(0.0, 9.0, 6.0)
    assert cheek == pytest.approx(forehead, abs=0.08) and cheek > 0.5
    for side in (-1, 1):
        assert shade(side * 3.8, 6.1, 6.0) < cheek - 0.15  # brow
        assert shade(side * 3.18, 3.6, 9.3) < 0.3  # pupil
    assert shade(0.0, -3.9, 10.0) < cheek - 0.1  # lower lip
    assert albedo[y > 13.5].max() < 0.3  # hair
    sclera = (np.abs(np.hypot(x - 3.18, y - 3.6) - 1.0) < 0.1) & (albedo > 0.75)
    assert sclera.any()
    # Left and right are painted alike, but for hair and blotches.
    mirrored = {tuple(np.round(p, 3)): k for k, p in enumerate(compact.mean_shape)}
    pairs = [(k, mirrored.get((-p[0], p[1], p[2]))) for p, k in list(mirrored.items())[::50]]
    off = [albedo[a] - albedo[b] for a, b in pairs if b is not None and z[a] > 7]
    assert len(off) > 20 and np.abs(off).max() < 0.05


def _silhouette(model: MorphableModel, azimuth: float, size: int = 120) -> np.ndarray:
    coefficients = np.zeros((1, model.coefficients), np.float32)
    zero = np.zeros(1)
    return render(model, coefficients, zero + azimuth, zero, zero, size)[0, :, :, 0] > 0


def test_the_face_fills_the_frame(compact: MorphableModel, landmark: Callable[[int], int]) -> None:
    half_view = np.tan(np.radians(10))
    distance = compact.radius / half_view

    def height(y: float, z: float) -> float:
        depth = distance - (z - compact.center[2])
        return float((y - compact.center[1]) / depth / half_view)  # -1 to 1 in the picture

    chin = compact.mean_shape[landmark(_CHIN)]
    hairline = height(11.5, 9.0)
    assert 0.8 <= (hairline - height(chin[1], chin[2])) / 2 <= 0.95
    assert -1 < height(chin[1], chin[2]) and hairline < 1
    for azimuth in (-90, 0, 90):
        silhouette = _silhouette(compact, azimuth)
        upper = silhouette[: 3 * len(silhouette) // 4]  # shoulders may leave the frame
        assert not upper[:, 0].any() and not upper[:, -1].any()


def test_random_draws_are_different_heads(compact: MorphableModel) -> None:
    coefficients = compact.draw(np.random.default_rng(1), 8)
    assert np.isfinite(compact.vertices(coefficients)).all()
    zero = np.zeros(8)
    images = render(compact, coefficients, zero, zero, zero, 64).astype(np.float32)
    for i in range(8):
        for j in range(i):
            assert np.abs(images[i] - images[j]).mean() > 4
    # Neither black nor burnt out.
    face = images[:, 16:48, 16:48]
    assert (face.mean(axis=(1, 2, 3)) > 40).all() and (face > 250).mean() < 0.1


def test_every_albedo_mode_shows(compact: MorphableModel) -> None:
    assert len(compact.albedo_mode_names) >= 20
    for name, mode in zip(compact.albedo_mode_names, compact.albedo_modes, strict=True):
        assert 0.005 < np.abs(mode).max() < 0.4, name


def test_hairline_and_brows_slide_along_the_surface(compact: MorphableModel) -> None:
    normals = smooth_normals(compact.mean_shape, compact.triangles)
    modes = dict(zip(compact.shape_mode_names, compact.shape_modes, strict=True))
    for name in ("hair/hairline_height", "hair/temples", "brows/height", "brows/thickness"):
        along = np.abs(np.einsum("ij,ij->i", modes[name], normals))
        assert np.linalg.norm(modes[name], axis=1).max() > 0.05, name
        assert along.max() < 1e-5, name
    x, y, z = compact.mean_shape.T
    rises = modes["hair/hairline_height"][(np.abs(x) < 1) & (np.abs(y - 11.5) < 0.5) & (z > 5)]
    assert (rises[:, 1] > 0.3).all()
    lifted = np.einsum("ij,ij->i", modes["hair/volume_top"], normals)
    assert lifted[y > 13.5].min() > 0.3 and np.abs(lifted[(z > 9) & (y < 9)]).max() == 0


def test_a_copy_of_the_real_folder_with_a_bad_line_names_it(
    data: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    for name in ("generic_neutral_mesh.obj", "identity000.obj", "vertex_indices.json"):
        shutil.copyfile(data / "FaceXModel" / name, tmp_path / name)
    file = tmp_path / "identity000.obj"
    lines = file.read_bytes().split(b"\n")
    place = next(k for k, line in enumerate(lines) if line.startswith(b"v ")) + 20000
    lines[place] = b"v 1.0 2.0"
    file.write_bytes(b"\n".join(lines))
    with pytest.raises(DcignError, match=rf"identity000\.obj: line {place + 1}: got 'v 1.0 2.0'"):
        ict_facekit.load(tmp_path)


def test_photographs_have_smiles_teeth_and_hair(
    data: pathlib.Path, compact: MorphableModel, landmark: Callable[[int], int]
) -> None:
    model = ict_facekit.load(data / "ict_facekit_light.npz", photographic=True)
    more = {"expression/smile", "hair/thickness", "hair/length", "hair/fringe", "mouth/teeth"}
    assert set(model.mode_names) - set(compact.mode_names) == more
    assert set(compact.mode_names) < set(model.mode_names)
    one_sided = dict(zip(model.mode_names, model.one_sided, strict=True))
    assert all(one_sided[name] for name in more)
    np.testing.assert_array_equal(model.mean_albedo, compact.mean_albedo)
    modes = dict(zip(model.shape_mode_names, model.shape_modes, strict=True))
    x, y, z = model.mean_shape.T
    corner = (np.hypot(np.abs(x) - 2.6, y + 3.5) < 0.5) & (z > 7)
    assert modes["expression/smile"][corner, 1].mean() > 0.3
    # The lips part, and behind them it is bright.
    upper, lower = (modes["expression/smile"][landmark(k), 1] for k in (_UPPER_LIP, _LOWER_LIP))
    assert upper - lower > 0.2
    teeth = model.albedo_modes[model.albedo_mode_names.index("mouth/teeth")]
    assert 0 < (teeth > 0).sum() < 0.1 * len(teeth)
    assert z[teeth > 0].max() > 8 and model.mean_albedo[teeth > 0].max() < 0.2
    # Hair moves where hair is, and no skin with it.
    for name in ("hair/thickness", "hair/length", "hair/fringe"):
        moves = np.linalg.norm(modes[name], axis=1)
        assert moves.max() > 0.8, name
        assert model.mean_albedo[moves > 0.4].max() < 0.45, name
    assert modes["hair/length"][:, 1].min() < -2 and modes["hair/fringe"][:, 1].min() < -0.8
    assert not modes["hair/length"][z > 3].any()
    assert not modes["hair/fringe"][z < 0].any()
    assert (modes["hair/thickness"][:, 1][y > 13] > 0.3).all()


def test_a_folder_without_the_smiles_parts_has_no_smile(folder: pathlib.Path) -> None:
    plain, more = (ict_facekit.load(folder, photographic=photo) for photo in (False, True))
    assert set(more.mode_names) - set(plain.mode_names) == {
        "hair/thickness", "hair/length", "hair/fringe", "mouth/teeth",
    }  # fmt: skip
