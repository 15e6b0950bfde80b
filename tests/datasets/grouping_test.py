import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcign_tf.code import INTRINSIC
from dcign_tf.datasets.grouping import Grouping, TableGroups, equal_values, fingerprint
from dcign_tf.datasets.scenes import MIXED, SPLITS
from dcign_tf.datasets.tables import FixedGroup, ImageTable
from dcign_tf.errors import DcignError, UsageError
from tests.datasets import toys

SMALL = Grouping(image_size=12, group_size=6)


def shown(table: ImageTable, rows: np.ndarray) -> np.ndarray:
    """Identity, spin and scale of rows of a table; [n, 3]."""
    columns = [table.identity, table.values["spin"], table.values["scale"]]
    return np.stack(columns, axis=1)[rows]


def test_in_a_group_one_factor_varies() -> None:
    table = toys.table()
    maker = TableGroups(table, SMALL)
    assert maker.factors == ("spin", "scale", INTRINSIC)
    for split in SPLITS:
        for factor in maker.factors:
            for index in range(maker.available(split, factor, 5)):
                identity, spin, scale = shown(table, maker.rows(split, factor, index)).T
                different = [len(np.unique(column)) for column in (identity, spin, scale)]
                held_out = split != "train"  # Of held-out identities there are two.
                expected = {
                    "spin": [1, 6, 1],
                    "scale": [1, 1, 3],
                    INTRINSIC: [2 if held_out else 6, 1, 1],
                }
                assert different == expected[factor]


def test_splits_share_no_identity_and_mixed_images_come_once() -> None:
    table = toys.table()
    maker = TableGroups(table, SMALL)
    seen = {}
    for split in SPLITS:
        count = maker.available(split, MIXED, 10**6)
        chosen = np.concatenate([maker.rows(split, MIXED, index) for index in range(count)])
        assert len(np.unique(chosen)) == len(chosen) == len(maker._mixed[split])
        seen[split] = set(table.identity[chosen])
        for factor in maker.factors:
            assert set(table.identity[maker.rows(split, factor, 0)]) <= seen[split]
    assert [len(seen[split]) for split in SPLITS] == [8, 2, 2]
    assert set.union(*seen.values()) == set(range(12))
    assert maker.settings["identities"] == {"train": 8, "validation": 2, "test": 2}


