"""What `hdf5.dataset` lets through; what it refuses is shown where it is used, in tests/scenes/basel_test.py."""

import io
import pathlib

import h5py
import hypothesis
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import strategies as st

from dcign_tf import hdf5

DTYPES = [np.dtype(kind) for kind in ("f2", "<f4", ">f4", "f8", "i1", "u2", "i4", "u8")]
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_dims=3, max_side=9))
)


@hypothesis.given(
    array=ARRAYS,
    chunk=st.integers(0, 4),
    packed=st.booleans(),
    shuffle=st.booleans(),
    checksum=st.booleans(),
)
def test_arrays_of_numbers_are_found(
    tmp_path_factory: pytest.TempPathFactory,
    array: np.ndarray,
    chunk: int,
    packed: bool,
    shuffle: bool,
    checksum: bool,
) -> None:
    path = tmp_path_factory.getbasetemp() / "arrays.h5"
    options: dict[str, object] = {
        "shuffle": shuffle,
        "fletcher32": checksum,
        "compression": 4 if packed else None,
    }
    if chunk:
        options["chunks"] = tuple(min(chunk, length) for length in array.shape)
    with h5py.File(path, "w") as file:
        file.create_dataset("a/b", data=array, **(options if chunk else {}))
    with h5py.File(path, "r") as file:
        found = hdf5.dataset(file, "a/b")
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found[()], array)
        with pytest.raises(ValueError, match=r"^a/b: got shape .*, which is too large"):
            hdf5.dataset(file, "a/b", array.nbytes - 1)


def test_groups_have_members_or_not(tmp_path: pathlib.Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a/b"] = np.zeros(3)
        file["soft"] = h5py.SoftLink("/a/b")
        file["external"] = h5py.ExternalLink("none.h5", "/a")
        assert hdf5.has(file, "a") and not hdf5.has(file, "b")
        for name in ("soft", "external"):
            with pytest.raises(ValueError, match=f"^{name}: a link, which is never followed"):
                hdf5.has(file, name)
        for path in ("b", "a/c", "a/b/c", "a//b", ""):
            with pytest.raises(ValueError, match=f"^{path}: "):
                hdf5.dataset(file, path)


def _content() -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["a/plain"] = np.arange(20.0)
        file.create_dataset("a/packed", data=np.arange(90), chunks=(30,), compression=1)
    return content.getvalue()


_WHOLE = _content()


@hypothesis.given(
    st.lists(
        st.tuples(st.integers(0, len(_WHOLE)), st.integers(0, 20), st.binary(max_size=12)),
        min_size=1,
        max_size=4,
    )
)
def test_damaged_bytes_give_numbers_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, int, bytes]]
) -> None:
    content = bytearray(_WHOLE)
    for start, length, replacement in edits:
        content[start : start + length] = replacement
    path = tmp_path_factory.getbasetemp() / "damaged.h5"
    path.write_bytes(content)
    try:
        file = h5py.File(path, "r")
    except OSError:
        return
    with file:
        for name in ("a/plain", "a/packed"):
            try:
                found = hdf5.dataset(file, name)
            except ValueError as error:
                assert str(error).startswith(f"{name}: ") and "\n" not in str(error)
            else:
                assert found.size * found.dtype.itemsize < 1032 * len(content)
