"""The files in examples/serving, and the requests in docs/serving.md, are what those who read them expect."""

import base64
import importlib
import json
import pathlib
import re
import subprocess
from typing import Any

import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from dcign_tf.serving import signatures
from tests.serving import tiny

_ROOT = pathlib.Path(__file__).parents[2]
_EXAMPLES = _ROOT / "examples" / "serving"
_DOCUMENT = (_ROOT / "docs" / "serving.md").read_text("utf-8")


def _batching_parameters() -> Any:
    """An empty BatchingParameters.

    tensorflow-serving-api has no module of it. The fields are those of session_bundle_config.proto of TensorFlow
    Serving: https://github.com/tensorflow/serving.
    """
    numbers = (
        "max_batch_size",
        "batch_timeout_micros",
        "max_enqueued_batches",
        "num_batch_threads",
    )
    kinds = dict.fromkeys(numbers, ".google.protobuf.Int64Value")
    kinds["thread_pool_name"] = ".google.protobuf.StringValue"
    file = descriptor_pb2.FileDescriptorProto(
        name="batching.proto", syntax="proto3", dependency=["google/protobuf/wrappers.proto"]
    )
    message = file.message_type.add(name="BatchingParameters")
    for number, (name, kind) in enumerate(kinds.items(), 1):
        message.field.add(name=name, number=number, type=11, label=1, type_name=kind)
    pool = descriptor_pool.Default()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("BatchingParameters"))()


def test_models_config() -> None:
    model_server_config_pb2 = importlib.import_module(
        "tensorflow_serving.config.model_server_config_pb2"
    )
    text = (_EXAMPLES / "models.config").read_text("utf-8")
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (
        "faces",
        "/models/faces",
        "tensorflow",
    )
    served = set(model.model_version_policy.specific.versions)
    assert dict(model.version_labels).keys() == {"stable", "canary"}
    assert set(model.version_labels.values()) <= served


def test_batching_parameters() -> None:
    text = (_EXAMPLES / "batching.config").read_text("utf-8")
    found = text_format.Parse(text, _batching_parameters())
    assert 1 < found.max_batch_size.value <= signatures.MAX_IMAGES
    assert found.batch_timeout_micros.value > 0
    assert found.num_batch_threads.value > 0
    assert found.max_enqueued_batches.value > 0


def test_compose_file() -> None:
    yaml = importlib.import_module("yaml")
    compose = yaml.safe_load((_EXAMPLES / "compose.yaml").read_text("utf-8"))
    assert set(compose) == {"services"}
    assert set(compose["services"]) == {"serving", "tensorboard", "viewer"}
    for name, service in compose["services"].items():
        known = {
            "image",
            "build",
            "command",
            "volumes",
            "ports",
            "restart",
            "mem_limit",
        }
        assert set(service) <= known, name
        assert ("image" in service) != ("build" in service), name
        for port in service["ports"]:
            assert re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port), "reached from this machine only"
        for volume in service["volumes"]:
            source, _, mode = volume.split(":")
            assert mode == "ro"
            assert (_EXAMPLES / source).resolve().relative_to(_ROOT).parts[:1] in (
                ("saved_models",),
                ("runs",),
                ("examples",),
            )
    serving = compose["services"]["serving"]
    flags = dict(flag.removeprefix("--").split("=") for flag in serving["command"])
    assert pathlib.PurePath(flags["model_config_file"]).name == "models.config"
    assert "viewer" in compose["services"]
    viewer = compose["services"]["viewer"]["command"]
    assert viewer == "dcign-view --model=/models/faces --host=0.0.0.0 --port=8150"


def _json_blocks() -> list[Any]:
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", _DOCUMENT, re.DOTALL)]


def test_requests_of_the_document_are_answered() -> None:
    """Each JSON is answered as TensorFlow Serving's REST interface prescribes, and so is what curl sends."""
    loaded = tf.saved_model.load(str(tiny.exported()))
    side = tiny.SIZE
    png = tf.io.encode_png(tf.zeros([side, side, 1], tf.uint8)).numpy()
    picture = base64.b64encode(png).decode()
    asked = []
    for request in _json_blocks():
        name = request.get("signature_name", "serving_default")
        rows = request["instances"] if "instances" in request else [request["inputs"]]
        columns: dict[str, list[Any]] = {}
        for row in rows:
            for key, value in row.items():
                if "inputs" not in request:
                    columns.setdefault(key, []).append(value)
                else:
                    columns[key] = value
        inputs = {}
        for key, values in columns.items():
            if key == "image_bytes":
                assert all(set(value) == {"b64"} for value in values)
                inputs[key] = tf.constant([base64.b64decode(picture) for _ in values])
            elif key == "codes":
                assert values == [["..."]]
                inputs[key] = tf.zeros([1, 8])
            else:
                inputs[key] = tf.constant(values, tf.float32)
        assert loaded.signatures[name](**inputs)
        asked.append(name)
    assert {"rerender_bytes", "encode_bytes", "decode"} <= set(asked)


def test_what_curl_sends_is_what_the_document_shows(tmp_path: pathlib.Path) -> None:
    (line,) = re.findall(r"^    (printf .*?) \|$", _DOCUMENT, re.MULTILINE)
    (tmp_path / "face.jpg").write_bytes(b"\xff\xd8" + 100 * b"face")
    ran = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, check=True)
    sent, shown = json.loads(ran.stdout), _json_blocks()[0]
    content = sent["instances"][0]["image_bytes"].pop("b64")
    assert base64.b64decode(content) == (tmp_path / "face.jpg").read_bytes()
    assert shown["instances"][0]["image_bytes"].pop("b64") == "<base64 of face.jpg>"
    assert sent == shown


def test_the_document_names_what_there_is() -> None:
    loaded = tf.saved_model.load(str(tiny.exported()))
    table = _DOCUMENT.partition("## Signatures")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|$", table, re.MULTILINE))
    assert set(rows) == set(loaded.signatures)
    for name, row in rows.items():
        function = loaded.signatures[name]
        taken, _, given = row.partition(" | ")
        inputs = {spec.name for spec in tf.nest.flatten(function.structured_input_signature)}
        outputs = set(function.structured_outputs)
        for part, tensors in ((taken, inputs), (given, outputs)):
            expected = (tensors - set(tiny.FACTORS)) | (
                {"factor"} if "azimuth" in tensors else set()
            )
            assert set(re.findall(r"`<?(\w+)>?`", part)) == expected, name
    for number in (signatures.MAX_IMAGES, 16_777_216, 33_554_432):
        assert f"{number:,}" in _DOCUMENT
