"""The Basel Face Model's loader, on files of a made-up head in each of its formats."""

import dataclasses
import pathlib
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import h5py
import hypothesis
import numpy as np
import pytest
import scipy.io
import scipy.sparse
from hypothesis import strategies as st

from dcign_tf.errors import DcignError
from dcign_tf.scenes import basel, load_source
from dcign_tf.scenes.morphable import MorphableModel
from dcign_tf.scenes.render import render
from tests import mutations
from tests.scenes import basel_files

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
GREY = np.array([0.21, 0.72, 0.07])
HEAD = basel_files.head()
VERTICES = len(HEAD.vertices)

Save = Callable[..., None]
# Each edition's files: how they are written, what they are called.
FILES: dict[str, tuple[Save, str]] = {
    "2009": (basel_files.save_2009, "01_MorphableModel.mat"),
    "2009, plain": (basel_files.save_2009_plain, "01_MorphableModel.mat"),
    "2009, version 7.3": (basel_files.save_73, "01_MorphableModel.mat"),
    "2017": (basel_files.save_2017, "model2017-1_bfm_nomouth.h5"),
}


def write(folder: pathlib.Path, edition: str, made: basel_files.Head = HEAD, /, **changes: Any):
    save, name = FILES[edition]
    save(folder / name, made, **changes)
    return folder / name


def turned(triangles: np.ndarray) -> set[tuple[int, ...]]:
    """Triangles as a set in which only the way round counts, not the corner they begin with."""
    return {tuple(np.roll(corners, -corners.argmin())) for corners in triangles}


# --- What is read --------------------------------------------------------------------------------


@pytest.mark.parametrize("edition", FILES)
def test_a_model_is_read(edition: str, tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, edition)
    model = load_source("basel", str(path))
    expressive = edition == "2017"
    mean = HEAD.vertices + (HEAD.expression_mean.reshape(-1, 3) if expressive else 0)
    np.testing.assert_allclose(model.mean_shape, mean, atol=1e-3)
    modes = HEAD.shape_modes * HEAD.shape_deviations
    if expressive:
        modes = np.concatenate([modes, HEAD.expression_modes * HEAD.expression_deviations], 1)
    np.testing.assert_allclose(model.shape_modes, modes.T.reshape(-1, VERTICES, 3), atol=1e-4)
    np.testing.assert_allclose(model.mean_albedo, HEAD.colors @ GREY, atol=1e-6)
    colors = (HEAD.color_modes * HEAD.color_deviations).T.reshape(-1, VERTICES, 3)
    np.testing.assert_allclose(model.albedo_modes, colors @ GREY, atol=1e-6)
    assert turned(model.triangles) == turned(HEAD.triangles)
    assert model.shape_mode_names == (
        *(f"identity/{k:03d}" for k in range(4)),
        *(f"expression/{k:03d}" for k in range(3) if expressive),
    )
    assert model.albedo_mode_names == tuple(f"color/{k:03d}" for k in range(4))
    assert not model.one_sided.any()
    assert basel.URL in model.source and path.name in model.source
    assert "not to be passed on" in model.source


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.uint32, np.uint16])
@pytest.mark.parametrize("edition", ["2009", "2009, plain"])
def test_triangles_of_any_number_type(dtype: type, edition: str, tmp_path: pathlib.Path) -> None:
    corners: np.ndarray = (HEAD.triangles + 1).astype(dtype)
    path = write(tmp_path, edition, tl=corners)
    assert turned(basel.load(path).triangles) == turned(HEAD.triangles)


def test_a_model_without_expressions(tmp_path: pathlib.Path) -> None:
    model = basel.load(write(tmp_path, "2017", expression=None))
    np.testing.assert_allclose(model.mean_shape, HEAD.vertices, atol=1e-4)
    assert len(model.shape_modes) == 4


