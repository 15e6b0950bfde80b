"""Whatever signatures are asked for, they answer it or say what is wrong."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from dcign_tf.errors import DcignError
from dcign_tf.serving import refusals, signatures
from tests.serving import tiny

_NAN = np.float32(np.nan)


@pytest.fixture(scope="module")
def functions() -> dict[str, Any]:
    model = tiny.model()
    found = signatures.signatures(model)
    return found | signatures.bytes_signatures(model, found)


def _keep(count: int, **values: Any) -> dict[str, tf.Tensor]:
    given = dict.fromkeys(tiny.FACTORS, np.full(count, _NAN)) | values
    return {factor: tf.constant(value, tf.float32) for factor, value in given.items()}


def _images(count: int) -> tf.Tensor:
    return tf.constant(tiny.images(count))


def _refusal(function: Callable[..., Any], **inputs: Any) -> str:
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        function(**inputs)
    return refusals.reason(str(raised.value))


@pytest.mark.parametrize("name", ["encode", "reconstruct", "rerender"])
def test_images_that_are_none(functions: dict[str, Any], name: str) -> None:
    function, count = functions[name], 3
    given = _keep(count) if name == "rerender" else {}

    def told(images: Any) -> str:
        return _refusal(function, images=tf.constant(images, tf.float32), **given)

    images = tiny.images(count)
    assert told(images[:, :37]) == "images: got shape [3, 37, 38, 1]; must be [N, 38, 38, 1]"
    assert told(images[..., 0]) == "images: got shape [3, 38, 38]; must be [N, 38, 38, 1]"
    assert told(0.5) == "images: got shape []; must be [N, 38, 38, 1]"
    assert told(images[:0]) == "images: got 0; must be 1 to 128 at a time"
    many = np.zeros([signatures.MAX_IMAGES + 1, 38, 38, 1])
    assert told(many) == "images: got 129; must be 1 to 128 at a time"
    assert told(images * 2 - 0.5).startswith("images: got pixels from -0.")
    for odd in (np.nan, np.inf, -np.inf):
        spoiled = images.copy()
        spoiled[1, 2, 3] = odd
        assert told(spoiled) == "images: some pixels are not finite; all must be between 0 and 1"


@pytest.mark.parametrize("name", ["rerender", "edit", "rerender_bytes"])
def test_values_that_no_factor_has(functions: dict[str, Any], name: str) -> None:
    png = tf.io.encode_png(tf.zeros([2, 38, 38, 1], tf.uint8))
    subject = {"images": _images(2), "codes": tf.zeros([2, 8]), "image_bytes": png}
    taken = {"rerender": "images", "edit": "codes", "rerender_bytes": "image_bytes"}[name]
    function = functions[name]

    def told(**values: Any) -> str:
        return _refusal(function, **{taken: subject[taken]}, **_keep(2, **values))

    right = "or NaN, which keeps what the image shows"
    assert told(elevation=[5, 30]) == (
        f"elevation: got 30; must be between -25 and 25 degrees, {right}"
    )
    assert told(azimuth=[-np.inf, 0]).startswith("azimuth: got -inf; must be between -90 and 90")
    assert told(azimuth=[1, 2, 3]) == "azimuth: got shape [3]; must be [2], as images"
    assert told(light_azimuth=[1]) == "light_azimuth: got shape [1]; must be [2], as images"
    assert told(light_azimuth=[[1, 2]]) == "light_azimuth: got shape [1, 2]; must be [2], as images"
    # A little beyond the ends is the ends.
    function(**{taken: subject[taken]}, **_keep(2, elevation=[25.9, -25.9]))


@pytest.mark.parametrize("name", ["decode", "decode_bytes", "edit"])
def test_codes_that_are_none(functions: dict[str, Any], name: str) -> None:
    given = _keep(2) if name == "edit" else {}

    def told(codes: Any) -> str:
        return _refusal(functions[name], codes=tf.constant(codes, tf.float32), **given)

    assert told(np.zeros([2, 7])) == "codes: got shape [2, 7]; must be [N, 8]"
    assert told(np.zeros([0, 8])) == "codes: got 0; must be 1 to 128 at a time"
    for odd in (np.nan, np.inf, 2e6):
        assert "not finite, or beyond 1e+06" in told(np.full([2, 8], odd))


def test_pictures_that_are_none(functions: dict[str, Any]) -> None:
    def told(files: Any) -> str:
        return _refusal(functions["encode_bytes"], image_bytes=tf.constant(files, tf.string))

    assert told(b"x") == "image_bytes: got shape []; must be [N]"
    assert told([]) == "image_bytes: got 0; must be 1 to 128 at a time"
    assert told([b"x"] * 129) == "image_bytes: got 129; must be 1 to 128 at a time"
    assert told([b"x"]) == "image_bytes[0]: not a PNG, JPEG, GIF or BMP image"


def test_pictures_are_what_images_are(functions: dict[str, Any]) -> None:
    pixels = np.rint(255 * tiny.images(3)).astype(np.uint8)
    files = []
    for picture in pixels[..., 0]:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        files.append(buffer.getvalue())
    contents, images = tf.constant(files), tf.constant(pixels.astype(np.float32) / 255)
    values = _keep(3, azimuth=[10, _NAN, -60], light_azimuth=[0, 5, _NAN])

    def decoded(found: Any) -> np.ndarray:
        return np.stack([tf.io.decode_png(file).numpy() for file in found["image_bytes"]]) / 255

    pairs = (("rerender", values), ("reconstruct", {}))
    for name, given in pairs:
        expected = functions[name](images=images, **given)["images"]
        found = decoded(functions[f"{name}_bytes"](image_bytes=contents, **given))
        np.testing.assert_allclose(found, expected, atol=0.5 / 255 + 1e-5)
    expected = functions["encode"](images=images)
    for key, value in functions["encode_bytes"](image_bytes=contents).items():
        np.testing.assert_allclose(value, expected[key], atol=1e-3, err_msg=key)
    codes = expected["mean"]
    found = decoded(functions["decode_bytes"](codes=codes))
    np.testing.assert_allclose(found, functions["decode"](codes=codes)["images"], atol=0.6 / 255)
    edited = functions["edit"](codes=codes, **values)["codes"]
    expected = functions["rerender"](images=images, **values)["images"]
    np.testing.assert_allclose(functions["decode"](codes=edited)["images"], expected, atol=1e-5)


def test_other_factors_and_units() -> None:
    model = tiny.uncalibrated_model({"spin": 1, "size": 1, "intrinsic": 2})
    rng = np.random.default_rng(0)
    truth = {"spin": rng.uniform(0, 330, 80), "size": rng.uniform(1, 2, 80)}
    model.units["size"] = "m"
    model.calibrate(tiny.images(80), truth)
    functions = signatures.signatures(model)
    assert {"spin", "size"} < set(functions["encode"](images=_images(1)))
    told = _refusal(functions["edit"], codes=tf.zeros([1, 4]), spin=[0.0], size=[9.0])
    assert told.startswith("size: got 9; must be between 1.0")
    assert " m, or NaN" in told


def test_a_factor_named_like_a_tensor() -> None:
    model = tiny.uncalibrated_model({"images": 1, "intrinsic": 2})
    model.calibrate(tiny.images(70), {"images": np.linspace(0, 1, 70)})
    with pytest.raises(DcignError, match="a factor of this model is named images"):
        signatures.signatures(model)
