"""Reads asv's result files: every figure of every architecture, commit by commit.

The layout is asv 0.6.6's: ``results/<machine>/machine.json``, a file for every commit and
environment beside it, and ``results/benchmarks.json``. Two keys of a result file are our own and
optional: ``versions`` (of what the figures depend on) and ``conditions`` (of the measurement).
"""

import ast
import collections
import dataclasses
import itertools
import json
import math
import pathlib
import re
import subprocess
from typing import Any

from benchmarks.figures import BY_BENCHMARK

RELEASE = re.compile(r"(?:[a-z]+-)?v\d")
"""The tags that are releases: of everything, or of one package."""

Values = list[float | None]
"""A figure commit by commit; None is a gap."""


class ResultsError(ValueError):
    """Results cannot be read; the message says which."""


@dataclasses.dataclass(frozen=True)
class Commit:
    """A commit that has figures."""

    hash: str
    date: int
    """Milliseconds, as in asv's files."""
    subject: str = ""
    tags: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Machine:
    """What was measured on one machine."""

    name: str
    fields: dict[str, str]
    commits: list[Commit]
    """Those with figures of this machine, the oldest first."""
    figures: dict[str, dict[str, Values]]
    """By benchmark and architecture, as asv stores them."""
    library: dict[tuple[str, str], Values]
    """By benchmark and parameters: whatever is not of an architecture."""
    notes: list[dict[str, dict[str, Any]]]
    """``versions`` and ``conditions`` of every commit."""


@dataclasses.dataclass(frozen=True)
class Results:
    """All that asv's result files say."""

    machines: list[Machine]
    """The one with the most figures first."""
    units: dict[str, str]
    """By benchmark."""


@dataclasses.dataclass(frozen=True)
class _History:
    """What git says of commits, by hash; empty where there is no repository."""

    subjects: dict[str, str]
    tags: dict[str, tuple[str, ...]]


def read(results: pathlib.Path) -> Results:
    """Reads a folder of results.

    Raises:
      ResultsError: if there are none, or if a file cannot be read.
    """
    folders = sorted(path.parent for path in results.glob("*/machine.json"))
    strays = {path.parent for path in results.glob("*/*-*.json")} - set(folders)
    if strays:
        raise ResultsError(f"{min(strays)} has results but no machine.json; 'asv machine' asks.")
    benchmarks = _read_benchmarks(results / "benchmarks.json")
    versions = {name: row["version"] for name, row in benchmarks.items() if "version" in row}
    history = _read_history(results)
    machines = [_read_machine(folder, versions, history) for folder in folders]
    machines = [machine for machine in machines if machine.commits]
    if not machines:
        raise ResultsError(
            f"There are no results in {results}. It should have a folder for each machine with "
            "machine.json and a file for each commit, as 'asv run' leaves them."
        )
    machines.sort(key=lambda machine: (-_count(machine), machine.name))
    return Results(machines, {name: row.get("unit", "") for name, row in benchmarks.items()})


def _count(machine: Machine) -> int:
    return sum(map(len, machine.figures.values()))


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ResultsError(f"{path} holds no table of names and values, as asv's files do.")
    return content


