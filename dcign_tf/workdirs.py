"""Workdirs of training: whose they are, and what signals and full disks mean for them.

config.json    what the run is of; training of anything else is refused
lock           locked while a trainer is at work, and which one it is
"""

import contextlib
import json
import os
import pathlib
import shlex
import shutil
import socket
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from dcign_tf import checkpoints, files
from dcign_tf.errors import DcignError, Stopped, UsageError, first_line
from dcign_tf.processes import StopRequested, StopSignals, stop_signals

CHECKPOINTS = "checkpoints"
SUMMARY = "training.json"
NOTED = ("data_path", "scene", "command")
"""What config.json says for the commands that come after."""

_CONFIG = "config.json"
_LOCK = "lock"
# What killed processes leave: `files.atomic_write`'s, and `training`'s while it saves the model.
_LEFTOVERS = (f".{_CONFIG}.*.tmp", f".{SUMMARY}.*.tmp", ".model.*")


def without_places(command: str) -> str:
    """A command in which files and folders of this machine have but their names.

    Raises:
        DcignError: no shell would read it.
    """
    try:
        written = shlex.split(command)
    except ValueError as error:
        raise DcignError(f"{_CONFIG}: its command cannot be read ({error}): {command}") from error
    words = []
    for word in written:
        flag, equals, value = word.partition("=")
        path = pathlib.PurePath(value)
        if path.is_absolute() or ".." in path.parts or value.startswith("~"):
            value = path.name
        words.append(f"{flag}{equals}{value}")
    return shlex.join(words)


