"""Images of others, from files to re-renderings, with factors of unusual names."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from dcign_tf import units
from dcign_tf.cli import common, data, evaluate, export, rerender, train
from dcign_tf.datasets import readers
from dcign_tf.datasets.manifest import Manifest
from dcign_tf.datasets.readers import READERS, Reader
from dcign_tf.model import load_model
from tests.datasets import toys

SMALL = ("--image_size=38", "--group_size=8", "--processes=1")
COUNTS = ("--train_groups=6", "--validation_groups=2", "--test_groups=2", "--mixed_images=80")
TINY = ("--encoder_filters=2,2,2", "--decoder_filters=2,2,2", "--latents=6", "--steps=2")
COMMANDS = {
    "dcign-data": data,
    "dcign-train": train,
    "dcign-evaluate": evaluate,
    "dcign-rerender": rerender,
    "dcign-export": export,
}


@pytest.fixture(autouse=True)
def reader(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Reader("tests.datasets.toys", "PNG files of bars")
    monkeypatch.setattr(readers, "READERS", {**READERS, "bars": toy})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    home = tmp_path_factory.mktemp("bars")
    toys.write(home / "png")
    return home


def run(command: str, *arguments: object) -> int:
    module = COMMANDS[command]
    return common.execute(module.main, module.FLAGS, [command, *map(str, arguments)])


def source(home: pathlib.Path) -> tuple[str, str]:
    return "--source=bars", f"--source_path={home / 'png'}"


def test_from_images_to_rerenderings(
    home: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    # Look first.
    assert run("dcign-data", *source(home), *SMALL, *COUNTS, f"--inspect={folder}") == 0
    told = capsys.readouterr().out
    assert (
        "files: not made yet" in told and "0.5 to 1" in told and "mini-batches of 8 repeat" in told
    )
    assert not folder.exists() and Image.open(tmp_path / "data.png").width > 600
    assert run("dcign-data", *source(home), *SMALL, *COUNTS, f"--output={folder}") == 0
    out, err = capsys.readouterr()
    assert "scale: images that are alike in all else have as few as 3 different values" in err
    assert "38 x 38 pixels" in out
    assert run("dcign-data", f"--inspect={folder}") == 0
    assert "all as they were written" in capsys.readouterr().out
    manifest = Manifest.load(folder)
    assert manifest.settings["source"] == "bars"

    workdir = tmp_path / "run"
    assert run("dcign-train", f"--workdir={workdir}", f"--data={folder}", *TINY) == 0
    config = json.loads((workdir / "config.json").read_text())
    assert config["factors"] == ["spin", "scale", "intrinsic"]
    assert config["training"]["ratio"] == [1, 1, 10]
    model = load_model(str(workdir / "model.keras"))
    assert model.units == {"spin": "degrees", "scale": ""}
    assert model.factor_ranges["scale"] == (0.5, 1.0)

    capsys.readouterr()
    quick = ("--images=40", "--groups=2", "--pairs=5")
    assert run("dcign-evaluate", f"--workdir={workdir}", *quick) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("spin ") and "°" in lines[1]
    assert lines[2].startswith("scale ") and "°" not in lines[2]
    metrics = json.loads((workdir / "evaluation" / "metrics.json").read_text())
    assert metrics["units"] == {"spin": "degrees", "scale": ""}
    assert "median_abs_error_deg" in metrics["inference"]["spin"]
    assert "median_abs_error_deg" not in metrics["inference"]["scale"]
    assert metrics["inference"]["scale"]["median_abs_error"] >= 0
    assert metrics["rerendering"]["scale"]["mse"] > 0
    assert metrics["disentanglement"]["dci_disentanglement"] is not None
    assert (workdir / "evaluation" / "sweep_scale.png").exists()
    assert "Scale, swept" in (workdir / "evaluation" / "report.html").read_text()

    picture = f"--output={tmp_path / 'out.png'}"
    values = ("--set=spin=0:330:4", "--set=scale=0.5,1")
    assert run("dcign-rerender", f"--model={workdir}", "--sample=3", *values, picture) == 0
    told = capsys.readouterr().out
    assert "inferred spin " in told and " degrees, scale " in told
    assert (tmp_path / "out.gif").exists()
    one = toys.write(tmp_path / "one", 1) / "0_30_0.75.png"
    assert run("dcign-rerender", f"--model={workdir}", f"--image={one}", picture) == 2
    assert "give one or two of --set=spin, --set=scale, such as --set=spin=0" in (
        capsys.readouterr().err
    )
    wrong = f"--model={workdir}", f"--image={one}", "--set=scale=3", picture
    assert run("dcign-rerender", *wrong) == 2
    assert "--set=scale: got 3, must be between 0.5 and 1, what" in capsys.readouterr().err

    saved = f"--output={tmp_path / 'saved'}"
    assert run("dcign-export", f"--model={workdir}", "--name=bars", saved) == 0
    card = json.loads(next(tmp_path.glob("saved/bars/1/assets.extra/card.json")).read_text())
    assert card["factors"]["scale"] == {"latents": [1], "range": [0.5, 1.0], "unit": ""}
    exported = f"--model={tmp_path / 'saved' / 'bars'}"
    assert run("dcign-rerender", exported, f"--image={one}", "--set=scale=0.6", picture) == 0

    # The scenes' flags cannot change images that were not rendered.
    assert run("dcign-evaluate", f"--workdir={workdir}", "--zoom=2") == 2
    assert "--zoom: the images that" in capsys.readouterr().err


def test_without_true_values(
    home: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command packs and trains; what needs the truth says that there is none."""
    workdir = tmp_path / "run"
    unknown = (*source(home), "--source_option=known=false")
    assert run("dcign-train", f"--workdir={workdir}", *unknown, *SMALL, *COUNTS, *TINY) == 0
    err = capsys.readouterr().err
    assert "spin: not calibrated: no true value of it is known" in err
    assert (workdir / "data" / "manifest.json").exists()
    model = load_model(str(workdir / "model.keras"))
    assert model.calibrated and set(model.units.values()) == {units.LATENT}

    quick = ("--images=40", "--groups=2", "--pairs=5")
    assert run("dcign-evaluate", f"--workdir={workdir}", *quick) == 0
    assert "spin                -" in capsys.readouterr().out
    metrics = json.loads((workdir / "evaluation" / "metrics.json").read_text())
    assert metrics["reconstruction"]["mse"] > 0 and metrics["invariance"]["spin"] is not None
    assert set(metrics["inference"]["spin"].values()) == {None}
    assert set(metrics["disentanglement"].values()) == {None}
    rendered = metrics["rerendering"]["spin"]
    assert rendered["mse"] is rendered["psnr_db"] is None
    assert rendered["mse_exchanged"] > 0 and rendered["mse_unchanged"] > 0
    written = {path.name for path in (workdir / "evaluation").iterdir()}
    assert "inference.png" not in written
    assert {"sweep_spin.png", "rerendering.png", "report.html"} <= written

    low, high = model.factor_ranges["spin"]
    values = f"--set=spin={low}:{high}:3"
    picture = f"--output={tmp_path / 'out.png'}"
    assert run("dcign-rerender", f"--model={workdir}", "--sample=0", values, picture) == 0
    assert "latent units" in capsys.readouterr().out
    with Image.open(tmp_path / "out.png") as sheet:
        assert np.ptp(np.asarray(sheet)) > 0


