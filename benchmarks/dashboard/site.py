"""Writes the dashboard: ``python -m benchmarks.dashboard.site --results FOLDER --out FOLDER``.

``index.html`` holds the page with its style, its scripts, and the newest figures of everything.
What a view needs beyond these is in ``data/``, in scripts that hand their content to the page: a
page that was opened from a folder may load scripts, but not read files.
"""

import argparse
import hashlib
import json
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.dashboard import cards, data, series
from benchmarks.figures import FIGURES, TIME_NOISE

SOURCES = pathlib.Path(__file__).parent
SCRIPTS = ("state", "format", "spark", "table", "points", "scatter", "history", "compare", "main")
"""In the order in which they run: each uses those before it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the site that the command line asks for, and returns the command's status."""
    parser = argparse.ArgumentParser(description="Writes the dashboard of asv's results.")
    parser.add_argument("--results", type=pathlib.Path, default="benchmarks/results")
    parser.add_argument("--out", type=pathlib.Path, default="benchmarks/html")
    parser.add_argument(
        "--commit_url", default="", help="what stands before a commit's hash in its address"
    )
    options = parser.parse_args(argv)
    try:
        results = data.read(options.results)
    except data.ResultsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    write(results, options.out, commit_url=options.commit_url)
    sys.stdout.write(f"{options.out / 'index.html'}\n")
    return 0


def write(results: data.Results, out: pathlib.Path, *, commit_url: str = "") -> None:
    """Writes the site of results into a folder, beside asv's own pages if ``asv/`` is there."""
    overview = overview_of(results) | {
        "commitUrl": commit_url,
        "asv": (out / "asv" / "index.html").exists(),
    }
    # Browsers keep scripts, so that newer ones need other addresses.
    content = f"{overview}{results}".encode()
    overview["build"] = hashlib.sha256(content).hexdigest()[:12]
    out.mkdir(parents=True, exist_ok=True)
    (out / "index.html").write_text(_page(overview), encoding="utf-8")
    names = [name for name, *_ in overview["models"]]
    _write_script(out, "cards", cards.cards(names))
    for machine in results.machines:
        for name in names:
            _write_script(out, f"{slug(machine.name)}/{slug(name)}", history_of(machine, name))
        for index, commit in enumerate(machine.commits):
            path = f"{slug(machine.name)}/commits/{commit.hash}"
            _write_script(out, path, commit_of(machine, index, names))


def slug(name: str) -> str:
    """Returns a name as it stands in the names of files; state.js has the same rule."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)


def overview_of(results: data.Results) -> dict[str, Any]:
    """Returns what the page shows at once: the newest of every figure, and its sparkline."""
    models = sorted(
        {
            name
            for machine in results.machines
            for rows in machine.figures.values()
            for name, values in rows.items()
            if any(value is not None for value in values)
        }
    )
    families = cards.families()
    return {
        "figures": [_figure(figure) for figure in FIGURES],
        "libraryNoise": TIME_NOISE,
        "models": [
            [name, families.get(name, cards.RETIRED), cards.task_of(name)] for name in models
        ],
        "top1": cards.top1(models),
        "machines": [_machine(machine, models, results.units) for machine in results.machines],
    }


def _figure(figure: Any) -> dict[str, Any]:
    counted = figure.unit in series.SCALES
    unit = series.SCALES[figure.unit][1] if counted else figure.shown_unit or figure.unit
    return {
        "key": series.key_of(figure),
        "title": figure.shown_title or figure.title,
        "unit": "" if unit == figure.title else unit,
        "counted": counted,
        "points": series.is_in_points(figure),
        "higher": figure.shown_higher_is_better,
        "noise": figure.noise,
        "note": series.NOTES.get(figure.benchmark, ""),
    }


def _machine(machine: data.Machine, models: list[str], units: dict[str, str]) -> dict[str, Any]:
    base = series.base_of(machine)
    gaps: data.Values = [None] * len(machine.commits)
    figures = {}
    for figure in series.present(machine):
        rows = machine.figures[figure.benchmark]
        shown = [series.shown(figure, rows.get(name, gaps)) for name in models]
        figures[series.key_of(figure)] = _cells(shown, base, series.least_range(figure))
    library = [
        [series.rounded(v) if v is not None else None for v in values]
        for values in machine.library.values()
    ]
    return {
        "name": machine.name,
        "folder": slug(machine.name),
        "fields": machine.fields,
        "notes": machine.notes[-1],
        "commits": [[c.hash, c.date, c.subject, list(c.tags)] for c in machine.commits],
        "base": base,
        "figures": figures,
        "library": {
            "rows": [
                [name, parameters, units.get(name, "")] for name, parameters in machine.library
            ],
            **_cells(library, base, lambda value: abs(value) * TIME_NOISE / 50),
        },
    }


def _cells(rows: list[data.Values], base: int, least_range: Any) -> dict[str, list[Any]]:
    """Returns columns: the newest value and its age in commits, the base's, and a sparkline."""
    newest = [series.last_known(values) for values in rows]
    return {
        "value": [value for value, _ in newest],
        "age": [age for _, age in newest],
        "base": [series.last_known(values[: base + 1])[0] for values in rows],
        "spark": [series.sparkline(values, least_range) for values in rows],
    }


def history_of(machine: data.Machine, name: str) -> dict[str, Any]:
    """Returns an architecture's figures, commit by commit, and where they became worse."""
    series_of = {
        figure: machine.figures[figure.benchmark].get(name, [])
        for figure in series.present(machine)
    }
    return {
        series.key_of(figure): {
            "values": series.shown(figure, values),
            "regressions": series.regressions(figure, values),
        }
        for figure, values in series_of.items()
        if any(value is not None for value in values)
    }


def commit_of(machine: data.Machine, index: int, names: list[str]) -> dict[str, Any]:
    """Returns all figures of one commit, in the overview's order."""
    figures = {}
    for figure in series.present(machine):
        rows = machine.figures[figure.benchmark]
        values = [rows[name][index] if name in rows else None for name in names]
        figures[series.key_of(figure)] = series.shown(figure, values)
    library = [values[index] for values in machine.library.values()]
    return {"figures": figures, "library": library, **machine.notes[index]}


def _write_script(out: pathlib.Path, name: str, content: Any) -> None:
    path = out / "data" / f"{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"scenax.receive({json.dumps(name)}, {_json(content)});\n", encoding="utf-8")


def _json(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def _page(overview: dict[str, Any]) -> str:
    parts = {
        "style": (SOURCES / "page.css").read_text(encoding="utf-8"),
        # A subject of a commit may hold "</script>", which would end the element.
        "overview": _json(overview).replace("<", "\\u003c"),
        "scripts": "\n".join(
            (SOURCES / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS
        ),
    }
    page = (SOURCES / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], page)


if __name__ == "__main__":
    sys.exit(main())
