"""The authors' batches are read in both forms, and what is not whole is told."""

import pathlib
import pickle
import shutil

import numpy as np
import pytest
from PIL import Image

from dcign_tf.datasets import authors
from dcign_tf.datasets.tables import ImageTable
from dcign_tf.errors import DcignError, UsageError
from tests import mutations
from tests.datasets import torch7

_SIDE = 6


def _images(seed: int, count: int = 20) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, [count, 1, _SIDE, _SIDE]).astype(np.uint8)


def _write_cached(folder: pathlib.Path, part: str, numbers: list[int], count: int = 20) -> None:
    (folder / part).mkdir(parents=True)
    for number in numbers:
        batch = _images(number, count).astype(np.float32) / 255
        (folder / part / f"batch{number}").write_bytes(torch7.saved(batch))


def _write_pictures(folder: pathlib.Path, numbers: list[int], count: int = 20) -> None:
    for number in numbers:
        place = folder / f"face_{number}"
        place.mkdir(parents=True)
        for at, image in enumerate(_images(number, count)[:, 0]):
            Image.fromarray(np.stack([image] * 3, -1)).save(place / f"{at}.png")


@pytest.fixture
def cached(tmp_path: pathlib.Path) -> pathlib.Path:
    for name in authors.SETS:
        _write_cached(tmp_path / "data" / f"th_{name}", "FT_training", list(range(1, 13)))
        _write_cached(tmp_path / "data" / f"th_{name}", "FT_test", [1, 2])
    return tmp_path / "data"


def _splits(table: ImageTable) -> dict[str, int]:
    assert table.groups is not None
    splits = [str(group.split) for group in table.groups]
    return {split: splits.count(split) for split in splits}


def test_cached_batches_are_the_groups(cached: pathlib.Path) -> None:
    table = authors.load(str(cached))
    assert table.factors == ("azimuth", "elevation", "light_azimuth")
    assert table.groups is not None
    assert [group.factor for group in table.groups[::14]] == [*table.factors, "intrinsic"]
    assert len(table.images) == 4 * 14 * 20 == len(table.identity)
    assert _splits(table) == {"train": 4 * 12, "test": 4 * 2}
    assert all(np.isnan(table.values[factor]).all() for factor in table.factors)
    assert table.units == dict.fromkeys(table.factors, "degrees")
    assert "14 of AZ_VARIED" in table.source
    assert "without" not in table.source
    # batch10 is the tenth: numbers count, not letters.
    tenth = table.groups[9]
    images = pickle.loads(pickle.dumps(table.images))
    read = np.stack([images.read(row) for row in tenth.rows])
    np.testing.assert_array_equal(read, _images(10)[:, 0])


def test_batches_of_one_number_count_as_one_identity(cached: pathlib.Path) -> None:
    table = authors.load(str(cached))
    batches = table.identity.reshape(4, 14, 20)
    assert (batches == batches[:1, :, :1]).all()
    # Test batches 1 and 2 are none of the training batches 1 and 2.
    assert len(np.unique(table.identity)) == 14


def test_pictures_are_the_groups(tmp_path: pathlib.Path) -> None:
    for name in ("AZ_VARIED", "SHAPE_VARIED"):
        _write_pictures(tmp_path / name, list(range(1, 12)), 3)
    table = authors.load(str(tmp_path), batch_size=3)
    assert table.factors == ("azimuth",)
    assert "11 of AZ_VARIED, 11 of SHAPE_VARIED; without EL_VARIED, LIGHT_AZ_V" in table.source
    assert _splits(table) == {"None": 22}
    assert table.groups is not None
    read = np.stack([table.images.read(row) for row in table.groups[10].rows])
    np.testing.assert_array_equal(read, _images(11, 3)[:, 0])
    assert len(np.unique(table.identity)) == 11


def test_a_cached_set_without_a_test_set_leaves_it_open(tmp_path: pathlib.Path) -> None:
    _write_cached(tmp_path / "th_EL_VARIED", "FT_training", [1, 2])
    assert _splits(authors.load(str(tmp_path))) == {"None": 2}


def test_color_is_weighed_and_cached_sets_come_first(tmp_path: pathlib.Path) -> None:
    _write_pictures(tmp_path / "AZ_VARIED", [1], 2)
    folder = tmp_path / "th_AZ_VARIED" / "FT_training"
    folder.mkdir(parents=True)
    colors = np.zeros([2, 3, 1, 3], np.float64)
    colors[:, [0, 1, 2], 0, [0, 1, 2]] = 1
    (folder / "batch7").write_bytes(torch7.saved(colors))
    table = authors.load(str(tmp_path), batch_size=2)
    assert len(table.images) == 2
    assert table.images.read(1).tolist() == [[54, 184, 18]]


