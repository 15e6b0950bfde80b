"""Torch7's binary files are read as Torch reads them, and what is none is refused at no cost."""

import math
import pathlib
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dcign_tf.datasets import t7
from dcign_tf.errors import DcignError
from tests import mutations
from tests.datasets import torch7

# torch.save("golden.t7", torch.FloatTensor{{1, 2, 3}, {4, 5, 6}}), byte by byte.
_GOLDEN = bytes.fromhex(
    "04000000"  # a Torch object
    "01000000"  # the first of this file
    "03000000" + b"V 1".hex() + "11000000" + b"torch.FloatTensor".hex() + "02000000"  # dimensions
    "0200000000000000"
    "0300000000000000"  # sizes
    "0300000000000000"
    "0100000000000000"  # strides
    "0100000000000000"  # begins at the storage's first element
    "04000000"
    "02000000"
    "03000000" + b"V 1".hex() + "12000000" + b"torch.FloatStorage".hex() + "0600000000000000"
    "0000803f"
    "00000040"
    "00004040"
    "00008040"
    "0000a040"
    "0000c040"
)


def test_a_golden_file() -> None:
    tensor = t7.parse(_GOLDEN, "golden")
    assert tensor.dtype == np.float32
    assert tensor.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert not tensor.flags.writeable
    assert torch7.saved(np.array([[1, 2, 3], [4, 5, 6]], np.float32)) == _GOLDEN


@pytest.mark.parametrize("kind", ["u1", "i1", "<i2", "<i4", "<i8", "<f4", "<f8"])
def test_every_type_of_element(kind: str) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(kind)
    read = t7.parse(torch7.saved(array), "a")
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


def test_strides_and_offsets() -> None:
    storage = np.arange(60, dtype=np.float32)
    whole = storage.reshape(5, 4, 3)
    for view in (whole[1:], whole.T, whole[::2, 1, 1:], whole.transpose(1, 0, 2)[:, :, :1]):
        data = torch7.saved(view)
        assert data.count(b"FloatStorage") == 1
        np.testing.assert_array_equal(t7.parse(data, "a"), view)


def test_objects_that_are_there_twice_are_one() -> None:
    storage = np.arange(6, dtype=np.float64)
    table: dict[Any, Any] = {1: storage[:3], 2: storage.reshape(2, 3)}
    table["same"] = table[2]
    table["self"] = table
    read = t7.parse(torch7.saved(table), "a")
    assert list(read) == [1, 2, "same", "self"]
    assert read["self"] is read
    assert read["same"] is read[2]
    assert np.shares_memory(read[1], read[2])
    np.testing.assert_array_equal(read[2], [[0, 1, 2], [3, 4, 5]])


def _string(text: bytes) -> bytes:
    return struct.pack("<i", len(text)) + text


def test_functions_are_passed_over_and_classes_keep_their_fields() -> None:
    number = struct.pack("<id", 1, 7.5)
    for function in (
        struct.pack("<i", 6) + _string(b"\x1bLua!") + struct.pack("<i", 0),
        struct.pack("<ii", 7, 9) + _string(b"\x1bLua!") + struct.pack("<i", 0),
        struct.pack("<ii", 8, 9) + _string(b"\x1bLua!") + struct.pack("<iii", 3, 10, 0),
    ):
        fields = struct.pack("<iii", 3, 2, 2) + struct.pack("<i", 2) + _string(b"f") + function
        fields += struct.pack("<i", 2) + _string(b"n") + number
        data = struct.pack("<ii", 4, 1) + _string(b"V 1") + _string(b"nn.Linear") + fields
        expected = t7.TorchObject("nn.Linear", {"f": t7.Function(), "n": 7.5})
        assert t7.parse(data, "a") == expected


def test_files_of_before_the_versions() -> None:
    data = _GOLDEN.replace(_string(b"V 1"), b"")
    assert t7.parse(data, "a").tolist() == [[1, 2, 3], [4, 5, 6]]


def test_tensors_of_nothing() -> None:
    head = struct.pack("<ii", 4, 1) + _string(b"V 1") + _string(b"torch.FloatTensor")
    assert t7.parse(head + struct.pack("<iqi", 0, 1, 0), "a").shape == (0,)
    assert t7.parse(torch7.saved(np.zeros([3, 0], np.float32)), "a").size == 0


_keys = st.text() | st.integers(-(2**31), 2**31)
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text()
    | hnp.arrays(
        st.sampled_from(["u1", "<i8", "<f4", "<f8"]),
        hnp.array_shapes(min_dims=1, max_dims=4, max_side=3),
        elements=st.integers(0, 100),
    ),
    lambda inner: st.dictionaries(_keys, inner, max_size=4),
)


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and (left == right).all()
    if isinstance(left, dict):
        same = list(left) == list(right)
        return same and all(_equal(left[key], right[key]) for key in left)
    return bool(left == right)


@given(_values)
def test_what_is_written_is_read(value: Any) -> None:
    assert _equal(t7.parse(torch7.saved(value), "a"), value)


def _golden(at: int, form: str, value: int) -> bytes:
    """The golden file with another number at a place."""
    data = bytearray(_GOLDEN)
    struct.pack_into(form, data, at, value)
    return bytes(data)


