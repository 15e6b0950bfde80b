"""A stand-in for TensorFlow Serving's binary, which cannot be installed everywhere, with its two interfaces.

    python -m tests.serving.model_server --model=faces=saved_models/faces --http_port=8501 --grpc_port=8500

It speaks over real sockets what the binary speaks, as far as clients of predictions go: REST as
https://www.tensorflow.org/tfx/serving/api_rest describes it (predict in row and columnar format, "b64", NaN and
Infinity, signature_name, versions and labels, status, metadata, {"error": ...} with the binary's HTTP statuses), and
PredictionService.Predict, PredictionService.GetModelMetadata and ModelService.GetModelStatus of gRPC by the package
tensorflow-serving-api. What it answers, a SavedModel computes, loaded by TensorFlow's own loader.

It does not: classify, regress or take tf.Examples; put requests of several clients into one batch; watch its folders
for new versions (it loads all that are there when it starts, where the binary by default loads the latest only);
answer for other models while one is loading; warm models up; filter outputs of REST; compress; limit memory; take
TLS or a configuration file; answer CORS, monitoring or profiling requests. Nor is it fast: each request is Python's.
"""

import argparse
import base64
import binascii
import contextlib
import dataclasses
import http.server
import json
import pathlib
import re
import threading
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

_Code = grpc.StatusCode
# How the binary turns its statuses into those of HTTP.
_HTTP = {
    _Code.INVALID_ARGUMENT: 400,
    _Code.FAILED_PRECONDITION: 400,
    _Code.OUT_OF_RANGE: 400,
    _Code.NOT_FOUND: 404,
    _Code.RESOURCE_EXHAUSTED: 429,
    _Code.UNIMPLEMENTED: 501,
    _Code.UNAVAILABLE: 503,
    _Code.DEADLINE_EXCEEDED: 504,
}
_PREDICT = re.compile(
    r"(?i)/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?:(classify|regress|predict)"
)
_ABOUT = re.compile(r"(?i)/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(?:/(metadata))?")


