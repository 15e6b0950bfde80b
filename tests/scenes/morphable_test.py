"""Morphable models: sums of modes, draws, and files that are read back or refused."""

import io
import os
import pathlib
import tracemalloc
import zipfile
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from dcign_tf.errors import DcignError
from dcign_tf.scenes.morphable import MorphableModel


def make(vertices=50, shapes=7, albedos=3, **changes) -> MorphableModel:
    rng = np.random.default_rng(1)
    arguments = {
        "mean_shape": rng.normal(size=(vertices, 3)),
        "shape_modes": rng.normal(size=(shapes, vertices, 3)),
        "mean_albedo": rng.uniform(size=vertices),
        "albedo_modes": 0.2 * rng.normal(size=(albedos, vertices)),
        "triangles": rng.integers(vertices, size=(80, 3)),
        "shape_mode_names": tuple(f"shape {k}" for k in range(shapes)),
        "albedo_mode_names": tuple(f"albedo {k}" for k in range(albedos)),
        "one_sided": np.arange(shapes + albedos) % 3 == 1,
        "center": np.array([0.1, 0.2, 0.3]),
        "radius": 1.5,
        "name": "lump",
        "source": "drawn at random; licence: none needed",
    }
    return MorphableModel(**(arguments | changes))


# --- Vertices, albedo, identities ----------------------------------------------------------------


@pytest.mark.parametrize(("vertices", "shapes", "albedos"), [(50, 7, 3), (1200, 13, 4), (1, 1, 0)])
def test_vertices_and_albedo_are_the_mean_and_the_weighted_modes(vertices, shapes, albedos):
    model = make(vertices, shapes, albedos)
    for n in (1, 3, 4, 5, 8, 11):
        coefficients = np.random.default_rng(n).normal(size=(n, shapes + albedos))
        expected = model.mean_shape + np.tensordot(coefficients[:, :shapes], model.shape_modes, 1)
        found = model.vertices(coefficients)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=2e-5)
        shade = model.mean_albedo + coefficients[:, shapes:] @ model.albedo_modes
        np.testing.assert_allclose(model.albedo(coefficients), np.clip(shade, 0, 1), atol=1e-5)
    assert model.albedo(10 * coefficients).min() >= 0
    assert model.albedo(10 * coefficients).max() <= 1


def test_one_identity_has_the_same_bytes_whatever_is_computed_beside_it():
    model = make(vertices=1000, shapes=30, albedos=9)
    coefficients = model.draw(np.random.default_rng(0), 23)
    vertices, albedo = model.vertices(coefficients), model.albedo(coefficients)
    for rows in ([4], [22, 0], [7, 8, 9, 10], range(6), range(22, -1, -1)):
        rows = list(rows)
        assert (model.vertices(coefficients[rows]) == vertices[rows]).all()
        assert (model.albedo(coefficients[rows]) == albedo[rows]).all()


def test_models_may_lack_modes_vertices_and_triangles():
    plain = make(shapes=0, albedos=0)
    assert (plain.vertices(np.zeros((2, 0))) == plain.mean_shape).all()
    assert (plain.albedo(np.zeros((2, 0))) == plain.mean_albedo).all()
    assert plain.vertices(np.zeros((0, 0))).shape == (0, 50, 3)
    nothing = make(vertices=1, triangles=np.zeros((0, 3)))
    assert nothing.triangles.shape == (0, 3)


def test_draws_are_normal_and_those_of_expressions_one_sided():
    model = make()
    values = model.draw(np.random.default_rng(2), 4000)
    assert values.shape == (4000, 10)
    assert values.dtype == np.float32
    assert (values[:, model.one_sided] >= 0).all()
    two_sided = values[:, ~model.one_sided]
    np.testing.assert_allclose(two_sided.mean(axis=0), 0, atol=0.07)
    np.testing.assert_allclose((values**2).mean(axis=0), 1, atol=0.1)
    np.testing.assert_array_equal(values, model.draw(np.random.default_rng(2), 4000))


def test_names_of_modes_are_in_the_order_of_coefficients():
    model = make(shapes=2, albedos=1)
    assert model.mode_names == ("shape 0", "shape 1", "albedo 0")
    assert model.coefficients == 3