def test_compressed_groups_and_column_vectors(tmp_path: pathlib.Path) -> None:
    plain = basel.load(write(tmp_path, "2017"))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        for name, value in basel_files.variables_2017(HEAD).items():
            value = value[:, None] if value.ndim == 1 else value
            file.create_dataset(
                name, data=value, chunks=True, compression="gzip", shuffle=True, fletcher32=True
            )
    other = basel.load(tmp_path / "b.h5")
    for field in ("mean_shape", "shape_modes", "mean_albedo", "albedo_modes", "triangles"):
        np.testing.assert_array_equal(getattr(other, field), getattr(plain, field))


@hypothesis.given(
    rows=st.integers(4, 12),
    columns=st.integers(4, 16),
    side=st.floats(45, 179),
    low=st.floats(-89, -20),
    high=st.floats(20, 89),
    away=st.tuples(*[st.floats(-500, 500)] * 3),
    size=st.floats(0.5, 2),
)
def test_which_side_is_outside_is_seen_from_the_mesh(
    rows: int, columns: int, side: float, low: float, high: float, away: Any, size: float
) -> None:
    points, triangles, _ = basel_files.surface(rows, columns, side, low, high)
    points = points * size + away
    for given in (triangles, triangles[:, ::-1]):
        assert turned(basel._outward(points, given)) == turned(triangles)


# --- What is seen of it --------------------------------------------------------------------------


def picture(model: MorphableModel, azimuth: float = 0, elevation: float = 0, light: float = 0):
    still = np.zeros((1, model.coefficients), np.float32)
    angles = np.array([[azimuth], [elevation], [light]])
    return render(model, still, angles[0], angles[1], angles[2], 100)[0, :, :, 0] / 255.0


@pytest.mark.parametrize("edition", ["2009", "2017"])
def test_the_head_looks_at_the_camera(edition: str, tmp_path: pathlib.Path) -> None:
    expression = {} if edition == "2009" else {"expression": None}
    model = basel.load(write(tmp_path, edition, basel_files.head(60, 80), **expression))
    face = picture(model)
    # Eyes are above the middle, the mouth is below; all are darker than the skin between them.
    eyes = [face[38:46, x : x + 6].mean() for x in (34, 60)]
    mouth, nose, forehead = (face[y : y + 4, 48:52].mean() for y in (76, 56, 22))
    assert max(*eyes, mouth) < 0.4 < 0.5 < min(nose, forehead)
    # Its own left cheek is at the viewer's right, and there when it is turned to its right.
    mark = 0.85
    assert face[55:72, 66:80].max() > 1.2 * face[55:72, 20:34].max()
    left, right = picture(model, -50), picture(model, 50)
    assert left.max() > mark > right.max()
    # Raised, the nose's tip goes up; lit from the viewer's right, that side is brighter.
    raised, lowered = picture(model, elevation=20), picture(model, elevation=-20)
    assert _tip(model, raised) < _tip(model, lowered)
    lit = picture(model, light=60)
    assert lit[:, 50:].mean() > 2 * lit[:, :50].mean()


def _tip(model: MorphableModel, image: np.ndarray) -> float:
    """The height in the picture of the mouth, the darkest place of the middle of the lower half."""
    return float(np.argmin(image[55:95, 50]))


@pytest.mark.parametrize("edition", ["2009", "2017"])
@pytest.mark.parametrize(
    "side", [70.0, 110.0, 175.0]
)  # The face alone, up to the ears, all of the head.
def test_the_head_fills_the_picture(edition: str, side: float, tmp_path: pathlib.Path) -> None:
    points, triangles, _ = basel_files.surface(22, 31, side)
    made = basel_files.head()
    made.vertices, made.triangles = points, triangles
    made.expression_mean *= 0
    model = basel.load(write(tmp_path, edition, made))
    for azimuth in (-90, -45, 0, 30, 90):
        for elevation in (-25, 0, 25):
            seen = picture(model, azimuth, elevation) > 0
            assert not seen[[0, -1]].any() and not seen[:, [0, -1]].any()
    rows = np.flatnonzero((picture(model) > 0).any(axis=1))
    assert 75 < rows[-1] - rows[0] < 95


