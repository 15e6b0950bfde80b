"""What a data set's folder holds: its manifest, and the names and sizes of its files.

*   `manifest.json`, written last: where it is, the data set is complete;
*   `<split>/<factor>-00003-of-00040.tfrecord`, groups in which that factor varies, see `records`.
"""

import dataclasses
import hashlib
import json
import math
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from dcign_tf.datasets.records import RecordLayout
from dcign_tf.errors import DcignError
from dcign_tf.units import DEGREES

NAME = "manifest.json"
FORMAT = 1
# Groups in which everything varies at once.
MIXED = "mixed"
SPLITS = ("train", "validation", "test")

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MAX_GROUPS = 10**8  # of one split and factor; record indices have eight digits


class Shard(NamedTuple):
    """A file of records.

    Attributes:
        split: "train", "validation" or "test".
        factor: which factor varies, or "mixed".
        number: the file's number among `shards`.
        shards: how many files the split and factor have.
        first: index of its first group.
        groups: how many it holds.
    """

    split: str
    factor: str
    number: int
    shards: int
    first: int
    groups: int

    @property
    def name(self) -> str:
        """Its path inside the data set's folder."""
        return f"{self.split}/{self.factor}-{self.number:05d}-of-{self.shards:05d}.tfrecord"


class File(NamedTuple):
    """What a file must be: its size in bytes and its SHA-256."""

    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The contents of a data set.

    Attributes:
        settings: what the images were made from, as JSON has it.
        source: where the shapes come from and under which licence.
        image_size: height and width in pixels.
        group_size: images in a group.
        factors: names, the intrinsic one last.
        ranges: for each extrinsic factor its lowest and highest value; None where nobody knows them.
        units: for each extrinsic factor its unit, "degrees" for angles, "" for pure numbers.
        periods: for those extrinsic factors that close, such as full turns, their period in that unit.
        coefficients: how many numbers describe an identity.
        groups: for each split, for each factor and "mixed", how many groups there are.
        groups_per_shard: groups in a file; the last file of a split and factor may hold fewer.
        files: for each file its size and checksum; empty while the data set is unfinished.
    """

    settings: Mapping[str, Any]
    source: str
    image_size: int
    group_size: int
    factors: tuple[str, ...]
    ranges: Mapping[str, tuple[float, float] | None]
    units: Mapping[str, str]
    periods: Mapping[str, float]
    coefficients: int
    groups: Mapping[str, Mapping[str, int]]
    groups_per_shard: int
    files: Mapping[str, File]

    @property
    def layout(self) -> RecordLayout:
        """The sizes of a record."""
        return RecordLayout(
            self.group_size, self.image_size, len(self.factors) - 1, self.coefficients
        )

    def shards(self, split: str | None = None, factor: str | None = None) -> Iterator[Shard]:
        """The files of a split, of a factor, or all, in their order."""
        for a_split, counts in self.groups.items():
            for a_factor, total in counts.items():
                if split not in (None, a_split) or factor not in (None, a_factor):
                    continue
                shards = math.ceil(total / self.groups_per_shard)
                for number in range(shards):
                    first = number * self.groups_per_shard
                    groups = min(self.groups_per_shard, total - first)
                    yield Shard(a_split, a_factor, number, shards, first, groups)

    @property
    def digest(self) -> str:
        """A fingerprint of all the files' contents, wherever they lie."""
        lines = [f"{name} {file.sha256}\n" for name, file in sorted(self.files.items())]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        values = {
            "format": FORMAT,
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)},
            "record_length": self.layout.record_length,
        }
        values["files"] = {name: file._asdict() for name, file in self.files.items()}
        return json.dumps(values, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """The reverse of `to_json`.

        Raises:
            ValueError: the text is no manifest of this format; the message says where.
        """
        try:
            values = json.loads(text)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        _check(isinstance(values, dict), "the file", values, "an object")
        version = values.get("format")
        _check(
            isinstance(version, int) and not isinstance(version, bool) and version == FORMAT,
            "format",
            version,
            f"{FORMAT}; another version of this package wrote it",
        )
        factors = _get(values, "factors", list)
        _check(
            len(factors) >= 2
            and all(isinstance(f, str) and _IDENTIFIER.fullmatch(f) for f in factors)
            and len({*factors, MIXED}) == len(factors) + 1,
            "factors",
            factors,
            "two or more different names",
        )
        manifest = cls(
            settings=_get(values, "settings", dict),
            source=_get(values, "source", str),
            image_size=_integer(values, "image_size", 1, 4096),
            group_size=_integer(values, "group_size", 2, 10_000),
            factors=tuple(factors),
            ranges=_ranges(_get(values, "ranges", dict), factors[:-1]),
            units=_units(values, factors[:-1]),
            periods=_periods(values, factors[:-1]),
            coefficients=_integer(values, "coefficients", 0, 1_000_000),
            groups=_groups(_get(values, "groups", dict), factors),
            groups_per_shard=_integer(values, "groups_per_shard", 1, _MAX_GROUPS),
            files=_files(_get(values, "files", dict)),
        )
        # Sizes first: laying out a record of absurd sizes would take absurd memory.
        pixels = manifest.group_size * manifest.image_size**2
        _check(
            pixels < 2**30, "group_size, image_size", pixels, "fewer than 2^30 pixels in a group"
        )
        numbers = manifest.group_size * manifest.coefficients
        _check(numbers < 2**28, "coefficients", manifest.coefficients, "fewer")
        length = _integer(values, "record_length", 1, 2**40)
        right = manifest.layout.record_length
        _check(length == right, "record_length", length, f"{right}, as the other sizes have it")
        return manifest

    @classmethod
    def load(cls, directory: pathlib.Path) -> "Manifest":
        """Reads a folder's manifest and checks that all its files are there, with their sizes.

        Raises:
            DcignError: something is missing or wrong; the message names the file.
        """
        path = directory / NAME
        try:
            manifest = cls.from_json(path.read_text("utf-8"))
        except FileNotFoundError:
            raise DcignError(_missing(directory)) from None
        except NotADirectoryError:
            raise DcignError(
                f"{directory}: not a folder; expected a data set of dcign-data"
            ) from None
        except ValueError as error:
            raise DcignError(f"{path}: not the manifest of a data set: {error}") from error
        for shard in manifest.shards():
            file = directory / shard.name
            listed = manifest.files.get(shard.name)
            if listed is None:
                raise DcignError(f"{path}: does not list {shard.name}, which its groups call for")
            right = shard.groups * manifest.layout.record_length
            if listed.size != right:
                raise DcignError(
                    f"{path}: gives {shard.name} {listed.size} bytes, its groups need {right}"
                )
            problem = wrong_size(file, listed)
            if problem:
                raise DcignError(problem)
        return manifest


def wrong_size(path: pathlib.Path, listed: File) -> str | None:
    """What is wrong with a file, by its size alone; None when nothing is."""
    if not path.is_file():
        return f"{path}: missing; run the dcign-data command that made this data set again"
    size = path.stat().st_size
    if size == listed.size:
        return None
    how = "truncated" if size < listed.size else "not the file that was written"
    return (
        f"{path}: {how}: it has {size} bytes, the manifest says {listed.size}; "
        "run the dcign-data command that made this data set again"
    )


def sha256_of(path: pathlib.Path) -> str:
    """A file's SHA-256, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _missing(directory: pathlib.Path) -> str:
    if not directory.exists():
        return (
            f"{directory}: no such folder; dcign-data --output={directory} makes a data set there"
        )
    if (directory / UNFINISHED).exists():
        return f"{directory}: the data set is unfinished; run the dcign-data command that began it again"
    return f"{directory}: not a data set: it has no {NAME}"


# The manifest of a data set that is being made: the same, without files.
UNFINISHED = "unfinished.json"


# --- Reading JSON ----------------------------------------------------------------------------------------


def _check(condition: bool, where: str, found: object, right: str) -> None:
    if not condition:
        raise ValueError(f"{where}: got {_short(found)}, must be {right}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


_KINDS: Mapping[type, str] = {dict: "an object", list: "a list", str: "a text"}


def _get(values: Mapping[str, Any], key: str, kind: type) -> Any:
    _check(isinstance(values.get(key), kind), key, values.get(key), _KINDS[kind])
    return values[key]


def _integer(values: Mapping[str, Any], key: str, low: int, high: int, where: str = "") -> int:
    value = values.get(key)
    fits = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    _check(fits, where or key, value, f"a whole number, {low} to {high}")
    return int(values[key])


def _ranges(values: Mapping[str, Any], factors: list[str]) -> dict[str, tuple[float, float] | None]:
    _check(set(values) == set(factors), "ranges", sorted(values), f"of {', '.join(factors)}")
    ranges: dict[str, tuple[float, float] | None] = {}
    for factor in factors:
        pair = values[factor]
        fits = pair is None or (
            isinstance(pair, list) and len(pair) == 2 and all(map(_is_number, pair))
        )
        fits = fits and (pair is None or pair[0] < pair[1])
        _check(fits, f"ranges.{factor}", pair, "two numbers, the lower one first, or null")
        ranges[factor] = None if pair is None else (float(pair[0]), float(pair[1]))
    return ranges


def _is_number(value: Any) -> bool:
    # Neither infinite nor an integer too large for a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _units(values: Mapping[str, Any], factors: list[str]) -> dict[str, str]:
    # Data sets that say nothing are of the time when all factors were angles.
    units = values.get("units", dict.fromkeys(factors, DEGREES))
    _check(isinstance(units, dict), "units", units, "an object")
    _check(set(units) == set(factors), "units", sorted(units), f"of {', '.join(factors)}")
    for factor, unit in units.items():
        fits = isinstance(unit, str) and len(unit) <= 40
        _check(fits, f"units.{factor}", unit, "a text of at most 40 letters")
    return dict(units)


def _periods(values: Mapping[str, Any], factors: list[str]) -> dict[str, float]:
    periods = values.get("periods", {})
    _check(isinstance(periods, dict), "periods", periods, "an object")
    for factor, period in periods.items():
        _check(factor in factors, "periods", factor, f"of {', '.join(factors)}")
        _check(_is_number(period) and period > 0, f"periods.{factor}", period, "above 0")
    return {factor: float(period) for factor, period in periods.items()}


def _groups(values: Mapping[str, Any], factors: list[str]) -> dict[str, dict[str, int]]:
    groups: dict[str, dict[str, int]] = {}
    for split, counts in values.items():
        _check(split in SPLITS, "groups", split, f"of {', '.join(SPLITS)}")
        _check(isinstance(counts, dict), f"groups.{split}", counts, "an object")
        for factor in counts:
            known = factor in (*factors, MIXED)
            _check(known, f"groups.{split}", factor, f"of {', '.join((*factors, MIXED))}")
        groups[split] = {
            factor: _integer(counts, factor, 0, _MAX_GROUPS, f"groups.{split}.{factor}")
            for factor in counts
        }
    return groups


def _files(values: Mapping[str, Any]) -> dict[str, File]:
    files = {}
    for name, entry in values.items():
        where = f"files.{_short(name)}"
        _check(isinstance(entry, dict), where, entry, "an object")
        size = _integer(entry, "size", 0, 2**62, f"{where}.size")
        sha256 = entry.get("sha256")
        fits = isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256) is not None
        _check(fits, f"{where}.sha256", sha256, "64 hexadecimal digits")
        files[name] = File(size, str(sha256))
    return files
