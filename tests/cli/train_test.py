import json
import pathlib
import shlex

import numpy as np
import pytest

from dcign_tf import load_model
from dcign_tf.cli import common, train
from dcign_tf.datasets.scenes import SceneConfig, SceneSampler
from tests.datasets.service_test import dispatching, working

ROOT = pathlib.Path(__file__).resolve().parents[2]

TINY = (
    "--image_size=38",
    "--group_size=4",
    "--supersample=1",
    "--encoder_filters=2,2,2",
    "--decoder_filters=2,2,2",
    "--latents=6",
    "--steps=2",
    "--calibration_images=80",
)


def run(*arguments):
    return common.execute(train.main, train.FLAGS, ["dcign-train", *arguments])


def complaint(capsys):
    """The one line on stderr."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_one_command_renders_a_data_set_and_trains(tmp_path, capsys):
    small = ("--train_groups=4", "--validation_groups=2", "--test_groups=2", "--mixed_images=80")
    workdir = tmp_path / "run"
    command = (*TINY, *small, "--processes=1", f"--workdir={workdir}")
    assert run(*command) == 0
    assert "trained and calibrated" in capsys.readouterr().out
    assert load_model(str(workdir / "model.keras")).calibrated
    config = json.loads((workdir / "config.json").read_text())
    assert config["data_path"] == str((workdir / "data").resolve())
    told = shlex.split(config["command"])
    assert told[0] == "dcign-train"
    assert sorted(told[1:]) == sorted([*TINY, *small, "--processes=1"])
    # What it noted does the same elsewhere, flag files or not.
    flagfile = tmp_path / "flags"
    flagfile.write_text("\n".join(told[1:]))
    assert run(f"--flagfile={flagfile}", f"--workdir={workdir}") == 0
    again = ["--steps=2", f"--flagfile={flagfile}", f"--workdir={tmp_path / 'other'}"]
    assert run(*again, "--render_on_the_fly") == 0
    noted = json.loads((tmp_path / "other" / "config.json").read_text())["command"]
    assert sorted(shlex.split(noted)[1:]) == sorted([*told[1:], "--render_on_the_fly"])
    # Once more: there is nothing left to do.
    assert run(*command) == 0
    capsys.readouterr()
    assert run(*command, "--learning_rate=0.1") == 2
    assert "learning_rate (there 0.0005, asked 0.1)" in complaint(capsys)


def test_rendering_on_the_fly_keeps_no_data(tmp_path):
    chosen = {
        "procedure": "ml_vae",
        "clamp_gradient": "add",
        "invariance": "relative",
        "invariance_warmup_steps": 3,
        "beta": 0.5,
        "kl_warmup_steps": 2,
    }
    flags = [f"--{name}={value}" for name, value in chosen.items()]
    assert run(*TINY, *flags, "--render_on_the_fly", f"--workdir={tmp_path}") == 0
    settings = load_model(str(tmp_path / "model.keras")).settings.procedure_settings()
    assert settings.items() >= chosen.items()
    assert not (tmp_path / "data").exists()
    assert json.loads((tmp_path / "config.json").read_text())["scene"]["image_size"] == 38


def test_flag_files_of_the_comparison_are_settings_that_fit(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    names = sorted(path.name for path in pathlib.Path("flags", "compare").iterdir())
    assert {"clamp", "exchange", "ml_vae", "group_vae", "ada_gvae", "sgvb", "beta_vae"} <= set(
        names
    )
    for name in names:
        # All is checked before the data are opened, the images' size last. Real heads have to be somewhere.
        source = ["--source=builtin_face"] if name.startswith("faces") else []
        flags = (f"--flagfile=flags/compare/{name}", f"--data={tmp_path / 'data'}", *source)
        assert run(*flags, f"--workdir={tmp_path / 'run'}", "--image_size=71") == 2
        assert "--image_size: got 71" in complaint(capsys), name


def test_what_it_starts_from_tells_the_network(tmp_path, capsys):
    small = [flag for flag in TINY if "filters" not in flag and "latents" not in flag]
    begun, workdir = tmp_path / "begun", tmp_path / "run"
    fly = "--render_on_the_fly"
    assert run(*TINY, "--circular=azimuth", fly, f"--workdir={begun}") == 0
    command = (*small, fly, f"--start_from={begun}", f"--workdir={workdir}")
    capsys.readouterr()
    assert run(*command, "--latents=7") == 2
    assert "--latents=6, this run has --latents=7" in complaint(capsys)
    assert run(*command) == 0
    model = load_model(str(workdir / "model.keras"))
    assert model.layout.circular == ("azimuth",) and model.decoder_filters == (2, 2, 2)
    # The same command resumes, also where that run is no more.
    (workdir / "model.keras").unlink()
    (begun / "model.keras").unlink()
    assert run(*command) == 0
    assert run(*small, fly, f"--start_from={begun}", f"--workdir={tmp_path / 'other'}") == 2
    assert "--start_from: " in capsys.readouterr().err


def test_rendering_elsewhere_changes_nothing(tmp_path, capsys):
    flags = ("--render_on_the_fly", "--groups_per_step=2")
    assert run(*TINY, *flags, f"--workdir={tmp_path / 'here'}") == 0
    sampler = SceneSampler(SceneConfig(image_size=38, group_size=4, supersample=1))
    with dispatching() as address, working(address, sampler):
        service = f"--data_service=grpc://{address}"
        assert run(*TINY, *flags, service, f"--workdir={tmp_path / 'elsewhere'}") == 0
        here, elsewhere = (tmp_path / name / "model.keras" for name in ("here", "elsewhere"))
        for ours, theirs in zip(
            *(load_model(str(path)).get_weights() for path in (here, elsewhere)), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
        capsys.readouterr()
        other = ("--zoom=1.1", f"--workdir={tmp_path / 'other'}")
        assert run(*TINY, *flags, service, *other) == 1
    assert "these differ: zoom (there 1.0, here 1.1)" in complaint(capsys)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--workdir: missing"),
        (("--workdir=x", "--data_service=grpc://a:1"), "--data_service: makes no sense without --render"),
        (("--workdir=x", "--data_service=a:1"), "--data_service: got 'a:1', must be like grpc://host:5050"),
        (("--workdir=x", "--strategy=multi_worker"), "--strategy=multi_worker: the environment variable TF_CONFIG"),
        (("--workdir=x", "--strategy=tpu"), "--strategy=tpu: found no TPU"),
        (("--workdir=x", "--ratio=1,2"), "--ratio: got 1,2, must be 4 numbers"),
        (("--workdir=x", "--encoder_filters=a,b,c"), "--encoder_filters: got a,b,c, must be numbers"),
        (("--workdir=x", "--image_size=71"), "--image_size: got 71, must be 16 n - 90"),
        (("--workdir=x", "--procedure=magic"), "--procedure"),
        (("--workdir=x", "--procedure=beta_vae"), "--beta: got 1, must be another number for beta_vae"),
        (("--workdir=x", "--invariance=relative"), "--groups_per_step: got 1, must be 2 or more"),
        (("--workdir=x", "--kl_warmup_steps=-1"), "--kl_warmup_steps: got -1, must be 0 or more"),
        (("--workdir=x", "--steps=-1"), "--steps: got -1, must be 1 or more"),
        (("--workdir=x", "--calibration_images=5"), "--calibration_images: got 5, must be 66 or more"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    assert message in complaint(capsys)
    assert not list(tmp_path.iterdir()), "a mistake must leave nothing behind"