def test_a_group_is_a_pure_function() -> None:
    one, other = TableGroups(toys.table(), SMALL), TableGroups(toys.table(), SMALL)
    other.rows("train", "scale", 7)
    again = pickle.loads(pickle.dumps(other))
    group, copy = one.group("train", "spin", 3), again.group("train", "spin", 3)
    for ours, theirs in zip(group, copy, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert group.images.shape == (6, 12, 12, 1) and group.images.dtype == np.uint8
    assert group.values.shape == (6, 2) and group.coefficients.shape == (6, 0)
    np.testing.assert_array_equal(
        group.values, shown(toys.table(), one.rows("train", "spin", 3))[:, 1:]
    )
    reseeded = TableGroups(toys.table(), dataclasses.replace(SMALL, seed=1))
    assert not np.array_equal(reseeded.rows("train", "spin", 3), one.rows("train", "spin", 3))


def test_small_cells_give_themselves_once_large_ones_without_end() -> None:
    maker = TableGroups(toys.table(), SMALL)
    # 8 identities, 12 spins; three scales fit into a group of six. Twelve spins do not.
    assert maker.available("train", "scale", 1000) == 96
    cells = {frozenset(maker.rows("train", "scale", index).tolist()) for index in range(96)}
    assert len(cells) == 96
    assert maker.available("train", "spin", 1000) == 1000
    many = {frozenset(maker.rows("train", "spin", index).tolist()) for index in range(200)}
    assert len(many) > 190


def test_factors_that_are_left_out_are_intrinsic() -> None:
    table = toys.table()
    maker = TableGroups(table, dataclasses.replace(SMALL, factors=("spin",)))
    assert maker.factors == ("spin", INTRINSIC) and maker.ranges == {"spin": (0.0, 330.0)}
    identity, spin, scale = shown(table, maker.rows("train", "spin", 0)).T
    assert np.ptp(identity) == np.ptp(scale) == 0 < np.ptp(spin)
    pairs = [shown(table, maker.rows("train", INTRINSIC, index)) for index in range(20)]
    assert all(np.ptp(group[:, 1]) == 0 for group in pairs)
    assert any(np.ptp(group[:, 2]) > 0 for group in pairs)
    # Identities stay the units of splitting.
    assert maker.settings["identities"] == {"train": 8, "validation": 2, "test": 2}


def test_values_within_a_tolerance_are_equal() -> None:
    rows = toys.rows()
    noise = np.random.default_rng(0).uniform(-0.01, 0.01, len(rows))
    values = {"spin": rows[:, 1] + 100 * noise, "scale": rows[:, 2] + noise}
    table = toys.table(values=values)
    with pytest.raises(
        UsageError, match="no two training images differ in spin alone; --tolerance=scale="
    ):
        TableGroups(table, SMALL)
    tolerant = dataclasses.replace(SMALL, tolerance={"scale": 0.02, "spin": 2.0})
    maker = TableGroups(table, tolerant)
    identity, spin, scale = shown(table, maker.rows("train", "spin", 0)).T
    assert np.ptp(identity) == 0 and np.ptp(scale) <= 0.02 and np.ptp(spin) > 20


@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(np.nan), max_size=40),
    st.floats(0, 100),
    st.none() | st.floats(1, 1000),
)
def test_classes_are_no_wider_than_the_tolerance(
    values: list[float], tolerance: float, period: float | None
) -> None:
    array = np.array(values, np.float64)
    classes = equal_values(array, tolerance, period)
    assert ((classes == -1) == np.isnan(array)).all()
    for number in range(int(classes.max(initial=-1)) + 1):
        members = array[classes == number]
        assert len(members)
        if period is None:
            assert np.ptp(members) <= tolerance * (1 + 1e-9)
            # Outside of the class, nothing is nearer to its first value.
            outside = array[(classes != number) & ~np.isnan(array)]
            assert not ((outside >= members.min()) & (outside <= members.max())).any()
    if period is None and tolerance == 0:
        assert len(np.unique(classes[classes >= 0])) == len(np.unique(array[~np.isnan(array)]))


def test_full_turns_are_equal() -> None:
    classes = equal_values(np.array([0.0, 359.5, 10.0, 370.0, 720.2]), 1.0, 360.0)
    assert classes.tolist() == [0, 0, 1, 1, 0]


TABLES = st.builds(
    lambda seed, identities, spins, scales, keep: (seed, identities, spins, scales, keep),
    st.integers(0, 1000),
    st.integers(1, 14),
    st.integers(1, 9),
    st.integers(1, 4),
    st.floats(0.3, 1),
)


@settings(max_examples=60)
@given(TABLES, st.integers(2, 9))
def test_any_table_gives_right_groups_or_says_why_not(
    drawn: tuple[int, int, int, int, float], group_size: int
) -> None:
    seed, identities, spins, scales, keep = drawn
    rng = np.random.default_rng(seed)
    grid = np.stack(
        np.meshgrid(range(identities), range(spins), range(scales), indexing="ij"), -1
    ).reshape(-1, 3)
    rows = grid[rng.random(len(grid)) < keep].astype(np.float64)
    if not len(rows):
        return
    table = toys.table_of(rows)
    try:
        maker = TableGroups(table, Grouping(image_size=12, group_size=group_size, seed=seed))
    except UsageError as error:
        assert str(error).startswith(("--factors: ", "--split: "))
        return
    of_split = {}
    for split in SPLITS:
        of_split[split] = set(maker._mixed[split].tolist())
        for factor in maker.factors:
            for index in range(maker.available(split, factor, 3)):
                chosen = maker.rows(split, factor, index)
                assert len(chosen) == group_size and set(chosen.tolist()) <= of_split[split]
                identity, spin, scale = shown(table, chosen).T
                varies = {"spin": spin, "scale": scale, INTRINSIC: identity}
                for name, column in varies.items():
                    # One identity that is all there is may look different for other reasons.
                    if name == factor and not (name == INTRINSIC and identities == 1):
                        assert np.ptp(column) > 0
                    if name != factor:
                        assert np.ptp(column) == 0
    assert not of_split["train"] & of_split["test"]
    assert sum(map(len, of_split.values())) == len(rows)


