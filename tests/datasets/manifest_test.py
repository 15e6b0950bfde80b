import dataclasses
import itertools
import json
import pathlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcign_tf.datasets import manifest as manifests
from dcign_tf.datasets.manifest import File, Manifest
from dcign_tf.errors import DcignError
from tests.datasets import tiny

EXAMPLE = Manifest(
    settings={"seed": 1, "source": "none"},
    source="from nowhere",
    image_size=12,
    group_size=4,
    factors=("azimuth", "intrinsic"),
    ranges={"azimuth": (-90.0, 90.0)},
    units={"azimuth": "degrees"},
    periods={},
    coefficients=5,
    groups={"train": {"azimuth": 5, "intrinsic": 0, "mixed": 2}, "test": {"azimuth": 1}},
    groups_per_shard=2,
    files={"train/azimuth-00000-of-00003.tfrecord": File(3, "0" * 64)},
)


def test_manifests_survive_json() -> None:
    assert Manifest.from_json(EXAMPLE.to_json()) == EXAMPLE


def test_files_are_named_by_what_is_in_them() -> None:
    assert [(shard.name, shard.first, shard.groups) for shard in EXAMPLE.shards()] == [
        ("train/azimuth-00000-of-00003.tfrecord", 0, 2),
        ("train/azimuth-00001-of-00003.tfrecord", 2, 2),
        ("train/azimuth-00002-of-00003.tfrecord", 4, 1),
        ("train/mixed-00000-of-00001.tfrecord", 0, 2),
        ("test/azimuth-00000-of-00001.tfrecord", 0, 1),
    ]
    assert len(list(EXAMPLE.shards("train"))) == 4
    assert [shard.name for shard in EXAMPLE.shards("train", "mixed")] == [
        "train/mixed-00000-of-00001.tfrecord"
    ]


def test_the_digest_is_of_the_contents_alone() -> None:
    name = "train/azimuth-00000-of-00003.tfrecord"
    moved = dataclasses.replace(EXAMPLE, settings={"source_path": "elsewhere"})
    changed = dataclasses.replace(EXAMPLE, files={name: File(3, "1" * 64)})
    assert moved.digest == EXAMPLE.digest != changed.digest


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 2, "format: got 2, must be 1; another version"),
        ("format", True, "format: got True"),
        ("image_size", "12", "image_size: got '12', must be a whole number, 1 to 4096"),
        ("image_size", 13, "record_length: got"),
        ("group_size", 1, "group_size: got 1"),
        ("factors", ["azimuth"], "factors: got"),
        ("factors", ["azimuth", "../x"], "factors: got"),
        ("factors", ["azimuth", "mixed"], "factors: got"),
        ("factors", ["azimuth", "azimuth"], "factors: got"),
        ("factors", "azimuth", "factors: got 'azimuth', must be a list"),
        ("ranges", {}, "ranges: got"),
        ("ranges", {"azimuth": [1, -1]}, "ranges.azimuth: got"),
        ("ranges", {"azimuth": [1, True]}, "ranges.azimuth: got"),
        ("coefficients", 10**9, "coefficients: got"),
        ("groups", {"dev": {}}, "groups: got 'dev'"),
        ("groups", {"train": 3}, "groups.train: got 3, must be an object"),
        ("groups", {"train": {"pose": 3}}, "groups.train: got 'pose'"),
        ("groups", {"train": {"azimuth": -3}}, "groups.train.azimuth: got -3"),
        ("groups_per_shard", 0, "groups_per_shard: got 0"),
        ("files", {"a": 3}, "files.'a': got 3"),
        ("files", {"a": {"size": 3, "sha256": "x"}}, "sha256: got 'x'"),
        ("record_length", 1, "record_length: got 1, must be"),
        ("settings", None, "settings: got None"),
        ("source", 3, "source: got 3, must be a text"),
    ],
)
def test_what_is_wrong_is_told(key: str, value: object, message: str) -> None:
    values = json.loads(EXAMPLE.to_json())
    values[key] = value
    with pytest.raises(ValueError, match=message):
        Manifest.from_json(json.dumps(values))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=300)
@given(st.data())
def test_any_json_is_a_manifest_or_refused(data: st.DataObject) -> None:
    values: Any = json.loads(EXAMPLE.to_json())
    # Anywhere in the document something else.
    place = values
    key = data.draw(st.sampled_from(sorted(place)))
    while isinstance(place[key], dict) and place[key] and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place)))
    if data.draw(st.booleans()):
        place[key] = data.draw(JSON)
    else:
        del place[key]
    try:
        manifest = Manifest.from_json(json.dumps(values))
    except ValueError:
        return
    assert Manifest.from_json(manifest.to_json()) == manifest
    for shard in itertools.islice(manifest.shards(), 100):
        assert ".." not in shard.name and not shard.name.startswith("/")


@given(st.text() | st.just("[" * 100_000))
def test_any_text_is_a_manifest_or_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Manifest.from_json(text)


def test_loading_names_the_file_that_is_wrong(tmp_path: pathlib.Path) -> None:
    def problem(directory: pathlib.Path) -> str:
        with pytest.raises(DcignError) as error:
            Manifest.load(directory)
        return str(error.value)

    assert "no such folder; dcign-data --output=" in problem(tmp_path / "nowhere")
    assert f"{tmp_path}: not a data set: it has no manifest.json" in problem(tmp_path)
    (tmp_path / "file").write_text("x")
    assert "not a folder" in problem(tmp_path / "file")

    directory = tiny.dataset(tmp_path)
    sound = Manifest.load(directory)
    shard = directory / "train" / "azimuth-00001-of-00003.tfrecord"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    assert f"{shard}: truncated: it has {len(whole) - 1} bytes" in problem(directory)
    shard.write_bytes(whole + b"x")
    assert f"{shard}: not the file that was written" in problem(directory)
    shard.unlink()
    assert f"{shard}: missing" in problem(directory)
    shard.write_bytes(whole)

    path = directory / manifests.NAME
    files = {name: file for name, file in sound.files.items() if name != "train/" + shard.name}
    path.write_text(dataclasses.replace(sound, files=files).to_json())
    assert f"does not list train/{shard.name}" in problem(directory)
    files["train/" + shard.name] = File(3, "0" * 64)
    path.write_text(dataclasses.replace(sound, files=files).to_json())
    assert "3 bytes, its groups need" in problem(directory)
    path.write_bytes(b"\xff\xfe")
    assert f"{path}: not the manifest of a data set" in problem(directory)
    path.unlink()
    (directory / manifests.UNFINISHED).write_text("")
    assert "the data set is unfinished" in problem(directory)
