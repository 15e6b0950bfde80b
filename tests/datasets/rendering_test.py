import contextlib
import dataclasses
import hashlib
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from dcign_tf import files
from dcign_tf.datasets import manifest as manifests
from dcign_tf.datasets import records, rendering
from dcign_tf.datasets.manifest import Manifest
from dcign_tf.datasets.scenes import SceneConfig, SceneSampler
from dcign_tf.errors import DcignError, UsageError
from tests.datasets import tiny

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("rendering")


@pytest.fixture(scope="module")
def dataset(home: pathlib.Path) -> pathlib.Path:
    return tiny.dataset(home)


def render(config: SceneConfig, directory: pathlib.Path, processes: int = 1) -> Manifest:
    return rendering.render_dataset(
        config, directory, tiny.GROUPS, processes, groups_per_shard=tiny.GROUPS_PER_SHARD
    )


def test_a_data_set_is_what_its_manifest_says(home: pathlib.Path, dataset: pathlib.Path) -> None:
    manifest = Manifest.load(dataset)
    config = tiny.config(home)
    assert manifest.groups == tiny.GROUPS
    assert manifest.source == tiny.model().source
    assert {**config.to_dict(), **manifest.settings} == manifest.settings
    contents = tiny.contents(dataset)
    assert set(contents) == {manifests.NAME, *manifest.files}
    for name, file in manifest.files.items():
        assert file.size == len(contents[name])
        assert file.sha256 == hashlib.sha256(contents[name]).hexdigest()
    # The last file of five groups in files of two, record by record.
    sampler = SceneSampler(config)
    name = "train/light_azimuth-00002-of-00003.tfrecord"
    expected = manifest.layout.encode(
        *sampler.group("train", "light_azimuth", 4), active=2, index=4
    )
    assert contents[name] == records.frame(expected)
    assert len(contents[name]) == manifest.layout.record_length


