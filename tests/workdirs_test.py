"""A workdir has one owner and one configuration."""

import errno
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcign_tf import workdirs
from dcign_tf.errors import DcignError, Stopped, UsageError
from tests import faults

DESCRIBED = {
    "training": {"steps": 100, "ratio": [1.0, 10.0], "filters": (4, 8), "summary_every": 5},
    "data": "faces",
    "image_size": 38,
}


def test_a_command_without_places() -> None:
    command = "dcign-train --data=/home/a/faces --source_path=../x/heads.npz --start_from=models/faces --a='b c' --on"
    expected = (
        "dcign-train --data=faces --source_path=heads.npz --start_from=models/faces '--a=b c' --on"
    )
    assert workdirs.without_places(command) == expected
    assert workdirs.without_places("dcign-train --data=~/faces") == "dcign-train --data=faces"
    with pytest.raises(DcignError, match="cannot be read"):
        workdirs.without_places("dcign-train 'a")


def claim(folder: pathlib.Path, **changes: Any) -> None:
    """As the run DESCRIBED, but for changes of training."""
    training = {**DESCRIBED["training"], **changes}  # type: ignore[dict-item]
    workdirs.claim(
        folder, {**DESCRIBED, "training": training}, {"data_path": "a"}, {"summary_every"}
    )


def test_the_same_run_may_go_on(tmp_path: pathlib.Path) -> None:
    claim(tmp_path)
    claim(tmp_path)
    workdirs.claim(tmp_path, DESCRIBED, {"data_path": "moved", "scene": {"a": 1}})
    claim(tmp_path, summary_every=7)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["data_path"] == "a"
    assert written["training"]["summary_every"] == 7


def test_another_is_refused_with_all_that_differs(tmp_path: pathlib.Path) -> None:
    claim(tmp_path)
    with pytest.raises(UsageError) as caught:
        claim(tmp_path, steps=200, ratio=[1.0, 1.0])
    assert re.search(
        r"these differ: ratio \(there \[1.0, 10.0\], asked \[1.0, 1.0\]\); steps \(there 100, asked 200\)\. Give",
        str(caught.value),
    )
    with pytest.raises(UsageError, match=r"data \(there faces, asked x{38} ... x{38}\)"):
        workdirs.claim(tmp_path, {**DESCRIBED, "data": 100 * "x"})


