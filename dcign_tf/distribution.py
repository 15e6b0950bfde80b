"""How training is spread over devices and machines: TensorFlow's strategies, and what processes tell each other.

A step's groups go to replicas whole, so that no clamp ever straddles two. Replica r of R takes the r-th run of G / R
groups, draws the noise that one device would have drawn for them, and gradients are summed: R replicas with G groups do
what one device does with G groups.

Several workers, each a process with devices of its own, find each other through the environment variable TF_CONFIG, as
all of TensorFlow's do:

    {"cluster": {"worker": ["node0:2222", "node1:2222"]}, "task": {"type": "worker", "index": 0}}

Keras's `fit` cannot train on several workers (keras-team/keras, issue 20585). The loop in `training` is our own and
can; what it needs for that is in `Cluster`: shares of the data, and agreement between processes that otherwise know
nothing of each other.
"""

import contextlib
import dataclasses
import functools
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dcign_tf.datasets.source import WHOLE, Share
from dcign_tf.errors import DcignError, UsageError

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")

_TASKS = ("chief", "worker")
_EXAMPLE = (
    '{"cluster": {"worker": ["node0:2222", "node1:2222"]}, "task": {"type": "worker", "index": 0}}'
)


@dataclasses.dataclass(frozen=True)
class Place:
    """What a TF_CONFIG says.

    Attributes:
        index: this process's number, from 0; the chief is 0.
        addresses: of all, host:port.
    """

    index: int
    addresses: tuple[str, ...]


ALONE = Place(0, ("",))


def read_tf_config(text: str | None) -> Place:
    """Reads a TF_CONFIG.

    Args:
        text: what the environment variable holds; None where there is none.

    Raises:
        UsageError: it is missing, no JSON, or not the description of a cluster of workers.
    """
    if not (text or "").strip():
        raise UsageError(
            "--strategy=multi_worker: the environment variable TF_CONFIG is missing; each worker needs its own, "
            f"such as {_EXAMPLE}"
        )
    try:
        config = json.loads(text or "")
        cluster = _field(config, "cluster", dict)
        task = _field(config, "task", dict)
        kind, index = _field(task, "type", str), task.get("index")
        for job, addresses in cluster.items():
            if job not in _TASKS:
                raise ValueError(f"cluster has a job {job!r}, there can be {' and '.join(_TASKS)}")
            if not isinstance(addresses, list) or not addresses:
                raise ValueError(f"cluster.{job} is {addresses!r}, must be a list of host:port")
            for address in addresses:
                if not isinstance(address, str) or not re.fullmatch(r"[^\s:].*:\d{1,5}", address):
                    raise ValueError(f"cluster.{job} has {address!r}, must be host:port")
        # JSON made by shell scripts has its numbers in quotation marks, which TensorFlow allows.
        if isinstance(index, str) and re.fullmatch("[0-9]{1,9}", index):
            index = int(index)
        if kind not in cluster:
            raise ValueError(f"task.type is {kind!r}, must be one of {', '.join(cluster)}")
        count = len(cluster[kind])
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
            raise ValueError(f"task.index is {index!r}, must be 0 to {count - 1}")
        if len(cluster.get("chief", [])) > 1:
            raise ValueError("cluster.chief has several addresses, must be one")
        addresses = [address for job in _TASKS for address in cluster.get(job, [])]
        if len(set(addresses)) < len(addresses):
            raise ValueError("cluster has an address twice")
    except (ValueError, RecursionError) as error:
        raise UsageError(f"TF_CONFIG: {error}; it must be like {_EXAMPLE}") from error
    before = len(cluster.get("chief", [])) if kind == "worker" else 0
    return Place(before + index, tuple(addresses))


def _field(holder: Any, name: str, kind: type) -> Any:
    if not isinstance(holder, dict) or not isinstance(holder.get(name), kind):
        what = "an object" if kind is dict else "a string"
        raise ValueError(f"has no {name!r} that is {what}")
    return holder[name]


def join(name: str = "auto", groups_per_step: int = 1) -> "Cluster":
    """Makes a strategy and, with several workers, waits until all are there.

    With several workers it must come before anything else that TensorFlow does in the process.

    Args:
        name: one of `STRATEGIES`. "auto" is several workers where TF_CONFIG names more than one; else all GPUs, if a
            step's groups can be shared out among them; else one device.
        groups_per_step: of all replicas together.

    Raises:
        UsageError: the groups of a step cannot be shared out evenly; TF_CONFIG is not as it must be; there is no TPU.
        DcignError: the workers cannot be joined.
    """
    place = ALONE
    text = os.environ.get("TF_CONFIG")
    if name == "multi_worker" or (name == "auto" and (text or "").strip()):
        place = read_tf_config(text)
    workers = len(place.addresses)
    if name == "multi_worker" or workers > 1:
        # Known before anybody waits for anybody.
        _check_shares(groups_per_step, workers, "workers", "multi_worker")
        strategy = _multi_worker(place)
        name = "multi_worker"
    else:
        strategy = make_strategy(name, groups_per_step)
    _check_shares(groups_per_step, strategy.num_replicas_in_sync, "devices", name)
    return Cluster(strategy, place)


def make_strategy(name: str, groups_per_step: int) -> tf.distribute.Strategy:
    """How the work of one process is spread over the devices that TensorFlow sees.

    Raises:
        UsageError: the groups of a step cannot be shared out evenly, or there is no TPU.
    """
    if name == "tpu":
        return _tpu()
    devices = tf.config.list_logical_devices("GPU")
    if name == "one_device" or (name == "auto" and len(devices) < 2):
        return tf.distribute.get_strategy()
    devices = devices or tf.config.list_logical_devices("CPU")
    if name == "auto" and groups_per_step % len(devices):
        return tf.distribute.get_strategy()
    _check_shares(groups_per_step, len(devices), "devices", name)
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _check_shares(groups_per_step: int, count: int, what: str, strategy: str) -> None:
    if groups_per_step % count:
        raise UsageError(
            f"--groups_per_step: got {groups_per_step}, must be a multiple of the {count} {what} "
            f"that --strategy={strategy} shares whole groups among"
        )


