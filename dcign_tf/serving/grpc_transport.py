"""TensorFlow Serving's gRPC interface, by the protocol buffers of the package tensorflow-serving-api."""

from collections.abc import Callable, Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

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
from dcign_tf.serving.server_tensors import Signature, Tensor, check_answer, size_of

_MAX_ANSWER = 1 << 28
_OPTIONS = [
    ("grpc.max_receive_message_length", _MAX_ANSWER),
    ("grpc.max_send_message_length", -1),
    # The client tries again by itself, and should then meet a connection that was tried again, too.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
]


class GrpcTransport:
    """One model of one server; any number of threads may share it. Its methods are those of `RestTransport`.

    Args:
        address: grpc or grpcs.
        target: the model.
    """

    def __init__(self, address: Address, target: Target) -> None:
        if address.scheme == "grpcs":
            credentials = grpc.ssl_channel_credentials()
            self._channel = grpc.secure_channel(address.authority, credentials, _OPTIONS)
        else:
            self._channel = grpc.insecure_channel(address.authority, _OPTIONS)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._target = target

    def predict(
        self, name: str, signature: Signature, inputs: Mapping[str, np.ndarray], timeout: float
    ) -> dict[str, np.ndarray]:
        """Calls a signature; see `RestTransport.predict`."""
        request = predict_pb2.PredictRequest(model_spec=self._spec())
        request.model_spec.signature_name = name
        for key, value in inputs.items():
            request.inputs[key].CopyFrom(_to_proto(value))
        answer = _ask(self._predictions.Predict, request, timeout)
        return parse_outputs(answer, signature, size_of(inputs))

    def signatures(self, timeout: float) -> dict[str, Signature]:
        """Asks what signatures the model has."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._spec(), metadata_field=["signature_def"]
        )
        answer = _ask(self._predictions.GetModelMetadata, request, timeout)
        found = get_model_metadata_pb2.SignatureDefMap()
        if not answer.metadata["signature_def"].Unpack(found):
            raise BadResponse("the server's metadata are no signatures")
        return {
            name: Signature(_tensors(facts.inputs), _tensors(facts.outputs))
            for name, facts in found.signature_def.items()
            if not name.startswith("__")
        }

    def states(self, timeout: float) -> dict[int, str]:
        """Asks which versions there are and whether they are AVAILABLE."""
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec())
        answer = _ask(self._models.GetModelStatus, request, timeout)
        state = get_model_status_pb2.ModelVersionStatus.State
        return {
            entry.version: state.Name(entry.state)
            if entry.state in state.values()
            else str(entry.state)
            for entry in answer.model_version_status
        }

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def _spec(self) -> model_pb2.ModelSpec:
        spec = model_pb2.ModelSpec(name=self._target.name)
        if self._target.version is not None:
            spec.version.value = self._target.version
        elif self._target.label is not None:
            spec.version_label = self._target.label
        return spec


def _ask(method: Callable[..., Any], request: Any, timeout: float) -> Any:
    try:
        return method(request, timeout=timeout)
    except grpc.RpcError as error:
        raise error_of(error.code(), error.details() or "", timeout) from error
    except ValueError as error:  # gRPC's word for a closed channel.
        raise ServerError("this client is closed") from error


def error_of(code: grpc.StatusCode, details: str, timeout: float) -> ServerError:
    """What a status other than OK means.

    Args:
        code: gRPC's.
        details: what the server, or gRPC itself, says about it.
        timeout: how many seconds there were.
    """
    message = for_people(details) or code.name
    if code == grpc.StatusCode.UNAVAILABLE:
        return ServerUnavailable(message)
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return ServerTimeout(f"no answer within {timeout:g} s")
    if code == grpc.StatusCode.NOT_FOUND or "servable version label" in message:
        return ModelNotFound(message)
    if code == grpc.StatusCode.UNIMPLEMENTED:
        return BadResponse(f"what answers there is not TensorFlow Serving: {message}")
    if code in (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ):
        return RequestRefused(message)
    return ServerError(message)


def _to_proto(values: np.ndarray) -> Any:
    return tf.make_tensor_proto(values, tf.string if values.dtype == object else tf.float32)


def parse_outputs(
    answer: predict_pb2.PredictResponse, signature: Signature, count: int
) -> dict[str, np.ndarray]:
    """Reads an answer, as `rest_transport.parse_outputs` does.

    Raises:
        BadResponse: it is not what the signature promised.
    """
    outputs = {}
    for name, tensor in signature.outputs.items():
        if name not in answer.outputs:
            raise BadResponse(f"the server's answer has no {name!r}, where one should be")
        proto = answer.outputs[name]
        shape = tuple(dim.size for dim in proto.tensor_shape.dim)
        # Before any memory is taken: a few bytes can claim to be a tensor of any size.
        check_answer(name, tensor, _type_name(proto.dtype), shape, count)
        try:
            outputs[name] = tf.make_ndarray(proto)
        except (TypeError, ValueError, IndexError) as error:
            raise BadResponse(f"the server's {name} is damaged ({error})") from error
    return outputs


def _tensors(infos: Mapping[str, Any]) -> dict[str, Tensor]:
    return {
        name: Tensor(
            _type_name(info.dtype),
            tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim),
        )
        for name, info in infos.items()
    }


def _type_name(number: int) -> str:
    return types_pb2.DataType.Name(number) if number in types_pb2.DataType.values() else str(number)