def test_the_number_of_processes_changes_no_byte(
    home: pathlib.Path, dataset: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    render(tiny.config(home), tmp_path / "two", processes=2)
    assert tiny.contents(tmp_path / "two") == tiny.contents(dataset)


def test_a_finished_data_set_is_left_alone(
    home: pathlib.Path, dataset: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*")}
    assert render(tiny.config(home), dataset) == Manifest.load(dataset)
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*")} == before
    # The model's file may lie somewhere else by now: what counts is what is in it.
    moved = tiny.config(tmp_path)
    assert moved.source_path != tiny.config(home).source_path
    render(moved, dataset)


COMMAND = [
    sys.executable,
    "-m",
    "dcign_tf.cli.data",
    "--source=morphable_model",
    "--group_size=4",
    "--train_groups=150",
    "--validation_groups=0",
    "--test_groups=1",
    "--mixed_images=3",
    "--groups_per_file=6",
]
# Large enough that a signal finds the command at work.
BIG_GROUPS = rendering.standard_groups(150, 0, 1, mixed_images=3, group_size=4)


def big_config(home: pathlib.Path) -> SceneConfig:
    return tiny.config(home, image_size=100, supersample=3, seed=0)


@contextlib.contextmanager
def at_work(home: pathlib.Path, output: pathlib.Path) -> Iterator[subprocess.Popen]:
    """The command, rendering with two processes, with some files done already."""
    config = big_config(home)
    command = [
        *COMMAND,
        f"--source_path={config.source_path}",
        "--image_size=100",
        "--supersample=3",
        f"--output={output}",
        "--processes=2",
    ]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        until(lambda: len(list(output.glob("train/*.tfrecord"))) >= 3)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def until(condition: object, seconds: float = 300.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def group_is_gone(process: subprocess.Popen) -> bool:
    """Whether all processes of a session have ended, those that only wait to be reaped included."""
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == process.pid and fields[0] != "Z":
                return False
    return True


@pytest.fixture(scope="module")
def big_dataset(home: pathlib.Path) -> pathlib.Path:
    directory = home / "big"
    rendering.render_dataset(big_config(home), directory, BIG_GROUPS, 1, groups_per_shard=6)
    return directory


@pytest.mark.skipif(
    not pathlib.Path("/proc/self/stat").exists(), reason="no /proc: .ci/run runs it, on Linux"
)
def test_a_killed_rendering_goes_on_to_the_same_bytes(
    home: pathlib.Path, big_dataset: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    output = tmp_path / "data"
    with at_work(home, output) as process:
        process.kill()
        # Without their parent, the others end by themselves.
        until(lambda: group_is_gone(process))
    kept = {path: path.stat().st_mtime_ns for path in output.glob("*/*.tfrecord")}
    assert kept and not (output / manifests.NAME).exists()
    rendering.render_dataset(big_config(home), output, BIG_GROUPS, 1, groups_per_shard=6)
    assert tiny.contents(output) == tiny.contents(big_dataset)
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())


def test_an_interrupt_leaves_only_whole_files(
    home: pathlib.Path, big_dataset: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    output = tmp_path / "data"
    with at_work(home, output) as process:
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=300)
    assert process.returncode == 1
    assert stderr.splitlines()[-1] == "dcign-data: error: interrupted"
    assert "Traceback" not in stderr
    whole = tiny.contents(big_dataset)
    left = tiny.contents(output)
    assert left.pop(manifests.UNFINISHED)
    assert left and all(whole[name] == content for name, content in left.items())


# Files may not grow beyond some kilobytes, as on a disk that is full; until the command has ended, for what else
# writes files then.
_LIMITED = """
import resource, runpy, sys
before = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, before[1]))
sys.argv[0] = "dcign-data"
try:
    runpy.run_module("dcign_tf.cli.data", run_name="__main__")
finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
"""


def test_a_file_that_cannot_be_written_is_named(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    config, output = tiny.config(home), tmp_path / "data"
    command = [sys.executable, "-c", _LIMITED, *COMMAND[3:], f"--source_path={config.source_path}"]
    command += ["--image_size=30", f"--output={output}", "--processes=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    message = f"{output}/train/azimuth-00000-of-00025.tfrecord: File too large"
    assert done.stderr.splitlines()[-1] == f"dcign-data: error: {message}"
    assert set(tiny.contents(output)) == {manifests.UNFINISHED}


def test_damaged_files_are_rendered_again(
    home: pathlib.Path, dataset: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    expected = tiny.contents(dataset)
    output = tmp_path / "data"
    render(tiny.config(home), output)
    names = sorted(name for name in expected if name.startswith("train/azimuth"))
    (output / names[0]).write_bytes(expected[names[1]])  # another's content
    (output / names[1]).write_bytes(expected[names[1]][:-3])
    flipped = bytearray(expected["test/mixed-00000-of-00001.tfrecord"])
    flipped[500] ^= 1
    (output / "test/mixed-00000-of-00001.tfrecord").write_bytes(flipped)
    (output / "train" / ".left.tmp").write_bytes(b"half")
    render(tiny.config(home), output)
    assert tiny.contents(output) == expected


def test_verification_names_the_corrupt_file(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    output = tmp_path / "data"
    render(tiny.config(home), output)
    rendering.verify_dataset(output)
    path = output / "train/mixed-00001-of-00002.tfrecord"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DcignError, match=f"{path}: corrupt"):
        rendering.verify_dataset(output)
    with pytest.raises(DcignError, match="no such folder"):
        rendering.verify_dataset(tmp_path / "nowhere")


def test_a_folder_with_something_else_is_refused(
    home: pathlib.Path, dataset: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    before = tiny.contents(dataset)
    other = dataclasses.replace(tiny.config(home), seed=8, light_range=(-10.0, 10.0))
    with pytest.raises(UsageError) as error:
        render(other, dataset)
    assert "light_range (there -80.0,80.0, asked -10.0,10.0); seed (there 7, asked 8). Give" in str(
        error.value
    )
    more = {**tiny.GROUPS, "test": {**tiny.GROUPS["test"], "azimuth": 9}}
    with pytest.raises(UsageError, match=r"differ: test_groups \(there 2, asked 9,2,2,2\). Give"):
        rendering.render_dataset(tiny.config(home), dataset, more, 1, tiny.GROUPS_PER_SHARD)
    assert tiny.contents(dataset) == before

    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(UsageError, match=r"holds other files \(thesis.tex"):
        render(tiny.config(home), tmp_path)
    (tmp_path / manifests.NAME).write_text("{}")
    with pytest.raises(
        UsageError, match=r"manifest.json is not the manifest of a data set: format"
    ):
        render(tiny.config(home), tmp_path)
    assert set(tiny.contents(tmp_path)) == {"thesis.tex", manifests.NAME}


def test_two_cannot_render_into_one_folder(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with (
        files.locked(tmp_path, AssertionError),
        pytest.raises(DcignError, match=f"{tmp_path}: another dcign-data"),
    ):
        render(tiny.config(home), tmp_path)
    render(tiny.config(home), tmp_path)


def test_a_disk_that_is_too_small_is_told_before(
    home: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    groups = rendering.standard_groups(train=10**8)
    config = tiny.config(home, image_size=400, group_size=1000)  # 64 petabytes
    with pytest.raises(DcignError, match=r"not enough space on the disk: .* GB are needed"):
        rendering.render_dataset(config, tmp_path, groups, groups_per_shard=10**8)
    assert tiny.contents(tmp_path) == {}


def test_a_path_that_is_no_folder_is_named(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="file"):
        render(tiny.config(home), tmp_path / "file" / "data")


def test_impossible_requests_are_refused(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    config = tiny.config(home)
    with pytest.raises(UsageError, match="--processes: got 0"):
        render(config, tmp_path, processes=0)
    with pytest.raises(UsageError, match=r"groups\.train\.azimuth: got -1"):
        rendering.render_dataset(config, tmp_path, {"train": {"azimuth": -1}})
    with pytest.raises(UsageError, match="got 0 groups in all"):
        rendering.render_dataset(config, tmp_path, {"train": {"azimuth": 0}})


def test_a_killed_worker_is_told(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    sampler = SceneSampler(big_config(home))
    draft = rendering.plan(sampler, BIG_GROUPS, 50)
    (tmp_path / "train").mkdir()
    work = rendering.Work(sampler, draft.layout, tmp_path)
    workers = rendering._Workers(work, 2)

    def kill_one(images: int) -> None:
        workers._processes[0].kill()

    with pytest.raises(DcignError, match="ended by signal 9, perhaps for lack of memory"), workers:
        list(workers.run("make", list(draft.shards("train")), kill_one))
    assert not any(process.is_alive() for process in workers._processes)
    # Those that go with it leave temporary files, which the rendering as a whole removes.
    rendering._remove_temporaries(tmp_path)
    assert all(name.endswith(".tfrecord") for name in tiny.contents(tmp_path))


def test_a_workers_error_is_the_callers(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    sampler = SceneSampler(tiny.config(home))
    draft = rendering.plan(sampler, tiny.GROUPS, 2)
    work = rendering.Work(sampler, draft.layout, tmp_path / "gone")
    with (
        pytest.raises(FileNotFoundError, match="gone/train"),
        rendering._Workers(work, 2) as workers,
    ):
        list(workers.run("make", list(draft.shards("train"))))


def test_rendering_needs_no_tensorflow() -> None:
    code = (
        "import sys, dcign_tf.datasets.rendering, dcign_tf.cli.data\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_progress_is_quiet_where_nobody_watches(
    home: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    render(tiny.config(home), tmp_path)
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    images = 4 * sum(sum(counts.values()) for counts in tiny.GROUPS.values())
    assert f"rendering: {images}/{images}" in err and "image/s" in err


def test_mixed_images_are_rounded_up_to_groups() -> None:
    groups = rendering.standard_groups(3, 2, 1, mixed_images=41, group_size=20)
    assert groups["validation"] == {
        "azimuth": 2, "elevation": 2, "light_azimuth": 2, "intrinsic": 2, "mixed": 3
    }  # fmt: skip
    assert [counts["azimuth"] for counts in groups.values()] == [3, 2, 1]
