"""One image in, a strip or grid and an animation out; or one line that says why not."""

import importlib
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import dcign_tf
from dcign_tf import images
from dcign_tf.cli import common, rerender
from dcign_tf.scenes import load_source
from dcign_tf.scenes.render import render
from dcign_tf.serving import export
from tests.serving import served, tiny


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tiny.write_workdir(tmp_path_factory.mktemp("runs") / "faces")


@pytest.fixture(autouse=True)
def place(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty current folder, with face.jpg beside it."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    colors = np.random.default_rng(0).integers(0, 256, [80, 60, 3], np.uint8)
    Image.fromarray(colors).save(tmp_path / "face.jpg")
    return folder


def _run(*arguments: str) -> int:
    return common.execute(rerender.main, rerender.FLAGS, ["dcign-rerender", *arguments])


def _written(folder: pathlib.Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_strip_and_an_animation(
    workdir: pathlib.Path, place: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(f"--model={workdir}", "--image=../face.jpg", "--azimuth=-60:60:3") == 0
    assert _written(place) == ["face_rerendered.gif", "face_rerendered.png"]
    with Image.open("face_rerendered.png") as strip:
        assert strip.mode == "L"
        assert strip.width > 5 * 152
        assert strip.height < 2 * 152
    with Image.open("face_rerendered.gif") as gif:
        assert gif.is_animated  # type: ignore[attr-defined]
        assert gif.info["loop"] == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("../face.jpg: inferred azimuth ")
    assert out.endswith("wrote face_rerendered.png and face_rerendered.gif\n")


def test_flags_choose_what_is_written_and_where(workdir: pathlib.Path, place: pathlib.Path) -> None:
    exported = export.export(tiny.model(), "faces", output="..")
    (place / "to").mkdir()
    common_flags = [f"--model={exported}", "--image", "../face.jpg", "--nogif"]
    assert (
        _run(*common_flags, "--azimuth", "-60:60:3", "--elevation=-20,20", "--output=to/grid.png")
        == 0
    )
    assert (
        _run(
            *common_flags, "--set=azimuth=-60:60:3", "--set=elevation=-20,20", "--output=to/set.PNG"
        )
        == 0
    )
    assert _written(place / "to") == ["grid.png", "set.PNG"]
    grid = (place / "to" / "grid.png").read_bytes()
    assert (place / "to" / "set.PNG").read_bytes() == grid
    assert _run(f"--model={workdir}", *common_flags[1:], "--image=to/grid.png", "--azimuth=-5") == 0
    assert "face_rerendered.png" in _written(place)
    # The Keras model and its export draw the same, but for rounding.
    assert (
        _run(f"--model={workdir}", *common_flags[1:], "--azimuth=-60:60:3", "--elevation=-20,20")
        == 0
    )
    ours = images.read_image("face_rerendered.png")
    np.testing.assert_allclose(ours, images.read_image("to/grid.png"), atol=1.5 / 255)


@pytest.mark.parametrize("interface", ["rest", "grpc"])
def test_a_model_on_a_server(interface: str, place: pathlib.Path) -> None:
    there = served.served()
    factor, (low, high) = next(iter(there.local.factor_ranges.items()))
    wanted = ["--image=../face.jpg", f"--set={factor}={low}:{high}:3"]
    model = () if there.name == "faces" else (f"--model={there.name}",)
    url = getattr(there, interface)
    assert _run(f"--server={url}", *model, *wanted, "--output=there.png") == 0
    assert _written(place) == ["there.gif", "there.png"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dcign_tf.serving.engine.open_engine", lambda _: there.local)
        assert _run("--model=here", *wanted, "--output=here.png") == 0
    ours = images.read_image("here.png")
    np.testing.assert_allclose(ours, images.read_image("there.png"), atol=1.5 / 255)


@pytest.mark.parametrize("flag", ["--nokeep_detail", "--keep_detail"])
def test_a_server_needs_no_tensorflow_here(place: pathlib.Path, flag: str) -> None:
    there = served.served()
    factor, (low, _) = next(iter(there.local.factor_ranges.items()))
    head, angle = load_source("builtin_face"), np.zeros(1)
    mean = np.zeros([1, head.coefficients], np.float32)
    images.write_png("../head.png", render(head, mean, angle, angle, angle, 70)[0])
    arguments = [f"--server={there.rest}", f"--model={there.name}", "--image=../head.png", flag]
    program = f"""if True:
        import sys
        sys.modules["tensorflow"] = None
        from dcign_tf.cli import rerender
        sys.argv = ["dcign-rerender", *{arguments}, "--set={factor}={low}"]
        rerender.main_entry()
    """
    path = os.pathsep.join([str(pathlib.Path(dcign_tf.__file__).parents[1]), *sys.path])
    subprocess.run(
        [sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert _written(place) == ["head_rerendered.gif", "head_rerendered.png"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dcign_tf.serving.engine.open_engine", lambda _: there.local)
        wanted = (f"--set={factor}={low}", "--output=here.png")
        assert _run("--model=here", "--image=../head.png", flag, *wanted) == 0
    ours = images.read_image("here.png")
    np.testing.assert_allclose(ours, images.read_image("head_rerendered.png"), atol=1.5 / 255)


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["--server=", "--image=../face.jpg"], 2, "--server: got '', without a scheme"),
        (["--server=localhost:8501"], 2, "--server: got 'localhost:8501', without a scheme"),
        (["--server={there}", "--sample=1"], 2, "--sample: needs a workdir"),
        (["--server={there}", "--model=", "--image=../face.jpg"], 2, "model: got ''"),
        (["--server={there}", "--model=none", "--image=../face.jpg"], 1, "model none: "),
        (["--server=http://127.0.0.1:1", "--image=../face.jpg"], 1, "cannot connect: "),
        (["--server={there}", "--image=../face.jpg", "--azimuth=999"], 2, "--azimuth: got 999"),
    ],
)
def test_mistakes_with_servers(
    arguments: list[str],
    status: int,
    told: str,
    place: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dcign_tf.serving.client.time.sleep", lambda _: None)
    given = [argument.format(there=served.served().rest) for argument in arguments]
    if not any(argument.startswith("--azimuth") for argument in given):
        given.append("--azimuth=10")
    assert _run(*given) == status
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert told in err
    assert not _written(place)


_OK = ("--image=../face.jpg", "--azimuth=10")


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("--model=nothing", *_OK), 1, "nothing: no such file"),
        (("--model=nowhere", *_OK), 1, "nowhere: no such file or folder"),
        (("--model=.", *_OK), 1, "holds no model"),
        (("--model=../face.jpg", *_OK), 1, "../face.jpg: not a .keras file"),
        (
            ("--model={w}", "--azimuth=10"),
            2,
            "--image: give one or more of --image, or of --sample",
        ),
        (("--model={w}", *_OK, "--sample=0"), 2, "not both"),
        (("--model={w}/model.keras", "--sample=0", "--azimuth=10"), 2, "--sample: needs a workdir"),
        (("--model={w}", "--sample=0", "--azimuth=10"), 1, "/secret/place"),
        (("--model={w}", "--sample=-1", "--azimuth=10"), 2, "--sample: got -1"),
        (("--model={w}", "--azimuth=10", "--image=none.png"), 1, "none.png: No such file"),
        (("--model={w}", "--azimuth=10", "--image=.."), 1, "..: Is a directory"),
        (("--model={w}", "--azimuth=10", "--image="), 2, "--image: got an empty name"),
        (("--model={w}", *_OK, "--crop=head"), 2, "--crop: got 'head', must be center, face, or"),
        (("--model={w}", *_OK, "--crop=70,0,170,100"), 2, "face.jpg has 60 x 80 pixels"),
        (("--model={w}", "--sample=0", "--azimuth=10", "--crop=face"), 2, "--crop: makes no sense"),
        (("--model={w}", "--sample=0", "--azimuth=10", "--cut_out"), 2, "--cut_out: makes no"),
        (
            ("--model={w}", "--azimuth=10", "--image={w}/config.json"),
            1,
            "not a PNG or JPEG image but a text",
        ),
        (("--model={w}", "--image=../face.jpg"), 2, "no factor to set"),
        (
            ("--model={w}", "--image=../face.jpg", "--azimuth=left"),
            2,
            "--azimuth: got 'left', must be",
        ),
        (
            ("--model={w}", "--image=../face.jpg", "--azimuth=100"),
            2,
            "--azimuth: got 100, must be between -90",
        ),
        (
            ("--model={w}", "--image=../face.jpg", "--azimuth=0:9:1"),
            2,
            "--azimuth: got '0:9:1' with a count of 1",
        ),
        (("--model={w}", "--image=../face.jpg", "--roll=3"), 2, "unknown flag --roll"),
        (
            ("--model={w}", "--image=../face.jpg", "--set=roll=3"),
            2,
            "roll: not a factor of this model",
        ),
        (
            ("--model={w}", "--image=../face.jpg", "--set=azimuth"),
            2,
            "--set: got 'azimuth', must be",
        ),
        (("--model={w}", "--image=../face.jpg", "--set=azimuth=x"), 2, "--set=azimuth: got 'x'"),
        (("--model={w}", *_OK, "--set=azimuth=3"), 2, "--set: azimuth is given twice"),
        (
            ("--model={w}", *_OK, "--output=face.jpg"),
            2,
            "--output: got 'face.jpg', must be the name of a .png",
        ),
        (
            ("--model={w}", *_OK, "--output=no/a.png"),
            2,
            "--output: got no/a.png, but there is no folder no",
        ),
        (("--model={w}", *_OK, "../other.jpg"), 2, "unexpected argument '../other.jpg'"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    arguments: tuple[str, ...],
    status: int,
    told: str,
    workdir: pathlib.Path,
    place: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run(*(argument.format(w=workdir) for argument in arguments)) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("dcign-rerender: error: ")
    assert told in err
    assert not _written(place)


def test_an_input_is_never_overwritten(
    workdir: pathlib.Path, place: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images.write_png("face.png", np.ones([40, 40]))
    before = (place / "face.png").read_bytes()
    assert (
        _run(f"--model={workdir}", "--image=face.png", "--azimuth=1", "--output=../here/face.png")
        == 2
    )
    assert "is an input image; it would be overwritten" in capsys.readouterr().err
    assert (place / "face.png").read_bytes() == before


def test_a_model_without_calibration(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.uncalibrated_model().save(tmp_path / "raw.keras")
    assert _run(f"--model={tmp_path}/raw.keras", *_OK) == 1
    assert "raw.keras: this model was not calibrated" in capsys.readouterr().err


def test_a_folder_in_the_way(
    workdir: pathlib.Path, place: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "a.png").mkdir()
    assert _run(f"--model={workdir}", *_OK, "--output=a.png") == 1
    assert "a.png: is a folder" in capsys.readouterr().err
    assert _written(place) == ["a.png"]


def test_crops(
    workdir: pathlib.Path, place: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = importlib.import_module("skimage.data")
    Image.fromarray(data.astronaut()).save(place / "astronaut.png")
    flags = (f"--model={workdir}", "--image=astronaut.png", "--azimuth=10", "--nogif")
    assert _run(*flags, "--crop=face", "--output=face.png") == 0
    told = re.match(
        r"astronaut.png: found (a face|\d+ faces and took the largest); used the square (-?\d+,-?\d+,\d+,\d+)\n",
        capsys.readouterr().out,
    )
    assert told is not None
    assert _run(*flags, f"--crop={told[2]}", "--output=hand.png") == 0
    assert (place / "hand.png").read_bytes() == (place / "face.png").read_bytes()
    assert _run(*flags, "--crop=face", "--cut_out", "--output=cut.png") == 0
    assert (place / "cut.png").read_bytes() != (place / "face.png").read_bytes()
    assert _run(*flags, "--crop=face", "--cut_out", "--keep_detail", "--output=kept.png") == 0
    plain, kept = (images.read_image(place / name) for name in ("cut.png", "kept.png"))
    # The input and the network's reconstruction are the same, what is re-rendered is not.
    last = 8 + 2 * (152 + 4)
    np.testing.assert_array_equal(plain[:, :last], kept[:, :last])
    assert np.abs(plain[:, last:] - kept[:, last:]).max() > 0.2
    capsys.readouterr()
    assert _run(*flags, "--crop=face", "--keep_detail", "--output=wall.png") == 1
    assert "--keep_detail: needs a picture of a head before black" in capsys.readouterr().err
    assert not (place / "wall.png").exists()
    Image.new("L", (80, 80), 90).save(place / "wall.png")
    capsys.readouterr()
    assert _run(flags[0], "--image=wall.png", "--azimuth=10", "--crop=face") == 1
    assert "wall.png: no face found" in capsys.readouterr().err
