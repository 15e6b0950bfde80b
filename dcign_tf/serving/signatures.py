"""What a trained model does for those who ask it from outside: functions of tensors that check what they are given.

All of it is TensorFlow operations, so that it works where neither this package nor Python is.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from dcign_tf.errors import DcignError
from dcign_tf.model import DCIGN
from dcign_tf.serving import pictures
from dcign_tf.serving.refusals import after, require
from dcign_tf.serving.rerender import TOLERANCE

UNCALIBRATED = (
    "this model was not calibrated, so it knows no values of factors: finish its training "
    "(dcign-train calibrates at the end)"
)
MAX_IMAGES = 128
MAX_LATENT = 1e6  # Latents are about as large as normal numbers; far beyond, float32 ends.

# Inputs and outputs that are not named after a factor.
_NAMES = {"images", "image_bytes", "codes", "mean", "log_variance"}

Function = Callable[..., Mapping[str, tf.Tensor]]


def signatures(model: DCIGN) -> dict[str, Any]:
    """The model's functions of images and codes, for 1 to `MAX_IMAGES` of them at a time.

    Each takes and gives tensors by name: S is the side of the images, which are float32 in [0, 1], L the length
    of the code, and there is one name for each extrinsic factor, such as azimuth, in its unit.

        rerender      images [N, S, S, 1], <factor> [N] (NaN keeps it) -> images [N, S, S, 1]
        encode        images [N, S, S, 1] -> mean [N, L], log_variance [N, L], <factor> [N]
        edit          codes [N, L], <factor> [N] (NaN keeps it) -> codes [N, L]
        decode        codes [N, L] -> images [N, S, S, 1]
        reconstruct   images [N, S, S, 1] -> images [N, S, S, 1]

    What they refuse, they refuse with a message (`tf.errors.InvalidArgumentError`): other shapes, no images or too
    many, pixels that are not finite or outside of [0, 1], values outside of the factor's range by more than
    `rerender.TOLERANCE` of it, latents that are not finite or beyond `MAX_LATENT`.

    Args:
        model: calibrated; it must outlive the functions.

    Returns:
        Concrete functions.

    Raises:
        DcignError: the model was not calibrated, or has a factor whose name is one of the names above.
    """
    _check(model)
    side, latents = model.image_size, model.layout.latents
    limits = _limits(model)

    def rerender(images: tf.Tensor, **values: tf.Tensor) -> Mapping[str, tf.Tensor]:
        images = _checked_images(images, side)
        return unchecked["rerender"](images, **_checked_values(values, limits, tf.shape(images)[0]))

    def encode(images: tf.Tensor) -> Mapping[str, tf.Tensor]:
        encoded = unchecked["encode"](_checked_images(images, side))
        return {**encoded, **unchecked["infer"](encoded["mean"])}

    def edit(codes: tf.Tensor, **values: tf.Tensor) -> Mapping[str, tf.Tensor]:
        codes = _checked_codes(codes, latents)
        return unchecked["edit"](codes, **_checked_values(values, limits, tf.shape(codes)[0]))

    def decode(codes: tf.Tensor) -> Mapping[str, tf.Tensor]:
        return unchecked["decode"](_checked_codes(codes, latents))

    def reconstruct(images: tf.Tensor) -> Mapping[str, tf.Tensor]:
        return unchecked["reconstruct"](_checked_images(images, side))

    unchecked = unchecked_functions(model)
    return {
        function.__name__: concrete(function, model)
        for function in (rerender, encode, edit, decode, reconstruct)
    }


def bytes_signatures(model: DCIGN, functions: Mapping[str, Function]) -> dict[str, Any]:
    """The same for pictures as the bytes of their files, which `pictures.read` and `pictures.write` describe.

        rerender_bytes      image_bytes [N], <factor> [N] (NaN keeps it) -> image_bytes [N]
        encode_bytes        image_bytes [N] -> mean [N, L], log_variance [N, L], <factor> [N]
        decode_bytes        codes [N, L] -> image_bytes [N]
        reconstruct_bytes   image_bytes [N] -> image_bytes [N]

    TensorFlow Serving's REST interface takes what is named `..._bytes` as {"b64": "<base64>"}, and gives it so.

    Args:
        model: calibrated.
        functions: its `signatures`.

    Returns:
        Concrete functions.
    """
    limits = _limits(model)
    # Traced once, for it is large.
    spec = tf.TensorSpec([None], tf.string)
    read = tf.function(pictures.read, autograph=False).get_concrete_function(spec, model.image_size)

    def rerender_bytes(image_bytes: tf.Tensor, **values: tf.Tensor) -> dict[str, tf.Tensor]:
        contents = _checked_shape("image_bytes", image_bytes, [])
        # Before pictures are decoded, which can take long.
        values = _checked_values(values, limits, tf.shape(contents)[0])
        return written(functions["rerender"](images=read(contents), **values))

    def encode_bytes(image_bytes: tf.Tensor) -> Mapping[str, tf.Tensor]:
        contents = _checked_shape("image_bytes", image_bytes, [])
        return functions["encode"](images=read(contents))

    def decode_bytes(codes: tf.Tensor) -> dict[str, tf.Tensor]:
        return written(functions["decode"](codes=_checked_codes(codes, model.layout.latents)))

    def reconstruct_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        contents = _checked_shape("image_bytes", image_bytes, [])
        return written(functions["reconstruct"](images=read(contents)))

    def written(found: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {"image_bytes": pictures.write(found["images"])}

    return {
        function.__name__: concrete(function, model)
        for function in (rerender_bytes, encode_bytes, decode_bytes, reconstruct_bytes)
    }


def unchecked_functions(model: DCIGN) -> dict[str, Function]:
    """What `signatures` does behind its checks, as Python functions.

    encode gives mean and log_variance only; infer, codes [N, L] -> <factor> [N], the rest.
    """

    def rerender(images: tf.Tensor, **values: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"images": _single(model.rerender(images, **values))}

    def encode(images: tf.Tensor) -> dict[str, tf.Tensor]:
        mean, log_variance = model.encode(images)
        return {"mean": _single(mean), "log_variance": _single(log_variance)}

    def infer(codes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {factor: _single(v) for factor, v in model.infer_from_codes(codes).items()}

    def edit(codes: tf.Tensor, **values: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"codes": _single(model.edit(codes, **values))}

    def decode(codes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"images": _single(model.decode(codes))}

    def reconstruct(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"images": _single(model(images))}

    functions = (rerender, encode, infer, edit, decode, reconstruct)
    return {function.__name__: function for function in functions}


def concrete(function: Function, model: DCIGN) -> Any:
    """Traces a function of tensors that are named as in `signatures`, for any number of them.

    Args:
        function: its keyword arguments, if it takes any, are the factors.
        model: says how large the tensors are, and which factors there are.

    Returns:
        The concrete function.
    """
    side, latents = model.image_size, model.layout.latents
    specs = {
        "images": tf.TensorSpec([None, side, side, 1], tf.float32, "images"),
        "image_bytes": tf.TensorSpec([None], tf.string, "image_bytes"),
        "codes": tf.TensorSpec([None, latents], tf.float32, "codes"),
    }
    parameters = inspect.signature(function).parameters
    inputs = {name: specs[name] for name in parameters if name in specs}
    if len(inputs) < len(parameters):
        inputs |= {f: tf.TensorSpec([None], tf.float32, f) for f in model.layout.extrinsic}
    return tf.function(function, autograph=False).get_concrete_function(**inputs)


def _checked_images(images: tf.Tensor, side: int) -> tf.Tensor:
    images = _checked_shape("images", images, [side, side, 1])
    # What is not a number is not inside either.
    inside = tf.reduce_all((images >= 0) & (images <= 1))
    checked = require(
        inside,
        (
            lambda: tf.reduce_all(tf.math.is_finite(images)),
            lambda: ["images: some pixels are not finite; all must be between 0 and 1"],
        ),
        (
            lambda: inside,
            lambda: [
                "images: got pixels from ",
                *[tf.reduce_min(images), " to ", tf.reduce_max(images)],
                "; all must be between 0 and 1",
            ],
        ),
    )
    return after(checked, images)


def _checked_codes(codes: tf.Tensor, latents: int) -> tf.Tensor:
    codes = _checked_shape("codes", codes, [latents])
    inside = tf.reduce_all(tf.abs(codes) <= MAX_LATENT)
    complaint = f"codes: some latents are not finite, or beyond {MAX_LATENT:g}, as no code is"
    return after(require(inside, (lambda: inside, lambda: [complaint])), codes)


def _check(model: DCIGN) -> None:
    if not model.calibrated:
        raise DcignError(UNCALIBRATED)
    taken = _NAMES & set(model.layout.extrinsic)
    if taken:
        raise DcignError(f"a factor of this model is named {taken.pop()}, as an input or output is")


class _Limits(NamedTuple):
    """What a factor's values must lie between, and how to say so."""

    low: float
    high: float
    words: str


