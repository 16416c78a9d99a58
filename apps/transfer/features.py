"""From a configuration to features: dataset, model and weights, or files of an earlier command."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import time
import zipfile
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from rich.console import Console

import scenax.data
import scenax.models
from scenax.common import config as config_lib
from scenax.data.transforms import preprocessing, to_plain
from scenax.models import ClassificationModel
from scenax.train import sharding
from scenax.train.progress import Progress
from scenax.train.transfer.features import Features, Splits, extract_features, make_feature_step

from .config import Config

FOLDER_NAME = "features"
SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class EightBits:
    """Sees to it that images are not floats yet, which ``normalize`` would leave as they are."""

    def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> Mapping[str, Any]:
        """Returns the example as it is.

        Raises:
          ValueError: if its ``inputs`` are not uint8.
        """
        dtype = getattr(example["inputs"], "dtype", "a mapping")
        if dtype != np.uint8:
            raise ValueError(
                "preprocessing='weights' is for images of 8 bits, and this dataset gives "
                f"{dtype}. Set --config.preprocessing=dataset."
            )
        return example


@dataclasses.dataclass(frozen=True)
class Task:
    """What features are of."""

    config: Config
    dataset: Any
    """With ``once``, besides what the contract has."""
    model: ClassificationModel
    """Without a head."""
    mesh: Mesh
    fingerprint: str
    """Of all that decides the features."""

    def variables(self) -> dict[str, Any]:
        """Returns the model's variables, on every device."""
        shape = self.dataset.meta_data.input_shape
        everywhere = sharding.replicated(self.mesh)
        if self.config.weights is not None:
            return scenax.models.load_pretrained(
                self.model.flax_model,
                self.config.weights,
                input_shape=shape,
                sharding=everywhere,
            )
        init = functools.partial(self.model.init, batch={"inputs": np.zeros((1, *shape), "f4")})
        return jax.jit(init, out_shardings=everywhere)(jax.random.key(self.config.seed))


def make_task(config: Config, data_dir: str | None) -> Task:
    """Returns dataset and model. What a user can get wrong about them shows here.

    Raises:
      ValueError: if there is no such dataset, model or option, or they do not go together.
    """
    dataset, options = _dataset(config, data_dir)
    info = dataset.meta_data
    missing = [split for split in SPLITS if split not in info.num_examples]
    if missing:
        raise ValueError(
            f"Features are fit on a train, chosen on a validation and measured on a test split; "
            f"{info.name} lacks {' and '.join(missing)}, it has {', '.join(info.num_examples)}. "
            "Choose another dataset."
        )
    # As a classifier, for it fits the architecture to the dataset's images; but for the head.
    args = {**config.model.args, "num_classes": 0}
    model = ClassificationModel({"architecture": config.model.name, "args": args}, info)
    decisive = {
        "model": dataclasses.asdict(config.model),
        "weights": _identity(config.weights),
        "seed": config.seed if config.weights is None else None,
        "dataset": [config.dataset.name, options, dict(info.num_examples)],
        "data_dir": None if data_dir is None else str(pathlib.Path(data_dir).absolute()),
        "versions": [importlib.metadata.version(f"scenax-{part}") for part in ("data", "models")],
    }
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    return Task(config, dataset, model, sharding.make_mesh(), digest[:16])


def _dataset(config: Config, data_dir: str | None) -> tuple[Any, dict[str, Any]]:
    """Returns the dataset, and the options that it was made with as plain data."""
    options = dict(config.dataset.args)
    checks = []
    if config.preprocessing == "weights":
        checks = [] if "eval_transforms" in options else [EightBits()]
        options = _looks(config) | options
    made_with = dict(options)
    if "eval_transforms" in options:
        # Training images are read as those of evaluation, and the dataset's meta_data are of them.
        transforms = [*checks, *options["eval_transforms"]]
        made_with |= {"eval_transforms": transforms, "train_transforms": transforms}
    dataset = scenax.data.get_dataset(
        config.dataset.name,
        batch_size=config.batch_size,
        data_dir=data_dir,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        **made_with,
    )
    return dataset, config_lib.json_like(options)


def _looks(config: Config) -> dict[str, Any]:
    """Returns how images have to look for the weights, as options of a dataset."""
    model: Any = scenax.models.create_model(
        config.model.name, **{**config.model.args, "num_classes": 0}
    )
    if config.weights is None:
        cfg = getattr(model, "default_cfg", None)
    else:
        cfg = scenax.models.pretrained_cfg(model, config.weights)
    if not cfg:
        raise ValueError(
            f"How images have to look for {config.model.name} is not known. Set "
            "--config.preprocessing=dataset."
        )
    sides = {*(getattr(model, "img_size", None) or ())}
    if len(sides) > 1:
        raise ValueError(
            f"Only square images are prepared here, not {model.img_size}. Give dataset.args "
            "eval_transforms."
        )
    return {
        "eval_transforms": to_plain(preprocessing.evaluation(cfg, *sides)),
        "normalize": to_plain([preprocessing.normalization(cfg)])[0],
    }


def _identity(weights: str | None) -> list[Any]:
    """Returns what changes when weights do: of a file or folder, the files' sizes and times."""
    path = pathlib.Path((weights or "").removeprefix("local-dir:")).expanduser()
    if weights is None or not path.exists():
        return [weights]
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    stats = [(str(file.relative_to(path)), file.stat()) for file in files]
    return [weights, [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]]


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where the features of a split are, and what they took."""

    file: str
    examples: int
    seconds: float
    reused: bool
    """Whether an earlier command computed them."""


def get_features(
    task: Task, folder: pathlib.Path, console: Console
) -> tuple[Splits, dict[str, Origin]]:
    """Returns the features of all splits and where they are from; ``folder`` keeps them.

    Raises:
      ValueError: if the weights do not fit, or an example has not exactly one label.
      OSError: if weights or data cannot be read, or features cannot be written.
    """
    feature_step = make_feature_step(
        lambda variables, batch: task.model.apply(variables, batch, train=False)[0], task.mesh
    )
    variables = None
    features, origins = {}, {}
    for split in SPLITS:
        path = folder / FOLDER_NAME / f"{split}-{task.fingerprint}.npz"
        began = time.monotonic()
        found = _read(path)
        reused = found is not None
        if found is None:
            if variables is None:
                variables = task.variables()
            batches = task.dataset.once(split)
            console.print(f"Features of {split}:", highlight=False)
            with Progress(console, len(batches), unit="images") as progress:
                found = extract_features(
                    feature_step, variables, batches, task.mesh, progress=progress
                )
            if jax.process_index() == 0:
                _write(path, found)
        else:
            console.print(f"Features of {split}: from {path}", highlight=False, soft_wrap=True)
        features[split] = found
        origins[split] = Origin(str(path), len(found), time.monotonic() - began, reused)
    return Splits(**features, num_classes=task.dataset.meta_data.num_classes), origins


def _read(path: pathlib.Path) -> Features | None:
    """Returns features that were written, or None if there are none, or the file is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Features(arrays["features"], arrays["labels"])
    except FileNotFoundError:
        return None
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError):
        path.unlink()
        return None


def _write(path: pathlib.Path, features: Features) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        np.savez(file, features=features.features, labels=features.labels)
    os.replace(unfinished, path)
