"""Folders of images become mini-batches, and folders that are none are told."""

import pathlib
import pickle
import random
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dcign_tf.datasets import folders, pictures
from dcign_tf.errors import DcignError
from tests import mutations


def _write(folder: pathlib.Path, first: int, count: int = 3, suffix: str = ".png") -> None:
    folder.mkdir(parents=True)
    for at in range(count):
        # Number 10 comes after number 9.
        Image.new("L", (5, 4), first + at).save(folder / f"{at + 8}{suffix}")


def test_folders_are_groups(tmp_path: pathlib.Path) -> None:
    _write(tmp_path / "smile" / "anna", 10)
    _write(tmp_path / "smile" / "bert10", 20, 2)
    _write(tmp_path / "smile" / "bert9", 30, 2, ".jpg")
    _write(tmp_path / "azimuth" / "anna", 40)
    _write(tmp_path / "intrinsic" / "1", 50, 4)
    (tmp_path / "smile" / "anna" / "notes.txt").touch()
    (tmp_path / "smile" / ".thumbnails").mkdir()
    (tmp_path / "README").touch()
    table = folders.load(str(tmp_path))
    assert table.factors == ("azimuth", "smile")
    assert table.groups == (
        (None, "azimuth", (0, 1, 2)),
        (None, "intrinsic", (3, 4, 5, 6)),
        (None, "smile", (7, 8, 9)),
        (None, "smile", (10, 11)),
        (None, "smile", (12, 13)),
    )
    assert table.identity.tolist() == [0] * 3 + [1] * 4 + [0] * 3 + [2] * 2 + [3] * 2
    assert all(np.isnan(table.values[name]).all() for name in table.factors)
    images = pickle.loads(pickle.dumps(table.images))
    assert len(images) == 14
    read = [int(images.read(row)[0, 0]) for row in range(14)]
    assert read == [40, 41, 42, 50, 51, 52, 53, 10, 11, 12, 30, 31, 20, 21]
    assert images.read(0).shape == (4, 5)


def test_splits_may_be_on_top(tmp_path: pathlib.Path) -> None:
    for split in ("train", "test"):
        _write(tmp_path / split / "azimuth" / "1", 0)
    table = folders.load(str(tmp_path))
    assert table.groups is not None
    assert {group.split for group in table.groups} == {"train", "test"}
    assert len(set(table.identity)) == 2
    _write(tmp_path / "azimuth" / "2", 0)
    with pytest.raises(DcignError, match="has folders test and azimuth; either all must be spl"):
        folders.load(str(tmp_path))


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("", "holds no mini-batches of a named factor"),
        ("azimuth/", "azimuth: empty; expected a folder of images"),
        ("azimuth/1/", "azimuth/1: holds 0 PNG or JPEG images, must be 2 or more"),
        ("azimuth/1/a.png", "azimuth/1: holds 1 PNG or JPEG images"),
        ("azimuth/a.png", "azimuth: has images; they must be in a folder for each"),
        ("a.png", "holds no mini-batches of a named factor"),
        ("Azimuth/1/", "Azimuth: a factor's name must be lower-case letters"),
        ("light azimuth/1/", "light azimuth: a factor's name must be"),
        ("mixed/1/", "mixed: a factor's name must be .* and not mixed"),
        ("test/", "holds no mini-batches of a named factor"),
    ],
)
def test_folders_that_are_none(path: str, told: str, tmp_path: pathlib.Path) -> None:
    place = tmp_path / path
    if path.endswith("/") or not path:
        place.mkdir(parents=True, exist_ok=True)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(place)
    with pytest.raises(DcignError, match=told):
        folders.load(str(tmp_path))


def test_only_the_rest_varies(tmp_path: pathlib.Path) -> None:
    _write(tmp_path / "intrinsic" / "1", 50, 4)
    with pytest.raises(DcignError, match="no mini-batches of a named factor"):
        folders.load(str(tmp_path))


_parts = st.sampled_from(
    ["train", "test", "azimuth", "intrinsic", "1", "2", "a b", ".x", "a.png", "b.png", "ä"]
)


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(paths=st.lists(st.lists(_parts, min_size=1, max_size=4), max_size=12))
def test_any_folders_give_a_table_or_an_error(
    paths: list[list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("any")
    for parts in paths:
        place = root.joinpath(*parts)
        if any(parent.is_file() for parent in [place, *place.parents]):
            continue
        if parts[-1].endswith(".png") and not place.is_dir():
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (2, 2)).save(place)
        else:
            place.mkdir(parents=True, exist_ok=True)
    try:
        table = folders.load(str(root))
    except DcignError as error:
        assert str(error).startswith(str(root))
        return
    assert table.groups is not None
    rows = [row for group in table.groups for row in group.rows]
    assert sorted(rows) == list(range(len(table.images))) == list(range(len(table.identity)))
    assert all(group.factor in (*table.factors, "intrinsic") for group in table.groups)


def check_folder(folder: pathlib.Path) -> None:
    table = folders.load(str(folder))
    for row in range(len(table.images)):
        image = table.images.read(row)
        assert image.dtype == np.uint8
        assert image.ndim == 2
        assert 0 < image.size <= pictures.MAX_PIXELS


def _damage(data: bytes, rng: random.Random) -> bytes:
    mutated = mutations.mutate(data, rng)
    return mutations.mend_png(mutated) if data[:4] == b"\x89PNG" and rng.random() < 0.8 else mutated


@pytest.mark.parametrize(
    "count", [pytest.param(40, id="some"), pytest.param(4000, id="many", marks=pytest.mark.slow)]
)
def test_damaged_images(count: int, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "data"
    _write(folder / "azimuth" / "1", 7)
    _write(folder / "smile" / "1", 7, suffix=".jpg")
    victims = ["azimuth/1/8.png", "smile/1/8.jpg"]
    report = mutations.run(check_folder, folder, victims, count, mutator=_damage)
    print(report)
    assert not report.problems, report
    assert report.valid > 0
    assert report.refused > 0


def _absurd(data: bytes, rng: random.Random) -> bytes:
    """A PNG of 100,000 x 100,000 pixels."""
    del rng
    at = data.index(b"IHDR") + 4
    return mutations.mend_png(data[:at] + struct.pack(">II", 100_000, 100_000) + data[at + 8 :])


def test_absurd_sizes_take_no_memory(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "data"
    _write(folder / "azimuth" / "1", 7)
    report = mutations.run(
        check_folder, folder, ["azimuth/1/8.png"], 1, megabytes=16, mutator=_absurd
    )
    assert not report.problems, report
    assert report.refused == 1
    assert "has 100000 x 100000 pixels" in str(report)
