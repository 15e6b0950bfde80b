"""TensorFlow Serving's REST interface: JSON over HTTP.

Its documentation is https://www.tensorflow.org/tfx/serving/api_rest. Requests are in its columnar format; binary
values are {"b64": "<base64>"}, in answers wherever an output's name ends in _bytes. NaN and Infinity stand in its
JSON as these words, as they do in Python's.
"""

import base64
import binascii
import http.client
import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import urllib3

from dcign_tf.serving.server_address import Address, Target
from dcign_tf.serving.server_errors import (
    BadResponse,
    ModelNotFound,
    RequestRefused,
    ServerError,
    ServerTimeout,
    ServerUnavailable,
    for_people,
)
from dcign_tf.serving.server_tensors import (
    NUMBERS,
    STRING,
    Signature,
    Tensor,
    check_answer,
    size_of,
)

MAX_ANSWER = 1 << 28
_PART = 1 << 16
_IDLE_CONNECTIONS = 64  # kept open for as many threads


class RestTransport:
    """One model of one server; any number of threads may share it.

    Args:
        address: http or https.
        target: the model.
    """

    def __init__(self, address: Address, target: Target) -> None:
        kind = (
            urllib3.HTTPSConnectionPool if address.scheme == "https" else urllib3.HTTPConnectionPool
        )
        self._pool = kind(address.host, address.port, maxsize=_IDLE_CONNECTIONS, retries=False)
        self._address = address
        self._path = f"{address.prefix}/v1/models/{target.path}"

    def predict(
        self, name: str, signature: Signature, inputs: Mapping[str, np.ndarray], timeout: float
    ) -> dict[str, np.ndarray]:
        """Calls a signature.

        Args:
            name: the signature's.
            signature: what it takes and gives.
            inputs: float32 or, of bytes, object; all with the same first dimension.
            timeout: seconds.

        Returns:
            The outputs: float32, or objects that are bytes.

        Raises:
            ServerError: one of its kinds, by what went wrong.
        """
        values = {key: _to_json(value) for key, value in inputs.items()}
        body = json.dumps({"signature_name": name, "inputs": values}).encode()
        answer = self._ask("POST", f"{self._path}:predict", body, timeout)
        return parse_outputs(answer, signature, size_of(inputs))

    def signatures(self, timeout: float) -> dict[str, Signature]:
        """Asks what signatures the model has."""
        return parse_metadata(self._ask("GET", f"{self._path}/metadata", None, timeout))

    def states(self, timeout: float) -> dict[int, str]:
        """Asks which versions there are and whether they are AVAILABLE."""
        return parse_states(self._ask("GET", self._path, None, timeout))

    def close(self) -> None:
        """Closes all connections."""
        self._pool.close()

    def _ask(self, method: str, path: str, body: bytes | None, timeout: float) -> bytes:
        """One request and its answer, in time."""
        deadline = time.monotonic() + timeout
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            response = self._pool.urlopen(
                method,
                path,
                body,
                headers,
                redirect=False,
                timeout=urllib3.Timeout(total=timeout),
                preload_content=False,
            )
            try:
                content = _read(response, deadline)
            except BaseException:
                response.close()  # What is left of this answer must not be taken for the next one.
                raise
            response.release_conn()
        except (ServerError, MemoryError):
            raise
        except (urllib3.exceptions.HTTPError, OSError, http.client.HTTPException) as error:
            raise _describe(error, self._address, timeout) from error
        if response.status != 200:
            raise error_of(response.status, content)
        return content


