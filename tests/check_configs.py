"""Takes a step of every configuration of every app, made small: ``python tests/check_configs.py``.

Each is resolved, its state is made in the abstract at its published size, and a copy with small
images, few blocks and few examples goes through the app's own code, all without a network: what is
not embedded is written first, from the features that TFDS or the dataset wants. Arguments are
parts of names, such as ``swin``. Exits with 1 if one fails.
"""

import contextlib
import dataclasses
import importlib
import io
import itertools
import math
import os
import pathlib
import runpy
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import tensorflow_datasets as tfds
from rich.console import Console
from rich.table import Table

import scenax.models
from scenax.common import config as config_lib
from scenax.common import tree
from scenax.train.writers import read_log

ROOT = pathlib.Path(__file__).parents[1]
DATA_TESTS = ROOT / "packages" / "data" / "tests" / "datasets" / "conftest.py"
WRITTEN = {
    "cifar10": {"train": 100, "test": 8},
    "imagenet2012": {"train": 200, "validation": 8},
    "oxford_iiit_pet": {"train": 256, "test": 37},
}
"""Datasets of TFDS that configurations name, and how many made-up examples a copy has."""
EMBEDDED = ("digits",)
BLOCKS = ("depth", "depths", "layers", "num_blocks")
"""What families call the number of their blocks."""
PIXELS = ("size", "image_size", "height", "width")
LARGE, SMALL = 224, 64

QUIET = Console(quiet=True)


@dataclasses.dataclass(frozen=True)
class Checked:
    """What was seen of a configuration that works."""

    parameters: int
    """At its published size."""
    loss: float | None
    """After a step of the small copy; None where nothing is trained by steps."""


def classification(data: dict[str, Any], data_dir: str, folder: pathlib.Path) -> Checked:
    """Checks a configuration of ``apps/classification``."""
    app = {name: _module("classification", name) for name in ("config", "pretrained", "train")}
    task = _module("classification", "task")
    config = config_lib.resolve(app["config"].Config, data, {})
    if config.weights is not None and "/" not in config.weights:
        config = app["pretrained"].complete(config)
    _, schedule_args = app["config"].in_steps(config, 1_000_000)
    data = config_lib.to_dict(config)
    few = {"batch_size": 8, "eval_batch_size": 8, "total_epochs": None, "weights": None}
    published = {**few, "total_steps": 10**9, "schedule.args": schedule_args}
    whole = task.make_task(config_lib.resolve(app["config"].Config, data, published), data_dir)
    timeless = {key: value for key, value in schedule_args.items() if not key.endswith("_steps")}
    if config.schedule.name == "step":
        timeless["every_steps"] = 1
    small = {
        **few,
        "total_steps": 2,
        "log_every": 1,
        "schedule.args": timeless,
        "dataset.args": _small_images(config.dataset.name, config.dataset.args),
        "model.args": _few_blocks(config.model.name, config.model.args),
    }
    run = app["train"].make_run(
        config_lib.resolve(app["config"].Config, data, small), folder, data_dir
    )
    app["train"].train(run, folder, QUIET)
    losses = [r["loss"] for r in read_log(folder) if r["split"] == "train"]
    if len(losses) != 2 or not all(map(math.isfinite, losses)):
        raise ValueError(f"Two steps were to be taken, and their losses are {losses}.")
    return Checked(tree.parameter_count(whole.abstract_state.params), losses[-1])


def transfer(data: dict[str, Any], data_dir: str, folder: pathlib.Path) -> Checked:
    """Checks a configuration of ``apps/transfer``."""
    schema = _module("transfer", "config").Config
    config = config_lib.resolve(schema, data, {})
    whole = _module("transfer", "features").make_task(
        config_lib.resolve(schema, data, {"weights": None, "batch_size": 8}), data_dir
    )
    small = {
        "weights": None,
        "batch_size": 32,
        "dataset.args": _small_images(config.dataset.name, config.dataset.args),
        "preprocessing": "dataset",
        "model.args": _few_blocks(config.model.name, config.model.args),
        "linear_probe.epochs": 1,
        "few_shot.shots": (1,),
        "few_shot.seeds": (0,),
    }
    found = _module("transfer", "evaluate").evaluate(
        config_lib.resolve(schema, data, small), folder, data_dir, QUIET
    )
    wanted, measured = set(config.methods), {result.method for result in found.results}
    if measured != wanted:
        raise ValueError(f"The methods were to be {sorted(wanted)}, and are {sorted(measured)}.")
    return Checked(tree.parameter_count(jax.eval_shape(whole.variables)["params"]), None)


