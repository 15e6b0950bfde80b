"""A served model does what the same model does here, by REST and by gRPC; see `served` for what serves it."""

import io
import pathlib
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dcign_tf.errors import DcignError, UsageError
from dcign_tf.serving import Client
from dcign_tf.serving.server_errors import ModelNotFound, RequestRefused, ServerError
from tests.serving import served


@pytest.fixture(scope="module")
def there() -> served.Served:
    return served.served()


@pytest.fixture(scope="module", params=["rest", "grpc"])
def url(request: pytest.FixtureRequest, there: served.Served) -> str:
    return str(getattr(there, request.param))


@pytest.fixture(scope="module")
def client(there: served.Served, url: str) -> Iterator[Client]:
    with Client(url, there.name) as client:
        yield client


def test_what_the_model_is(client: Client, there: served.Served) -> None:
    found = client.metadata()
    assert found.image_size == there.local.image_size
    assert list(found.factor_ranges) == list(there.local.factor_ranges)
    for factor, ends in there.local.factor_ranges.items():
        assert found.factor_ranges[factor] == pytest.approx(ends, rel=1e-5)
    assert found.units == there.local.units
    assert found.latents == there.call("encode", images=there.images(1))["mean"].shape[1]
    assert client.versions()[there.version] == "AVAILABLE"


def test_rerender(client: Client, there: served.Served) -> None:
    images = there.images(3)
    factor, (low, high) = next(iter(there.local.factor_ranges.items()))
    for values in ([low, np.nan, high], low, None):
        given = {} if values is None else {factor: values}
        expected = there.local.rerender(images, given)
        np.testing.assert_allclose(client.rerender(images, given), expected, atol=1e-5)
        np.testing.assert_allclose(client.rerender(images, **given), expected, atol=1e-5)


def test_one_image_at_several_values(client: Client, there: served.Served) -> None:
    image = there.images(1)
    factor, ends = next(iter(there.local.factor_ranges.items()))
    turned = client.rerender(image, {factor: np.linspace(*ends, 5)})
    expected = there.local.rerender(image.repeat(5, 0), {factor: np.linspace(*ends, 5)})
    np.testing.assert_allclose(turned, expected, atol=1e-5)
    assert np.abs(turned[0] - turned[-1]).max() > 0.01


def test_bytes_and_other_floats(client: Client, there: served.Served) -> None:
    pixels = (255 * there.images(2)).astype(np.uint8)
    expected = there.call("reconstruct", images=pixels.astype(np.float32) / 255)["images"]
    np.testing.assert_allclose(client.reconstruct(pixels), expected, atol=1e-5)
    found = client.reconstruct(pixels.astype(np.float64) / 255)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == np.float32


def test_codes(client: Client, there: served.Served) -> None:
    images = there.images(4)
    expected = there.call("encode", images=images)
    mean, log_variance = client.encode(images)
    np.testing.assert_allclose(mean, expected["mean"], atol=1e-4)
    np.testing.assert_allclose(log_variance, expected["log_variance"], atol=1e-4)
    read = client.infer(images)
    assert list(read) == list(there.local.factor_ranges)
    for factor, values in read.items():
        np.testing.assert_allclose(values, expected[factor], atol=1e-3)
    np.testing.assert_allclose(
        client.decode(mean), there.call("decode", codes=mean)["images"], atol=1e-5
    )


def _pictures(count: int) -> list[Image.Image]:
    """Pictures in several modes and shapes."""
    rng = np.random.default_rng(2)
    pictures = []
    for number, mode in zip(range(count), ["RGB", "L", "RGBA", "P", "CMYK", "I;16"], strict=False):
        pixels = rng.integers(0, 256, [4 + number, 5, 3], np.uint8)
        large = Image.fromarray(pixels).resize((50, 45), Image.Resampling.BICUBIC)
        pictures.append(
            large.convert(mode) if mode != "I;16" else large.convert("L").convert("I;16")
        )
    return pictures


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def test_files_come_back_as_files(
    client: Client, there: served.Served, tmp_path: pathlib.Path
) -> None:
    contents = [_png(picture) for picture in _pictures(4)]
    (tmp_path / "face.png").write_bytes(contents[0])
    factor, (low, _) = next(iter(there.local.factor_ranges.items()))
    values = {**there.kept(4), factor: np.full(4, low, np.float32)}
    expected = there.call("rerender_bytes", image_bytes=contents, **values)["image_bytes"]
    turned = client.rerender([tmp_path / "face.png", *contents[1:]], {factor: low})
    assert all(isinstance(content, bytes) for content in turned)
    _same_pictures(turned, list(expected))
    alone = client.rerender(str(tmp_path / "face.png"), {factor: [low, np.nan]})
    _same_pictures(alone, [expected[0], client.reconstruct(contents[0])[0]])


