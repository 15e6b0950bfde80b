"""What the parts on the exported model, the input pipeline and growth time is what they say."""

import io
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from dcign_tf.benchmarks import pipeline, scaling, serving
from dcign_tf.benchmarks.workers import Spread
from dcign_tf.datasets import rendering
from dcign_tf.datasets.scenes import FACTORS
from tests.datasets import tiny

_NETWORK: dict[str, Any] = {
    "image_size": 38,
    "encoder_filters": (3, 2, 5),
    "decoder_filters": (4, 2, 3),
    "latents": 6,
}


def test_the_exported_model_and_its_plain_twin_answer_alike() -> None:
    ours, plain = serving.exported(_NETWORK), serving.plain(_NETWORK)
    for verb, shape in {
        "encode": (5, 6),
        "decode": (5, 38, 38, 1),
        "rerender": (5, 38, 38, 1),
    }.items():
        answer, expected = ours(verb, 5), plain(verb, 5)
        assert expected.keys() <= answer.keys()
        for key, value in expected.items():
            assert value.shape == shape and np.ptp(value) > 0
            np.testing.assert_allclose(answer[key], value, rtol=1e-4, atol=1e-5)


def test_a_step_on_records_reads_and_one_in_memory_does_not(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "dataset"
    rendering.render_dataset(
        tiny.config(tmp_path, image_size=38),
        folder,
        {"train": dict.fromkeys(FACTORS, 2)},
        processes=1,
    )
    steps = pipeline.steps(_NETWORK, str(folder))
    for what in (pipeline.CACHED, pipeline.RECORDS, pipeline.ALONE):
        steps(what)
    for file in folder.rglob("*.tfrecord"):
        file.write_bytes(b"")
    steps(pipeline.CACHED)
    failed = 0
    for _ in range(20):  # Some groups were read ahead.
        try:
            steps(pipeline.RECORDS)
        except Exception:
            failed += 1
    assert failed


def test_the_plot_is_as_wide_as_it_has_axes() -> None:
    curves = {
        "batch": {5: Spread(0.1, 0.09, 0.12, 0.09), 20: Spread(0.3, 0.29, 0.33, 0.28)},
        "image_size": {54: Spread(0.1, 0.1, 0.1, 0.1), 150: Spread(1.0, 0.9, 1.1, 0.9)},
    }
    wide = Image.open(io.BytesIO(scaling.plot(curves)))
    narrow = Image.open(io.BytesIO(scaling.plot({"batch": curves["batch"]})))
    assert wide.format == "PNG" and wide.width == 2 * narrow.width == 700
    assert np.asarray(wide.convert("L")).min() < 60
