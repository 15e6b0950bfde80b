"""The peers compute what we compute: the same objective and the same gradients, from the same weights."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from dcign_tf.benchmarks import keras_twin, training_step
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
    noise = ours._noise(tf.zeros([2, 3, _NETWORK["latents"]])).numpy()
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
        "torch", reason="PyTorch is not installed; pip install '.[benchmark]' brings it"
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
    step = keras_twin.train_steps(ours, keras_twin.cached(38, 3, groups=2))
    for _ in range(3):
        step()
    assert int(ours.optimizer.iterations) == 3
    assert np.abs(before - keras.ops.convert_to_numpy(ours.trainable_weights[0])).min() > 0