def test_an_older_versions_is_refused_with_what_is_new_and_what_is_gone(
    tmp_path: pathlib.Path,
) -> None:
    claim(tmp_path)
    path = tmp_path / "config.json"
    older = json.loads(path.read_text())
    older["training"]["weight_decay"] = None  # gone, and even then
    del older["training"]["filters"], older["image_size"]
    path.write_text(json.dumps(older))
    before = path.read_bytes()
    with pytest.raises(UsageError) as caught:
        claim(tmp_path)
    assert (
        "these differ: filters (there no such setting, asked [4, 8]); image_size (there no such setting, asked 38); "
        "weight_decay (there None, asked no such setting). Give"
    ) in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "7", "{}", '{"training": 3}', '{"training": ["ab"]}', 100000 * "["]
)
def test_a_damaged_configuration_is_named(content: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(DcignError, match=r"config.json: not the configuration of a run: "):
        claim(tmp_path)


_JSON = st.recursive(
    st.none() | st.floats() | st.text(),
    lambda some: st.lists(some) | st.dictionaries(st.sampled_from(["training", "data"]), some),
    max_leaves=5,
)


@given(content=_JSON.map(lambda value: json.dumps(value).encode()) | st.binary())
def test_no_configuration_is_one_by_chance(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "config.json").write_bytes(content)
    with pytest.raises(DcignError):
        claim(folder)


def test_checkpoints_of_nobody_are_left_alone(tmp_path: pathlib.Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UsageError, match=r"has checkpoints but no config.json"):
        claim(tmp_path)


def test_a_second_trainer_is_refused(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "new" / "run"
    with workdirs.at_work(folder):
        owner = f"process {os.getpid()} on {os.uname().nodename}"
        with (
            pytest.raises(UsageError, match=f"another trainer is at work in {folder}: {owner}\\. "),
            workdirs.at_work(folder),
        ):
            pytest.fail("two are at work")
        # Another worker of the same run is no second trainer.
        with workdirs.at_work(folder, chief=False):
            pass
    with workdirs.at_work(folder):
        pass


_LOCKING = """
import sys, time
from dcign_tf import files
with files.locked(sys.argv[1], AssertionError):
    print("locked", flush=True)
    time.sleep(100)
"""


def test_the_lock_of_a_dead_trainer_is_none(tmp_path: pathlib.Path) -> None:
    (tmp_path / "lock").write_text("process 1 on mars\n")
    command = [sys.executable, "-c", _LOCKING, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"locked\n"
        with pytest.raises(UsageError, match="process 1 on mars"), workdirs.at_work(tmp_path):
            pytest.fail("two are at work")
        process.kill()
        process.wait()
    with workdirs.at_work(tmp_path):
        assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} on ")


def test_leftovers_of_a_killed_trainer_are_removed_and_nothing_else(tmp_path: pathlib.Path) -> None:
    mine = ["model.keras", ".turned.png.ab.tmp", "checkpoints/ckpt-1/a", ".hidden"]
    left = [".config.json.ab.tmp", ".model.ab/model.keras", ".model.keras.ab.tmp"]
    left += [".training.json.ab.tmp", "checkpoints/.ckpt-2.tmp/state.index"]
    for name in (*mine, *left):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with workdirs.at_work(tmp_path, chief=False):
        assert all((tmp_path / name).exists() for name in left), "the chief may be using them"
    with workdirs.at_work(tmp_path):
        found = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
        assert found == {*mine, "lock"}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_with_a_status_and_how_to_resume(
    number: signal.Signals, status: int, tmp_path: pathlib.Path
) -> None:
    with (
        pytest.raises(Stopped, match=f"stopped by {number.name}: the same command starts again") as caught,
        workdirs.at_work(tmp_path),
    ):  # fmt: skip
        signal.raise_signal(number)
    assert caught.value.exit_status == status
    (tmp_path / "checkpoints" / "ckpt-70").mkdir(parents=True)
    with (
        pytest.raises(Stopped, match=r"the same command resumes from .*/checkpoints/ckpt-70$"),
        workdirs.at_work(tmp_path),
    ):
        signal.raise_signal(number)


@faults.needs_mount
def test_a_full_disk_is_told_with_what_would_help(tmp_path: pathlib.Path) -> None:
    with faults.small_disk(tmp_path, "1m") as disk:
        with (
            pytest.raises(DcignError, match=r"/run: no space left on the disk .* Make room, or .* starts again$"),
            workdirs.at_work(disk / "run"),
        ):  # fmt: skip
            (disk / "run" / "big").write_bytes(bytes(2 << 20))
        (disk / "run" / "checkpoints" / "ckpt-3").mkdir(parents=True)
        (disk / "run" / "big").write_bytes(bytes(500_000))
        (disk / "run" / "checkpoints" / "ckpt-3" / "a").write_bytes(bytes(200_000))
        with (
            pytest.raises(DcignError, match=r"Make room, 0.2 MB for a checkpoint, or lower "
            "--keep_checkpoints; the same command then resumes from .*/ckpt-3$"),
            workdirs.at_work(disk / "run"),
        ):  # fmt: skip
            (disk / "run" / "bigger").write_bytes(bytes(2 << 20))


def test_other_errors_stay_what_they_are(tmp_path: pathlib.Path) -> None:
    for error in (OSError(errno.EIO, "broken"), ValueError("No space left on device")):
        with pytest.raises(type(error)) as caught, workdirs.at_work(tmp_path):
            raise error
        assert caught.value is error
