"""Where training and evaluation get their mini-batches from: records on disk, or scenes rendered on the fly.

Both kinds of source have one interface, `GroupSource`. The mini-batches of training are a pure function of a seed and
the step's number: a run that was interrupted goes on with the very groups it would have seen.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from dcign_tf.datasets import rendering, service
from dcign_tf.datasets.manifest import MIXED, SPLITS, Manifest, sha256_of, wrong_size
from dcign_tf.datasets.records import unframe
from dcign_tf.datasets.samplers import AnyConfig, make_sampler
from dcign_tf.datasets.scenes import Group
from dcign_tf.errors import DcignError, UsageError, first_line


class LabeledImages(NamedTuple):
    """Images in which everything varies, with the truth about them.

    Attributes:
        images: uint8 [N, S, S, 1].
        values: for each extrinsic factor, float32 [N]; NaN where nobody knows it.
        coefficients: float32 [N, K], the identities; None where nobody knows them.
    """

    images: np.ndarray
    values: dict[str, np.ndarray]
    coefficients: np.ndarray | None


class LabeledGroups(NamedTuple):
    """Groups in which one factor varies, with the truth about them.

    Attributes:
        images: uint8 [n, B, S, S, 1].
        values: for each extrinsic factor, float32 [n, B]; NaN where nobody knows it.
    """

    images: np.ndarray
    values: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Share:
    """Which of each step's groups: the `index`-th of `of` equal runs.

    Attributes:
        index: from 0.
        of: how many runs a step's groups are cut into; the groups of a step must be a multiple of it.
    """

    index: int
    of: int


WHOLE = Share(0, 1)


class GroupSource(Protocol):
    """What training and evaluation need to know of their data.

    Attributes:
        factors: names, the intrinsic one last.
        image_size: height and width in pixels, S.
        group_size: images in a group, B.
        ranges: for each extrinsic factor its lowest and highest value; None where nobody knows them.
        units: for each extrinsic factor its unit, "degrees" for angles, "" for pure numbers.
        periods: for those extrinsic factors that close, such as full turns, their period in that unit.
        description: what the images are, in a line; another line, other images.
    """

    @property
    def factors(self) -> tuple[str, ...]: ...  # noqa: D102 - see the class
    @property
    def image_size(self) -> int: ...  # noqa: D102
    @property
    def group_size(self) -> int: ...  # noqa: D102
    @property
    def ranges(self) -> Mapping[str, tuple[float, float] | None]: ...  # noqa: D102
    @property
    def units(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def periods(self) -> Mapping[str, float]: ...  # noqa: D102
    @property
    def description(self) -> str: ...  # noqa: D102

    def available(self, split: str) -> tuple[str, ...]:
        """The factors, and "mixed", of which a split has groups."""
        ...

    def training(
        self,
        ratio: Mapping[str, float],
        seed: int,
        groups_per_step: int = 1,
        start_step: int = 0,
        share: Share = WHOLE,
    ) -> tf.data.Dataset:
        """An endless pipeline of training mini-batches.

        Args:
            ratio: how often each factor is the one that varies, relative to the others; a factor that is not there
                never is. The paper has 1 : 1 : 1 : 10.
            seed: of the choice of groups.
            groups_per_step: groups in an element, G. Group g of step s is group s G + g of one sequence.
            start_step: the first step.
            share: which groups of each step to read; with several workers each has a share of its own. Of the
                others nothing is read.

        Returns:
            Elements (uint8 [G, B, S, S, 1], int32 [G]): the images, and which factor varies in each group; of a share
            as many groups fewer. The element of a step depends on the seed and the step alone.

        Raises:
            UsageError: the ratio makes no sense, or asks for groups that are not there.
        """
        ...

    def mixed(self, split: str, n: int | None = None) -> LabeledImages:
        """The first `n` images of a split in which everything varies; by default, and at most, all there are.

        Raises:
            DcignError: there are none.
        """
        ...

    def groups(self, split: str, factor: str, n: int | None = None) -> LabeledGroups:
        """The first `n` groups of a split in which `factor` varies; by default, and at most, all there are.

        Raises:
            DcignError: there are none.
        """
        ...


def open_source(what: str | os.PathLike[str] | AnyConfig) -> GroupSource:
    """Opens a data set's folder, or, for a configuration of scenes, a source that renders on the fly."""
    return RenderedSource(what) if isinstance(what, AnyConfig) else RecordSource(what)


