"""The command, from its flags to its report."""

import json
import pathlib

import pytest

from dcign_tf.benchmarks import run
from dcign_tf.cli import benchmark, common


def _run(*arguments: str) -> int:
    return common.execute(benchmark.main, benchmark.FLAGS, ["dcign-benchmark", *arguments])


def test_one_part_on_a_tiny_network(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "folder"
    assert _run("--quick", "--parts=pipeline", f"--output={output}") == 0
    out, err = capsys.readouterr()
    assert out == (output / "benchmark.md").read_text()
    assert "step on records" in out
    assert "input pipeline: 9/9" in err
    found = json.loads((output / "benchmark.json").read_text())
    (section,) = found["sections"]
    assert [row["median"] > 0 for row in section["rows"]] == [True] * 3


@pytest.mark.slow
def test_everything_on_tiny_networks(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("--quick", f"--output={tmp_path}") == 0
    found = json.loads((tmp_path / "benchmark.json").read_text())
    assert [section["name"] for section in found["sections"]] == list(run.PARTS)
    for section in found["sections"]:
        for row in section["rows"]:
            assert row["median"] is not None or row["note"].startswith("not installed"), row
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("--parts=training,magic",), 2, "--parts: got training,magic, must be some of training, "),
        (("--parts=",), 2, "--parts: got nothing"),
        (("--parts=memory,memory",), 2, "--parts: got memory,memory"),
        (("--rounds=1",), 2, "--rounds"),
        (("--output=",), 2, "--output: got an empty name"),
        (("--data=",), 2, "--data: got an empty name"),
        (
            ("--parts=rendering", "--source=face"),
            2,
            "--source: got 'face', must be one of builtin_",
        ),
        (("--parts=rendering", "--source=ict_facekit"), 2, "--source_path: missing"),
        (("--output={file}",), 2, "--output: {file} cannot be a folder"),
        (("--parts=pipeline", "--data={folder}/none"), 1, "none"),
        (("--parts=pipeline", "--data={folder}"), 1, "{folder}"),
    ],
)
def test_mistakes_are_one_line(
    arguments: tuple[str, ...],
    status: int,
    told: str,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"file": tmp_path / "file", "folder": tmp_path / "folder"}
    places["file"].write_text("")
    places["folder"].mkdir()
    assert _run(*(argument.format(**places) for argument in arguments)) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert told.format(**places) in err