def test_what_is_not_there_is_told(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DcignError, match="nowhere: No such file"):
        authors.load(str(tmp_path / "nowhere"))
    (tmp_path / "SHAPE_VARIED").mkdir()
    _write_pictures(tmp_path / "SHAPE_VARIED", [1])
    with pytest.raises(DcignError, match="no set of the authors' in which an angle varies"):
        authors.load(str(tmp_path))
    (tmp_path / "th_AZ_VARIED").mkdir()
    with pytest.raises(DcignError, match="th_AZ_VARIED: has no folder FT_training"):
        authors.load(str(tmp_path))
    (tmp_path / "th_AZ_VARIED" / "FT_training").mkdir()
    with pytest.raises(DcignError, match="FT_training: holds no file batch1, batch2"):
        authors.load(str(tmp_path))
    shutil.rmtree(tmp_path / "th_AZ_VARIED")
    (tmp_path / "AZ_VARIED").mkdir()
    with pytest.raises(DcignError, match="AZ_VARIED: empty; expected a folder of 20 PNG"):
        authors.load(str(tmp_path))
    _write_pictures(tmp_path / "AZ_VARIED", [1], 19)
    with pytest.raises(DcignError, match="face_1: holds 19 images, must be a mini-batch of 20"):
        authors.load(str(tmp_path))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.zeros([19, 1, 4, 4], np.float32), "tensor 19 x 1 x 4 x 4, must be 20 x 1 x height"),
        (np.zeros([20, 2, 4, 4], np.float32), "tensor 20 x 2 x 4 x 4, must be"),
        (np.zeros([20, 16], np.float32), "tensor 20 x 16, must be"),
        (np.zeros([20, 1, 4, 4], np.int64), "holds no tensor of floats"),
        ({"data": 1}, "holds no tensor of floats"),
    ],
)
def test_batches_that_are_none(value: object, told: str, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "th_AZ_VARIED" / "FT_training"
    folder.mkdir(parents=True)
    (folder / "batch1").write_bytes(torch7.saved(value))
    with pytest.raises(DcignError, match=f"batch1: .*{told}"):
        authors.load(str(tmp_path))


def test_a_batch_that_changed_is_found_when_it_is_read(cached: pathlib.Path) -> None:
    table = authors.load(str(cached))
    path = cached / "th_AZ_VARIED" / "FT_training" / "batch2"
    whole = _images(2).astype(np.float32) / 255
    for wrong in (np.nan, 1.1, -0.5, np.inf):
        batch = whole.copy()
        batch[3, 0, 1, 1] = wrong
        path.write_bytes(torch7.saved(batch))
        with pytest.raises(DcignError, match=r"batch2: image 4: has values from .*, must be with"):
            table.images.read(23)
        table.images.read(22)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DcignError, match=r"batch2: not a whole binary file of Torch7"):
        table.images.read(22)


@pytest.mark.parametrize("size", [1, 0, -3, 10**20])
def test_sizes_that_make_no_sense(size: int, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="batch_size: got"):
        authors.load(str(tmp_path), batch_size=size)


def check_folder(folder: pathlib.Path) -> None:
    table = authors.load(str(folder), batch_size=3)
    assert table.groups is not None
    for group in table.groups:
        assert group.split is None
        for row in group.rows:
            image = table.images.read(row)
            assert image.dtype == np.uint8
            assert image.ndim == 2
            assert image.size > 0


@pytest.mark.parametrize(
    "count", [pytest.param(60, id="some"), pytest.param(4000, id="many", marks=pytest.mark.slow)]
)
def test_damaged_sets(count: int, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "data"
    _write_cached(folder / "th_AZ_VARIED", "FT_training", [1, 2, 3], 3)
    _write_pictures(folder / "SHAPE_VARIED", [1, 2], 3)
    victims = ["th_AZ_VARIED/FT_training/batch2", "SHAPE_VARIED/face_1/1.png"]
    report = mutations.run(check_folder, folder, victims, count, megabytes=64)
    print(report)
    assert not report.problems, report
    assert report.valid > 0
    assert report.refused > 0
