"""The n-th held-out image is the same one, whether it lies on disk or is drawn anew."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

from dcign_tf.datasets.rendering import render_dataset, standard_groups
from dcign_tf.datasets.scenes import SceneConfig
from dcign_tf.errors import DcignError, UsageError
from dcign_tf.scenes.morphable import MorphableModel
from dcign_tf.serving import engine as engines
from dcign_tf.serving import export, samples
from tests.serving import tiny


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> SceneConfig:
    """A tetrahedron with one mode of shape and one of albedo."""
    corners = np.array([[1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]], np.float32)
    model = MorphableModel(
        mean_shape=corners,
        shape_modes=0.1 * corners[np.newaxis],
        mean_albedo=np.full(4, 0.7, np.float32),
        albedo_modes=np.full([1, 4], 0.1, np.float32),
        triangles=np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32),
        shape_mode_names=("size",),
        albedo_mode_names=("shade",),
        one_sided=np.zeros(2, bool),
        center=np.zeros(3, np.float32),
        radius=1.8,
        name="tetrahedron",
        source="a test",
    )
    path = tmp_path_factory.mktemp("scene") / "tetrahedron.npz"
    model.save(str(path))
    return SceneConfig(
        source="morphable_model", source_path=str(path), image_size=38, group_size=4, seed=3
    )


def _workdir(folder: pathlib.Path, config: object) -> pathlib.Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_from_disk_and_drawn_anew(tmp_path: pathlib.Path, scene: SceneConfig) -> None:
    groups = standard_groups(train=1, validation=1, test=1, mixed_images=8, group_size=4)
    render_dataset(scene, tmp_path / "data", groups, processes=1)
    stored = _workdir(tmp_path / "a", {"data_path": str(tmp_path / "data")})
    drawn = _workdir(tmp_path / "b", {"data_path": None, "scene": scene.to_dict()})
    images = samples.held_out(stored, [5, 0], 38)
    assert images.shape == (2, 38, 38, 1)
    assert images.dtype == np.float32
    assert 0.3 < images.max() <= 1
    assert not np.array_equal(images[0], images[1])
    np.testing.assert_array_equal(samples.held_out(drawn, [5, 0], 38), images)
    with pytest.raises(UsageError, match="--sample: got 8, but there are only 8 test images"):
        samples.held_out(stored, [8], 38)
    with pytest.raises(DcignError, match="images are 38 pixels wide, the model's 54"):
        samples.held_out(stored, [0], 54)


def test_what_is_no_workdir(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="--sample: needs a workdir of dcign-train"):
        samples.held_out(tmp_path / "model.keras", [0], 38)
    for number, config in enumerate(({}, [], {"data_path": None}, {"data_path": None, "scene": 7})):
        folder = _workdir(tmp_path / str(number), config)
        with pytest.raises(DcignError, match="does not say where the data are"):
            samples.held_out(folder, [0], 38)
    gone = _workdir(tmp_path / "gone", {"data_path": str(tmp_path / "nowhere")})
    with pytest.raises(DcignError, match="nowhere"):
        samples.held_out(gone, [0], 38)


def test_pictures_that_fit_a_model(tmp_path: pathlib.Path, scene: SceneConfig) -> None:
    engine = engines.engine_of(tiny.model())
    brought = export.export(tiny.model(), "a", output=tmp_path, samples=tiny.images(3))
    found = samples.pictures_for(brought.parent, engine)
    np.testing.assert_allclose(found, tiny.images(3)[..., 0], atol=0.5 / 255)
    drawn = _workdir(tmp_path / "b", {"data_path": None, "scene": scene.to_dict()})
    np.testing.assert_array_equal(
        samples.pictures_for(drawn, engine), samples.held_out(drawn, range(12), 38)[..., 0]
    )
    gone = _workdir(tmp_path / "gone", {"data_path": str(tmp_path / "nowhere")})
    heads = samples.pictures_for(gone, engine)
    assert {head.shape for head in heads} == {(150, 150)}
    assert len(heads) > 5
    assert np.mean(heads) < 0.4  # before black

    def with_factors(*names: str) -> engines.Engine:
        return dataclasses.replace(engine, factor_ranges=dict.fromkeys(names, (0.0, 1.0)))

    chairs = samples.pictures_for(tmp_path, with_factors("azimuth"))
    assert np.mean(chairs) > 0.6  # before white
    assert samples.pictures_for(tmp_path, with_factors("size")) == []