def _limits(model: DCIGN) -> dict[str, _Limits]:
    """For each extrinsic factor; not to be called while tracing, when the model's weights have no values."""
    limits = {}
    for factor, (low, high) in model.factor_ranges.items():
        slack = TOLERANCE * (high - low)
        words = f"{low:.4g} and {high:.4g} {model.units[factor]}".strip()
        limits[factor] = _Limits(low - slack, high + slack, words)
    return limits


def _checked_values(
    values: Mapping[str, tf.Tensor], limits: Mapping[str, _Limits], count: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Checks that there is a value of each factor for each of `count` images, NaN or inside of its range."""
    return {f: _checked_value(f, value, limits[f], count) for f, value in values.items()}


def _checked_value(factor: str, value: tf.Tensor, limits: _Limits, count: tf.Tensor) -> tf.Tensor:
    value = _of_any_shape(value)
    inside = (value >= limits.low) & (value <= limits.high)
    fits = tf.reshape(tf.math.is_nan(value) | inside, [-1])
    of_shape = _equal(tf.shape(value), tf.expand_dims(count, 0))
    checked = require(
        of_shape & tf.reduce_all(fits),
        (
            lambda: of_shape,
            lambda: [
                f"{factor}: got shape ",
                tf.shape(value),
                "; must be [",
                count,
                "], as images",
            ],
        ),
        (
            lambda: tf.reduce_all(fits),
            lambda: [
                f"{factor}: got ",
                tf.reshape(value, [-1])[tf.argmin(tf.cast(fits, tf.int32))],
                f"; must be between {limits.words}, or NaN, which keeps what the image shows",
            ],
        ),
    )
    return tf.ensure_shape(after(checked, value), [None])


def _checked_shape(name: str, given: tf.Tensor, rest: list[int]) -> tf.Tensor:
    """Checks that a shape is [N, *rest] with N from 1 to `MAX_IMAGES`."""
    free = _of_any_shape(given)
    shape = tf.shape(free)
    count = tf.reduce_prod(shape[:1])
    fits = _equal(shape[1:], tf.constant(rest, tf.int32)) & _equal(tf.shape(shape), [1 + len(rest)])
    some = (count >= 1) & (count <= MAX_IMAGES)
    wanted = ", ".join(["N", *map(str, rest)])
    checked = require(
        fits & some,
        (lambda: fits, lambda: [f"{name}: got shape ", shape, f"; must be [{wanted}]"]),
        (lambda: some, lambda: [f"{name}: got ", count, f"; must be 1 to {MAX_IMAGES} at a time"]),
    )
    return tf.ensure_shape(after(checked, free), [None, *rest])


def _of_any_shape(given: tf.Tensor) -> tf.Tensor:
    """The same tensor, whose shape is known only when it is there.

    TensorFlow Serving does not compare what it gets with the signature's shape, but optimizes the graph as if it had:
    it would take checks of the shape away.
    """
    return tf.raw_ops.PlaceholderWithDefault(input=given, shape=None)


def _equal(shape: tf.Tensor, wanted: Any) -> tf.Tensor:
    """Whether two vectors are equal, also in length."""
    same = tf.raw_ops.Equal(x=shape, y=wanted, incompatible_shape_error=False)
    return tf.reduce_all(same) & tf.equal(tf.size(shape), tf.size(wanted))


def _single(values: tf.Tensor) -> tf.Tensor:
    """What leaves the model is float32, whatever precision it works in."""
    return tf.cast(values, tf.float32)