# --- What is refused -----------------------------------------------------------------------------


def refusal(path: pathlib.Path) -> str:
    with pytest.raises(DcignError) as error:
        basel.load(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ") and "\n" not in text
    return text


SHAPE = ("shapeMU", "shapePC", "shapeEV", "texMU", "texPC", "texEV", "tl")
GROUPS = {
    "shapeMU": "shape/model/mean",
    "shapePC": "shape/model/pcaBasis",
    "shapeEV": "shape/model/pcaVariance",
    "texMU": "color/model/mean",
    "texPC": "color/model/pcaBasis",
    "texEV": "color/model/pcaVariance",
    "tl": "shape/representer/cells",
}


def _with(name: str, index: Any, value: float) -> Callable[[str], np.ndarray]:
    """The variable with some of its numbers replaced."""

    def change(edition: str) -> np.ndarray:
        of_2009, of_2017 = basel_files.variables_2009(HEAD), basel_files.variables_2017(HEAD)
        array = of_2009[name] if edition != "2017" else of_2017[GROUPS[name]]
        array = array.copy()
        array[index] = value
        return array

    return change


@pytest.mark.parametrize("edition", FILES)
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("shapeMU", np.zeros((VERTICES * 3 - 1, 1)), "must be three for each vertex"),
        ("shapeMU", np.zeros((VERTICES, 3)), f"got {VERTICES} x 3, must be a vector"),
        ("shapeMU", np.zeros((0, 1)), "got 0 numbers, must be three for each vertex"),
        ("shapeMU", _with("shapeMU", (5,), np.nan), "not finite or beyond a kilometer"),
        ("shapeMU", _with("shapeMU", (5,), 3e38), "not finite or beyond a kilometer"),
        ("shapePC", np.zeros((VERTICES, 4)), f"got {VERTICES} x 4, must be {3 * VERTICES} x modes"),
        ("shapePC", np.zeros((3 * VERTICES, 0)), "x 0, must be"),
        ("shapePC", _with("shapePC", (700, 2), np.inf), "not finite or beyond"),
        ("shapePC", _with("shapePC", (700, 2), np.nan), "not finite or beyond"),
        ("shapePC", _with("shapePC", (3, 0), 1e30), "not finite or beyond"),
        ("shapeEV", np.ones((5, 1)), "got 5 numbers, must be 4"),
        ("shapeEV", _with("shapeEV", (1,), np.nan), "negative or not finite"),
        ("shapeEV", _with("shapeEV", (1,), -1), "negative or not finite"),
        ("shapeEV", _with("shapeEV", (1,), np.inf), "negative or not finite"),
        ("texMU", np.ones((VERTICES, 1)), f"got {VERTICES} numbers, must be {3 * VERTICES}"),
        ("texMU", _with("texMU", (5,), np.nan), "to nan, must be 0 to"),
        ("texMU", _with("texMU", slice(None), 65535), "65535, must be 0 to"),
        ("texMU", _with("texMU", slice(None), 0.004), "0.004, must be 0 to"),
        ("texPC", np.zeros((3, 4)), f"got 3 x 4, must be {3 * VERTICES} x modes"),
        ("texPC", _with("texPC", (700, 2), np.nan), "not finite or beyond"),
        ("texEV", np.ones((1, 3)), "got 3 numbers, must be 4"),
        ("tl", np.zeros((8, 2)), "must be three corners each"),
        ("tl", np.zeros((0, 3)), "must be three corners each"),
        ("tl", _with("tl", (2, 2), VERTICES + 1), "must be whole numbers from "),
        ("tl", _with("tl", (0, 0), -1), "must be whole numbers from "),
    ],
)
def test_wrong_numbers_are_refused_by_name(
    edition: str, name: str, value: Any, message: str, tmp_path: pathlib.Path
) -> None:
    value = value(edition) if callable(value) else value
    if edition == "2017":
        name = GROUPS[name]
        value = value.T if name.endswith("cells") and value.shape[1] < 4 else value
    text = refusal(write(tmp_path, edition, **{name: value}))
    assert f"not a Basel Face Model: {name}: " in text and message in text