def test_one_identity_needs_no_ratio(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    toys.write(tmp_path / "png", 1)
    arguments = ("--source=bars", f"--source_path={tmp_path / 'png'}", *SMALL, *COUNTS, *TINY)
    assert run("dcign-train", f"--workdir={tmp_path / 'run'}", *arguments, "--latents=3") == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["training"]["ratio"] == [1, 1, 0]


@pytest.mark.parametrize(
    ("command", "arguments", "told"),
    [
        ("dcign-data", ("--output={t}", "--zoom=2"), "--zoom: makes no sense with --source=bars"),
        ("dcign-data", ("--output={t}", "--factors=color"), "--factors: got 'color', but the factors of these"),
        ("dcign-data", ("--output={t}", "--tolerance=spin"), "--tolerance: got spin; it takes names and numbers"),
        ("dcign-data", ("--output={t}", "--split=1,2"), "--split: got 1,2; it takes three numbers"),
        ("dcign-data", ("--output={t}", "--split=0.5,0.5,0.5"), "--split: got 0.5,0.5,0.5; must be three numbers"),
        ("dcign-data", ("--output={t}", "--crop=1,2,3,9"), "--crop: got '1,2,3,9', must be center"),
        ("dcign-data", ("--output={t}", "--source_option=x=1"), "--source_option: --source=bars has no option 'x'"),
        ("dcign-data", ("--inspect={t}", "--verify={t}"), "--verify: got --inspect, too"),
        ("dcign-data", ("--output={t}", "--crop=center", "--source=builtin_face"), "--crop: makes no sense with"),
        ("dcign-data", ("--output={t}", "--source=chair"), "--source: got 'chair', must be one of builtin_face"),
        ("dcign-train", ("--workdir={t}", "--render_on_the_fly"), "--render_on_the_fly: --source=bars has images"),
        ("dcign-train", ("--workdir={t}", "--ratio=1,1"), "--ratio: got 1,1, must be 3 numbers, 0 or more"),
        ("dcign-train", ("--workdir={t}", "--image_size=40"), "--image_size: got 40, must be 16 n - 90"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(
    command: str,
    arguments: tuple[str, ...],
    told: str,
    home: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [argument.format(t=tmp_path / "x") for argument in arguments]
    assert run(command, *source(home), "--image_size=38", *given) == 2
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_a_data_set_of_other_settings_is_told(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "data"
    assert run("dcign-data", *source(home), *SMALL, *COUNTS, f"--output={folder}") == 0
    train_it = ("dcign-train", f"--workdir={tmp_path / 'run'}", f"--data={folder}")
    for changed in ("--factors=spin", "--tolerance=scale=0.3", "--crop=0,0,9,9", "--split=6,3,3"):
        assert run(*train_it, *source(home), changed) == 2
    assert not (tmp_path / "run").exists()
