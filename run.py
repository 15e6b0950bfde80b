#!/usr/bin/env python3
"""Sets dcign_tf up in an environment of its own, then does one of its jobs.

    python3 run.py quickstart [flags]    train on rendered faces, evaluate, re-render one (flags: of dcign-train)
    python3 run.py test [arguments]      the tests; without arguments (pytest's) with coverage
    python3 run.py slow [arguments]      the tests that take minutes: flag files in full, thousands of damaged files
    python3 run.py check [--fix]         formatter, linter, type checker, BUILD; --fix formats and mends
    python3 run.py install               nothing more: then `. .venv/bin/activate` gives all commands

Needs Python 3.11, 3.12 or 3.13 and nothing else. Everything is installed into .venv beside this file, or where
the environment variable DCIGN_VENV says; the system's Python is left alone. It is installed again only when
setup.py or pyproject.toml has changed.
"""

# Old Pythons must understand this file well enough to say that they are too old: no `X | Y`, no `match`.

import contextlib
import hashlib
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

_ROOT = os.path.dirname(os.path.abspath(__file__))
_PYTHONS = ((3, 13), (3, 12), (3, 11))  # Those that TensorFlow 2.21 is built for, best first.

# What the quickstart runs, one after the other; {workdir} is filled in.
_QUICKSTART = (
    ("Training", "dcign-train --flagfile=flags/quickstart --workdir={workdir}"),
    ("Measuring on faces it has never seen", "dcign-evaluate --workdir={workdir}"),
    (
        "Turning one of them",
        "dcign-rerender --model={workdir} --sample=58 --azimuth=-75:75:7 --output={workdir}/turned.png",
    ),
    (
        "Turning and raising it",
        "dcign-rerender --model={workdir} --sample=58 --azimuth=-60:60:7 --elevation=-20:20:3 "
        "--output={workdir}/turned_and_raised.png",
    ),
    (
        "Lighting it from other sides",
        "dcign-rerender --model={workdir} --sample=58 --light_azimuth=-75:75:7 --output={workdir}/relit.png",
    ),
)
_PICTURES = ("turned.png", "turned.gif", "turned_and_raised.png", "relit.png", "relit.gif")


class Failure(Exception):
    """Something that the user can mend; the message says how."""


def main(arguments: "list[str]") -> int:
    """Does what the first argument says.

    Returns:
        The exit status: that of the command that failed, 2 for a mistake on the command line.
    """
    jobs = {
        "quickstart": quickstart,
        "test": test,
        "slow": slow,
        "check": check,
        "install": install,
    }
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(__doc__.strip())
        return 0 if arguments else 2
    if arguments[0] not in jobs:
        _say("error: unknown job {!r}; there are {}".format(arguments[0], ", ".join(jobs)))
        return 2
    try:
        python = suitable_python()
        if python != sys.executable:
            return _call([python, os.path.abspath(__file__), *arguments], cwd=os.getcwd())
        return jobs[arguments[0]](arguments[1:])
    except Failure as failure:
        _say(f"error: {failure}")
        return 1
    except OSError as error:
        _say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        _say("interrupted")
        return 130


def quickstart(arguments: "list[str]") -> int:
    """Trains, evaluates and re-renders; `arguments` go to dcign-train."""
    python = environment(_ROOT, extra="")
    chosen = [
        argument[len("--workdir=") :] for argument in arguments if argument.startswith("--workdir=")
    ]
    workdir = chosen[-1] if chosen else "runs/quickstart"
    began = time.monotonic()
    for number, (title, template) in enumerate(_QUICKSTART):
        command = [part.format(workdir=workdir) for part in template.split()]
        if number == 0:
            command += arguments
        _say(title + " ...")
        print("$ " + " ".join(map(shlex.quote, command)), flush=True)
        status = _call([python, "-m", _module(command[0]), *command[1:]])
        if status:
            return status
    folder = os.path.join(_ROOT, workdir)
    print()
    print(summary(os.path.join(folder, "evaluation", "metrics.json")))
    print("\nLook at")
    report = os.path.join("evaluation", "report.html")
    for name in (*_PICTURES, report):
        if os.path.exists(os.path.join(folder, name)):
            print("  " + os.path.join(folder, name))
    _say(f"Done in {(time.monotonic() - began) / 60:.1f} minutes.")
    return 0


def summary(path: str) -> str:
    """The main numbers of an evaluation as a small table.

    Args:
        path: metrics.json.
    """
    with open(path, encoding="utf-8") as file:
        metrics = json.load(file)
    lines = ["On faces it has never seen   Pearson r   median error   re-rendered: MSE"]
    for factor, inferred in metrics["inference"].items():
        row = (
            inferred["pearson"],
            inferred["median_abs_error_deg"],
            metrics["rerendering"].get(factor, {}).get("mse"),
        )
        pearson, error, mse = ("-" if value is None else f"{value:.3g}" for value in row)
        lines.append(f"  {factor:<24} {pearson:>11} {error + ' deg':>14} {mse:>18}")
    lines.append(f"  reconstruction: MSE {metrics['reconstruction']['mse']:.3g}")
    return "\n".join(lines)


