"""The wiring of an evaluation: dataset, model, weights, features, classifiers."""

import dataclasses
import pathlib

from rich.console import Console

from .config import Config
from .features import Origin, get_features, make_task
from .train import Result, train


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What the features of a configuration reached."""

    config: Config
    width: int
    """Of the features."""
    num_classes: int
    origins: dict[str, Origin]
    """Of the features, by split."""
    results: list[Result]


def evaluate(
    config: Config, folder: pathlib.Path, data_dir: str | None, console: Console
) -> Evaluation:
    """Returns what a configuration's features reach; ``folder`` keeps the features.

    Raises:
      ValueError, TypeError, OSError: if something a user chose is wrong; see ``features``.
    """
    task = make_task(config, data_dir)
    if config.weights is None:
        console.print(
            "weights is None: these are features of random parameters, a baseline. Give weights "
            "with --config.weights.",
            style="yellow",
            soft_wrap=True,
        )
    splits, origins = get_features(task, folder, console)
    return Evaluation(
        config=config,
        width=splits.train.features.shape[1],
        num_classes=splits.num_classes,
        origins=origins,
        results=train(config, splits, console),
    )