@pytest.mark.parametrize(
    ("index", "value"), [((0, 0), 0), ((0, 0), 1.5), ((0, 0), np.nan), ((3, 1), np.inf)]
)
def test_corners_of_2009_are_whole_and_counted_from_one(
    index: tuple[int, int], value: float, tmp_path: pathlib.Path
) -> None:
    text = refusal(write(tmp_path, "2009", tl=_with("tl", index, value)("2009")))
    assert "tl: got " in text and f"must be whole numbers from 1 to {VERTICES}" in text


@pytest.mark.parametrize("name", SHAPE)
def test_what_is_missing_is_named(name: str, tmp_path: pathlib.Path) -> None:
    assert f": {name}: missing" in refusal(write(tmp_path, "2009", **{name: None}))
    missing = {GROUPS[name]: None}
    assert f": {GROUPS[name]}: missing" in refusal(write(tmp_path, "2017", **missing))
    text = refusal(write(tmp_path, "2017", **{"expression/model/mean": None}))
    assert ": expression/model/mean: missing" in text


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ({"a": 1.0}, "a struct, must be an array of real numbers"),
        (np.array(["a", 1.0], object), "a cell array, must be an array of real numbers"),
        ("text", "text, must be an array of real numbers"),
        (scipy.sparse.eye(5).tocsc(), "a sparse array, must be an array of real numbers"),
        (np.ones((5, 1)) * 1j, "complex numbers, must be an array of real numbers"),
        (np.ones((2, 2, 2)), "an array of shape (2, 2, 2), must have two dimensions"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(
    value: Any, what: str, tmp_path: pathlib.Path
) -> None:
    text = refusal(write(tmp_path, "2009", shapeMU=value))
    assert f"shapeMU: {what}" in text


def test_other_files_are_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.mat"
    for content in (b"", b"MATLAB 5.0 MAT-file", b"PK\3\4 and so on", bytes(1000)):
        path.write_bytes(content)
        assert "not a Basel Face Model: n" in refusal(path)
    assert "a folder; give the model's file" in refusal(tmp_path)
    text = refusal(tmp_path / "none.mat")
    assert "no such file" in text and basel.URL in text
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["images"] = np.zeros(4)
    assert "shape/model/mean: missing" in refusal(tmp_path / "b.h5")


def test_a_truncated_file_is_refused(tmp_path: pathlib.Path) -> None:
    for edition in FILES:
        path = write(tmp_path, edition)
        content = path.read_bytes()
        for length in (130, 600, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:length])
            refusal(path)


