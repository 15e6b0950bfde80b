"""TensorFlow Lite files do what the model does, as exactly as their numbers allow."""

import functools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from dcign_tf.serving import lite
from tests.serving import tiny

_INTERPRETER = "ignore:.*tf.lite.Interpreter is deprecated"


@functools.cache
def _file(kind: str) -> bytes:
    return lite.convert(tiny.model(), kind, tiny.images(20, seed=1))


@pytest.mark.filterwarnings(_INTERPRETER)
@pytest.mark.parametrize(
    ("kind", "pixels", "latents"),
    [("float32", 1e-5, 1e-4), ("float16", 0.02, 0.05), ("int8", 0.4, 0.5)],
)
def test_as_the_model(kind: str, pixels: float, latents: float) -> None:
    model = tiny.model()
    interpreter = tf.lite.Interpreter(model_content=_file(kind))

    def run(name: str, **inputs: Any) -> dict[str, np.ndarray]:
        return interpreter.get_signature_runner(name)(**inputs)

    assert set(interpreter.get_signature_list()) == set(lite.SIGNATURES)
    for count in (1, 3):
        images = tiny.images(count, seed=2)
        encoded = run("encode", images=images)
        for found, expected in zip(
            (encoded["mean"], encoded["log_variance"]), model.encode(images), strict=True
        ):
            np.testing.assert_allclose(found, expected, atol=latents * np.abs(expected).max())
        codes = encoded["mean"]
        read = run("infer", codes=codes)
        # Factors keep their precision whatever the networks work in, but for curves of half precision.
        for factor, expected in model.infer_from_codes(codes).items():
            atol = 0.3 if kind == "float16" else 1e-3
            np.testing.assert_allclose(read[factor], expected, atol=atol, err_msg=factor)
        values = {
            "azimuth": np.full(count, 30, np.float32),
            "elevation": np.full(count, np.nan, np.float32),
            "light_azimuth": np.linspace(-60, 60, count, dtype=np.float32),
        }
        edited = run("edit", codes=codes, **values)["codes"]
        expected = model.edit(codes, **values)
        np.testing.assert_allclose(edited, expected, atol=0.01 if kind == "float16" else 1e-5)
        assert np.array_equal(edited[:, 1], codes[:, 1])
        rendered = run("decode", codes=edited)["images"]
        np.testing.assert_allclose(rendered, model.decode(edited), atol=pixels)


def test_smaller_numbers_make_smaller_files() -> None:
    # Of so small a network the weights are the least part.
    assert len(_file("float16")) < len(_file("float32"))


def test_compared_side_by_side() -> None:
    files = {"float32": _file("float32"), "int8": _file("int8")}
    rows = lite.compare(tiny.model(), 12345678, files, tiny.images(4, seed=3), rounds=2)
    assert [row.format for row in rows] == ["SavedModel", "float32", "int8"]
    own, exact, coarse = rows
    assert (own.size, own.difference, own.largest) == (12345678, 0, 0)
    assert exact.largest < 1e-5 < coarse.difference <= coarse.largest < 0.5
    assert max(exact.inferred.values()) < 1e-2 < max(coarse.inferred.values())
    assert all(row.milliseconds > 0 for row in rows)
    text = lite.table(rows, tiny.model().units).splitlines()
    assert len(text) == 5
    assert text[2].startswith("| SavedModel | 12.35 MB | ")
    assert text[2].endswith("azimuth 0 degrees, elevation 0 degrees, light_azimuth 0 degrees |")