def _read(response: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
    """The whole body, if it comes in time and fits."""
    parts, length = [], 0
    # Each time what is there already: waiting for more could take for ever.
    while part := response.read1(_PART):
        parts.append(part)
        length += len(part)
        if length > MAX_ANSWER:
            raise BadResponse(f"the server's answer is longer than {MAX_ANSWER >> 20} MiB")
        # The timeout of a socket begins anew with every byte.
        if time.monotonic() > deadline:
            raise ServerTimeout("the answer did not arrive in full in time")
    return b"".join(parts)


def _describe(error: Exception, address: Address, timeout: float) -> ServerError:
    """What an exception of HTTP's means."""
    cause: BaseException = error
    while (deeper := next((a for a in cause.args if isinstance(a, Exception)), None)) is not None:
        cause = deeper
    if isinstance(error, urllib3.exceptions.ClosedPoolError):
        return ServerError("this client is closed")
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        inner = error.__cause__ or error
        reason = getattr(inner, "strerror", None) or str(inner)
        where = "" if address.port == 8501 else " (TensorFlow Serving's REST port is 8501)"
        return ServerUnavailable(f"cannot connect: {reason}{where}")
    # It calls failures to connect timeouts, too.
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return ServerTimeout(f"no answer within {timeout:g} s")
    if isinstance(error, urllib3.exceptions.SSLError):
        return BadResponse(f"no encrypted connection: {cause}")
    if isinstance(cause, http.client.BadStatusLine) and not isinstance(cause, ConnectionError):
        return BadResponse(
            "what listens there does not speak HTTP; TensorFlow Serving's REST port is 8501, and "
            "its gRPC port, 8500, is reached by grpc://"
        )
    return ServerUnavailable(f"the connection broke: {cause}")


def error_of(status: int, content: bytes) -> ServerError:
    """What an answer with another status than 200 means.

    Args:
        status: HTTP's.
        content: the body; TensorFlow Serving's is {"error": "..."}.
    """
    text = content.decode("utf-8", "replace").strip()
    try:
        answer = json.loads(text)
        message = answer["error"] if isinstance(answer, dict) else None
    except (ValueError, RecursionError, KeyError):
        # Some versions escape quotes in a way that is not JSON.
        message = text if text.startswith("{") and '"error"' in text[:20] else None
    if not isinstance(message, str):
        if status in (502, 503, 504):  # A proxy before the server may say so in its own way.
            return ServerUnavailable(f"the server answers with status {status}")
        return BadResponse(
            f"what answers there is not TensorFlow Serving: status {status}, {for_people(text)!r}"
        )
    message = for_people(message) or f"status {status}"
    if status == 404 or "servable version label" in message:
        return ModelNotFound(message)
    if status == 504:
        return ServerTimeout(message)
    if status == 503:
        return ServerUnavailable(message)
    return RequestRefused(message) if 400 <= status < 500 else ServerError(message)


def _to_json(values: np.ndarray) -> Any:
    if values.dtype != object:
        return values.tolist()
    return [{"b64": base64.b64encode(value).decode("ascii")} for value in values]


def parse_outputs(content: bytes, signature: Signature, count: int) -> dict[str, np.ndarray]:
    """Reads the answer to a request in columnar format.

    Args:
        content: {"outputs": ...}: by name, or the value alone where there is only one.
        signature: what is expected.
        count: of images.

    Returns:
        float32, or objects that are bytes or texts.

    Raises:
        BadResponse: it is something else.
    """
    found = _member(_json(content), "outputs")
    if len(signature.outputs) == 1:
        found = {next(iter(signature.outputs)): found}
    outputs = {}
    for name, tensor in signature.outputs.items():
        value = _member(found, name)
        if tensor.dtype == STRING:
            array = _strings(name, value)
        elif tensor.dtype in NUMBERS:
            array = _numbers(name, value, NUMBERS[tensor.dtype])
        else:
            raise BadResponse(f"the model gives {name} as {tensor.dtype}, not one of ours")
        check_answer(name, tensor, tensor.dtype, array.shape, count)
        outputs[name] = array
    return outputs


def _numbers(name: str, value: Any, dtype: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise BadResponse(f"the server's {name} is no array: {error}") from error
    # Converting at once would take "1" for a number.
    if array.dtype.kind not in ("iu" if dtype is np.int32 else "fiu"):
        raise BadResponse(f"the server's {name} is not made of numbers")
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def _strings(name: str, value: Any) -> np.ndarray:
    if not isinstance(value, list):
        raise BadResponse(f"the server's {name} is no list")
    array = np.empty(len(value), object)
    for index, item in enumerate(value):
        if isinstance(item, str):
            array[index] = item.encode("utf-8", "surrogatepass")
            continue
        encoded = _member(item, "b64")
        try:
            array[index] = base64.b64decode(encoded, validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise BadResponse(f"the server's {name} is not in base64 ({error})") from error
    return array


def parse_metadata(content: bytes) -> dict[str, Signature]:
    """Reads the signatures out of the answer to a request for metadata.

    Args:
        content: the JSON form of GetModelMetadataResponse, in which 64-bit integers are texts.

    Raises:
        BadResponse: it is something else.
    """
    found = _json(content)
    for key in ("metadata", "signature_def", "signature_def"):
        found = _member(found, key)
    return {
        str(name): Signature(_tensors(facts, "inputs"), _tensors(facts, "outputs"))
        for name, facts in _items(found)
        if not str(name).startswith("__")  # TensorFlow's own, which gives nothing.
    }


def _tensors(facts: Any, key: str) -> dict[str, Tensor]:
    tensors = {}
    for name, about in _items(_member(facts, key)):
        try:
            # Of a scalar there are none.
            sizes = [int(dim["size"]) for dim in about["tensor_shape"].get("dim", [])]
            dtype = str(about["dtype"])
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise BadResponse(f"the server's metadata of {name} make no sense") from error
        tensors[str(name)] = Tensor(dtype, tuple(None if size < 0 else size for size in sizes))
    return tensors


def parse_states(content: bytes) -> dict[int, str]:
    """Reads the state of each version, such as AVAILABLE, out of the answer to a request for the model's status.

    Raises:
        BadResponse: it is something else.
    """
    listed = _member(_json(content), "model_version_status")
    try:
        return {int(entry["version"]): str(entry["state"]) for entry in listed}
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise BadResponse("the server's list of versions makes no sense") from error


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        text = for_people(content[:200].decode("utf-8", "replace"))
        raise BadResponse(f"the server's answer is not JSON but {text!r}") from error


def _member(value: Any, key: str) -> Any:
    if not isinstance(value, dict) or key not in value:
        raise BadResponse(f"the server's answer has no {key!r}, where one should be")
    return value[key]


def _items(value: Any) -> Any:
    if not isinstance(value, dict):
        raise BadResponse("the server's metadata are not what they should be")
    return value.items()
