"""Requests as the documentation of TensorFlow Serving words them, by hand, and what the served model answers.

Against the stand-in, or against the binary: see `served`.
"""

import base64
import http.client
import io
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.serving import served


@pytest.fixture(scope="module")
def there() -> served.Served:
    return served.served()


def _ask(url: str, body: Any = None) -> tuple[int, Any]:
    """The status and the JSON of an answer; the body is a text, or becomes JSON."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(url, data, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def _predict(there: served.Served, body: Any) -> Any:
    status, answer = _ask(f"{there.rest}/v1/models/{there.name}:predict", body)
    assert status == 200, answer
    return answer


def test_status(there: served.Served) -> None:
    status, answer = _ask(f"{there.rest}/v1/models/{there.name}")
    assert status == 200
    found = {entry["version"]: entry["state"] for entry in answer["model_version_status"]}
    assert found[str(there.version)] == "AVAILABLE"
    status, answer = _ask(f"{there.rest}/v1/models/{there.name}/versions/{there.version}")
    assert [entry["version"] for entry in answer["model_version_status"]] == [str(there.version)]


def test_metadata(there: served.Served) -> None:
    status, answer = _ask(f"{there.rest}/v1/models/{there.name}/metadata")
    assert status == 200
    assert answer["model_spec"]["name"] == there.name
    assert answer["model_spec"]["version"] == str(there.version)
    definitions = answer["metadata"]["signature_def"]["signature_def"]
    images = definitions["serving_default"]["inputs"]["images"]
    side = str(there.local.image_size)
    assert [dim["size"] for dim in images["tensor_shape"]["dim"]] == ["-1", side, side, "1"]
    assert images["dtype"] == "DT_FLOAT"


def test_rows_and_columns(there: served.Served) -> None:
    images, values = there.images(3), there.kept(3)
    factor, (low, high) = next(iter(there.local.factor_ranges.items()))
    values[factor] = np.array([low, np.nan, high], np.float32)
    expected = there.call("serving_default", images=images, **values)["images"]
    columns = {"images": images.tolist(), **{f: v.tolist() for f, v in values.items()}}
    assert "NaN" in json.dumps(columns)
    turned = _predict(there, {"inputs": columns})["outputs"]
    np.testing.assert_allclose(turned, expected, atol=1e-5)
    rows = [{key: column[i] for key, column in columns.items()} for i in range(3)]
    turned = _predict(there, {"signature_name": "serving_default", "instances": rows})[
        "predictions"
    ]
    np.testing.assert_allclose(turned, expected, atol=1e-5)


def test_one_input_needs_no_name(there: served.Served) -> None:
    images = there.images(2)
    expected = there.call("reconstruct", images=images)["images"]
    for key, answer in (("instances", "predictions"), ("inputs", "outputs")):
        found = _predict(there, {"signature_name": "reconstruct", key: images.tolist()})
        np.testing.assert_allclose(found[answer], expected, atol=1e-5)


def test_several_outputs_have_names(there: served.Served) -> None:
    images = there.images(2)
    expected = there.call("encode", images=images)
    columns = _predict(there, {"signature_name": "encode", "inputs": images.tolist()})["outputs"]
    rows = _predict(there, {"signature_name": "encode", "instances": images.tolist()})
    assert {*columns} == {*expected} == {*rows["predictions"][0]}
    for name, value in expected.items():
        np.testing.assert_allclose(columns[name], value, atol=1e-3)
        np.testing.assert_allclose([row[name] for row in rows["predictions"]], value, atol=1e-3)


def test_texts(there: served.Served) -> None:
    names = list(there.local.factor_ranges)
    found = _predict(there, {"signature_name": "factors", "instances": names})["predictions"]
    assert {name: row["unit"] for name, row in zip(names, found, strict=True)} == there.local.units
    encoded = [{"b64": "YXppbXV0aA=="}]  # azimuth
    if "azimuth" in names:
        found = _predict(there, {"signature_name": "factors", "inputs": encoded})["outputs"]
        assert found["unit"] == ["degrees"]


def test_pictures_as_curl_sends_them(there: served.Served) -> None:
    buffer = io.BytesIO()
    Image.fromarray((255 * there.images(1)[0, ..., 0]).astype(np.uint8)).save(buffer, "PNG")
    encoded = {"b64": base64.b64encode(buffer.getvalue()).decode()}
    expected = there.call("reconstruct_bytes", image_bytes=[buffer.getvalue()])["image_bytes"]
    for key, answer in (("instances", "predictions"), ("inputs", "outputs")):
        found = _predict(there, {"signature_name": "reconstruct_bytes", key: [encoded]})[answer]
        pixels = [
            np.asarray(Image.open(io.BytesIO(content)), np.int32)
            for content in (base64.b64decode(found[0]["b64"]), expected[0])
        ]
        assert np.abs(pixels[0] - pixels[1]).max() <= 1
    # One that stays as it is, in JSON's words.
    row = {"image_bytes": encoded, **dict.fromkeys(there.local.factor_ranges, float("nan"))}
    body = {"signature_name": "rerender_bytes", "instances": [row]}
    assert list(_predict(there, body)["predictions"][0]) == ["b64"]


def test_versions_and_labels(there: served.Served) -> None:
    images = there.images(1).tolist()
    body = {"signature_name": "reconstruct", "instances": images}
    place = f"{there.rest}/v1/models/{there.name}"
    assert _ask(f"{place}/versions/{there.version}:predict", body)[0] == 200
    assert _ask(f"{place}/versions/999999:predict", body)[0] == 404
    assert _ask(f"{place}/labels/nonsense:predict", body)[0] == 400
    if not there.real:
        status, answer = _ask(f"{place}/labels/{served.LABEL}/metadata")
        assert (status, answer["model_spec"]["version"]) == (200, "1")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("", b"", 400),
        ("", b"{", 400),
        ("", b"[1, 2]", 400),
        ("", b"\xff\xfe", 400),
        ("", b"{}", 400),
        ("", {"instances": []}, 400),
        ("", {"instances": [1], "inputs": [1]}, 400),
        ("", {"instances": [[1, 2]]}, 400),
        ("", {"instances": [{"images": [[1]]}]}, 400),
        ("", {"inputs": {"images": [[[[0.5]]]]}}, 400),
        ("", {"signature_name": "nonsense", "instances": [1]}, 400),
        ("", {"signature_name": 3, "instances": [1]}, 400),
        ("", {"signature_name": "reconstruct", "instances": [[[0.5], [0.5]]]}, 400),
        ("", {"signature_name": "reconstruct", "instances": ["text"]}, 400),
        ("", {"signature_name": "reconstruct", "instances": [[1], [1, 2]]}, 400),
        ("", {"signature_name": "decode", "instances": [[1, 2, 3]]}, 400),
        ("", {"signature_name": "factors", "instances": ["nonsense"]}, 400),
        ("", {"signature_name": "factors", "instances": [{"b64": "%"}]}, 400),
        ("", {"signature_name": "encode_bytes", "instances": [{"b64": "AAAA"}]}, 400),
        ("", {"signature_name": "encode_bytes", "instances": ["no picture"]}, 400),
        ("none", {"instances": [1]}, 404),
    ],
)
def test_mistakes(there: served.Served, path: str, body: Any, status: int) -> None:
    found, answer = _ask(f"{there.rest}/v1/models/{path or there.name}:predict", body)
    assert found == status, answer
    assert isinstance(answer["error"], str) and answer["error"]


def test_a_connection_survives_mistakes(there: served.Served) -> None:
    connection = http.client.HTTPConnection(there.rest.removeprefix("http://"), timeout=30)
    for body, status in (("{", 400), ('{"signature_name": "factors", "instances": []}', 400)):
        connection.request("POST", f"/v1/models/{there.name}:predict", body)
        answer = connection.getresponse()
        assert answer.status == status
        answer.read()
    connection.request("GET", f"/v1/models/{there.name}")
    assert connection.getresponse().status == 200
    connection.close()


# gRPC.


@pytest.fixture
def channel(there: served.Served) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(there.grpc.removeprefix("grpc://")) as channel:
        yield channel


def _request(there: served.Served, signature: str, **inputs: Any) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = there.name
    request.model_spec.signature_name = signature
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request


def test_grpc_predict(there: served.Served, channel: grpc.Channel) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    images = there.images(2)
    inputs = {"images": images, **there.kept(2)}
    answer = stub.Predict(_request(there, "", **inputs), timeout=30)
    assert answer.model_spec.version.value == there.version
    np.testing.assert_allclose(
        tf.make_ndarray(answer.outputs["images"]),
        there.call("serving_default", **inputs)["images"],
        atol=1e-5,
    )
    request = _request(there, "encode", images=images)
    request.output_filter.append("mean")
    answer = stub.Predict(request, timeout=30)
    assert [*answer.outputs] == ["mean"]
    found = tf.make_ndarray(answer.outputs["mean"])
    np.testing.assert_allclose(found, there.call("encode", images=images)["mean"], atol=1e-4)


def test_grpc_metadata_and_status(there: served.Served, channel: grpc.Channel) -> None:
    predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = there.name
    answer = predictions.GetModelMetadata(request, timeout=30)
    found = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(found)
    assert {"serving_default", "encode", "decode", "reconstruct", "factors"} <= {
        *found.signature_def
    }
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = there.name
    states = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status, timeout=30)
    assert there.version in {entry.version for entry in states.model_version_status}


def test_grpc_mistakes(there: served.Served, channel: grpc.Channel) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def code(request: Any) -> grpc.StatusCode:
        with pytest.raises(grpc.RpcError) as raised:
            stub.Predict(request, timeout=30)
        return raised.value.code()

    images = there.images(1)
    wrong = grpc.StatusCode.INVALID_ARGUMENT
    assert code(_request(there, "reconstruct")) == wrong
    assert code(_request(there, "reconstruct", images=images, more=images)) == wrong
    assert code(_request(there, "reconstruct", images=images.astype(np.float64))) == wrong
    assert code(_request(there, "reconstruct", images=images[:, :3])) == wrong
    broken = _request(there, "reconstruct", images=images)
    broken.inputs["images"].tensor_content = b"123"
    assert code(broken) == wrong
    request = _request(there, "reconstruct", images=images)
    request.model_spec.name = "none"
    assert code(request) == grpc.StatusCode.NOT_FOUND
    request = _request(there, "reconstruct", images=images)
    request.model_spec.version_label = "nonsense"
    assert code(request) == wrong
