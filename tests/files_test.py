"""A file appears whole or not at all."""

import errno
import os
import pathlib
import signal
import stat
import subprocess
import sys
import textwrap
import tracemalloc

import pytest

from dcign_tf import files


def test_writes_bytes_and_text(tmp_path: pathlib.Path) -> None:
    with files.atomic_write(tmp_path / "a.bin") as file:
        file.write(b"\x00\xff")
    with files.atomic_write(str(tmp_path / "a.txt"), "w") as file:
        file.write("Grüße\n")
    assert (tmp_path / "a.bin").read_bytes() == b"\x00\xff"
    assert (tmp_path / "a.txt").read_bytes() == "Grüße\n".encode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.txt"]


def test_the_name_appears_only_at_the_end(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "a"
    with files.atomic_write(target) as file:
        file.write(b"new")
        file.flush()
        assert not target.exists()
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: pathlib.Path, error: BaseException
) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")
    with pytest.raises(type(error)), files.atomic_write(target) as file:
        file.write(b"half of the n")
        raise error
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_permissions_are_those_of_any_new_file(tmp_path: pathlib.Path) -> None:
    with files.atomic_write(tmp_path / "a") as file:
        file.write(b"x")
    (tmp_path / "b").write_bytes(b"x")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"]
    assert modes[0] == modes[1]


def test_a_missing_folder_is_an_os_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError), files.atomic_write(tmp_path / "nowhere" / "a"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL: .ci/run runs it, on Linux")
def test_a_kill_leaves_the_old_file(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")
    program = f"""
    import os, signal
    from dcign_tf import files
    with files.atomic_write({str(target)!r}) as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=pathlib.Path(__file__).parents[1],
        env={**os.environ},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"


def test_reading_takes_no_more_room_than_there_is_to_read(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(200)) * 10_000)
    tracemalloc.start()
    with (tmp_path / "a").open("rb") as file:
        assert files.read_at_most(file, 1 << 30) == bytes(range(200)) * 10_000
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    with (tmp_path / "a").open("rb") as file:
        assert files.read_at_most(file, 1_500_001) == (bytes(range(200)) * 10_000)[:1_500_001]
    with open("/dev/zero", "rb") as file:
        assert files.read_at_most(file, 5) == bytes(5)


def test_a_full_disk_is_known_in_pythons_and_in_tensorflows_words() -> None:
    class OpError(Exception):
        """What TensorFlow's errors derive from."""

    assert files.is_full(OSError(errno.ENOSPC, "whatever"))
    assert files.is_full(OSError(errno.EDQUOT, "whatever"))
    assert files.is_full(OpError("{{node x}} /a/b; File too large [Op:SaveV2]"))
    assert not files.is_full(OSError(errno.EIO, "No space left on device"))
    assert not files.is_full(OpError("out of memory"))
    assert not files.is_full(ValueError("No space left on device"))
