"""What a server, or something else, may answer by HTTP; and what a client makes of it: what it says, or an error."""

import base64
import contextlib
import json
import math
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcign_tf.serving import Client, rest_transport
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

_STATES = json.dumps({"model_version_status": [{"version": "7", "state": "AVAILABLE"}]}).encode()


def _answer(status: int, body: bytes, headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status} Some\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


_GOOD = _answer(200, _STATES)


class _Scripted(socketserver.ThreadingTCPServer):
    """Answers requests with what it was told to, one after the other, byte for byte.

    An answer that is a number makes it wait so many seconds; what follows None, it says on another connection.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, answers: list[Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Reader)
        self.answers = answers
        self.requests: list[bytes] = []
        self.over = threading.Event()


class _Reader(socketserver.StreamRequestHandler):
    server: _Scripted

    def handle(self) -> None:
        while self.server.answers:
            request = self.rfile.readline()
            if not request:
                return
            length = 0
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            self.rfile.read(length)
            self.server.requests.append(request)
            answer = self.server.answers.pop(0)
            for part in answer if isinstance(answer, list) else [answer]:
                if part is None:
                    return
                if isinstance(part, bytes):
                    with contextlib.suppress(OSError):  # The client need not have waited.
                        self.wfile.write(part)
                elif self.server.over.wait(part):
                    return


@contextlib.contextmanager
def _scripted(*answers: Any) -> Iterator[_Scripted]:
    with _Scripted(list(answers)) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02], daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()


def _client(server: _Scripted, **arguments: Any) -> Client:
    return Client(f"http://127.0.0.1:{server.server_address[1]}", **arguments)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, which take no time here."""
    found: list[float] = []
    monkeypatch.setattr(clients.time, "sleep", found.append)
    return found


@pytest.mark.parametrize(
    "trouble",
    [
        _answer(503, b'{"error": "busy"}'),
        _answer(504, b'{"error": "too slow"}'),
        _answer(502, b"<html>Bad Gateway</html>"),
        None,  # Hangs up.
        [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", None],
    ],
    ids=["busy", "slow", "proxy", "no answer", "half an answer"],
)
def test_what_passes_is_tried_again(trouble: Any, waits: list[float]) -> None:
    with _scripted(trouble, trouble, _GOOD) as server, _client(server) as client:
        assert client.versions() == {7: "AVAILABLE"}
        assert len(server.requests) == 3
    assert len(waits) == 2


def test_waits_become_longer_and_are_random(waits: list[float]) -> None:
    busy = _answer(503, b'{"error": "busy"}')
    with _scripted(*[busy] * 42) as server, _client(server, retries=20) as client:
        for _ in range(2):
            with pytest.raises(ServerUnavailable, match=r"busy \(21 attempts\)"):
                client.versions()
        assert len(server.requests) == 42
    assert len(waits) == 40
    for number, wait in enumerate(waits):
        assert 0 <= wait <= min(clients._LONGEST_WAIT, clients._FIRST_WAIT * 2 ** (number % 20))
    assert max(waits) > clients._LONGEST_WAIT / 4
    assert waits[:20] != waits[20:]


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        (_answer(400, b'{"error": "no such input"}'), RequestRefused, "no such input"),
        (_answer(400, b'{"error": "it\\\'s wrong"}'), RequestRefused, "s wrong"),
        (_answer(413, b'{"error": ""}'), RequestRefused, "status 413"),
        (_answer(429, b'{"error": "too much"}'), RequestRefused, "too much"),
        (_answer(404, b'{"error": "Servable not found"}'), ModelNotFound, "Servable not found"),
        (
            _answer(400, b'{"error": "Unrecognized servable version label: x"}'),
            ModelNotFound,
            "label: x",
        ),
        (_answer(500, b'{"error": "oh"}'), ServerError, "oh"),
        (_answer(404, b"<html>Not Found</html>"), BadResponse, "is not TensorFlow Serving: status"),
        (_answer(302, b"", "Location: http://other/\r\n"), BadResponse, "status 302"),
        (_answer(200, b"<html>Welcome</html>"), BadResponse, "not JSON but '<html>Welcome"),
        (_answer(200, b""), BadResponse, "not JSON but ''"),
        (_answer(200, b"[" * 100_000), BadResponse, "not JSON but '[[["),
        (_answer(200, b"{}"), BadResponse, "no 'model_version_status'"),
        (_answer(200, b'{"model_version_status": [{"version": "x"}]}'), BadResponse, "no sense"),
        ([b"\0\0\x18\x04\0\0\0\0\0\n", None], BadResponse, "does not speak HTTP"),
    ],
)
def test_what_stays_is_told_at_once(
    answer: Any, kind: type[ServerError], told: str, waits: list[float]
) -> None:
    with _scripted(answer, _GOOD) as server, _client(server, model="faces") as client:
        with pytest.raises(kind) as raised:
            client.versions()
        assert type(raised.value) is kind
        assert told in str(raised.value)
        assert f"http://127.0.0.1:{server.server_address[1]}, model faces: " in str(raised.value)
        assert len(server.requests) == 1
        # The connection, or another one, is as good as new.
        assert client.versions() == {7: "AVAILABLE"}
    assert not waits


