"""Tables packed into records, by the same writer as scenes."""

import pathlib
from typing import Any

import numpy as np
import pytest

from dcign_tf.datasets import rendering
from dcign_tf.datasets.grouping import Grouping, TableGroups
from dcign_tf.datasets.manifest import MIXED, Manifest
from dcign_tf.datasets.source import RecordSource
from dcign_tf.errors import DcignError, UsageError
from tests.datasets import tiny, toys

GROUPS = rendering.standard_groups(
    5, 2, 2, mixed_images=30, group_size=4, factors=("spin", "scale", "intrinsic")
)


def maker(folder: pathlib.Path, **changes: object) -> TableGroups:
    settings: dict[str, Any] = {"image_size": 12, "group_size": 4, **changes}
    if not folder.exists():
        toys.write(folder)
    return TableGroups(toys.load(str(folder)), Grouping(**settings), {"source_path": str(folder)})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("packing")


@pytest.fixture(scope="module")
def dataset(home: pathlib.Path) -> pathlib.Path:
    rendering.make_dataset(maker(home / "png"), home / "data", GROUPS, 1, groups_per_shard=2)
    return home / "data"


def test_records_hold_the_tables_groups(home: pathlib.Path, dataset: pathlib.Path) -> None:
    made = maker(home / "png")
    source = RecordSource(dataset)
    assert source.factors == ("spin", "scale", "intrinsic")
    assert source.units == {"spin": "degrees", "scale": ""} and source.periods == {"spin": 360.0}
    assert source.ranges == {"spin": (0.0, 330.0), "scale": (0.5, 1.0)}
    for factor in (*source.factors, MIXED):
        assert factor in source.available("train")
    stored = source.groups("train", "scale")
    for index in range(5):
        group = made.group("train", "scale", index)
        np.testing.assert_array_equal(stored.images[index], group.images)
        np.testing.assert_array_equal(stored.values["scale"][index], group.values[:, 1])
    mixed = source.mixed("test")
    assert len(mixed.images) == 32 and mixed.coefficients is not None
    assert mixed.coefficients.shape == (32, 0)
    images, active = next(iter(source.training({"spin": 1.0}, seed=0)))
    assert images.shape == (1, 4, 12, 12, 1) and active.numpy().tolist() == [0]


def test_processes_and_interruptions_change_no_byte(
    home: pathlib.Path, dataset: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    expected = tiny.contents(dataset)
    moved = toys.write(tmp_path / "elsewhere")
    again = tmp_path / "data"
    rendering.make_dataset(maker(moved), again, GROUPS, 2, groups_per_shard=2)
    without_path = {name: content for name, content in expected.items() if name != "manifest.json"}
    found = tiny.contents(again)
    assert {name: content for name, content in found.items() if name != "manifest.json"} == (
        without_path
    )
    assert Manifest.load(again).digest == Manifest.load(dataset).digest
    # As if it had been interrupted.
    (again / "manifest.json").rename(again / "unfinished.json")
    (again / "train" / "spin-00001-of-00003.tfrecord").unlink()
    rendering.make_dataset(maker(moved), again, GROUPS, 1, groups_per_shard=2)
    assert tiny.contents(again) == found


def test_another_table_is_another_data_set(home: pathlib.Path, dataset: pathlib.Path) -> None:
    with pytest.raises(UsageError, match=r"these differ: crop \(there center, asked 0,0,9,9\)"):
        rendering.make_dataset(maker(home / "png", crop="0,0,9,9"), dataset, GROUPS, 1, 2)
    fewer = toys.write(dataset.parent / "fewer", identities=11)
    with pytest.raises(UsageError, match=r"images \(there 432, asked 396\).*table_sha256"):
        rendering.make_dataset(maker(fewer), dataset, GROUPS, 1, 2)


def test_a_damaged_image_stops_it_and_is_named(tmp_path: pathlib.Path) -> None:
    class Broken(toys.Bars):
        def read(self, row: int) -> np.ndarray:
            raise DcignError(f"bars.tar: bar{row}.png: a damaged or truncated PNG")

    table = toys.table(images=Broken(toys.rows()))
    broken = TableGroups(table, Grouping(image_size=12, group_size=4))
    with pytest.raises(DcignError, match=r"^bars.tar: bar\d+.png: a damaged"):
        rendering.make_dataset(broken, tmp_path / "data", GROUPS, 1)
    assert set(tiny.contents(tmp_path / "data")) == {"unfinished.json"}


def test_no_more_groups_than_there_are(tmp_path: pathlib.Path) -> None:
    made = TableGroups(toys.table(), Grouping(image_size=12, group_size=4))
    many = {"train": {"scale": 10_000, "spin": 3, MIXED: 10_000}}
    planned = rendering.plan(made, many)
    assert planned.groups == {"train": {"scale": 96, "spin": 3, MIXED: 72}}
