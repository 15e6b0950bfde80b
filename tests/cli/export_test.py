"""The command writes a whole version or nothing."""

import json
import pathlib

import pytest
import tensorflow as tf

from dcign_tf.cli import common, export
from tests.serving import tiny


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tiny.write_workdir(tmp_path_factory.mktemp("runs") / "faces")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _run(*arguments: str) -> int:
    return common.execute(export.main, export.FLAGS, ["dcign-export", *arguments])


def test_exports_with_what_the_workdir_tells(
    workdir: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workdir / "evaluation").mkdir()
    (workdir / "evaluation" / "metrics.json").write_text(
        '{"steps": 7, "reconstruction": {"mse": 0.5}}'
    )
    config = json.loads((workdir / "config.json").read_text())
    config["command"] = (
        "dcign-train --source_path=/secret/heads.npz --data=../secret/d --ratio=1,2 --x='a b'"
    )
    (workdir / "config.json").write_text(json.dumps(config))
    assert _run(f"--model={workdir}", "--name=faces") == 0
    arguments = (f"--model={workdir}/model.keras", "--name=faces", "--tflite=float32,float16")
    assert _run(*arguments) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == ["wrote saved_models/faces/1", "wrote saved_models/faces/2"]
    assert [line.split(" | ")[0] for line in told[4:]] == ["| SavedModel", "| float32", "| float16"]
    first, second = (
        tmp_path / "saved_models" / "faces" / "1",
        tmp_path / "saved_models" / "faces" / "2",
    )
    loaded = tf.saved_model.load(str(first))
    names = {"rerender", "encode", "decode", "reconstruct"}
    expected = {"serving_default", "edit", "factors", *names, *(f"{name}_bytes" for name in names)}
    assert set(loaded.signatures) == expected
    card_file = first / "assets.extra" / "card.json"
    card = json.loads(card_file.read_text())
    assert card["metrics"]["reconstruction"] == {"mse": 0.5}
    assert (card["training"], card["data"]) == ({"steps": 7}, {"source": "noise"})
    assert card["command"] == "dcign-train --source_path=heads.npz --data=d --ratio=1,2 '--x=a b'"
    readme = (first / "assets.extra" / "README.md").read_text()
    assert "## Command\n\n    dcign-train --source_path=heads.npz" in readme
    assert "secret" not in card_file.read_text() + readme
    card = json.loads((second / "assets.extra" / "card.json").read_text())
    assert "metrics" not in card
    assert card["tflite"] == ["float32.tflite", "float16.tflite"]
    for name in card["tflite"]:
        assert (second / "assets.extra" / name).read_bytes()[4:8] == b"TFL3"


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("--name=faces",), 2, "--model: required"),
        (("--model={w}",), 2, "--name: required"),
        (("--model={w}", "--name=../x"), 2, "--name: got '../x'"),
        (("--model={w}", "--name=x", "--version=0"), 2, "--version: got 0"),
        (("--model={w}", "--name=x", "--output="), 2, "--output: got an empty name"),
        (("--model={w}", "--name=x", "--tflite=int4"), 2, "--tflite: got int4, must be some of"),
        (("--model={w}", "--name=x", "--tflite=int8,int8"), 2, "--tflite: got int8,int8"),
        (("--model={w}", "--name=x", "--tflite=int8"), 1, "/secret/place"),
        (("--model=nowhere", "--name=x"), 1, "nowhere: no such file or folder"),
        (("--model={w}/config.json", "--name=x"), 1, "config.json: not a .keras file"),
        (("--model={w}", "--name=x", "--output={w}/config.json"), 2, "a file is in the way"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    arguments: tuple[str, ...],
    status: int,
    told: str,
    workdir: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run(*(argument.format(w=workdir) for argument in arguments)) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert told in err
    assert not list(tmp_path.iterdir())


def test_a_model_without_calibration(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.uncalibrated_model().save(tmp_path / "raw.keras")
    assert _run("--model=raw.keras", "--name=x") == 1
    assert "raw.keras: this model was not calibrated" in capsys.readouterr().err
    assert not (tmp_path / "saved_models").exists()


def test_a_model_that_is_exported_already(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(f"--model={tiny.exported()}", "--name=x") == 2
    assert "faces/1 is exported already; it takes a workdir" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_broken_note_in_the_workdir(
    content: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny.write_workdir(tmp_path / "run")
    (folder / "config.json").write_text(content)
    assert _run(f"--model={folder}", "--name=x") == 1
    assert "run/config.json: not a JSON" in capsys.readouterr().err
    assert not (tmp_path / "saved_models").exists()
