"""Runs one test file under Bazel: the `main` of every py_test in BUILD.

The tests run in the environment that run.py made, where there is one, else in Bazel's own Python, which then must
have pytest and what the test needs. Either way the code under test is what the target's `deps` say, nothing else.
"""

import os
import pathlib
import subprocess
import sys

# Bazel gives a test a folder of links to its sources and dependencies; the links lead to the checkout.
_RUNFILES = pathlib.Path(os.path.abspath(__file__)).parents[1]
_CHECKOUT = pathlib.Path(__file__).resolve().parents[1]


def main() -> int:
    """Returns pytest's exit status."""
    folder = pathlib.Path(os.environ.get("DCIGN_VENV", _CHECKOUT / ".venv"))
    candidates = [folder / "bin" / "python", folder / "Scripts" / "python.exe"]
    python = next((str(path) for path in candidates if path.exists()), sys.executable)
    if subprocess.call([python, "-c", "import pytest"], stderr=subprocess.DEVNULL):
        print(
            f"{python} has no pytest: run `python3 run.py install`, or `pip install pytest`",
            file=sys.stderr,
        )
        return 1
    options = [
        "-c",
        str(_RUNFILES / "pyproject.toml"),
        "--rootdir",
        str(_RUNFILES),
        "-p",
        "no:cacheprovider",
    ]
    if "XML_OUTPUT_FILE" in os.environ:
        options += ["--junitxml", os.environ["XML_OUTPUT_FILE"]]
    if "TESTBRIDGE_TEST_ONLY" in os.environ:  # bazel test --test_filter
        options += ["-k", os.environ["TESTBRIDGE_TEST_ONLY"]]
    environment = {**os.environ, "PYTHONPATH": str(_RUNFILES), "PYTHONDONTWRITEBYTECODE": "1"}
    if "TEST_TMPDIR" in os.environ:
        environment["NUMBA_CACHE_DIR"] = os.environ["TEST_TMPDIR"]
    tests = [str(_RUNFILES / name) for name in sys.argv[1:]]
    return subprocess.call(
        [python, "-m", "pytest", *options, *tests], cwd=_RUNFILES, env=environment
    )


if __name__ == "__main__":
    sys.exit(main())
