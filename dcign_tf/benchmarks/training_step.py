"""A training step, of this package and of the same network and objective in plain Keras and in PyTorch."""

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dcign_tf import processes
from dcign_tf.benchmarks import counting, sections, workers
from dcign_tf.benchmarks.sections import OURS, Row, Section, Settings, Verdict
from dcign_tf.benchmarks.workers import Candidate, Outcome

KERAS = ("plain Keras", "plain Keras, XLA")
TORCH = (
    "PyTorch, as written",
    "PyTorch, channels last",
    "PyTorch, compiled",
    "PyTorch, compiled, channels last",
)
_PRODUCT = "matrix product of side "
_PRODUCTS = (2048, 3072, 4096)
_QUICK_PRODUCTS = (64, 96)


def measure(settings: Settings) -> Section:
    """Times a step of each, in turns, and what the machine can do at most."""
    return section(settings, race(settings))


def section(settings: Settings, outcomes: Mapping[str, Outcome]) -> Section:
    """Writes up what `race` gave."""
    products = [name for name in outcomes if name.startswith(_PRODUCT)]
    rows = sections.time_rows({n: o for n, o in outcomes.items() if n not in products})
    needed = 2e-9 * counting.training_multiplications(**settings.network, batch=settings.batch)
    rates = {name: _rates(outcomes[name], 2e-9 * int(name.split()[-1]) ** 3) for name in products}
    fastest = max(products, key=lambda name: workers.spread(rates[name]).median)
    ours = _rates(outcomes[OURS], needed)
    # Turn by turn: the machine's clock is not the same all the time.
    share = workers.spread(
        [100 * own / most for own, most in zip(ours, rates[fastest], strict=True)]
    )
    rows += [
        Row(
            fastest,
            *workers.spread(rates[fastest])[:3],
            "GFLOP/s",
            note="float32, TensorFlow; the fastest of its sizes",
        ),
        Row(
            "dcign_tf's share of that rate",
            *share[:3],
            "%",
            note=f"{needed:.1f} GFLOP in a step, {workers.spread(ours).median:.0f} GFLOP/s",
        ),
    ]
    return Section(
        "training",
        f"Training step: {settings.image_size} x {settings.image_size}, {settings.latents} latents, "
        f"batch {settings.batch}, float32",
        rows,
        notes=[
            "All train the same network on the same objective, the clamp included, forward, backward and update; "
            "tests compare their gradients. The Keras ones run as `fit` runs them.",
            "Counted are the multiplications and additions that the exact network needs when computed directly, "
            "the convolutions of unpooled images with their taps merged (16 instead of 49). A step may need fewer, "
            "by fast convolution (Winograd, Toom and Cook), so that its share of the matrix-product rate can "
            "exceed 100 %: then it does more than a machine could that multiplies each number by each.",
        ],
        verdicts=[
            *_faster(outcomes, TORCH, 2.5, "the best PyTorch form"),
            *_faster(
                outcomes, KERAS[:1], 4.0, "plain Keras as it runs by default (on a CPU without XLA)"
            ),
            *_faster(outcomes, KERAS[1:], 4.0, "plain Keras, XLA"),
            Verdict(
                "training step at 85 % of the matrix-product rate or more",
                f"{share.median:.0f} % ({share.low:.0f} to {share.high:.0f})",
                share.median >= 85,
            ),
        ],
    )


@functools.cache
def race(settings: Settings) -> Mapping[str, Outcome]:
    """Times them all; once in a process, whoever asks."""
    return workers.race(
        candidates(settings), settings.rounds, settings.warm_up, title="training step"
    )


