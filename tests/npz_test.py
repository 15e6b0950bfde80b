import zipfile

import numpy as np
import pytest

from dcign_tf.npz import read_array


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
