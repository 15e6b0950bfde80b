"""The page and what it asks for, over HTTP.

    GET  /                      the page; all it needs comes from here
    GET  /api/studio            what there is: `Studio.describe`
    GET  /api/samples/<n>       a picture to start from; PNG
    POST /api/picture           a PNG or JPEG -> the picture, and each model's code, values and view of it; ?photo=1
                                looks for a face
    POST /api/random            the same for a face that is drawn
    POST /api/render            a scene -> its picture, S * S grey bytes, row by row
    POST /api/animation         scenes, a factor and a format -> a GIF or MP4 file

The last three take JSON; a scene is what `Studio` calls so. Errors are JSON with an `error` for people. A server that
listens on this machine alone answers only to this machine's names, so that no other site's page can reach it through a
name of its own (DNS rebinding), and a browser's requests must come from the page itself.
"""

import base64
import importlib.resources
import ipaddress
import json
import socket
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.routing import Map, Rule
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from dcign_tf import images
from dcign_tf.errors import DcignError, UsageError
from dcign_tf.serving.viewer.studio import Face, Scene, Studio

MAX_UPLOAD = 32 << 20  # bytes
_MAX_JSON = 1 << 20
_MAX_SCENES = 4
_MAX_DETAIL = 1 << 20  # pixels
_PNG_URL = "data:image/png;base64,"
_TIMEOUT = 60.0  # seconds that a connection may be silent

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    # Nothing from elsewhere, and nothing of this in a page from elsewhere.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class _Refused(Exception):
    """A request is not answered; says with which status and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class App:
    """The WSGI application.

    Args:
        studio: what answers.
        hosts: the names it answers to, without ports; None for any.
    """

    def __init__(self, studio: Studio, hosts: frozenset[str] | None = None) -> None:
        self._studio = studio
        self._hosts = hosts
        page = importlib.resources.files(__package__).joinpath("page")
        self._files = {
            file.name: (file.read_bytes(), kind)
            for file in page.iterdir()
            for suffix, kind in _TYPES.items()
            if file.name.endswith(suffix)
        }
        self._urls = Map(
            [
                Rule("/", endpoint="page", methods=["GET"]),
                Rule("/<name>", endpoint="page", methods=["GET"]),
                Rule("/api/studio", endpoint="studio_", methods=["GET"]),
                Rule("/api/samples/<int:number>", endpoint="sample", methods=["GET"]),
                Rule("/api/picture", endpoint="picture", methods=["POST"]),
                Rule("/api/random", endpoint="random", methods=["POST"]),
                Rule("/api/render", endpoint="render", methods=["POST"]),
                Rule("/api/animation", endpoint="animation", methods=["POST"]),
            ]
        )

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """WSGI."""
        request = Request(environ)
        request.max_content_length = MAX_UPLOAD
        try:
            self._check_origin(request)
            endpoint, arguments = self._urls.bind_to_environ(environ).match()
            response: Response = getattr(self, f"_{endpoint}")(request, **arguments)
        except _Refused as error:
            response = _json({"error": str(error)}, error.status)
        except DcignError as error:
            response = _json({"error": str(error)}, 400)
        except RequestEntityTooLarge:
            told = f"this is larger than {MAX_UPLOAD >> 20} MiB, too large for a picture here"
            response = _json({"error": told}, 413)
        except HTTPException as error:
            response = _json({"error": error.description or error.name}, error.code or 500)
        except MemoryError:
            response = _json({"error": "there is not enough memory for this"}, 503)
        response.headers.update(_HEADERS)
        return response(environ, start_response)

    def _check_origin(self, request: Request) -> None:
        host = request.headers.get("Host", "")
        if self._hosts is not None and _name(host) not in self._hosts:
            raise _Refused(403, f"this server does not answer to the name {host[:100]!r}")
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"{request.scheme}://{host}":
            raise _Refused(403, f"this server does not answer pages of {origin[:100]!r}")

    def _page(self, request: Request, name: str = "index.html") -> Response:
        del request
        if name not in self._files:
            raise _Refused(404, "there is no such page")
        content, kind = self._files[name]
        return Response(content, content_type=kind)

    def _studio_(self, request: Request) -> Response:
        del request
        return _json(self._studio.describe())

    def _sample(self, request: Request, number: int) -> Response:
        del request
        if number >= len(self._studio.samples):
            raise _Refused(404, f"there are {len(self._studio.samples)} samples, numbered from 0")
        return Response(self._studio.samples[number], mimetype="image/png")

    def _picture(self, request: Request) -> Response:
        photo = request.args.get("photo") == "1"
        picture, faces, found = self._studio.read(request.get_data(cache=False), photo)
        return _faces(picture, faces, found)

    def _random(self, request: Request) -> Response:
        _body(request)
        return _faces(*self._studio.draw(np.random.default_rng()))

    def _render(self, request: Request) -> Response:
        picture = self._studio.render(_scene(_body(request)))
        return Response(images.to_bytes(picture).tobytes(), mimetype="application/octet-stream")

    def _animation(self, request: Request) -> Response:
        wanted = _body(request)
        scenes = wanted.get("scenes")
        if not isinstance(scenes, list) or not 1 <= len(scenes) <= _MAX_SCENES:
            raise _Refused(400, f"scenes: must be a list of 1 to {_MAX_SCENES}")
        factor, format_ = (_typed(wanted, name, str) for name in ("factor", "format"))
        movie = self._studio.animate([_scene(scene) for scene in scenes], factor, format_)
        kind = {"gif": "image/gif", "mp4": "video/mp4"}[format_]
        return Response(movie, mimetype=kind)


def _json(content: Mapping[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(content, allow_nan=False), status, mimetype="application/json")


def _faces(picture: np.ndarray, faces: list[Face], found: bool = False) -> Response:
    """The answer to who asks for a face; `found` says whether one was found in a photo."""
    parts = [
        {
            "code": face.code.tolist(),
            "values": dict(face.values),
            "detail": None if face.detail is None else _data_url(face.detail),
        }
        for face in faces
    ]
    return _json({"picture": _data_url(picture), "parts": parts, "found": found})


def _data_url(picture: np.ndarray) -> str:
    return _PNG_URL + base64.b64encode(images.png_bytes(picture)).decode()


def _body(request: Request) -> dict[str, Any]:
    """The JSON object that a request sends."""
    if request.mimetype != "application/json":
        raise _Refused(415, f"the request must be application/json, got {request.mimetype!r}")
    request.max_content_length = _MAX_JSON
    try:
        content = json.loads(request.get_data(cache=False))
    except (ValueError, RecursionError) as error:
        raise _Refused(400, f"the request is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise _Refused(400, f"the request must be a JSON object, got {type(content).__name__}")
    return content


def _scene(content: Any) -> Scene:
    """A scene as JSON has it."""
    if not isinstance(content, dict):
        raise _Refused(400, f"a scene must be an object, got {type(content).__name__}")
    values = _typed(content, "values", dict)
    if not all(_is_number(value) for value in values.values()):
        raise _Refused(400, "values: must all be numbers")
    other = content.get("other")
    return Scene(
        model=_typed(content, "model", int),
        code=_code(content.get("code"), "code"),
        values={factor: _float(value) for factor, value in values.items()},
        other=None if other is None else _code(other, "other"),
        blend=_float(content["blend"]) if _is_number(content.get("blend")) else 0.0,
        detail=None if content.get("detail") is None else _detail(_typed(content, "detail", str)),
    )


def _detail(url: str) -> np.ndarray:
    """The picture of which a face's detail is, as `_faces` gave it; float32 [H, W, 1]."""
    try:
        if not url.startswith(_PNG_URL):
            raise ValueError(f"it begins with {url[:30]!r}")
        png = base64.b64decode(url.removeprefix(_PNG_URL), validate=True)
    except ValueError as error:
        raise _Refused(400, f"detail: must be a PNG as a data URL ({error})") from error
    return images.read_image(png, "detail", _MAX_DETAIL)[..., None]


