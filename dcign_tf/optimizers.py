"""The optimizers of training: Keras's, but a step that went wrong changes nothing, and float16 gets a loss scale.

Keras has `LossScaleOptimizer` for the latter. It decides by a condition, for which a GPU waits for its host in every
step; it leaves skipped steps uncounted, though data and noise here are functions of that count; and the replicas of a
`MirroredStrategy` each decide by their own gradients. Here the replicas agree first, and a left-out update is one
whose numbers are such that nothing moves.
"""

import math
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
        momentum, velocity = self._momentums[index], self._velocities[index]
        _adam(self, gradient, variable, momentum, velocity, learning_rate)


@keras.saving.register_keras_serializable("dcign_tf")
class RMSprop(_Careful, keras.optimizers.RMSprop):
    """`keras.optimizers.RMSprop`; its weight decay, which is no matter of gradients, is never left out."""

    def assign(self, variable: Any, value: tf.Tensor) -> None:
        """Assigns if the step's gradients are finite."""
        super().assign(variable, tf.where(self.applies.value > 0, value, variable))

    def assign_sub(self, variable: Any, value: tf.Tensor) -> None:
        """Subtracts if the step's gradients are finite."""
        super().assign_sub(variable, tf.where(self.applies.value > 0, value, 0.0))


@keras.saving.register_keras_serializable("dcign_tf")
class Muon(_Careful):
    """Muon: momentum whose every direction is made equally large, for all weights that are matrices; Adam for the rest.

    A gradient's few largest singular values hide many small ones. Taking `U V^T` in place of the momentum's `U S V^T`
    lets what only few images show learn as fast as what all of them do. Keller Jordan et al. 2024, "Muon"; the size
    of the update, which makes learning rates those of Adam, after Liu et al. 2025, "Muon is scalable for LLM training".
    `keras.optimizers.Muon` is for matrices only; here a convolution's kernel is the matrix [height * width * channels,
    filters] that it multiplies windows by. Weights with a single row or column, and biases, have nothing to make equal.

    Args:
        learning_rate: as in `keras.optimizers.Muon`.
        beta_1: share of itself that the momentum keeps, and Adam's first.
        beta_2: Adam's.
        epsilon: Adam's.
        **kwargs: as in `keras.optimizers.Optimizer`.
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        epsilon: float = 1e-4,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Makes the state for these variables."""
        if self.built:
            return
        super().build(variables)
        self.momentums = self.add_optimizer_variables(variables, "momentum")
        self.velocities = [
            None
            if _is_matrix(variable)
            else self.add_variable_from_reference(variable, name="velocity")
            for variable in variables
        ]

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: Any) -> None:
        """Updates one variable."""
        index = self._get_variable_index(variable)
        momentum, velocity = self.momentums[index], self.velocities[index]
        if velocity is not None:
            _adam(self, gradient, variable, momentum, velocity, learning_rate)
            return
        applies = self.applies.value > 0
        kept = tf.where(applies, tf.cast(self.beta_1, gradient.dtype), 1)
        rate = tf.where(applies, tf.cast(learning_rate, gradient.dtype), 0)
        # Nesterov's: what the momentum would be if the gradient came once more.
        ahead = gradient + kept * momentum.value.assign(kept * momentum.value + gradient)
        matrix = tf.reshape(ahead, [-1, ahead.shape[-1]])
        update = orthogonalized(matrix) * (0.2 * math.sqrt(max(matrix.shape)))
        variable.assign_sub(rate * tf.reshape(update, ahead.shape))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("beta_1", "beta_2", "epsilon")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def orthogonalized(matrix: tf.Tensor) -> tf.Tensor:
    """The matrix with all but its smallest singular values brought to about 1: near to `U V^T` of its `U S V^T`.

    Five steps of the Newton-Schulz iteration `X <- a X + b X X^T X + c (X X^T)^2 X`, of which each moves a singular
    value s to a s + b s^3 + c s^5, with Jordan's coefficients: they do not end at 1 exactly, but bring small values up
    soonest. All that multiplies X is a polynomial of X X^T, so the steps are done on that square, and X itself is
    touched twice instead of ten times.

    Args:
        matrix: float [N, M].

    Returns:
        float [N, M]; of zeros, zeros.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    square = tf.matmul(matrix, matrix, transpose_a=tall, transpose_b=not tall)
    # The trace is the squared norm, which no singular value exceeds. Of bad gradients nothing is used.
    square = tf.math.divide_no_nan(square, tf.linalg.trace(square))
    scale = tf.math.divide_no_nan(tf.ones([], matrix.dtype), tf.norm(matrix))
    identity = tf.eye(square.shape[0], dtype=matrix.dtype)
    product = identity
    a, b, c = 3.4445, -4.7750, 2.0315
    for _ in range(5):
        step = a * identity + tf.matmul(b * identity + c * square, square)
        product = tf.matmul(step, product)
        square = tf.matmul(tf.matmul(step, square), step)
    return scale * (tf.matmul(matrix, product) if tall else tf.matmul(product, matrix))


def _is_matrix(variable: keras.Variable) -> bool:
    *rows, columns = variable.shape
    return len(rows) > 0 and min(math.prod(rows), columns) > 1


def _adam(
    optimizer: "Adam | Muon",
    gradient: tf.Tensor,
    variable: tf.Variable,
    momentum: keras.Variable,
    velocity: keras.Variable,
    learning_rate: Any,
) -> None:
    """Adam's update of one variable in one pass over it, or none if `optimizer.applies` says so."""
    dtype = variable.dtype
    applies = optimizer.applies.value > 0
    step = tf.cast(optimizer.iterations.value + 1, dtype)
    beta_1, beta_2 = (tf.cast(beta, dtype) for beta in (optimizer.beta_1, optimizer.beta_2))
    one = tf.ones([], dtype)
    # With these numbers, and a gradient of zero, the kernel leaves all three as they are.
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=momentum.value.handle,
        v=velocity.value.handle,
        beta1_power=tf.pow(beta_1, step),
        beta2_power=tf.pow(beta_2, step),
        lr=tf.where(applies, tf.cast(learning_rate, dtype), 0),
        beta1=tf.where(applies, beta_1, one),
        beta2=tf.where(applies, beta_2, one),
        epsilon=tf.cast(optimizer.epsilon, dtype),
        grad=gradient,
    )