@pytest.mark.parametrize("edition", ["2017", "2009, version 7.3"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("external link", "a link, which is never followed"),
        ("soft link", "a link, which is never followed"),
        ("external storage", "in other files, which are never read"),
        ("virtual", "in other files, which are never read"),
        ("references", "must be numbers"),
        ("texts", "must be numbers"),
        ("compound", "must be numbers"),
        ("group", "got a group, must be a dataset"),
        ("null", "holds nothing"),
        ("nothing written", "got 0 bytes, must be"),
        ("chunks not written", "got 0 chunks, must be"),
        ("another filter", "compressed in a way that is not read here"),
        ("absurd size", "too large"),
        ("absurd chunks", "too large"),
        ("three dimensions", "must have 1 or 2 dimensions"),
    ],
)
def test_what_hdf5_can_hide_is_refused(
    edition: str, kind: str, message: str, tmp_path: pathlib.Path
) -> None:
    path = write(tmp_path, edition)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["a"] = np.arange(12.0)
    name = "shapeMU" if "7.3" in edition else "shape/model/mean"
    with h5py.File(path, "r+") as file:
        file["elsewhere"] = file[name]
        del file[name]
        if kind == "external link":
            file[name] = h5py.ExternalLink(str(tmp_path / "other.h5"), "a")
        elif kind == "soft link":
            file[name] = h5py.SoftLink("/elsewhere")
        elif kind == "external storage":
            raw = [(str(tmp_path / "other.h5"), 0, 96)]
            file.create_dataset(name, (12,), "f8", external=raw)
        elif kind == "virtual":
            layout = h5py.VirtualLayout((12,), "f8")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "a", (12,))
            file.create_virtual_dataset(name, layout)
        elif kind == "references":
            file.create_dataset(name, data=[file["elsewhere"].ref] * 3, dtype=h5py.ref_dtype)
        elif kind == "texts":
            file[name] = ["a", "b", "c"]
        elif kind == "compound":
            file[name] = np.zeros(3, [("x", "f4"), ("y", "f4")])
        elif kind == "group":
            file.create_group(name)
        elif kind == "null":
            file[name] = h5py.Empty("f4")
        elif kind == "nothing written":
            file.create_dataset(name, (3 * VERTICES,), "f4")
        elif kind == "chunks not written":
            file.create_dataset(name, (3 * VERTICES,), "f4", chunks=(10,))
        elif kind == "another filter":
            file.create_dataset(name, data=np.zeros(3), chunks=(3,), compression="lzf")
        elif kind == "absurd size":
            file.create_dataset(name, (2**60,), "f4", chunks=(10,))
        elif kind == "absurd chunks":
            made = file.create_dataset(
                name, (3,), "f8", maxshape=(None,), chunks=(2**27,), compression=1
            )
            made.id.write_direct_chunk((0,), zlib.compress(bytes(24)))
        else:
            file[name] = np.zeros((3, 1, 1))
    text = refusal(path)
    assert name.rpartition("/")[2] in text and message in text


def test_a_chunk_that_decompresses_without_end_costs_no_memory(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, "2017", **{"color/model/mean": None})
    with h5py.File(path, "r+") as file:
        made = file.create_dataset(
            "color/model/mean", (3 * VERTICES,), "f4", chunks=(VERTICES,), compression="gzip"
        )
        for k in range(3):
            made.id.write_direct_chunk((k * VERTICES,), zlib.compress(bytes(4 * VERTICES)))
        made.id.write_direct_chunk((0,), zlib.compress(bytes(2_000_000)))
    assert "color/model/mean: the chunk at (0,) decompresses to more than" in refusal(path)


def _element(name: bytes, shape: tuple[int, int], numbers: bytes, claimed: int | None = None):
    """A variable of single precision as a MATLAB file of level 5 holds it."""

    def part(kind: int, content: bytes, length: int | None = None) -> bytes:
        length = len(content) if length is None else length
        return struct.pack("<II", kind, length) + content + bytes(-len(content) % 8)

    content = part(6, struct.pack("<II", 7, 0)) + part(5, struct.pack("<ii", *shape))
    content += part(1, name) + part(7, numbers, claimed)
    return struct.pack("<II", 14, len(content)) + content


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("shape", "claimed", "message"),
    [
        ((2**30, 2**29), 2**32 - 4, "got 4294967292 bytes, must be"),
        ((2**28, 1), 2**30, "too large"),
        ((2**20, 1), 2**22, "too large"),
        ((-1, -3), 12, "an array of shape (-1, -3)"),
        ((0, 5), 12, "got 12 bytes, must be 0"),
    ],
)
def test_a_matlab_file_that_lies_costs_no_memory(
    compressed: bool, shape: tuple[int, int], claimed: int, message: str, tmp_path: pathlib.Path
) -> None:
    element = _element(b"shapeMU", shape, bytes(1000), claimed)
    if compressed:
        # A megabyte more than it says: never to be decompressed.
        packed = zlib.compress(element + bytes(1 << 20))
        element = struct.pack("<II", 15, len(packed)) + packed
    path = tmp_path / "a.mat"
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + element)
    tracemalloc.start()
    try:
        assert message in refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