def test_the_datas_own_split_counts() -> None:
    rows = toys.rows()
    named = tuple("test" if identity >= 7 else "train" for identity in rows[:, 0])
    table = toys.table(split=named)
    maker = TableGroups(table, SMALL)
    identities = {split: set(table.identity[maker._mixed[split]]) for split in SPLITS}
    assert identities["test"] == set(range(7, 12))
    # Validation is taken from what is for training: seven identities are too few, so single images.
    assert identities["validation"] <= set(range(7)) and len(maker._mixed["validation"])
    assert maker.settings["split_unit"] == "image"
    asked = dataclasses.replace(SMALL, split=(6.0, 3.0, 3.0))
    assert TableGroups(table, asked).settings["identities"] == {
        "train": 6, "validation": 3, "test": 3,
    }  # fmt: skip


def test_groups_that_the_data_come_in_stay() -> None:
    rows = toys.rows()
    groups = toys.fixed_groups(rows)
    unknown = np.full(len(rows), np.nan)
    table = toys.table(values={"spin": unknown, "scale": unknown}, groups=groups)
    maker = TableGroups(table, Grouping(image_size=12, group_size=12))
    assert maker.ranges == {"spin": None, "scale": None}
    given_rows: dict[str, set] = {group.factor: set() for group in groups}
    for group in groups:
        given_rows[group.factor].add(group.rows)
    for split in SPLITS:
        for factor in ("spin", "scale", INTRINSIC):
            for index in range(maker.available(split, factor, 10)):
                chosen = tuple(sorted(set(maker.rows(split, factor, index).tolist())))
                assert chosen in given_rows[factor]
    assert not np.intersect1d(maker._mixed["train"], maker._mixed["test"]).size
    assert np.isnan(maker.group("train", MIXED, 0).values).all()


def test_groups_split_by_what_they_share() -> None:
    """Groups of one identity are never in two splits; prescribed splits stay."""
    rows = toys.rows()
    groups = [group for group in toys.fixed_groups(rows) if group.factor != INTRINSIC]
    maker = TableGroups(toys.table(groups=tuple(groups)), SMALL)
    identities = {split: set(rows[maker._mixed[split], 0]) for split in SPLITS}
    assert [len(identities[split]) for split in SPLITS] == [8, 2, 2]
    assert not identities["train"] & identities["test"]
    assert any("two training images" in note or "rest varies" in note for note in maker.notes)

    named = [
        FixedGroup("test" if n % 5 == 0 else "train", *group[1:]) for n, group in enumerate(groups)
    ]
    maker = TableGroups(toys.table(groups=tuple(named)), SMALL)
    tested = {group.rows for group in named if group.split == "test" and group.factor == "spin"}
    count = maker.available("test", "spin", 1000)
    assert count == 1000 or count == len(tested)
    for index in range(min(count, 20)):
        chosen = set(maker.rows("test", "spin", index).tolist())
        assert any(chosen <= set(some) for some in tested)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factors": ("spin", "color")}, "--factors: got 'color', but the factors of these images are spin, scale"),
        ({"factors": ()}, "--factors: got ''"),
        ({"factors": ("spin", "spin")}, "--factors: got 'spin,spin'"),
        ({"tolerance": {"color": 1.0}}, "--tolerance: got 'color'"),
        ({"tolerance": {"spin": float("nan")}}, "--tolerance: got nan for spin"),
        ({"crop": "1,2,3"}, "--crop: got '1,2,3', must be center, or left,top,right,bottom of a square"),
        ({"crop": "0,0,4,5"}, "--crop: got '0,0,4,5'"),
        ({"crop": "4,4,4,4"}, "--crop: got '4,4,4,4'"),
        ({"split": (0.5, 0.1, 0.1)}, "--split: got 0.5,0.1,0.1; must be three numbers"),
        ({"split": (0.0, 0.5, 0.5)}, "--split: got 0,0.5,0.5"),
        ({"split": (3.5, 1.0, 1.0)}, "--split: got 3.5,1,1"),
        ({"split": (10.0, 2.0, 2.0)}, "--split: 10 for training, 2 for validation and 2 for the test .* 12 identities"),
        ({"split_by": "color"}, "--split_by: got 'color'"),
        ({"image_size": 0}, "--image_size: got 0"),
        ({"group_size": 1}, "--group_size: got 1"),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        TableGroups(toys.table(), dataclasses.replace(SMALL, **changes))