def model_file(path: str | os.PathLike[str]) -> pathlib.Path:
    """Finds the `.keras` file of a workdir; of a file, that is the file itself.

    Raises:
        DcignError: there is none.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise DcignError(
            f"{path}: no such file or folder; it should be a workdir of dcign-train, a .keras "
            "file or an exported model"
        )
    if not path.is_dir():
        return path
    file = path / "model.keras"
    if file.is_file():
        return file
    if (path / "config.json").exists():
        raise DcignError(
            f"{path}: its training has not ended, there is no model.keras yet; run dcign-train "
            "again to go on with it"
        )
    raise DcignError(
        f"{path}: holds no model; it should be a workdir of dcign-train (with model.keras) or an "
        "exported model (with saved_model.pb)"
    )


def steps_of_model(folder: pathlib.Path) -> int:
    """How many steps the model of a workdir has had; 0 if there is none, or nothing that says so."""
    try:
        if not (folder / "model.keras").exists():
            return 0
        return int(json.loads((folder / SUMMARY).read_text("utf-8"))["steps"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return 0  # What is damaged is made again.


@contextlib.contextmanager
def at_work(folder: str | os.PathLike[str], chief: bool = True) -> Iterator[StopSignals]:
    """Makes a workdir this process's for the length of a block, and explains what may end the block early.

    Args:
        folder: the workdir; made if missing.
        chief: whether this is the one process of the run that writes into it. The others leave the lock alone.

    Yields:
        The signals; see `processes.stop_signals`.

    Raises:
        UsageError: another process is at work there.
        Stopped: SIGTERM or SIGINT came.
        DcignError: the disk is full.
    """
    home = pathlib.Path(folder)
    with stop_signals() as stops:
        try:
            home.mkdir(parents=True, exist_ok=True)
            with _locked(home) if chief else contextlib.nullcontext():
                if chief:
                    _remove_leftovers(home)
                yield stops
        except StopRequested as stop:
            last = _last_checkpoint(home)
            resumes = f"resumes from {last}" if last else "starts again, there is no checkpoint yet"
            raise Stopped(
                f"stopped by {stop.signal.name}: the same command {resumes}", stop.signal
            ) from None
        except Exception as error:
            if not files.is_full(error):
                raise
            last = _last_checkpoint(home)
            raise DcignError(
                f"{home}: no space left on the disk (or in the user's quota, or below the process's limit): "
                f"{first_line(error)}. Make room, {_needed(last)}or lower --keep_checkpoints; the same command then "
                f"{f'resumes from {last}' if last else 'starts again'}"
            ) from error


def claim(
    folder: pathlib.Path,
    described: Mapping[str, Any],
    noted: Mapping[str, Any] | None = None,
    free: Collection[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Writes the configuration into a new workdir, and what may differ into an old one; refuses one that holds another.

    Args:
        folder: the workdir.
        described: all that the run is a function of, fit for JSON; settings of training under "training".
        noted: what else to write down, of `NOTED`; it may differ.
        free: names of settings that may differ.
        defaults: of settings of training. One that is newer than the run was what its default is.

    Raises:
        UsageError: it holds a run of another configuration; the message lists what differs. Or one that has done more
            steps than are wanted.
        DcignError: its configuration is damaged.
    """
    path = folder / _CONFIG
    if not path.exists():
        if (folder / CHECKPOINTS).exists():
            raise UsageError(
                f"--workdir: {folder} has checkpoints but no {_CONFIG}; give another folder"
            )
        with files.atomic_write(path, "w") as file:
            json.dump({**described, **(noted or {})}, file, indent=2)
        return
    try:
        there = json.loads(path.read_text("utf-8"))
        found = _flat({name: there[name] for name in there if name not in NOTED})
        found = json.loads(json.dumps(dict(defaults or {}))) | found
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DcignError(f"{path}: not the configuration of a run: {error}") from error
    # As it will be read back: JSON has no tuples.
    wanted = _flat(json.loads(json.dumps(described)))
    differing = [
        f"{name} (there {_shown(name, found)}, asked {_shown(name, wanted)})"
        for name in sorted(wanted.keys() | found.keys())
        if name not in free
        and (name in found, found.get(name)) != (name in wanted, wanted.get(name))
    ]
    if differing:
        raise UsageError(
            f"--workdir: {folder} holds a run of another configuration; these differ: {'; '.join(differing)}. "
            "Give another folder, or the same flags to resume"
        )
    if found == wanted:
        return
    if found.get("steps") != wanted.get("steps"):
        last = _last_checkpoint(folder)
        done = max(steps_of_model(folder), checkpoints.step_of(last) if last else 0)
        if done > wanted["steps"]:
            raise UsageError(
                f"--steps: got {wanted['steps']}, but {folder} has done {done} already; give {done} or more, or "
                "another folder"
            )
    with files.atomic_write(path, "w") as file:
        json.dump({**there, **described}, file, indent=2)


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of training beside all others."""
    training = config["training"]
    if not isinstance(training, dict):
        raise TypeError("its settings of training are no object")
    return {**training, **{name: value for name, value in config.items() if name != "training"}}


def _shown(name: str, config: Mapping[str, Any]) -> str:
    """A value for a message; of a long description, its beginning and its end, where its checksum is."""
    # Another version of this package may have had settings more or less.
    text = str(config[name]) if name in config else "no such setting"
    return text if len(text) <= 80 else f"{text[:38]} ... {text[-38:]}"


@contextlib.contextmanager
def _locked(home: pathlib.Path) -> Iterator[None]:
    path = home / _LOCK

    def taken() -> UsageError:
        owner = ""
        with contextlib.suppress(OSError):
            owner = path.read_text(errors="replace").strip()
        return UsageError(
            f"--workdir: another trainer is at work in {home}: {owner or 'which one, it has not said yet'}. "
            "Wait for it, stop it, or give another folder"
        )

    with files.locked(path, taken, os.O_RDWR | os.O_CREAT) as handle:
        if handle is not None:
            with contextlib.suppress(OSError):  # On a full disk the lock holds all the same.
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield


def _remove_leftovers(home: pathlib.Path) -> None:
    for pattern in _LEFTOVERS:
        for path in home.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    checkpoints.remove_unfinished(home / CHECKPOINTS)


def _last_checkpoint(home: pathlib.Path) -> pathlib.Path | None:
    return next(iter(checkpoints.stored(home / CHECKPOINTS)), None)


def _needed(checkpoint: pathlib.Path | None) -> str:
    if checkpoint is None:
        return ""
    size = sum(path.stat().st_size for path in checkpoint.iterdir())
    return f"{size / 1e6:.1f} MB for a checkpoint, "
