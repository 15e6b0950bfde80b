import pathlib
from typing import Any

import numpy as np
import pytest

from dcign_tf.datasets import inspection, rendering
from dcign_tf.datasets.grouping import Grouping, TableGroups
from dcign_tf.datasets.scenes import MIXED, SceneSampler
from dcign_tf.errors import DcignError
from tests.datasets import tiny, toys

GROUPS = rendering.standard_groups(
    3, 1, 1, mixed_images=8, group_size=4, factors=("spin", "scale", "intrinsic")
)


def maker() -> TableGroups:
    return TableGroups(toys.table(), Grouping(image_size=12, group_size=4))


def test_it_says_what_there_is_and_what_there_could_be(tmp_path: pathlib.Path) -> None:
    made = maker()
    planned = rendering.plan(made, GROUPS)
    lines = inspection.describe(planned)
    assert lines[:4] == [
        "bars made by a test",
        "images: 12 x 12 pixels, 4 in a mini-batch",
        "identities: 8 for train, 2 for validation, 2 for test",
        "mini-batches       train  validation        test",
    ]
    assert lines[4].split() == [
        "spin",
        "3",
        "1",
        "1",
        "0°",
        "to",
        "330°,",
        "closing",
        "after",
        "360°",
    ]
    assert lines[5].split() == ["scale", "3", "1", "1", "0.5", "to", "1"]
    assert lines[7].split() == ["mixed", "2", "2", "2"]

    rendering.make_dataset(made, tmp_path / "data", GROUPS, processes=1)
    manifest, state, group = inspection.open_dataset(tmp_path / "data")
    assert inspection.describe(manifest) == lines
    assert state.startswith("12, 0.0 MB, all as they were written")
    for factor in ("spin", "intrinsic", MIXED):
        stored, formed = group("train", factor, 1), made.group("train", factor, 1)
        np.testing.assert_array_equal(stored.images, formed.images)
        np.testing.assert_array_equal(stored.values, formed.values)
    before = inspection.contact_sheet(planned, made.group)
    np.testing.assert_array_equal(inspection.contact_sheet(manifest, group), before)

    shard = tmp_path / "data" / "test" / "spin-00000-of-00001.tfrecord"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert f"{shard}: corrupt" in inspection.open_dataset(tmp_path / "data")[1]
    with pytest.raises(DcignError, match="no such folder"):
        inspection.open_dataset(tmp_path / "nowhere")


def test_the_sheet_has_a_row_for_each_factor_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    made = maker()
    texts: list[str] = []
    write = inspection._text

    def noted(*args: Any) -> None:
        texts.append(args[2])
        write(*args)

    monkeypatch.setattr(inspection, "_text", noted)
    sheet = inspection.contact_sheet(rendering.plan(made, GROUPS), made.group)
    assert sheet.dtype == np.uint8 and sheet.ndim == 2
    assert [text for text in texts if text.endswith("varies")] == [
        "spin varies", "scale varies", "intrinsic varies", "everything varies",
    ]  # fmt: skip
    spins = made.group("train", "spin", 0).values[:, 0]
    labels = texts[texts.index("spin varies") + 3 :][:4]
    assert labels == [f"{value:g}°" for value in sorted(spins)]
    # The images themselves, four times four of them, are somewhere below.
    for row in (0, 1):
        first = sheet[12 + row * (sheet.shape[0] - 24) // 4 :][:100, 202:330]
        assert np.ptp(first) > 100


def test_unknown_values_and_rendered_scenes(tmp_path: pathlib.Path) -> None:
    rows = toys.rows()
    unknown = np.full(len(rows), np.nan)
    table = toys.table(values={"spin": unknown, "scale": unknown}, groups=toys.fixed_groups(rows))
    made = TableGroups(table, Grouping(image_size=12, group_size=4))
    planned = rendering.plan(made, GROUPS)
    assert "values unknown" in inspection.describe(planned)[4]
    assert inspection.contact_sheet(planned, made.group).size
    sampler = SceneSampler(tiny.config(tmp_path))
    planned = rendering.plan(sampler, tiny.GROUPS)
    assert "identities: random, of 5 coefficients each" in inspection.describe(planned)
    assert inspection.contact_sheet(planned, sampler.group, columns=3).shape[1] < 700


def test_the_picture_lies_beside_the_folder(tmp_path: pathlib.Path) -> None:
    assert inspection.picture_path(tmp_path / "data" / "mine") == tmp_path / "data" / "mine.png"
    assert inspection.picture_path(f"{tmp_path}/mine/") == tmp_path / "mine.png"