def explain_data_error(source: GroupSource, error: Exception) -> DcignError | None:
    """Finds the file behind an error that TensorFlow raised while reading.

    Args:
        source: what was read from.
        error: what was raised.

    Returns:
        An error that names the file and says what to do; None when the data are as they should be.
    """
    del error  # Its text names no file, so all of them are looked at.
    if isinstance(source, RenderedSource):
        return source.failure
    return source.find_damage() if isinstance(source, RecordSource) else None


class RecordSource:
    """Reads the data set in a folder that `dcign-data` made; implements `GroupSource`.

        source = RecordSource("data/faces")
        dataset = source.training({"azimuth": 1, "elevation": 1, "light_azimuth": 1, "intrinsic": 10}, seed=0)

    Args:
        directory: the folder.

    Raises:
        DcignError: it is no data set, or not a whole one; the message names the file.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = pathlib.Path(directory)
        self.manifest = Manifest.load(self.directory)
        self.factors = self.manifest.factors
        self.image_size = self.manifest.image_size
        self.group_size = self.manifest.group_size
        self.ranges = dict(self.manifest.ranges)
        self.units = dict(self.manifest.units)
        self.periods = dict(self.manifest.periods)
        self._check_first_record()

    @property
    def description(self) -> str:
        """What the images are; the same wherever the folder lies."""
        m = self.manifest
        counts = "; ".join(
            f"{split}: " + ", ".join(f"{n} {factor}" for factor, n in groups.items())
            for split, groups in m.groups.items()
        )
        return (
            f"{m.source}; {m.image_size} x {m.image_size} pixels, groups of {m.group_size} ({counts}); "
            f"content {m.digest[:16]}"
        )

    def available(self, split: str) -> tuple[str, ...]:
        """See `GroupSource.available`."""
        return tuple(f for f, count in self.manifest.groups.get(split, {}).items() if count)

    def training(
        self,
        ratio: Mapping[str, float],
        seed: int,
        groups_per_step: int = 1,
        start_step: int = 0,
        share: Share = WHOLE,
    ) -> tf.data.Dataset:
        """See `GroupSource.training`; groups are drawn from the training set with replacement."""
        counts = [self.manifest.groups.get("train", {}).get(factor, 0) for factor in self.factors]
        for factor, count in zip(self.factors, counts, strict=True):
            if ratio.get(factor, 0) > 0 and count == 0:
                raise UsageError(
                    f"--ratio: asks for groups in which {factor} varies, but {self.directory} has none for training"
                )
        choose = functools.partial(_choose, _cumulative(ratio, self.factors))
        # Files of all factors in one table: a group's place follows from the factor and the index.
        shards = [list(self.manifest.shards("train", factor)) for factor in self.factors]
        names = tf.constant([self._path(shard.name) for some in shards for shard in some])
        first_file = tf.constant(np.cumsum([0, *map(len, shards)])[:-1], tf.int64)
        available = tf.constant(counts, tf.int64)
        per_shard, length = self.manifest.groups_per_shard, self.manifest.layout.record_length

        def load(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            active, random = choose(seed, number)
            index = tf.random.stateless_uniform(
                [], random, maxval=tf.gather(available, active), dtype=tf.int64
            )
            name = tf.gather(names, tf.gather(first_file, active) + index // per_shard)
            return self._read(name, index % per_shard * length)["images"], active

        return _endless(load, groups_per_step, start_step, share)

    def mixed(self, split: str, n: int | None = None) -> LabeledImages:
        """See `GroupSource.mixed`."""
        groups = None if n is None else -(-n // self.group_size)
        return _as_labeled_images(self._load(split, MIXED, groups), self.factors, n)

    def groups(self, split: str, factor: str, n: int | None = None) -> LabeledGroups:
        """See `GroupSource.groups`."""
        images, values, _ = self._load(split, factor, n)
        return LabeledGroups(
            images, {name: values[..., i] for i, name in enumerate(self.factors[:-1])}
        )

    def find_damage(self) -> DcignError | None:
        """An error that names the first file that is not as the manifest says; None when all are."""
        for name, listed in self.manifest.files.items():
            path = self.directory / name
            problem = wrong_size(path, listed)
            if problem is None and sha256_of(path) != listed.sha256:
                problem = (
                    f"{path}: corrupt: its checksum is not the manifest's{self._bad_record(path)}; delete it and run "
                    "the dcign-data command that made this data set again"
                )
            if problem:
                return DcignError(problem)
        return None

    def _bad_record(self, path: pathlib.Path) -> str:
        """Which of a file's records is the first that is damaged, where its own checksum tells."""
        length = self.manifest.layout.record_length
        count = path.stat().st_size // length
        with path.open("rb") as file:
            for number in range(count):
                if unframe(file.read(length)) is None:
                    return f", record {number + 1} of {count} is damaged"
        return ""

    def _path(self, name: str) -> str:
        return str(self.directory / name)

    def _read(self, path: tf.Tensor, offset: tf.Tensor) -> dict[str, tf.Tensor]:
        """The group whose record lies at `offset` of the file at `path`."""
        layout = self.manifest.layout
        # Reading from an offset has no Python name of its own yet.
        variant = tf.raw_ops.TFRecordDatasetV2(
            filenames=[path],
            compression_type="",
            buffer_size=layout.record_length,
            byte_offsets=[offset],
        )
        records = tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))
        group = tf.io.parse_single_example(
            records.take(1).get_single_element(),
            {
                "images": tf.io.FixedLenFeature([], tf.string),
                "shape": tf.io.FixedLenFeature([3], tf.int64),
                "degrees": tf.io.FixedLenFeature([layout.group_size, layout.extrinsic], tf.float32),
                "coefficients": tf.io.FixedLenFeature(
                    [layout.group_size, layout.coefficients], tf.float32
                ),
            },
        )
        pixels = tf.io.decode_raw(group["images"], tf.uint8)
        group["images"] = tf.reshape(pixels, [*layout.shape, 1])
        return group

    def _load(self, split: str, factor: str, n: int | None) -> Group:
        """The first groups, stacked: images [n, B, S, S, 1], values [n, B, E] and coefficients [n, B, K]."""
        _check_names(split, factor, self.factors)
        length = self.manifest.layout.record_length
        places = [
            (self._path(shard.name), index * length)
            for shard in self.manifest.shards(split, factor)
            for index in range(shard.groups)
        ][:n]
        if not places:
            raise DcignError(
                f"{self.directory}: holds no {split} groups in which {_varying(factor)}"
            )
        paths, offsets = zip(*places, strict=True)
        dataset = tf.data.Dataset.from_tensor_slices(
            (tf.constant(paths), tf.constant(offsets, tf.int64))
        ).map(self._read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        try:
            groups = list(dataset.as_numpy_iterator())
        except tf.errors.OpError as error:
            explained = self.find_damage()
            if explained is None:
                raise
            raise explained from error
        keys = ("images", "degrees", "coefficients")
        return Group(*(np.stack([group[key] for group in groups]) for key in keys))

    def _check_first_record(self) -> None:
        """Reads one record: a folder may have all the right names and sizes and still hold something else."""
        shard = next(self.manifest.shards(), None)
        if shard is None:
            raise DcignError(f"{self.directory}: the data set is empty")
        path = self._path(shard.name)
        try:
            shape = self._read(tf.constant(path), tf.constant(0, tf.int64))["shape"].numpy()
        except tf.errors.OpError as error:
            raise DcignError(
                f"{path}: not a file of records as dcign-data writes them: {first_line(error)}"
            ) from error
        if tuple(shape) != self.manifest.layout.shape:
            raise DcignError(
                f"{path}: holds images of shape {[int(d) for d in shape]}, "
                f"the manifest says {list(self.manifest.layout.shape)}"
            )


class RenderedSource:
    """Renders scenes while they are needed; implements `GroupSource`.

    Training never sees a group twice. Nothing is kept on disk.

    Args:
        config: the scenes.
        mixed_images: how many images in which everything varies each split has.
        groups_per_factor: how many groups of each factor validation and test have.
        data_service: host:port of a dispatcher whose workers render the groups of training; see `service`. By default
            this process does.

    Raises:
        DcignError: the workers render other scenes.
    """

    def __init__(
        self,
        config: AnyConfig,
        mixed_images: int = 1000,
        groups_per_factor: int = 100,
        data_service: str | None = None,
    ) -> None:
        self.config = config
        self._sampler = make_sampler(config)
        self.factors = self._sampler.factors
        self.image_size = self._sampler.image_size
        self.group_size = self._sampler.group_size
        self.ranges = self._sampler.ranges
        self.units = self._sampler.units
        self.periods = self._sampler.periods
        self._mixed_images = mixed_images
        self._groups_per_factor = groups_per_factor
        self._shape = (self.group_size, self.image_size, self.image_size, 1)
        self._client: service.RenderingClient | None = None
        if data_service is not None:
            settings = self._sampler.settings
            self._client = service.RenderingClient(data_service, settings, self._shape)

    @property
    def failure(self) -> DcignError | None:
        """Why the service gave up, if it did."""
        return None if self._client is None else self._client.failure

    @property
    def description(self) -> str:
        """What the images are."""
        settings = self._sampler.settings
        settings.pop("source_path", None)  # Files move.
        digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
        return (
            f"{self._sampler.source}; {self.image_size} x {self.image_size} pixels, groups of "
            f"{self.group_size}, rendered on the fly; settings {digest[:16]}"
        )

    def available(self, split: str) -> tuple[str, ...]:
        """See `GroupSource.available`."""
        del split
        return (*self.factors, MIXED)

    def training(
        self,
        ratio: Mapping[str, float],
        seed: int,
        groups_per_step: int = 1,
        start_step: int = 0,
        share: Share = WHOLE,
    ) -> tf.data.Dataset:
        """See `GroupSource.training`; every group is a new one."""
        choose = functools.partial(_choose, _cumulative(ratio, self.factors))

        def draw(active: np.ndarray, number: np.ndarray) -> np.ndarray:
            # Variant 0 are the groups that data sets hold.
            what = ("train", self.factors[int(active)], int(number), seed + 1)
            if self._client is not None:
                return self._client.draw(*what)
            return self._sampler.group(*what).images

        def load(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            active, _ = choose(seed, number)
            # Not stateful, so that calls run side by side even where TensorFlow has been told to be deterministic.
            images = tf.numpy_function(draw, [active, number], tf.uint8, stateful=False)
            return tf.ensure_shape(images, self._shape), active

        if self._client is None:
            return _endless(load, groups_per_step, start_step, share)
        # Calls that wait for an answer need no core, but each a thread.
        calls = service.PARALLEL_CALLS
        options = tf.data.Options()
        options.threading.private_threadpool_size = calls + 2
        return _endless(load, groups_per_step, start_step, share, calls).with_options(options)

    def mixed(self, split: str, n: int | None = None) -> LabeledImages:
        """See `GroupSource.mixed`."""
        n = self._mixed_images if n is None else min(n, self._mixed_images)
        group = _stack(self._draw_all(split, MIXED, -(-n // self.group_size)))
        return _as_labeled_images(group, self.factors, n)

    def groups(self, split: str, factor: str, n: int | None = None) -> LabeledGroups:
        """See `GroupSource.groups`."""
        n = self._groups_per_factor if n is None else min(n, self._groups_per_factor)
        images, values, _ = _stack(self._draw_all(split, factor, n))
        return LabeledGroups(
            images, {name: values[..., i] for i, name in enumerate(self.factors[:-1])}
        )

    def _draw_all(self, split: str, factor: str, n: int) -> Iterable[Group]:
        _check_names(split, factor, self.factors)
        if n < 1:
            raise DcignError(f"there are no {split} groups in which {_varying(factor)}")
        # The renderer lets go of Python's lock, so threads do.
        with concurrent.futures.ThreadPoolExecutor(rendering.available_cores()) as pool:
            return list(pool.map(lambda i: self._sampler.group(split, factor, i), range(n)))


# --- What both have in common ----------------------------------------------------------------------------


def _cumulative(ratio: Mapping[str, float], factors: Sequence[str]) -> np.ndarray:
    """The upper end of each factor's share of [0, 1]; float32 [F]."""
    unknown = set(ratio) - set(factors)
    if unknown:
        raise UsageError(f"--ratio: got {sorted(unknown)[0]!r}, must be of {', '.join(factors)}")
    weights = np.array([float(ratio.get(factor, 0)) for factor in factors])
    if not (np.isfinite(weights).all() and weights.min() >= 0 and weights.sum() > 0):
        shown = ",".join(f"{w:g}" for w in weights)
        raise UsageError(f"--ratio: got {shown}; must be numbers of 0 or more, not all 0")
    ends = (np.cumsum(weights) / weights.sum()).astype(np.float32)
    # Rounding must leave no gap at the top in which a factor of weight 0 would be found.
    ends[np.flatnonzero(weights)[-1] :] = 1.0
    return ends


def _choose(cumulative: np.ndarray, seed: int, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Which factor varies in group `number` of a seed's sequence (int32), and a seed for what else is random."""
    pair = tf.stack([tf.constant(seed, tf.int64), number])
    for_factor, for_rest = tf.unstack(tf.random.experimental.stateless_split(pair, 2))
    point = tf.random.stateless_uniform([], for_factor)
    active = tf.reduce_sum(tf.cast(point >= cumulative, tf.int32))
    return active, for_rest


def _endless(
    load: Any, groups_per_step: int, start_step: int, share: Share, calls: int | None = None
) -> tf.data.Dataset:
    """Loads a share of groups G start, G start + 1, ... several at a time, and yields them in that order."""
    if groups_per_step < 1:
        raise UsageError(f"--groups_per_step: got {groups_per_step}, must be 1 or more")
    if start_step < 0:
        raise ValueError(f"start_step: got {start_step}, must be 0 or more")
    if not 0 <= share.index < share.of or groups_per_step % share.of:
        raise ValueError(f"share: got {share}, must be a share of {groups_per_step} groups")
    ours = groups_per_step // share.of

    def number(position: tf.Tensor) -> tf.Tensor:
        return position // ours * groups_per_step + share.index * ours + position % ours

    options = tf.data.Options()
    options.deterministic = True
    return (
        tf.data.Dataset.counter(start=start_step * ours)
        .map(
            lambda position: load(number(position)),
            num_parallel_calls=calls or rendering.available_cores(),
            deterministic=True,
        )
        .batch(ours, drop_remainder=True)
        .prefetch(4)
        .with_options(options)
    )


def _check_names(split: str, factor: str, factors: Sequence[str]) -> None:
    if split not in SPLITS:
        raise ValueError(f"split: got {split!r}, must be one of {', '.join(SPLITS)}")
    if factor not in (*factors, MIXED):
        raise ValueError(f"factor: got {factor!r}, must be one of {', '.join((*factors, MIXED))}")


def _varying(factor: str) -> str:
    return "everything varies" if factor == MIXED else f"{factor} varies"


def _stack(groups: Iterable[Group]) -> Group:
    return Group(*(np.stack(values) for values in zip(*groups, strict=True)))


def _as_labeled_images(group: Group, factors: Sequence[str], n: int | None) -> LabeledImages:
    """Takes groups [n, B, ...] for single images [N, ...]."""
    count = len(group.images) * group.images.shape[1]
    images, values, coefficients = (array.reshape(count, *array.shape[2:])[:n] for array in group)
    return LabeledImages(
        images, {name: values[:, i] for i, name in enumerate(factors[:-1])}, coefficients
    )
