"""A trained model on a server, used as if it were here.

from dcign_tf.serving import Client

with Client("http://localhost:8501", model="faces") as client:
    turned = client.rerender("me.jpg", azimuth=[-45, 0, 45])  # three PNG files, as bytes
    angles = client.infer(images)  # {"azimuth": [N], ...}
"""

import dataclasses
import functools
import io
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, overload

import numpy as np
from PIL import Image, ImageOps

from dcign_tf import images as image_files
from dcign_tf.errors import DcignError, UsageError
from dcign_tf.serving.server_address import Address, Target, parse_address
from dcign_tf.serving.server_errors import BadResponse, RequestRefused, ServerError
from dcign_tf.serving.server_tensors import Signature, size_of

File = str | os.PathLike[str] | bytes

# Waits before trying again: about as long as a restart of the server, all together, for the default of retries.
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 5.0
_T = TypeVar("_T")


class _Transport(Protocol):
    """What `rest_transport` and `grpc_transport` have in common."""

    def predict(
        self, name: str, signature: Signature, inputs: Mapping[str, np.ndarray], timeout: float
    ) -> dict[str, np.ndarray]: ...

    def signatures(self, timeout: float) -> dict[str, Signature]: ...

    def states(self, timeout: float) -> dict[int, str]: ...

    def close(self) -> None: ...


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a model is.

    Attributes:
        image_size: the side S of its images, pixels.
        latents: L, the length of its code.
        factor_ranges: for each extrinsic factor, in order, the smallest and the largest value the model knows.
        units: for each extrinsic factor, of its values: `dcign_tf.units`.
        periods: of those factors whose values close and have no ends.
    """

    image_size: int
    latents: int
    factor_ranges: Mapping[str, tuple[float, float]]
    units: Mapping[str, str]
    periods: Mapping[str, float]


class Client:
    """A model that TensorFlow Serving serves, one that dcign-export wrote.

    Images are given as arrays, as a `DCIGN` takes them (uint8, or float in [0, 1], [N, S, S, 1]), and come back as
    float32 arrays; or as pictures of any size: names or bytes of PNG and JPEG files come back as the bytes of PNG
    files, Pillow's images as Pillow's. Of pictures the model sees the central square. One picture counts as a list
    of one.

    Requests that meet nobody, or a server that is busy or too slow, are sent again, after random waits that become
    longer; those that the server refuses are not. All methods may be called from any number of threads.

    Args:
        url: http://host:8501 for REST or grpc://host:8500; https:// and grpcs:// encrypt. gRPC needs the package
            tensorflow-serving-api (`pip install 'dcign_tf[serving]'`); REST spells every number of an array out.
        model: its name on the server.
        version: a version; by default the latest that the server has loaded.
        label: a version label of the server's configuration instead, such as "stable".
        timeout: seconds for one request, each time it is sent.
        retries: how often a request is sent again at most.
        images_per_request: more images than this are sent in several requests, one after the other; the signatures
            take 128 at most.

    Raises:
        UsageError: an argument makes no sense.
        DcignError: the package for gRPC is missing.
    """

    def __init__(
        self,
        url: str,
        model: str = "faces",
        version: int | None = None,
        label: str | None = None,
        timeout: float = 30.0,
        retries: int = 4,
        images_per_request: int = 32,
    ) -> None:
        if not 0 < timeout < float("inf"):
            raise UsageError(f"timeout: got {timeout}, must be a number of seconds above 0")
        if retries < 0:
            raise UsageError(f"retries: got {retries}, must be 0 or more")
        if images_per_request < 1:
            raise UsageError(f"images_per_request: got {images_per_request}, must be 1 or more")
        self._address = parse_address(url)
        self._target = Target(model, version, label)
        self._timeout, self._retries, self._most = timeout, retries, images_per_request
        self._lock = threading.Lock()
        self._signatures: dict[str, Signature] | None = None
        self._metadata: Metadata | None = None
        self._transport = _open(self._address, self._target)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes all connections."""
        self._transport.close()

    # What the model does.

    @overload
    def rerender(
        self, images: np.ndarray, values: Mapping[str, Any] | None = None, /, **more: Any
    ) -> np.ndarray: ...

    @overload
    def rerender(
        self,
        images: File | Sequence[File],
        values: Mapping[str, Any] | None = None,
        /,
        **more: Any,
    ) -> list[bytes]: ...

    @overload
    def rerender(
        self,
        images: Image.Image | Sequence[Image.Image],
        values: Mapping[str, Any] | None = None,
        /,
        **more: Any,
    ) -> list[Image.Image]: ...

    def rerender(self, images: Any, values: Mapping[str, Any] | None = None, /, **more: Any) -> Any:
        """Renders what images show with some factors set to other values.

        Args:
            images: N arrays or pictures, as the class says.
            values: for any of the factors its value, or [N]; NaN keeps it. With one image, K values of a factor
                give K images.
            **more: the same by keyword: `azimuth=30`.

        Returns:
            As many images, of the same kind.

        Raises:
            UsageError: no such factor, or another number of values than of images.
            DcignError: a file cannot be read.
            ServerError: one of its kinds, by what went wrong on the way or there.
        """
        kind, given = self._given(images)
        name = "serving_default" if kind == "arrays" else "rerender_bytes"
        signature = self._signature(name)
        inputs = dict(given)
        wanted = {**(values or {}), **more}
        factors = self.factor_ranges
        for factor in wanted:
            if factor not in factors:
                known = ", ".join(factors)
                raise UsageError(f"{factor}: not a factor of this model; it has {known}")
        for factor in factors:
            inputs[factor] = _values(factor, wanted.get(factor, np.nan))
        return _as(kind, self._call(name, signature, _broadcast(inputs, next(iter(given)))))

    @overload
    def reconstruct(self, images: np.ndarray) -> np.ndarray: ...

    @overload
    def reconstruct(self, images: File | Sequence[File]) -> list[bytes]: ...

    @overload
    def reconstruct(self, images: Image.Image | Sequence[Image.Image]) -> list[Image.Image]: ...

    def reconstruct(self, images: Any) -> Any:
        """Encodes and decodes images; as many, of the same kind."""
        kind, given = self._given(images)
        name = "reconstruct" if kind == "arrays" else "reconstruct_bytes"
        return _as(kind, self._call(name, self._signature(name), given))

    def encode(self, images: Any) -> tuple[np.ndarray, np.ndarray]:
        """The posterior of the code: its mean and log-variance, each float32 [N, L]."""
        outputs = self._encode(images)
        return outputs["mean"], outputs["log_variance"]

    def infer(self, images: Any) -> dict[str, np.ndarray]:
        """Reads the extrinsic factors off images; for each factor its value, float32 [N]."""
        outputs = self._encode(images)
        return {factor: outputs[factor] for factor in self.factor_ranges}

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Renders codes [N, L]; float32 [N, S, S, 1]."""
        return self._call("decode", self._signature("decode"), _codes(codes))["images"]

    def decode_pictures(self, codes: np.ndarray) -> list[Image.Image]:
        """Renders codes [N, L] as pictures, which travel as PNG files: fewer bytes than `decode`, of 8 bits."""
        name = "decode_bytes"
        return _as("pictures", self._call(name, self._signature(name), _codes(codes)))

    # What the model is.

    def metadata(self) -> Metadata:
        """Asks what the model is, the first time; then remembers it."""
        with self._lock:
            if self._metadata is not None:
                return self._metadata
        side, length, factors = self._shapes()
        names = np.array([name.encode() for name in factors], object)
        about = self._call("factors", self._signature("factors"), {"factor": names})
        # JSON objects have no order; the model's factors have.
        order = np.argsort(about["index"], kind="stable")
        found = Metadata(
            side,
            length,
            {factors[i]: (float(about["low"][i]), float(about["high"][i])) for i in order},
            {factors[i]: about["unit"][i].decode("utf-8", "replace") for i in order},
            {factors[i]: float(about["period"][i]) for i in order if about["period"][i]},
        )
        with self._lock:
            self._metadata = found
        return found

    @property
    def image_size(self) -> int:
        """The side S of the model's images, pixels."""
        return self.metadata().image_size

    @property
    def factor_ranges(self) -> Mapping[str, tuple[float, float]]:
        """See `Metadata`."""
        return self.metadata().factor_ranges

    @property
    def units(self) -> Mapping[str, str]:
        """See `Metadata`."""
        return self.metadata().units

    @property
    def periods(self) -> Mapping[str, float]:
        """See `Metadata`."""
        return self.metadata().periods

    def versions(self) -> dict[int, str]:
        """The model's versions on the server, with their states; those that are "AVAILABLE" answer."""
        return self._insist(self._transport.states)

    # How it is asked.

    def _signature(self, name: str) -> Signature:
        with self._lock:
            signatures = self._signatures
        if signatures is None:
            signatures = self._insist(self._transport.signatures)
            with self._lock:
                self._signatures = signatures
        if name not in signatures:
            raise self._told(
                RequestRefused(
                    f"the model has no signature {name}, but {', '.join(sorted(signatures))}; export it "
                    "again with this version of dcign-export"
                )
            )
        return signatures[name]

    def _shapes(self) -> tuple[int, int, list[str]]:
        """The side of the images, the length of the code, and the factors in no order."""
        encode = self._signature("encode")
        others = {*encode.outputs} - {"mean", "log_variance"}
        try:
            _, side, _, _ = encode.inputs["images"].shape
            _, length = encode.outputs["mean"].shape
        except (KeyError, ValueError):
            side = length = None
        if not side or not length or not others:
            raise self._told(BadResponse("the model's signatures are not those of dcign-export"))
        return side, length, sorted(others)

    def _given(self, images: Any) -> tuple[str, dict[str, np.ndarray]]:
        """What kind of images they are, and the input that they become."""
        if isinstance(images, np.ndarray):
            return "arrays", {"images": self._arrays(images)}
        if isinstance(images, Image.Image | str | os.PathLike | bytes):
            images = [images]
        listed = list(images)
        if not listed:
            raise UsageError("images: got none, must be one or more")
        if all(isinstance(image, Image.Image) for image in listed):
            return "pictures", {"image_bytes": _objects(map(_png, listed))}
        if all(isinstance(image, str | os.PathLike | bytes) for image in listed):
            return "files", {"image_bytes": _objects(map(_content, listed))}
        kinds = ", ".join(sorted({type(image).__name__ for image in listed}))
        raise UsageError(
            f"images: got a list of {kinds}, must be an array [N, S, S, 1], or pictures: all of "
            "them files, or all of them Pillow's"
        )

    def _arrays(self, images: np.ndarray) -> np.ndarray:
        side, _, _ = self._shapes()
        if images.ndim != 4 or images.shape[1:] != (side, side, 1) or not len(images):
            raise UsageError(
                f"images: got an array {list(images.shape)}, must be [N, {side}, {side}, 1]"
            )
        if images.dtype == np.uint8:
            return images.astype(np.float32) / 255
        if images.dtype.kind != "f":
            raise UsageError(
                f"images: got an array of {images.dtype}, must be uint8, or float in [0, 1]"
            )
        return images.astype(np.float32)

    def _encode(self, images: Any) -> dict[str, np.ndarray]:
        kind, given = self._given(images)
        name = "encode" if kind == "arrays" else "encode_bytes"
        return self._call(name, self._signature(name), given)

    def _call(
        self, name: str, signature: Signature, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Calls a signature on a bounded number of images at a time."""
        parts = []
        for start in range(0, size_of(inputs), self._most):
            part = {key: value[start : start + self._most] for key, value in inputs.items()}
            parts.append(
                self._insist(functools.partial(self._transport.predict, name, signature, part))
            )
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def _insist(self, attempt: Callable[[float], _T]) -> _T:
        """Tries until it succeeds, or fails for good."""
        for number in range(self._retries + 1):
            try:
                return attempt(self._timeout)
            except ServerError as error:
                if not error.retriable or number == self._retries:
                    if isinstance(error, RequestRefused | BadResponse):
                        # Perhaps the server has another version of the model by now.
                        with self._lock:
                            self._signatures = self._metadata = None
                    raise self._told(error, number + 1) from error
                # Random, lest all clients of a server that comes back knock at the same time.
                time.sleep(random.uniform(0, min(_LONGEST_WAIT, _FIRST_WAIT * 2**number)))
        raise AssertionError("unreachable")

    def _told(self, error: ServerError, attempts: int = 1) -> ServerError:
        """The same error with the server's and the model's name."""
        often = f" ({attempts} attempts)" if attempts > 1 else ""
        return type(error)(f"{self._address}, model {self._target}: {error}{often}")


def _open(address: Address, target: Target) -> _Transport:
    if address.scheme.startswith("http"):
        from dcign_tf.serving.rest_transport import RestTransport

        return RestTransport(address, target)
    try:
        from dcign_tf.serving.grpc_transport import GrpcTransport
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("grpc", "tensorflow_serving"):
            raise
        raise DcignError(
            f"{address}: gRPC needs the package tensorflow-serving-api: pip install "
            "'dcign_tf[serving]'; or use http:// and the port of the REST interface"
        ) from error
    return GrpcTransport(address, target)


def _values(factor: str, given: Any) -> np.ndarray:
    try:
        values = np.asarray(given, np.float32)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{factor}: got {given!r}, must be a number or a list of them") from error
    if values.ndim > 1:
        raise UsageError(f"{factor}: got an array {list(values.shape)}, must be a number or [N]")
    return np.atleast_1d(values)


def _broadcast(inputs: Mapping[str, np.ndarray], images: str) -> dict[str, np.ndarray]:
    """Makes all inputs as long as the longest: those of length 1 are repeated."""
    count = max(len(value) for value in inputs.values())
    if (most := len(inputs[images])) > 1:
        count = most
    for name, value in inputs.items():
        if len(value) not in (1, count):
            raise UsageError(
                f"{name}: got {len(value)} values for {len(inputs[images])} images; must be one for "
                "all, or one for each"
            )
    return {k: v if len(v) == count else np.repeat(v, count, axis=0) for k, v in inputs.items()}


def _codes(codes: np.ndarray) -> dict[str, np.ndarray]:
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.dtype.kind not in "fiu" or not len(codes):
        raise UsageError(
            f"codes: got an array {list(codes.shape)} of {codes.dtype}, must be numbers [N, L]"
        )
    return {"codes": codes.astype(np.float32)}


def _content(file: File) -> bytes:
    return file if isinstance(file, bytes) else image_files.read_bytes(file, os.fspath(file))


def _png(picture: Image.Image) -> bytes:
    """A picture as it travels."""
    buffer = io.BytesIO()
    try:
        upright = ImageOps.exif_transpose(picture)
        # For what PNG has no room; the other modes, with their transparency, it keeps.
        if upright.mode not in ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"):
            upright = upright.convert("RGB")
        upright.save(buffer, "PNG")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"images: a picture of mode {picture.mode} cannot be sent ({error})"
        ) from error
    return buffer.getvalue()


def _objects(values: Iterable[bytes]) -> np.ndarray:
    listed = list(values)
    array = np.empty(len(listed), object)
    array[:] = listed
    return array


def _as(kind: str, outputs: Mapping[str, np.ndarray]) -> Any:
    """Images as their user wants them."""
    if kind == "arrays":
        return outputs["images"]
    contents: list[bytes] = list(outputs["image_bytes"])
    if kind == "files":
        return contents
    try:
        pictures = [Image.open(io.BytesIO(content), formats=["PNG"]) for content in contents]
        for picture in pictures:
            picture.load()
    except Exception as error:
        # Pillow's decoders answer damaged files with nearly every exception Python has.
        raise BadResponse(f"the server's picture is no PNG file ({error})") from error
    return pictures
