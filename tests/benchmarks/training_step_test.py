"""The peers compute what we compute: the same objective and the same gradients, from the same weights."""

import importlib.util
import pathlib
import subprocess
import sys
import textwrap
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from dcign_tf.benchmarks import keras_twin, memory, training_step
from dcign_tf.benchmarks.sections import OURS, Settings
from dcign_tf.benchmarks.training_step import KERAS, TORCH
from dcign_tf.benchmarks.workers import Outcome
from dcign_tf.model import DCIGN

_NETWORK: dict[str, Any] = {
    "image_size": 38,
    "encoder_filters": (3, 2, 5),
    "decoder_filters": (4, 2, 3),
    "latents": 6,
}
_ACTIVE = np.array([1, 3], np.int32)


def _images(groups: int = 2, batch: int = 3) -> np.ndarray:
    shape = (groups, batch, 38, 38, 1)
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


@pytest.fixture(scope="module")
def ours() -> DCIGN:
    model = training_step.compiled(_NETWORK)
    rng = np.random.default_rng(2)
    for weight in model.trainable_weights:
        # Biases that are not 0, and codes large enough to matter.
        weight.assign(weight.value + 0.1 * rng.standard_normal(weight.shape))
    return model


@pytest.fixture(scope="module")
def expected(ours: DCIGN) -> tuple[float, list[np.ndarray], np.ndarray]:
    """The objective, its gradients, and the noise that went in."""
    with tf.GradientTape() as tape:
        total, _ = ours.measure(_images(), _ACTIVE)
    gradients = [g.numpy() for g in tape.gradient(total, ours.trainable_variables)]
    noise = ours._noise(2, 3).numpy()
    assert all(np.abs(gradient).max() > 1e-3 for gradient in gradients)
    return float(total), gradients, noise


def _twin_of(ours: DCIGN) -> keras_twin.Twin:
    twin = keras_twin.Twin(**_NETWORK)
    twin.encoder.set_weights(ours.encoder.get_weights())
    twin.decoder.set_weights(ours.decoder.get_weights())
    return twin


def test_plain_keras(ours: DCIGN, expected: Any) -> None:
    twin = _twin_of(ours)
    with tf.GradientTape() as tape:
        total = twin.objective(tf.constant(_images()), tf.constant(_ACTIVE), expected[2])
    np.testing.assert_allclose(total, expected[0], rtol=1e-5)
    for ours_, theirs in zip(
        expected[1], tape.gradient(total, twin.trainable_variables), strict=True
    ):
        np.testing.assert_allclose(theirs, ours_, rtol=1e-3, atol=1e-3 * np.abs(ours_).max())


@pytest.mark.parametrize("channels_last", [False, True])
def test_pytorch(ours: DCIGN, expected: Any, channels_last: bool) -> None:
    torch = pytest.importorskip(
        "torch",
        reason="no PyTorch here: after pip install '.[benchmark]', python3 run.py test runs it",
    )
    from dcign_tf.benchmarks import torch_twin

    halves = len(ours.encoder.trainable_variables)
    twin = torch_twin.Twin(**_NETWORK)
    twin.set_weights(ours.encoder.get_weights(), ours.decoder.get_weights())
    images = torch.from_numpy(_images().reshape(6, 1, 38, 38)).float() / 255
    if channels_last:
        twin = twin.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    total = twin.objective(images, torch.from_numpy(_ACTIVE).long(), torch.from_numpy(expected[2]))
    total.backward()
    np.testing.assert_allclose(total.item(), expected[0], rtol=1e-5)
    # Weights and their gradients change their layout alike.
    ours_ = torch_twin.Twin(**_NETWORK)
    ours_.set_weights(expected[1][:halves], expected[1][halves:])
    for right, found in zip(ours_.parameters(), twin.parameters(), strict=True):
        right = right.detach().numpy()
        np.testing.assert_allclose(found.grad, right, rtol=1e-3, atol=1e-3 * np.abs(right).max())


def test_the_networks_train(ours: DCIGN) -> None:
    """As timed: step after step the weights change, and the objective falls."""
    before = keras.ops.convert_to_numpy(ours.trainable_weights[0])
    step = keras_twin.train_steps(ours, keras_twin.cached(_images()))
    for _ in range(3):
        step()
    assert int(ours.optimizer.iterations) == 3
    assert np.abs(before - keras.ops.convert_to_numpy(ours.trainable_weights[0])).min() > 0


