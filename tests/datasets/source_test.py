import dataclasses
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcign_tf.datasets.manifest import Manifest
from dcign_tf.datasets.scenes import EXTRINSIC, FACTORS, MIXED, SceneSampler
from dcign_tf.datasets.source import (
    GroupSource,
    RecordSource,
    RenderedSource,
    explain_data_error,
    open_source,
)
from dcign_tf.errors import DcignError, UsageError
from tests.datasets import tiny

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAPER = {"azimuth": 1.0, "elevation": 1.0, "light_azimuth": 1.0, "intrinsic": 10.0}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("source")


@pytest.fixture(scope="module")
def records(home: pathlib.Path) -> RecordSource:
    return RecordSource(tiny.dataset(home))


@pytest.fixture(scope="module")
def rendered(home: pathlib.Path) -> RenderedSource:
    return RenderedSource(tiny.config(home), mixed_images=10, groups_per_factor=3)


@pytest.fixture(params=["records", "rendered"])
def source(request: pytest.FixtureRequest) -> GroupSource:
    return request.getfixturevalue(request.param)


def take(dataset: tf.data.Dataset, n: int) -> tuple[np.ndarray, np.ndarray]:
    images, active = zip(*dataset.take(n).as_numpy_iterator(), strict=True)
    return np.stack(images), np.stack(active)


def test_a_source_says_what_it_has(source: GroupSource) -> None:
    assert source.factors == FACTORS
    assert (source.image_size, source.group_size) == (12, 4)
    assert source.ranges == {
        "azimuth": (-90.0, 90.0),
        "elevation": (-25.0, 25.0),
        "light_azimuth": (-80.0, 80.0),
    }
    assert tiny.model().source in source.description and "12 x 12 pixels" in source.description


