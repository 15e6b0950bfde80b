"""Training on two devices: weak scaling that can be measured here, and a model of what cannot.

What is measured are two processes on a core each, and two devices of one process, against one; they share what devices
of their own would not. What is modeled is how long gradients travel, from their number and data sheets' bandwidths.
"""

import io
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from dcign_tf.benchmarks import counting, sections, training_step, workers
from dcign_tf.benchmarks.sections import Row, Section, Settings
from dcign_tf.benchmarks.workers import Candidate, Outcome

PICTURE = "distribution.png"
ONE_CORE = "one process on one core, 1 group"
TWO_WORKERS = "two processes on a core each, 2 groups"
ONE_DEVICE = "one process on both cores, 2 groups"
TWO_DEVICES = "two devices of one process on both cores, 2 groups"


class Link(NamedTuple):
    """How devices are connected.

    Attributes:
        name: in a few words.
        bandwidth: what a device can send while it receives as much, in bytes a second.
        devices: how many there are, in some examples.
    """

    name: str
    bandwidth: float
    devices: tuple[int, ...]


# Peak rates of an NVIDIA H100 SXM and H200 SXM, which are the same, in operations a second without sparsity, and their
# links: NVLink's 900 GB/s are both directions together; DGX H100 and H200 have a network adapter of 400 Gbit/s for each
# device. NVIDIA's data sheets of the H100 and the H200, and its user guide of the DGX H100 and H200.
PEAKS = {"float32": 67e12, "TensorFloat-32": 494.7e12}
LINKS = (
    Link("NVLink of H100 or H200", 450e9, (2, 8)),
    Link("400 Gbit/s for each device", 50e9, (16, 64)),
    Link("100 Gbit/s for each device", 12.5e9, (16, 64)),
    Link("10 Gbit/s for each device", 1.25e9, (16, 64)),
)


def measure(settings: Settings) -> Section:
    """Times a step of each way to use two cores, in turns, and works out what clusters would take."""
    outcomes = workers.race(
        candidates(settings), settings.rounds, settings.warm_up, title="distribution"
    )
    return section(settings, outcomes)


def section(settings: Settings, outcomes: Mapping[str, Outcome]) -> Section:
    """Writes up what a race gave, and the model."""
    rows = sections.time_rows(outcomes, "ms", ours=None)
    for name, alone, what in (
        (TWO_WORKERS, ONE_CORE, "two workers' speed for each core, of one's alone"),
        (TWO_DEVICES, ONE_DEVICE, "two devices' speed, of one's with the same groups and cores"),
    ):
        if name in outcomes:
            ratio = workers.ratios(outcomes[alone], outcomes[name])
            median, low, high = (100 * value for value in ratio[:3])
            rows.append(Row(what, median, low, high, "%"))
    return Section(
        "distribution",
        f"Distribution: {settings.image_size} x {settings.image_size}, {settings.latents} latents, "
        f"groups of {settings.batch}",
        [*rows, *modeled(settings)],
        notes=[
            "The processes and devices are this machine's, and share two cores, their caches and memory: a test of the "
            "machinery more than of a cluster. Workers run on a core each and meet over the loopback interface.",
            "What follows is no measurement but a model: of a ring in which each device sends and receives "
            "2 (n - 1) / n times the gradients' bytes at its link's full bandwidth, with no overlap and no latency, "
            "after the shortest step there can be: all its multiplications at the peak rate of an H100 or H200 (SXM, "
            "without sparsity). Real steps are longer, so that the share of the time that is left for computing is "
            "higher; latency makes it lower.",
        ],
        pictures={PICTURE: plot(settings, outcomes)},
    )


