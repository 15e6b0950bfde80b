"""Mini-batches from a table of images: in each exactly one factor varies (section 3.1 of the paper).

Images that are equal in all factors but one, and show the same identity, form a cell; a mini-batch is drawn from one
cell. Cells of the intrinsic factor hold images that are equal in all extrinsic factors. Like scenes that are rendered,
a group is a pure function of the table, the settings, the split, the factor and the group's index.
"""

import dataclasses
import hashlib
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from PIL import Image

from dcign_tf.code import INTRINSIC
from dcign_tf.datasets.scenes import MIXED, SPLITS, Group
from dcign_tf.datasets.tables import ImageTable
from dcign_tf.errors import DcignError, UsageError

CENTER = "center"
SPLIT_BY = ("auto", "identity", "image")
SHARES = (0.8, 0.1, 0.1)
# With fewer identities than these, held-out ones would say more about themselves than about the network.
_ENOUGH_IDENTITIES = 10
_OPEN = -1
# Names that functions and signatures of models have for other things.
_TAKEN = {INTRINSIC, MIXED, "images", "codes", "mean", "log_variance", "self"}


@dataclasses.dataclass(frozen=True)
class Grouping:
    """How the images of a table become mini-batches.

    Attributes:
        image_size: height and width of the images that the network sees, in pixels.
        group_size: images in a group.
        seed: of all that is random.
        factors: which of the table's factors are extrinsic, in the order of the code's latents; None for all. What
            the others say, only intrinsic latents can tell.
        tolerance: for some factors, how far apart values may lie and still count as equal, in the factor's unit.
        crop: "center" for the central square, or "left,top,right,bottom", a square in the image's pixels.
        split: how many identities (or images, see `split_by`) are for training, validation and test: fractions of
            all, or numbers. None for the table's own split and, where it has none, `SHARES`.
        split_by: "identity" keeps all images of an identity in one split; "image" deals out single images, or, if the
            data come in groups, groups; "auto" does the first if there are at least ten identities.

    Raises:
        UsageError: a value is impossible; the message names the flag.
    """

    image_size: int = 150
    group_size: int = 20
    seed: int = 0
    factors: tuple[str, ...] | None = None
    tolerance: Mapping[str, float] = dataclasses.field(default_factory=dict)
    crop: str = CENTER
    split: tuple[float, float, float] | None = None
    split_by: str = "auto"

    def __post_init__(self) -> None:
        for name, low, high in (
            ("image_size", 1, 4096),
            ("group_size", 2, 10_000),
            ("seed", 0, 2**63 - 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"--{name}: got {value}, must be {low} to {high}")
        if self.factors is not None and (
            not self.factors or len(set(self.factors)) < len(self.factors)
        ):
            raise UsageError(
                f"--factors: got {','.join(self.factors)!r}, must be one or more different names"
            )
        for factor, tolerance in self.tolerance.items():
            if not 0 <= tolerance < math.inf:
                raise UsageError(f"--tolerance: got {tolerance:g} for {factor}, must be 0 or more")
        if self.crop != CENTER:
            self._parse_box()
        if self.split is not None:
            self._check_split(self.split)
        if self.split_by not in SPLIT_BY:
            raise UsageError(
                f"--split_by: got {self.split_by!r}, must be one of {', '.join(SPLIT_BY)}"
            )

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """Left, top, right and bottom of the square to crop to; None for the central one."""
        return None if self.crop == CENTER else self._parse_box()

    def _parse_box(self) -> tuple[int, int, int, int]:
        if match := re.fullmatch(r"(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})", self.crop):
            left, top, right, bottom = map(int, match.groups())
            if right - left == bottom - top > 0:
                return left, top, right, bottom
        raise UsageError(
            f"--crop: got {self.crop!r}, must be {CENTER}, or left,top,right,bottom of a square in the image's pixels"
        )

    @staticmethod
    def _check_split(split: tuple[float, float, float]) -> None:
        fractions = max(split) <= 1 and math.isclose(sum(split), 1, abs_tol=1e-6)
        numbers = max(split) > 1 and all(float(value).is_integer() for value in split)
        if min(split) < 0 or split[0] == 0 or not (fractions or numbers):
            raise UsageError(
                f"--split: got {','.join(f'{value:g}' for value in split)}; must be three numbers for training (not "
                "0), validation and test: fractions that add up to 1, or whole numbers"
            )


class _Cells(NamedTuple):
    """Sets of images of one split from each of which groups of one factor may be drawn, in random order.

    Attributes:
        rows: int64 [R], the images of cell after cell.
        starts: int64 [C], where each cell begins.
        sizes: int64 [C], how many images it has.
        least: int, the fewest different values that a cell has.
    """

    rows: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    least: int


class TableGroups:
    """Forms the groups of a table; implements `rendering.GroupMaker`.

        maker = TableGroups(table, Grouping(image_size=70))
        group = maker.group("train", "azimuth", 17)

    Args:
        table: the images and what is known of them.
        grouping: how to form groups.
        origin: what else the manifest shall say, such as the flags that named the table.

    Raises:
        UsageError: a setting does not fit the table; no group of an extrinsic factor can be formed.
    """

    def __init__(
        self, table: ImageTable, grouping: Grouping, origin: Mapping[str, Any] | None = None
    ) -> None:
        extrinsic = table.factors if grouping.factors is None else grouping.factors
        for flag, names in (("factors", extrinsic), ("tolerance", grouping.tolerance)):
            for name in names:
                if name not in table.factors:
                    known = ", ".join(table.factors)
                    raise UsageError(
                        f"--{flag}: got {name!r}, but the factors of these images are {known}"
                    )
        for name in extrinsic:
            if name in _TAKEN:
                raise UsageError(
                    f"--factors: a factor cannot be called {name!r}, which means something else here; rename it in "
                    "the data or leave it out"
                )
        self.table = table
        self.grouping = grouping
        self.source = table.source
        self.image_size = grouping.image_size
        self.group_size = grouping.group_size
        self.factors = (*extrinsic, INTRINSIC)
        self.units = {factor: table.units[factor] for factor in extrinsic}
        self.periods = {f: float(table.periods[f]) for f in extrinsic if f in table.periods}
        self.coefficients = 0
        self.work = "packing"
        values = [np.asarray(table.values[factor], np.float64) for factor in extrinsic]
        self._values = np.stack(values, axis=1).astype(np.float32)
        self.ranges = {f: _range(v) for f, v in zip(extrinsic, values, strict=True)}
        self.notes: list[str] = []

        classes = {
            factor: equal_values(
                table.values[factor],
                grouping.tolerance.get(factor, 0.0),
                table.periods.get(factor),
            )
            for factor in table.factors
        }
        identity = np.unique(table.identity, return_inverse=True)[1]
        held = [classes[factor] for factor in table.factors if factor not in extrinsic]
        # What an image shows apart from the extrinsic factors.
        looks = _combined([identity, *held])
        rows = np.arange(len(table.images))
        self._varying = {factor: classes[factor] for factor in extrinsic}
        # Where nothing is known of it, all images may look different.
        self._varying[INTRINSIC] = looks if looks.any() else rows

        row_splits, group_splits, self._split_unit = self._split(identity)
        self._mixed: dict[str, np.ndarray] = {}
        self._cells: dict[tuple[str, str], _Cells | None] = {}
        known = np.all([codes >= 0 for codes in classes.values()], axis=0)
        for number, split in enumerate(SPLITS):
            everything = np.flatnonzero(row_splits == number)
            self._mixed[split] = self._rng(split, MIXED).permutation(everything)
            usable = everything[known[everything]]
            for factor in self.factors:
                rng = self._rng(split, factor)
                if table.groups is not None:
                    assert group_splits is not None
                    chosen = [
                        np.array(group.rows)
                        for group, of_split in zip(table.groups, group_splits, strict=True)
                        if of_split == number and group.factor == factor
                    ]
                    self._cells[split, factor] = _given_cells(chosen, rng)
                else:
                    alike = [classes[other] for other in extrinsic if other != factor]
                    key = _combined([*alike, *([] if factor == INTRINSIC else [looks])])
                    self._cells[split, factor] = _formed_cells(
                        usable, key[usable], self._varying[factor][usable], self.group_size, rng
                    )
        if table.groups is not None:  # Which values differ in them is the data's to know.
            self._varying = dict.fromkeys(self.factors, rows)
        self._identities = {split: len(np.unique(identity[self._mixed[split]])) for split in SPLITS}
        self._origin = dict(origin or {})
        self._tell(int(known.sum()))

    @property
    def settings(self) -> dict[str, Any]:
        """See `rendering.GroupMaker`."""
        grouping = self.grouping
        return {
            **self._origin,
            "image_size": grouping.image_size,
            "group_size": grouping.group_size,
            "seed": grouping.seed,
            "factors": list(self.factors[:-1]),
            "tolerance": dict(grouping.tolerance),
            "crop": grouping.crop,
            "split": None if grouping.split is None else list(grouping.split),
            "split_by": grouping.split_by,
            "split_unit": self._split_unit,
            "images": len(self.table.images),
            "identities": self._identities,
            "table_sha256": fingerprint(self.table),
        }

    def available(self, split: str, factor: str, wanted: int) -> int:
        """See `rendering.GroupMaker`.

        A cell that is larger than a group gives any number of them, a smaller one only itself.
        """
        if factor == MIXED:
            return min(wanted, math.ceil(len(self._mixed[split]) / self.group_size))
        cells = self._cells[split, factor]
        if cells is None:
            return min(wanted, 0)
        endless = bool((cells.sizes > self.group_size).any())
        return wanted if endless else min(wanted, len(cells.starts))

    def group(self, split: str, factor: str, index: int) -> Group:
        """See `rendering.GroupMaker`."""
        rows = self.rows(split, factor, index)
        different, places = np.unique(rows, return_inverse=True)
        images = np.stack([self._image(int(row)) for row in different])[places]
        return Group(
            images[..., np.newaxis],
            self._values[rows],
            np.zeros([self.group_size, 0], np.float32),
        )

    def rows(self, split: str, factor: str, index: int) -> np.ndarray:
        """Which images of the table a group has; int64 [B]. Images are repeated where there are fewer."""
        size = self.group_size
        if factor == MIXED:
            return self._mixed[split].take(range(index * size, index * size + size), mode="wrap")
        cells = self._cells[split, factor]
        assert cells is not None, "available() says that there are none"
        rng = self._rng(split, factor, index)
        cell = index
        if index >= len(cells.starts):  # All have had their turn.
            cell = rng.choice(np.flatnonzero(cells.sizes > size))
        rows = rng.permutation(cells.rows[cells.starts[cell] :][: cells.sizes[cell]])
        # As many different values as there are, before any comes again.
        first_come = np.argsort(_occurrences(self._varying[factor][rows]), kind="stable")
        return np.resize(rows[first_come], size)

    def _image(self, row: int) -> np.ndarray:
        """An image as the network sees it; uint8 [S, S]."""
        image = self.table.images.read(row)
        height, width = image.shape
        box = self.grouping.box
        if box is None:
            side = min(height, width)
            left, top = (width - side) // 2, (height - side) // 2
            box = (left, top, left + side, top + side)
        elif box[2] > width or box[3] > height:
            raise DcignError(
                f"--crop: got {self.grouping.crop}, but image {row} has {width} x {height} pixels"
            )
        if box == (0, 0, self.image_size, self.image_size) == (0, 0, width, height):
            return image
        picture = Image.fromarray(np.ascontiguousarray(image))
        size = (self.image_size, self.image_size)
        # Far larger images are first reduced by a whole number: half the time, the same to the eye.
        resized = picture.resize(size, Image.Resampling.LANCZOS, box, reducing_gap=2.0)
        return np.asarray(resized)

    def _rng(self, split: str, factor: str, *index: int) -> np.random.Generator:
        """A random stream for a split and factor, or for one of their groups.

        Keyed by the factor's name, so that another one more or less changes nothing.
        """
        key = (SPLITS.index(split), zlib.crc32(factor.encode()), *index)
        return np.random.default_rng(np.random.SeedSequence(self.grouping.seed, spawn_key=key))

    def _split(self, identity: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, str]:
        """The split of each image and each given group, and what was dealt out: "identity", "image" or "the data"."""
        table, grouping = self.table, self.grouping
        rows = np.full(len(table.images), _OPEN)
        if table.split is not None and grouping.split is None:
            rows = np.array([SPLITS.index(split) for split in table.split])
        if table.groups is None:
            splits, unit = self._deal(identity, rows, np.zeros(len(rows), np.int64), "images")
            return splits, None, unit
        names = (*self.factors,)
        unknown = sorted({group.factor for group in table.groups} - {*names, *table.factors})
        if unknown:
            raise DcignError(f"{table.source}: a group of images is said to vary in {unknown[0]!r}")
        given = []
        for group in table.groups:
            split = None if grouping.split is not None else group.split
            own = set(rows[list(group.rows)].tolist())
            given.append(SPLITS.index(split) if split else own.pop() if len(own) == 1 else _OPEN)
        strata = np.array(
            [
                table.factors.index(g.factor) if g.factor in table.factors else -1
                for g in table.groups
            ]
        )
        # Groups that share an identity belong together.
        number = np.repeat(np.arange(len(table.groups)), [len(g.rows) for g in table.groups])
        member = identity[np.concatenate([np.array(g.rows) for g in table.groups])]
        shape = (len(table.groups), int(identity.max()) + 1)
        shares = scipy.sparse.csr_array((np.ones(len(number)), (number, member)), shape)
        together = scipy.sparse.csgraph.connected_components(shares @ shares.T)[1]
        groups, unit = self._deal(together, np.array(given), strata, "mini-batches")
        # An image that training sees, in whatever group, is no test image.
        for split_number in reversed(range(len(SPLITS))):
            for group, of_split in zip(table.groups, groups, strict=True):
                if of_split == split_number:
                    rows[list(group.rows)] = split_number
        return rows, groups, unit

    def _deal(
        self, identity: np.ndarray, given: np.ndarray, strata: np.ndarray, items: str
    ) -> tuple[np.ndarray, str]:
        """Gives each item without a split one.

        Splits that the data name nothing for get their share of what they name for training.

        Args:
            identity: int [M], items that belong together.
            given: int [M], the items' splits, or `_OPEN`.
            strata: int [M]; each kind is dealt out by itself where single items are.
            items: what they are, for messages.

        Returns:
            int [M], the splits, `_OPEN` for what is not needed, and what was dealt out.
        """
        shares = self.grouping.split or SHARES
        is_open = given == _OPEN
        wanted = [True, True, True]
        if not is_open.any():
            wanted = [True, *(not (given == split).any() for split in (1, 2))]
            if wanted == [True, False, False]:
                return given, "the data"
            is_open = given == 0
        by = self.grouping.split_by
        different = len(np.unique(identity[is_open]))
        if by == "auto":
            by = "identity" if different >= _ENOUGH_IDENTITIES else "image"
            if by == "image":
                self.notes.append(
                    f"{items}, not identities, are dealt out to training, validation and test: there are too few "
                    f"identities ({different}) to hold any out"
                )
        if by == "identity":
            units, strata, items = identity, np.zeros_like(strata), "identities"
        else:
            units = np.arange(len(given))
        splits = given.copy()
        for stratum in np.unique(strata[is_open]):
            here = is_open & (strata == stratum)
            rng = np.random.default_rng([self.grouping.seed, int(stratum) + 1])
            order = rng.permutation(np.unique(units[here]))
            counts = _counts(len(order), shares, wanted, items)
            splits[here] = _OPEN
            first = 0
            for split in (
                2,
                1,
                0,
            ):  # The test's first, so that more training data would leave it alone.
                chosen = order[first : first + counts[split]]
                splits[here & np.isin(units, chosen)] = split
                first += counts[split]
        return splits, by

    def _tell(self, known: int) -> None:
        """Raises UsageError where training is impossible, and notes what is missing or thin elsewhere."""
        *extrinsic, _ = self.factors
        for factor in extrinsic:
            if self._cells["train", factor] is None:
                raise UsageError(self._why_not(factor, known))
        if self._cells["train", INTRINSIC] is None:
            self.notes.append(
                "no mini-batches in which the rest varies: no two training images agree in all of "
                f"{', '.join(extrinsic)}"
            )
        for split in SPLITS[1:]:
            without = [
                f for f in self.factors if self._cells[split, f] is None and self._cells["train", f]
            ]
            if without:
                self.notes.append(
                    f"{split}: too few images ({len(self._mixed[split])}) for mini-batches in which only "
                    f"{' or '.join(without)} varies"
                )
        for factor in self.factors:
            cells = self._cells["train", factor]
            if cells is not None and cells.least < self.group_size / 2:
                what = "images" if factor == INTRINSIC else "values"
                self.notes.append(
                    f"{factor}: images that are alike in all else have as few as {cells.least} different {what}; "
                    f"mini-batches of {self.group_size} repeat them"
                )

    def _why_not(self, factor: str, known: int) -> str:
        table = self.table
        if table.groups is not None:
            return f"--factors: the data hold no mini-batch for training in which {factor} varies; leave it out"
        for name in table.factors:
            if not np.isfinite(table.values[name]).any():
                return f"--factors: no true value of {name} is known, so mini-batches cannot be formed by it"
        if not known:
            return "--factors: there is no image of which the values of all factors are known"
        if self.ranges[factor] is None:
            value = np.nanmin(table.values[factor])
            return f"--factors: {factor} is {value:g} in all images, so it cannot be learned; leave it out"
        others = [name for name in table.factors if name != factor]
        hint = f"; --tolerance={others[0]}=... lets near values count as equal" if others else ""
        return f"--factors: no two training images differ in {factor} alone{hint}, and --factors leaves factors out"


def equal_values(
    values: np.ndarray, tolerance: float = 0.0, period: float | None = None
) -> np.ndarray:
    """Numbers of classes of values that count as equal.

    From the smallest value on, a class takes all that lie within the tolerance from its first one.

    Args:
        values: float [N].
        tolerance: 0 or more.
        period: of values that close.

    Returns:
        int64 [N], rising with the values; -1 for those that are not finite.
    """
    values = np.asarray(values, np.float64)
    if period is not None:
        values = values % period
        values = np.where(period - values <= tolerance, values - period, values)
    finite = np.isfinite(values)
    different = np.unique(values[finite])
    starts, first = [], 0
    while tolerance > 0 and first < len(different):
        starts.append(different[first])
        first = int(np.searchsorted(different, different[first] + tolerance, side="right"))
    edges = np.array(starts) if tolerance > 0 else different
    return np.where(finite, np.searchsorted(edges, values, side="right") - 1, -1)


def fingerprint(table: ImageTable) -> str:
    """SHA-256 of all that a table says of its images, wherever they lie; not of the images themselves."""
    digest = hashlib.sha256()
    digest.update(repr((len(table.images), table.factors, table.split, table.groups)).encode())
    for factor in table.factors:
        digest.update(repr((table.units[factor], table.periods.get(factor))).encode())
        digest.update(np.ascontiguousarray(table.values[factor], "<f8").data)
    digest.update(np.ascontiguousarray(table.identity, "<i8").data)
    return digest.hexdigest()


def _range(values: np.ndarray) -> tuple[float, float] | None:
    known = values[np.isfinite(values)]
    if not len(known) or known.min() == known.max():
        return None
    return float(known.min()), float(known.max())


def _combined(columns: Sequence[np.ndarray]) -> np.ndarray:
    """A number for each different row of columns of numbers, -1 or more; int64 [N]."""
    combined = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        pairs = combined * (int(column.max(initial=0)) + 2) + column + 1
        combined = np.unique(pairs, return_inverse=True)[1]
    return combined


def _occurrences(values: np.ndarray) -> np.ndarray:
    """For each value how often it came before; int64 [n]."""
    order = np.argsort(values, kind="stable")
    rank = np.arange(len(values))
    first = np.concatenate([[True], np.diff(values[order]) != 0])
    counted = np.empty_like(rank)
    counted[order] = rank - np.maximum.accumulate(np.where(first, rank, 0))
    return counted


def _formed_cells(
    rows: np.ndarray,
    alike: np.ndarray,
    varying: np.ndarray,
    group_size: int,
    rng: np.random.Generator,
) -> _Cells | None:
    """Puts images [n] that are alike into cells; None where in no cell two differ in what varies.

    Cells with less than half as many different values as the best of them do not count: they would come from values
    that are near by chance.
    """
    if not len(rows):
        return None
    order = np.lexsort((varying, alike))
    new_cell = np.concatenate([[True], np.diff(alike[order]) != 0])
    new_value = new_cell | np.concatenate([[True], np.diff(varying[order]) != 0])
    starts = np.flatnonzero(new_cell)
    sizes = np.diff(np.append(starts, len(rows)))
    different = np.add.reduceat(new_value.astype(np.int64), starts)
    enough = max(2, math.ceil(min(group_size, int(different.max())) / 2))
    chosen = rng.permutation(np.flatnonzero(different >= enough))
    if not len(chosen):
        return None
    return _Cells(rows[order], starts[chosen], sizes[chosen], int(different[chosen].min()))


def _given_cells(groups: Sequence[np.ndarray], rng: np.random.Generator) -> _Cells | None:
    """The data's own groups as cells."""
    if not groups:
        return None
    sizes = np.array([len(group) for group in groups])
    starts = np.cumsum(sizes) - sizes
    order = rng.permutation(len(groups))
    return _Cells(np.concatenate(groups), starts[order], sizes[order], int(sizes.min()))


def _counts(
    units: int, split: tuple[float, float, float], wanted: Sequence[bool], items: str
) -> tuple[int, int, int]:
    """How many of some units each split gets; those that are not wanted get none.

    Raises:
        UsageError: there are not enough.
    """
    asked = [value if want else 0 for value, want in zip(split, wanted, strict=True)]
    if max(split) > 1:
        train, validation, test = (int(value) for value in asked)
    else:
        # Held-out images there must be, and two identities so that theirs can vary.
        least = 2 if units >= _ENOUGH_IDENTITIES else 1
        validation, test = (max(round(value * units), least * (value > 0)) for value in asked[1:])
        train = max(units - validation - test, 1)
    if train + validation + test > units:
        raise UsageError(
            f"--split: {train} for training, {validation} for validation and {test} for the test are asked for, but "
            f"there are {units} {items}"
        )
    return train, validation, test