def test(arguments: "list[str]") -> int:
    """Runs the tests: all, with coverage of the package, or what the arguments select."""
    python = environment(_ROOT, extra="dev")
    coverage = ["--cov", "--cov-report=term", "--cov-fail-under=90"]
    # A file's tests share what took long to make, so files are what is shared out.
    at_once = ["--numprocesses=auto", "--maxprocesses=4", "--dist=loadfile"]
    return _call([python, "-m", "pytest", *(arguments or coverage + at_once)])


def slow(arguments: "list[str]") -> int:
    """Runs the tests that take minutes."""
    return _call([environment(_ROOT, extra="dev"), "-m", "pytest", "-m", "slow", *arguments])


def check(arguments: "list[str]") -> int:
    """Runs formatter, linter, type checker and the check of BUILD, all of them even if the first complains."""
    if arguments not in ([], ["--fix"]):
        raise Failure("check takes --fix or nothing, got {}".format(" ".join(arguments)))
    python = environment(_ROOT, extra="dev")
    fix = bool(arguments)
    commands = [
        ["ruff", "format", *([] if fix else ["--check"]), "."],
        ["ruff", "check", *(["--fix"] if fix else []), "."],
        ["mypy"],
        ["tests.build_file", *([] if fix else ["--check"])],
    ]
    statuses = []
    for command in commands:
        print("$ python -m " + " ".join(command), flush=True)
        statuses.append(_call([python, "-m", *command]))
    return max(statuses)


def install(arguments: "list[str]") -> int:
    """Only installs, with what development needs."""
    if arguments:
        raise Failure("install takes no arguments, got {}".format(" ".join(arguments)))
    python = environment(_ROOT, extra="dev")
    _say(f"dcign_tf is installed in {os.path.dirname(os.path.dirname(python))}")
    return 0


def suitable_python() -> str:
    """Returns this interpreter, or another one on the PATH that TensorFlow is built for."""
    if sys.version_info[:2] in _PYTHONS:
        return sys.executable
    for major, minor in _PYTHONS:
        found = shutil.which(f"python{major}.{minor}")
        # Version managers put programs on the PATH that only say that the version is not installed.
        if found and _succeeds(
            [found, "-c", f"import sys; assert sys.version_info[:2] == ({major}, {minor})"]
        ):
            return found
    raise Failure(
        "dcign_tf needs Python 3.11, 3.12 or 3.13, which TensorFlow is built for; this is Python {}.{} and the PATH "
        "has no other. Install one (Debian, Ubuntu: sudo apt install python3.12; macOS: brew install python@3.12; "
        "or python.org) and run `python3.12 run.py`".format(*sys.version_info[:2])
    )


def environment(root: str, extra: str) -> str:
    """Makes sure that the project is installed in its environment.

    Args:
        root: the folder with setup.py.
        extra: the extra of setup.py that is needed as well; "" for none.

    Returns:
        The environment's Python.

    Raises:
        Failure: it could not be installed; what pip said stands on the screen.
    """
    folder = os.path.abspath(
        os.path.expanduser(os.environ.get("DCIGN_VENV") or os.path.join(root, ".venv"))
    )
    python = os.path.join(
        folder, *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python"))
    )
    stamp = os.path.join(folder, "dcign_tf.json")
    with _lock(folder + ".lock"):
        usable = _succeeds([python, "-m", "pip", "--version"])
        wanted = _state(root)
        installed = _read_stamp(stamp)
        extras = sorted({extra, *installed.get("extras", [])} - {""})
        current = {key: value for key, value in installed.items() if key != "extras"} == wanted
        if usable and current and extras == installed.get("extras"):
            return python
        began = time.monotonic()
        if not usable:
            _say(f"Making a virtual environment in {folder} ...")
            _make_environment(folder, python)
        # From here until all is done the environment counts as not installed, even after a power cut.
        with contextlib.suppress(FileNotFoundError):
            os.remove(stamp)
        _say(
            "Installing dcign_tf and what it needs (TensorFlow is large: minutes, the first time) ..."
        )
        project = root + ("[{}]".format(",".join(extras)) if extras else "")
        if _call(
            [python, "-m", "pip", "install", "--editable", project],
            cwd=root,
            env=_pip_environment(),
        ):
            raise Failure("pip could not install dcign_tf, see above; the same command tries again")
        _write_stamp(stamp, {**wanted, "extras": extras})
        _say(f"Installed in {time.monotonic() - began:.0f} s.")
    return python


