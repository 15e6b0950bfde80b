"""The clamp: the paper's training procedure, as one function with a gradient of its own.

In a mini-batch only one factor varies. Forward, every latent that does not belong to that factor is replaced by
its mean over the mini-batch; backward, it gets its distance from that mean instead of the gradient of the
objective (sections 3.1 and 3.2, Figure 3).
"""

from typing import Any

import tensorflow as tf

REFERENCES = ("mean", "first")


def clamp(
    latents: Any,
    active_latents: Any,
    invariance_strength: Any,
    reference: str = "mean",
) -> tf.Tensor:
    """Clamps the inactive latents of groups of images.

    Example:
        >>> z = tf.constant([[[1.0, 5.0], [3.0, 7.0]]])  # one group of two images, two latents
        >>> clamp(z, [[True, False]], 0.01).numpy().tolist()
        [[[1.0, 6.0], [3.0, 6.0]]]

    Args:
        latents: float [G, B, L]: G groups (mini-batches) of B images; an output of the encoder.
        active_latents: bool [G, L]: which latents belong to the factor that varies in each group.
        invariance_strength: what the invariance signal is multiplied by; the paper's 1/100 goes with an
            objective that is summed, not averaged, over the group.
        reference: what inactive latents become: "mean", the group's mean (the paper's text, step 4), or
            "first", the group's first image (the authors' code).

    Returns:
        float [G, B, L]: active latents unchanged, inactive ones equal to their reference. Their gradient is
        the upstream gradient at active latents and (latents - reference) * invariance_strength, whatever the
        upstream gradient, at inactive ones. No gradient reaches the other arguments.

    Raises:
        ValueError: `reference` is unknown.
    """
    if reference not in REFERENCES:
        raise ValueError(f"reference: got {reference!r}, must be one of {', '.join(REFERENCES)}")
    latents = tf.convert_to_tensor(latents)
    active = tf.convert_to_tensor(active_latents, tf.bool)[:, tf.newaxis, :]
    strength = tf.convert_to_tensor(invariance_strength, dtype_hint=latents.dtype)
    strength = tf.stop_gradient(tf.cast(strength, latents.dtype))

    @tf.custom_gradient
    def apply(z: tf.Tensor) -> tuple[tf.Tensor, Any]:
        anchor = tf.reduce_mean(z, axis=1, keepdims=True) if reference == "mean" else z[:, :1]

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return tf.where(active, upstream, (z - anchor) * strength)

        return tf.where(active, z, anchor), gradient

    return apply(latents)
