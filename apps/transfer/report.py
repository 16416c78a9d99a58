"""What an evaluation came to: a table, ``results.json``, and ``report.html`` with a picture."""

import base64
import dataclasses
import html
import importlib.metadata
import io
import json
import os
import pathlib
from typing import Any

import jax
from rich.table import Table

from scenax.common import config as config_lib
from scenax.common import visualize
from scenax.train.transfer.sweep import Sweep

from .evaluate import Evaluation
from .train import Result

RESULTS_NAME = "results.json"
REPORT_NAME = "report.html"
COLUMNS = ("top-1 of", "best choice", "validation", "test", "seconds")
NAMES = {"nearest_neighbors": "k-NN", "linear_probe": "linear probe", "ridge": "ridge"}


def table(evaluation: Evaluation) -> Table:
    """Returns the table for the console."""
    shown = Table(title=_title(evaluation))
    for column in COLUMNS:
        shown.add_column(column, justify="left" if column in COLUMNS[:2] else "right")
    for result in evaluation.results:
        shown.add_row(*_row(result))
    return shown


def write(evaluation: Evaluation, folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes numbers and page, in the place of earlier ones, and returns their paths."""
    results, page = folder / RESULTS_NAME, folder / REPORT_NAME
    _replace(results, json.dumps(to_dict(evaluation), indent=2) + "\n")
    config = json.dumps(config_lib.to_dict(evaluation.config), indent=2)
    rows = [_row(result) for result in evaluation.results]
    sections = [("Result", visualize.table(rows, COLUMNS))]
    if any(result.shots for result in evaluation.results):
        sections.append(("Accuracy by training examples", _picture(evaluation)))
    sections.append(("Configuration", f"<pre>{html.escape(config)}</pre>"))
    _replace(page, visualize.html_page(_title(evaluation), sections))
    return results, page


def to_dict(evaluation: Evaluation) -> dict[str, Any]:
    """Returns everything as plain data: every choice of every sweep too."""
    return config_lib.json_like(
        {
            "config": config_lib.to_dict(evaluation.config),
            "versions": {
                name: importlib.metadata.version(name)
                for name in ("scenax-data", "scenax-models", "scenax-train", "jax", "numpy")
            },
            "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
            "features": {
                "width": evaluation.width,
                "num_classes": evaluation.num_classes,
                **{name: dataclasses.asdict(o) for name, o in evaluation.origins.items()},
            },
            "results": [_result(result) for result in evaluation.results],
        }
    )


def _result(result: Result) -> dict[str, Any]:
    sweep = result.sweep
    return {
        "method": result.method,
        "shots": result.shots,
        "choice": sweep.choice,
        "validation_top_1": sweep.validation_top_1,
        "test_top_1": sweep.test_top_1,
        "test_deviation": sweep.test_deviation,
        "seconds": result.seconds,
        "sweep": {
            "choices": sweep.choices,
            "validation": sweep.validation.tolist(),
            "test": sweep.test.tolist(),
        },
    }


def _title(evaluation: Evaluation) -> str:
    config = evaluation.config
    return f"{config.model.name} on {config.dataset.name}, {config.weights or 'random parameters'}"


def _name(result: Result) -> str:
    return NAMES[result.method] if result.shots is None else f"{result.shots}-shot ridge"


def _choice(sweep: Sweep) -> str:
    """What was chosen, of what there was a choice."""
    values = {key: {choice[key] for choice in sweep.choices} for key in sweep.choice}
    shown = [key for key in values if len(values[key]) > 1] or [*values]
    return ", ".join(f"{key.replace('_', ' ')} {sweep.choice[key]:.4g}" for key in shown)


def _row(result: Result) -> tuple[str, ...]:
    sweep = result.sweep
    test = f"{sweep.test_top_1:.4f}"
    return (
        _name(result),
        _choice(sweep),
        f"{sweep.validation_top_1:.4f}",
        f"{test} ± {sweep.test_deviation:.4f}" if len(sweep.test) > 1 else test,
        f"{result.seconds:.1f}",
    )


def _picture(evaluation: Evaluation) -> str:
    """Returns test accuracy by shots, with deviations, and what all examples reach."""
    from matplotlib.figure import Figure

    few = [result for result in evaluation.results if result.shots is not None]
    shots = [result.shots or 0 for result in few]
    figure = Figure((7.2, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.errorbar(
        shots,
        [result.sweep.test_top_1 for result in few],
        yerr=[result.sweep.test_deviation for result in few],
        marker="o",
        capsize=4,
        label="few shot",
    )
    for place, result in enumerate(r for r in evaluation.results if r.shots is None):
        label = f"{_name(result)}, all examples"
        axes.axhline(result.sweep.test_top_1, ls="--", lw=1, color=f"C{place + 1}", label=label)
    axes.set(xscale="log", xlabel="training examples of each class", ylabel="test top-1 accuracy")
    axes.set_xticks(shots, [str(count) for count in shots])
    axes.minorticks_off()
    axes.grid(alpha=0.2)
    axes.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    source = f"data:image/svg+xml;base64,{data}"
    return f'<img alt="Test accuracy by shots" style="max-width: 100%" src="{source}">'


def _replace(path: pathlib.Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)
