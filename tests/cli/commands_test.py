"""What holds for every command that setup.py installs."""

import ast
import importlib
import pathlib
import re
import subprocess
import sys
import textwrap
import types

import pytest

from dcign_tf.cli import common

_ROOT = pathlib.Path(__file__).resolve().parents[2]


_MODULES = (
    "dcign_tf.cli.data",
    "dcign_tf.cli.train",
    "dcign_tf.cli.evaluate",
    "dcign_tf.cli.rerender",
    "dcign_tf.cli.export",
    "dcign_tf.cli.view",
    "dcign_tf.cli.benchmark",
)


@pytest.fixture(params=_MODULES)
def command(request: pytest.FixtureRequest) -> types.ModuleType:
    return importlib.import_module(request.param)


def test_these_are_the_commands_that_are_installed() -> None:
    match = re.search(r"_COMMANDS = (\(.*?\))", (_ROOT / "setup.py").read_text(), re.DOTALL)
    assert match is not None
    assert _MODULES == tuple(f"dcign_tf.cli.{name}" for name in ast.literal_eval(match[1]))


def _execute(command: types.ModuleType, *arguments: str) -> int:
    return common.execute(command.main, command.FLAGS, [str(command.__file__), *arguments])


def test_help_explains_every_flag(
    command: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(command.main_entry)
    assert _execute(command, "--helpfull") == 0
    out = capsys.readouterr().out
    assert out.startswith(str(command.__doc__).strip())
    for name in command.FLAGS:
        assert re.search(rf"--(\[no\])?{name}\b", out)
        assert command.FLAGS[name].help, f"--{name} is not explained"


def test_a_mistyped_flag_is_one_line(
    command: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _execute(command, "--flagfile_=x") == 2
    out, err = capsys.readouterr()
    name = str(command.__name__).rsplit(".", 1)[1]
    assert (out, err) == (
        "",
        f"dcign-{name}: error: unknown flag --flagfile_; did you mean --flagfile?\n",
    )


def test_a_missing_flag_file_is_one_line(
    command: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _execute(command, "--flagfile=flags/nothing_like_it") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_help_and_mistakes_are_answered_at_once() -> None:
    """Without importing what takes seconds."""
    program = f"""
    import importlib, sys
    from dcign_tf.cli import common
    for name in {_MODULES!r}:
        command = importlib.import_module(name)
        common.execute(command.main, command.FLAGS, [name, "--help"])
        common.execute(command.main, command.FLAGS, [name, "--no_such_flag"])
        heavy = {{"keras", "matplotlib", "numba", "scipy", "tensorflow"}} & set(sys.modules)
        assert not heavy, (name, heavy)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=_ROOT, check=True)
