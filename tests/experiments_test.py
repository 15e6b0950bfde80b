"""The flag files, run in full: minutes to half an hour each. `python3 run.py slow` runs them.

A run that is in runs/ already is resumed, or only evaluated if it is finished.
"""

import json
import os
import pathlib

import pytest

from dcign_tf.cli import common, evaluate, train

ROOT = pathlib.Path(__file__).resolve().parents[1]
ICT = pathlib.Path(
    os.environ.get("DCIGN_ICT_PATH", ROOT.parent / "shared" / "data" / "ict_facekit")
)


def run(name, *flags):
    workdir = f"--workdir=runs/{name}"
    command = ["dcign-train", f"--flagfile=flags/{name}", workdir, *flags]
    assert common.execute(train.main, train.FLAGS, command) == 0
    assert common.execute(evaluate.main, evaluate.FLAGS, ["dcign-evaluate", workdir]) == 0
    return json.loads((ROOT / "runs" / name / "evaluation" / "metrics.json").read_text())


def correlations(metrics):
    factors = ("azimuth", "elevation", "light_azimuth")
    return [metrics["inference"][factor]["pearson"] for factor in factors]


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.slow
def test_quickstart_finds_pose_and_light():
    azimuth, elevation, light = correlations(run("quickstart"))
    assert azimuth >= 0.98 and elevation >= 0.92 and light >= 0.97


@pytest.mark.slow
def test_real_heads():
    compact = ICT / "ict_facekit_light.npz"
    source = compact if compact.exists() else ICT
    if not source.exists():
        pytest.skip(
            f"no ICT-FaceKit in {ICT}: python3 run.py slow runs it where DCIGN_ICT_PATH names a clone"
        )
    metrics = run("compare/faces_best", f"--source_path={source}")
    azimuth, elevation, light = correlations(metrics)
    assert azimuth >= 0.98 and elevation >= 0.93 and light >= 0.97
    assert metrics["reconstruction"]["mse"] <= 0.005
