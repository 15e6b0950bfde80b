"""The 3D chairs in exactly the published layout, from the folder and from the archive."""

import io
import pathlib
import pickle
import struct
import tarfile
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dcign_tf.datasets import chairs
from dcign_tf.errors import DcignError, UsageError
from tests import mutations
from tests.datasets import tables_check

# As published: 31 whole parts of multiples of 360 / 31 at either elevation, with a number left out between.
VIEWS = [
    f"image_{first + k:03d}_p{elevation:03d}_t{k * 360 // 31:03d}_r096.png"
    for elevation, first in ((20, 0), (30, 32))
    for k in range(31)
]
CHAIRS = ["1a2b8749a1756a09932a5c2746cd09a4", "b663f1e4df6c51fe19fb4103277a6b93", "00a0", "ff"]


def png(value: int, size: int = 6) -> bytes:
    """A white image whose middle third is colored by a number below 256 * 256."""
    pixels = np.full([size, size, 3], 255, np.uint8)
    third = size // 3
    pixels[third : 2 * third, third : 2 * third] = [value % 256, value // 256, 0]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def names_mat(
    folders: Sequence[str], instances: Sequence[str] = VIEWS, compressed: bool = True
) -> bytes:
    """An `all_chair_names.mat`: two cell arrays of texts."""
    cells = {}
    for key, names in (("folder_names", folders), ("instance_names", instances)):
        cells[key] = np.empty([1, len(names)], object)
        cells[key][0, :] = names
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, cells, do_compression=compressed)
    return buffer.getvalue()


def published(
    names: Sequence[str] = CHAIRS, views: Sequence[str] = VIEWS, size: int = 6
) -> dict[str, bytes]:
    """The files of the published archive, for these chairs."""
    files = {"rendered_chairs/all_chair_names.mat": names_mat(names, views)}
    for chair in names:
        for view in views:
            files[f"rendered_chairs/{chair}/renders/{view}"] = png(len(files), size)
    return files


def write_tar(path: pathlib.Path, files: Mapping[str, bytes]) -> str:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return str(path)


def write_folder(path: pathlib.Path, files: Mapping[str, bytes]) -> str:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return str(path)


def _chair(name: str) -> str:
    return name.split("/")[-3]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("chairs")
    files = published()
    unpacked = write_folder(folder / "unpacked", files)
    return {
        "archive": write_tar(folder / "rendered_chairs.tar", files),
        "folder": f"{unpacked}/rendered_chairs",
        "parent": unpacked,
    }


@pytest.mark.parametrize("place", ["archive", "folder", "parent"])
def test_tables_are_the_same_from_the_archive_and_from_the_folder(
    places: dict[str, str], place: str
) -> None:
    table = pickle.loads(pickle.dumps(chairs.load(places[place])))
    tables_check.check(table)
    order = sorted(CHAIRS)
    assert len(table.images) == 4 * 62
    assert table.source.endswith("; 248 images of 4 chairs")
    assert table.factors == ("azimuth",)
    assert (table.units, table.periods) == ({"azimuth": "degrees"}, {"azimuth": 360.0})
    assert table.groups is None
    # Chairs by name, elevations, azimuths.
    expected = [k * 360 // 31 for k in range(31)]
    assert table.values["azimuth"].tolist() == expected * 8
    assert table.identity.tolist() == [n for n in range(8) for _ in range(31)]
    files = published()
    for n, chair in enumerate(order):
        first = table.images.read(62 * n)
        wanted = files[f"rendered_chairs/{chair}/renders/{VIEWS[0]}"]
        middle = np.asarray(Image.open(io.BytesIO(wanted)))[2, 2]
        assert first[1, 1] == round(float(middle @ [0.21, 0.72, 0.07]))


@pytest.mark.parametrize("place", ["archive", "folder"])
def test_no_chair_is_in_two_splits(places: dict[str, str], place: str) -> None:
    splits = set()
    for seed in range(8):
        table = chairs.load(places[place], seed=seed)
        assert table.split is not None
        per_chair = [set(table.split[62 * n : 62 * n + 62]) for n in range(4)]
        assert all(len(split) == 1 for split in per_chair)
        assert set().union(*per_chair) == {"train", "validation", "test"}
        assert chairs.load(places["archive"], seed=seed).split == table.split
        splits.add(table.split)
    assert len(splits) > 1


def test_all_published_chairs_are_split_as_in_the_paper(tmp_path: pathlib.Path) -> None:
    names = [f"{n:032x}" for n in range(1393)]
    files = {f"rendered_chairs/{name}/renders/{VIEWS[0]}": b"" for name in names}
    table = chairs.load(write_tar(tmp_path / "rendered_chairs.tar", files))
    assert table.split is not None
    counts = [table.split.count(split) for split in ("train", "validation", "test")]
    assert counts == [1200, 43, 150]


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.sampled_from(CHAIRS),
        st.sets(st.sampled_from(VIEWS), min_size=1, max_size=5),
        min_size=1,
    ),
    st.booleans(),
)
def test_missing_views_are_allowed_and_told(
    tmp_path_factory: pytest.TempPathFactory, present: dict[str, set[str]], listed: bool
) -> None:
    files = {
        f"rendered_chairs/{chair}/renders/{view}": png(n)
        for chair, views in present.items()
        for n, view in enumerate(sorted(views))
    }
    if listed:
        files["rendered_chairs/all_chair_names.mat"] = names_mat(CHAIRS)
    folder = tmp_path_factory.mktemp("chairs")
    table = chairs.load(write_tar(folder / "rendered_chairs.tar", files))
    count = sum(map(len, present.values()))
    assert len(table.images) == count
    views = VIEWS if listed else set().union(*present.values())
    missing = (len(CHAIRS) if listed else len(present)) * len(views) - count
    text = f"; {count} images of {len(present)} chairs"
    if missing:
        text += f"; {missing} images are missing"
    if listed and len(present) < len(CHAIRS):
        text += f", all of {len(CHAIRS) - len(present)} chairs among them"
    assert table.source.endswith(text)
    row = 0
    for chair in sorted(present):
        for view in sorted(present[chair]):
            assert table.values["azimuth"][row] == int(view[16:19])
            row += 1
    # One chair at one elevation is one identity.
    sizes = [
        sum(view[10:14] == p for view in present[c])
        for c in sorted(present)
        for p in ("p020", "p030")
    ]
    assert np.bincount(table.identity).tolist() == [size for size in sizes if size]


