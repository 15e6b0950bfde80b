"""The requests beside an exported model are TensorFlow Serving's own messages, and the model answers them."""

import importlib
import sys

import pytest
import tensorflow as tf

from dcign_tf.serving import warmup
from tests.serving import tiny

prediction_log_pb2 = importlib.import_module("tensorflow_serving.apis.prediction_log_pb2")


def test_every_signature_is_warmed_up() -> None:
    folder = tiny.exported()
    loaded = tf.saved_model.load(str(folder))
    assert str(warmup.FILE) == "assets.extra/tf_serving_warmup_requests"
    warmed = []
    for record in tf.data.TFRecordDataset(str(folder / warmup.FILE)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.name == "faces"
        function = loaded.signatures[request.model_spec.signature_name]
        inputs = {key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
        assert set(inputs) == set(function.structured_input_signature[1])
        assert all(len(value) == 1 for value in function(**inputs).values())
        warmed.append(request.model_spec.signature_name)
    assert sorted(warmed) == sorted(loaded.signatures)
    assert (folder / warmup.FILE).stat().st_size < 8192


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    assert warmup.available()
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    assert not warmup.available()