_SIZES = _GOLDEN.index(b"torch.FloatTensor") + 17 + 4
_COUNT = _GOLDEN.index(b"torch.FloatStorage") + 18


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (_golden(_COUNT, "<q", 2**60), "got a storage of 1152921504606846976 elements, more than"),
        (_golden(_COUNT, "<q", -1), "got a storage of -1 elements"),
        (_golden(_COUNT, "<q", 5), "got a tensor 2 x 3 of a storage of 5"),
        (_GOLDEN + bytes(4), "the object ends here, 4 bytes before the file's end"),
        (_golden(_SIZES, "<q", 2**60), "got a tensor 1152921504606846976 x 3 of a storage of 6"),
        (_golden(_SIZES, "<q", -2), "got a tensor -2 x 3 with strides"),
        (_golden(_SIZES + 16, "<q", 4), "that ends at element 7 of a storage of 6"),
        (_golden(_SIZES + 16, "<q", -3), r"with strides \[-3, 1\]"),
        (_golden(_SIZES + 16, "<q", 2**62), "that ends at element"),
        (_golden(_SIZES + 32, "<q", 0), "offset 0"),
        (_golden(_SIZES + 32, "<q", 2), "that ends at element 7"),
        (_golden(_SIZES - 4, "<i", 2**31 - 1), "got a tensor of 2147483647 dimensions"),
        (_golden(_SIZES - 4, "<i", -1), "got a tensor of -1 dimensions"),
        (_golden(8, "<i", 2**31 - 1), "a version of 2147483647 bytes, but"),
        (_golden(8, "<i", -1), "a version of -1 bytes"),
        (_golden(0, "<i", 9), "at byte 4: got type 9 of an object, must be 0 to 8"),
        (_GOLDEN[:-1], "got a storage of 6 elements, more than the file can hold"),
        (_GOLDEN.replace(b"FloatS", b"LongSt"), "which is not read"),
        (_GOLDEN.replace(b"FloatStorage", b"HalveStorage"), "class 'torch.HalveStorage', which is"),
        (_golden(_COUNT - 33, "<i", 1), "of a storage of 0"),  # Its storage is the tensor itself.
        (
            _GOLDEN.replace(_string(b"torch.FloatStorage"), _string(b"torch.IntStorage")),
            "a tensor without a storage of its type",
        ),
        (struct.pack("<iii", 3, 1, 2**31 - 1), "got a table of 2147483647 entries, more than"),
        (struct.pack("<iii", 3, 1, -1), "got a table of -1 entries"),
        (struct.pack("<iiiiiiiiii", 3, 1, 1, 0, 0, 0, 0, 0, 0, 0), "key of type NoneType, must"),
        (struct.pack("<iiiidi", 3, 1, 1, 1, math.nan, 0), "key of type float, must"),
        (
            b"".join(struct.pack("<iiiii", 3, n, 1, 2, 0) for n in range(200)) + bytes(4),
            "more than 100 deep",
        ),
        (b"4\n1\n3\nV 1\n", "but its ASCII form; save it with"),
        (b"PK\x03\x04", "but a ZIP archive, perhaps of PyTorch"),
        (b"\x80\x02\x8a", "but a Python pickle"),
        (b"\0\0\0\x04\0\0\0\x01", "but of a big-endian machine"),
        (b"", "but an empty file"),
        (b"hello, world", "at byte 4: got type 1819043176"),
    ],
)
def test_what_cannot_be_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(DcignError, match=told) as raised:
        t7.parse(data, "some.t7")
    assert str(raised.value).startswith("some.t7: not a")


def test_too_many_objects_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(t7, "MAX_OBJECTS", 10)
    with pytest.raises(DcignError, match="more than 10 objects"):
        t7.parse(torch7.saved({n: n for n in range(20)}), "a")


def test_a_lie_costs_no_memory() -> None:
    tracemalloc.start()
    for data in (
        _golden(_COUNT, "<q", 2**60),
        _golden(_SIZES, "<q", 2**40),
        struct.pack("<iii", 3, 1, 2**31 - 1),
    ):
        with pytest.raises(DcignError):
            t7.parse(data, "a")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_files_are_named(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "batch1"
    path.write_bytes(_GOLDEN)
    assert t7.read(path).shape == (2, 3)
    with pytest.raises(DcignError, match="batch1: larger than .* MiB, too large"):
        t7.read(path, max_bytes=100)
    with pytest.raises(DcignError, match="batch2: No such file"):
        t7.read(tmp_path / "batch2")


@given(st.binary(max_size=200), st.sampled_from([b"", _GOLDEN[:40], _GOLDEN[:_SIZES]]))
def test_any_bytes_give_an_object_or_an_error(data: bytes, start: bytes) -> None:
    try:
        t7.parse(start + data, "fuzz")
    except DcignError as error:
        assert str(error).startswith("fuzz: ")


def _total(value: Any, seen: set[int]) -> float:
    """Touches every element."""
    if isinstance(value, np.ndarray):
        return float(value.astype(np.float32).ravel()[:1].sum()) + value.size
    if id(value) in seen:
        return 0
    seen.add(id(value))
    if isinstance(value, dict):
        return sum(_total(part, seen) for part in value.values())
    if isinstance(value, t7.TorchObject):
        return _total(value.fields, seen)
    return 1


def check_file(folder: pathlib.Path) -> None:
    _total(t7.read(folder / "a.t7"), set())


@pytest.mark.parametrize(
    "count", [pytest.param(100, id="some"), pytest.param(5000, id="many", marks=pytest.mark.slow)]
)
def test_damaged_files(count: int, tmp_path: pathlib.Path) -> None:
    (tmp_path / "data").mkdir()
    storage = np.arange(600, dtype=np.float32)
    value = {"a": storage.reshape(20, 30), "b": {1: storage[3:], 2: True}, "c": "text"}
    (tmp_path / "data" / "a.t7").write_bytes(torch7.saved(value))
    report = mutations.run(check_file, tmp_path / "data", ["a.t7"], count, megabytes=64)
    print(report)
    assert not report.problems, report
    assert report.valid > 0
    assert report.refused > 0
