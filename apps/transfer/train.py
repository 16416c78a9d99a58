"""The classifiers that are trained on features, one method after the other. Meant to be edited."""

import dataclasses
import time
from collections.abc import Iterator

from rich.console import Console

from scenax.train.progress import Progress
from scenax.train.transfer.features import Splits
from scenax.train.transfer.few_shot import check_shots, few_shot
from scenax.train.transfer.linear_probe import linear_probe
from scenax.train.transfer.nearest_neighbors import nearest_neighbors
from scenax.train.transfer.ridge import ridge
from scenax.train.transfer.sweep import Sweep

from .config import Config, Method


@dataclasses.dataclass(frozen=True)
class Result:
    """What a method reached."""

    method: Method
    sweep: Sweep
    seconds: float
    shots: int | None = None
    """Training examples of each class; None for all of them."""


def train(config: Config, splits: Splits, console: Console) -> list[Result]:
    """Returns what every method of the configuration reaches on these features.

    Raises:
      ValueError: if an option of a method is out of its range.
    """
    results = []
    for method in config.methods:
        began = time.monotonic()
        for shots, sweep in _sweeps(method, config, splits, console):
            results.append(Result(method, sweep, time.monotonic() - began, shots))
            began = time.monotonic()
    return results


def _sweeps(
    method: Method, config: Config, splits: Splits, console: Console
) -> Iterator[tuple[int | None, Sweep]]:
    """Yields a method's sweeps; only that of few shots has several."""
    options = dataclasses.asdict(getattr(config, method))
    if method == "linear_probe":
        with Progress(console, config.linear_probe.epochs, unit="features") as progress:
            yield None, linear_probe(splits, **options, seed=config.seed, progress=progress)
        return
    with console.status(f"{method}..."):
        if method == "nearest_neighbors":
            yield None, nearest_neighbors(splits, **options)
        elif method == "ridge":
            yield None, ridge(splits, **options)
        else:
            check_shots(splits, options["shots"])
            for shots in options["shots"]:
                yield from few_shot(splits, **options | {"shots": (shots,)}).items()
