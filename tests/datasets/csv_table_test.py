"""Tables of images are read in both forms, and each cell that is not as it must be is told by its place."""

import pathlib
import pickle
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dcign_tf.datasets import csv_table
from dcign_tf.errors import DcignError, UsageError
from tests import mutations

_COLUMNS: dict[str, list[Any]] = {
    "path": ["a/1.png", "a/2.png", "3.jpg"],
    "azimuth": [-30.5, 0, 1e2],
    "height": [3, 4, 5],
    "person": ["Änne", "bert, jr.", "Änne"],
    "session": [7, 7, 7],
}


@pytest.fixture(autouse=True)
def images(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").mkdir()
    for at, name in enumerate(_COLUMNS["path"]):
        Image.new("L", (3, 2), at).save(tmp_path / name)


def _csv(columns: dict[str, list[Any]]) -> bytes:
    quoted = [
        [f'"{cell}"' if "," in str(cell) else str(cell) for cell in row]
        for row in [list(columns), *zip(*columns.values(), strict=True)]
    ]
    return "".join(",".join(row) + "\r\n" for row in quoted).encode()


def _write(folder: pathlib.Path, kind: str, columns: dict[str, list[Any]]) -> str:
    path = folder / f"table.{kind}"
    if kind == "csv":
        path.write_bytes(_csv(columns))
    else:
        # Columns of one type each: where there is a text, all are.
        texts = {
            name: [str(cell) for cell in cells]
            for name, cells in columns.items()
            if any(isinstance(cell, str) for cell in cells)
        }
        pq.write_table(pa.table({**columns, **texts}), path)
    return str(path)


_FACTORS: dict[str, Any] = {"factors": ["azimuth", "height"]}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_both_kinds_are_read(kind: str, tmp_path: pathlib.Path) -> None:
    path = _write(tmp_path, kind, {**_COLUMNS, "split": ["train", "test", "train"]})
    table = csv_table.load(
        path,
        factors=("height", "azimuth"),
        identity=["person", "session"],
        units=["height=m"],
        periods=["azimuth=360"],
    )
    assert table.factors == ("height", "azimuth")
    assert table.values["azimuth"].tolist() == [-30.5, 0, 100]
    assert table.values["height"].dtype == np.float64
    assert table.units == {"azimuth": "degrees", "height": "m"}
    assert table.periods == {"azimuth": 360}
    assert table.identity.tolist() == [0, 1, 0]
    assert table.split == ("train", "test", "train")
    assert table.groups is None
    read = pickle.loads(pickle.dumps(table.images))
    assert [read.read(row).tolist() for row in range(3)] == [[[at] * 3] * 2 for at in range(3)]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_all_other_columns_are_factors(kind: str, tmp_path: pathlib.Path) -> None:
    table = csv_table.load(_write(tmp_path, kind, _COLUMNS), identity=["person"])
    assert table.factors == ("azimuth", "height", "session")
    assert table.split is None
    path = _write(tmp_path, kind, {k: v for k, v in _COLUMNS.items() if k != "person"})
    assert not csv_table.load(path).identity.any()


def test_what_spreadsheets_write(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b'\xef\xbb\xbfpath,"azimuth"\na/1.png," 1.5"\n\n"a/2.png",-2E1\n')
    assert csv_table.load(str(path)).values["azimuth"].tolist() == [1.5, -20]


def test_categories_of_pandas_are_texts(tmp_path: pathlib.Path) -> None:
    categories = pa.array(_COLUMNS["path"]).dictionary_encode()
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"path": categories, "azimuth": [1, 2, 3]}), path)
    assert len(csv_table.load(str(path)).images) == 3


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("column", "cells", "told"),
    [
        ("azimuth", [1, "x", 3], "column azimuth: got 'x', must be a finite number"),
        ("azimuth", [1, "1_0", 3], "column azimuth: got '1_0', must be"),
        ("azimuth", [1.0, float("nan"), 3.0], "column azimuth: got '?nan'?, must be a finite"),
        ("azimuth", [1.0, float("-inf"), 3.0], "column azimuth: got '?-inf'?, must be"),
        ("azimuth", ["1", "", "3"], "column azimuth: got nothing, must be"),
        ("path", ["a/1.png", "a/1.png", "3.jpg"], "'a/1.png' is in (line 2|row 1), too"),
        ("path", ["a/1.png", "./a//1.png", "3.jpg"], "'a/1.png' is in (line 2|row 1), too"),
        ("path", ["a/1.png", "a/9.png", "3.jpg"], "'a/9.png': no such file in"),
        ("path", ["a/1.png", "", "3.jpg"], "column path: got nothing, must be the path"),
        ("path", ["a/1.png", "a", "3.jpg"], "'a': no such file"),
        ("path", ["a/1.png", "../x.png", "3.jpg"], "got '../x.png', which leads out of"),
        ("path", ["a/1.png", "a/../../x.png", "3.jpg"], "which leads out of"),
        ("path", ["a/1.png", "/etc/passwd", "3.jpg"], "which leads out of"),
        ("path", ["a/1.png", "C:x.png", "3.jpg"], "which leads out of"),
        ("path", ["a/1.png", "..\\x.png", "3.jpg"], "which leads out of"),
        ("path", ["a/1.png", "a\0b", "3.jpg"], "no such file"),
        ("split", ["train", "val", "train"], "column split: got 'val', must be one of train"),
    ],
)
def test_cells_are_told_by_their_place(
    kind: str, column: str, cells: list[Any], told: str, tmp_path: pathlib.Path
) -> None:
    path = _write(tmp_path, kind, {**_COLUMNS, column: cells})
    place = "line 3" if kind == "csv" else "row 2"
    with pytest.raises(DcignError, match=told) as raised:
        csv_table.load(path, **_FACTORS)
    assert str(raised.value).startswith(f"{path}: {place}, column {column}: ")