def test_what_cannot_be_learned_is_told() -> None:
    rows = toys.rows()

    def problem(some: np.ndarray, **changes: object) -> str:
        with pytest.raises(UsageError) as error:
            TableGroups(toys.table_of(some, **changes), SMALL)
        return str(error.value)

    assert "scale is 0.5 in all images" in problem(rows[rows[:, 2] == 0.5])
    diagonal = rows[(rows[:, 1] / 30) % 3 == (rows[:, 2] - 0.5) * 4]
    assert "no two training images differ in scale alone" in problem(diagonal)
    unknown = {"spin": rows[:, 1], "scale": np.full(len(rows), np.nan)}
    assert "no true value of scale is known" in problem(rows, values=unknown)
    half = np.arange(len(rows)) % 2 == 0
    never_both = {"spin": np.where(half, rows[:, 1], np.nan), "scale": np.where(half, np.nan, rows[:, 2])}  # fmt: skip
    assert "no image of which the values of all factors are known" in problem(
        rows, values=never_both
    )
    taken = {"values": {"images": rows[:, 1]}, "factors": ("images",), "units": {"images": ""}}
    assert "a factor cannot be called 'images'" in problem(rows, periods={}, **taken)
    alone = [group for group in toys.fixed_groups(rows) if group.factor != "scale"]
    assert "no mini-batch for training in which scale varies" in problem(rows, groups=tuple(alone))
    with pytest.raises(UsageError, match="there are 2 images"):
        TableGroups(toys.table_of(rows[:2]), SMALL)


def test_one_identity_trains_without_the_intrinsic_factor() -> None:
    maker = TableGroups(toys.table(1), SMALL)
    assert maker.available("train", INTRINSIC, 9) == 0
    assert maker.available("train", "spin", 9) == 9
    assert maker.settings["split_unit"] == "image"
    notes = " ".join(maker.notes)
    assert "too few identities (1) to hold any out" in notes
    assert "no two training images agree in all of spin, scale" in notes


def test_crops_and_sizes() -> None:
    table = toys.table()
    row = 5
    whole = table.images.read(row)

    def image(**changes: Any) -> np.ndarray:
        return TableGroups(table, dataclasses.replace(SMALL, **changes))._image(row)

    np.testing.assert_array_equal(image(image_size=40), whole[:, 4:44])
    np.testing.assert_array_equal(image(image_size=10, crop="3,5,13,15"), whole[5:15, 3:13])
    # Half the size: near to means of four pixels; a filter that takes one of them would be far off.
    means = whole[:, 4:44].reshape(20, 2, 20, 2).mean(axis=(1, 3))
    assert np.abs(image(image_size=20) - means).mean() < 4
    assert np.abs(whole[::2, 4:44:2] - means).mean() > 6
    with pytest.raises(DcignError, match=r"--crop: got 0,0,41,41, but image 5 has 48 x 40 pixels"):
        image(crop="0,0,41,41")


def test_the_fingerprint_is_of_all_that_a_table_says() -> None:
    table = toys.table()
    first = fingerprint(table)
    assert fingerprint(toys.table()) == first
    different: list[dict[str, Any]] = [
        {"units": {"spin": "degrees", "scale": "m"}},
        {"periods": {}},
        {"split": ("train",) * len(table.identity)},
        {"identity": table.identity + 1},
        {"groups": (FixedGroup(None, "spin", (0, 1)),)},
        {"values": {**table.values, "scale": table.values["scale"] * 2}},
    ]
    for changes in different:
        assert fingerprint(toys.table(**changes)) != first