class Refusal(Exception):
    """A status other than OK."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def _invalid(message: str) -> Refusal:
    return Refusal(_Code.INVALID_ARGUMENT, message)


@dataclasses.dataclass(frozen=True)
class Version:
    """One loaded SavedModel: its functions and what it says about them."""

    number: int
    functions: Mapping[str, Any]
    definitions: Mapping[str, Any]  # SignatureDef
    owner: Any

    def definition(self, name: str) -> Any:
        found = self.definitions.get(name or "serving_default")
        if found is None:
            raise _invalid(f'Serving signature name: "{name}" not found in signature def')
        return found

    def predict(self, name: str, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        definition = self.definition(name)
        extra, missing = {*inputs} - {*definition.inputs}, {*definition.inputs} - {*inputs}
        if extra or missing:
            raise _invalid(
                f"input size does not match signature: {len(inputs)}!={len(definition.inputs)}. "
                f"Sent extra: {{{','.join(sorted(extra))}}}. Missing but required: {{{','.join(sorted(missing))}}}."
            )
        for key, value in inputs.items():
            wanted = tf.dtypes.as_dtype(definition.inputs[key].dtype)
            if value.dtype != wanted:
                raise _invalid(
                    f"Expects arg {key} to be {wanted.name} but {value.dtype.name} is provided"
                )
        try:
            return dict(self.functions[name or "serving_default"](**inputs))
        except tf.errors.OpError as error:
            # Python's runtime adds to what the binary says.
            text = error.message.rpartition("<stack traces unavailable>\n")[2]
            text = re.sub(r" \[Op:\w*\].*$", "", text)
            codes = {code.value[0]: code for code in _Code}
            raise Refusal(codes[error.error_code], text) from error
        except (TypeError, ValueError) as error:  # Shapes that Python finds wrong before the graph.
            raise _invalid(str(error)) from error


class Models:
    """What is served.

    Args:
        folders: for each name a folder of versions.
        labels: for each name, version labels and their versions.
    """

    def __init__(
        self,
        folders: Mapping[str, pathlib.Path],
        labels: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        self._labels = labels or {}
        self._models = {
            name: {int(path.name): _load(path) for path in folder.iterdir() if path.name.isdigit()}
            for name, folder in folders.items()
        }

    def version(self, spec: model_pb2.ModelSpec) -> Version:
        number = self._number(spec)
        versions = self._models.get(spec.name, {})
        if number is None and versions:
            number = max(versions)
        if number not in versions:
            asked = f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
            raise Refusal(_Code.NOT_FOUND, f"Servable not found for request: {asked}")
        return versions[number]

    def status(self, spec: model_pb2.ModelSpec) -> get_model_status_pb2.GetModelStatusResponse:
        number = self._number(spec)
        versions = self._models.get(spec.name, {})
        if not versions or (number is not None and number not in versions):
            what = "any versions" if number is None else f"version {number}"
            raise Refusal(_Code.NOT_FOUND, f"Could not find {what} of model {spec.name}")
        answer = get_model_status_pb2.GetModelStatusResponse()
        for each in sorted(versions, reverse=True) if number is None else [number]:
            answer.model_version_status.add(
                version=each, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE
            )
        return answer

    def metadata(
        self, spec: model_pb2.ModelSpec, fields: Sequence[str]
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        if not fields:
            raise _invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in fields:
            if field != "signature_def":
                raise _invalid(f"Metadata field {field} is not supported")
        version = self.version(spec)
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        answer.model_spec.name = spec.name
        answer.model_spec.version.value = version.number
        found = get_model_metadata_pb2.SignatureDefMap(signature_def=version.definitions)
        answer.metadata["signature_def"].Pack(found)
        return answer

    def _number(self, spec: model_pb2.ModelSpec) -> int | None:
        if not spec.name:
            raise _invalid("Missing ModelSpec")
        if spec.HasField("version"):
            return spec.version.value
        if not spec.version_label:
            return None
        found = self._labels.get(spec.name, {}).get(spec.version_label)
        if found is None:
            raise _invalid(f"Unrecognized servable version label: {spec.version_label}")
        return found


def _load(path: pathlib.Path) -> Version:
    loaded = tf.saved_model.load(str(path))
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((path / "saved_model.pb").read_bytes())
    definitions = dict(saved.meta_graphs[0].signature_def)
    return Version(int(path.name), dict(loaded.signatures), definitions, loaded)


# REST.


def read_inputs(body: bytes, definition_of: Any) -> tuple[str, dict[str, tf.Tensor], bool]:
    """Reads the body of a predict request.

    Args:
        body: JSON.
        definition_of: gives the definition of a signature by its name, "" for the default one.

    Returns:
        The signature's name, its inputs, and whether they came in rows.

    Raises:
        Refusal: in the words of the binary, or nearly.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise _invalid("JSON Value: Is not object")
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise _invalid("'signature_name' key must be a string value.")
    infos = definition_of(name).inputs
    if "instances" in document and "inputs" in document:
        raise _invalid("Not formatted correctly expecting only one of 'inputs' or 'instances' keys")
    if "instances" in document:
        values = _columns(document["instances"], infos)
        return name, {key: _tensor(key, values[key], infos[key].dtype) for key in values}, True
    if "inputs" not in document:
        raise _invalid("Missing 'inputs' or 'instances' key")
    values = document["inputs"]
    if not isinstance(values, dict) or _is_b64(values):
        if len(infos) > 1:
            raise _invalid("inputs is a plain value/list, but expecting an object as multiple")
        values = {next(iter(infos)): values}
    for key in infos:
        if key not in values:
            raise _invalid(f"Missing named input: {key} in 'inputs' object.")
    return name, {key: _tensor(key, values[key], infos[key].dtype) for key in infos}, False


def _columns(rows: Any, infos: Mapping[str, Any]) -> dict[str, list[Any]]:
    if not isinstance(rows, list):
        raise _invalid("Expecting 'instances' to be an list/array")
    if not rows:
        raise _invalid("No values in 'instances' array")
    if isinstance(rows[0], dict) and not _is_b64(rows[0]):
        for number, row in enumerate(rows):
            if not isinstance(row, dict) or {*row} != {*infos}:
                raise _invalid(
                    f"Failed to process element: {number} of 'instances' list. keys must be equal "
                    f"to: {','.join(sorted(infos))}"
                )
        return {key: [row[key] for row in rows] for key in infos}
    if len(infos) > 1:
        raise _invalid("instances is a plain list, but expecting list of objects as multiple")
    return {next(iter(infos)): rows}


def _is_b64(value: Any) -> bool:
    return isinstance(value, dict) and [*value] == ["b64"] and isinstance(value["b64"], str)