# --- Damage --------------------------------------------------------------------------------------


SMALL = basel_files.head(6, 7, 2, 1)


def check_model(folder: pathlib.Path) -> None:
    for path in folder.iterdir():
        model = basel.load(path)
        coefficients = np.ones((1, model.coefficients), np.float32)
        assert np.isfinite(model.vertices(coefficients)).all()
        assert np.isfinite(model.albedo(coefficients)).all()


@pytest.mark.parametrize("edition", FILES)
@pytest.mark.parametrize(
    "count", [pytest.param(60, id="some"), pytest.param(1500, id="many", marks=pytest.mark.slow)]
)
def test_damaged_files(edition: str, count: int, tmp_path: pathlib.Path) -> None:
    (tmp_path / "data").mkdir()
    name = write(tmp_path / "data", edition, SMALL).name
    report = mutations.run(check_model, tmp_path / "data", [name], count, megabytes=64)
    print(report)
    assert not report.problems, report
    assert report.refused
    assert report.valid or count < 1000


_SMALL: dict[str, bytes] = {}


@hypothesis.given(
    edition=st.sampled_from(list(FILES)),
    edits=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 40), st.binary(max_size=12)),
        min_size=1,
        max_size=4,
    ),
)
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_damaged_bytes_give_a_model_or_one_line(
    edition: str, edits: list[tuple[float, int, bytes]], tmp_path: pathlib.Path
) -> None:
    if edition not in _SMALL:
        _SMALL[edition] = write(tmp_path, edition, SMALL).read_bytes()
    content = bytearray(_SMALL[edition])
    for where, length, replacement in edits:
        start = int(where**3 * len(content))  # More of them at the beginning.
        content[start : start + length] = replacement
    (tmp_path / "model").write_bytes(content)
    try:
        model = basel.load(tmp_path / "model")
    except DcignError as error:
        assert str(error).startswith(f"{tmp_path / 'model'}: ") and "\n" not in str(error)
    else:
        assert np.isfinite(model.vertices(np.ones((1, model.coefficients)))).all()


@pytest.mark.slow
def test_a_model_of_full_size_costs_little_more_than_it_holds(tmp_path: pathlib.Path) -> None:
    made = basel_files.head(230, 232, 1, 1)
    assert 53_000 < len(made.vertices) < 54_000
    basis = np.random.default_rng(0).standard_normal((made.vertices.size, 199), np.float32)
    ones = np.ones(199)
    made = dataclasses.replace(
        made,
        **{"shape_modes": basis, "color_modes": basis, "expression_modes": basis[:, :100]},
        **{f"{kind}_deviations": 0.01 * ones for kind in ("shape", "color")},
        expression_deviations=ones[:100],
    )
    for edition, kept in (("2009, plain", 170e6), ("2017", 255e6)):
        path = write(tmp_path, edition, made)
        code = (
            "import re, sys, time\n"
            "from dcign_tf.scenes import basel\n"
            "def peak():\n"
            "    return int(re.search('VmHWM:\\\\s*(\\\\d+) kB', open('/proc/self/status').read())[1])\n"
            "before, start = peak(), time.perf_counter()\n"
            "model = basel.load(sys.argv[1])\n"
            "print(model.coefficients, time.perf_counter() - start, (peak() - before) * 1024)"
        )
        command = [sys.executable, "-c", code, str(path)]
        said = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
        coefficients, seconds, memory = map(float, said.stdout.split())
        print(
            f"{edition}: {path.stat().st_size / 1e6:.0f} MB, {seconds:.1f} s, {memory / 1e6:.0f} MB"
        )
        assert coefficients == (398 if "2009" in edition else 498)
        assert kept / 2 < memory < 1.5 * kept
        path.unlink()