def test_no_library_sits_in_anothers_process() -> None:
    """Its threads and its memory would count as the other's."""
    program = """
    import sys
    from dcign_tf.benchmarks import memory, run, training_step
    from dcign_tf.cli import benchmark
    for part in run.PARTS.values():
        __import__(part)
    assert not {"keras", "tensorflow", "torch"} & set(sys.modules)
    from dcign_tf.benchmarks import torch_twin
    assert not {"keras", "tensorflow"} & set(sys.modules)
    """
    if importlib.util.find_spec("torch") is None:
        program = program.partition("from dcign_tf.benchmarks import torch_twin")[0].rstrip(" ")
    root = pathlib.Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=root, check=True)


_SETTINGS = Settings(rounds=3)


def test_all_get_the_same_pictures() -> None:
    images = training_step.faces(38, 4, groups=2)
    assert (images.shape, images.dtype) == ((2, 4, 38, 38, 1), np.uint8)
    assert images.std() > 20 and not np.array_equal(images[0], images[1])
    given = [
        candidate.arguments["images"]
        for candidate in training_step.candidates(Settings(image_size=38, batch=4, quick=True))
        if "images" in candidate.arguments
    ]
    assert len(given) == 1 + len(KERAS) + len(TORCH)
    assert all(np.array_equal(some, images[:1]) for some in given)


def _outcomes(**seconds: tuple[float, ...]) -> dict[str, Outcome]:
    """What a race at the paper's size might give: 181.88 GFLOP in a step."""
    # A product of side 2048 has 17.18 GFLOP, one of 4096 has 137.4.
    found: dict[str, tuple[float, ...]] = {
        **dict.fromkeys((OURS, *KERAS, *TORCH), (2.0, 2.0, 2.0)),
        "matrix product of side 2048": (0.2, 0.2, 0.2),
        "matrix product of side 4096": (1.374, 1.374, 1.374),
    }
    given = {"ours": OURS, "keras": KERAS[1], "torch": TORCH[3]}
    found |= {given[name]: values for name, values in seconds.items()}
    return {name: Outcome(name, values, 10**9) for name, values in found.items()}


def test_verdicts_compare_with_the_best_of_each_peers_forms() -> None:
    section = training_step.section(
        _SETTINGS,
        _outcomes(ours=(0.5, 1.0, 0.25), keras=(1.8, 4.0, 0.9), torch=(1.2, 2.6, 0.75)),
    )
    torch, default, keras_, share = section.verdicts
    assert default.found == f"4.00 times (3.00 to 6.00) as fast as {KERAS[0]}" and default.reached
    assert torch.found == f"2.60 times (2.50 to 2.80) as fast as {TORCH[3]}" and torch.reached
    assert keras_.found == f"3.60 times (3.60 to 3.80) as fast as {KERAS[1]}" and not keras_.reached
    # 181.88 GFLOP in 0.5 s, at 100 GFLOP/s.
    assert share.found == "364 % (273 to 545)" and share.reached
    rows = {row.candidate: row for row in section.rows}
    assert rows[OURS].ratio is None and rows[OURS].least == 0.25
    assert rows[TORCH[0]].ratio == 4.0
    rate = rows["matrix product of side 4096"].median
    assert rate is not None and abs(rate - 100) < 0.1
    assert "matrix product of side 2048" not in rows


def test_without_pytorch_there_is_no_verdict_on_it() -> None:
    outcomes = _outcomes() | {name: Outcome(name, problem="not installed: torch") for name in TORCH}
    section = training_step.section(_SETTINGS, outcomes)
    assert [verdict.target.split(" as fast as ")[-1] for verdict in section.verdicts] == [
        "plain Keras as it runs by default (on a CPU without XLA)",
        "plain Keras, XLA",
        "training step at 85 % of the matrix-product rate or more",
    ]
    assert [row.note for row in section.rows if row.candidate in TORCH] == 4 * [
        "not installed: torch"
    ]
    imports = {
        memory.KERAS_ALONE: Outcome(memory.KERAS_ALONE, (1.0,), 4 * 10**8),
        memory.TORCH_ALONE: Outcome(memory.TORCH_ALONE, problem="not installed: torch"),
    }
    outcomes[OURS] = outcomes[OURS]._replace(peak_bytes=8 * 10**8)
    of_memory = memory.section(_SETTINGS, outcomes, imports)
    (verdict,) = of_memory.verdicts
    assert verdict.reached and verdict.found == "800 MB against 1000 MB (plain Keras)"
    rows = {row.candidate: row for row in of_memory.rows}
    assert (rows[KERAS[0]].ratio, rows[KERAS[0]].note) == (1.25, "600 MB more than its imports")
    assert rows[TORCH[0]].median is None