def test_the_middle_is_cut_out(tmp_path: pathlib.Path) -> None:
    pixels = np.full([600, 600], 255, np.uint8)
    pixels[100:500, 100:500] = 9
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    files = {f"rendered_chairs/a/renders/{VIEWS[0]}": buffer.getvalue()}
    path = write_tar(tmp_path / "rendered_chairs.tar", files)
    image = chairs.load(path).images.read(0)
    assert image.shape == (400, 400)
    assert (image == 9).all()
    whole = chairs.load(path, crop=1).images.read(0)
    np.testing.assert_array_equal(whole, pixels)
    assert chairs.load(path, crop=0.9).images.read(0).shape == (540, 540)
    for crop in (0, -1, 1.01, float("nan")):
        with pytest.raises(UsageError, match="crop: got .*, must be above 0 and at most 1"):
            chairs.load(path, crop=crop)


def test_azimuths_close(tmp_path: pathlib.Path) -> None:
    files = {f"c/renders/image_000_p020_t{t}_r096.png": b"" for t in ("360", "359")}
    table = chairs.load(write_tar(tmp_path / "a.tar", files))
    assert table.values["azimuth"].tolist() == [359, 0]


def test_other_files_are_passed_over(tmp_path: pathlib.Path) -> None:
    files = {f"rendered_chairs/a/renders/{VIEWS[0]}": png(0)}
    others = dict.fromkeys(
        [
            f"rendered_chairs/a/renders/._{VIEWS[0]}",
            f"rendered_chairs/a/masks/{VIEWS[1]}",
            f"rendered_chairs/a/{VIEWS[1]}",
            "rendered_chairs/a/renders/0.png",
            "rendered_chairs/README.txt",
            VIEWS[1],
        ],
        b"",
    )
    assert len(chairs.load(write_tar(tmp_path / "a.tar", files | others)).images) == 1
    assert len(chairs.load(write_folder(tmp_path / "a", files | others)).images) == 1


@pytest.mark.parametrize("compressed", [False, True])
def test_lists_of_names_are_read(compressed: bool) -> None:
    found = chairs._listed("a.mat", names_mat(CHAIRS, VIEWS, compressed))
    assert found == (CHAIRS, VIEWS)


def _part(kind: int, data: bytes, order: str, short: bool = False) -> bytes:
    """A part of a MATLAB file; parts of up to four bytes may be written in a shorter form."""
    if short and len(data) <= 4:
        return struct.pack(order + "I", len(data) << 16 | kind) + data.ljust(4, b"\0")
    return struct.pack(order + "II", kind, len(data)) + data + bytes(-len(data) % 8)


def _matrix(of: int, sizes: tuple[int, int], name: str, content: bytes, order: str) -> bytes:
    return _part(
        14,
        _part(6, struct.pack(order + "II", of, 0), order)
        + _part(5, struct.pack(order + "ii", *sizes), order)
        + _part(1, name.encode(), order, short=True)
        + content,
        order,
    )