@pytest.mark.parametrize(
    "slow",
    [[30], [b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n", *[b"  ", 0.05] * 200]],
    ids=["silence", "drops"],
)
def test_what_is_too_slow(slow: Any, waits: list[float]) -> None:
    began = time.monotonic()
    with _scripted(slow, slow, _GOOD) as server:
        with _client(server, timeout=0.3, retries=1) as client:
            with pytest.raises(ServerTimeout, match=r"\(2 attempts\)"):
                client.versions()
            assert client.versions() == {7: "AVAILABLE"}
    assert time.monotonic() - began < 10


def test_answers_that_never_end(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_transport, "MAX_ANSWER", 100_000)
    endless = _answer(200, b" " * 300_000)
    with _scripted(endless) as server, _client(server) as client:
        with pytest.raises(BadResponse, match="longer than"):
            client.versions()


def test_nobody_there(waits: list[float]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Bound, but it does not listen: so nobody else will.
        port = taken.getsockname()[1]
        with Client(f"http://127.0.0.1:{port}", retries=3) as client:
            with pytest.raises(ServerUnavailable, match="cannot connect: .*8501.*4 attempts"):
                client.versions()
    assert len(waits) == 3


def test_a_host_that_does_not_exist(waits: list[float]) -> None:
    with Client("http://nowhere.invalid:8501", retries=0) as client:
        with pytest.raises(ServerUnavailable, match="cannot connect: "):
            client.versions()


def test_encryption_where_there_is_none(waits: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(_answer(400, b""))
                connection.recv(10_000)

        thread = threading.Thread(target=answer)
        thread.start()
        with Client(f"https://127.0.0.1:{listening.getsockname()[1]}", timeout=10) as client:
            with pytest.raises(BadResponse, match="no encrypted connection: "):
                client.versions()
        thread.join()


def test_a_prefix_and_odd_names(waits: list[float]) -> None:
    with _scripted(_GOOD) as server:
        port = server.server_address[1]
        with Client(f"http://127.0.0.1:{port}/behind/", model="a b", label="ü") as client:
            client.versions()
        assert server.requests == [b"GET /behind/v1/models/a%20b/labels/%C3%BC HTTP/1.1\r\n"]


# Answers.

_IMAGES = Signature({}, {"images": Tensor("DT_FLOAT", (None, 2, 2, 1))})
_ENCODED = Signature(
    {},
    {
        "mean": Tensor("DT_FLOAT", (None, 3)),
        "azimuth": Tensor("DT_FLOAT", (None,)),
        "image_bytes": Tensor("DT_STRING", (None,)),
        "index": Tensor("DT_INT32", (None,)),
    },
)
_FLOATS = st.floats(width=32)


@given(st.data(), st.integers(1, 3))
def test_what_was_meant_is_read(data: st.DataObject, count: int) -> None:
    def listed(elements: st.SearchStrategy[Any]) -> list[Any]:
        return data.draw(st.lists(elements, min_size=count, max_size=count))

    sent = {
        "mean": listed(st.lists(_FLOATS, min_size=3, max_size=3)),
        "azimuth": listed(_FLOATS),
        "image_bytes": listed(st.binary(max_size=9)),
        "index": listed(st.integers(-5, 1 << 30)),
    }
    encoded = [{"b64": base64.b64encode(item).decode()} for item in sent["image_bytes"]]
    content = json.dumps({"outputs": {**sent, "image_bytes": encoded}}).encode()
    found = rest_transport.parse_outputs(content, _ENCODED, count)
    for name, value in found.items():
        np.testing.assert_array_equal(
            value, np.array(sent[name], object if name == "image_bytes" else None)
        )
    assert found["mean"].dtype == np.float32


def test_not_a_number_and_infinity_are_words() -> None:
    content = (
        b'{"outputs": {"mean": [[NaN, Infinity, -Infinity]], "azimuth": [1e999], '
        b'"image_bytes": ["a"], "index": [0]}}'
    )
    found = rest_transport.parse_outputs(content, _ENCODED, 1)
    assert math.isnan(found["mean"][0, 0])
    assert found["mean"][0, 1:].tolist() == [math.inf, -math.inf]
    assert found["azimuth"].tolist() == [math.inf]
    sent = rest_transport._to_json(np.array([np.nan, np.inf], np.float32))
    assert json.dumps(sent) == "[NaN, Infinity]"


@pytest.mark.parametrize(
    "images",
    [
        "[[[[1], [2]], [[3], [4]]], [[[1], [2]], [[3], [4]]]]",  # One too many.
        "[[[[1], [2]], [[3], [4]], [[5], [6]]]]",
        "[[[1, 2], [3, 4]]]",
        "[[[[1], [2]], [[3]]]]",
        '[[[["1"], ["2"]], [["3"], ["4"]]]]',
        "[[[[true], [false]], [[true], [true]]]]",
        "[[[[null], [2]], [[3], [4]]]]",
        "[]",
        "1",
        '"text"',
        "null",
        "{}",
        '{"images": [[[[1], [2]], [[3], [4]]]]}',  # One output has no name.
        f"[[[[{10**400}], [2]], [[3], [4]]]]",
    ],
)
def test_images_that_are_none(images: str) -> None:
    with pytest.raises(BadResponse):
        rest_transport.parse_outputs(f'{{"outputs": {images}}}'.encode(), _IMAGES, 1)


_KEYS = [
    *("outputs", "metadata", "signature_def", "inputs", "mean", "azimuth", "image_bytes", "index"),
    *("b64", "dtype", "tensor_shape", "dim", "size", "error"),
    *("model_version_status", "version", "state"),
]
_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(_KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)
_CONTENTS = st.binary(max_size=40) | _JSON.map(lambda value: json.dumps(value).encode())


@given(_CONTENTS | _JSON.map(lambda value: json.dumps({"outputs": value}).encode()))
def test_any_outputs(content: bytes) -> None:
    for signature in (_IMAGES, _ENCODED):
        with contextlib.suppress(BadResponse):
            found = rest_transport.parse_outputs(content, signature, 1)
            assert {len(value) for value in found.values()} == {1}


@given(
    _CONTENTS
    | _JSON.map(
        lambda v: json.dumps({"metadata": {"signature_def": {"signature_def": v}}}).encode()
    )
    | _JSON.map(
        lambda v: json.dumps(
            {"metadata": {"signature_def": {"signature_def": {"a": {"inputs": {"b": v}}}}}}
        ).encode()
    )
)
def test_any_metadata(content: bytes) -> None:
    with contextlib.suppress(BadResponse):
        for signature in rest_transport.parse_metadata(content).values():
            for tensor in {**signature.inputs, **signature.outputs}.values():
                assert all(size is None or size >= 0 for size in tensor.shape)


@given(_CONTENTS | _JSON.map(lambda v: json.dumps({"model_version_status": v}).encode()))
def test_any_states(content: bytes) -> None:
    with contextlib.suppress(BadResponse):
        rest_transport.parse_states(content)


@given(st.integers(201, 599), _CONTENTS)
def test_any_error(status: int, content: bytes) -> None:
    error = rest_transport.error_of(status, content)
    assert isinstance(error, ServerError) and str(error)
    assert error.retriable == isinstance(error, ServerUnavailable)
    assert not error.retriable or status in (502, 503, 504)
    assert "\n" not in str(error) and len(str(error)) < 1000