def test_nulls_are_told(tmp_path: pathlib.Path) -> None:
    for column in ("azimuth", "path"):
        path = str(tmp_path / "table.parquet")
        pq.write_table(pa.table({**_COLUMNS, column: [None, *_COLUMNS[column][1:]]}), path)
        with pytest.raises(DcignError, match=f"row 1, column {column}: got nothing"):
            csv_table.load(path, **_FACTORS)


def test_an_identity_is_in_one_split(tmp_path: pathlib.Path) -> None:
    path = _write(tmp_path, "csv", {**_COLUMNS, "part": ["train", "test", "test"]})
    options = {**_FACTORS, "split_column": "part"}
    with pytest.raises(
        DcignError, match="line 4, column part: 'Änne' is for test here and for tra"
    ):
        csv_table.load(path, identity=["person"], **options)
    assert csv_table.load(path, **options).split == ("train", "test", "test")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"path_column": "file"}, "=path_column: .* has no column 'file'; it has path, azimuth, h"),
        ({"factors": ["azimuth", "tilt"]}, "--factors: .* has no column 'tilt'"),
        ({"identity": ["who"]}, "=identity: .* has no column 'who'"),
        ({"split_column": "split"}, "=split_column: .* has no column 'split'"),
        ({"factors": ["azimuth", "azimuth"]}, "--factors: the column 'azimuth' is named twice"),
        ({"factors": ["azimuth", ""]}, "--factors: .* has no column ''"),
        (
            {"factors": ["azimuth"], "identity": ["azimuth"]},
            "--source_option=identity and --factors: the column 'azimuth' is named twice",
        ),
        ({"factors": ["path"]}, "=path_column and --factors: the column 'path' is named twice"),
        ({**_FACTORS, "units": ["tilt=m"]}, "=units: got 'tilt=m', must be <factor>=<value>"),
        ({**_FACTORS, "units": ["azimuth"]}, "=units: got 'azimuth', must be"),
        ({**_FACTORS, "periods": ["azimuth=-1"]}, "=periods: got '-1' for azimuth, must be"),
        ({**_FACTORS, "periods": ["azimuth=x"]}, "=periods: got 'x' for azimuth"),
    ],
)
def test_options_that_make_no_sense(options, told: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match=told):
        csv_table.load(_write(tmp_path, "csv", _COLUMNS), **options)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty; expected a line of column names"),
        (b"path,azimuth\n", "has no rows"),
        (b"path\na/1.png\n", "has no column of a factor beside path"),
        (b"path,azimuth,azimuth\na/1.png,1,2\n", "has two columns 'azimuth'"),
        (b"path,Azimuth\na/1.png,1\n", "column 'Azimuth': a factor's name must be lower-case"),
        (b"path,intrinsic\na/1.png,1\n", "column 'intrinsic': intrinsic is what no factor says"),
        (b"path,\na/1.png,1\n", "column '': a factor's name must be"),
        (b"path,azimuth\na/1.png\n", "line 2: has 1 cells, must have 2"),
        (b'path,azimuth\n"a/1.png,1\n', "after line [012]: not CSV: unexpected end of data"),
        (b"path,azimuth\na/1.png,\xff\n", "not UTF-8 text, soon after line"),
        (b"path,azimuth\n" + b"x" * 5000 + b",1\n", "not CSV: a cell of more than 4096 char"),
        (b"path,azimuth\n" + b"," * 2_000_000, "not CSV: longer than 1048576 characters"),
        (b"path,azimuth\na/1.png,x\n", "got 'x', must be .*; --factors names the columns"),
        (b"PAR1" + b"x" * 100, "a damaged Parquet file"),
        (b"PAR1", "a damaged Parquet file"),
    ],
)
def test_tables_that_are_none(content: bytes, told: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(DcignError, match=told) as raised:
        csv_table.load(str(path))
    assert str(path) in str(raised.value)


def test_files_that_are_none(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DcignError, match="nowhere.csv: No such file .*; expected a table"):
        csv_table.load(str(tmp_path / "nowhere.csv"))
    with pytest.raises(DcignError, match="Is a directory; expected a table"):
        csv_table.load(str(tmp_path))
    (tmp_path / "a.parquet").write_bytes(b"path,azimuth\n")
    with pytest.raises(DcignError, match="a.parquet: not a Parquet file: it does not begin"):
        csv_table.load(str(tmp_path / "a.parquet"))


def test_parquet_that_would_take_much_memory(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "table.parquet")
    # 4096 times a text of 10 MB takes 10 MB in the file, and would take 40 GB out of it.
    bomb = pa.DictionaryArray.from_arrays(np.zeros(4096, np.int32), ["x" * 10_000_000])
    pq.write_table(pa.table({"path": bomb, "azimuth": np.zeros(4096)}), path)
    assert (tmp_path / "table.parquet").stat().st_size < 20_000_000
    with pytest.raises(DcignError, match="column path: a text of 10000000 bytes"):
        csv_table.load(path)
    pq.write_table(pa.table({"path": [b"x"], "azimuth": [1]}), path)
    with pytest.raises(DcignError, match="column path: is of type binary, must be of numbers or"):
        csv_table.load(path)
    monkeypatch.setattr(csv_table, "MAX_ROWS", 2)
    with pytest.raises(DcignError, match="says that it has 3 rows; at most 2 are read"):
        csv_table.load(_write(tmp_path, "parquet", _COLUMNS))
    with pytest.raises(DcignError, match="more than 2 rows"):
        csv_table.load(_write(tmp_path, "csv", _COLUMNS), **_FACTORS)


def test_without_pyarrow_one_is_told(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path, "parquet", _COLUMNS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DcignError, match=r"pip install 'dcign_tf\[tables\]'"):
        csv_table.load(path)


_cells = st.one_of(
    st.sampled_from([*_COLUMNS["path"], "train", "test", "1", "-2.5", "nan", "..", "/"]),
    st.text(max_size=5),
    st.floats(allow_nan=False).map(str),
)


@settings(
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    header=st.lists(st.sampled_from(["path", "azimuth", "split", "x", "X"]), max_size=4),
    rows=st.lists(st.lists(_cells, max_size=4), max_size=4),
)
def test_any_cells_give_a_table_or_an_error(
    header: list[str], rows: list[list[str]], tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "any.csv"
    path.write_bytes(
        "".join(",".join(row) + "\n" for row in [header, *rows]).encode("utf-8", "replace")
    )
    try:
        table = csv_table.load(str(path))
    except DcignError as error:
        assert "\n" not in str(error)
        assert str(path) in str(error)
        return
    assert len(table.images) == len(table.identity) > 0
    for factor in table.factors:
        assert np.isfinite(table.values[factor]).all()
        assert len(table.values[factor]) == len(table.images)


def check_csv(folder: pathlib.Path) -> None:
    _check(csv_table.load(str(folder / "table.csv"), identity=["person"]))


def check_parquet(folder: pathlib.Path) -> None:
    _check(csv_table.load(str(folder / "table.parquet"), identity=["person"]))


def _check(table: Any) -> None:
    assert table.split is not None
    assert len(table.images) == len(table.identity) == len(table.split)
    for factor in table.factors:
        assert np.isfinite(table.values[factor]).all()
    for row in range(len(table.images)):
        assert table.images.read(row).shape == (2, 3)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    "count", [pytest.param(60, id="some"), pytest.param(3000, id="many", marks=pytest.mark.slow)]
)
def test_damaged_tables(kind: str, count: int, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "a").rename(folder / "a")
    (tmp_path / "3.jpg").rename(folder / "3.jpg")
    path = _write(folder, kind, {**_COLUMNS, "split": ["train", "test", "train"]})
    check = check_csv if kind == "csv" else check_parquet
    report = mutations.run(check, folder, [pathlib.Path(path).name], count)
    print(report)
    assert not report.problems, report
    assert report.refused > 0
    assert report.valid > 0 or count < 1000
