"""Checkpoints that are there whole or not at all, and that are looked at before they are believed.

    checkpoints/ckpt-500/    what is needed to go on after step 500
        state.index, state.data-00000-of-00001    TensorFlow's files
        SHA256SUMS                                their checksums, for `sha256sum -c`, too

A checkpoint is written under another name and takes its own, on disk by then, in one step of the file system: a
process that is killed while it writes leaves nothing that looks like one. What was damaged later is found by its
checksum before any variable is changed, and the checkpoint before is taken.
"""

import os
import pathlib
import re
import shutil
import sys

import tensorflow as tf

from dcign_tf import files
from dcign_tf.datasets.manifest import sha256_of
from dcign_tf.errors import DcignError, first_line

_STATE = "state"
_SUMS = "SHA256SUMS"


class Checkpoints:
    """The checkpoints in a folder.

    Args:
        folder: where they are; made with the first.
        checkpoint: what is saved and restored.
        keep: how many to keep.

    Attributes:
        latest: the one last saved or restored; None before that.
    """

    def __init__(
        self, folder: str | os.PathLike[str], checkpoint: tf.train.Checkpoint, keep: int = 2
    ) -> None:
        self.latest: pathlib.Path | None = None
        self._folder = pathlib.Path(folder)
        self._checkpoint = checkpoint
        self._keep = keep

    def restore(self) -> None:
        """Restores the newest checkpoint that is undamaged, if there is any; warns of newer ones that are not.

        Raises:
            DcignError: there are some, but none can be used.
        """
        problems: list[str] = []
        for path in stored(self._folder):
            problem = damage(path) or self._read(path)
            if problem is None:
                for told in problems:
                    print(f"warning: {told}; going on from {path}", file=sys.stderr)
                self.latest = path
                return
            problems.append(problem)
        if problems:
            raise DcignError(
                f"{self._folder}: no checkpoint can be used: {'; '.join(problems)}. Put a copy of one in its place, "
                f"or delete {self._folder} to train from the start"
            )

    def save(self, step: int) -> None:
        """Saves the state after a step, if it is not the one last saved or restored; deletes what is then too much.

        Args:
            step: how many have been done.

        Raises:
            OSError, tf.errors.OpError: it could not be written; those there are remain.
        """
        path = self._folder / _name(step)
        if path == self.latest:
            return
        self._folder.mkdir(exist_ok=True)
        unfinished = _unfinished(path)
        _delete(path)  # If there is one of this step, it was found damaged.
        _delete(unfinished)
        try:
            unfinished.mkdir()
            self._checkpoint.write(str(unfinished / _STATE))
            _seal(unfinished)
            unfinished.rename(path)
            files.sync(self._folder)
        except BaseException:
            # On a full disk, room is what is needed most.
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        self.latest = path
        done = [other for other in stored(self._folder) if step_of(other) <= step]
        for other in stored(self._folder):
            # Later ones were damaged, or training would not have come by here.
            if other not in done[: self._keep]:
                _delete(other)

    def _read(self, path: pathlib.Path) -> str | None:
        """Restores one; returns what is wrong with it, if anything."""
        try:
            self._checkpoint.read(str(path / _STATE)).assert_existing_objects_matched()
        # Shapes that differ are a ValueError, variables that are missing an AssertionError.
        except (tf.errors.OpError, AssertionError, ValueError) as error:
            return f"{path}: not of this model, or another version's: {first_line(error)}"
        return None


def stored(folder: str | os.PathLike[str]) -> list[pathlib.Path]:
    """The checkpoints in a folder, damaged or not, the newest first; none if there is no such folder."""
    found = [path for path in pathlib.Path(folder).glob("ckpt-*") if step_of(path) >= 0]
    return sorted(found, key=step_of, reverse=True)


def damage(path: pathlib.Path) -> str | None:
    """What is wrong with a checkpoint, told of the file that is; None if its files are those that were written."""
    try:
        sums = parse_sums((path / _SUMS).read_bytes())
        names = {file.name for file in path.iterdir()} - {_SUMS}
    except FileNotFoundError:
        return f"{path / _SUMS}: missing"
    except NotADirectoryError:
        return f"{path}: a file, not a checkpoint's folder"
    except ValueError as error:
        return f"{path / _SUMS}: damaged: {error}"
    for name in sorted(names ^ sums.keys()):
        return f"{path / name}: {'missing' if name in sums else f'not listed in {_SUMS}'}"
    for name, expected in sums.items():
        if sha256_of(path / name) != expected:
            return f"{path / name}: damaged: its checksum is not the one in {_SUMS}"
    return None


def parse_sums(content: bytes) -> dict[str, str]:
    """The SHA-256 of each file, as `sha256sum` writes them.

    Raises:
        ValueError: there are none, or a line is something else.
    """
    lines = content.decode("ascii").split("\n")
    if len(lines) < 2 or lines.pop():
        raise ValueError("cut off")
    sums = {}
    for line in lines:
        match = re.fullmatch(r"([0-9a-f]{64})  ([\w.-]+)", line, re.ASCII)
        if match is None or match[2] in sums:
            raise ValueError(
                f"got the line {line[:100]!r}, must be a checksum and the name of a file"
            )
        sums[match[2]] = match[1]
    return sums


def remove_unfinished(folder: str | os.PathLike[str]) -> None:
    """Removes what killed processes left of checkpoints that they wrote or deleted."""
    for path in pathlib.Path(folder).glob(_unfinished(pathlib.Path("*")).name):
        shutil.rmtree(path, ignore_errors=True)


def _seal(folder: pathlib.Path) -> None:
    """Adds the checksums of what lies in a folder; then all of it is on disk."""
    lines = []
    for path in sorted(folder.iterdir()):
        files.sync(path)
        lines.append(f"{sha256_of(path)}  {path.name}\n")
    with files.atomic_write(folder / _SUMS, "w") as file:
        file.writelines(lines)
    files.sync(folder)


def _delete(path: pathlib.Path) -> None:
    """Deletes a checkpoint, which never looks like one that is half there."""
    if path.is_dir():
        gone = path if path.name.startswith(".") else path.rename(_unfinished(path))
        shutil.rmtree(gone)
    else:
        path.unlink(missing_ok=True)


def _unfinished(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(f".{path.name}.tmp")


def _name(step: int) -> str:
    return f"ckpt-{step}"


def step_of(path: pathlib.Path) -> int:
    """After which step a checkpoint was made; -1 for what is none."""
    match = re.fullmatch(r"ckpt-(0|[1-9][0-9]{0,17})", path.name, re.ASCII)
    return int(match[1]) if match else -1
