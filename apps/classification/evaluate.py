"""Measures a run: ``python -m apps.classification.evaluate --workdir=FOLDER``."""

import argparse
import dataclasses
import logging
import pathlib
import sys
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float, Int
from rich.console import Console
from rich.table import Table

from scenax.common import config as config_lib
from scenax.common.contracts import Batches, Model
from scenax.train import checkpoints, step, workdir
from scenax.train.evaluate import evaluate
from scenax.train.state import TrainState

from .config import Config
from .train import read_run


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a model says of a split's real examples, in the split's order."""

    labels: Int[np.ndarray, " n"]
    probabilities: Float[np.ndarray, "n k"]
    inputs: dict[int, Float[np.ndarray, "h w c"]]
    """Of a few examples, by their place: the first ones, and the most confident mistakes."""

    @property
    def guesses(self) -> Int[np.ndarray, " n"]:
        """The most probable class of each."""
        return self.probabilities.argmax(-1)

    def worst_mistakes(self, most: int) -> Int[np.ndarray, " m"]:
        """Returns the places of wrong guesses, the most confident first, at most so many."""
        wrong = np.flatnonzero(self.guesses != self.labels)
        return wrong[np.argsort(-self.probabilities.max(-1)[wrong], kind="stable")][:most]


def predict(
    model: Model, state: TrainState, batches: Batches, *, first: int, worst: int
) -> Predictions:
    """Returns the predictions for this host's examples of a split; no padding among them.

    Of the inputs only those of the ``first`` examples are kept, and of the ``worst`` mistakes, so
    that a split need not fit in memory.
    """

    @jax.jit
    def probabilities(state: TrainState, batch: dict) -> jax.Array:
        outputs, _ = model.apply(state.eval_variables, batch, train=False)
        return jax.nn.softmax(outputs.astype("float32"))

    labels, found, inputs = [], [], {}
    for batch in batches:
        real = batch["batch_mask"] > 0
        label = batch["label"][real]
        start = sum(map(len, labels))
        labels.append(label.argmax(-1) if label.ndim > 1 else label)
        found.append(jax.device_get(probabilities(state, dict(batch)))[real])
        part = Predictions(labels[-1], found[-1], {})
        mistakes = part.worst_mistakes(worst).tolist()
        wanted = {*range(min(len(label), max(0, first - start))), *mistakes}
        inputs |= {start + place: batch["inputs"][real][place] for place in wanted}
        if len(inputs) > 10 * (first + worst):
            seen = Predictions(np.concatenate(labels), np.concatenate(found), inputs)
            kept = {*range(first), *seen.worst_mistakes(worst).tolist()}
            inputs = {place: inputs[place] for place in inputs if place in kept}
    return Predictions(np.concatenate(labels), np.concatenate(found), inputs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluates the newest checkpoint and prints a table. Returns the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.evaluate")
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="the run's folder")
    parser.add_argument("--data_dir", help="where prepared datasets lie")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    flags = parser.parse_args(arguments)
    console = Console()
    try:
        data = config_lib.load(flags.workdir / workdir.CONFIG_NAME)
        config = config_lib.resolve(Config, data, {})
        run = read_run(config, flags.workdir, flags.data_dir)
    except (ValueError, OSError, checkpoints.CheckpointError) as error:
        Console(stderr=True).print(f"Error: {error}", markup=False, highlight=False, soft_wrap=True)
        return 1
    eval_step = step.make_eval_step(run.model, run.mesh, flags.split)
    batches = run.dataset.test_iter if flags.split == "test" else run.dataset.valid_iter
    # A title would be broken to the width of the table, which is less than a path's.
    title = f"{flags.workdir}, step {int(run.start.state.step)}: {flags.split} split"
    console.print(title, markup=False, highlight=False, soft_wrap=True)
    table = Table()
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in evaluate(eval_step, run.start.state, batches, run.mesh).items():
        table.add_row(name, f"{value:.4f}")
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
