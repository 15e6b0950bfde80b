"""What every command does with its command line, and with what goes wrong."""

import errno
import os
import pathlib
import subprocess
import sys
import textwrap
from collections.abc import Callable

import pytest
from absl import flags
from hypothesis import given
from hypothesis import strategies as st

from dcign_tf import errors
from dcign_tf.cli import common

FLAGS = common.command_flags()
_COUNT = flags.DEFINE_integer(
    "count", 3, "how many, in dozens", lower_bound=1, short_name="c", flag_values=FLAGS
)
_RATE = flags.DEFINE_float("rate", 0.5, "learning rate", flag_values=FLAGS)
_KIND = flags.DEFINE_enum("kind", "round", ["round", "square"], "which kind", flag_values=FLAGS)
_NAME = flags.DEFINE_string("name", None, "whose", flag_values=FLAGS)


def _show(argv: list[str]) -> None:
    print(_COUNT.value, _RATE.value, _KIND.value, _NAME.value, *argv[1:])


def _raising(error: BaseException) -> Callable[[list[str]], None]:
    def main(argv: list[str]) -> None:
        raise error

    return main


def _execute(*arguments: str, main: common.Main = _show, allow_arguments: bool = False) -> int:
    return common.execute(main, FLAGS, ["/somewhere/dcign-show", *arguments], allow_arguments)


def _error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr, without the program's name."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("dcign-show: error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err.removeprefix("dcign-show: error: ").rstrip("\n")


def test_main_sees_the_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert _execute("--count=5", "--kind", "square") == 0
    assert capsys.readouterr().out == "5 0.5 square None\n"