@functools.cache
def _multi_worker(place: Place) -> tf.distribute.Strategy:
    """Joins the other workers; once in a process, for TensorFlow can do it only once."""
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        if "program startup" not in str(error):
            raise
        raise DcignError(
            "--strategy=multi_worker: TensorFlow has been at work in this process already; call "
            "dcign_tf.distribution.join before anything else"
        ) from error
    except tf.errors.OpError as error:
        raise DcignError(
            f"--strategy=multi_worker: worker {place.index}, {place.addresses[place.index]}, cannot join the others: "
            f"{first_line(error)}"
        ) from error
    if threading.current_thread() is threading.main_thread():
        # TensorFlow takes the signal for itself and does nothing about it.
        signal.signal(signal.SIGTERM, on_sigterm)
    return strategy


@functools.cache
def _tpu() -> tf.distribute.Strategy:
    """The TPUs of this machine, or those that the environment variable TPU_NAME names; once in a process."""
    name = os.environ.get("TPU_NAME") or "local"
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        if name != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    # Without a TPU it fails in as many ways as there are places to look for one.
    except Exception as error:
        raise UsageError(f"--strategy=tpu: found no TPU ({name}): {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """What TensorFlow says in the first line of its many."""
    text = (getattr(error, "message", "") or str(error)).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__


class Cluster:
    """The processes that train together; mostly there is one.

    Attributes:
        strategy: TensorFlow's.
        index: this process's number.
        size: how many there are.
    """

    def __init__(self, strategy: tf.distribute.Strategy, place: Place = ALONE) -> None:
        self.strategy = strategy
        self.index = place.index
        self.size = len(place.addresses)

    @property
    def is_chief(self) -> bool:
        """Whether it falls to this process to write what all should write once."""
        return self.index == 0

    def batches(
        self, make: Callable[[Share], tf.data.Dataset], groups_per_step: int
    ) -> Iterator[Any]:
        """Each step's groups, distributed.

        Args:
            make: the pipeline of a share of each step's groups: each process makes and reads its own only.
            groups_per_step: of all replicas together.

        Returns:
            What `strategy.run` takes, for each step.
        """

        def of_pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
            count = context.num_input_pipelines
            dataset = make(Share(context.input_pipeline_id, count) if count > 1 else WHOLE)
            replicas = context.num_replicas_in_sync
            if replicas == count:
                return dataset
            # A pipeline feeds its replicas one element after the other.
            return dataset.rebatch(groups_per_step // replicas, drop_remainder=True)

        return iter(self.strategy.distribute_datasets_from_function(of_pipeline))

    def gather(self, values: Any) -> Any:
        """Inside of a tf.function: a process's tensors, of all processes, [size, ...]. All must call it."""
        if self.size == 1:
            return tf.nest.map_structure(lambda value: value[tf.newaxis], values)

        def on_replica(values: Any) -> Any:
            context = tf.distribute.get_replica_context()
            return tf.nest.map_structure(lambda v: context.all_gather(v[tf.newaxis], 0), values)

        gathered = self.strategy.run(on_replica, args=(values,))
        here = self.strategy.num_replicas_in_sync // self.size
        # Each replica of a process says the same.
        return tf.nest.map_structure(
            lambda value: self.strategy.experimental_local_results(value)[0][::here], gathered
        )

    def exchange(self, row: Sequence[int]) -> np.ndarray:
        """Tells all processes some whole numbers; returns those of all, int64 [size, K]. All must call it."""
        if self.size == 1:
            return np.array([row], np.int64)
        with self.losses_explained():
            return self._gather_eagerly(tf.constant(row, tf.int64)).numpy()

    @functools.cached_property
    def _gather_eagerly(self) -> Callable[[tf.Tensor], tf.Tensor]:
        return tf.function(self.gather, autograph=False, reduce_retracing=True)

    @contextlib.contextmanager
    def chief_first(self) -> Iterator[None]:
        """What is in the block, the other processes do when the chief has done it. All must enter it."""
        if not self.is_chief:
            self.exchange([0])
        yield
        if self.is_chief:
            self.exchange([0])

    def agree(self, **values: int) -> None:
        """Makes sure that all processes have the same values.

        Raises:
            DcignError: they do not; each process gets the same message.
        """
        rows = self.exchange(list(values.values()))
        for name, column in zip(values, rows.T, strict=True):
            if len(set(column.tolist())) > 1:
                raise DcignError(
                    f"--strategy=multi_worker: the workers differ in their {name}: {', '.join(map(str, column))}. "
                    "All need the same flags, the same data, and a --workdir on a file system that they share"
                )

    @contextlib.contextmanager
    def losses_explained(self) -> Iterator[None]:
        """Turns what TensorFlow says where another worker is gone into a line that says what to do."""
        try:
            yield
        except (
            tf.errors.AbortedError,
            tf.errors.CancelledError,
            tf.errors.DeadlineExceededError,
            tf.errors.InternalError,
            tf.errors.UnavailableError,
        ) as error:
            if self.size == 1:
                raise
            raise DcignError(
                f"worker {self.index} of {self.size} has lost another one: {first_line(error)}. Start all workers "
                "again with the same command: they go on from the last checkpoint"
            ) from error
