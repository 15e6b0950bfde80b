"""The same network and training procedure, written in Keras as one would without this package's layers."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dcign_tf.benchmarks.counting import decoder_side
from dcign_tf.clamping import clamp
from dcign_tf.code import CodeLayout


class Twin(keras.Model):
    """Fig. 1 in plain Keras layers, with the objective and the clamp of `DCIGN`.

    Weights have the shapes and the order of those of `DCIGN`'s encoder and decoder, so that `get_weights` of one fits
    `set_weights` of the other.

    Args:
        image_size: side of the images.
        encoder_filters: channels of the encoder's convolutions.
        decoder_filters: channels of the decoder's.
        latents: length of the code, in the paper's layout.
        invariance_strength: see `DCIGN`.
    """

    def __init__(
        self,
        image_size: int,
        encoder_filters: Sequence[int],
        decoder_filters: Sequence[int],
        latents: int,
        invariance_strength: float = 0.01,
    ) -> None:
        super().__init__()
        layers = keras.layers
        images = x = keras.Input((image_size, image_size, 1))
        for filters in encoder_filters:
            x = layers.Conv2D(filters, 5, kernel_initializer="he_normal")(x)
            x = layers.ReLU()(layers.MaxPooling2D(2)(x))
        x = layers.Flatten()(x)
        narrow = keras.initializers.RandomNormal(stddev=0.01)
        mean = layers.Dense(latents, kernel_initializer=narrow)(x)
        log_variance = layers.Dense(latents, kernel_initializer=narrow)(x)
        self.encoder = keras.Model(images, [mean, log_variance])

        base, first = decoder_side(image_size), decoder_filters[0]
        codes = keras.Input((latents,))
        x = layers.Dense(base * base * first, activation="relu", kernel_initializer=narrow)(codes)
        x = layers.Reshape((base, base, first))(x)
        for filters in decoder_filters:
            x = layers.UpSampling2D(2)(x)
            x = layers.Conv2D(filters, 7, activation="relu", kernel_initializer="he_normal")(x)
        logits = layers.Conv2D(1, 7)(layers.UpSampling2D(2)(x))
        self.decoder = keras.Model(codes, logits)

        self.masks = tf.constant(CodeLayout.paper(latents).masks)
        self.invariance_strength = invariance_strength
        self.built = True

    def objective(self, images: tf.Tensor, active: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """The objective summed over all images, in nats, whose gradient is the paper's.

        Args:
            images: uint8 [G, B, S, S, 1].
            active: index of the factor that varies in each group; int [G].
            noise: standard normal [G, B, L].
        """
        groups, size, *shape = images.shape
        flat = tf.reshape(tf.cast(images, tf.float32) / 255, [groups * size, *shape])
        mean, log_variance = self.encoder(flat)
        mask = tf.gather(self.masks, active)
        mean = clamp(tf.reshape(mean, noise.shape), mask, self.invariance_strength)
        log_variance = clamp(tf.reshape(log_variance, noise.shape), mask, self.invariance_strength)
        codes = mean + tf.exp(0.5 * log_variance) * noise
        logits = self.decoder(tf.reshape(codes, [groups * size, noise.shape[-1]]))
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=flat, logits=logits)
        divergence = 0.5 * (mean**2 + tf.exp(log_variance) - 1 - log_variance)
        return tf.reduce_sum(entropy) + tf.reduce_sum(divergence)

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One step; see `DCIGN.train_step`."""
        images, active = data
        noise = tf.random.normal([*images.shape[:2], self.masks.shape[-1]])
        with tf.GradientTape() as tape:
            total = self.objective(images, active, noise)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(total, variables), variables)
        return {"objective": total}


def steps(network: dict[str, Any], images: np.ndarray, jit_compile: bool) -> Callable[[], None]:
    """A candidate: a training step of the twin, as `fit` runs it.

    Args:
        network: which; `Settings.network`.
        images: uint8 [G, B, S, S, 1], the step's batch.
        jit_compile: of `compile`.
    """
    keras.utils.set_random_seed(0)
    model = Twin(**network)
    optimizer = keras.optimizers.Adam(5e-4, beta_1=0.9, beta_2=0.99, epsilon=1e-4)
    model.compile(optimizer, jit_compile=jit_compile)
    return train_steps(model, cached(images))


def cached(images: np.ndarray) -> tf.data.Dataset:
    """One stack of groups again and again, in which the first factor varies: (uint8 [G, B, S, S, 1], int32 [G])."""
    return tf.data.Dataset.from_tensors((images, np.zeros([len(images)], np.int32))).repeat()


def train_steps(model: keras.Model, dataset: tf.data.Dataset) -> Callable[[], None]:
    """A function that trains a compiled model for one step of a data set, as `fit` does."""
    iterator = iter(dataset)
    model.make_train_function()

    def step() -> None:
        objective = float(model.train_function(iterator)["objective"])
        if not np.isfinite(objective):
            raise FloatingPointError(f"the objective became {objective}")

    return step