@given(
    folders=st.lists(st.text(st.characters(max_codepoint=0x2FFF), max_size=40), max_size=5),
    order=st.sampled_from("<>"),
    kind=st.sampled_from([1, 2, 4, 16, 17]),
    short=st.booleans(),
    compressed=st.booleans(),
)
def test_lists_are_read_however_letters_are_stored(
    folders: list[str], order: str, kind: int, short: bool, compressed: bool
) -> None:
    coding = "utf-8" if kind in (1, 2, 16) else "utf-16-le" if order == "<" else "utf-16-be"
    endian = b"IM" if order == "<" else b"MI"
    version = b"\0\1" if order == "<" else b"\1\0"
    data = b"MATLAB 5.0 MAT-file, made by a test".ljust(124) + version + endian
    for name, texts in (("folder_names", folders), ("instance_names", VIEWS[:2])):
        cells = b"".join(
            _matrix(4, (1, len(text)), "", _part(kind, text.encode(coding), order, short), order)
            for text in texts
        )
        variable = _matrix(1, (1, len(texts)), name, cells, order)
        if compressed:
            packed = zlib.compress(variable)
            variable = struct.pack(order + "II", 15, len(packed)) + packed
        data += variable
    assert chairs._listed("a.mat", data) == (folders, VIEWS[:2])


def test_lists_that_are_none_are_refused(tmp_path: pathlib.Path) -> None:
    files = {f"rendered_chairs/a/renders/{VIEWS[0]}": png(0)}
    name = "rendered_chairs/all_chair_names.mat"
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"folder_names": np.eye(3)})
    for content, message in (
        (b"", "not a MATLAB file of level 5"),
        (b"no", "not a MATLAB file of level 5"),
        (buffer.getvalue(), "folder_names: numbers, must be a cell array of texts"),
        (names_mat(CHAIRS)[:300], "cut short within the variable"),
        (bytes(chairs._MAX_NAMES_BYTES + 1), "larger than 1 MiB"),
    ):
        for path in (
            write_tar(tmp_path / "a.tar", {**files, name: content}),
            write_folder(tmp_path / "a", {**files, name: content}),
        ):
            with pytest.raises(DcignError, match=f"all_chair_names.mat: .*({message})"):
                chairs.load(path)


def test_what_holds_no_chairs_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DcignError, match="holds no 3D chairs; expected <chair>/renders/image_000_"):
        chairs.load(str(tmp_path))
    with pytest.raises(DcignError, match="holds no 3D chairs"):
        chairs.load(write_tar(tmp_path / "a.tar", {"a.png": png(0)}))
    with pytest.raises(DcignError, match="none.tar: No such file"):
        chairs.load(str(tmp_path / "none.tar"))
    same = {f"{top}/renders/{VIEWS[0]}": png(0) for top in ("one/a", "two/a")}
    with pytest.raises(DcignError, match="one/a/.* and two/a/.*: are the same view of one chair"):
        chairs.load(write_tar(tmp_path / "a.tar", same))


def check(folder: pathlib.Path) -> None:
    tables_check.check(chairs.load(str(folder / "rendered_chairs.tar")), 100)


def check_unpacked(folder: pathlib.Path) -> None:
    tables_check.check(chairs.load(str(folder)), 100)


@pytest.mark.slow
def test_mutated_archives_are_read_or_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "data").mkdir()
    write_tar(tmp_path / "data" / "rendered_chairs.tar", published(CHAIRS[:2], VIEWS[::31]))
    report = mutations.run(check, tmp_path / "data", ["rendered_chairs.tar"], count=1500)
    print(report)
    assert not report.problems, report
    assert report.valid
    assert report.refused


@pytest.mark.slow
def test_mutated_folders_are_read_or_refused(tmp_path: pathlib.Path) -> None:
    write_folder(tmp_path / "data", published(CHAIRS[:1], VIEWS[:1]))
    victims = [
        "rendered_chairs/all_chair_names.mat",
        f"rendered_chairs/{CHAIRS[0]}/renders/{VIEWS[0]}",
    ]
    report = mutations.run(check_unpacked, tmp_path / "data", victims, count=2000)
    print(report)
    assert not report.problems, report
    assert report.valid
    assert report.refused


@pytest.mark.slow
def test_mutated_uncompressed_lists_are_read_or_refused(tmp_path: pathlib.Path) -> None:
    files = published(CHAIRS[:1], VIEWS[:1])
    files["rendered_chairs/all_chair_names.mat"] = names_mat(CHAIRS, VIEWS[:3], compressed=False)
    write_folder(tmp_path / "data", files)
    victims = ["rendered_chairs/all_chair_names.mat"]
    report = mutations.run(check_unpacked, tmp_path / "data", victims, count=1000)
    print(report)
    assert not report.problems, report
    assert report.valid
    assert report.refused
