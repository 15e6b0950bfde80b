"""Factor grids with the keys, dtypes, orders and units of the published ones; lies about them cost no memory."""

import dataclasses
import gc
import io
import itertools
import math
import os
import pathlib
import pickle
import tempfile
import zipfile
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcign_tf.datasets import factor_grid
from dcign_tf.errors import DcignError, UsageError
from tests import mutations
from tests.datasets import tables_check


class Evil:
    """Unpickling this ends the test run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (7,)


def dsprites(sizes: tuple[int, ...] = (1, 3, 2, 5, 4, 4), side: int = 8) -> dict[str, np.ndarray]:
    """A small grid in dSprites' layout."""
    axes: list[np.ndarray] = [
        np.ones(sizes[0]),
        np.arange(1.0, sizes[1] + 1),
        np.linspace(0.5, 1, sizes[2]),
        np.linspace(0, 2 * np.pi, sizes[3]),
        np.linspace(0, 1, sizes[4]),
        np.linspace(0, 1, sizes[5]),
    ]
    classes = np.array(list(itertools.product(*map(range, sizes))), np.int64)
    values = np.array(list(itertools.product(*axes)), np.float64)
    metadata = np.array({"date": "April 2017", "latents_names": Evil()}, object)
    return {
        "metadata": metadata,
        "imgs": np.random.default_rng(0).integers(0, 2, [len(values), side, side], np.uint8),
        "latents_classes": classes,
        "latents_values": values,
    }


def shapes3d(sizes: tuple[int, ...] = (2, 2, 2, 3, 2, 5), side: int = 8) -> dict[str, np.ndarray]:
    """A small grid in 3D Shapes' layout."""
    axes: list[np.ndarray] = [np.linspace(0, 0.9, size) for size in sizes[:3]]
    axes += [np.linspace(0.75, 1.25, sizes[3]), np.arange(sizes[4]), np.linspace(-30, 30, sizes[5])]
    labels = np.array(list(itertools.product(*axes)), np.float64)
    rng = np.random.default_rng(1)
    return {
        "images": rng.integers(0, 256, [len(labels), side, side, 3], np.uint8),
        "labels": labels,
    }


def write_h5(path: pathlib.Path, arrays: dict[str, np.ndarray], **options: Any) -> str:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, **(options if array.ndim > 2 else {}))
    return str(path)


def write_npz(path: pathlib.Path, arrays: dict[str, np.ndarray], compressed: bool = True) -> str:
    (np.savez_compressed if compressed else np.savez)(path, **arrays)  # type: ignore[arg-type]
    return str(path)


def weighed(images: np.ndarray) -> np.ndarray:
    return images.astype(float) @ [0.21, 0.72, 0.07]


def all_images(table: Any) -> np.ndarray:
    return np.stack([table.images.read(row) for row in range(len(table.images))])