def plot(settings: Settings, outcomes: Mapping[str, Outcome]) -> bytes:
    """Draws what was measured beside what was modeled: groups a second, and the time that is left for computing.

    Args:
        settings: what was measured.
        outcomes: seconds of a step by candidate; some may be missing.

    Returns:
        A PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    measured, model = figure.subplots(1, 2, width_ratios=(1, 1.5))
    bars = {"one process,\none core": (ONE_CORE, 1)} | {
        label: (name, 2)
        for label, name in (
            ("two processes,\na core each", TWO_WORKERS),
            ("one process,\nboth cores", ONE_DEVICE),
            ("two devices,\nboth cores", TWO_DEVICES),
        )
    }
    bars = {k: v for k, v in bars.items() if v[0] in outcomes and not outcomes[v[0]].problem}
    speeds = [
        groups / workers.spread(outcomes[name].seconds).median for name, groups in bars.values()
    ]
    drawn = measured.bar(list(bars), speeds, color="#2a6f97", width=0.6)
    measured.bar_label(drawn, fmt="%.2f")
    if ONE_CORE in (name for name, _ in bars.values()):
        measured.axhline(2 * speeds[0], color="#6b727a", linestyle="--", linewidth=1)
    measured.tick_params(axis="x", labelsize=7)
    measured.set(ylabel="groups trained on a second")
    measured.set_title("measured, this machine; dashed: twice one core's", fontsize=9)

    count = np.array([2**n for n in range(1, 11)])
    size, shortest = _size(settings), _shortest(settings)
    colors = ("#1b4965", "#2a9d8f", "#e9a03b", "#c8553d")
    for link, color in zip(LINKS, colors, strict=True):
        seconds = all_reduce_seconds(size, count, link.bandwidth)
        # As many as one NVLink domain has.
        there = count <= (8 if link is LINKS[0] else count[-1])
        for step, style in zip(shortest.values(), ("-", ":"), strict=True):
            share = 100 * step / (step + seconds)
            label = link.name if style == "-" else None
            model.plot(count[there], share[there], style, color=color, marker=".", label=label)
    model.set(
        xscale="log", ylim=(0, 100), xlabel="devices", ylabel="% of a step left for computing"
    )
    model.set_xticks(count, [str(n) for n in count], minor=False)
    model.set_xticks([], minor=True)
    model.legend(fontsize=7, loc="upper right", bbox_to_anchor=(1, 0.72))
    model.set_title(f"model, H100 or H200; solid: {', dotted: '.join(shortest)}", fontsize=9)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _size(settings: Settings) -> int:
    """The gradients' bytes."""
    return 4 * counting.parameters(**settings.network)


def _shortest(settings: Settings) -> dict[str, float]:
    """Seconds of the shortest step of a group there can be, by precision."""
    needed = 2 * counting.training_multiplications(**settings.network, batch=settings.batch)
    return {name: needed / rate for name, rate in PEAKS.items()}


def modeled(settings: Settings) -> list[Row]:
    """What an all-reduce of the gradients should take, against the shortest steps."""
    size = _size(settings)
    rows = [
        _figure(
            "gradients of a step",
            size / 1e6,
            "MB",
            f"4 bytes for each of {size // 4:,} parameters",
        )
    ]
    shortest = _shortest(settings)
    for name, seconds in shortest.items():
        note = f"{1e-9 * seconds * PEAKS[name]:.0f} GFLOP at {1e-12 * PEAKS[name]:g} TFLOP/s"
        rows.append(_figure(f"shortest step of a group, {name}", 1e3 * seconds, "ms", note))
    for link in LINKS:
        for devices in link.devices:
            seconds = all_reduce_seconds(size, devices, link.bandwidth)
            left = (f"{100 * t / (t + seconds):.0f} % ({name})" for name, t in shortest.items())
            note = f"left for computing: {', '.join(left)}"
            rows.append(_figure(f"all-reduce, {link.name}, {devices}", 1e3 * seconds, "ms", note))
    return rows


def all_reduce_seconds(size: float, devices: Any, bandwidth: float) -> Any:
    """How long a ring takes to sum up `size` bytes of each of its devices at a bandwidth in bytes a second."""
    return 2 * (devices - 1) / devices * size / bandwidth


def _figure(name: str, value: float, unit: str, note: str) -> Row:
    return Row(name, value, value, value, unit, note=note)


