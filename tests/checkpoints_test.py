"""A checkpoint is whole or not there, and a damaged one is never believed."""

import contextlib
import hashlib
import pathlib
import re
import resource
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from dcign_tf import checkpoints, files
from dcign_tf.checkpoints import Checkpoints
from dcign_tf.errors import DcignError
from tests import faults

_FILES = {"state.index", "state.data-00000-of-00001", "SHA256SUMS"}


def state(value: float, size: int = 1000) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(
        weights=tf.Variable(tf.fill([size], float(value))), step=tf.Variable(0)
    )


def assert_holds(checkpoint: tf.train.Checkpoint, value: float) -> None:
    np.testing.assert_array_equal(checkpoint.weights.numpy(), np.full(1000, value, np.float32))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Of step 10, with 1.0 in it, and of step 20, with 2.0."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for step in (10, 20):
        Checkpoints(folder, state(step / 10)).save(step)
    return folder


def test_what_was_saved_is_restored(two: pathlib.Path) -> None:
    fresh = state(0)
    assert Checkpoints(two, fresh).latest is None
    kept = Checkpoints(two, fresh)
    kept.restore()
    assert_holds(fresh, 2.0)
    assert kept.latest == two / "ckpt-20"
    assert [path.name for path in checkpoints.stored(two)] == ["ckpt-20", "ckpt-10"]
    for path in checkpoints.stored(two):
        assert {file.name for file in path.iterdir()} == _FILES
        assert checkpoints.damage(path) is None


@pytest.mark.skipif(
    shutil.which("sha256sum") is None, reason="no sha256sum here: .ci/run runs it, on Linux"
)
def test_others_can_check_the_checksums(two: pathlib.Path) -> None:
    subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=two / "ckpt-20", check=True
    )


def test_nothing_to_restore_is_no_error(tmp_path: pathlib.Path) -> None:
    fresh = state(0)
    Checkpoints(tmp_path / "none", fresh).restore()
    assert_holds(fresh, 0.0)
    assert checkpoints.stored(tmp_path / "none") == []


def test_the_newest_are_kept(tmp_path: pathlib.Path) -> None:
    kept = Checkpoints(tmp_path, state(1.0), keep=3)
    for step in (2, 9, 10, 11, 100):
        kept.save(step)
    assert [path.name for path in checkpoints.stored(tmp_path)] == [
        "ckpt-100",
        "ckpt-11",
        "ckpt-10",
    ]
    # Once is enough.
    before = (tmp_path / "ckpt-100" / "SHA256SUMS").stat().st_mtime_ns
    kept.save(100)
    assert (tmp_path / "ckpt-100" / "SHA256SUMS").stat().st_mtime_ns == before
    assert len(list(tmp_path.iterdir())) == 3


@pytest.fixture(params=sorted(faults.DAMAGES))
def damaged(
    request: pytest.FixtureRequest, two: pathlib.Path, tmp_path: pathlib.Path
) -> tuple[pathlib.Path, str]:
    """The same, the newer one damaged, and what of it."""
    folder = tmp_path / "checkpoints"
    shutil.copytree(two, folder)
    return folder, faults.DAMAGES[request.param](folder / "ckpt-20")


