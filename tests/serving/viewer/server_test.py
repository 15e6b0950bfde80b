"""What the page's server answers, and what it refuses: all that can be asked without a browser."""

import base64
import dataclasses
import importlib
import io
import socket
import threading
import urllib.error
import urllib.request
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from werkzeug.test import Client

from dcign_tf import images
from dcign_tf.errors import UsageError
from dcign_tf.serving import engine as engines
from dcign_tf.serving.viewer import server
from dcign_tf.serving.viewer.studio import Studio
from tests.serving import tiny


@pytest.fixture(scope="module")
def studio() -> Studio:
    engine = engines.engine_of(tiny.model())
    return Studio({"one": engine, "two": engine}, list(tiny.images(4)[..., 0]))


@pytest.fixture(scope="module")
def client(studio: Studio) -> Any:
    return Client(server.App(studio, frozenset({"localhost"})))


def _png(pixels: np.ndarray) -> bytes:
    return images.png_bytes(pixels)


def _url(pixels: np.ndarray) -> str:
    return "data:image/png;base64," + base64.b64encode(_png(pixels.astype(np.float32))).decode()


@pytest.fixture(scope="module")
def face(client: Any) -> dict[str, Any]:
    answer = client.post("/api/picture", data=_png(tiny.images(1)[0]))
    assert answer.status_code == 200
    return answer.json


def _scene(face: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {"model": 0, "code": face["parts"][0]["code"], "values": {}, **others}


def _rendered(client: Any, scene: dict[str, Any]) -> np.ndarray:
    answer = client.post("/api/render", json=scene)
    assert answer.status_code == 200, answer.json
    return np.frombuffer(answer.data, np.uint8).reshape(38, 38, 1)


def test_the_page_comes_whole_and_from_here(client: Any) -> None:
    page = client.get("/")
    assert page.mimetype == "text/html"
    for name in ("view.css", "view.js", "icon.svg"):
        assert name in page.text
        assert client.get(f"/{name}").status_code == 200
        assert "http" not in client.get(f"/{name}").text.replace("http://www.w3.org", "")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["/nothing", "/../setup.py", "/..%2fserver.py", "/page/../server.py", "/server.py"]
)
def test_no_other_file_is_served(client: Any, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json["error"]


def test_models_are_described_by_their_own_factors(client: Any) -> None:
    told = client.get("/api/studio").json
    assert [model["name"] for model in told["models"]] == ["one", "two"]
    assert told["models"][0]["image_size"] == 38
    first = told["models"][0]["factors"][0]
    assert first == {"name": "azimuth", "unit": "degrees", "low": -90, "high": 90, "period": None}
    assert told["samples"] == 4
    assert told["random"] is True
    sample = client.get("/api/samples/3")
    assert Image.open(io.BytesIO(sample.data)).size == (38, 38)
    assert client.get("/api/samples/4").status_code == 404
    assert client.get("/api/samples/-1").status_code == 404


def test_a_picture_is_read_as_the_model_reads_it(face: dict[str, Any]) -> None:
    image = images.to_bytes(tiny.images(1))
    expected = tiny.model().infer(image)
    assert len(face["parts"]) == 2
    for factor, value in face["parts"][1]["values"].items():
        assert value == pytest.approx(float(expected[factor][0]), abs=0.05)
    shown = base64.b64decode(face["picture"].removeprefix("data:image/png;base64,"))
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(shown))), image[0, ..., 0])


def test_values_are_set_and_the_rest_is_kept(client: Any, face: dict[str, Any]) -> None:
    image = images.to_bytes(tiny.images(1))
    kept = _rendered(client, _scene(face))
    np.testing.assert_allclose(kept / 255, tiny.model()(image)[0], atol=0.005)
    turned = _rendered(client, _scene(face, values={"azimuth": 60, "light_azimuth": -30.0}))
    expected = tiny.model().rerender(image, azimuth=60.0, light_azimuth=-30.0)[0]
    np.testing.assert_allclose(turned / 255, expected, atol=0.005)
    beyond = _rendered(client, _scene(face, values={"azimuth": 1e30}))
    np.testing.assert_array_equal(beyond, _rendered(client, _scene(face, values={"azimuth": 90})))


def test_morphing_changes_the_intrinsic_code_alone(client: Any, face: dict[str, Any]) -> None:
    other = client.post("/api/picture", data=_png(tiny.images(2, seed=5)[1])).json
    code = other["parts"][0]["code"]
    start = _rendered(client, _scene(face, other=code, blend=0))
    np.testing.assert_array_equal(start, _rendered(client, _scene(face)))
    end = _rendered(client, _scene(face, other=code, blend=1))
    mixed = [*face["parts"][0]["code"][:3], *code[3:]]
    expected = tiny.model().decode(np.array([mixed], np.float32))[0]
    np.testing.assert_allclose(end / 255, expected, atol=0.005)
    half = _rendered(client, _scene(face, other=code, blend=0.5)).astype(int)
    assert np.abs(half - start).max() > 2
    assert np.abs(half - end).max() > 2


