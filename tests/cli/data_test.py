import dataclasses
import pathlib

import numpy as np
import pytest
from absl import flags

from dcign_tf.cli import common, data, scene_flags
from dcign_tf.datasets.chair_scenes import ChairConfig, ChairSampler
from dcign_tf.datasets.manifest import Manifest
from dcign_tf.datasets.rendering import standard_groups
from dcign_tf.datasets.samplers import config_from_dict
from dcign_tf.datasets.scenes import FACTORS, SceneConfig
from dcign_tf.datasets.source import RecordSource, RenderedSource
from dcign_tf.errors import UsageError
from dcign_tf.scenes import SOURCES, load_source
from tests.datasets import tiny

SMALL = [
    "--group_size=4",
    "--image_size=12",
    "--train_groups=3",
    "--validation_groups=1",
    "--test_groups=1",
    "--mixed_images=4",
    "--processes=1",
]


@pytest.fixture
def small(tmp_path: pathlib.Path) -> list[str]:
    return [
        *SMALL,
        "--source=morphable_model",
        f"--source_path={tiny.config(tmp_path).source_path}",
    ]


def run(*arguments: str) -> int:
    return common.execute(data.main, data.FLAGS, ["dcign-data", *arguments])


def parsed(arguments: list[str]) -> flags.FlagValues:
    values = common.command_flags()
    scene_flags.define(values)
    scene_flags.define_tables(values)
    values(["command", *arguments])
    return values


