"""What a served model says about its factors to those who have nothing but its signatures."""

from typing import Any

import tensorflow as tf

from dcign_tf.model import DCIGN
from dcign_tf.serving.refusals import after, require


def factors_signature(model: DCIGN) -> Any:
    """A concrete function that tells the range and the unit of factors by their names.

        factors   factor string [N] -> index int32 [N], low float32 [N], high float32 [N], period float32 [N],
                               unit string [N]

    Signatures have names, types and shapes of tensors but nothing to say what a tensor means, and a model's card
    stays on the server's disk. "index" is the factor's place in the model's order, "period" that of values which close
    and have no ends, else 0.

    Args:
        model: calibrated.
    """
    names = list(model.layout.extrinsic)
    right = f"; this model has {', '.join(names)}"
    periods = [model.periods.get(name, 0.0) for name in names]
    ranges = [model.factor_ranges[name] for name in names]

    def factors(factor: tf.Tensor) -> dict[str, tf.Tensor]:
        same = tf.equal(factor[:, tf.newaxis], tf.constant(names))
        known = tf.reduce_any(same, axis=1)
        all_known = tf.reduce_all(known)

        def complaint() -> list[Any]:
            others = tf.strings.reduce_join(tf.boolean_mask(factor, ~known), separator=", ")
            return ["factor: got ", others, right]

        checked = require(all_known, (lambda: all_known, complaint))
        index = tf.argmax(tf.cast(after(checked, same), tf.int32), axis=1, output_type=tf.int32)
        return {
            "index": index,
            "low": tf.gather(tf.constant([low for low, _ in ranges], tf.float32), index),
            "high": tf.gather(tf.constant([high for _, high in ranges], tf.float32), index),
            "period": tf.gather(tf.constant(periods, tf.float32), index),
            "unit": tf.gather(tf.constant([model.units[name] for name in names]), index),
        }

    return tf.function(factors).get_concrete_function(
        factor=tf.TensorSpec([None], tf.string, "factor")
    )