def _state(root: str) -> "dict[str, str]":
    """What the installation depends on."""
    digest = hashlib.sha256()
    for name in ("setup.py", "pyproject.toml"):
        with open(os.path.join(root, name), "rb") as file:
            digest.update(file.read() + b"\0")
    # An editable installation points to the checkout: after a move it must be made again.
    return {"sha256": digest.hexdigest(), "root": root}


def _read_stamp(path: str) -> "dict":
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_stamp(path: str, content: "dict") -> None:
    temporary = path + ".tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _make_environment(folder: str, python: str) -> None:
    """Makes `folder` a virtual environment with pip, also where the system's Python comes without ensurepip."""
    if (
        os.path.isdir(folder)
        and os.listdir(folder)
        and not os.path.exists(os.path.join(folder, "pyvenv.cfg"))
    ):
        raise Failure(
            f"{folder} is a folder with something else in it; empty it, or set DCIGN_VENV to another one"
        )
    if importlib.util.find_spec("venv") is None:
        raise Failure(_WITHOUT_VENV)
    # Debian and Ubuntu have ensurepip in a package of its own, python3-venv.
    bare = importlib.util.find_spec("ensurepip") is None
    command = [
        sys.executable,
        "-m",
        "venv",
        "--clear",
        *(["--without-pip"] if bare else []),
        folder,
    ]
    if _call(command):
        raise Failure(f"no virtual environment could be made in {folder}, see above")
    if bare:
        _install_pip(python)


_WITHOUT_VENV = (
    "this Python has no module venv (Debian, Ubuntu: sudo apt install python3-venv); "
    "or make a virtual environment yourself and set DCIGN_VENV to its folder"
)


def _install_pip(python: str) -> None:
    """Installs pip into the environment of `python`, straight from the package index."""
    index = (os.environ.get("PIP_INDEX_URL") or "https://pypi.org/simple").rstrip("/")
    _say(f"This Python has no ensurepip: fetching pip from {index} ...")
    try:
        request = urllib.request.Request(
            index + "/pip/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            files = json.load(answer)["files"]
        wheel = latest_wheel(files)
        with urllib.request.urlopen(
            urllib.parse.urljoin(request.full_url, wheel["url"]), timeout=60
        ) as answer:
            content = answer.read()
        if hashlib.sha256(content).hexdigest() != wheel["hashes"]["sha256"]:
            raise ValueError(
                "{} does not have the checksum that the index states".format(wheel["filename"])
            )
    except (OSError, ValueError, KeyError) as error:
        raise Failure(f"pip could not be fetched ({error}); {_WITHOUT_VENV}") from error
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, wheel["filename"])
        with open(path, "wb") as file:
            file.write(content)
        # A wheel is a zip file, and Python runs pip from it.
        if _call(
            [python, os.path.join(path, "pip"), "install", "--no-index", path],
            env=_pip_environment(),
        ):
            raise Failure(f"pip could not be installed, see above; {_WITHOUT_VENV}")


def latest_wheel(files: "list[dict]") -> "dict":
    """Returns the newest released wheel among the files that a package index lists (PEP 691)."""
    best = None
    for file in files:
        parts = file["filename"].split("-")
        numbers = parts[1].split(".") if len(parts) == 5 else []
        if not file["filename"].endswith("-py3-none-any.whl") or file.get("yanked"):
            continue
        if not all(number.isdigit() for number in numbers):  # 26.1b2 is no release.
            continue
        version = [int(number) for number in numbers]
        if best is None or version > best[0]:
            best = (version, file)
    if best is None:
        raise ValueError("the package index lists no wheel")
    return best[1]


def _pip_environment() -> "dict[str, str]":
    # A user's own settings for pip may ask for --user, which a virtual environment refuses.
    return {**os.environ, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@contextlib.contextmanager
def _lock(path: str):  # type: ignore[no-untyped-def]  # Its type needs a newer Python's names.
    """Lets two run.py at once take turns with one environment."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            _say("Waiting for another run.py to finish installing ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _module(command: str) -> str:
    """The module behind a command: dcign_tf.cli.train for dcign-train."""
    return "dcign_tf.cli." + command.split("-", 1)[1]


def _call(command: "list[str]", cwd: str = _ROOT, env: "dict[str, str] | None" = None) -> int:
    """Runs a command in the project's folder and returns its exit status, as a shell would."""
    try:
        child = subprocess.Popen(command, cwd=cwd, env=env)
    except OSError as error:
        raise Failure(f"cannot start {command[0]}: {error}") from error
    try:
        status = child.wait()
    except KeyboardInterrupt:
        # The child was interrupted as well, by the terminal; let it tidy up.
        status = child.wait()
    return 128 - status if status < 0 else status


def _succeeds(command: "list[str]") -> bool:
    try:
        return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def _say(message: str) -> None:
    print("run.py: " + message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
