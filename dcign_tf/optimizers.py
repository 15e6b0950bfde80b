"""The optimizers of training: Keras's, but a step that went wrong changes nothing, and float16 gets a loss scale.

Keras has `LossScaleOptimizer` for the latter. It decides by a condition, for which a GPU waits for its host in every
step; it leaves skipped steps uncounted, though data and noise here are functions of that count; and the replicas of a
`MirroredStrategy` each decide by their own gradients. Here the replicas agree first, and a left-out update is one
whose numbers are such that nothing moves.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

SMALLEST_LOSS_SCALE = 2.0**-24
"""Below this, gradients that are not finite are no matter of scale."""

_FIRST_LOSS_SCALE = 2.0**15
_GROWTH_STEPS = 2000


class _Careful(keras.optimizers.Optimizer):
    """Leaves out updates whose gradients are not finite; they count as iterations nevertheless.

    Args:
        dynamic_loss_scale: whether `scale_loss` scales, and `apply` divides the gradients again: by a number that
            halves with each update left out and doubles after 2000 in a row that were not. Micikevicius et al. 2018,
            "Mixed precision training".
    """

    def __init__(self, *args: Any, dynamic_loss_scale: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dynamic_loss_scale = dynamic_loss_scale

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Makes the state for these variables."""
        if self.built:
            return
        super().build(variables)

        def state(name: str, value: float) -> keras.Variable:
            start = keras.initializers.Constant(value)
            return self.add_variable(shape=(), dtype="float32", initializer=start, name=name)

        # Between `apply` and `update_step`: a variable, since replicas and devices have no other way to tell.
        self.applies = state("applies", 1.0)
        if self.dynamic_loss_scale:
            self.loss_scale = state("loss_scale", _FIRST_LOSS_SCALE)
            self.clean_steps = state("clean_steps", 0.0)

    def scale_loss(self, loss: Any) -> Any:
        """The loss to differentiate."""
        return loss * self.loss_scale.value if self.dynamic_loss_scale else loss

    def apply(
        self, gradients: Sequence[tf.Tensor], variables: Sequence[keras.Variable] | None = None
    ) -> None:
        """Updates the variables if all gradients, on all replicas, are finite; counts the step.

        Args:
            gradients: of `scale_loss`'s result; dense.
            variables: those of `build`, which is called if it was not.
        """
        if variables is not None:
            with tf.init_scope():  # Not inside of the graph that may be traced just now.
                self.build(variables)
        bad = tf.cast(~tf.math.is_finite(tf.linalg.global_norm(gradients)), tf.float32)
        bad = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, bad)
        good = tf.equal(bad, 0.0)
        self.applies.assign(tf.cast(good, tf.float32))
        factor = tf.cast(good, tf.float32)
        if self.dynamic_loss_scale:
            scale, clean = self.loss_scale.value, self.clean_steps.value + 1
            factor /= scale
            grows = clean >= _GROWTH_STEPS
            self.loss_scale.assign(tf.where(good, tf.where(grows, 2 * scale, scale), scale / 2))
            self.clean_steps.assign(tf.where(good & ~grows, clean, 0.0))
        finite = [tf.math.multiply_no_nan(g, tf.cast(factor, g.dtype)) for g in gradients]
        super().apply(finite, variables)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "dynamic_loss_scale": self.dynamic_loss_scale}


@keras.saving.register_keras_serializable("dcign_tf")
class Adam(_Careful, keras.optimizers.Adam):
    """`keras.optimizers.Adam` (without AMSGrad), each variable's update in one pass over it instead of a dozen."""

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: Any) -> None:
        """Updates one variable."""
        index = self._get_variable_index(variable)
        dtype = variable.dtype
        applies = self.applies.value > 0
        step = tf.cast(self.iterations.value + 1, dtype)
        beta_1, beta_2 = (tf.cast(beta, dtype) for beta in (self.beta_1, self.beta_2))
        one = tf.ones([], dtype)
        # With these numbers, and a gradient of zero, the kernel leaves all three as they are.
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(beta_1, step),
            beta2_power=tf.pow(beta_2, step),
            lr=tf.where(applies, tf.cast(learning_rate, dtype), 0),
            beta1=tf.where(applies, beta_1, one),
            beta2=tf.where(applies, beta_2, one),
            epsilon=tf.cast(self.epsilon, dtype),
            grad=gradient,
        )


@keras.saving.register_keras_serializable("dcign_tf")
class RMSprop(_Careful, keras.optimizers.RMSprop):
    """`keras.optimizers.RMSprop`; its weight decay, which is no matter of gradients, is never left out."""

    def assign(self, variable: Any, value: tf.Tensor) -> None:
        """Assigns if the step's gradients are finite."""
        super().assign(variable, tf.where(self.applies.value > 0, value, variable))

    def assign_sub(self, variable: Any, value: tf.Tensor) -> None:
        """Subtracts if the step's gradients are finite."""
        super().assign_sub(variable, tf.where(self.applies.value > 0, value, 0.0))
