"""Requests that TensorFlow Serving answers to itself while it loads a model, so that nobody waits for the first one.

Format: TFRecords of PredictionLog, in `assets.extra/tf_serving_warmup_requests`
(https://www.tensorflow.org/tfx/serving/saved_model_warmup).
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

FILE = pathlib.PurePath("assets.extra", "tf_serving_warmup_requests")


def available() -> bool:
    """Whether the package that defines the format, tensorflow-serving-api, is installed."""
    try:
        import tensorflow_serving.apis  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def write(folder: pathlib.Path, name: str, functions: Mapping[str, Any]) -> None:
    """Writes a request for one image to each signature.

    Args:
        folder: the SavedModel.
        name: the model's.
        functions: its signatures, concrete functions.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    (folder / FILE).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / FILE)) as file:
        for signature, function in functions.items():
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            for spec in tf.nest.flatten(function.structured_input_signature):
                request.inputs[spec.name].CopyFrom(_example(spec, functions))
            file.write(log.SerializeToString())


def _example(spec: tf.TensorSpec, functions: Mapping[str, Any]) -> Any:
    """One image, code, picture, value or name of a factor, that every model takes."""
    if spec.name == "factor":
        factors = {*functions["encode"].structured_outputs} - {"mean", "log_variance"}
        return tf.make_tensor_proto(sorted(factors)[:1])
    if spec.dtype == tf.string:
        side = functions["decode"].structured_outputs["images"].shape[1]
        return tf.make_tensor_proto([tf.io.encode_png(tf.zeros([side, side, 1], tf.uint8)).numpy()])
    # An image without light, a code without features, a factor that stays.
    value = float("nan") if spec.shape.rank == 1 else 0.0
    # Of a tensor's message that gives fewer values than it has, the last one stands for the rest: no megabyte of zeros.
    return tf.make_tensor_proto([value], spec.dtype, [1, *spec.shape[1:]])
