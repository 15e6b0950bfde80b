"""The flag files say what they are said to say."""

import copy
import pathlib
from typing import Any

import pytest

from dcign_tf.cli import train

FLAGS = pathlib.Path(__file__).parents[1] / "flags"


def given(
    name: str, monkeypatch: pytest.MonkeyPatch, *more: str
) -> tuple[dict[str, Any], set[str]]:
    """The flags that a flag file gives, and their values; those after it win."""
    monkeypatch.chdir(FLAGS.parent)
    values = copy.deepcopy(train.FLAGS)
    for flag in values:  # Another test may have parsed them.
        values[flag].unparse()
    values(["dcign-train", f"--flagfile=flags/{name}", *more])
    present = {flag: values[flag].value for flag in values if values[flag].present}
    return present, {f for f in present if values[f].value != values[f].default}


@pytest.mark.parametrize("name", sorted(path.name for path in FLAGS.iterdir() if path.is_file()))
def test_each_is_understood_and_keeps_its_data_apart(name, monkeypatch):
    present, _ = given(name, monkeypatch)
    assert present["steps"] > 0 and present["data"].startswith("data/")
    assert f"--flagfile=flags/{name} " in (FLAGS / name).read_text() or name == "quickstart"


@pytest.mark.parametrize(
    "name, ratio, more",
    [("faces_paper", "1,1,1,10", set()), ("chairs_paper", "1,10", {"split"})],
)
def test_the_papers_are_the_papers(name, ratio, more, monkeypatch):
    present, others = given(name, monkeypatch)
    # The package's defaults are the paper's, which the flag files spell out; the ratio's follows from the factors.
    assert others == {"source", "data", "test_groups", "seed", "ratio", *more}
    assert present["test_groups"] == 350  # as many as in the authors' data set
    assert (present["image_size"], present["group_size"], present["latents"]) == (150, 20, 200)
    assert present["steps"] == 12000
    assert (present["learning_rate"], present["invariance_strength"]) == (0.0005, 0.01)
    assert ",".join(present["ratio"]) == ratio


@pytest.mark.parametrize("name", ["faces", "chairs"])
def test_the_entangled_network_differs_in_nothing_but_its_procedure(name, monkeypatch):
    paper, _ = given(f"{name}_paper", monkeypatch)
    entangled, _ = given(f"{name}_entangled", monkeypatch)
    assert entangled.pop("procedure") == "sgvb"
    assert entangled == paper


def test_the_papers_own_heads_need_but_their_source(monkeypatch):
    basel, _ = given("faces_paper", monkeypatch, "--source=basel", "--source_path=model.mat")
    assert (basel["source"], basel["steps"]) == ("basel", 12000)
