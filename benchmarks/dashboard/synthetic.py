"""Makes results in asv's layout, as many as years of work would leave, to try the dashboard on.

``python -m benchmarks.dashboard.synthetic FOLDER``. All numbers are drawn and mean nothing, but
follow the registry's names; a few steps are planted, and ``STEPS`` says where.
"""

import argparse
import dataclasses
import hashlib
import json
import math
import pathlib
import random
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.dashboard import cards
from benchmarks.figures import FIGURES, Figure

DAY = 86_400_000
START = 1_780_000_000_000


@dataclasses.dataclass(frozen=True)
class Step:
    """From a share of the commits on, a figure of names that start so is multiplied."""

    prefix: str
    benchmark: str
    at: float
    factor: float


STEPS = (
    Step("resnet", "architectures.track_training_time", 0.7, 1.4),
    Step("vit_", "architectures.track_inference_time", 0.5, 0.7),
    Step("swin_tiny", "architectures.track_error", 0.8, 1.5),
    Step("convnext_", "cost.track_flops", 0.6, 1.02),
    Step("regnet", "architectures.track_memory", 0.4, 0.85),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the results that the command line asks for."""
    parser = argparse.ArgumentParser(description="Makes results to try the dashboard on.")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--architectures", type=int, default=400)
    parser.add_argument("--commits", type=int, default=200)
    parser.add_argument("--machines", type=int, default=2)
    options = parser.parse_args(argv)
    make(options.folder, options.architectures, options.commits, options.machines)
    return 0


def make(
    folder: pathlib.Path, architectures: int = 400, commits: int = 200, machines: int = 2
) -> list[str]:
    """Writes results into a folder, and returns the commits' hashes, the oldest first."""
    names = list(cards.families())[:architectures]
    hashes = [hashlib.sha1(b"%d" % index).hexdigest() for index in range(commits)]
    folder.mkdir(parents=True, exist_ok=True)
    benchmarks = {figure.benchmark: {"unit": figure.unit, "version": "1"} for figure in FIGURES}
    benchmarks["imports.timeraw_import"] = {"unit": "seconds", "version": "1"}
    _write(folder / "benchmarks.json", benchmarks | {"version": 2})
    for number, machine in enumerate(["synthetic-cpu", "synthetic-gpu"][:machines]):
        fields = {"machine": machine, "arch": "x86_64", "cpu": "2 vCPU", "ram": "24GB"}
        _write(folder / machine / "machine.json", fields | {"version": 1})
        speed = 40.0**number
        levels = {name: _levels(name, speed) for name in names}
        for index, commit in enumerate(hashes):
            share = index / commits
            content = {
                "commit_hash": commit,
                "date": START + index * DAY,
                "version": 2,
                "params": fields,
                "versions": {"jax": "0.10.2", "flax": "0.12.8"},
                "conditions": {"batch": 8},
                "result_columns": ["result", "params", "version", "started_at"],
                "results": _results(names, levels, share, random.Random(f"{machine} {index}")),
            }
            _write(folder / machine / f"{commit[:8]}-uv-py3.11.json", content)
    return hashes


def _levels(name: str, speed: float) -> dict[str, float]:
    """Returns what an architecture's figures are without steps and noise."""
    draw = random.Random(name)
    gflops = 10 ** draw.uniform(-0.3, 2)
    parameters = round(gflops ** draw.uniform(0.6, 0.9) * 2.5e6)
    error = min(90.0, 30 / gflops ** draw.uniform(0.12, 0.3) + draw.uniform(0, 5))
    return {
        "architectures.track_error": error,
        "cost.track_parameters": parameters,
        "cost.track_flops": gflops,
        "cost.track_activations": gflops ** draw.uniform(0.5, 0.8) * 3,
        "architectures.track_inference_time": gflops * 3 * draw.uniform(0.7, 2) / speed,
        "architectures.track_training_time": gflops * 10 * draw.uniform(0.7, 2) / speed,
        "architectures.track_memory": 50 + 40 * gflops ** draw.uniform(0.5, 0.8),
        "architectures.track_compile_time": 4 * math.log(2 + gflops) * draw.uniform(0.7, 2),
    }


def _results(
    names: list[str], levels: dict[str, dict[str, float]], share: float, draw: random.Random
) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for figure in FIGURES:
        values = [_value(name, levels[name], figure, share, draw) for name in names]
        results[figure.benchmark] = [values, [[repr(name) for name in names]], "1", 0]
    modules = ["'scenax.common'", "'scenax.models'"]
    seconds = [draw.gauss(0.031, 0.0004), draw.gauss(0.055, 0.0008)]
    results["imports.timeraw_import"] = [seconds, [modules], "1", 0]
    return results


def _value(
    name: str, levels: dict[str, float], figure: Figure, share: float, draw: random.Random
) -> float | None:
    value = levels[figure.benchmark]
    for step in STEPS:
        planted = name.startswith(step.prefix) and figure.benchmark == step.benchmark
        value *= step.factor if planted and share >= step.at else 1
    if figure.exact:
        return value
    if draw.random() < 0.03:
        return None
    return value * draw.gauss(1, 0.002 if figure.unit == "MiB" else 0.012)


def _write(path: pathlib.Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
