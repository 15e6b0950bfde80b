"""dcign-view's flags, and the command as a whole: it serves, and ends when it is interrupted."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from dcign_tf.cli import common, view
from dcign_tf.serving import shipped
from tests.serving import tiny

_ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("--model=",), 2, "--model: got an empty name"),
        (("--model=nowhere",), 1, "nowhere: no such file or folder"),
        (tuple(f"--model={n}" for n in range(9)), 2, "--model: got 9, at most 8 are shown"),
        (("--model=a", "--host="), 2, "--host: got an empty name"),
        (("--model=a", "--port=70000"), 2, "--port: got 70000"),
        (("face.png",), 2, "unexpected argument 'face.png'"),
    ],
)
def test_mistakes_are_one_line(
    arguments: tuple[str, ...], status: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert common.execute(view.main, view.FLAGS, ["dcign-view", *arguments]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("dcign-view: error: ")
    assert told in err


def test_without_a_model_that_ships(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shipped.dcign_tf, "__file__", str(tmp_path / "dcign_tf" / "__init__.py"))
    assert common.execute(view.main, view.FLAGS, ["dcign-view"]) == 2
    assert "comes without its model of faces" in capsys.readouterr().err


def test_models_are_told_apart_by_as_much_of_their_paths_as_it_takes() -> None:
    def names(*paths: str) -> list[str]:
        return view._names([pathlib.Path(path) for path in paths])

    assert names("/runs/a", "/runs/b") == ["a", "b"]
    assert names("/runs/a/model.keras", "/runs/b/model.keras") == ["a/model.keras", "b/model.keras"]
    with pytest.raises(common.errors.UsageError, match="is given twice"):
        names("/runs/a", "/runs/a")


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT: .ci/run runs it, on Linux")
def test_it_serves_until_it_is_interrupted(tmp_path: pathlib.Path) -> None:
    workdir = tiny.write_workdir(tmp_path / "faces")
    command = [sys.executable, "-m", "dcign_tf.cli.view", f"--model={workdir}", "--port=0"]
    with subprocess.Popen(
        command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as served:
        assert served.stdout is not None
        try:
            line = served.stdout.readline()
            match = re.fullmatch(r"(http://127\.0\.0\.1:\d+/)  \(Ctrl-C ends it\)\n", line)
            if match:
                with urllib.request.urlopen(f"{match[1]}api/studio", timeout=10) as answer:
                    assert b'"name": "faces"' in answer.read()
            served.send_signal(signal.SIGINT)
            out, err = served.communicate(timeout=30)
        finally:
            served.kill()  # Where interrupts are ignored, as in a shell's background, it would go on for ever.
    assert match, line + err
    assert (served.returncode, out, err) == (0, "", "")
