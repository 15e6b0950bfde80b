"""Several runs beside each other, from the numbers that `dcign-evaluate` wrote of each."""

import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dcign_tf.errors import DcignError, UsageError
from dcign_tf.evaluation.report import MEASURES, amount, number
from dcign_tf.evaluation.workdir import FOLDER

_Cell = Callable[[Mapping[str, Any], str], str]


def read(workdirs: Sequence[str | os.PathLike[str]]) -> dict[str, dict[str, Any]]:
    """The metrics.json of workdirs, by the folders' names, or their paths as given where names are the same.

    Args:
        workdirs: of runs that `dcign-evaluate` has measured; also other folders that hold such an `evaluation`.

    Raises:
        UsageError: there are none, or one comes twice.
        DcignError: a metrics.json is missing or damaged.
    """
    if not workdirs:
        raise UsageError("--compare: got none, must be workdirs with commas between")
    found: dict[str, dict[str, Any]] = {}
    folders = [pathlib.Path(workdir).resolve() for workdir in workdirs]
    names = [folder.name for folder in folders]
    for workdir, folder in zip(workdirs, folders, strict=True):
        path = pathlib.Path(workdir, FOLDER, "metrics.json")
        if folders.count(folder) > 1:
            raise UsageError(f"--compare: {workdir} is there twice")
        name = folder.name
        if names.count(name) > 1:
            name = pathlib.Path(workdir).as_posix()
        try:
            metrics = json.loads(path.read_text("utf-8"))
            _check(metrics)
        except OSError as error:
            raise DcignError(
                f"--compare: {path} cannot be read ({error.strerror}); run dcign-evaluate --workdir={workdir} first"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DcignError(
                f"{path}: not what dcign-evaluate writes ({error!r}); run it again"
            ) from error
        found[name] = metrics
    return found


def _check(metrics: Any) -> None:
    """Raises one of Python's errors unless these are metrics."""
    table({"": metrics})


def table(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Two tables in Markdown, a row for each run: what the paper measures, and what the field does.

    A run that was measured beside an entangled baseline has a second row, of that.

    Args:
        runs: what metrics.json holds, by the names of the rows.
    """
    rows: dict[str, Mapping[str, Any]] = {}
    for name, metrics in runs.items():
        rows[name] = metrics
        if metrics["baseline"] is not None:
            rows[f"{name}, entangled baseline"] = {**metrics, "steps": None, **metrics["baseline"]}
    factors = list(dict.fromkeys(f for metrics in rows.values() for f in metrics["inference"]))

    def each(cell: _Cell) -> Callable[[Mapping[str, Any]], str]:
        """One cell for all factors."""
        return lambda metrics: " / ".join(
            cell(metrics, factor) if factor in metrics["inference"] else "-" for factor in factors
        )

    def relative(metrics: Mapping[str, Any], factor: str) -> str:
        mse, own = metrics["rerendering"][factor]["mse"], metrics["reconstruction"]["mse"]
        return "-" if mse is None or not own else f"{mse / own:.2f}"

    paper = {
        "size": lambda m: f"{m['image_size']} x {m['image_size']}",
        "steps": lambda m: "-" if m["steps"] is None else f"{m['steps']}",
        "reconstruction MSE": lambda m: number(m["reconstruction"]["mse"]),
        "\\|r\\|": each(lambda m, f: number(m["inference"][f]["pearson"], 3)),
        "R²": each(lambda m, f: number(m["inference"][f]["r2_calibrated"], 3)),
        "median error": each(
            lambda m, f: amount(m["inference"][f]["median_abs_error"], m["units"][f])
        ),
        "re-rendering MSE": each(lambda m, f: number(m["rerendering"][f]["mse"])),
        "times reconstruction": each(relative),
        "invariance": each(lambda m, f: number(m["invariance"][f], 3)),
    }

    def measure(name: str) -> Callable[[Mapping[str, Any]], str]:
        return lambda metrics: number(metrics["disentanglement"].get(name), 3)

    field = {title: measure(name) for name, (title, _, _) in MEASURES.items()}
    lines = [f"Where there are several numbers: {' / '.join(factors)}.", ""]
    for columns in (paper, field):
        lines += [_row(["run", *columns]), _row(["---"] * (1 + len(columns)))]
        for name, metrics in rows.items():
            lines.append(_row([name, *(cell(metrics) for cell in columns.values())]))
        lines.append("")
    return "\n".join(lines)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