@pytest.mark.parametrize("shape", [(10,), (2, 9), (2, 11), (1, 2, 10)])
def test_coefficients_of_another_shape_are_refused(shape):
    for method in (make().vertices, make().albedo):
        with pytest.raises(ValueError, match=r"coefficients: got shape .*, must be \[n, 10\]"):
            method(np.zeros(shape))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean_shape": np.zeros(50)}, "mean_shape: got shape"),
        ({"mean_shape": np.zeros((50, 2))}, r"mean_shape: got shape \(50, 2\), must be \(50, 3\)"),
        ({"shape_modes": np.zeros((6, 50, 3))}, "shape_modes: got shape"),
        ({"mean_albedo": np.zeros(49)}, "mean_albedo: got shape"),
        ({"albedo_modes": np.zeros((3, 49))}, "albedo_modes: got shape"),
        ({"triangles": np.zeros((4, 4), int)}, "triangles: got shape"),
        ({"triangles": [[0, 1, 50]]}, "triangles: got indices 0 to 50, must be 0 to 49"),
        ({"triangles": [[0, -1, 2]]}, "triangles: got indices -1 to 2"),
        ({"triangles": [[0, 1, 2**32 + 1]]}, "triangles: got indices 0 to 4294967297"),
        ({"triangles": [[0, 1, 2.5]]}, "triangles: got dtype float64, must be integers"),
        ({"one_sided": np.zeros(9, bool)}, "one_sided: got shape"),
        ({"center": np.zeros(2)}, "center: got shape"),
        ({"center": [0, np.nan, 0]}, "center: holds values that are not finite"),
        ({"mean_shape": np.full((50, 3), np.inf)}, "mean_shape: holds values"),
        ({"radius": 0.0}, "radius: got 0.0, must be positive"),
        ({"radius": np.nan}, "radius: got nan"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


# --- Files ---------------------------------------------------------------------------------------


def same(a: MorphableModel, b: MorphableModel) -> bool:
    for field, value in vars(a).items():
        other = getattr(b, field)
        if isinstance(value, np.ndarray):
            if value.dtype != other.dtype or not np.array_equal(value, other):
                return False
        elif value != other:
            return False
    return True


def stored(**changes) -> bytes:
    """The bytes of a saved model, with arrays replaced, or left out where None."""
    model = make()
    file = io.BytesIO()
    arrays: dict[str, Any] = {
        field: value for field, value in vars(model).items() if isinstance(value, np.ndarray)
    }
    arrays |= {
        "shape_mode_names": np.array(model.shape_mode_names),
        "albedo_mode_names": np.array(model.albedo_mode_names),
        "radius": np.float64(1.5),
        "name": np.str_("lump"),
        "source": np.str_("a test"),
        "format": np.int32(1),
    }
    arrays |= changes
    np.savez_compressed(file, **{k: v for k, v in arrays.items() if v is not None})
    return file.getvalue()


def load(tmp_path: pathlib.Path, content: bytes) -> MorphableModel:
    path = tmp_path / "model.npz"
    path.write_bytes(content)
    return MorphableModel.load(path)


@pytest.mark.parametrize("sizes", [(50, 7, 3), (3, 0, 0), (1, 1, 1)])
def test_save_and_load_give_the_same_model(tmp_path, sizes):
    model = make(*sizes, name="größer", source="two\nlines")
    model.save(tmp_path / "a b.npz")
    assert same(MorphableModel.load(tmp_path / "a b.npz"), model)
    assert os.listdir(tmp_path) == ["a b.npz"]


def test_saved_models_hold_no_pickles(tmp_path):
    make().save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as arrays:
        assert all(not arrays[name].dtype.hasobject for name in arrays.files)


def test_a_failed_save_leaves_the_old_file(tmp_path):
    model = make()
    model.save(tmp_path / "model.npz")
    before = (tmp_path / "model.npz").read_bytes()
    broken = make(name="other")
    object.__setattr__(broken, "radius", "not a number")
    with pytest.raises(ValueError, match="not a number"):
        broken.save(tmp_path / "model.npz")
    assert (tmp_path / "model.npz").read_bytes() == before
    assert os.listdir(tmp_path) == ["model.npz"]


def test_an_unchanged_copy_loads(tmp_path):
    assert load(tmp_path, stored()).name == "lump"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": np.int32(2)}, "format: got 2, must be 1"),
        ({"format": None}, "format: missing"),
        ({"mean_shape": None}, "mean_shape: missing"),
        ({"name": None}, "name: missing"),
        ({"radius": np.float64(-1)}, "radius: got -1.0, must be positive"),
        ({"radius": np.zeros(2)}, r"radius: got shape \(2,\), must have 0 dimensions"),
        ({"source": np.int32(4)}, "source: got dtype int32, must be str"),
        ({"mean_shape": np.zeros((50, 3))}, "mean_shape: got dtype float64, must be float32"),
        ({"mean_shape": np.zeros((50, 4), np.float32)}, "mean_shape: got shape"),
        ({"mean_shape": np.full((50, 3), np.nan, np.float32)}, "mean_shape: holds values"),
        ({"shape_mode_names": np.array(["one"])}, "shape_modes: got shape"),
        ({"shape_mode_names": np.array([1, 2])}, "shape_mode_names: got dtype int64, must be str"),
        ({"one_sided": np.zeros(10)}, "one_sided: got dtype float64, must be bool"),
        ({"triangles": np.array([[0, 1, 50]], np.int32)}, "triangles: got indices 0 to 50"),
        ({"triangles": np.array([[0, -5, 1]], np.int32)}, "triangles: got indices -5 to 1"),
        ({"name": np.array("x", object)}, "name: holds pickled objects, which are never read"),
        (
            {"triangles": np.array([[{}, 1, 2]], object)},
            "triangles: holds pickled objects, which are never read",
        ),
    ],
)
def test_files_with_wrong_arrays_are_refused_by_name(tmp_path, changes, message):
    with pytest.raises(DcignError, match=message) as caught:
        load(tmp_path, stored(**changes))
    assert str(tmp_path / "model.npz") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"not a model at all", stored()[:1000], stored()[:-30], b"\x93NUMPY\x01\x00" * 9],
)
def test_foreign_and_truncated_files_are_refused_by_name(tmp_path, content):
    with pytest.raises(DcignError, match=r"model\.npz: not a morphable model \(\.npz\): "):
        load(tmp_path, content)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(DcignError, match=r"absent\.npz: no such file; expected a morphable model"):
        MorphableModel.load(tmp_path / "absent.npz")
    with pytest.raises(DcignError, match="cannot be read: Is a directory"):
        MorphableModel.load(tmp_path)