@pytest.fixture(scope="module")
def photo(client: Any) -> dict[str, Any]:
    """A photograph in which a face was found."""
    buffer = io.BytesIO()
    Image.fromarray(importlib.import_module("skimage.data").astronaut()).save(buffer, "PNG")
    answer = client.post("/api/picture?photo=1", data=buffer.getvalue())
    assert answer.status_code == 200
    return answer.json


def test_faces_are_found_in_photos(
    client: Any, face: dict[str, Any], photo: dict[str, Any]
) -> None:
    assert client.get("/api/studio").json["faces"] is True
    assert photo["found"] is True and face["found"] is False
    shown = base64.b64decode(photo["picture"].removeprefix("data:image/png;base64,"))
    head = np.array(Image.open(io.BytesIO(shown))) / 255
    # Cut out of its background.
    assert head[:10].max() < 0.1 and head[:, :5].max() < 0.1
    middle = len(head) // 2
    assert head[middle - 9 : middle + 9, middle - 9 : middle + 9].mean() > 0.3
    # Where there is none, a picture is taken as it is.
    plain = client.post("/api/picture?photo=1", data=_png(tiny.images(1)[0])).json
    assert plain == face


def test_detail_is_kept(client: Any, face: dict[str, Any], photo: dict[str, Any]) -> None:
    assert [part["detail"] for part in face["parts"]] == [None, None]  # before no black
    detail = photo["parts"][0]["detail"]
    picture = Image.open(
        io.BytesIO(base64.b64decode(detail.removeprefix("data:image/png;base64,")))
    )
    assert picture.size == (tiny.SIZE, tiny.SIZE)
    network = _rendered(client, _scene(photo)).astype(int)
    kept = _rendered(client, _scene(photo, detail=detail)).astype(int)
    # Nothing is moved: the middle of the face is the picture's.
    inside = np.s_[15:22, 16:22, 0]
    np.testing.assert_allclose(kept[inside], np.array(picture)[inside[:2]], atol=30)
    assert np.abs(network[inside] - np.array(picture)[inside[:2]]).max() > 60
    turned = _rendered(client, _scene(photo, detail=detail, values={"azimuth": 30}))
    assert np.abs(turned.astype(int) - kept).max() > 30
    # The second face has no detail.
    other = {"other": face["parts"][0]["code"], "blend": 1}
    np.testing.assert_array_equal(
        _rendered(client, _scene(photo, detail=detail, **other)),
        _rendered(client, _scene(photo, **other)),
    )
    wanted = {"scenes": [_scene(photo, detail=detail)], "factor": "azimuth", "format": "gif"}
    assert client.post("/api/animation", json=wanted).status_code == 200


def test_new_faces_are_drawn(client: Any) -> None:
    drawn = [client.post("/api/random", json={}).json for _ in range(2)]
    assert drawn[0]["parts"][0]["code"] != drawn[1]["parts"][0]["code"]
    assert drawn[0]["picture"].startswith("data:image/png;base64,")
    assert set(drawn[0]["parts"][0]["values"]) == set(tiny.FACTORS)
    without: Any = Client(server.App(Studio({"one": engines.engine_of(tiny.model())}, [])))
    assert without.get("/api/studio").json["random"] is False
    assert "no sample pictures" in without.post("/api/random", json={}).json["error"]


def test_animations(client: Any, face: dict[str, Any]) -> None:
    scene = _scene(face, values={"elevation": 5})
    wanted = {"scenes": [scene], "factor": "azimuth", "format": "gif"}
    answer = client.post("/api/animation", json=wanted)
    assert answer.mimetype == "image/gif"
    gif = Image.open(io.BytesIO(answer.data))
    assert gif.size == (152, 152)
    assert gif.n_frames == 80  # type: ignore[attr-defined]
    two = {**wanted, "scenes": [scene, {**scene, "model": 1}]}
    wide = Image.open(io.BytesIO(client.post("/api/animation", json=two).data))
    assert wide.size == (308, 152)
    other = {**wanted, "factor": "*blend"}
    assert "no second face" in client.post("/api/animation", json=other).json["error"]
    other["scenes"] = [{**scene, "other": [0.0] * 8}]
    assert client.post("/api/animation", json=other).status_code == 200
    movie = client.post("/api/animation", json={**wanted, "format": "mp4"})
    assert movie.mimetype == "video/mp4"
    assert movie.data[4:8] == b"ftyp"


def test_angles_that_go_all_the_way_around_close(face: dict[str, Any]) -> None:
    engine = engines.engine_of(tiny.model())
    ranges = {**tiny.RANGES, "azimuth": (-90.0, 270.0)}
    client: Any = Client(
        server.App(Studio({"one": dataclasses.replace(engine, factor_ranges=ranges)}, []))
    )
    periods = [f["period"] for f in client.get("/api/studio").json["models"][0]["factors"]]
    assert periods == [360, None, None]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "an empty file"),
        (b"hello", "not a PNG or JPEG image but a text"),
        (b"GIF89a", "a GIF"),
        (_png(tiny.images(1)[0])[:300], "this picture: a damaged or truncated PNG"),
    ],
)
def test_broken_pictures_are_refused_in_words(client: Any, data: bytes, told: str) -> None:
    answer = client.post("/api/picture", data=data)
    assert answer.status_code == 400
    assert told in answer.json["error"]


