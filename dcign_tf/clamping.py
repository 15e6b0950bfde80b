"""The clamp: the paper's training procedure, as one function with a gradient of its own.

In a mini-batch only one factor varies. Forward, every latent that does not belong to that factor is replaced by
its mean over the mini-batch; backward, it gets its distance from that mean instead of the gradient of the
objective (sections 3.1 and 3.2, Figure 3).
"""

from typing import Any

import tensorflow as tf

REFERENCES = ("mean", "first", "another")
GRADIENTS = ("replace", "add")
INVARIANCES = ("absolute", "relative")

# Added to the variance that the relative signal is divided by: latents that hardly vary, compared with the prior's
# standard deviation of 1, must not get a huge one. All are like that when training starts.
_LEAST_VARIANCE = 0.01


def clamp(
    latents: Any,
    active_latents: Any,
    invariance_strength: Any,
    reference: str = "mean",
    gradient: str = "replace",
    invariance: str = "absolute",
    shift: Any = 1,
) -> tf.Tensor:
    """Clamps the inactive latents of groups of images.

    Forward, with z_gi the latent of image i in group g and r_g its group's reference, inactive latents become r_g.
    Backward, they get s (z_gi - r_g), the invariance signal of strength s. For a reference that is the mean it is the
    gradient of the penalty

        s / 2 * sum of (z_gi - r_g)^2 over the images of those groups in which the latent is inactive.

    The paper's signal is linear in the latent, so a smaller latent is pulled less: it shrinks latents, but what little
    is left of them still tells the same. Hence `invariance="relative"`, which divides the penalty by V, the latent's
    variance over all images, and which multiplying a latent by a number does not change. Its gradient is

        s (z_gi - r_g) / V  at inactive latents, less  s W / (N V^2) (z_gi - z)  at all latents,

    with z the mean over all N images and W the sum above: inactive latents are pulled together, and all of the latent
    apart. To V 0.01 is added. With a single group W / V is constant and there is no signal, so it needs two or more.

    `gradient="add"` gives inactive latents the gradient that the objective has through their reference, besides the
    signal: the group's mean then learns to say what the images have in common, as in GVAE (`procedures.average`).

    Example:
        >>> z = tf.constant([[[1.0, 5.0], [3.0, 7.0]]])  # one group of two images, two latents
        >>> clamp(z, [[True, False]], 0.01).numpy().tolist()
        [[[1.0, 6.0], [3.0, 6.0]]]

    Args:
        latents: float [G, B, L]: G groups (mini-batches) of B images; an output of the encoder.
        active_latents: bool [G, L]: which latents belong to the factor that varies in each group.
        invariance_strength: what the invariance signal is multiplied by; the paper's 1/100 goes with an
            objective that is summed, not averaged, over the group.
        reference: what inactive latents become: "mean", the group's mean (the paper's text, step 4), "first", those
            of the group's first image (the authors' code), or "another", for each image those of another one.
        gradient: what inactive latents get of the upstream gradient: nothing ("replace", section 3.2), or what reaches
            them through the reference ("add").
        invariance: the signal: "absolute" (section 3.2) or "relative", see above.
        shift: of the reference "another": how many places before an image the other one is, 1 to B - 1, around the end.

    Returns:
        float [G, B, L]: active latents unchanged, inactive ones equal to their reference. Their gradient is the
        upstream gradient at active latents and, by default, (latents - reference) * invariance_strength, whatever the
        upstream gradient, at inactive ones. No gradient reaches the other arguments.

    Raises:
        ValueError: `reference`, `gradient` or `invariance` is unknown.
    """
    for name, value, choices in (
        ("reference", reference, REFERENCES),
        ("gradient", gradient, GRADIENTS),
        ("invariance", invariance, INVARIANCES),
    ):
        if value not in choices:
            raise ValueError(f"{name}: got {value!r}, must be one of {', '.join(choices)}")
    latents = tf.convert_to_tensor(latents)
    active = tf.convert_to_tensor(active_latents, tf.bool)[:, tf.newaxis, :]
    strength = tf.convert_to_tensor(invariance_strength, dtype_hint=latents.dtype)
    strength = tf.stop_gradient(tf.cast(strength, latents.dtype))

    @tf.custom_gradient
    def apply(z: tf.Tensor) -> tuple[tf.Tensor, Any]:
        if reference == "mean":
            anchor = tf.reduce_mean(z, axis=1, keepdims=True)
        else:
            anchor = z[:, :1] if reference == "first" else tf.roll(z, shift, axis=1)

        def backward(upstream: tf.Tensor) -> tf.Tensor:
            signal = tf.where(active, tf.zeros([], z.dtype), z - anchor)
            if invariance == "relative":
                signal = _relative(z, signal)
            return tf.where(active, upstream, passed(upstream)) + signal * strength

        def passed(upstream: tf.Tensor) -> tf.Tensor:
            """What inactive latents get of the objective's gradient."""
            if gradient == "replace":
                return tf.zeros([], upstream.dtype)
            if reference == "mean":
                return tf.reduce_mean(upstream, axis=1, keepdims=True)
            if reference == "another":
                return tf.roll(upstream, -shift, axis=1)
            first = tf.reduce_sum(upstream, axis=1, keepdims=True)
            return tf.concat([first, tf.zeros_like(upstream[:, 1:])], axis=1)

        return tf.where(active, z, anchor), backward

    return apply(latents)


def _relative(z: tf.Tensor, distance: tf.Tensor) -> tf.Tensor:
    """The signal that does not depend on a latent's scale, of strength 1; [G, B, L].

    Args:
        z: the latents.
        distance: from their reference, 0 at active ones; [G, B, L].
    """
    spread = z - tf.reduce_mean(z, axis=[0, 1], keepdims=True)
    variance = tf.reduce_mean(tf.square(spread), axis=[0, 1], keepdims=True) + _LEAST_VARIANCE
    # W / N of `clamp`'s formula.
    within = tf.reduce_sum(tf.square(distance), axis=[0, 1], keepdims=True)
    within /= tf.cast(tf.shape(z)[0] * tf.shape(z)[1], z.dtype)
    return (distance - spread * within / variance) / variance