def _code(numbers: Any, name: str) -> np.ndarray:
    if not isinstance(numbers, list) or not all(map(_is_number, numbers)):
        raise _Refused(400, f"{name}: must be a list of numbers")
    # What is too large becomes infinite, and is refused with the rest.
    with np.errstate(over="ignore"):
        return np.array([_float(number) for number in numbers]).astype(np.float32)


def _typed(content: Mapping[str, Any], name: str, kind: type) -> Any:
    value = content.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _Refused(400, f"{name}: got {json.dumps(value)[:100]}, must be {_KINDS[kind]}")
    return value


_KINDS = {int: "a whole number", str: "a text", dict: "an object"}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _float(number: int | float) -> float:
    """A number of JSON, whose whole numbers have no end."""
    try:
        return float(number)
    except OverflowError:
        return float("inf")


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    name, colon, port = host.rpartition(":")
    without_port = name if colon and port.isdecimal() else host
    return without_port.strip("[]").rstrip(".").lower()


class _Handler(WSGIRequestHandler):
    """Says nothing of each request, and does not wait for ever for one."""

    timeout = _TIMEOUT

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing."""

    def log_error(self, format: str, *args: Any) -> None:
        """Nothing: it is about connections that ended early."""


def is_loopback(host: str) -> bool:
    """Whether a server that listens at a name or address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def listen(studio: Studio, host: str, port: int) -> BaseWSGIServer:
    """A server that is bound, but does not answer before its `serve_forever` is called.

    Args:
        studio: what answers.
        host: the name or address to listen at.
        port: 0 for any that is free.

    Raises:
        UsageError: that is not possible there.
    """
    names = frozenset({"localhost", "127.0.0.1", "::1", host.lower()})
    app = App(studio, names if is_loopback(host) else None)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # Werkzeug's own attempt would end the process where it fails.
        with socket.create_server((host, port), family=family, backlog=128) as bound:
            return make_server(
                host, port, app, threaded=True, request_handler=_Handler, fd=bound.fileno()
            )
    except OSError as error:
        raise UsageError(
            f"--host, --port: cannot listen at {host}, port {port} ({error.strerror}); give another --port, or 0 "
            "for any that is free"
        ) from error


def url_of(server: BaseWSGIServer) -> str:
    """Where a browser on this machine finds the page."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    host = everywhere.get(server.host, server.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{server.port}/"
