"""What a run is evaluated on: other scenes of the kind that it was trained on."""

import pathlib

import pytest

from dcign_tf.datasets.chair_scenes import ChairConfig, ChairSampler
from dcign_tf.datasets.rendering import make_dataset
from dcign_tf.datasets.source import RecordSource, RenderedSource
from dcign_tf.errors import UsageError
from dcign_tf.evaluation import workdir
from dcign_tf.evaluation.workdir import IMAGES_IN_A_GROUP, Run, open_data

CHAIRS = ChairConfig(image_size=12, group_size=3, split=(4, 2, 3), supersample=1)


def test_runs_on_built_in_chairs_are_evaluated_on_them(tmp_path: pathlib.Path) -> None:
    make_dataset(ChairSampler(CHAIRS), tmp_path / "data", {"test": {"mixed": 2}}, processes=1)
    on_disk = Run(tmp_path, tmp_path / "m", {"data_path": str(tmp_path / "data")})
    rendered = Run(tmp_path, tmp_path / "m", {"data_path": None, "scene": CHAIRS.to_dict()})
    assert isinstance(open_data(on_disk), RecordSource)
    for run, changes in ((rendered, {}), (rendered, {"seed": 5}), (on_disk, {"seed": 5})):
        source = open_data(run, scene=changes, images=6, groups=2)
        assert isinstance(source, RenderedSource) and isinstance(source.config, ChairConfig)
        assert (source.config.seed, source.config.split) == (changes.get("seed", 0), (4, 2, 3))
        assert source.groups("test", "azimuth").values["azimuth"].shape == (2, IMAGES_IN_A_GROUP)
    for run in (rendered, on_disk):
        with pytest.raises(UsageError, match="--zoom: makes no sense with builtin_chairs"):
            open_data(run, scene={"zoom": 2.0})


def test_the_report_tells_no_places() -> None:
    shown = workdir._shown(
        {
            "training": {"steps": 7},
            "data_path": "/secret/d",
            "scene": {"source": "ict_facekit", "source_path": "/secret/heads"},
            "command": "dcign-train --source_path=/secret/heads --steps=7",
        }
    )
    assert shown == {
        "training": {"steps": 7},
        "scene": {"source": "ict_facekit"},
        "command": "dcign-train --source_path=heads --steps=7",
    }