def test_the_command_makes_a_data_set_and_checks_it(
    small: list[str], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "data"
    arguments = [*small, f"--output={output}", "--azimuth_range=-30,45.5", "--zoom=1.5", "--seed=9"]
    assert run(*arguments) == 0
    said = capsys.readouterr().out
    assert said.startswith(
        f"{output}: 23 mini-batches of 4 images, 12 x 12 pixels, in 15 files of "
    )
    manifest = Manifest.load(output)
    assert manifest.ranges["azimuth"] == (-30.0, 45.5)
    assert (manifest.settings["zoom"], manifest.settings["seed"]) == (1.5, 9)
    assert manifest.groups == standard_groups(3, 1, 1, 4, group_size=4)

    assert run(*arguments) == 0  # It is there already.
    assert run(f"--verify={output}") == 0
    assert "all 15 files are as they were written" in capsys.readouterr().out
    path = output / "test" / "mixed-00000-of-00001.tfrecord"
    path.write_bytes(bytes(path.stat().st_size))
    assert run(f"--verify={output}") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"dcign-data: error: {path}: corrupt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--output: missing"),
        (["--output=x", "--verify=y"], "--verify: got --output, too"),
        (["--output=x", "--azimuth_range=3"], "--azimuth_range: got 3; it takes two angles"),
        (["--output=x", "--azimuth_range=a,b"], "--azimuth_range: got a,b; it takes two angles"),
        (["--output=x", "--light_range=9,3"], "--light_range: got 9,3; must be two angles"),
        (["--output=x", "--image_size=0"], "--image_size: got 0, must be 1 to 4096"),
        (["--output=x", "--zoom=0"], "--zoom: got 0"),
        (
            ["--output=x", "--source=builtin"],
            "--source: got 'builtin', must be one of builtin_face",
        ),
        (["--output=x", "--source=ict_facekit"], "--source_path: missing; --source=ict_facekit"),
        (["--output=x", "--source_path=y"], "--source_path: got 'y', but --source=builtin_face"),
        (["--output=x", "--train_groups=-1"], "--train_groups: got -1"),
        (["--output=x", "--processes=0"], "--processes: got 0"),
        (["--output=x", "--serve=worker"], "--output: got --serve, too; one of them at a time"),
        (["--serve=worker"], "--dispatcher: missing; name the dispatcher, as in grpc://host:5050"),
        (["--serve=worker", "--dispatcher=a"], "--dispatcher: got 'a', must be like grpc://"),
        (["--serve=dispatcher", "--port=70000"], "--port"),
        (["--serve=all"], "--serve"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"dcign-data: error: {message}") and len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_missing_model_is_named(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none.npz"
    assert run("--output=x", "--source=morphable_model", f"--source_path={path}") == 1
    assert capsys.readouterr().err.startswith(f"dcign-data: error: {path}: no such file")


def test_built_in_chairs_become_a_data_set(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "chairs"
    arguments = [*SMALL, "--source=builtin_chairs", "--split=9,2,3", "--seed=2"]
    assert run(*arguments, f"--output={output}") == 0
    assert capsys.readouterr().out.startswith(f"{output}: 13 mini-batches of 4 images")
    manifest = Manifest.load(output)
    assert manifest.factors == ("azimuth", "intrinsic")
    assert manifest.ranges == {"azimuth": (0.0, 348.0)}
    assert manifest.units == {"azimuth": "degrees"} and manifest.periods == {"azimuth": 360.0}

    config = ChairConfig(image_size=12, group_size=4, split=(9, 2, 3), seed=2)
    expected = ChairSampler(config).group("train", "azimuth", 2)
    groups = RecordSource(output).groups("train", "azimuth")
    np.testing.assert_array_equal(groups.images[2], expected.images)
    np.testing.assert_array_equal(groups.values["azimuth"][2], expected.values[:, 0])

    # On the fly, the same chairs; as are found again by a run that notes the configuration.
    values = parsed(arguments)
    rendered = scene_flags.source_from_flags(values, tmp_path / "none", on_the_fly=True)
    assert isinstance(rendered, RenderedSource) and rendered.config == config
    assert config_from_dict(rendered.config.to_dict()) == config
    mixed, held = rendered.mixed("test", 4), RecordSource(output).mixed("test", 4)
    np.testing.assert_array_equal(mixed.images, held.images)
    dataset = rendered.training({"azimuth": 1, "intrinsic": 1}, seed=3, groups_per_step=2)
    images, active = next(dataset.as_numpy_iterator())
    assert images.shape == (2, 4, 12, 12, 1) and set(active.tolist()) <= {0, 1}
    again = scene_flags.source_from_flags(values, output)
    assert again.description == RecordSource(output).description
    with pytest.raises(UsageError, match="--split: got"):
        scene_flags.source_from_flags(parsed(["--split=8,2,3"]), output)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--split=9,2.5,3", "--split: got 9,2.5,3; must be three whole numbers"),
        ("--split=9,1,3", "--split: got 9,1,3; must be three whole numbers"),
        ("--group_size=31", "--group_size: got 31, must be 2 to 30"),
        ("--zoom=2", "--zoom: makes no sense with --source=builtin_chairs; it is for builtin_face"),
        ("--crop=center", "--crop: makes no sense with --source=builtin_chairs; it is for authors"),
    ],
)
def test_flags_that_built_in_chairs_cannot_have(flag: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        scene_flags.maker_from_flags(parsed(["--source=builtin_chairs", flag]))
    assert str(error.value).startswith(message)


def test_the_flags_defaults_are_the_librarys() -> None:
    chairs = scene_flags.maker_from_flags(parsed(["--source=builtin_chairs"]))
    assert isinstance(chairs, ChairSampler) and chairs.config == ChairConfig()
    values = parsed([])
    assert scene_flags.scene_config_from_flags(values) == SceneConfig()
    assert scene_flags.groups_from_flags(values, FACTORS) == standard_groups()
    # Each setting has its flag, and each source its mention.
    assert {field.name for field in dataclasses.fields(SceneConfig)} < set(values)
    assert all(name in str(values["source"].help) for name in (*SOURCES, "builtin_chairs"))


def test_flags_survive_a_flag_file(tmp_path: pathlib.Path) -> None:
    values = parsed(["--elevation_range=-5,7.25", "--seed=4", "--train_groups=17"])
    (tmp_path / "flags").write_text(values.flags_into_string())
    again = parsed([f"--flagfile={tmp_path / 'flags'}"])
    config = scene_flags.scene_config_from_flags(again)
    assert config.elevation_range == (-5.0, 7.25) and config.seed == 4
    assert scene_flags.groups_from_flags(again, FACTORS)["train"]["azimuth"] == 17


def test_a_source_is_rendered_where_it_is_missing(
    small: list[str], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    values = parsed(small)
    assert isinstance(
        scene_flags.source_from_flags(values, folder, on_the_fly=True), RenderedSource
    )
    assert not folder.exists()
    capsys.readouterr()
    source = scene_flags.source_from_flags(values, folder)
    assert isinstance(source, RecordSource) and source.image_size == 12
    told = f"{folder}: no complete data set; making one of --source=morphable_model"
    assert told in capsys.readouterr().err
    # What is there is taken as it is, unless a flag asks for something else. The seed may be the training's.
    again = scene_flags.source_from_flags(parsed(["--seed=5", "--image_size=12"]), folder)
    assert again.description == source.description
    with pytest.raises(UsageError, match=f"--zoom: got 2.0, but the data set in {folder} has 1.0"):
        scene_flags.source_from_flags(parsed(["--zoom=2"]), folder)
    with pytest.raises(UsageError, match=r"--light_range: got \[-3.0, 3.0\], but"):
        scene_flags.source_from_flags(parsed(["--light_range=-3,3"]), folder)


def test_near_misses_of_a_source_are_suggested() -> None:
    with pytest.raises(UsageError, match="did you mean ict_facekit"):
        load_source("ict_face_kit", "x")