CHECKS = {"classification": classification, "transfer": transfer}
"""How the configurations of an app are checked."""


def _module(app: str, name: str) -> Any:
    return importlib.import_module(f"apps.{app}.{name}")


def _small_images(name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """A dataset's options with every size in pixels made smaller, but for images that are small."""
    if name in EMBEDDED:
        return dict(args)
    return _shrunken({"image_size": LARGE, **args})


def _shrunken(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _fewer(item) if key in PIXELS and isinstance(item, int) else _shrunken(item)
            for key, item in value.items()
        }
    return [_shrunken(item) for item in value] if isinstance(value, list | tuple) else value


def _fewer(pixels: int) -> int:
    """Such a share of the pixels that the large images are small, in whole patches."""
    return math.ceil(pixels * SMALL / LARGE / 32) * 32


def _few_blocks(name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """A model's options with one block in every stage."""
    size = getattr(scenax.models.create_model(name, **args), "size", None)
    blocks = [field for field in BLOCKS if hasattr(size, field)]
    one = {
        field: 1 if isinstance(getattr(size, field), int) else (1,) * len(getattr(size, field))
        for field in blocks
    }
    return {**args, **one}


def write_data(name: str, folder: pathlib.Path) -> str:
    """Returns where a dataset of a name lies; a copy is written if it is not embedded."""
    place = folder / name
    if name in EMBEDDED:
        return str(folder)
    if name != "image_folder" and name not in WRITTEN:
        raise ValueError(
            f"tests/check_configs.py has no copy of {name}: say in WRITTEN how many examples."
        )
    if place.exists():
        return str(place)
    library = runpy.run_path(str(DATA_TESTS))
    rng = np.random.default_rng(0)

    def image(shape: Sequence[int | None]) -> bytes:
        known = [80 if side is None else side for side in shape]
        return library["_png"](rng.integers(0, 256, known, np.uint8))

    if name == "image_folder":
        for part, label, number in itertools.product(("train", "val", "test"), "ab", range(8)):
            path = place / part / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image((None, None, 3)))
        return str(place)
    features = tfds.builder(name, data_dir=place).info.features
    splits = {
        split: [
            {"image": image(features["image"].shape), "label": i % features["label"].num_classes}
            for i in range(count)
        ]
        for split, count in WRITTEN[name].items()
    }
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS says what it writes.
        library["_write_copy"](name, place, splits)
    return str(place)


def main(parts: list[str]) -> int:
    """Checks the configurations with one of the parts in their names, or all; prints a table."""
    sys.path.insert(0, str(ROOT))
    os.environ["XLA_FLAGS"] = "--xla_cpu_use_fusion_emitters=false"
    jax.config.update("jax_platforms", "cpu")
    # What is compiled here runs once or twice.
    jax.config.update("jax_disable_most_optimizations", True)
    table = Table("config", "parameters", "seconds", "loss")
    for column in table.columns[1:]:
        column.justify = "right"
    failures = []
    with tempfile.TemporaryDirectory() as name, Console().status("") as status:
        folder = pathlib.Path(name)
        for path in sorted(ROOT.glob("apps/*/configs/[!_]*.py")):
            app = path.parents[1].name
            label = f"{app}/{path.stem}"
            if parts and not any(part in label for part in parts):
                continue
            status.update(label)
            began = time.monotonic()
            try:
                if app not in CHECKS:
                    raise ValueError(f"tests/check_configs.py has no check of apps/{app}.")
                data = config_lib.load(path)
                data_dir = write_data(data["dataset"]["name"], folder)
                checked = CHECKS[app](data, data_dir, folder / "runs" / label)
            except Exception:  # Whatever it is, the others are checked too.
                failures.append((label, traceback.format_exc()))
                continue
            loss = "" if checked.loss is None else f"{checked.loss:.4g}"
            seconds = f"{time.monotonic() - began:.1f}"
            table.add_row(label, f"{checked.parameters:,}", seconds, loss)
    Console().print(table)
    for label, trace in failures:
        sys.stdout.write(f"\n{label} fails:\n{trace}")
    return int(bool(failures) or not table.rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