def test_descriptions_tell_data_apart_and_not_places(
    records: RecordSource, rendered: RenderedSource, home: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    shutil.copytree(records.directory, tmp_path / "moved")
    assert RecordSource(tmp_path / "moved").description == records.description
    assert RenderedSource(tiny.config(tmp_path)).description == rendered.description
    other = RenderedSource(tiny.config(home, seed=8))
    assert len({records.description, rendered.description, other.description}) == 3


def test_training_yields_groups_and_what_varies_in_them(source: GroupSource) -> None:
    dataset = source.training(PAPER, seed=1, groups_per_step=3)
    spec_of_images, spec_of_active = dataset.element_spec
    assert (spec_of_images.shape, spec_of_images.dtype) == ((3, 4, 12, 12, 1), tf.uint8)
    assert (spec_of_active.shape, spec_of_active.dtype) == ((3,), tf.int32)
    images, active = take(dataset, 40)
    assert images.shape == (40, 3, 4, 12, 12, 1) and images.dtype == np.uint8
    assert set(active.ravel()) == {0, 1, 2, 3}
    # No group without differences, nor without a picture.
    assert (np.ptp(images, axis=2).max(axis=(2, 3, 4)) > 0).all()


def test_the_pipeline_is_a_function_of_seed_and_step(source: GroupSource) -> None:
    images, active = take(source.training(PAPER, seed=5, groups_per_step=2), 12)
    for start, count in ((0, 12), (1, 5), (7, 5)):
        later = source.training(PAPER, seed=5, groups_per_step=2, start_step=start)
        again_images, again_active = take(later, count)
        np.testing.assert_array_equal(again_images, images[start : start + count])
        np.testing.assert_array_equal(again_active, active[start : start + count])
    # The groups are one sequence, whatever the number of them in a step.
    singly, _ = take(source.training(PAPER, seed=5, start_step=3), 3)
    np.testing.assert_array_equal(singly[:, 0], images.reshape(-1, 4, 12, 12, 1)[3:6])
    other, _ = take(source.training(PAPER, seed=6, groups_per_step=2), 12)
    assert (other != images).any()


def test_steps_far_away_are_reached_at_once(source: GroupSource) -> None:
    images, _ = take(source.training(PAPER, seed=2**40, start_step=10**12), 9)
    assert len({group.tobytes() for group in images}) > 3


def test_types_come_in_their_ratio(records: RecordSource) -> None:
    _, active = take(records.training(PAPER, seed=0, groups_per_step=13), 300)
    counts = np.bincount(active.ravel(), minlength=4)
    expected = 300 * np.array([1, 1, 1, 10])
    # Five standard deviations.
    assert (abs(counts - expected) < 5 * np.sqrt(expected)).all()
    _, active = take(records.training({"elevation": 3.0, "intrinsic": 0.0}, seed=0), 50)
    assert (active == 1).all()


def test_groups_of_records_are_the_samplers_and_all_are_used(
    records: RecordSource, home: pathlib.Path
) -> None:
    sampler = SceneSampler(tiny.config(home))
    known = {
        sampler.group("train", factor, index).images.tobytes(): (number, index)
        for number, factor in enumerate(FACTORS)
        for index in range(tiny.GROUPS["train"][factor])
    }
    images, active = take(records.training(dict.fromkeys(FACTORS, 1.0), seed=0), 300)
    seen = [known[group.tobytes()] for group in images[:, 0]]
    assert [number for number, _ in seen] == list(active[:, 0])
    assert set(seen) == set(known.values())


def test_on_the_fly_no_group_comes_twice(rendered: RenderedSource, home: pathlib.Path) -> None:
    images, _ = take(rendered.training(PAPER, seed=0), 100)
    other, _ = take(rendered.training(PAPER, seed=1), 100)
    held = SceneSampler(tiny.config(home)).group("train", "intrinsic", 0).images
    assert len({group.tobytes() for group in (*images[:, 0], *other[:, 0], held)}) == 201


def test_labeled_images_are_the_samplers(source: GroupSource, home: pathlib.Path) -> None:
    first, second = (SceneSampler(tiny.config(home)).group("validation", MIXED, i) for i in (0, 1))
    mixed = source.mixed("validation", 6)
    assert mixed.images.shape == (6, 12, 12, 1) and mixed.images.dtype == np.uint8
    np.testing.assert_array_equal(mixed.images, [*first.images, *second.images[:2]])
    assert tuple(mixed.values) == EXTRINSIC
    for column, name in enumerate(EXTRINSIC):
        expected = [*first.values[:, column], *second.values[:2, column]]
        np.testing.assert_array_equal(mixed.values[name], expected)
        assert mixed.values[name].dtype == np.float32
    np.testing.assert_array_equal(
        mixed.coefficients, [*first.coefficients, *second.coefficients[:2]]
    )
    assert len(source.mixed("validation").images) in (8, 10)
    assert len(source.mixed("validation", 10**6).images) in (8, 10)


@pytest.mark.parametrize("factor", FACTORS)
def test_labeled_groups_are_the_samplers(
    source: GroupSource, factor: str, home: pathlib.Path
) -> None:
    groups = source.groups("test", factor, 2)
    assert groups.images.shape == (2, 4, 12, 12, 1)
    for index in (0, 1):
        expected = SceneSampler(tiny.config(home)).group("test", factor, index)
        np.testing.assert_array_equal(groups.images[index], expected.images)
        for column, name in enumerate(EXTRINSIC):
            np.testing.assert_array_equal(groups.values[name][index], expected.values[:, column])
    assert len(source.groups("test", factor).images) in (2, 3)


@pytest.mark.parametrize(
    ("ratio", "message"),
    [
        ({"azimuth": 1, "pose": 1}, "--ratio: got 'pose', must be of azimuth, elevation"),
        ({"azimuth": -1, "intrinsic": 2}, "--ratio: got -1,0,0,2; must be numbers of 0 or more"),
        ({"azimuth": float("nan")}, "--ratio: got nan,0,0,0"),
        ({}, "--ratio: got 0,0,0,0; must be numbers of 0 or more, not all 0"),
    ],
)
def test_impossible_ratios_are_refused(
    source: GroupSource, ratio: dict[str, float], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        source.training(ratio, seed=0)


def test_impossible_requests_are_refused(source: GroupSource) -> None:
    with pytest.raises(UsageError, match="--groups_per_step: got 0"):
        source.training(PAPER, seed=0, groups_per_step=0)
    with pytest.raises(ValueError, match="start_step: got -1"):
        source.training(PAPER, seed=0, start_step=-1)
    with pytest.raises(ValueError, match="split: got 'dev'"):
        source.mixed("dev")
    with pytest.raises(ValueError, match="factor: got 'pose'"):
        source.groups("test", "pose")
    with pytest.raises(DcignError, match="test groups in which everything varies"):
        source.mixed("test", 0)


def test_groups_that_are_not_there_are_told(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    from dcign_tf.datasets.rendering import render_dataset

    render_dataset(tiny.config(home), tmp_path, {"train": {"azimuth": 1}}, processes=1)
    source = RecordSource(tmp_path)
    take(source.training({"azimuth": 1}, seed=0), 1)
    with pytest.raises(UsageError, match=f"in which elevation varies, but {tmp_path} has none"):
        source.training(PAPER, seed=0)
    with pytest.raises(DcignError, match=f"{tmp_path}: holds no validation groups"):
        source.mixed("validation")


def test_open_source_chooses(records: RecordSource, home: pathlib.Path) -> None:
    assert isinstance(open_source(str(records.directory)), RecordSource)
    assert isinstance(open_source(tiny.config(home)), RenderedSource)
    with pytest.raises(DcignError, match="no such folder"):
        open_source(home / "nowhere")


# --- Damage ----------------------------------------------------------------------------------------------


@pytest.fixture
def copy(records: RecordSource, tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(records.directory, tmp_path / "copy"))


def flip(path: pathlib.Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_corruption_that_training_meets_is_explained(copy: pathlib.Path) -> None:
    source = RecordSource(copy)
    path = copy / "train/intrinsic-00001-of-00003.tfrecord"
    length = source.manifest.layout.record_length
    flip(path, length + 700)
    with pytest.raises(tf.errors.DataLossError) as error:
        take(source.training({"intrinsic": 1}, seed=0), 50)
    explained = explain_data_error(source, error.value)
    assert explained is not None and f"{path}: corrupt" in str(explained)
    assert "record 2 of 2 is damaged; delete it" in str(explained)
    assert "run the dcign-data command" in str(explained)
    with pytest.raises(DcignError, match=f"{path}: corrupt"):
        source.groups("train", "intrinsic")
    # Cut off while in use.
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(tf.errors.OpError) as cut:
        take(source.training({"intrinsic": 1}, seed=0), 50)
    assert f"{path}: truncated" in str(explain_data_error(source, cut.value))


def test_sound_data_explain_nothing(records: RecordSource, rendered: RenderedSource) -> None:
    error = ValueError("something else")
    assert explain_data_error(records, error) is None
    assert explain_data_error(rendered, error) is None


def test_foreign_files_of_the_right_size_are_refused(copy: pathlib.Path) -> None:
    path = copy / "train/azimuth-00000-of-00003.tfrecord"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(DcignError, match=f"{path}: not a file of records"):
        RecordSource(copy)
    layout = Manifest.load(copy).layout
    # Sound records of another shape that happen to have the same length.
    from dcign_tf.datasets import records as framing

    other = dataclasses.replace(layout, group_size=2, image_size=6, coefficients=5)
    group = (
        np.zeros((2, 6, 6), np.uint8),
        np.zeros((2, 3), np.float32),
        np.zeros((2, 5), np.float32),
    )
    record = framing.frame(other.encode(*group, active=0, index=0))
    path.write_bytes(record + bytes(path.stat().st_size - len(record)))
    with pytest.raises(DcignError, match=f"{path}: not a file of records"):
        RecordSource(copy)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_told_or_harmless(
    data: st.DataObject, records: RecordSource, copy: pathlib.Path
) -> None:
    name = data.draw(st.sampled_from(["train/azimuth-00000-of-00003.tfrecord", "manifest.json"]))
    path = copy / name
    whole = path.read_bytes()
    damaged = bytearray(whole)
    match data.draw(st.sampled_from(["flip", "cut", "replace"])):
        case "flip":
            damaged[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
        case "cut":
            damaged = damaged[: data.draw(st.integers(0, len(whole) - 1))]
        case _:
            start = data.draw(st.integers(0, len(whole) - 1))
            filling = data.draw(st.binary(min_size=1, max_size=64))
            damaged[start : start + len(filling)] = filling
    path.write_bytes(damaged)
    try:
        groups = RecordSource(copy).groups("train", "azimuth")
    except DcignError as error:
        assert str(copy) in str(error)
    else:
        # A checksum in the manifest may be wrong, or a text in it: never the images.
        np.testing.assert_array_equal(groups.images, records.groups("train", "azimuth").images)
    finally:
        path.write_bytes(whole)


# --- What TensorFlow is told -----------------------------------------------------------------------------

_DEVICES = """
import sys
import numpy as np, tensorflow as tf
from dcign_tf.datasets.source import RecordSource, RenderedSource
from dcign_tf.datasets.scenes import SceneConfig
devices = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(devices[0], [tf.config.LogicalDeviceConfiguration()] * 2)
ratio = {"azimuth": 1, "intrinsic": 3}
config = SceneConfig.from_dict(dict(source="morphable_model", source_path=sys.argv[2], image_size=12, group_size=4))
sources = [RecordSource(sys.argv[1]), RenderedSource(config)]
def steps():
    return [list(s.training(ratio, 3, groups_per_step=2).take(6).as_numpy_iterator()) for s in sources]
plain = steps()
tf.config.experimental.enable_op_determinism()
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for source, expected, again in zip(sources, plain, steps()):
    distributed = strategy.experimental_distribute_dataset(source.training(ratio, 3, groups_per_step=2))
    for (images, active), other, step in zip(expected, again, distributed):
        np.testing.assert_array_equal(images, other[0])
        parts = [strategy.experimental_local_results(part) for part in step]
        assert [part.shape[0] for part in parts[0]] == [1, 1]
        np.testing.assert_array_equal(np.concatenate([p.numpy() for p in parts[0]]), images)
        np.testing.assert_array_equal(np.concatenate([p.numpy() for p in parts[1]]), active)
"""


def test_two_devices_and_determinism_change_nothing(
    records: RecordSource, home: pathlib.Path
) -> None:
    model = tiny.config(home).source_path
    command: list[Any] = [sys.executable, "-c", _DEVICES, records.directory, model]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
