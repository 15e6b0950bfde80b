"""An exported model works where there is neither Python nor this package: in a program in C."""

import pathlib
import shutil
import subprocess
import sysconfig

import numpy as np
import pytest
import tensorflow as tf

from tests.serving import tiny

_SOURCE = pathlib.Path(__file__).with_name("run_signature.c")
_COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")

pytestmark = pytest.mark.skipif(
    _COMPILER is None or sysconfig.get_platform().split("-")[0] != "linux",
    reason="no C compiler or not Linux: .ci/run runs it, on Linux with gcc or clang",
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("c") / "run_signature"
    libraries = tf.sysconfig.get_lib()
    subprocess.run(
        [
            *[str(_COMPILER), "-std=c11", "-Wall", "-Wextra", "-Werror", str(_SOURCE)],
            *["-o", str(path), f"-I{tf.sysconfig.get_include()}", f"-L{libraries}"],
            *["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"],
            f"-Wl,-rpath,{libraries}",
        ],
        check=True,
    )
    return path


def _run(program: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    folder = str(tiny.exported())
    return subprocess.run(
        [program, folder, *arguments], capture_output=True, text=True, timeout=120
    )


def test_images_are_rerendered_as_in_python(program: pathlib.Path, tmp_path: pathlib.Path) -> None:
    images = tiny.images(3, seed=4)
    values = {
        "azimuth": np.array([10, np.nan, -60], np.float32),
        "elevation": np.array([np.nan, -20, 20], np.float32),
        "light_azimuth": np.array([0, 45, np.nan], np.float32),
    }
    images.tofile(tmp_path / "images.raw")
    inputs = [f"images=3,38,38,1:{tmp_path}/images.raw"]
    for factor, value in values.items():
        value.tofile(tmp_path / f"{factor}.raw")
        inputs.append(f"{factor}=3:{tmp_path}/{factor}.raw")
    result = tmp_path / "result.raw"
    done = _run(program, "serving_default", "images", str(result), *inputs)
    assert done.returncode == 0, done.stderr
    found = np.fromfile(result, np.float32).reshape(images.shape)
    np.testing.assert_allclose(found, tiny.model().rerender(images, **values), atol=1e-5)


def test_a_picture_is_rerendered_as_in_python(
    program: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    image = np.rint(255 * tiny.images(1)).astype(np.uint8)
    (tmp_path / "face.png").write_bytes(tf.io.encode_png(image[0]).numpy())
    result = tmp_path / "result.png"
    inputs = ["azimuth=-30", "elevation=nan", "light_azimuth=60.5"]
    picture = f"image_bytes=@{tmp_path}/face.png"
    done = _run(program, "rerender_bytes", "image_bytes", str(result), picture, *inputs)
    assert done.returncode == 0, done.stderr
    found = tf.io.decode_png(result.read_bytes()).numpy() / 255
    expected = tiny.model().rerender(image, azimuth=-30.0, light_azimuth=60.5)[0]
    np.testing.assert_allclose(found, expected, atol=0.5 / 255 + 1e-5)


def test_refusals_come_through(program: pathlib.Path, tmp_path: pathlib.Path) -> None:
    # The session compares shapes with nothing: the graph itself does.
    np.zeros([2, 40, 38, 1], np.float32).tofile(tmp_path / "images.raw")
    images = f"images=2,40,38,1:{tmp_path}/images.raw"
    result = tmp_path / "result"
    done = _run(program, "encode", "mean", str(result), images)
    assert done.returncode == 1
    assert "images: got shape [2, 40, 38, 1]; must be [N, 38, 38, 1]" in done.stderr
    assert not result.exists()
