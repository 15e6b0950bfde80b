"""Archives are read where they lie; hostile, damaged and cut-off ones are refused."""

import io
import pathlib
import pickle
import tarfile
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from dcign_tf.datasets import tars
from dcign_tf.errors import DcignError

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def _archive(contents: Mapping[str, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _with(change: Callable[[tarfile.TarInfo], None]) -> bytes:
    """An archive of a file and then one that `change` has made something else."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("good"))
        member = tarfile.TarInfo("bad")
        change(member)
        archive.addfile(member)
    return buffer.getvalue()


def _typed(kind: bytes, target: str = "") -> Callable[[tarfile.TarInfo], None]:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname = kind, target

    return change


def _named(name: str) -> Callable[[tarfile.TarInfo], None]:
    def change(member: tarfile.TarInfo) -> None:
        member.name = name

    return change


@settings(max_examples=60)
@given(
    contents=st.dictionaries(
        st.lists(
            st.sampled_from(["a", "Stühle", "0" * 32, "x" * 99, "..."]), min_size=1, max_size=4
        ).map("/".join),
        st.binary(max_size=1500),
        max_size=6,
    ),
    form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    dotted=st.booleans(),
)
def test_members_are_found_and_read(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes], form: int, dotted: bool
) -> None:
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    path.write_bytes(_archive({("./" if dotted else "") + k: v for k, v in contents.items()}, form))
    members = tars.index(path)
    assert {name: tars.read(path, name, member) for name, member in members.items()} == contents


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_with_folders(tmp_path: pathlib.Path, form: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        folder = tarfile.TarInfo("top")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        member = tarfile.TarInfo("top/file")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    (tmp_path / "a.tar").write_bytes(buffer.getvalue())
    members = tars.index(tmp_path / "a.tar")
    assert list(members) == ["top/file"]
    assert tars.read(tmp_path / "a.tar", "top/file", members["top/file"]) == b"abc"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_named("../bad"), "'../bad': is a name outside the archive's own folder"),
        (_named("a/../../bad"), "is a name outside"),
        (_named("/etc/bad"), "'/etc/bad': is a name outside"),
        (_named("good"), "good: is in the archive twice"),
        (_named("./good"), "good: is in the archive twice"),
        (_typed(tarfile.SYMTYPE, "/etc/passwd"), "bad: is a link"),
        (_typed(tarfile.LNKTYPE, "good"), "bad: is a link"),
        (_typed(tarfile.CHRTYPE), "bad: is a device"),
        (_typed(tarfile.BLKTYPE), "bad: is a device"),
        (_typed(tarfile.FIFOTYPE), "bad: is a device"),
        (_typed(tarfile.GNUTYPE_SPARSE), "bad: is a sparse file"),
    ],
)
def test_what_has_no_place_among_images_is_refused(
    tmp_path: pathlib.Path, change: Callable[[tarfile.TarInfo], None], message: str
) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(_with(change))
    with pytest.raises(DcignError, match=message) as caught:
        tars.index(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_sparse_files_of_the_newer_kind_are_refused(tmp_path: pathlib.Path) -> None:
    member = tarfile.TarInfo("bad")
    member.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.size": "99",
        "GNU.sparse.map": "0,1",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member)
    (tmp_path / "a.tar").write_bytes(buffer.getvalue())
    with pytest.raises(DcignError, match="bad: is a sparse file"):
        tars.index(tmp_path / "a.tar")


@pytest.mark.parametrize("size", [10, 8**11 - 1, 1 << 60])
def test_sizes_beyond_the_file_are_refused(tmp_path: pathlib.Path, size: int) -> None:
    member = tarfile.TarInfo("bad")
    member.size = size
    (tmp_path / "a.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(DcignError, match=r"a\.tar: .*(cut short|unexpected end)"):
        tars.index(tmp_path / "a.tar")


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_endless_names_take_no_memory(tmp_path: pathlib.Path, kind: bytes) -> None:
    member = tarfile.TarInfo("bad")
    member.type, member.size = kind, 1 << 33
    path = tmp_path / "a.tar"
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT))
    with open(path, "r+b") as file:
        file.truncate(1 << 34)  # A hole: takes no space.
    with pytest.raises(DcignError, match="a header of 8589934592 bytes"):
        tars.index(path)


def test_large_members_are_refused(tmp_path: pathlib.Path) -> None:
    member = tarfile.TarInfo("bad")
    member.size = tars.MAX_BYTES + 1
    path = tmp_path / "a.tar"
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT))
    with open(path, "r+b") as file:
        file.truncate(member.size + 4096)
    with pytest.raises(DcignError, match="bad: has 67108865 bytes; at most 64 MiB are read"):
        tars.index(path)


_CUT = _archive({"a": b"x" * 700, "b": b"y" * 100})


@example(cut=0)
@example(cut=512)
@example(cut=512 + 1024)  # Between two members.
@given(cut=st.integers(0, 2 * 512 + 1024 + 512 - 1))
def test_archives_cut_short_are_refused(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    path.write_bytes(_CUT[:cut])
    with pytest.raises(DcignError, match=r"a\.tar: "):
        tars.index(path)


def test_a_broken_header_does_not_pass_for_the_end(tmp_path: pathlib.Path) -> None:
    data = bytearray(_CUT)
    data[512 + 1024 + 148] ^= 1  # The checksum of the second member.
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(DcignError, match="ends without the mark .* after 1 members"):
        tars.index(tmp_path / "a.tar")


@pytest.mark.parametrize(("kind", "tool"), [("gz", "gunzip"), ("bz2", "bunzip2"), ("xz", "unxz")])
def test_compressed_archives_are_told(tmp_path: pathlib.Path, kind: str, tool: str) -> None:
    path = tmp_path / f"a.tar.{kind}"
    with tarfile.open(path, f"w:{kind}") as archive:  # type: ignore[call-overload]
        archive.addfile(tarfile.TarInfo("a"))
    with pytest.raises(DcignError, match=f"a compressed archive, .* run `{tool} "):
        tars.index(path)


def test_what_cannot_be_opened_is_told(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DcignError, match="none.tar: No such file or directory"):
        tars.index(tmp_path / "none.tar")
    with pytest.raises(DcignError, match="Is a directory"):
        tars.index(tmp_path)
    with pytest.raises(DcignError, match="not a file's name"):
        tars.index("a\0b")


def test_images_are_read_by_any_process_and_named(tmp_path: pathlib.Path) -> None:
    buffer = io.BytesIO()
    Image.new("L", (3, 2), 7).save(buffer, "PNG")
    path = tmp_path / "a.tar"
    path.write_bytes(_archive({"a.png": buffer.getvalue(), "b.png": b"GIF89a"}))
    members = tars.index(path)
    images = pickle.loads(
        pickle.dumps(
            tars.TarImages(str(path), tuple(members), np.array(list(members.values()), np.int64))
        )
    )
    assert len(images) == 2
    assert images.read(0).tolist() == [[7] * 3] * 2
    with pytest.raises(DcignError, match=r"a\.tar: b\.png: not a PNG or JPEG image but a GIF"):
        images.read(1)
    path.write_bytes(path.read_bytes()[:520])
    with pytest.raises(DcignError, match=r"a\.tar: a\.png: is cut short"):
        images.read(0)