def header(shape: str, descr: str = "<f4") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text = text.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (header(f"({2**60}, 3)"), "which is too large"),
        (header("(40000000, 3)"), "got 16 bytes, must be 480000000"),
        (header("(50, 3)"), "got 16 bytes, must be 600"),
        (header("(-1, 3)"), "mean_shape: got"),
        (header("(50, 3)", "<U99999999"), "got dtype <U99999999, must be float32"),
        (b"\x93NUMPY\x09\x09" + b"\0" * 200, "model"),
        (b"", "model"),
    ],
)
def test_headers_that_lie_cost_no_memory(tmp_path, member, message):
    file = io.BytesIO(stored(mean_shape=None))
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mean_shape.npy", member + bytes(16))
    tracemalloc.start()
    try:
        with pytest.raises(DcignError, match=message):
            load(tmp_path, file.getvalue())
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


_WHOLE = stored()


@hypothesis.given(
    st.lists(
        st.tuples(
            st.integers(0, len(_WHOLE) - 1),
            st.integers(0, 40),
            st.binary(max_size=12),
        ),
        min_size=1,
        max_size=4,
    )
)
@hypothesis.settings(
    max_examples=200,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_damaged_bytes_give_a_model_or_one_clear_line(tmp_path, edits):
    content = bytearray(_WHOLE)
    for start, length, replacement in edits:
        content[start : start + length] = replacement
    try:
        model = load(tmp_path, bytes(content))
    except DcignError as error:
        assert str(error).startswith(f"{tmp_path / 'model.npz'}: ")
        assert len(str(error).splitlines()) == 1
    else:
        assert np.isfinite(model.vertices(np.ones((1, model.coefficients)))).all()