def _read_benchmarks(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    content = _read_json(path) if path.exists() else {}
    return {name: row for name, row in content.items() if isinstance(row, dict)}


def _read_machine(folder: pathlib.Path, versions: dict[str, str], history: _History) -> Machine:
    fields = _read_json(folder / "machine.json")
    by_commit: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    for path in sorted(folder.glob("*.json")):
        if path.name != "machine.json":
            run = _read_run(path)
            by_commit[run["commit_hash"]].append(run)
    # Commits of one second, as a rebase makes them, are in git's order.
    position = {commit: index for index, commit in enumerate(history.subjects)}
    order = sorted(by_commit, key=lambda key: (by_commit[key][0]["date"], -position.get(key, 0)))
    figures: dict[str, dict[str, Values]] = {}
    library: dict[tuple[str, str], Values] = {}
    for index, commit in enumerate(order):
        for (benchmark, parameters), value in _merge(by_commit[commit], versions).items():
            if benchmark in BY_BENCHMARK and len(parameters) == 1:
                rows, key = figures.setdefault(benchmark, {}), parameters[0]
                rows.setdefault(key, [None] * len(order))[index] = value
            else:
                key = (benchmark, ", ".join(parameters))
                library.setdefault(key, [None] * len(order))[index] = value
    return Machine(
        name=str(fields.get("machine", folder.name)),
        fields={key: str(value) for key, value in fields.items() if key not in _NOT_SHOWN},
        commits=[
            Commit(
                commit,
                by_commit[commit][0]["date"],
                history.subjects.get(commit, ""),
                history.tags.get(commit, ()),
            )
            for commit in order
        ],
        figures=figures,
        library=library,
        notes=[_notes(by_commit[commit]) for commit in order],
    )


_NOT_SHOWN = {"machine", "version"}


def _read_run(path: pathlib.Path) -> dict[str, Any]:
    """Returns a result file, with ``rows``: benchmark to values, parameters, version and start."""
    content = _read_json(path)
    if content.get("version") != 2:
        raise ResultsError(
            f"{path} is of version {content.get('version')!r} of asv's files; 2 can be read."
        )
    try:
        columns = content["result_columns"]
        rows = {
            benchmark: dict(zip(columns, row, strict=False))
            for benchmark, row in content["results"].items()
        }
        return {
            "commit_hash": str(content["commit_hash"]),
            "date": int(content["date"]),
            "versions": content.get("versions") or {},
            "conditions": content.get("conditions") or {},
            "rows": {name: _read_row(row) for name, row in rows.items()},
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ResultsError(f"{path} is not as asv lays its results out: {error!r}") from error


def _read_row(row: dict[str, Any]) -> dict[str, Any]:
    combinations = list(itertools.product(*(row.get("params") or [])))
    names = [tuple(map(_parameter, combination)) for combination in combinations]
    values = [None] * len(names) if row["result"] is None else row["result"]
    if len(values) != len(names):
        raise ValueError(f"{len(values)} values for {len(names)} parameters")
    return {
        "values": {name: _number(value) for name, value in zip(names, values, strict=True)},
        "version": row.get("version"),
        "started_at": row.get("started_at") or 0,
    }


def _parameter(text: str) -> str:
    """Returns a parameter without the quotes that asv keeps it in."""
    try:
        return str(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        return text


def _number(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _merge(
    runs: list[dict[str, Any]], versions: dict[str, str]
) -> dict[tuple[str, tuple[str, ...]], float | None]:
    """Returns a commit's values over its environments: of each benchmark the newest run's."""
    newest: dict[str, dict[str, Any]] = {}
    for run in runs:
        for benchmark, row in run["rows"].items():
            # As in asv, values of another version of a benchmark do not compare with today's.
            outdated = row["version"] not in (None, versions.get(benchmark, row["version"]))
            known = newest.get(benchmark)
            if not outdated and (known is None or row["started_at"] >= known["started_at"]):
                newest[benchmark] = row
    return {
        (benchmark, name): value
        for benchmark, row in newest.items()
        for name, value in row["values"].items()
    }


def _notes(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    notes: dict[str, dict[str, Any]] = {"versions": {}, "conditions": {}}
    for run in runs:
        for kind in notes:
            notes[kind] |= run[kind]
    return notes


def _read_history(folder: pathlib.Path) -> _History:
    log = _git(folder, "log", "--all", "--format=%H%x1f%s")
    refs = _git(folder, "tag", "--format=%(refname:short)%1f%(objectname)%1f%(*objectname)")
    tags: dict[str, tuple[str, ...]] = collections.defaultdict(tuple)
    for line in refs:
        name, of_tag, of_commit = line.split("\x1f")
        if RELEASE.match(name):
            tags[of_commit or of_tag] += (name,)
    subjects = [line.split("\x1f", 1) for line in log]
    return _History({commit: subject for commit, subject in subjects}, dict(tags))


def _git(folder: pathlib.Path, *arguments: str) -> list[str]:
    """Returns lines of git's answer; none where there is no git or no repository."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return []
    return answer.stdout.decode("utf-8", "replace").splitlines()