def candidates(settings: Settings) -> list[Candidate]:
    """All that is timed here."""
    images = faces(settings.image_size, settings.batch)
    common = {"network": settings.network, "images": images}
    return [
        Candidate(OURS, f"{__name__}:ours", common),
        *(
            Candidate(
                name, "dcign_tf.benchmarks.keras_twin:steps", {**common, "jit_compile": compiled}
            )
            for name, compiled in zip(KERAS, (False, True), strict=True)
        ),
        *(
            Candidate(
                name,
                "dcign_tf.benchmarks.torch_twin:steps",
                {**common, "channels_last": last, "compiled": compiled},
                # Its compiler would keep idle processes of its own.
                environment={"TORCHINDUCTOR_COMPILE_THREADS": "1"},
                requires=("torch",),
            )
            for name, (compiled, last) in zip(
                TORCH, ((False, False), (False, True), (True, False), (True, True)), strict=True
            )
        ),
        *(
            Candidate(f"{_PRODUCT}{n}", f"{__name__}:matrix_product", call={"side": n})
            for n in (_QUICK_PRODUCTS if settings.quick else _PRODUCTS)
        ),
    ]


def faces(image_size: int, batch: int, groups: int = 1) -> np.ndarray:
    """Groups of pictures of the built-in face; uint8 [G, B, S, S, 1]."""
    from dcign_tf.datasets.scenes import SceneConfig, SceneSampler

    sampler = SceneSampler(SceneConfig(image_size=image_size, group_size=batch))
    return np.stack([sampler.group("train", "azimuth", index).images for index in range(groups)])


def ours(network: dict[str, Any], images: np.ndarray) -> Callable[[], None]:
    """A candidate: a training step of `DCIGN` with the defaults of training, as `fit` runs it.

    Args:
        network: which; `Settings.network`.
        images: uint8 [G, B, S, S, 1], the step's batch.
    """
    from dcign_tf.benchmarks import keras_twin

    processes.share_memory_pool()  # As the commands do.
    return keras_twin.train_steps(compiled(network), keras_twin.cached(images))


def compiled(network: dict[str, Any]) -> Any:
    """A `DCIGN` as training makes it by default."""
    import keras

    from dcign_tf.code import CodeLayout
    from dcign_tf.model import DCIGN
    from dcign_tf.training import TrainingConfig, make_optimizer

    keras.utils.set_random_seed(0)
    arguments = dict(network)
    config = TrainingConfig()
    model = DCIGN(layout=CodeLayout.paper(arguments.pop("latents")), **arguments)
    model.compile(make_optimizer(config), jit_compile=config.jit_compile)
    return model


def matrix_product() -> Callable[[int], None]:
    """A candidate: the product of two square matrices of float32."""
    import tensorflow as tf

    matrices = {side: tf.random.normal([2, side, side]) for side in (*_PRODUCTS, *_QUICK_PRODUCTS)}
    product = tf.function(tf.matmul)

    def work(side: int) -> None:
        product(*tf.unstack(matrices[side]))

    return work


def imports(packages: tuple[str, ...]) -> Callable[[], None]:
    """A candidate that does nothing but import packages."""
    for package in packages:
        importlib.import_module(package)
    return lambda: None


def best(outcomes: Mapping[str, Outcome], names: tuple[str, ...]) -> str | None:
    """The fastest of some candidates; None when none of them could be timed."""
    timed = [name for name in names if outcomes[name].seconds]
    return min(timed, key=lambda n: workers.spread(outcomes[n].seconds).median, default=None)


def _rates(outcome: Outcome, operations: float) -> list[float]:
    """So many operations in each repetition's time."""
    return [operations / seconds for seconds in outcome.seconds]


def _faster(
    outcomes: Mapping[str, Outcome], names: tuple[str, ...], factor: float, whom: str
) -> list[Verdict]:
    name = best(outcomes, names)
    if name is None:
        return []
    ratio = workers.ratios(outcomes[name], outcomes[OURS])
    return [
        Verdict(
            f"training step at least {factor:g} times as fast as {whom}",
            f"{ratio.median:.2f} times ({ratio.low:.2f} to {ratio.high:.2f}) as fast as {name}",
            ratio.median >= factor,
        )
    ]
