"""Makes a data set of mini-batches in a folder, with all cores: renders it, or packs images that there are.

The files' bytes depend on the configuration alone, not on the number of processes nor on how often the work was
interrupted: each file is written by one process under a temporary name, and takes its own when it is complete.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import math
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from dcign_tf import files
from dcign_tf.datasets import manifest as manifests
from dcign_tf.datasets import records
from dcign_tf.datasets.manifest import File, Manifest, Shard
from dcign_tf.datasets.scenes import FACTORS, MIXED, SPLITS, Group, SceneConfig, SceneSampler
from dcign_tf.errors import DcignError, UsageError
from dcign_tf.processes import interrupts_ignored
from dcign_tf.progress import progress


class GroupMaker(Protocol):
    """What a data set is made from: something that draws scenes and renders them, or a table of images.

    Processes get copies of it, so it can be pickled.

    Attributes:
        settings: all that the images depend on, as JSON has it; "source_path" does not count, files move.
        source: where the images come from and under which licence.
        image_size: height and width in pixels.
        group_size: images in a group.
        factors: names, the intrinsic one last.
        ranges: as in `Manifest`, as are the following.
        units: of the extrinsic factors.
        periods: of those extrinsic factors that close.
        coefficients: how many numbers describe an identity.
        notes: what a user should know before it is made, a sentence each.
        work: what making it is called, "rendering" or "packing".
    """

    @property
    def settings(self) -> Mapping[str, Any]: ...  # noqa: D102 - see the class
    @property
    def source(self) -> str: ...  # noqa: D102
    @property
    def image_size(self) -> int: ...  # noqa: D102
    @property
    def group_size(self) -> int: ...  # noqa: D102
    @property
    def factors(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def ranges(self) -> Mapping[str, tuple[float, float] | None]: ...  # noqa: D102
    @property
    def units(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def periods(self) -> Mapping[str, float]: ...  # noqa: D102
    @property
    def coefficients(self) -> int: ...  # noqa: D102
    @property
    def notes(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def work(self) -> str: ...  # noqa: D102

    def available(self, split: str, factor: str, wanted: int) -> int:
        """How many different groups there are of a split and a factor, or "mixed"; at most `wanted`."""
        ...

    def group(self, split: str, factor: str, index: int) -> Group:
        """One of them, for an index below `available`; a pure function of its arguments."""
        ...


def standard_groups(
    train: int = 3000,
    validation: int = 60,
    test: int = 100,
    mixed_images: int = 2000,
    group_size: int = 20,
    factors: Sequence[str] = FACTORS,
) -> dict[str, dict[str, int]]:
    """How many groups of each kind a data set has.

    Args:
        train: groups of each factor to train on.
        validation: groups of each factor for validation.
        test: groups of each factor for the test.
        mixed_images: images in which everything varies, in each split (the training set's fit the calibration);
            rounded up to whole groups.
        group_size: images in a group.
        factors: their names.
    """
    mixed = math.ceil(mixed_images / group_size)
    per_split = zip(SPLITS, (train, validation, test), strict=True)
    return {split: {**dict.fromkeys(factors, count), MIXED: mixed} for split, count in per_split}


def render_dataset(
    config: SceneConfig,
    directory: str | os.PathLike[str],
    groups: Mapping[str, Mapping[str, int]],
    processes: int | None = None,
    groups_per_shard: int = 64,
) -> Manifest:
    """Renders a data set: `make_dataset` of a configuration's scenes; arguments, result and errors as there."""
    return make_dataset(SceneSampler(config), directory, groups, processes, groups_per_shard)


def make_dataset(
    maker: GroupMaker,
    directory: str | os.PathLike[str],
    groups: Mapping[str, Mapping[str, int]],
    processes: int | None = None,
    groups_per_shard: int = 64,
) -> Manifest:
    """Makes a data set, or what is missing of it; returns at once when nothing is.

    With more than one process, call it from a main module that does nothing when imported (`if __name__ ==
    "__main__":`), as for all of Python's multiprocessing.

    Args:
        maker: of its groups.
        directory: where to; new, empty, or with the same data set, whole or unfinished.
        groups: for each split, for each factor and "mixed", how many groups, or all there are if that is fewer; see
            `standard_groups`.
        processes: how many processes work; all cores by default.
        groups_per_shard: groups in a file.

    Returns:
        The manifest, as written into the folder.

    Raises:
        UsageError: `directory` holds something else.
        DcignError: the disk is too small, a process was killed, another one is at work there; an image cannot be read.
        OSError: the folder cannot be written.
    """
    folder = pathlib.Path(directory)
    processes = available_cores() if processes is None else processes
    if processes < 1:
        raise UsageError(f"--processes: got {processes}, must be 1 or more")
    draft = plan(maker, groups, groups_per_shard)
    folder.mkdir(parents=True, exist_ok=True)
    busy = DcignError(f"{folder}: another dcign-data is at work in it")
    with files.locked(folder, lambda: busy):
        finished = _claim(folder, draft)
        if finished is not None:
            return finished
        for split in draft.groups:
            (folder / split).mkdir(exist_ok=True)
        _remove_temporaries(folder)
        try:
            entries = _fill(folder, draft, maker, processes)
        finally:
            _remove_temporaries(folder)
        complete = dataclasses.replace(
            draft, files={shard.name: entries[shard] for shard in draft.shards()}
        )
        with files.atomic_write(folder / manifests.NAME, "w") as file:
            file.write(complete.to_json())
        (folder / manifests.UNFINISHED).unlink()
    return complete


def verify_dataset(directory: str | os.PathLike[str]) -> Manifest:
    """Compares every file of a data set with the manifest's checksum.

    Returns:
        The manifest.

    Raises:
        DcignError: a file is missing or differs; the message names it.
    """
    folder = pathlib.Path(directory)
    manifest = Manifest.load(folder)
    bad = []
    names = list(manifest.files)
    # Hashing lets go of Python's lock, so threads do.
    with (
        concurrent.futures.ThreadPoolExecutor(available_cores()) as pool,
        progress(len(names), "verifying", unit="file") as bar,
    ):
        digests = pool.map(manifests.sha256_of, (folder / name for name in names))
        for name, digest in zip(names, digests, strict=True):
            if digest != manifest.files[name].sha256:
                bad.append(name)
            bar.update()
    if bad:
        more = f" (and {len(bad) - 1} more files)" if len(bad) > 1 else ""
        raise DcignError(
            f"{folder / bad[0]}: corrupt: its checksum is not the manifest's{more}; delete it and run the "
            "dcign-data command that made this data set again"
        )
    return manifest


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# --- What is to be done ----------------------------------------------------------------------------------


def plan(
    maker: GroupMaker, groups: Mapping[str, Mapping[str, int]], groups_per_shard: int = 64
) -> Manifest:
    """The manifest of what `make_dataset` would make, without files.

    Raises:
        UsageError: it makes no sense.
    """
    draft = Manifest(
        settings=dict(maker.settings),
        source=maker.source,
        image_size=maker.image_size,
        group_size=maker.group_size,
        factors=maker.factors,
        ranges=maker.ranges,
        units=maker.units,
        periods=maker.periods,
        coefficients=maker.coefficients,
        groups={
            split: {factor: maker.available(split, factor, n) for factor, n in counts.items()}
            for split, counts in groups.items()
        },
        groups_per_shard=groups_per_shard,
        files={},
    )
    try:
        Manifest.from_json(draft.to_json())
    except ValueError as error:
        raise UsageError(f"data set: {error}") from error
    if not any(True for _ in draft.shards()):
        raise UsageError("data set: got 0 groups in all; there must be some")
    return draft


def _comparable(manifest: Manifest) -> dict[str, object]:
    """What two manifests of one data set have in common, as flat settings. A path may differ: files move."""
    settings = {k: v for k, v in manifest.settings.items() if k != "source_path"}
    for split, counts in manifest.groups.items():
        of_factors = [counts.get(factor, 0) for factor in manifest.factors]
        # Mostly all the same; then one number reads better.
        settings[f"{split}_groups"] = of_factors if len(set(of_factors)) > 1 else of_factors[0]
        settings[f"mixed groups of {split}"] = counts.get(MIXED, 0)
    return {**settings, "groups_per_file": manifest.groups_per_shard}


def _claim(folder: pathlib.Path, draft: Manifest) -> Manifest | None:
    """Makes the folder this data set's, or returns the manifest when it is complete already."""
    for name in (manifests.NAME, manifests.UNFINISHED):
        path = folder / name
        try:
            stored = Manifest.from_json(path.read_text("utf-8"))
        except FileNotFoundError:
            continue
        except ValueError as error:
            raise UsageError(
                f"--output: {path} is not the manifest of a data set: {error}; give another folder"
            ) from error
        there, asked = _comparable(stored), _comparable(draft)
        differing = [
            f"{key} (there {_shown(there.get(key))}, asked {_shown(asked.get(key))})"
            for key in {**there, **asked}
            if there.get(key) != asked.get(key)
        ]
        if differing:
            raise UsageError(
                f"--output: {folder} holds a data set of other settings; these differ: {'; '.join(differing)}. "
                "Give another folder, or the same settings"
            )
        if name == manifests.NAME:
            try:
                return Manifest.load(folder)
            except DcignError:
                break  # Something is missing: made again below.
        _check_space(folder, draft)
        return None
    else:
        others = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
        if others:
            raise UsageError(
                f"--output: {folder} holds other files ({sorted(others)[0]}, ...); give a new or empty folder"
            )
    _check_space(folder, draft)
    with files.atomic_write(folder / manifests.UNFINISHED, "w") as file:
        file.write(draft.to_json())
    (folder / manifests.NAME).unlink(missing_ok=True)
    return None


def _shown(value: object) -> str:
    text = ",".join(f"{v}" for v in value) if isinstance(value, list | tuple) else f"{value}"
    return text if len(text) <= 24 else f"{text[:21]}..."


def _check_space(folder: pathlib.Path, draft: Manifest) -> None:
    missing = sum(shard.groups for shard in draft.shards() if not (folder / shard.name).exists())
    needed = missing * draft.layout.record_length
    free = shutil.disk_usage(folder).free
    # A little more than the files themselves, for the file system's own needs.
    if free < 1.02 * needed:
        raise DcignError(
            f"{folder}: not enough space on the disk: {free / 1e9:.2f} GB are free, "
            f"{1.02 * needed / 1e9:.2f} GB are needed; fewer groups or a smaller --image_size need less"
        )


def _remove_temporaries(folder: pathlib.Path) -> None:
    for split in SPLITS:
        for path in (folder / split).glob(".*.tmp"):
            path.unlink(missing_ok=True)


# --- Doing it --------------------------------------------------------------------------------------------


def _fill(
    folder: pathlib.Path, draft: Manifest, maker: GroupMaker, processes: int
) -> dict[Shard, File]:
    """Makes all shards that are not there, and returns what each is."""
    shards = list(draft.shards())
    entries: dict[Shard, File] = {}
    work = Work(maker, draft.layout, folder)
    # Compiled here, the renderer is ready-made for all processes; and mistakes are found before they start.
    work.record(shards[0], shards[0].first)
    with _Workers(work, min(processes, len(shards))) as workers:
        present = [shard for shard in shards if (folder / shard.name).exists()]
        if present:
            with progress(len(present), "checking what is there", unit="file") as bar:
                for shard, entry in workers.run("check", present):
                    if entry is not None:
                        entries[shard] = entry
                    bar.update()
        missing = [shard for shard in shards if shard not in entries]
        total, done = (draft.group_size * sum(s.groups for s in some) for some in (shards, entries))
        with progress(total, maker.work, unit="image", initial=done) as bar:
            for shard, entry in workers.run("make", missing, bar.update):
                assert entry is not None
                entries[shard] = entry
    return entries


@dataclasses.dataclass(frozen=True)
class Work:
    """What a process can do."""

    maker: GroupMaker
    layout: records.RecordLayout
    folder: pathlib.Path

    def record(self, shard: Shard, index: int) -> bytes:
        """One of a shard's groups as it stands in the file."""
        group = self.maker.group(shard.split, shard.factor, index)
        payload = self.layout.encode(*group, active=self._active(shard), index=index)
        return records.frame(payload)

    def _active(self, shard: Shard) -> int:
        return (*self.maker.factors, MIXED).index(shard.factor)

    def make(self, shard: Shard, report: Callable[[int], None]) -> File:
        """Writes a shard; reports images as they are done."""
        path = self.folder / shard.name
        digest, size = hashlib.sha256(), 0
        try:
            with files.atomic_write(path) as file:
                for index in range(shard.first, shard.first + shard.groups):
                    record = self.record(shard, index)
                    file.write(record)
                    digest.update(record)
                    size += len(record)
                    report(self.layout.group_size)
        except BrokenPipeError:
            raise
        except OSError as error:
            if error.filename is None:  # Writing, unlike opening, does not say where.
                raise OSError(error.errno, error.strerror, str(path)) from error
            raise
        return File(size, digest.hexdigest())

    def check(self, shard: Shard, report: Callable[[int], None]) -> File | None:
        """What a shard that is there already is, or None when it is not what would be made.

        Its records' own checksums tell whether it is sound, their heads and tails whether it is the right one.
        """
        del report
        length = self.layout.record_length
        path = self.folder / shard.name
        if path.stat().st_size != shard.groups * length:
            return None
        digest = hashlib.sha256()
        with path.open("rb") as file:
            for index in range(shard.first, shard.first + shard.groups):
                record = file.read(length)
                payload = records.unframe(record)
                active = self._active(shard)
                if payload is None or not self.layout.has_signature(payload, active, index):
                    return None
                digest.update(record)
        return File(shard.groups * length, digest.hexdigest())


class _Workers:
    """Processes that share out shards; with one, this process does it all itself.

    They are spawned, not forked: the caller may have TensorFlow's threads running, which a fork would break.
    Each has a pipe of its own, so that one that is killed is noticed and hurts no other; when this process is
    killed, they find their pipes closed and end.
    """

    def __init__(self, work: Work, count: int) -> None:
        self._work = work
        self._count = count
        self._processes: list[Any] = []
        self._pipes: list[multiprocessing.connection.Connection] = []

    def __enter__(self) -> "_Workers":
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()

    def run(
        self, action: str, shards: Sequence[Shard], report: Callable[[int], None] = lambda n: None
    ) -> Iterator[tuple[Shard, File | None]]:
        """Does `action` ("make" or "check") to all shards; yields each with its result, in any order."""
        if self._count == 1:
            for shard in shards:
                yield shard, getattr(self._work, action)(shard, report)
            return
        if shards and not self._processes:
            self._start()
        waiting = collections.deque(shards)
        busy: dict[Any, Shard] = {}
        for pipe in self._pipes:
            if waiting:
                busy[pipe] = waiting.popleft()
                self._send(pipe, (action, busy[pipe]))
        while busy:
            for ready in multiprocessing.connection.wait(list(busy)):
                kind, value = self._receive(ready)
                if kind == "images":
                    report(value)
                elif kind == "error":
                    raise value
                else:
                    yield busy.pop(ready), value
                    if waiting:
                        busy[ready] = waiting.popleft()
                        self._send(ready, (action, busy[ready]))

    def _send(self, pipe: Any, task: tuple[str, Shard]) -> None:
        try:
            pipe.send(task)
        except BrokenPipeError:
            raise self._death(pipe) from None

    def _receive(self, pipe: Any) -> tuple[str, Any]:
        try:
            return pipe.recv()
        except (EOFError, ConnectionResetError):
            raise self._death(pipe) from None

    def _death(self, pipe: Any) -> DcignError:
        process = self._processes[self._pipes.index(pipe)]
        process.join(timeout=5)
        status = process.exitcode
        how = (
            f"by signal {-status}" if status is not None and status < 0 else f"with status {status}"
        )
        return DcignError(
            f"a process ended {how}, perhaps for lack of memory; run the same command again to go on, "
            "with fewer --processes if that was why"
        )

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        with _one_thread_each(), interrupts_ignored():
            for _ in range(self._count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, self._work), daemon=True)
                process.start()
                theirs.close()
                self._processes.append(process)
                self._pipes.append(ours)


def _serve(pipe: Any, work: Work) -> None:
    """A worker's life."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches all processes; the first one answers.
    try:
        while True:
            action, shard = pipe.recv()
            try:
                result = getattr(work, action)(shard, lambda n: pipe.send(("images", n)))
            except BrokenPipeError:
                raise
            except Exception as error:
                pipe.send(("error", error))
            else:
                pipe.send(("done", result))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # The first process is gone: so are we.


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """As many threads as processes would be too many; libraries read these variables when they start."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
