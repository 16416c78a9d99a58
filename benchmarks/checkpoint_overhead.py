"""What checkpoints cost the training loop on this machine: ``nox -s checkpoints``.

A vision transformer trains for as many steps with a checkpoint every hundred as without any, in
turns; a figure is the median of its rounds, to when the last checkpoint is complete on disk.
"""

import argparse
import io
import pathlib
import sys
import tempfile
import time
from typing import Any

import jax
import numpy as np
import optax
from rich.console import Console

from scenax.common import tree
from scenax.common.contracts import DatasetInfo
from scenax.models import ClassificationModel
from scenax.train import loop, sharding, state, step
from scenax.train.checkpoints import Checkpoint, Checkpoints
from scenax.train.progress import Progress
from scenax.train.writers import make_writer

EVERY = 100


class Batches:
    """The same batch again and again."""

    def __init__(self, batch: dict[str, np.ndarray]) -> None:
        self._batch = batch

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        return self._batch

    def get_state(self) -> dict[str, Any]:
        """Has no position."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Has no position."""


def main() -> None:
    """Times and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="vit_tiny_patch16_224")
    parser.add_argument("--img_size", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    flags = parser.parse_args()

    shape = (flags.img_size, flags.img_size, 3)
    info = DatasetInfo("noise", shape, "float32", 1000, tuple(map(str, range(1000))), {"train": 1})
    model = ClassificationModel({"architecture": flags.model}, info)
    rng = np.random.default_rng(0)
    batch = {
        "inputs": rng.normal(size=(flags.batch_size, *shape)).astype(np.float32),
        "label": rng.integers(0, 1000, flags.batch_size, dtype=np.int32),
        "batch_mask": np.ones(flags.batch_size, np.float32),
    }
    mesh, optimizer = sharding.make_mesh(), optax.adamw(1e-3)
    train_step = step.make_train_step(model, optimizer, mesh)

    def seconds(save_every: int, steps: int) -> np.ndarray:
        """Of the clock, and of all cores together."""
        first = state.create_state(model, optimizer, batch, seed=0, mesh=mesh)
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            checkpoints = Checkpoints(folder / "checkpoints")
            with Progress(Console(file=io.StringIO()), steps) as progress:
                began = np.array([time.perf_counter(), time.process_time()])
                loop.fit(
                    Checkpoint(first, {}, 0.0),
                    train_step=train_step,
                    batches=Batches(batch),
                    evaluators=[],
                    cadence=loop.Cadence(steps, 50, save_every, flags.batch_size),
                    mesh=mesh,
                    checkpoints=checkpoints,
                    writer=make_writer([], folder),
                    progress=progress,
                )
            checkpoints.close()
            return np.array([time.perf_counter(), time.process_time()]) - began

    seconds(1, 2)  # Compiles.
    without, often = [], []
    for _ in range(flags.rounds):
        without.append(seconds(flags.steps, flags.steps))  # But for the one at the end.
        often.append(seconds(EVERY, flags.steps))
    like = state.abstract_state(model, optimizer, batch, mesh=mesh)
    size = sum(tree.parameter_count(x) for x in jax.tree.leaves((like.params, like.opt_state)))
    sys.stdout.write(
        f"{flags.model} at {flags.img_size} pixels, {4 * size / 1e6:.0f} MB of state\n"
    )
    more = flags.steps // EVERY - 1
    for what, few, many in zip(
        ("time", "CPU time"), np.median(without, axis=0), np.median(often, axis=0), strict=True
    ):
        cost = (many - few) / more / (EVERY * few / flags.steps)
        sys.stdout.write(
            f"{what}: {1000 * few / flags.steps:.0f} ms a step, {flags.steps} steps {few:.1f} s, "
            f"with {more} more checkpoints {many:.1f} s; one every {EVERY} steps costs {cost:.1%}\n"
        )


if __name__ == "__main__":
    main()
