"""What is written for the projector is read by TensorBoard's own plugin, and is what went in."""

import pathlib

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector import projector_plugin
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from dcign_tf import embedding


def test_tensorboard_reads_it(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    codes = rng.standard_normal([5, 8]).astype(np.float32)
    pictures = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones([1, 38, 38, 1], np.uint8)
    values = {"azimuth": np.array([1.5, -30, np.nan, 4, 5]), "size": np.arange(5.0)}
    folder = tmp_path / "run"
    for _ in range(2):  # Another one takes its place.
        embedding.write(folder, codes, pictures, values)
    config = ProjectorConfig()
    text_format.Parse((folder / "projector_config.pbtxt").read_text(), config)
    (found,) = config.embeddings
    read = projector_plugin._read_tensor_tsv_file(str(folder / found.tensor_path))
    np.testing.assert_allclose(read, codes, rtol=1e-4)
    assert list(found.tensor_shape) == [5, 8]
    rows = [line.split("\t") for line in (folder / found.metadata_path).read_text().splitlines()]
    assert rows[0] == ["image", "azimuth", "size"]
    assert rows[2] == ["1", "-30", "1"]
    assert rows[3] == ["2", "", "2"]
    assert len(rows) == 6
    side = found.sprite.single_image_dim[0]
    sprite = np.array(Image.open(folder / found.sprite.image_path))
    assert sprite.shape == (3 * side, 3 * side)
    for number in range(5):
        assert (sprite[number // 3 * side, number % 3 * side]) == number
    assert sorted(path.name for path in folder.iterdir()) == [
        "codes.png",
        "codes.tsv",
        "codes_labels.tsv",
        "projector_config.pbtxt",
    ]


def test_what_does_not_fit_together(tmp_path: pathlib.Path) -> None:
    pictures = np.zeros([2, 8, 8, 1], np.uint8)
    for codes, values in ((np.zeros([3, 4]), {}), (np.zeros([2, 4]), {"a": np.zeros(1)})):
        with pytest.raises(ValueError, match="must be as many of each"):
            embedding.write(tmp_path, codes, pictures, values)
    with pytest.raises(ValueError, match="at least one"):
        embedding.write(tmp_path, np.zeros([0, 4]), pictures[:0], {})
