"""run.py, shown on a tiny project with a build backend of its own, so that nothing is downloaded."""

import functools
import hashlib
import http.server
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest

import run

_BACKEND = '''
"""Builds editable wheels, and writes down that it did."""

import pathlib
import zipfile


def get_requires_for_build_editable(config_settings=None):
    return []


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    root = pathlib.Path.cwd()
    with open("builds.txt", "a") as file:
        file.write("built\\n")
    if "broken" in (root / "setup.py").read_text():
        raise RuntimeError("broken on purpose")
    name = "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / name, "w") as wheel:
        wheel.writestr("tiny.pth", str(root / "src"))
        info = "tiny-1.0.dist-info"
        extras = "Provides-Extra: dev\\nProvides-Extra: docs\\n"
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n{extras}")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
'''


class _Project:
    """The tiny project, in a folder with a space in its name."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.root = folder / "a checkout"
        (self.root / "src").mkdir(parents=True)
        (self.root / "src" / "tiny.py").write_text("ANSWER = 42\n")
        (self.root / "setup.py").write_text("# Version 1\n")
        (self.root / "backend.py").write_text(_BACKEND)
        (self.root / "pyproject.toml").write_text(
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        )

    def environment(self, extra: str = "") -> str:
        return run.environment(str(self.root), extra)

    @property
    def builds(self) -> int:
        log = self.root / "builds.txt"
        return len(log.read_text().splitlines()) if log.exists() else 0

    @property
    def stamp(self) -> pathlib.Path:
        return self.root / ".venv" / "dcign_tf.json"


@pytest.fixture
def bare_project(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> _Project:
    """A project as cloned."""
    monkeypatch.delenv("DCIGN_VENV", raising=False)
    return _Project(tmp_path)


@pytest.fixture(scope="module")
def empty_environment(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder


@pytest.fixture
def project(bare_project: _Project, empty_environment: pathlib.Path) -> _Project:
    """A project with an environment in which nothing is installed yet; copying one is quicker than making it."""
    shutil.copytree(empty_environment, bare_project.root / ".venv", symlinks=True)
    return bare_project


def _answer(python: str) -> str:
    return subprocess.check_output(
        [python, "-c", "import tiny; print(tiny.ANSWER)"], text=True
    ).strip()


def test_installs_once_and_again_when_something_changed(project: _Project) -> None:
    python = project.environment()
    assert pathlib.Path(python) == project.root / ".venv" / "bin" / "python"
    assert _answer(python) == "42"
    assert project.builds == 1

    assert project.environment() == python
    assert project.builds == 1, "nothing changed"

    project.environment("dev")
    project.environment("dev")
    project.environment("")
    assert project.builds == 2, "an extra is added once, and what is there serves the lesser wish"

    (project.root / "setup.py").write_text("# Version 2\n")
    project.environment("")
    assert project.builds == 3
    assert json.loads(project.stamp.read_text())["extras"] == ["dev"], "extras survive"

    moved = project.root.with_name("another checkout")
    project.root.rename(moved)
    project.root = moved
    assert _answer(project.environment()) == "42"


def test_a_failed_installation_is_tried_again(project: _Project) -> None:
    project.environment()
    (project.root / "setup.py").write_text("# broken\n")
    for _ in range(2):
        with pytest.raises(run.Failure, match="pip could not install"):
            project.environment()
        assert not project.stamp.exists()
    (project.root / "setup.py").write_text("# mended\n")
    assert _answer(project.environment()) == "42"


def test_a_damaged_environment_is_made_anew(project: _Project) -> None:
    (project.root / ".venv" / "bin" / "python").unlink()
    project.stamp.write_text("{half a st")
    assert _answer(project.environment()) == "42"
    assert project.builds == 1


def test_the_environment_may_lie_elsewhere(
    bare_project: _Project, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCIGN_VENV", str(tmp_path / "else where" / "venv"))
    python = bare_project.environment()
    assert pathlib.Path(python).parents[1] == tmp_path / "else where" / "venv"
    assert _answer(python) == "42"
    assert not (bare_project.root / ".venv").exists()


def test_a_folder_with_something_else_in_it_is_left_alone(
    bare_project: _Project, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = tmp_path / "home" / "letters.txt"
    precious.parent.mkdir()
    precious.write_text("Dear ...")
    monkeypatch.setenv("DCIGN_VENV", str(precious.parent))
    with pytest.raises(run.Failure, match="something else in it"):
        bare_project.environment()
    assert list(precious.parent.iterdir()) == [precious]


@pytest.fixture
def package_index(tmp_path: pathlib.Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An index on this machine with pip's own files as a wheel: its address, and what it lists."""
    folder = tmp_path / "index"
    (folder / "simple" / "pip").mkdir(parents=True)
    pip = importlib.metadata.distribution("pip")
    name = f"pip-{pip.version}-py3-none-any.whl"
    with zipfile.ZipFile(folder / name, "w") as wheel:
        for file in pip.files or []:
            if file.parts[0].startswith("pip") and "__pycache__" not in file.parts:
                wheel.write(str(file.locate()), str(file))
    listed = [
        {
            "filename": name,
            "url": f"../../{name}",
            "hashes": {"sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()},
        }
    ]

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/simple/pip/":
                (folder / "simple" / "pip" / "index.html").write_text(json.dumps({"files": listed}))
            super().do_GET()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/simple", listed
        server.shutdown()


def _without_module(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """This Python lacks a module, as Debian's does without python3-venv."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == missing else find(name, *rest),
    )


def test_works_without_ensurepip(
    bare_project: _Project,
    package_index: tuple[str, list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _without_module(monkeypatch, "ensurepip")
    monkeypatch.setenv("PIP_INDEX_URL", package_index[0])
    assert _answer(bare_project.environment()) == "42"


def test_a_changed_pip_is_refused(
    bare_project: _Project,
    package_index: tuple[str, list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _without_module(monkeypatch, "ensurepip")
    address, listed = package_index
    listed[0]["hashes"]["sha256"] = "0" * 64
    monkeypatch.setenv("PIP_INDEX_URL", address)
    with pytest.raises(run.Failure, match=r"checksum.*python3-venv"):
        bare_project.environment()


def test_without_venv_it_says_what_to_install(
    bare_project: _Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_module(monkeypatch, "venv")
    with pytest.raises(run.Failure, match="apt install python3-venv"):
        bare_project.environment()


def test_two_at_once_take_turns(project: _Project) -> None:
    program = f"import run; run.environment({str(project.root)!r}, '')"
    both = [
        subprocess.Popen([sys.executable, "-c", program], cwd=pathlib.Path(run.__file__).parent)
        for _ in range(2)
    ]
    assert [one.wait() for one in both] == [0, 0]
    assert project.builds == 1


def _wheel(version: str, **more: Any) -> dict[str, Any]:
    return {"filename": f"pip-{version}-py3-none-any.whl", **more}


def test_latest_wheel() -> None:
    files = [
        _wheel("9.0.3"),
        _wheel("26.1"),
        _wheel("26.0.1"),
        _wheel("26.2b1"),
        _wheel("27.0", yanked="broken"),
        {"filename": "pip-28.0.tar.gz"},
        {"filename": "pip-28.0-cp311-cp311-linux_x86_64.whl"},
    ]
    assert run.latest_wheel(files) == _wheel("26.1")
    with pytest.raises(ValueError, match="no wheel"):
        run.latest_wheel(files[3:])


def test_an_unsuitable_python_hands_over_to_a_suitable_one(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run.suitable_python() == sys.executable
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(run.Failure, match=r"3\.11, 3\.12 or 3\.13.*this is Python 3\.9"):
        run.suitable_python()
    # A name on the PATH is not enough: it must be that Python.
    liar = tmp_path / "python3.13"
    liar.write_text("#!/bin/sh\nexit 127\n")
    liar.chmod(0o755)
    with pytest.raises(run.Failure):
        run.suitable_python()


@pytest.mark.parametrize(("arguments", "status"), [([], 2), (["--help"], 0), (["help"], 0)])
def test_help(arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(arguments) == status
    assert "run.py quickstart" in capsys.readouterr().out


def test_an_unknown_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["tset"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_arguments_that_make_no_sense(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["check", "--fixx"]) == 1
    assert run.main(["install", "everything"]) == 1
    assert "--fixx" in capsys.readouterr().err


@pytest.mark.parametrize(("program", "status"), [("exit(7)", 7), ("pass", 0)])
def test_a_jobs_exit_status_is_passed_on(
    program: str, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    """`run.py slow` starts pytest with the environment's Python; here that is a Python that does as told."""
    stand_in = tmp_path / "python"
    stand_in.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{program}"\n')
    stand_in.chmod(0o755)
    monkeypatch.setattr(run, "environment", lambda root, extra: str(stand_in))
    assert run.main(["slow", "-k", "x"]) == status
    assert run.main(["check"]) == status
    assert status == 0 or run.main(["quickstart"]) == status


def test_the_quickstart_runs_its_commands_and_tells_their_results(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    workdir = tmp_path / "a run"
    (workdir / "evaluation").mkdir(parents=True)
    (workdir / "turned.png").touch()
    inferred = {"pearson": 0.9876, "r2_calibrated": 0.97, "median_abs_error_deg": 5.4321}
    metrics = {
        "reconstruction": {"mse": 0.00456, "psnr_db": 23.4},
        "inference": {"azimuth": inferred, "light_azimuth": {**inferred, "pearson": None}},
        "rerendering": {"azimuth": {"mse": 0.0123, "psnr_db": 19.0}},
    }
    (workdir / "evaluation" / "metrics.json").write_text(json.dumps(metrics))
    stand_in = tmp_path / "python"
    stand_in.write_text('#!/bin/sh\nfor argument; do echo "<$argument>"; done\n')
    stand_in.chmod(0o755)
    monkeypatch.setattr(run, "environment", lambda root, extra: str(stand_in))
    assert run.main(["quickstart", "--steps=7", f"--workdir={workdir}"]) == 0
    out = capfd.readouterr().out
    modules = [line for line in out.splitlines() if line.startswith("<dcign_tf.cli.")]
    assert modules[:2] == ["<dcign_tf.cli.train>", "<dcign_tf.cli.evaluate>"]
    assert set(modules[2:]) == {"<dcign_tf.cli.rerender>"}
    assert out.count("<--steps=7>") == 1
    assert f"<--model={workdir}>" in out
    assert "azimuth                        0.988       5.43 deg             0.0123\n" in out
    assert "light_azimuth                      -       5.43 deg                  -\n" in out
    assert "MSE 0.00456" in out
    assert f"{workdir}/turned.png\n" in out
    assert "relit.gif" not in out.split("Look at")[1]


def test_a_killed_job_is_no_success(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    stand_in = tmp_path / "python"
    stand_in.write_text("#!/bin/sh\nkill -9 $$\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr(run, "environment", lambda root, extra: str(stand_in))
    assert run.main(["slow"]) == 128 + signal.SIGKILL
    stand_in.unlink()
    assert run.main(["slow"]) == 1


def test_old_pythons_can_read_the_script_up_to_its_message() -> None:
    source = pathlib.Path(run.__file__).read_text()
    import ast

    ast.parse(source, feature_version=(3, 7))
    assert os.access(run.__file__, os.X_OK)


def test_the_script_runs_by_itself_from_another_folder(tmp_path: pathlib.Path) -> None:
    done = subprocess.run(
        [sys.executable, run.__file__, "nonsense"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert textwrap.shorten(done.stderr, 200).startswith("run.py: error: unknown job 'nonsense'")