def test_huge_pictures_are_refused_before_they_are_decoded(client: Any) -> None:
    answer = client.post("/api/picture", data=bytes(server.MAX_UPLOAD + 1))
    assert answer.status_code == 413
    assert "larger than 32 MiB" in answer.json["error"]
    # 8000 x 8000 black pixels are a file of a few kilobytes.
    buffer = io.BytesIO()
    Image.new("1", (8000, 8000)).save(buffer, "PNG")
    bomb = client.post("/api/picture", data=buffer.getvalue())
    assert bomb.status_code == 400
    assert "8000 x 8000 pixels; at most 50 million" in bomb.json["error"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model": 2}, "model: got 2, must be 0 to 1"),
        ({"model": True}, "model: got true"),
        ({"code": [1.0]}, "code: got 1 numbers, this model's code has 8"),
        ({"code": None}, "code: must be a list"),
        ({"code": [1e300] * 8}, "code: has numbers that are not finite, or huge"),
        ({"code": [10**400] * 8}, "code: has numbers that are not finite, or huge"),
        ({"other": [0.0]}, "other: got 1 numbers"),
        ({"values": {"roll": 1}}, "'roll' is not a factor of this model; it has azimuth"),
        ({"values": {"azimuth": "3"}}, "values: must all be numbers"),
        ({"values": []}, "values: got [], must be an object"),
        ({"blend": 1.5}, "blend: got 1.5, must be 0 to 1"),
        ({"detail": 1}, "detail: got 1, must be a text"),
        ({"detail": "data:,x"}, "detail: must be a PNG as a data URL (it begins with 'data:,x')"),
        ({"detail": "data:image/png;base64,*"}, "detail: must be a PNG as a data URL"),
        (
            {"detail": "data:image/png;base64,aGVsbG8="},
            "detail: not a PNG or JPEG image but a text",
        ),
        (
            {"detail": _url(np.zeros([38, 37]))},
            "a picture of 37 x 38 pixels, this model's have 38 x 38",
        ),
        ({"detail": _url(np.ones([38, 38]))}, "needs a picture of a head before black"),
        ({"detail": _url(np.zeros([38, 38]))}, "finds no head in the picture"),
    ],
)
def test_scenes_that_make_no_sense(
    client: Any, face: dict[str, Any], change: dict[str, Any], told: str
) -> None:
    answer = client.post("/api/render", json={**_scene(face), **change})
    assert answer.status_code == 400
    assert told in answer.json["error"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("model", "code", "values", "blend", "detail"), _JSON)
    )
)
@settings(max_examples=40)
def test_any_json_is_answered(client: Any, scene: Any) -> None:
    for path, content in (("/api/render", scene), ("/api/animation", {"scenes": [scene]})):
        assert client.post(path, json=content).status_code in (200, 400)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_object(client: Any, data: bytes) -> None:
    answer = client.post("/api/render", data=data, content_type="application/json")
    assert answer.status_code == 400
    # A form of another site's page cannot send JSON.
    assert client.post("/api/render", data=data).status_code == 415


def test_other_sites_are_refused(client: Any) -> None:
    assert client.get("/", headers={"Host": "localhost:8150"}).status_code == 200
    for host in ("evil.example", "localhost.evil.example:8150", ""):
        assert client.get("/", headers={"Host": host}).status_code == 403
    for origin, status in (
        ("http://localhost", 415),  # Let through, to where JSON is expected.
        ("http://evil.example", 403),
        ("http://localhost:1", 403),
        ("null", 403),
    ):
        assert client.post("/api/random", headers={"Origin": origin}).status_code == status
    anywhere = Client(server.App(client.application._studio, None))
    assert anywhere.get("/", headers={"Host": "a.phone.example"}).status_code == 200


@pytest.mark.parametrize(
    ("host", "name"),
    [("LocalHost:80", "localhost"), ("[::1]:80", "::1"), ("[::1]", "::1"), ("a.b.", "a.b")],
)
def test_names_in_host_headers(host: str, name: str) -> None:
    assert server._name(host) == name


def test_over_a_socket(studio: Studio) -> None:
    listening = server.listen(studio, "127.0.0.1", 0)
    url = server.url_of(listening)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert b"<!doctype html>" in answer.read()
        with pytest.raises(UsageError, match="--host, --port: cannot listen at 127.0.0.1"):
            server.listen(studio, "127.0.0.1", listening.port)
        rebound = urllib.request.Request(url, headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(rebound, timeout=10)
        # Who goes away early does no harm.
        with socket.create_connection(("127.0.0.1", listening.port)) as early:
            early.sendall(
                b"POST /api/picture HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
            )
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.status == 200
    finally:
        listening.shutdown()
        thread.join()


def test_loopback() -> None:
    assert [server.is_loopback(h) for h in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::")] == [
        True,
        True,
        True,
        False,
        False,
    ]