def test_of_a_damaged_one_the_one_before_is_used(
    damaged: tuple[pathlib.Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, named = damaged
    fresh = state(0)
    kept = Checkpoints(folder, fresh)
    kept.restore()
    assert_holds(fresh, 1.0)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {folder / 'ckpt-20' / named}: ".replace("/: ", ": "))
    assert line.endswith(f"; going on from {folder / 'ckpt-10'}")
    # Where training comes by again, it takes the damaged one's place.
    fresh.weights.assign(tf.fill([1000], 3.0))
    kept.save(20)
    Checkpoints(folder, fresh).restore()
    assert_holds(fresh, 3.0)
    assert len(list(folder.iterdir())) == 2


def test_what_was_damaged_and_lies_ahead_is_deleted(damaged: tuple[pathlib.Path, str]) -> None:
    folder, _ = damaged
    kept = Checkpoints(folder, state(0))
    kept.restore()
    kept.save(15)
    assert [path.name for path in checkpoints.stored(folder)] == ["ckpt-15", "ckpt-10"]


def test_with_none_left_it_says_what_to_do(damaged: tuple[pathlib.Path, str]) -> None:
    folder, named = damaged
    shutil.rmtree(folder / "ckpt-10")
    fresh = state(5)
    with pytest.raises(DcignError) as caught:
        Checkpoints(folder, fresh).restore()
    assert re.search(
        rf"no checkpoint can be used: .*ckpt-20.*{named}.*delete .*{folder.name} to train from the start",
        str(caught.value),
    )
    assert_holds(fresh, 5.0)


@given(data=st.data())
def test_no_flipped_bit_goes_unseen(two: pathlib.Path, data: st.DataObject) -> None:
    file = two / "ckpt-20" / data.draw(st.sampled_from(sorted(_FILES)))
    whole = file.read_bytes()
    place = data.draw(st.integers(0, 8 * len(whole) - 1))
    try:
        faults.flip(file, place)
        assert checkpoints.damage(two / "ckpt-20") is not None
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize(
    "other",
    [
        lambda: state(0, size=7),
        lambda: tf.train.Checkpoint(weights=tf.Variable(tf.zeros([1000])), more=tf.Variable(1.0)),
    ],
)
def test_another_models_checkpoint_is_told(two: pathlib.Path, other) -> None:
    with pytest.raises(DcignError, match=r"ckpt-20: not of this model, or another version's: "):
        Checkpoints(two, other()).restore()


def test_what_killed_processes_left_counts_for_nothing(
    two: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(two, folder)
    shutil.copytree(folder / "ckpt-20", folder / ".ckpt-30.tmp")
    (folder / "ckpt-x").mkdir()
    (folder / "ckpt-030").mkdir()
    assert [path.name for path in checkpoints.stored(folder)] == ["ckpt-20", "ckpt-10"]
    checkpoints.remove_unfinished(folder)
    assert not (folder / ".ckpt-30.tmp").exists() and (folder / "ckpt-x").exists()
    # Nor is it in the way.
    (folder / ".ckpt-40.tmp" / "state_temp").mkdir(parents=True)
    Checkpoints(folder, state(4)).save(40)
    assert checkpoints.damage(folder / "ckpt-40") is None
    assert not list(folder.glob(".*"))


def assert_full(folder: pathlib.Path) -> None:
    """What is there stays there, and room is made of what there is not."""
    kept = Checkpoints(folder, state(1.0))
    kept.save(1)
    kept = Checkpoints(folder, state(2.0, size=10**6))
    with pytest.raises((OSError, tf.errors.OpError)) as caught:
        kept.save(2)
    assert files.is_full(caught.value)
    assert kept.latest is None
    fresh = state(0)
    Checkpoints(folder, fresh).restore()
    assert_holds(fresh, 1.0)
    assert [path.name for path in folder.iterdir()] == ["ckpt-1"]


@faults.needs_mount
def test_a_full_disk_leaves_what_there_was(tmp_path: pathlib.Path) -> None:
    with faults.small_disk(tmp_path, "1m") as disk:
        assert_full(disk / "checkpoints")


def test_a_limit_on_files_leaves_what_there_was(tmp_path: pathlib.Path) -> None:
    with faults.limited_files(10**6):
        assert_full(tmp_path / "checkpoints")


@given(st.dictionaries(st.text("aZ0_.-", min_size=1), st.binary(), min_size=1))
def test_checksums_are_read_as_they_are_written(contents: dict[str, bytes]) -> None:
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    text = "".join(f"{value}  {name}\n" for name, value in sums.items())
    assert checkpoints.parse_sums(text.encode()) == sums
    with pytest.raises(ValueError):
        checkpoints.parse_sums(text.encode()[:-1])


@given(st.binary() | st.text().map(str.encode) | st.from_regex(rb"\A([0-9a-f]{64}  .{,9}\n){,3}\Z"))
def test_anything_else_is_refused(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        sums = checkpoints.parse_sums(content)
        assert sums and all(re.fullmatch("[0-9a-f]{64}", value) for value in sums.values())
        assert all("/" not in name for name in sums)


def test_limits_are_what_they_were() -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with faults.limited_files(10**6):
        assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == 10**6
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == before