def _tensor(name: str, value: Any, dtype: int) -> tf.Tensor:
    kind = tf.dtypes.as_dtype(dtype)
    leaves = _strings(value) if kind == tf.string else _numbers(value, kind)
    try:
        return tf.constant(leaves, kind)
    except (ValueError, TypeError) as error:
        raise _invalid(f"{name}: Encountered list at unexpected size: {error}") from error


def _strings(value: Any) -> Any:
    if isinstance(value, list):
        return [_strings(item) for item in value]
    if _is_b64(value):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except binascii.Error as error:
            raise _invalid("Unable to base64 decode") from error
    if isinstance(value, str):
        return value.encode()
    raise _invalid(f"JSON Value: {json.dumps(value)[:80]} is not of expected type: string")


def _numbers(value: Any, kind: tf.DType) -> Any:
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise _invalid(f"Encountered list at unexpected size: {error}") from error
    if array.dtype.kind not in ("fiu" if kind.is_floating else "iu") and array.size:
        raise _invalid(f"JSON Value: {json.dumps(value)[:80]} is not of expected type: {kind.name}")
    with np.errstate(over="ignore"):
        narrow = array.astype(kind.as_numpy_dtype)
    if (np.isinf(narrow) & ~np.isinf(array.astype(np.float64))).any():
        raise _invalid("Cannot convert JSON value to float without loss of precision.")
    return narrow


def write_outputs(outputs: Mapping[str, tf.Tensor], in_rows: bool) -> bytes:
    """The answer to a predict request, in the format of the request."""
    values = {name: _plain(name, tensor.numpy()) for name, tensor in outputs.items()}
    if not in_rows:
        plain = values if len(values) > 1 else next(iter(values.values()))
        return json.dumps({"outputs": plain}).encode()
    if len(values) == 1:
        return json.dumps({"predictions": next(iter(values.values()))}).encode()
    lengths = {len(value) for value in values.values()}
    if len(lengths) > 1:
        raise _invalid("Tensor has inconsistent batch size")
    rows = [{name: value[i] for name, value in values.items()} for i in range(lengths.pop())]
    return json.dumps({"predictions": rows}).encode()


def _plain(name: str, array: np.ndarray) -> Any:
    if array.dtype == object:
        text = [
            {"b64": base64.b64encode(item).decode()} if name.endswith("_bytes") else item.decode()
            for item in array.ravel()
        ]
        shaped = np.empty(len(text), object)
        shaped[:] = text
        return shaped.reshape(array.shape).tolist()
    if array.dtype == np.float32:
        # As few digits as tell a float32 from all others, as the binary writes.
        flat = [float(f"{item:.9g}") for item in array.ravel().tolist()]
        return np.array(flat).reshape(array.shape).tolist()
    return array.tolist()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # The head and the body of an answer go out together.
    server: "_HttpServer"

    def do_GET(self) -> None:
        match = _ABOUT.fullmatch(self.path)
        self._answer(lambda: self._about(match) if match else self._malformed())

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        match = _PREDICT.fullmatch(self.path)
        self._answer(lambda: self._predict(match, body) if match else self._malformed())

    def _about(self, match: re.Match[str]) -> bytes:
        spec = _spec(*match.groups()[:3])
        options = {
            "preserving_proto_field_name": True,
            "always_print_fields_with_no_presence": True,
        }
        if not match[4]:
            return json_format.MessageToJson(self.server.models.status(spec), **options).encode()
        answer = self.server.models.metadata(spec, ["signature_def"])
        found = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(found)
        whole = {
            "model_spec": json_format.MessageToDict(answer.model_spec, **options),
            "metadata": {"signature_def": json_format.MessageToDict(found, **options)},
        }
        return json.dumps(whole, indent=1).encode()

    def _predict(self, match: re.Match[str], body: bytes) -> bytes:
        if match[4].lower() != "predict":
            raise Refusal(_Code.UNIMPLEMENTED, f"{match[4]}: not in this stand-in")
        version = self.server.models.version(_spec(*match.groups()[:3]))
        name, inputs, in_rows = read_inputs(body, version.definition)
        return write_outputs(version.predict(name, inputs), in_rows)

    def _malformed(self) -> bytes:
        raise _invalid(f"Malformed request: {self.command} {self.path}")

    def _answer(self, work: Any) -> None:
        status, content = 200, b""
        try:
            content = work()
        except Refusal as refusal:
            status = _HTTP.get(refusal.code, 500)
            content = json.dumps({"error": refusal.message}).encode()
        except Exception as error:
            status, content = 500, json.dumps({"error": repr(error)}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _spec(name: str, version: str | None, label: str | None) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=urllib.parse.unquote(name))
    if version is not None:
        spec.version.value = int(version)
    elif label is not None:
        spec.version_label = urllib.parse.unquote(label)
    return spec


