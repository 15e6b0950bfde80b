import io
import tracemalloc

import hypothesis
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import scipy.io
from hypothesis import strategies as st

from dcign_tf import matlab

DTYPES = [np.dtype(kind) for kind in ("f4", "f8", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")]
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(
        dtype, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9)
    )
)


def saved(variables: dict[str, object], compressed: bool) -> io.BytesIO:
    file = io.BytesIO()
    scipy.io.savemat(file, variables, do_compression=compressed)
    return file


def read(file: io.BytesIO, name: str) -> np.ndarray:
    variable = matlab.find(matlab.index(file), name)
    columns = list(matlab.columns(file, variable))
    return np.stack(columns, 1) if columns else np.empty(variable.shape, variable.dtype)


@hypothesis.given(
    variables=st.dictionaries(st.from_regex("[a-z][a-z0-9_]{0,30}", fullmatch=True), ARRAYS),
    compressed=st.booleans(),
)
def test_what_scipy_writes_is_read(variables: dict[str, np.ndarray], compressed: bool) -> None:
    file = saved(dict(variables), compressed)
    assert set(matlab.index(file)) == set(variables)
    for name, array in variables.items():
        found = read(file, name)
        assert found.dtype == array.dtype and found.shape == array.shape
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("compressed", [False, True])
def test_long_columns_are_read_over_many_pieces(compressed: bool) -> None:
    array = np.random.default_rng(0).normal(size=(100_000, 3)).astype(np.float32)
    np.testing.assert_array_equal(read(saved({"a": array}, compressed), "a"), array)


def test_big_endian_files_are_read() -> None:
    # One 2 x 1 array of doubles named "ab", written out by hand.
    element = bytes.fromhex(
        "0000000e 00000040"  # a matrix of 64 bytes
        "00000006 00000008 00000006 00000000"  # of doubles
        "00000005 00000008 00000002 00000001"  # 2 x 1
        "00020001 61620000"  # its name in the short form
        "00000009 00000010 3ff0000000000000 c000000000000000"
    )
    file = io.BytesIO(b"MATLAB 5.0 MAT-file".ljust(124) + b"\1\0MI" + element)
    np.testing.assert_array_equal(read(file, "ab"), [[1.0], [-2.0]])


def test_a_wrong_checksum_is_noticed() -> None:
    content = bytearray(saved({"a": np.arange(100.0)[:, None]}, True).getvalue())
    content[-1] ^= 1
    with pytest.raises(ValueError, match="^a: .*incorrect data check"):
        read(io.BytesIO(content), "a")


def test_functions_and_objects_are_refused() -> None:
    content = bytearray(saved({"a": np.ones((1, 1))}, False).getvalue())
    for of_class, what in (
        (3, "an object, must be an array"),
        (16, "a function, must be an array"),
        (99, "of the unknown class 99"),
    ):
        content[128 + 16] = of_class
        with pytest.raises(ValueError, match=f"^a: {what}"):
            read(io.BytesIO(content), "a")
    # MATLAB's newer objects have their name where others have their sizes.
    content[128 + 16] = 17
    content[128 + 24 : 128 + 40] = b"\1\0\0\0\3\0\0\0obj\0\0\0\0\0"
    with pytest.raises(ValueError, match="^obj: an object, must be"):
        read(io.BytesIO(content), "obj")


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, b"MATLAB 4", "not a MATLAB file of level 5"),
        (126, b"XX", "not a MATLAB file of level 5"),
        (128, b"\7\0\0\0", "type 7 at byte 128, where a variable must begin"),
        (132, b"\xff\xff\xff\xff", "cut short within the variable at byte 128"),
        (136, b"\5", "variable at byte 128: damaged flags"),
        (152, b"\6", "variable at byte 128: damaged sizes"),
        (156, b"\xff\xff", "variable at byte 128: damaged"),
        (168, b"\7", "variable at byte 128: damaged name"),
    ],
)
def test_damage_is_told(position: int, value: bytes, message: str) -> None:
    content = bytearray(saved({"a": np.ones((3, 1))}, False).getvalue())
    content[position : position + len(value)] = value
    with pytest.raises(ValueError, match=message):
        matlab.index(io.BytesIO(content))


def test_variables_are_counted_and_differ() -> None:
    content = saved({"a": np.ones((3, 1))}, False).getvalue()
    with pytest.raises(ValueError, match="a: there twice"):
        matlab.index(io.BytesIO(content + content[128:]))
    many = saved({f"v{k}": np.ones((1, 1)) for k in range(1000)}, False)
    with pytest.raises(ValueError, match="more than 999 variables"):
        matlab.index(many)


def test_only_what_is_asked_for_is_decompressed() -> None:
    file = saved({"a": np.zeros((1_000_000, 40), np.int8), "b": np.ones((5, 1))}, True)
    tracemalloc.start()
    try:
        assert read(file, "b").sum() == 5
        first = next(matlab.columns(file, matlab.index(file)["a"]))
        assert len(first) == 1_000_000
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


_WHOLE = [
    saved({"a": np.arange(12.0).reshape(4, 3), "longer": np.ones((2, 2), np.int16)}, packed)
    for packed in (False, True)
]


@hypothesis.given(
    whole=st.sampled_from([file.getvalue() for file in _WHOLE]),
    edits=st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 20), st.binary(max_size=12)), max_size=3
    ),
)
def test_any_bytes_give_numbers_or_one_line(whole: bytes, edits: list) -> None:
    content = bytearray(whole)
    for start, length, replacement in edits:
        content[start : start + length] = replacement
    file = io.BytesIO(content)
    try:
        for name, variable in matlab.index(file).items():
            if not variable.refusal:
                assert read(file, name).shape == variable.shape
    except ValueError as error:
        assert str(error) and "\n" not in str(error)
