"""Refusals inside of a graph: what is wrong with an input is told by whoever runs the graph, Python or not."""

import re
from collections.abc import Callable, Sequence

import tensorflow as tf

Check = tuple[Callable[[], tf.Tensor], Callable[[], Sequence[str | tf.Tensor]]]


def require(holds: tf.Tensor, *checks: Check) -> tf.Tensor:
    """Fails with the first complaint that applies, unless `holds`.

    Where all is well this costs one comparison: the complaints are looked into only when something is wrong.

    Args:
        holds: whether all is well; bool [].
        *checks: for each possible complaint two functions: whether all is well in this respect, bool [], and the
            complaint's words, texts and numbers.

    Returns:
        A tensor for `after`.
    """

    def complain() -> tf.Tensor:
        for fine, words in checks:
            text = tf.strings.join([_text(word) for word in words()])
            # Not tf.debugging.Assert, which would compute all complaints first.
            tf.raw_ops.Assert(condition=fine(), data=[text])
        return tf.constant(False)

    return tf.cond(holds, lambda: tf.constant(True), complain)


def after(checked: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """`value`, once the check is through: without this, it would be worked on meanwhile."""
    with tf.control_dependencies([checked]):
        return tf.identity(value)


def reason(message: str) -> str:
    """What was refused, in `require`'s words if they are somewhere in TensorFlow's."""
    found = re.search(r"assertion failed: \[(.*)\]", message)
    return found[1] if found else message.strip().splitlines()[0]


def _text(word: str | tf.Tensor) -> tf.Tensor:
    word = tf.convert_to_tensor(word)
    if word.dtype == tf.string:
        return word
    text = tf.strings.as_string(word, shortest=word.dtype.is_floating)
    if word.shape.rank == 0:
        return text
    return tf.strings.join(["[", tf.strings.reduce_join(text, separator=", "), "]"])
