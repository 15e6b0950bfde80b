"""What a server may answer by gRPC, and what a client makes of it."""

import contextlib
import socket
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
)

from dcign_tf.errors import DcignError
from dcign_tf.serving import Client, grpc_transport
from dcign_tf.serving import client as clients
from dcign_tf.serving.server_errors import (
    BadResponse,
    ModelNotFound,
    RequestRefused,
    ServerError,
    ServerTimeout,
    ServerUnavailable,
)
from dcign_tf.serving.server_tensors import Signature, Tensor

_Code = grpc.StatusCode


class _Scripted(model_service_pb2_grpc.ModelServiceServicer):
    """Answers with the statuses it was told, one after the other, then with a version; a number makes it wait."""

    def __init__(self, answers: list[Any]) -> None:
        self.answers = answers
        self.requests = 0

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.requests += 1
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, grpc.StatusCode):
            context.abort(answer, f"as\ntold: {answer.name}")
        if answer is not None:
            time.sleep(answer)
        response = get_model_status_pb2.GetModelStatusResponse()
        response.model_version_status.add(version=7, state=30)
        return response


@contextlib.contextmanager
def _scripted(*answers: Any) -> Iterator[tuple[_Scripted, str]]:
    with futures.ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        service = _Scripted(list(answers))
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(service, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield service, f"grpc://127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, which take no time here."""
    found: list[float] = []

    class Clock:
        sleep = staticmethod(found.append)

    monkeypatch.setattr(clients, "time", Clock)
    return found


def test_what_passes_is_tried_again(waits: list[float]) -> None:
    with _scripted(_Code.UNAVAILABLE, _Code.DEADLINE_EXCEEDED) as (service, url):
        with Client(url) as client:
            assert client.versions() == {7: "AVAILABLE"}
        assert service.requests == 3
    assert len(waits) == 2


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (_Code.INVALID_ARGUMENT, RequestRefused),
        (_Code.FAILED_PRECONDITION, RequestRefused),
        (_Code.PERMISSION_DENIED, RequestRefused),
        (_Code.RESOURCE_EXHAUSTED, RequestRefused),
        (_Code.NOT_FOUND, ModelNotFound),
        (_Code.INTERNAL, ServerError),
        (_Code.UNIMPLEMENTED, BadResponse),
    ],
)
def test_what_stays_is_told_at_once(
    code: grpc.StatusCode, kind: type[ServerError], waits: list[float]
) -> None:
    with _scripted(code) as (service, url), Client(url, "faces", version=2) as client:
        with pytest.raises(kind) as raised:
            client.versions()
        assert type(raised.value) is kind
        assert str(raised.value).startswith(f"{url}, model faces, version 2: ")
        assert f"as told: {code.name}" in str(raised.value)
        assert service.requests == 1
        assert client.versions() == {7: "AVAILABLE"}
    assert not waits


def test_what_is_too_slow(waits: list[float]) -> None:
    with _scripted(0.6, 0.6) as (service, url), Client(url, timeout=0.2, retries=1) as client:
        with pytest.raises(ServerTimeout, match=r"no answer within 0.2 s \(2 attempts\)"):
            client.versions()
        assert service.requests == 2
        assert client.versions() == {7: "AVAILABLE"}


def test_nobody_there_and_then_somebody() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with Client(f"grpc://127.0.0.1:{port}", retries=1) as client:
            with pytest.raises(ServerUnavailable, match=r"\(2 attempts\)"):
                client.versions()
            # The same client, when the server has come up.
            taken.close()
            with futures.ThreadPoolExecutor(1) as pool:
                server = grpc.server(pool)
                model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Scripted([]), server)
                server.add_insecure_port(f"127.0.0.1:{port}")
                server.start()
                with Client(f"grpc://127.0.0.1:{port}", retries=20) as patient:
                    assert patient.versions() == {7: "AVAILABLE"}
                server.stop(None).wait()


def test_the_rest_port_instead() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"grpc://127.0.0.1:{listening.getsockname()[1]}"
        with Client(url, retries=0, timeout=0.5) as client:
            with pytest.raises(ServerUnavailable):
                client.versions()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "dcign_tf.serving.grpc_transport")
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(DcignError, match=r"gRPC needs the package tensorflow-serving-api: pip"):
        Client("grpc://localhost")


_SIGNATURE = Signature(
    {},
    {"mean": Tensor("DT_FLOAT", (None, 3)), "image_bytes": Tensor("DT_STRING", (None,))},
)


def _response(**outputs: Any) -> predict_pb2.PredictResponse:
    response = predict_pb2.PredictResponse()
    for name, value in outputs.items():
        proto = value if isinstance(value, tensor_pb2.TensorProto) else tf.make_tensor_proto(value)
        response.outputs[name].CopyFrom(proto)
    return response


def test_what_was_meant_is_read() -> None:
    mean = np.array([[1, np.nan, np.inf], [0, 1, 2]], np.float32)
    response = _response(mean=mean, image_bytes=[b"a\xff", b""])
    found = grpc_transport.parse_outputs(response, _SIGNATURE, 2)
    np.testing.assert_array_equal(found["mean"], mean)
    assert found["image_bytes"].tolist() == [b"a\xff", b""]


def test_answers_that_are_none() -> None:
    mean, files = np.zeros([1, 3], np.float32), [b""]
    huge = tensor_pb2.TensorProto(dtype=1, float_val=[1.0])
    huge.tensor_shape.dim.add(size=1 << 40)
    huge.tensor_shape.dim.add(size=3)
    short = tf.make_tensor_proto(mean)
    short.tensor_content = short.tensor_content[:-1]
    strange = tensor_pb2.TensorProto(dtype=99)
    for outputs in (
        {"mean": mean},
        {"mean": mean[:, :2], "image_bytes": files},
        {"mean": mean.astype(np.float64), "image_bytes": files},
        {"mean": mean, "image_bytes": [b"", b""]},
        {"mean": huge, "image_bytes": files},
        {"mean": short, "image_bytes": files},
        {"mean": strange, "image_bytes": files},
    ):
        with pytest.raises(BadResponse, match="the server's"):
            grpc_transport.parse_outputs(_response(**outputs), _SIGNATURE, 1)


@given(st.data())
def test_any_tensor(data: st.DataObject) -> None:
    proto = tensor_pb2.TensorProto(
        dtype=data.draw(st.sampled_from([0, 1, 3, 7, 19, 101])),
        tensor_content=data.draw(st.binary(max_size=24)),
        float_val=data.draw(st.lists(st.floats(width=32), max_size=4)),
        string_val=data.draw(st.lists(st.binary(max_size=3), max_size=2)),
    )
    for size in data.draw(st.lists(st.integers(-1, 4), max_size=3)):
        proto.tensor_shape.dim.add(size=size)
    for name in _SIGNATURE.outputs:
        alone = Signature({}, {name: _SIGNATURE.outputs[name]})
        with contextlib.suppress(BadResponse):
            found = grpc_transport.parse_outputs(_response(**{name: proto}), alone, 1)
            assert found[name].shape[0] == 1


@given(st.sampled_from(list(_Code)), st.text(max_size=20))
def test_any_error(code: grpc.StatusCode, details: str) -> None:
    error = grpc_transport.error_of(code, details, 1.0)
    assert isinstance(error, ServerError) and str(error)
    assert error.retriable == (code in (_Code.UNAVAILABLE, _Code.DEADLINE_EXCEEDED))
