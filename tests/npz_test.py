import pathlib
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dcign_tf.npz import place_of, read_array, read_header, stream_rows


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "some.npz"
    objects = np.array([{}], object)
    np.savez(path, floats=np.ones((2, 3), np.float16), names=np.array(["a"]), objects=objects)
    with zipfile.ZipFile(path, "a") as file:
        header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2305843009213693951,), }\n"
        file.writestr("lie.npy", b"\x93NUMPY\x01\x00" + bytes([len(header), 0]) + header.encode())
        short = "{'descr': '<f4', 'fortran_order': False, 'shape': (9,), }\n"
        file.writestr("short.npy", b"\x93NUMPY\x01\x00" + bytes([len(short), 0]) + short.encode())
    with zipfile.ZipFile(path) as file:
        yield file


def test_arrays_that_are_as_expected_are_read(archive):
    floats = read_array(archive, "floats", np.floating, (None, 3), 1000)
    np.testing.assert_array_equal(floats, np.ones((2, 3)))
    assert read_array(archive, "names", np.str_, (1,), 1000).tolist() == ["a"]


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "message"),
    [
        ("none", np.floating, (1,), "none: missing"),
        ("floats", np.integer, (2, 3), "floats: got dtype float16, must be integer"),
        ("floats", np.float16, (2,), r"floats: got shape \(2, 3\), must have 1 dimensions"),
        ("floats", np.float16, (None, 4), r"floats: got shape \(2, 3\), must be \(any, 4\)"),
        ("objects", np.floating, (1,), "objects: holds pickled objects"),
        ("lie", np.float32, (None,), "lie: got shape .* which is too large"),
        ("short", np.float32, (None,), "short: got 0 bytes, must be 36"),
    ],
)
def test_others_are_refused_before_they_take_memory(archive, name, dtype, shape, message):
    with pytest.raises(ValueError, match=message):
        read_array(archive, name, dtype, shape, 1000)


@settings(max_examples=60)
@given(
    array=hnp.arrays(
        st.sampled_from([np.dtype(name) for name in ("u1", "<f4", "?", ">i8")]),
        hnp.array_shapes(min_dims=1, max_dims=4, max_side=5),
    ),
    compressed=st.booleans(),
    rows=st.integers(1, 6),
)
def test_rows_are_streamed_or_found_where_they_lie(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, compressed: bool, rows: int
) -> None:
    path = tmp_path_factory.mktemp("npz") / "some.npz"
    before = np.arange(7)
    (np.savez_compressed if compressed else np.savez)(path, before=before, wanted=array)
    with zipfile.ZipFile(path) as archive:
        header = read_header(archive, "wanted", np.generic, None, 10_000)
        assert (header.shape, header.dtype) == (array.shape, array.dtype)
        slabs = list(stream_rows(archive, header, rows))
        assert [len(slab) for slab in slabs[:-1]] == [rows] * (len(slabs) - 1)
        assert b"".join(slab.tobytes() for slab in slabs) == array.tobytes()
        place = place_of(archive, header)
    if compressed:
        assert place is None
    else:
        assert path.read_bytes()[place:].startswith(array.tobytes())


def test_places_of_damaged_members_are_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "some.npz"
    np.savez(path, wanted=np.arange(7))
    with zipfile.ZipFile(path) as archive:
        header = read_header(archive, "wanted", np.integer, (7,), 1000)
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    with (
        zipfile.ZipFile(path) as archive,
        pytest.raises(ValueError, match="wanted: its place in the archive is damaged"),
    ):
        place_of(archive, header)


def test_other_compressions_are_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "some.npz"
    np.savez(path, wanted=np.arange(7))
    with zipfile.ZipFile(path) as plain, zipfile.ZipFile(tmp_path / "b.npz", "w") as other:
        other.writestr("wanted.npy", plain.read("wanted.npy"), zipfile.ZIP_BZIP2)
    with (
        zipfile.ZipFile(tmp_path / "b.npz") as archive,
        pytest.raises(ValueError, match="wanted: compressed in a way that NumPy never does"),
    ):
        read_array(archive, "wanted", np.integer, (7,), 1000)
