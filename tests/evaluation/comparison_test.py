import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcign_tf.errors import DcignError, UsageError
from dcign_tf.evaluation import comparison
from tests.evaluation.report_test import BLOCK, METRICS

LESS: dict[str, Any] = copy.deepcopy(METRICS)
LESS["steps"] = LESS["rerendering"]["azimuth"]["mse"] = None


def write(folder, metrics):
    path = folder / "evaluation" / "metrics.json"
    path.parent.mkdir(parents=True)
    path.write_text(metrics if isinstance(metrics, str) else json.dumps(metrics))
    return folder


def test_runs_stand_side_by_side(tmp_path):
    a, b = write(tmp_path / "a", METRICS), write(tmp_path / "b", LESS)
    lines = comparison.table(comparison.read([a, b])).splitlines()
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if "|" in line
    ]
    paper, field = rows[:4], rows[4:]
    assert [row[0] for row in rows] == 2 * ["run", "---", "a", "b"]
    assert len({len(row) for row in paper}) == len({len(row) for row in field}) == 1
    where = dict(zip(paper[0], paper[2], strict=True))
    assert (where["steps"], where["reconstruction MSE"]) == ("1200", "0.00610")
    assert where["times reconstruction"] == "1.33"  # 0.0081 / 0.0061
    assert dict(zip(paper[0], paper[3], strict=True))["times reconstruction"] == "-"
    assert dict(zip(field[0], field[2], strict=True))["SAP"] == "0.700"


def test_a_baseline_has_a_row_of_its_own():
    worse = {**BLOCK, "reconstruction": {"mse": 0.0099, "psnr_db": 20.0}}
    lines = comparison.table({"a": {**METRICS, "baseline": worse}, "b": METRICS}).splitlines()
    rows = [line for line in lines if line.startswith(("| a", "| b"))]
    assert [row.split(" | ")[0] for row in rows] == 2 * ["| a", "| a, entangled baseline", "| b"]
    assert "0.00610" in rows[0] and "70 x 70 | - | 0.00990" in rows[1] and "0.00610" in rows[2]


def test_where_names_are_the_same_paths_tell_runs_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/best", "b/best", "b/other"):
        write(tmp_path / name, METRICS)
    assert list(comparison.read(["a/best", "b/best/", "b/other"])) == ["a/best", "b/best", "other"]


def test_a_factor_that_a_run_does_not_have_is_a_dash(tmp_path):
    other = json.loads(json.dumps(METRICS).replace('"azimuth"', '"height"'))
    table = comparison.table({"a": METRICS, "b": other})
    assert "azimuth / height" in table
    assert "0.961 / -" in table and "- / 0.961" in table


def test_what_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(UsageError, match="--compare: got none"):
        comparison.read([])
    with pytest.raises(DcignError, match="run dcign-evaluate --workdir="):
        comparison.read([tmp_path])
    good = write(tmp_path / "good", METRICS)
    with pytest.raises(UsageError, match="--compare: .*good is there twice"):
        comparison.read([good, tmp_path / "." / "good"])
    for number, text in enumerate(["", "[]", "{}", '{"inference": 3}', "9" * 5000]):
        bad = write(tmp_path / str(number), text)
        with pytest.raises(DcignError, match="metrics.json: not what dcign-evaluate writes"):
            comparison.read([bad])


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(path=st.lists(st.integers(0, 20), min_size=1, max_size=4), value=values)
def test_any_value_in_any_place_is_refused_or_shown(tmp_path_factory, path, value):
    metrics = copy.deepcopy(METRICS)
    place = metrics
    for step in path[:-1]:
        inner = place[list(place)[step % len(place)]]
        if not isinstance(inner, dict) or not inner:
            break
        place = inner
    place[list(place)[path[-1] % len(place)]] = value
    folder = write(tmp_path_factory.mktemp("run"), metrics)
    try:
        table = comparison.table(comparison.read([folder]))
    except DcignError as error:
        assert str(folder) in str(error)
    else:
        assert folder.name in table