def test_pictures_come_back_as_pictures(client: Client, there: served.Served) -> None:
    pictures = _pictures(6)
    found = client.reconstruct(pictures)
    plain = [p.convert("RGB") if p.mode == "CMYK" else p for p in pictures]
    _same_pictures(found, list(client.reconstruct([_png(picture) for picture in plain])))
    assert {picture.size for picture in found} == {(there.local.image_size,) * 2}
    assert client.rerender(pictures[0])[0].mode == "L"


def test_what_is_read_off_pictures(client: Client, there: served.Served) -> None:
    contents = [_png(picture) for picture in _pictures(3)]
    expected = there.call("encode_bytes", image_bytes=contents)
    np.testing.assert_allclose(client.encode(contents)[0], expected["mean"], atol=1e-4)
    for factor, values in client.infer(_pictures(3)).items():
        np.testing.assert_allclose(values, expected[factor], atol=1e-2)
    drawn = client.decode_pictures(expected["mean"])
    _same_pictures(drawn, list(client.reconstruct(contents)))


def _same_pictures(found: list[Any], expected: list[Any]) -> None:
    """Alike but for rounding: one grey value, where two sums of floats differ in their last digit."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        pixels = [
            np.asarray(Image.open(io.BytesIO(each)) if isinstance(each, bytes) else each, np.int32)
            for each in (one, other)
        ]
        assert np.abs(pixels[0] - pixels[1]).max() <= 1


def test_turned_photographs(client: Client) -> None:
    upright = _pictures(1)[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(buffer, "PNG", exif=exif)
    with Image.open(buffer) as photograph:
        _same_pictures(client.reconstruct(photograph), list(client.reconstruct(upright)))


def test_many_images_go_in_parts(
    there: served.Served, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(url, there.name, images_per_request=3) as client:
        client.metadata()
        sizes = []
        predict = client._transport.predict

        def counted(name: str, signature: Any, inputs: Any, timeout: float) -> Any:
            sizes.append(len(inputs["images"]))
            return predict(name, signature, inputs, timeout)

        monkeypatch.setattr(client._transport, "predict", counted)
        images = there.images(7)
        factor, ends = next(iter(there.local.factor_ranges.items()))
        values = {factor: np.linspace(*ends, 7)}
        turned = client.rerender(images, values)
        assert sizes == [3, 3, 1]
        np.testing.assert_allclose(turned, there.local.rerender(images, values), atol=1e-5)


def test_threads_share_a_client(there: served.Served, url: str) -> None:
    factor, (low, high) = next(iter(there.local.factor_ranges.items()))
    images = there.images(8)
    expected = there.local.rerender(images, {factor: np.linspace(low, high, 8)})
    ready = threading.Barrier(8)
    with Client(url, there.name) as client:

        def ask(number: int) -> np.ndarray:
            ready.wait()
            value = np.linspace(low, high, 8)[number]
            return client.rerender(images[number : number + 1], {factor: value})[0]

        with futures.ThreadPoolExecutor(8) as pool:
            np.testing.assert_allclose(list(pool.map(ask, range(8))), expected, atol=1e-5)


def test_versions_and_labels(there: served.Served, url: str) -> None:
    images = there.images(1)
    with Client(url, there.name, version=there.version) as client:
        assert client.reconstruct(images).shape == images.shape
        assert list(client.versions()) == [there.version]
    if not there.real:
        with Client(url, there.name, label=served.LABEL) as client:
            assert client.reconstruct(images).shape == images.shape
            assert list(client.versions()) == [1]


@pytest.mark.parametrize(
    "target", [{"model": "none"}, {"version": 999_999}, {"label": "nonsense"}, {"model": "nö ne"}]
)
def test_models_that_are_not_there(there: served.Served, url: str, target: dict[str, Any]) -> None:
    with Client(url, **{"model": there.name, **target}) as client:
        with pytest.raises(ModelNotFound) as raised:
            client.reconstruct(there.images(1))
        assert str(raised.value).startswith(f"{url}, model {target.get('model', there.name)}")


def test_arguments_that_make_no_sense(client: Client, there: served.Served) -> None:
    images = there.images(2)
    factor = next(iter(there.local.factor_ranges))
    for wrong, told in (
        (lambda: client.rerender(images, nonsense=3), "nonsense: not a factor of this model"),
        (lambda: client.rerender(images, {factor: "left"}), f"{factor}: got 'left'"),
        (lambda: client.rerender(images, {factor: [1, 2, 3]}), f"{factor}: got 3 values for 2"),
        (lambda: client.rerender(images, {factor: [[1.0]]}), f"{factor}: got an array [1, 1]"),
        (lambda: client.rerender(images[0]), "images: got an array"),
        (lambda: client.rerender(images[:0]), "images: got an array [0,"),
        (lambda: client.rerender(images[:, 1:]), "images: got an array"),
        (lambda: client.rerender(images.astype(int)), "images: got an array of int64"),
        (lambda: client.reconstruct([]), "images: got none"),
        (lambda: client.infer([b"", images]), "images: got a list of bytes, ndarray"),
        (lambda: client.decode(images), "codes: got an array"),
        (lambda: client.decode(np.array([["a"]])), "codes: got an array [1, 1] of <U1"),
    ):
        with pytest.raises(UsageError) as raised:
            wrong()
        assert str(raised.value).startswith(told)
    with pytest.raises(DcignError, match="none.png: No such file"):
        client.infer("none.png")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"url": "localhost:8501"}, "server: got 'localhost:8501', without a scheme"),
        ({"model": ""}, "model: got ''"),
        ({"model": "a/b"}, "model: got 'a/b'"),
        ({"version": -1}, "version: got -1"),
        ({"version": 1, "label": "a"}, "version: got 1 and the label 'a'"),
        ({"label": "a:b"}, "label: got 'a:b'"),
        ({"timeout": 0}, "timeout: got 0"),
        ({"timeout": float("inf")}, "timeout: got inf"),
        ({"retries": -1}, "retries: got -1"),
        ({"images_per_request": 0}, "images_per_request: got 0"),
    ],
)
def test_clients_that_make_no_sense(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as raised:
        Client(**{"url": "http://localhost:8501", **arguments})
    assert str(raised.value).startswith(told)


def test_the_server_refuses(client: Client, there: served.Served) -> None:
    length = client.metadata().latents
    with pytest.raises(RequestRefused, match=rf", model {there.name}: codes: got shape"):
        client.decode(np.zeros([1, length + 1]))
    factor, (_, high) = next(iter(there.local.factor_ranges.items()))
    with pytest.raises(RequestRefused, match=f", model {there.name}: {factor}: "):
        client.rerender(there.images(2), {factor: [high, 3 * high]})
    with pytest.raises(RequestRefused, match="images: "):
        client.reconstruct(there.images(2) + 1)
    with pytest.raises(RequestRefused, match="image_bytes"):
        client.infer([_png(_pictures(1)[0]), b"no picture"])
    # And the next request is none the worse for it.
    assert client.reconstruct(there.images(1)).shape[0] == 1


def test_a_closed_client(there: served.Served, url: str) -> None:
    with Client(url, there.name) as client:
        client.metadata()
    with pytest.raises(ServerError, match="this client is closed"):
        client.versions()


def test_files_that_are_not_there(client: Client, tmp_path: pathlib.Path) -> None:
    with pytest.raises(DcignError, match="a.png: No such file"):
        client.rerender([tmp_path / "a.png"])