@pytest.fixture(autouse=True)
def temporary(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """Where files are unpacked; nothing may be left there."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    gc.collect()
    assert not list(folder.iterdir())


@pytest.mark.parametrize("compressed", [True, False])
def test_dsprites(tmp_path: pathlib.Path, temporary: pathlib.Path, compressed: bool) -> None:
    arrays = dsprites()
    table = factor_grid.load(write_npz(tmp_path / "dsprites.npz", arrays, compressed))
    tables_check.check(table)
    # Compressed images are unpacked, one bit for each pixel.
    sizes = [path.stat().st_size for path in temporary.iterdir()]
    assert sizes == ([len(arrays["imgs"]) * 8] if compressed else [])
    np.testing.assert_array_equal(all_images(table), arrays["imgs"] * 255)
    assert table.source.startswith("dSprites (Matthey et al. 2017")
    assert table.factors == ("orientation", "pos_x", "pos_y")
    assert table.units == {"orientation": "degrees", "pos_x": "", "pos_y": ""}
    assert table.periods == {"orientation": 360}
    classes, values = arrays["latents_classes"], arrays["latents_values"]
    np.testing.assert_allclose(table.values["orientation"], classes[:, 3] * 90)
    np.testing.assert_array_equal(table.values["pos_x"], values[:, 4])
    np.testing.assert_array_equal(table.values["pos_y"], values[:, 5])
    np.testing.assert_array_equal(table.identity, classes[:, 1] * 2 + classes[:, 2])
    assert table.split is None
    assert table.groups is None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": (7, 4, 3, 1), "compression": "gzip"},
        {"chunks": (200, 8, 8, 3), "compression": "gzip", "shuffle": True, "fletcher32": True},
        {"chunks": True},
    ],
)
def test_3d_shapes(
    tmp_path: pathlib.Path, temporary: pathlib.Path, options: dict[str, Any]
) -> None:
    arrays = shapes3d()
    table = factor_grid.load(write_h5(tmp_path / "3dshapes.h5", arrays, **options))
    tables_check.check(table)
    # What is not stored in chunks is read where it lies.
    sizes = [path.stat().st_size for path in temporary.iterdir()]
    assert sizes == ([len(arrays["images"]) * 64] if options else [])
    np.testing.assert_allclose(all_images(table), weighed(arrays["images"]), atol=0.51)
    assert table.source.startswith("3D Shapes (Burgess and Kim 2018")
    assert table.factors == ("orientation",)
    assert (table.units, table.periods) == ({"orientation": "degrees"}, {})
    assert table.values["orientation"].tolist() == [-30, -15, 0, 15, 30] * 48
    assert table.identity.tolist() == [n for n in range(48) for _ in range(5)]


@pytest.mark.parametrize("sizes", [(6, 6, 2, 3, 3, 40, 40), (4, 4, 2, 3, 3, 40, 40)])
def test_mpi3d(tmp_path: pathlib.Path, sizes: tuple[int, ...]) -> None:
    count = math.prod(sizes)
    # In C order, as published: the vertical axis varies fastest. Images of one pixel, which holds the image's number.
    numbers = np.arange(count)
    images = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=-1)
    arrays = {"images": images.astype(np.uint8).reshape(count, 1, 1, 3)}
    table = factor_grid.load(write_npz(tmp_path / "mpi3d.npz", arrays, compressed=False))
    tables_check.check(table)
    assert table.source.startswith("MPI3D (Gondal et al. 2019")
    assert table.factors == ("camera_height", "horizontal_axis", "vertical_axis")
    assert set(table.units.values()) == {""}
    row = int(np.ravel_multi_index((3, 1, 1, 2, 0, 17, 39), sizes))
    assert [table.values[name][row] for name in table.factors] == [2, 17, 39]
    same = np.ravel_multi_index((3, 1, 1, 0, 0, 0, 1), sizes)
    assert table.identity[row] == table.identity[same] == ((3 * sizes[1] + 1) * 2 + 1) * 3
    assert table.identity.max() + 1 == sizes[0] * sizes[1] * 2 * 3
    np.testing.assert_allclose(table.images.read(row), weighed(images[row]), atol=0.51)


@pytest.mark.parametrize("kind", ["h5", "npz"])
@settings(max_examples=40)
@given(data=st.data())
def test_anybodys_grids(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    names = data.draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4, unique=True))
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=len(names), max_size=len(names)))
    sizes[0] = 2
    shape = (math.prod(sizes), *data.draw(st.sampled_from([(3, 5), (2, 9, 1), (4, 3, 3), (1, 1)])))
    dtype = data.draw(st.sampled_from([np.uint8, np.bool_] if kind == "npz" else [np.uint8]))
    images: np.ndarray = np.random.default_rng(2).integers(0, 256, shape).astype(dtype)
    arrays = {data.draw(st.sampled_from(factor_grid.IMAGES)): images}
    labeled = data.draw(st.booleans())
    indices = np.array(list(itertools.product(*map(range, sizes))))
    if labeled:
        scale = np.arange(1, len(names) + 1)
        key = data.draw(st.sampled_from(factor_grid.LABELS))
        arrays[key] = (indices * scale).astype(data.draw(st.sampled_from([np.float32, np.int16])))
    path = tmp_path_factory.mktemp("grid") / f"grid.{kind}"
    compressed = data.draw(st.booleans())
    if kind == "npz":
        write_npz(path, arrays, compressed)
    else:
        write_h5(path, arrays, **({"compression": "gzip"} if compressed else {}))
    varying = [name for name, size in zip(names, sizes, strict=True) if size > 1]
    factors = data.draw(st.permutations(varying))[: data.draw(st.integers(1, len(varying)))]
    table = factor_grid.load(
        str(path), factors=factors, names=names, sizes=None if labeled else sizes
    )
    tables_check.check(table)
    assert table.factors == tuple(factors)
    for name in factors:
        column = names.index(name)
        step = column + 1 if labeled else 1
        np.testing.assert_array_equal(table.values[name], indices[:, column] * step)
    rest = [tuple(row[n] for n, name in enumerate(names) if name not in factors) for row in indices]
    assert (table.identity[:, None] == table.identity).tolist() == [
        [a == b for b in rest] for a in rest
    ]
    grey = weighed(images) if shape[-1] == 3 and len(shape) == 4 else images.reshape(shape[:3])
    if dtype == np.bool_:
        grey = weighed(images * 255) if grey.dtype == float else grey * 255
    np.testing.assert_allclose(all_images(table), grey, atol=0.51)


def test_other_factors_can_be_asked_for(tmp_path: pathlib.Path) -> None:
    arrays = dsprites()
    path = write_npz(tmp_path / "dsprites.npz", arrays)
    table = factor_grid.load(path, factors=["scale", "shape"])
    assert table.factors == ("scale", "shape")
    assert table.periods == {}
    # All the rest: orientation and position.
    assert table.identity.max() + 1 == 5 * 4 * 4
    everything = ("shape", "scale", "orientation", "pos_x", "pos_y")
    assert not factor_grid.load(path, factors=everything).identity.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factors": []}, "factors: none given for"),
        ({"factors": ["azimuth"]}, "factors: got 'azimuth', must be of color, shape, scale"),
        ({"factors": ["color"]}, "factors: color is the same in all images"),
        ({"factors": ["scale", "scale"]}, "factors: got scale, scale; one is given twice"),
        ({"sizes": [2]}, "sizes: given without names"),
        ({"names": ["a", "a"]}, "names: got a, a; one is given twice"),
        ({"names": ["a"]}, "names: got 1, must be 6 for the labels"),
        ({"names": list("abcdef"), "sizes": [1] * 6}, "sizes: not needed"),
        ({"names": list("abcdef")}, "factors: none given .* one or more of a, b, c, d, e, f"),
        ({"names": list("abcDef"), "factors": ["D"]}, "factors: got 'D'; must be lower-case"),
        ({"names": ["intrinsic", *"bcdef"], "factors": ["intrinsic"]}, "and not intrinsic"),
    ],
)
def test_options_that_do_not_fit_are_told(
    tmp_path: pathlib.Path, options: dict[str, Any], message: str
) -> None:
    path = write_npz(tmp_path / "dsprites.npz", dsprites())
    with pytest.raises(UsageError, match=message):
        factor_grid.load(path, **options)


def test_sizes_must_make_the_images(tmp_path: pathlib.Path) -> None:
    path = write_npz(tmp_path / "a.npz", {"images": np.zeros([6, 2, 2], np.uint8)})
    with pytest.raises(DcignError, match="holds 6 images and no labels, .* give the names"):
        factor_grid.load(path)
    for sizes in (None, [6], [6, 0], []):
        with pytest.raises(UsageError, match=r"sizes: must be as many as names \(2\)"):
            factor_grid.load(path, names=["a", "b"], sizes=sizes)
    with pytest.raises(UsageError, match="sizes: got 2 x 2 = 4 images, but .* holds 6"):
        factor_grid.load(path, names=["a", "b"], sizes=[2, 2])


def _changed(**changes: Any) -> dict[str, np.ndarray]:
    arrays = {**dsprites(), **changes}
    return {name: array for name, array in arrays.items() if array is not None}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (_changed(imgs=None), "holds no factor grid; expected an array images or imgs"),
        (_changed(images=np.zeros([2, 2])), "holds both images and imgs"),
        (_changed(labels=np.zeros([2, 2])), "holds both labels and latents_values"),
        (_changed(imgs=np.full(480, Evil())), "imgs: holds pickled objects, which are never read"),
        (_changed(latents_values=np.full([480, 6], Evil())), "latents_values: holds pickled"),
        (_changed(imgs=dsprites()["imgs"] * 2), "imgs: images from 0 on: hold a 2; must be 0 or 1"),
        (_changed(imgs=np.zeros([480, 2, 2])), "imgs: got dtype float64, must be uint8 or bool"),
        (_changed(imgs=np.zeros([480, 2], np.uint8)), r"imgs: got shape \(480, 2\), must be \[N"),
        (_changed(imgs=np.zeros([480, 2, 2, 4], np.uint8)), "imgs: got shape"),
        (_changed(imgs=np.zeros([480, 0, 2], np.uint8)), "must be 1 to .* pixels a side"),
        (_changed(imgs=np.zeros([0, 2, 2], np.uint8)), "must be 1 to"),
        (_changed(imgs=np.zeros([1, 4097, 1], np.uint8)), "of 1 to 4096 pixels"),
        (_changed(imgs=np.asfortranarray(dsprites()["imgs"])), "imgs: is in Fortran's order"),
        (_changed(latents_values=np.zeros([479, 6])), r"latents_values: got shape \(479, 6\)"),
        (_changed(latents_values=np.zeros([480])), "must have 2 dimensions"),
        (_changed(latents_values=np.zeros([480, 0])), "got 0 columns of float64, must be numbers"),
        (_changed(latents_values=np.zeros([480, 6], complex)), "columns of complex128"),
        (_changed(latents_values=np.full([480, 6], np.nan)), "values that are no numbers"),
        (_changed(latents_values=np.zeros([480, 5])), "have 5 columns, .* give their names"),
    ],
)
def test_arrays_that_are_no_grid_are_refused(
    tmp_path: pathlib.Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    path = write_npz(tmp_path / "a.npz", arrays)
    with pytest.raises(DcignError, match=message) as caught:
        factor_grid.load(path)
    assert str(caught.value).startswith(path)


def test_binary_images_read_where_they_lie_are_checked(tmp_path: pathlib.Path) -> None:
    arrays = dsprites()
    arrays["imgs"][7, 0, 0] = 3
    table = factor_grid.load(write_npz(tmp_path / "a.npz", arrays, compressed=False))
    with pytest.raises(DcignError, match="a.npz: image 7: hold a 3; must be 0 or 1"):
        all_images(table)


def _npy_header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_headers_that_lie_cost_no_memory(tmp_path: pathlib.Path, kind: int) -> None:
    path = tmp_path / "a.npz"
    for shape in ((1 << 60, 64, 64), (1036800, 64, 64, 3)):
        with zipfile.ZipFile(path, "w", kind) as archive:
            archive.writestr("images.npy", _npy_header(shape) + bytes(1000))
        with pytest.raises(DcignError, match="images: got .*(too large|1000 bytes, must be)"):
            factor_grid.load(str(path))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("images.npy", _npy_header((10, 10, 10)) + bytes(1000))
    with pytest.raises(DcignError, match="images: compressed in a way that NumPy never does"):
        factor_grid.load(str(path))


def test_archives_cut_short_are_refused(tmp_path: pathlib.Path) -> None:
    path = pathlib.Path(write_npz(tmp_path / "a.npz", dsprites()))
    data = path.read_bytes()
    for size in (0, 3, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(DcignError, match=r"a\.npz: "):
            factor_grid.load(str(path))


def test_no_space_to_unpack_is_told(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_npz(tmp_path / "a.npz", dsprites())
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(factor_grid.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DcignError, match="have to be unpacked, .* Set TMPDIR"):
        factor_grid.load(path)


def test_unpacked_images_serve_copies_and_go_with_the_first(
    tmp_path: pathlib.Path, temporary: pathlib.Path
) -> None:
    table = factor_grid.load(write_npz(tmp_path / "a.npz", dsprites()))
    copy = pickle.loads(pickle.dumps(table))
    np.testing.assert_array_equal(all_images(copy), all_images(table))
    del copy
    assert len(list(temporary.iterdir())) == 1
    with pytest.raises(IndexError):
        table.images.read(480)
    narrower = dataclasses.replace(table, factors=("orientation",))
    del table
    assert len(narrower.images.read(0)) == 8
    del narrower
    gc.collect()
    assert not list(temporary.iterdir())


def test_hdf5_that_leads_elsewhere_is_refused(tmp_path: pathlib.Path) -> None:
    arrays = shapes3d()
    other = write_h5(tmp_path / "other.h5", arrays)
    raw = tmp_path / "raw"
    raw.write_bytes(arrays["images"].tobytes())
    shape = arrays["images"].shape
    for name in ("link", "soft", "external", "virtual", "group"):
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w") as file:
            file["labels"] = arrays["labels"]
            if name == "link":
                file["images"] = h5py.ExternalLink(other, "images")
            elif name == "soft":
                file["images"] = h5py.SoftLink("/labels")
            elif name == "external":
                file.create_dataset(
                    "images", shape, "u1", external=[(str(raw), 0, raw.stat().st_size)]
                )
            elif name == "virtual":
                layout = h5py.VirtualLayout(shape, "u1")
                layout[:] = h5py.VirtualSource(other, "images", shape, "u1")
                file.create_virtual_dataset("images", layout)
            else:
                file.create_group("images")
        message = "never followed|never read|must be a dataset"
        with pytest.raises(DcignError, match=f"{name}.h5: .*({message})"):
            factor_grid.load(str(path))


def test_hdf5_that_lies_costs_no_memory(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.h5"
    labels = np.zeros([1 << 20, 6])
    for name, shape, options in (
        ("unwritten", (1 << 20, 64, 64, 3), {"chunks": (1, 64, 64, 3), "compression": "gzip"}),
        ("contiguous", (1 << 20, 64, 64, 3), {}),
        ("wide", (1 << 20, 64, 64, 3), {"chunks": (1 << 20, 1, 1, 1), "compression": "gzip"}),
    ):
        with h5py.File(path, "w") as file:
            images = file.create_dataset("images", shape, "u1", **options)
            file.create_dataset("labels", data=labels, compression="gzip")
            if name == "wide":
                images[:, :1, 0, 0] = 1
        with pytest.raises(DcignError, match="must be|too large|too many to read at once"):
            factor_grid.load(str(path))
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=np.zeros([2, 2, 2], np.uint8))
        file.create_dataset("labels", (2, 1 << 40), "f8", chunks=(1, 1 << 10), compression="gzip")
    with pytest.raises(DcignError, match="labels: got shape .* too large"):
        factor_grid.load(str(path))


def test_chunks_of_too_many_images_are_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_h5(tmp_path / "a.h5", shapes3d(), chunks=(200, 8, 8, 3), compression="gzip")
    monkeypatch.setattr(factor_grid, "_SLAB", 1)
    monkeypatch.setattr(factor_grid, "_MAX_SLAB", 200 * 192)
    factor_grid.load(path)
    monkeypatch.setattr(factor_grid, "_MAX_SLAB", 200 * 192 - 1)
    with pytest.raises(DcignError, match="images: its chunks hold parts of 200 images, too many"):
        factor_grid.load(path)


def test_filters_that_would_be_loaded_are_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_chunk((2, 2, 2))
        created.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)  # Zstandard, a plugin
        space = h5py.h5s.create_simple((2, 2, 2))
        h5py.h5d.create(file.id, b"images", h5py.h5t.NATIVE_UINT8, space, created)
    with pytest.raises(DcignError, match="images: compressed in a way that is not read here"):
        factor_grid.load(str(path))


def test_other_files_are_told(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"neither")
    with pytest.raises(DcignError, match=r"a\.npz: neither a NumPy archive .* nor an HDF5 file"):
        factor_grid.load(str(path))
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(DcignError, match=r"a\.npz: a damaged HDF5 file"):
        factor_grid.load(str(path))
    with pytest.raises(DcignError, match="No such file"):
        factor_grid.load(str(tmp_path / "none.h5"))
    with pytest.raises(DcignError, match="Is a directory"):
        factor_grid.load(str(tmp_path))
    with pytest.raises(DcignError, match="not a file's name"):
        factor_grid.load("a\0b")


def check(folder: pathlib.Path) -> None:
    (path,) = folder.iterdir()
    table = factor_grid.load(str(path))
    tables_check.check(table)
    del table


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deflated.npz", "stored.npz", "contiguous.h5", "chunked.h5"])
def test_mutated_grids_are_read_or_refused(tmp_path: pathlib.Path, name: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    if name.endswith("npz"):
        write_npz(folder / name, dsprites((1, 2, 2, 3, 2, 2)), name == "deflated.npz")
    else:
        options = {"chunks": (7, 4, 3, 1), "compression": "gzip"} if name == "chunked.h5" else {}
        write_h5(folder / name, shapes3d((2, 1, 2, 2, 2, 3)), **options)
    report = mutations.run(check, folder, [name], count=1000)
    print(report)
    assert not report.problems, report
    assert report.valid
    assert report.refused