class _HttpServer(http.server.ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

    def __init__(self, address: tuple[str, int], models: Models) -> None:
        super().__init__(address, _Handler)
        self.models = models

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # A client that hangs up in the middle is its own affair.


# gRPC.


class _Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, models: Models) -> None:
        self._models = models

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        with _statuses(context):
            version = self._models.version(request.model_spec)
            inputs = {}
            for key, proto in request.inputs.items():
                try:
                    inputs[key] = tf.constant(_array(proto), tf.dtypes.as_dtype(proto.dtype))
                except (TypeError, ValueError, IndexError) as error:
                    raise _invalid(f"tensor parsing error: {key}") from error
            name = request.model_spec.signature_name
            outputs = version.predict(name, inputs)
            chosen = list(request.output_filter) or list(outputs)
            for key in chosen:
                if key not in outputs:
                    raise _invalid(f"output tensor alias not found in signature: {key}")
            answer = predict_pb2.PredictResponse()
            answer.model_spec.name = request.model_spec.name
            answer.model_spec.version.value = version.number
            answer.model_spec.signature_name = name or "serving_default"
            for key in chosen:
                answer.outputs[key].CopyFrom(tf.make_tensor_proto(outputs[key].numpy()))
            return answer

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        with _statuses(context):
            return self._models.metadata(request.model_spec, request.metadata_field)


class _Statuses(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, models: Models) -> None:
        self._models = models

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        with _statuses(context):
            return self._models.status(request.model_spec)


def _array(proto: Any) -> np.ndarray:
    """A tensor, unless its few bytes claim to be a huge one."""
    count = 1
    for dim in proto.tensor_shape.dim:
        if dim.size < 0:
            raise ValueError(f"a size of {dim.size}")
        count *= dim.size
    if count > 1 << 26 or proto.dtype not in types_pb2.DataType.values():
        raise ValueError("too large, or of no type")
    return tf.make_ndarray(proto)


@contextlib.contextmanager
def _statuses(context: grpc.ServicerContext) -> Iterator[None]:
    try:
        yield
    except Refusal as refusal:
        context.abort(refusal.code, refusal.message)


# Both.


@dataclasses.dataclass(frozen=True)
class ModelServer:
    """A server that runs: its addresses."""

    rest: str
    grpc: str


@contextlib.contextmanager
def serve(models: Models, http_port: int = 0, grpc_port: int = 0) -> Iterator[ModelServer]:
    """Serves models on this machine's own addresses while the block runs.

    Args:
        models: what to serve.
        http_port: 0 for any free one.
        grpc_port: 0 for any free one.
    """
    rest = _HttpServer(("127.0.0.1", http_port), models)
    thread = threading.Thread(target=rest.serve_forever, args=[0.05], daemon=True)
    pool = futures.ThreadPoolExecutor(max_workers=16)
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    remote = grpc.server(pool, options=[*options, ("grpc.so_reuseport", 0)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        _Predictions(models), remote
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Statuses(models), remote)
    port = remote.add_insecure_port(f"127.0.0.1:{grpc_port}")
    thread.start()
    remote.start()
    try:
        yield ModelServer(f"http://127.0.0.1:{rest.server_address[1]}", f"grpc://127.0.0.1:{port}")
    finally:
        rest.shutdown()
        rest.server_close()
        remote.stop(None).wait()
        pool.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", action="append", required=True, help="NAME=FOLDER of versions")
    parser.add_argument("--http_port", type=int, default=0)
    parser.add_argument("--grpc_port", type=int, default=0)
    arguments = parser.parse_args()
    folders = dict(text.split("=", 1) for text in arguments.model)
    models = Models({name: pathlib.Path(folder) for name, folder in folders.items()})
    with serve(models, arguments.http_port, arguments.grpc_port) as running:
        print(json.dumps(dataclasses.asdict(running)), flush=True)
        # Until whoever started it lets go of its standard input, or Ctrl-C.
        with contextlib.suppress(KeyboardInterrupt, OSError):
            import sys

            sys.stdin.read()


if __name__ == "__main__":
    main()
