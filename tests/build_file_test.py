"""BUILD fits the sources, and its writer finds what they depend on."""

import ast
import pathlib
import re

import pytest

from tests import build_file

_ROOT = build_file.ROOT


def _targets(text: str) -> dict[str, dict[str, object]]:
    """The targets of a BUILD file (Starlark is Python enough for this): name -> attributes and "kind"."""
    targets = {}
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            call = statement.value
            kind = ast.unparse(call.func)
            attributes = {
                str(keyword.arg): ast.literal_eval(keyword.value)
                for keyword in call.keywords
                if not isinstance(keyword.value, ast.Call | ast.BinOp)
            }
            if "name" in attributes:
                targets[attributes["name"]] = {"kind": kind, **attributes}
    return targets


def test_build_is_up_to_date() -> None:
    text = (_ROOT / "BUILD").read_text("utf-8")
    _, marker, below = text.partition(build_file.MARKER)
    assert marker
    assert below.strip() == build_file.generate(_ROOT).strip(), (
        "python3 run.py check --fix writes BUILD anew"
    )


def test_every_file_is_in_a_target() -> None:
    targets = _targets((_ROOT / "BUILD").read_text("utf-8"))
    in_targets = {
        source
        for target in targets.values()
        if target["kind"] in ("py_library", "py_test")
        for source in target.get("srcs", [])  # type: ignore[attr-defined]
    }
    files = {
        path.relative_to(_ROOT).as_posix()
        for folder in ("dcign_tf", "tests")
        for path in _ROOT.glob(f"{folder}/**/*.py")
    }
    assert files == in_targets


def test_the_commands_are_those_of_setup_py() -> None:
    targets = _targets((_ROOT / "BUILD").read_text("utf-8"))
    commands = {name for name, target in targets.items() if target["kind"] == "py_binary"}
    match = re.search(r"_COMMANDS = (\(.*?\))", (_ROOT / "setup.py").read_text(), re.DOTALL)
    assert match is not None
    assert commands == {f"dcign-{name}" for name in ast.literal_eval(match[1])}


@pytest.fixture
def checkout(tmp_path: pathlib.Path) -> pathlib.Path:
    files = {
        "dcign_tf/__init__.py": "def __getattr__(name):\n    from dcign_tf.code import Code\n",
        "dcign_tf/code.py": "import os.path\nimport numpy as np\n",
        "dcign_tf/scenes/__init__.py": 'SOURCES = {"face": "dcign_tf.scenes.face"}\n',
        "dcign_tf/scenes/face.py": "import PIL.Image\nfrom dcign_tf import code\nfrom dcign_tf.scenes import SOURCES\n",
        "dcign_tf/cli/__init__.py": "",
        "dcign_tf/cli/show.py": "def main(argv):\n    from dcign_tf.scenes import face\n\ndef main_entry(): ...\n",
        "tests/bazel_main.py": "",
        "tests/helpers.py": "import dcign_tf\n",
        "tests/code_test.py": "import pytest\nfrom dcign_tf.code import Code\n",
        "tests/scenes/face_test.py": 'from tests import helpers\nfrom dcign_tf.scenes import SOURCES\nA = "flags/a"\n',
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_targets_from_imports(checkout: pathlib.Path) -> None:
    targets = _targets(build_file.generate(checkout))
    deps = {name: target.get("deps") for name, target in targets.items()}
    assert deps["code"] == [":package", ":pypi/numpy"]
    assert deps["dcign_tf"] == [":package", ":code"]
    assert deps["scenes/face"] == [":package", ":code", ":pypi/pillow"]
    assert deps["scenes"] == [":package", ":scenes/face"], "named in a string, for a later import"
    assert deps["cli/show"] == [":package", ":scenes/face"], "imported in a function"
    assert deps["tests/helpers"] == [":dcign_tf"]
    assert deps["tests/code_test"] == [":code", ":pypi/pytest"]
    assert deps["tests/scenes/face_test"] == [":scenes", ":tests/helpers"]
    assert targets["dcign-show"]["kind"] == "py_binary"
    assert {"pypi/numpy", "pypi/pillow", "pypi/pytest"} <= set(targets)


def test_what_is_run_needs_the_packages_of_its_modules(checkout: pathlib.Path) -> None:
    """Importing dcign_tf.scenes.face runs dcign_tf/scenes/__init__.py, and may need what that imports."""
    (checkout / "tests" / "show_test.py").write_text("from dcign_tf.cli import show\n")
    targets = _targets(build_file.generate(checkout))
    assert targets["tests/show_test"]["deps"] == [":cli/show", ":scenes"]
    assert targets["dcign-show"]["deps"] == [":cli/show", ":scenes", ":scenes/face"]
    assert targets["cli/show"]["deps"] == [":package", ":scenes/face"]


def test_heavy_tests_are_manual(checkout: pathlib.Path) -> None:
    targets = _targets(build_file.generate(checkout))
    assert "tags" not in targets["tests/code_test"]
    assert targets["tests/scenes/face_test"]["tags"] == ["manual"], (
        "it needs pillow, through two others"
    )
    assert targets["heavy_tests"]["tests"] == [":tests/scenes/face_test"]


def test_data_that_a_test_names(checkout: pathlib.Path) -> None:
    targets = _targets(build_file.generate(checkout))
    assert targets["tests/scenes/face_test"]["data"] == [":flags_files", "pyproject.toml"]


def test_main_writes_and_checks(
    checkout: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build_file, "ROOT", checkout)
    (checkout / "BUILD").write_text(f"# By hand.\n{build_file.MARKER}\nold\n")
    assert build_file.main(["--check"]) == 1
    assert "check --fix" in capsys.readouterr().out
    assert build_file.main([]) == 0
    assert build_file.main(["--check"]) == 0
    text = (checkout / "BUILD").read_text()
    assert text.startswith(f"# By hand.\n{build_file.MARKER}\n")
    assert "old" not in text
