"""The command, end to end on a tiny network, and what it says when something is wrong."""

import json
import pathlib
import re
import shutil

import pytest
from PIL import Image

from dcign_tf.cli import common, evaluate
from tests.datasets import tiny as data
from tests.evaluation import tiny

QUICK = ("--images=40", "--groups=2", "--pairs=5")
FIGURES = {
    "sweep_azimuth.png",
    "sweep_elevation.png",
    "sweep_light_azimuth.png",
    "rerendering.png",
    "inference.png",
    "reconstructions.png",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("octahedra")


@pytest.fixture(scope="module")
def workdir(folder: pathlib.Path) -> pathlib.Path:
    return tiny.write_workdir(folder / "run", tiny.model(folder), tiny.scenes(folder))


@pytest.fixture(scope="module")
def baseline(folder: pathlib.Path) -> pathlib.Path:
    return tiny.write_workdir(folder / "sgvb", tiny.uncalibrated("sgvb"), tiny.scenes(folder))


@pytest.fixture(scope="module")
def small_images(folder: pathlib.Path) -> pathlib.Path:
    """A data set of images of 12 x 12 pixels."""
    return data.dataset(folder)


def _run(*arguments: object) -> int:
    argv = ["dcign-evaluate", *map(str, arguments)]
    return common.execute(evaluate.main, evaluate.FLAGS, argv)


def test_it_writes_metrics_figures_and_a_report(
    workdir: pathlib.Path, baseline: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(f"--workdir={workdir}", f"--baseline_workdir={baseline}", *QUICK) == 0
    out = capsys.readouterr().out
    assert re.search(r"network .*\nazimuth +0\.\d{3} .*°", out)
    assert "baseline" in out
    written = {path.name for path in (workdir / "evaluation").iterdir()}
    swept = {f"baseline_{name}" for name in FIGURES if name.startswith("sweep")}
    assert written == {"metrics.json", "report.html", "entangled.png", *FIGURES, *swept}
    metrics = json.loads((workdir / "evaluation" / "metrics.json").read_text())
    assert (metrics["image_size"], metrics["n_images"]) == (38, 40)
    assert metrics["baseline"]["reconstruction"]["mse"] > 0
    page = (workdir / "evaluation" / "report.html").read_text()
    assert page.count("data:image/png;base64") == len(FIGURES) + len(swept) + 1
    assert "training.learning_rate" in page
    assert str(workdir.parent) not in page
    for name in FIGURES:
        Image.open(workdir / "evaluation" / name).verify()


def test_other_scenes_are_rendered_on_the_fly(
    workdir: pathlib.Path, folder: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(workdir, folder / "other", ignore=shutil.ignore_patterns("evaluation"))
    descriptions = []
    for changes in ((), ("--light_elevation=60",)):
        assert _run(f"--workdir={copy}", *QUICK, *changes) == 0
        metrics = json.loads((copy / "evaluation" / "metrics.json").read_text())
        assert metrics["baseline"] is None
        descriptions.append(metrics["data"])
    assert descriptions[0] != descriptions[1]
    assert capsys.readouterr().out.count("wrote") == 2


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        ((), 2, "--workdir: missing"),
        (("--workdir={f}/nowhere",), 2, "nowhere: no such folder"),
        (("--workdir={f}",), 2, "has no config.json"),
        (("--workdir={w}", "--data={f}/nowhere"), 1, "nowhere: no such folder"),
        (
            ("--workdir={w}", "--data={small}"),
            1,
            "images of 38 x 38 pixels, the data's have 12 x 12",
        ),
        (("--workdir={w}", "--data={small}", "--zoom=2"), 2, "--zoom: scenes cannot be changed"),
        (("--workdir={w}", "--zoom=0"), 2, "--zoom: got 0"),
        (("--workdir={w}", "--split=other"), 2, "--split: got other"),
        (("--workdir={w}", "--baseline_workdir={f}"), 2, "--baseline_workdir: "),
        (("--workdir={w}", "--baseline_workdir={w}"), 2, "was trained with --procedure=clamp"),
        (("--workdir={w}", "--train_groups=3"), 2, "unknown flag --train_groups"),
        (("--workdir={w}", "--images=1"), 2, "--images: got 1"),
    ],
)
def test_mistakes_are_one_line(
    arguments: tuple[str, ...],
    status: int,
    told: str,
    workdir: pathlib.Path,
    folder: pathlib.Path,
    small_images: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {"w": workdir, "f": folder, "small": small_images}
    assert _run(*(argument.format(**names) for argument in arguments)) == status
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert told in err


def _damaged(workdir: pathlib.Path, folder: pathlib.Path, **config: object) -> pathlib.Path:
    shutil.copytree(workdir, folder, ignore=shutil.ignore_patterns("evaluation"))
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return folder


def test_training_that_has_not_finished(
    workdir: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _damaged(workdir, tmp_path / "run")
    (run / "model.keras").unlink()
    assert _run(f"--workdir={run}") == 1
    assert "has no model.keras: its training has not finished" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"data_path": "/nowhere/at/all"}, "/nowhere/at/all, which is gone; name their folder"),
        ({"scene": None}, "does not say which scenes"),
        ({"scene": {"sauce": 1}}, "does not say which scenes"),
    ],
)
def test_data_that_are_gone(
    config: dict[str, object],
    told: str,
    workdir: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run(f"--workdir={_damaged(workdir, tmp_path / 'run', **config)}") == 1
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_configuration(
    content: str,
    workdir: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = _damaged(workdir, tmp_path / "run")
    (run / "config.json").write_text(content)
    assert _run(f"--workdir={run}") == 1
    assert "config.json: not the configuration of a run" in capsys.readouterr().err


def test_a_model_that_is_none_and_one_without_calibration(
    workdir: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _damaged(workdir, tmp_path / "run")
    (run / "model.keras").write_bytes(b"no model")
    assert _run(f"--workdir={run}") == 1
    assert "model.keras: not a .keras file" in capsys.readouterr().err
    tiny.uncalibrated().save(run / "model.keras")
    assert _run(f"--workdir={run}", *QUICK) == 1
    assert "the model was not calibrated" in capsys.readouterr().err
    assert not (run / "evaluation" / "metrics.json").exists()


def test_a_data_set_without_the_split(
    workdir: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dcign_tf.datasets import rendering
    from dcign_tf.datasets.scenes import FACTORS

    groups = {"train": {**dict.fromkeys(FACTORS, 1), "mixed": 1}}
    rendering.render_dataset(tiny.scenes(tmp_path), tmp_path / "data", groups, processes=1)
    assert _run(f"--workdir={workdir}", f"--data={tmp_path / 'data'}", *QUICK) == 1
    assert "holds no test groups in which everything varies" in capsys.readouterr().err


def test_scenes_of_a_data_set_on_disk_can_be_changed(
    workdir: pathlib.Path, small_images: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    from dcign_tf.datasets.scenes import SceneConfig
    from dcign_tf.datasets.source import RenderedSource
    from dcign_tf.evaluation import workdir as runs

    run = runs.find(_damaged(workdir, tmp_path / "run", data_path=str(small_images)))
    del run.config["scene"]
    source = runs.open_data(run, scene={"light_elevation": 60.0})
    assert isinstance(source, RenderedSource)
    assert isinstance(source.config, SceneConfig)
    assert (source.image_size, source.config.light_elevation) == (12, 60.0)