def candidates(settings: Settings) -> list[Candidate]:
    """All that is timed here; of those that need two cores of their own, none where there are not two."""
    factory = f"{__name__}:steps"

    def candidate(name: str, strategy: str, groups: int, cores: tuple[int, ...]) -> Candidate:
        images = training_step.faces(settings.image_size, settings.batch, groups)
        arguments = {"network": settings.network, "images": images}
        return Candidate(name, factory, {**arguments, "strategy": strategy, "cores": cores})

    cores = tuple(sorted(os.sched_getaffinity(0)))[:2] if hasattr(os, "sched_getaffinity") else ()
    found = [
        candidate(ONE_DEVICE, "one_device", 2, cores),
        candidate(TWO_DEVICES, "mirrored", 2, cores),
    ]
    if len(cores) == 2:
        found += [
            candidate(ONE_CORE, "one_device", 1, cores[:1]),
            candidate(TWO_WORKERS, "multi_worker", 2, cores),
        ]
    return found


def steps(
    network: dict[str, Any], images: np.ndarray, strategy: str, cores: tuple[int, ...]
) -> Callable[[], None]:
    """A candidate: a training step of some groups.

    Args:
        network: which; `Settings.network`.
        images: uint8 [G, B, S, S, 1], the step's groups.
        strategy: "one_device"; "mirrored", over two devices of this process; or "multi_worker", over this process on
            the first core and another one on the second.
        cores: to run on; none for any.
    """
    arguments: dict[str, Any] = {"network": network, "images": images, "strategy": strategy}
    if strategy != "multi_worker":
        return _steps(**arguments, cores=cores)
    first, second = _tf_configs()
    other = subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import follow; follow()"],
        env={**os.environ, "TF_CONFIG": second},
        stdin=subprocess.PIPE,
    )
    assert other.stdin is not None
    pickle.dump({**arguments, "cores": cores[1:]}, other.stdin)
    other.stdin.flush()
    os.environ["TF_CONFIG"] = first
    step = _steps(**arguments, cores=cores[:1])

    def work() -> None:
        if other.poll() is not None:
            raise ChildProcessError(f"the other worker ended with status {other.poll()}")
        step()

    return work


def follow() -> None:
    """The second of two workers: does what the first one does until that is gone."""
    arguments = pickle.load(sys.stdin.buffer)

    def end() -> None:
        sys.stdin.buffer.read()  # Until the other end closes, however that process ended.
        os._exit(0)

    threading.Thread(target=end, daemon=True).start()
    step = _steps(**arguments)
    while True:
        step()


def _tf_configs() -> list[str]:
    """Of two workers on this machine."""
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in (one, two)]
    tasks = ({"type": "worker", "index": index} for index in range(2))
    return [json.dumps({"cluster": {"worker": addresses}, "task": task}) for task in tasks]


def _steps(
    network: dict[str, Any], images: np.ndarray, strategy: str, cores: tuple[int, ...]
) -> Callable[[], None]:
    if cores:
        os.sched_setaffinity(0, cores)  # Before TensorFlow counts them.
    import tensorflow as tf

    from dcign_tf import distribution
    from dcign_tf.benchmarks import keras_twin

    if strategy == "mirrored":
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
        )
    cluster = distribution.join(strategy, len(images))
    with cluster.strategy.scope():
        model = training_step.compiled(network)
        model.optimizer.build(model.trainable_variables)

    def of_share(share: Any) -> Any:
        return keras_twin.cached(np.split(images, share.of)[share.index])

    batches = cluster.batches(of_share, len(images))

    @tf.function(autograph=False)
    def step() -> Any:
        return cluster.strategy.run(
            lambda element: model.train_step(element)["objective"], args=(next(batches),)
        )

    def work() -> None:
        cluster.exchange([0])  # Nobody begins in another candidate's turn.
        for objective in cluster.strategy.experimental_local_results(step()):
            if not np.isfinite(objective):
                raise FloatingPointError(f"the objective became {objective}")

    return work