def test_a_second_run_in_the_same_process_starts_from_the_defaults(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _execute("--count=5", "--name=me") == 0
    assert _execute() == 0
    assert capsys.readouterr().out.splitlines()[1] == "3 0.5 round None"


def test_mains_result_is_the_exit_status() -> None:
    assert _execute(main=lambda argv: 7) == 7


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--count=0"], ["--count", "got 0", "positive integer"]),
        (["--count=many"], ["--count", "got many", "positive integer"]),
        (["--rate=fast"], ["--rate", "got fast", "number"]),
        (["--kind=oval"], ["--kind", "got oval", "round|square"]),
        (["--name"], ["Missing value", "--name"]),
        (["--cuont=5"], ["unknown flag --cuont", "did you mean --count?"]),
        (["--zzzzzz=5"], ["unknown flag --zzzzzz", "--help"]),
        (["face.png"], ["unexpected argument 'face.png'"]),
        (["--count=2", "--", "face.png"], ["unexpected argument 'face.png'"]),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_status_2(
    arguments: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _execute(*arguments) == 2
    line = _error_line(capsys)
    for part in expected:
        assert part in line


def test_arguments_where_they_are_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    assert _execute("a.png", "--count=4", "b.png", allow_arguments=True) == 0
    assert capsys.readouterr().out == "4 0.5 round None a.png b.png\n"


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12), max_size=4
    )
)
def test_no_command_line_escapes_the_parser(arguments: list[str]) -> None:
    assert _execute(*arguments) in (0, 2)


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        (errors.DcignError("x.png: not an image"), 1, "x.png: not an image"),
        (errors.UsageError("--size: got 71;\n   must be 70"), 2, "--size: got 71; must be 70"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "a.npz"),
            1,
            "a.npz: No such file",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "a.npz"),
            1,
            "a.npz: Permission denied",
        ),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.npz"), 1, "a.npz: no space left"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 1, "no space left on the disk"),
        (OSError(errno.EXDEV, "Cross-device link", "a", None, "b"), 1, "a -> b: Cross-device link"),
        (OSError("unable to write the file"), 1, "unable to write the file"),
        (KeyboardInterrupt(), 1, "interrupted"),
        (MemoryError("an array of 9 TB"), 1, "out of memory: an array of 9 TB"),
        (
            ModuleNotFoundError("No module named 'numba'", name="numba"),
            1,
            "package numba is missing",
        ),
        (ValueError("shapes\ndiffer"), 1, "a defect of dcign_tf"),
        (
            ValueError("shapes\ndiffer"),
            1,
            "ValueError: shapes differ (--debug shows the traceback)",
        ),
        (
            ModuleNotFoundError("No module named 'dcign_tf.x'", name="dcign_tf.x"),
            1,
            "a defect of dcign_tf",
        ),
    ],
)
def test_errors_are_one_line(
    error: BaseException, status: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _execute(main=_raising(error)) == status
    assert expected in _error_line(capsys)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (
            "ResourceExhaustedError",
            "/x; No space left on device\nmore",
            "no space left on the disk: /x;",
        ),
        (
            "ResourceExhaustedError",
            "{{function_node __wrapped__SaveV2_device_/job:localhost}} /x; No space left on device [Op:SaveV2]",
            "no space left on the disk: /x; No space left on device",
        ),
        ("ResourceExhaustedError", "OOM when allocating tensor", "out of memory: OOM when"),
        ("PermissionDeniedError", "/x; Permission denied", "/x; Permission denied"),
        ("InternalError", "what?", "a defect of dcign_tf"),
    ],
)
def test_tensorflows_errors_are_one_line(
    kind: str, text: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import tensorflow as tf

    error = getattr(tf.errors, kind)(None, None, text)
    assert _execute(main=_raising(error)) == 1
    line = _error_line(capsys)
    assert expected in line
    assert "{{" not in line and "[Op:" not in line


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert _execute("--debug", main=_raising(errors.DcignError("broken"))) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("dcign-show: error: broken\n")


def test_a_closed_pipe_is_no_error_worth_a_word() -> None:
    program = "import os; from tests.cli import common_test as t; t.common.run(t._show, t.FLAGS)"
    read, write = os.pipe()
    os.close(read)
    done = _python(program, stdout=write)
    os.close(write)
    assert done.returncode == 1
    assert done.stderr == ""


@pytest.mark.skipif(
    not pathlib.Path("/dev/full").exists(), reason="no /dev/full: .ci/run runs it, on Linux"
)
def test_a_full_disk_behind_standard_output_is_told() -> None:
    with open("/dev/full", "w") as full:
        done = _python(
            "from tests.cli import common_test as t; t.common.run(t._show, t.FLAGS, ['show.py'])",
            stdout=full.fileno(),
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no space left" in done.stderr


@pytest.mark.parametrize("flag", ["--help", "--helpfull", "-help", "--helpshort"])
def test_help_lists_every_flag(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _execute("--count=0", flag) == 0
    out = capsys.readouterr().out
    assert out.startswith("What every command does")
    for part in (
        "--count, -c",
        "in dozens (default: 3)",
        "<round|square>: which",
        "--[no]debug",
        "--flagfile",
    ):
        assert part in out
    assert out.count("in dozens") == 1


def test_flag_files(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    inner = tmp_path / "inner"
    inner.write_text("--count=8\n--name=inner\n")
    outer = tmp_path / "outer"
    outer.write_text(
        f"# Says what it reproduces.\n\n// Likewise.\n--flagfile={inner}\n--name=outer\n"
    )
    assert _execute(f"--flagfile={outer}", "--rate=2") == 0
    assert _execute("--flagfile", str(outer), "--name=last") == 0
    assert capsys.readouterr().out == "8 2.0 round outer\n8 0.5 round last\n"


def _bad_flag_files(folder: pathlib.Path) -> dict[str, tuple[list[str], list[str]]]:
    (folder / "circle_a").write_text(f"--flagfile={folder}/circle_b\n")
    (folder / "circle_b").write_text(f"--flagfile={folder}/circle_a\n")
    (folder / "dangling").write_text(f"--flagfile={folder}/nothing\n")
    (folder / "binary").write_bytes(b"\xff\xfe\x00\x80")
    (folder / "prose").write_text("count = 4\n")
    (folder / "wrong").write_text("--count=-4\n")
    return {
        "missing": ([f"--flagfile={folder}/nothing"], [f"{folder}/nothing", "No such file"]),
        "folder": ([f"--flagfile={folder}"], ["Is a directory"]),
        "circle": ([f"--flagfile={folder}/circle_a"], ["circle_a includes itself", "included by"]),
        "included": (
            [f"--flagfile={folder}/dangling"],
            ["nothing", f"included by {folder}/dangling"],
        ),
        "binary": ([f"--flagfile={folder}/binary"], ["binary is not a text file"]),
        "prose": ([f"--flagfile={folder}/prose"], ["prose", "'count = 4'", "--flag=value"]),
        "value": ([f"--flagfile={folder}/wrong"], ["--count: got -4"]),
        "no name": (["--flagfile="], ["empty name"]),
        "no value": (["--flagfile"], ["got nothing"]),
    }


@pytest.mark.parametrize(
    "case",
    ["missing", "folder", "circle", "included", "binary", "prose", "value", "no name", "no value"],
)
def test_a_bad_flag_file_is_one_line(
    case: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, expected = _bad_flag_files(tmp_path)[case]
    assert _execute(*arguments) == 2
    line = _error_line(capsys)
    for part in ("--flagfile" if case != "value" else "", *expected):
        assert part in line


@pytest.mark.parametrize(
    "path",
    [
        "/x/dcign_tf/cli/train.py",
        "/usr/bin/dcign-train",
        "dcign-train.exe",
        "dcign-train-script.py",
    ],
)
def test_program_name(path: str) -> None:
    assert common.program_name(path) == "dcign-train"


def test_run_ends_the_process_with_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        common.run(_show, FLAGS, ["dcign-show", "--count=0"])
    assert ended.value.code == 2
    with pytest.raises(SystemExit) as ended:
        common.run(_show, FLAGS, ["dcign-show"])
    assert ended.value.code == 0
    assert "got 0" in _error_line_of(capsys.readouterr().err)


def _error_line_of(err: str) -> str:
    (line,) = err.splitlines()
    return line


def test_tensorflow_starts_without_a_word() -> None:
    done = _python(
        """
        from dcign_tf.cli import common
        def main(argv):
            import tensorflow as tf
            print(tf.constant(3).numpy())
        common.run(main, common.command_flags(), ["dcign-test"])
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")


@pytest.mark.parametrize(
    ("error", "heard"),
    [
        ("ImportError('broken')", "why\ndcign-test: error: "),
        ("KeyboardInterrupt", "dcign-test: error: interrupted\n"),
    ],
)
def test_a_broken_tensorflow_is_heard(tmp_path: pathlib.Path, error: str, heard: str) -> None:
    (tmp_path / "tensorflow.py").write_text(f"import os\nos.write(2, b'why\\n')\nraise {error}\n")
    done = _python(
        f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from dcign_tf.cli import common
        def main(argv):
            import tensorflow
        common.run(main, common.command_flags(), ["dcign-test"])
        """
    )
    assert done.returncode == 1
    assert done.stderr.startswith(heard)


def _python(program: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("TF_CPP_MIN_LOG_LEVEL",)}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        cwd=pathlib.Path(__file__).parents[2],
        env=environment,
        check=False,
    )
