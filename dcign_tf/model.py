"""The Deep Convolutional Inverse Graphics Network as one Keras model."""

import contextlib
import math
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import dcign_tf.optimizers  # noqa: F401  (makes the optimizer in a trained model's file known to Keras)
from dcign_tf import networks, objective
from dcign_tf.calibration import Calibration
from dcign_tf.code import CodeLayout, told
from dcign_tf.errors import DcignError
from dcign_tf.procedures import ProcedureConfig
from dcign_tf.units import DEGREES, LATENT


@keras.saving.register_keras_serializable("dcign_tf")
class DCIGN(keras.Model):
    """Encoder, decoder and the training procedure of Kulkarni et al. 2015.

    With no arguments it is the paper's model: images of 150 x 150, the filters of Fig. 1, 200 latents of which
    the first three hold azimuth, elevation and the light's azimuth (Fig. 2), invariance strength 1/100.

    Example:
        >>> model = DCIGN(image_size=54, layout={"azimuth": 1, "intrinsic": 9})
        >>> mean, log_variance = model.encode(np.zeros([2, 54, 54, 1], np.uint8))
        >>> model.decode(mean).shape
        TensorShape([2, 54, 54, 1])

    Args:
        image_size: side of the images; 16 n - 90 for an integer n >= 8.
        encoder_filters: channels of the encoder's three convolutions.
        decoder_filters: channels of the decoder's feature map and first convolution, second, third.
        layout: which latents hold which factor; a `CodeLayout`, a mapping from names to numbers of
            latents, or what `CodeLayout.get_config` gave.
        invariance_strength: weight of the signal that draws inactive latents to their group's mean.
        clamp_to: what inactive latents become, "mean" (the paper), "first" (the authors' code) or "another".
        procedure: "clamp", the paper's training procedure; "sgvb", plain variational training of the same network,
            the entangled baseline of section 4.1.1; or another one of `dcign_tf.procedures`.
        seed: of the posterior's noise, which is a function of it, the step and the group's place in the batch.
        units: for extrinsic factors their unit, where it is not degrees: `dcign_tf.units`.
        clamp_gradient: this and what follows: `procedures.ProcedureConfig`.
        dtype: the precision; "mixed_bfloat16" or "mixed_float16" for convolutions and matrix products in half of it.
            Weights, codes and what is summed stay float32. It is not saved: a model is loaded in float32.

    Attributes:
        encoder: Keras model, float images [N, S, S, 1] to (mean [N, L], log_variance [N, L]).
        decoder: Keras model, codes [N, L] to logits [N, S, S, 1].
        layout: the `CodeLayout`.
        calibration: the curves between latents and true values.
        settings: the training procedure's `ProcedureConfig`.
        units: for each extrinsic factor, the unit of its values: "degrees" for angles, "" for pure numbers, and
            `units.LATENT` where calibration found that nobody knows true values.

    Raises:
        ValueError: an argument is impossible; the message names it.
    """

    def __init__(
        self,
        image_size: int = 150,
        encoder_filters: Sequence[int] = (96, 64, 32),
        decoder_filters: Sequence[int] = (32, 64, 96),
        layout: CodeLayout | Mapping[str, Any] | None = None,
        invariance_strength: float = 0.01,
        clamp_to: str = "mean",
        procedure: str = "clamp",
        seed: int = 0,
        units: Mapping[str, str] | None = None,
        clamp_gradient: str = "replace",
        invariance: str = "absolute",
        invariance_warmup_steps: int = 0,
        beta: float = 1.0,
        kl_warmup_steps: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if layout is None:
            layout = CodeLayout.paper()
        elif not isinstance(layout, CodeLayout):
            layout = (
                CodeLayout.from_config(layout)
                if isinstance(layout.get("factors"), (list, tuple))
                else CodeLayout(layout)
            )
        self.settings = ProcedureConfig(
            procedure=procedure,
            invariance_strength=float(invariance_strength),
            clamp_to=clamp_to,
            clamp_gradient=clamp_gradient,
            invariance=invariance,
            invariance_warmup_steps=int(invariance_warmup_steps),
            beta=float(beta),
            kl_warmup_steps=int(kl_warmup_steps),
        )
        self.image_size = int(image_size)
        self.encoder_filters = tuple(encoder_filters)
        self.decoder_filters = tuple(decoder_filters)
        self.layout = layout
        self.seed = int(seed)
        with _default_precision(self.dtype_policy):
            self.encoder = networks.encoder(image_size, encoder_filters, layout.latents)
            circles = [int(layout.indices(factor)[0]) for factor in layout.circular]
            self.decoder = networks.decoder(image_size, decoder_filters, layout.latents, circles)
        self.calibration = Calibration(layout.extrinsic, layout.circular, name="calibration")
        self.units = {factor: (units or {}).get(factor, DEGREES) for factor in layout.extrinsic}
        self.built = True

    def for_inference(self, direct: bool = False) -> "DCIGN":
        """A copy that does the same in less time and cannot be trained.

        Args:
            direct: whether all convolutions stay convolutions, for those who compile or quantize them; otherwise see
                `networks.faster_encoder` and `networks.faster_decoder`.
        """
        copy = type(self).from_config(self.get_config())
        copy.set_weights(self.get_weights())
        if direct:
            copy.decoder = networks.faster_decoder(copy.decoder, least=math.inf)
        else:
            copy.encoder = networks.faster_encoder(copy.encoder)
            copy.decoder = networks.faster_decoder(copy.decoder)
        return copy

    @property
    def procedure(self) -> str:
        """The name of the training procedure."""
        return self.settings.procedure

    # The graphics engine.

    def encode(self, images: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """The posterior of the graphics code.

        Args:
            images: uint8, or float in [0, 1]; [N, S, S, 1].

        Returns:
            mean [N, L] and log-variance [N, L].
        """
        mean, log_variance = self.encoder(_as_float(images, self.variable_dtype))
        return tf.cast(mean, self.variable_dtype), tf.cast(log_variance, self.variable_dtype)

    def decode(self, codes: Any) -> tf.Tensor:
        """Renders graphics codes [N, L]; float images [N, S, S, 1] in [0, 1]."""
        logits = self.decoder(tf.convert_to_tensor(codes, self.variable_dtype))
        return tf.sigmoid(tf.cast(logits, self.variable_dtype))

    def call(self, images: Any, training: bool = False) -> tf.Tensor:
        """Reconstructs images [N, S, S, 1] from the mean of their posterior."""
        del training
        return self.decode(self.encode(images)[0])

    def rerender(self, images: Any, **values: Any) -> tf.Tensor:
        """Renders what the images show with some factors set to other values.

        Example:
            `model.rerender(faces, azimuth=-45.0, light_azimuth=[10.0, 20.0])` turns two faces to the viewer's
            left and lights each from an angle of its own; their elevation stays as it is.

        Args:
            images: uint8, or float in [0, 1]; [N, S, S, 1].
            **values: for any extrinsic factor, its new value in its unit: a number, or [N]; NaN keeps it. Values
                outside of what the model was calibrated on are taken to the nearest it knows.

        Returns:
            float [N, S, S, 1] in [0, 1].

        Raises:
            DcignError: the model was not calibrated.
            ValueError: a factor is unknown.
        """
        return self.decode(self.edit(self.encode(images)[0], **values))

    def edit(self, codes: Any, **values: Any) -> tf.Tensor:
        """Sets the latents of factors in graphics codes [N, L]; arguments and errors as in `rerender`."""
        self._check_calibrated()
        codes = tf.convert_to_tensor(codes, self.variable_dtype)
        for factor, value in values.items():
            if factor not in self.layout.extrinsic:
                raise ValueError(
                    f"{factor}: not a factor of this model; it has {', '.join(self.layout.extrinsic)}"
                )
            if value is None:
                continue
            value = tf.cast(tf.convert_to_tensor(value), tf.float32)
            value = tf.broadcast_to(value, tf.shape(codes)[:1])
            latent = tf.cast(self.calibration.latent_of(factor, value), codes.dtype)[:, tf.newaxis]
            if factor in self.layout.circular:
                first, second = np.eye(self.layout.latents)[self.layout.indices(factor)]
                latent = tf.cos(latent) * first + tf.sin(latent) * second
            mask = self.layout.masks[self.layout.factors.index(factor)]
            given = mask & tf.logical_not(tf.math.is_nan(value))[:, tf.newaxis]
            codes = tf.where(given, latent, codes)
        return codes

    def infer(self, images: Any) -> dict[str, tf.Tensor]:
        """Reads the extrinsic factors off images [N, S, S, 1]; for each factor its value in its unit, float32 [N].

        Raises:
            DcignError: the model was not calibrated.
        """
        return self.infer_from_codes(self.encode(images)[0])

    def infer_from_codes(self, codes: Any) -> dict[str, tf.Tensor]:
        """Reads the extrinsic factors off graphics codes [N, L]; result and errors as in `infer`."""
        self._check_calibrated()
        result = {}
        for factor in self.layout.extrinsic:
            latent, *second = (codes[:, int(index)] for index in self.layout.indices(factor))
            if second:
                latent = tf.atan2(second[0], latent)
            result[factor] = self.calibration.value_of(factor, latent)
        return result

    def calibrate(
        self,
        images: np.ndarray,
        values: Mapping[str, np.ndarray],
        periods: Mapping[str, float] | None = None,
    ) -> None:
        """Fits the curves between latents and true values on images in which everything varies at once.

        Args:
            images: uint8, or float in [0, 1]; [N, S, S, 1], N >= 66; of the training set.
            values: for each extrinsic factor, its true value in each image, [N]; NaN where nobody knows it. A factor
                of which none is known gets `units.LATENT` for a unit: its latent itself stands for it.
            periods: of those factors whose values close, such as 360 degrees. It counts for circular ones only.

        Raises:
            DcignError: the layout gives an extrinsic factor several latents that are no circle; one curve cannot say
                them.
            ValueError: as `Calibration.fit`.
        """
        for factor in self.layout.extrinsic:
            if len(self.layout.indices(factor)) > 1 and factor not in self.layout.circular:
                raise DcignError(
                    f"{factor}: has {len(self.layout.indices(factor))} latents; "
                    "only a factor with one latent, or with two on a circle, can be calibrated"
                )
        mean = self.encode_in_batches(images)
        latents = {f: told(mean, self.layout.indices(f)) for f in self.layout.extrinsic}
        for factor in self.calibration.fit(latents, values, periods or {}):
            self.units[factor] = LATENT

    def encode_in_batches(self, images: np.ndarray, batch: int = 100) -> np.ndarray:
        """The posterior's means of any number of images, a bounded number at a time; float32 [N, L]."""
        parts = [self._means(images[i : i + batch]).numpy() for i in range(0, len(images), batch)]
        return np.concatenate(parts) if parts else np.zeros([0, self.layout.latents], np.float32)

    @tf.function(reduce_retracing=True, autograph=False)
    def _means(self, images: Any) -> tf.Tensor:
        return self.encode(images)[0]

    @property
    def calibrated(self) -> bool:
        """Whether `rerender` and `infer` work."""
        return self.calibration.is_fitted

    @property
    def factor_ranges(self) -> dict[str, tuple[float, float]]:
        """For each extrinsic factor the smallest and the largest value the model was calibrated on."""
        return {factor: self.calibration.range(factor) for factor in self.layout.extrinsic}

    @property
    def periods(self) -> dict[str, float]:
        """The periods of those circular factors whose values close: they have no ends."""
        return self.calibration.closing

    def _check_calibrated(self) -> None:
        # Inside a graph the weights have no values yet; export checks before it traces.
        if tf.executing_eagerly() and not self.calibrated:
            raise DcignError(
                "this model was not calibrated, so it knows no values of factors: finish its training "
                "(dcign-train calibrates at the end) or call calibrate()"
            )

    # Training.

    def train_step(self, data: tuple[Any, Any]) -> dict[str, tf.Tensor]:
        """One step of section 3.1 on a stack of groups.

        Args:
            data: images, uint8 or float in [0, 1], [G, B, S, S, 1]; and for each group the index of the factor
                that varies in it, int [G]. G = 1 is the paper.

        Returns:
            Scalars to be logged, as `measure` gives them, the gradients' norms, and, in float16, "loss_scale".
        """
        images, active = data
        scale = tf.cast(self.optimizer.scale_loss(1.0), self.variable_dtype)
        gradients, logs = self.differentiate(images, active, scale)
        variables = self.trainable_variables
        parts = {"encoder": self.encoder, "decoder": self.decoder}
        by_variable = {id(v): g for v, g in zip(variables, gradients, strict=True)}
        for part, network in parts.items():
            of_part = [by_variable[id(v)] for v in network.trainable_variables]
            logs[f"gradient_norm/{part}"] = tf.linalg.global_norm(of_part) / scale
        if self.compute_dtype == "float16":
            logs["loss_scale"] = scale
        self.optimizer.apply(gradients, variables)
        return logs

    def differentiate(
        self, images: Any, active: Any, loss_scale: Any = 1.0
    ) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
        """The gradients of a stack of groups, compiled by XLA if the model was compiled with `jit_compile`.

        Args:
            images: as in `measure`.
            active: as in `measure`.
            loss_scale: what the gradients are multiplied by, for the sake of float16.

        Returns:
            For each trainable variable the scaled gradient of the procedure, and the scalars of `measure`.
        """

        def gradients(images: Any, active: Any, noise: Any, scale: Any, step: Any) -> Any:
            with tf.GradientTape() as tape:
                total, logs = self.measure(images, active, scale, noise, step, training=True)
                scaled = total * scale
            return tape.gradient(scaled, self.trainable_variables), logs

        images = tf.convert_to_tensor(images)
        scale = tf.cast(loss_scale, self.variable_dtype)
        step = tf.cast(self._step, self.variable_dtype)
        # XLA would draw other normal numbers. And the update is not XLA's: replicas must do it together.
        noise = self._noise(images.shape[0] or tf.shape(images)[0], tf.shape(images)[1])
        compute = tf.function(gradients, jit_compile=True) if self.jit_compile else gradients
        return compute(images, tf.convert_to_tensor(active), noise, scale, step)

    def test_step(self, data: tuple[Any, Any]) -> dict[str, tf.Tensor]:
        """The same measurements without an update."""
        return self.measure(*data)[1]

    def measure(
        self,
        images: Any,
        active: Any,
        loss_scale: Any = 1.0,
        noise: Any = None,
        step: Any = None,
        training: bool = False,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The objective of a stack of groups, by the procedure that trains.

        Args:
            images: uint8, or float in [0, 1]; [G, B, S, S, 1].
            active: index of the factor that varies in each group; int [G].
            loss_scale: what the caller will multiply the objective by before it is differentiated.
            noise: of the posterior, standard normal [G, B, L]; by default that of the step that comes next.
            step: how many steps were done; by default the optimizer's count.
            training: whether it will be differentiated.

        Returns:
            The objective summed over all images, whose gradient is the procedure's, and a dictionary of scalars:

            "objective", "negative_log_likelihood", "kl": in nats, means over the images. The first is the sum of the
                others, the last times beta.
            "kl/<factor>": what the latents of a factor contribute to "kl".
            "negative_log_likelihood/<factor>": what groups in which a factor varies contribute.
            "share/<factor>": how many of the groups they are, as a fraction.
            "mse": the squared error of the reconstruction.
            "invariance": the squared distance of inactive latents' means from their group's mean, averaged over
                those latents.
            "active": the factor of the first group, or of the first whose objective is not finite.
        """
        images = tf.convert_to_tensor(images)
        groups, size = images.shape[0], images.shape[1]
        if groups is None or size is None:
            groups, size = tf.shape(images)[0], tf.shape(images)[1]
        side, latents, precise = self.image_size, self.layout.latents, self.variable_dtype
        target = _as_float(tf.reshape(images, [groups * size, side, side, 1]), precise)
        # Codes and sums over thousands of pixels need at least single precision.
        raw_mean, raw_log_variance = (
            tf.reshape(tf.cast(output, precise), [groups, size, latents])
            for output in self.encoder(target, training=training)
        )

        if noise is None:
            noise = self._noise(groups, size)
        active_latents = tf.gather(tf.constant(self.layout.masks), active)
        step = self._step if step is None else step
        mean, log_variance, counts = self.settings.posteriors(
            raw_mean, raw_log_variance, active_latents, step, loss_scale
        )
        codes = mean + tf.exp(0.5 * log_variance) * noise
        codes = tf.reshape(codes, [groups * size, latents])
        logits = self.decoder(codes, training=training)
        logits = tf.cast(logits, precise)

        count = tf.cast(groups * size, precise)
        kl = objective.divergence(mean, log_variance)
        kl = kl if counts is None else kl * counts
        kl_by_latent = tf.reduce_sum(kl, axis=[0, 1])
        by_image = -objective.log_likelihood(target, logits)
        negative_log_likelihood = tf.reduce_sum(by_image)
        kl_weight = self.settings.kl_weight(step, precise)
        total = negative_log_likelihood + kl_weight * tf.reduce_sum(kl_by_latent)

        inactive = tf.cast(tf.logical_not(active_latents), precise)[:, tf.newaxis]
        spread = tf.square(raw_mean - tf.reduce_mean(raw_mean, axis=1, keepdims=True))
        spread = spread * inactive
        logs = {
            "objective": total / count,
            "negative_log_likelihood": negative_log_likelihood / count,
            "kl": tf.reduce_sum(kl_by_latent) / count,
            "mse": tf.reduce_mean(tf.square(target - tf.sigmoid(logits))),
            "invariance": tf.reduce_sum(spread)
            / (tf.reduce_sum(inactive) * tf.cast(size, precise)),
        }
        # Which group to blame, should something not be finite: the first such, else the first.
        likelihood_by_group = tf.reduce_sum(tf.reshape(by_image, [groups, size]), axis=1)
        finite = tf.math.is_finite(tf.reduce_sum(kl, axis=[1, 2]) + likelihood_by_group)
        logs["active"] = tf.gather(active, tf.argmin(tf.cast(finite, tf.int32)))
        for row, factor in enumerate(self.layout.factors):
            mask = tf.constant(self.layout.masks[row], precise)
            logs[f"kl/{factor}"] = tf.reduce_sum(kl_by_latent * mask) / count
            varies = tf.cast(tf.equal(active, row), precise)
            logs[f"share/{factor}"] = tf.reduce_mean(varies)
            logs[f"negative_log_likelihood/{factor}"] = (
                tf.reduce_sum(varies * likelihood_by_group) / count
            )
        return total, logs

    def _noise(self, groups: Any, size: Any) -> tf.Tensor:
        """Standard normal noise [groups, size, L], the same for a group wherever and beside whatever it is computed."""
        latents, dtype = self.layout.latents, self.variable_dtype
        step = tf.cast(self._step, tf.int32)
        context = tf.distribute.get_replica_context()
        replica = 0 if context is None else context.replica_id_in_sync_group
        first = tf.cast(replica, tf.int32) * groups
        # One stream for each step, one counter for each group, so that replicas share out what one device would draw.
        keys = tf.random.experimental.stateless_fold_in([self.seed, 0], step)

        def draw(group: tf.Tensor) -> tf.Tensor:
            key = tf.random.experimental.stateless_fold_in(keys, first + group)
            return tf.random.stateless_normal([size, latents], key, dtype=dtype)

        if isinstance(groups, int):
            return tf.stack([draw(tf.constant(group)) for group in range(groups)])
        return tf.map_fn(draw, tf.range(groups), fn_output_signature=dtype)

    @property
    def _step(self) -> Any:
        """The step that comes next; evaluation before any training has step 0."""
        optimizer = getattr(self, "optimizer", None)
        return 0 if optimizer is None else optimizer.iterations.value

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, fit for JSON."""
        return {
            "name": self.name,
            "image_size": self.image_size,
            "encoder_filters": list(self.encoder_filters),
            "decoder_filters": list(self.decoder_filters),
            "layout": self.layout.get_config(),
            "seed": self.seed,
            "units": dict(self.units),
            **self.settings.procedure_settings(),
        }


def load_model(path: str) -> DCIGN:
    """Reads a `.keras` file that `DCIGN.save` wrote, in Keras's safe mode.

    Raises:
        DcignError: there is no such file, or it holds something else.
    """
    # Keras tells these apart poorly: of a file that is no archive it says that there is none.
    if not os.path.exists(path):
        raise DcignError(f"{path}: no such file; expected a model (.keras)")
    if not (os.path.isfile(path) and zipfile.is_zipfile(path)):
        raise DcignError(f"{path}: not a .keras file, or a truncated one")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} in it is damaged")
        model = keras.saving.load_model(path, safe_mode=True)
    # A damaged or foreign archive fails in as many ways as there are libraries beneath Keras.
    except Exception as error:
        detail = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise DcignError(f"{path}: not a model that can be loaded: {detail}") from error
    if not isinstance(model, DCIGN):
        raise DcignError(f"{path}: holds a {type(model).__name__}, not a DCIGN model")
    return model


@contextlib.contextmanager
def _default_precision(policy: Any) -> Iterator[None]:
    """Layers made inside have this policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _as_float(images: Any, dtype: str) -> tf.Tensor:
    """Images as floats in [0, 1]; uint8 travels and is divided on the device."""
    images = tf.convert_to_tensor(images)
    if images.dtype == tf.uint8:
        return tf.cast(images, dtype) / 255
    return tf.cast(images, dtype)
