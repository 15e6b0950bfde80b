"""The benchmark's findings as Markdown, which is what is printed, too, and as JSON."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Sequence
from typing import Any, NamedTuple

from dcign_tf import __version__, files
from dcign_tf.benchmarks.sections import Row, Section, Settings

JSON = "benchmark.json"
MARKDOWN = "benchmark.md"

_PACKAGES = (
    "tensorflow",
    "keras",
    "torch",
    "vtk",
    "pyvista",
    "embreex",
    "numpy",
    "numba",
)
_THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "TF_ENABLE_ONEDNN_OPTS",
)


class Machine(NamedTuple):
    """Where and when it was measured.

    Attributes:
        processor: its name.
        cores: how many this process may use.
        memory_gb: of the whole machine; None where the system does not tell.
        system: the operating system.
        python: its version.
        versions: of the packages that are installed.
        threads: environment variables that say how many threads libraries use, where set.
        date: in UTC, ISO 8601.
    """

    processor: str
    cores: int
    memory_gb: float | None
    system: str
    python: str
    versions: dict[str, str]
    threads: dict[str, str]
    date: str


def machine() -> Machine:
    """This one, now."""
    versions = {"dcign_tf": __version__}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    except (ValueError, OSError):
        memory = None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Machine(
        _processor(),
        cores or 1,
        memory,
        platform.system(),
        platform.python_version(),
        versions,
        {name: os.environ[name] for name in _THREADS if name in os.environ},
        datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


def _processor() -> str:
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def markdown(where: Machine, settings: Settings, sections: Sequence[Section]) -> str:
    """The whole report.

    Args:
        where: the machine.
        settings: what was measured.
        sections: of the parts, in their order.

    Returns:
        Markdown whose tables read well as text, too.
    """
    lines = [*_introduction(where, settings), ""]
    table: list[tuple[str, ...]] = []
    for section in sections:
        table.append((f"**{section.title}**", "", "", "", ""))
        table += [_cells(row) for row in section.rows]
    head = ("", "median", "quartiles", "dcign_tf is better by", "")
    lines += [*_table(head, table), ""]
    verdicts = [
        (v.target, v.found, "reached" if v.reached else "**not reached**")
        for section in sections
        for v in section.verdicts
    ]
    if verdicts and not settings.quick:
        lines += [*_table(("target", "found", ""), verdicts), ""]
    for section in sections:
        lines += [f"![{section.title}]({name})\n" for name in section.pictures]
    lines += [f"* **{s.title.split(':')[0]}**: {' '.join(s.notes)}" for s in sections if s.notes]
    return "\n".join(lines).rstrip() + "\n"


def write(
    folder: str | os.PathLike[str],
    where: Machine,
    settings: Settings,
    sections: Sequence[Section],
) -> None:
    """Writes the report, the same as JSON, and the pictures, each file whole or not at all."""
    home = pathlib.Path(folder)
    for section in sections:
        for name, content in section.pictures.items():
            with files.atomic_write(home / name) as file:
                file.write(content)
    with files.atomic_write(home / JSON, "w") as file:
        json.dump(as_json(where, settings, sections), file, indent=2)
        file.write("\n")
    with files.atomic_write(home / MARKDOWN, "w") as file:
        file.write(markdown(where, settings, sections))


def as_json(where: Machine, settings: Settings, sections: Sequence[Section]) -> dict[str, Any]:
    """The same, fit for JSON."""
    # Where the data lie is nobody else's business.
    private = ("data", "source_path")
    what = {key: value for key, value in settings._asdict().items() if key not in private}
    return {
        "machine": where._asdict(),
        "settings": what,
        "sections": [
            {
                "name": section.name,
                "title": section.title,
                "rows": [row._asdict() for row in section.rows],
                "notes": list(section.notes),
                "verdicts": [verdict._asdict() for verdict in section.verdicts],
                "pictures": list(section.pictures),
            }
            for section in sections
        ],
    }


def _introduction(where: Machine, settings: Settings) -> list[str]:
    memory = "" if where.memory_gb is None else f", {where.memory_gb:.0f} GB of memory"
    threads = ", ".join(f"{name}={value}" for name, value in where.threads.items())
    versions = ", ".join(f"{name} {version}" for name, version in where.versions.items())
    lines = [
        f"{where.processor}, {where.cores} cores{memory}; {where.system}, Python {where.python}; {where.date}.",
        f"{versions}.",
        f"Threads: {threads or 'as each library chooses by itself'}. Each candidate in a process of its own, one at a "
        f"time, in turns; medians of {settings.rounds} turns or more after {settings.warm_up} to warm up, unless said.",
    ]
    if settings.quick:
        lines.append("**--quick: tiny networks, a test of the command; the figures mean nothing.**")
    return lines


def _cells(row: Row) -> tuple[str, ...]:
    if row.median is None or row.low is None or row.high is None:
        return row.candidate, "-", "", "", row.note
    spread = "" if row.low == row.high else f"{_number(row.low)} - {_number(row.high)}"
    ratio = ""
    if row.ratio is not None:
        ratio = f"{row.ratio:.2f} x"
        if row.ratio_low is not None and row.ratio_high is not None:
            ratio += f" ({row.ratio_low:.2f} - {row.ratio_high:.2f})"
    return row.candidate, f"{_number(row.median)} {row.unit}", spread, ratio, row.note


def _number(value: float) -> str:
    """Three significant digits, or all of a larger number's."""
    if value >= 100 or value == 0:
        return f"{value:.0f}"
    return f"{value:#.3g}" if value >= 1e-3 else f"{value:.2e}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table of Markdown with its columns aligned."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    widths = [max(3, *(len(row[column]) for row in escaped)) for column in range(len(head))]
    lines = [
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
        for row in escaped
    ]
    return [lines[0], f"|{'|'.join('-' * (width + 2) for width in widths)}|", *lines[1:]]
