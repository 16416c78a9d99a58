"""One process of a small run: ``python hosts.py FOLDER PROCESSES INDEX PORT STEPS [DIE_AT]``.

Linear regression on 64 inputs, its weights split over all devices, by the whole of what a run uses:
loop, checkpoints, evaluation, writer. Process 1 kills itself in the update after step DIE_AT.
"""

import contextlib
import io
import os
import pathlib
import signal
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

from scenax.common.contracts import BatchIterator
from scenax.train import distributed, loop, sharding, state, step
from scenax.train.checkpoints import Checkpoint, Checkpoints
from scenax.train.evaluate import Evaluator, evaluate
from scenax.train.progress import Progress
from scenax.train.writers import make_writer

WIDTH, BATCH = 64, 16
OPTIMIZER = optax.adam(0.03)
BALLAST = 2**16  # It makes a checkpoint larger than a log.


def part(first: int, size: int, real: int) -> dict[str, np.ndarray]:
    """This host's part of ``size`` examples from ``first``, of which ``real`` are not padding."""
    local = size // jax.process_count()
    rows = range(first + jax.process_index() * local, first + (jax.process_index() + 1) * local)
    inputs = np.stack([np.random.default_rng(i).normal(size=WIDTH) for i in rows])
    mask = np.array([i < first + real for i in rows])
    label = inputs @ np.linspace(-1, 1, WIDTH)
    arrays = {"inputs": inputs * mask[:, None], "label": label * mask, "batch_mask": mask}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


class Batches:
    def __init__(self) -> None:
        self.next = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.next += 1
        return part(BATCH * self.next, BATCH, BATCH)

    def get_state(self):
        return {"next": self.next}

    def set_state(self, state):
        self.next = state["next"]


class Regression:
    def init(self, rng, batch):
        return {
            "params": {"w": jax.random.normal(rng, (WIDTH,)), "b": jnp.zeros(())},
            "stats": {"ballast": jax.random.normal(rng, (BALLAST,))},
        }

    def apply(self, variables, batch, *, train, rngs=None):
        inputs, params = batch["inputs"], variables["params"]
        if train:
            keep = jax.random.bernoulli(rngs["dropout"], 0.9, inputs.shape)
            inputs = jnp.where(keep, inputs, 0)
        return inputs @ params["w"] + params["b"], {"stats": variables["stats"]}

    def loss_fn(self, outputs, batch, params=None):
        total, normalizer = self.get_metrics_fn("train")(outputs, batch)["loss"]
        return total / normalizer

    def get_metrics_fn(self, split):
        def metrics_fn(outputs, batch):
            error = jnp.square(outputs - batch["label"]) * batch["batch_mask"]
            return {"loss": (error.sum(), batch["batch_mask"].sum())}

        return metrics_fn


def nothing(number: int) -> None:
    """What a step or a batch calls if no test wants to know."""


def train(
    folder: pathlib.Path,
    steps: int,
    *,
    on_step: Callable[[int], None] = nothing,
    on_evaluation: Callable[[int], None] = nothing,
    source: BatchIterator | None = None,
    evaluation_batches: int = 2,
    save_every: int = 5,
    tolerated_failures: int = 0,
) -> int:
    """Trains to ``steps``, and returns from where.

    ``on_step`` is called before each update with the number of those before it, ``on_evaluation``
    before each batch of an evaluation with its place.
    """
    mesh = sharding.make_mesh()
    model, optimizer, example = Regression(), OPTIMIZER, part(0, BATCH, BATCH)
    placing = {"mesh": mesh, "rules": {r"/w$": ("data",)}}
    like = state.abstract_state(model, optimizer, example, **placing)
    checkpoints = Checkpoints(folder / "checkpoints", tolerated_failures=tolerated_failures)
    start = checkpoints.restore_latest(like)
    if start is None:
        first = state.create_state(model, optimizer, example, seed=0, **placing)
        start = Checkpoint(first, {"next": 0}, 0.0)
    placed = jax.tree.map(lambda x: x.sharding, like)
    update = step.make_train_step(model, optimizer, mesh, state_sharding=placed)
    eval_step = step.make_eval_step(model, mesh, "validation")
    firsts = range(10**6, 10**6 + 48 * evaluation_batches, 48)
    split = [part(first, 48, 5 if first == firsts[-1] else 48) for first in firsts]
    began = int(start.state.step)

    def told_step(state, batch):
        on_step(progress.step)
        return update(state, batch)

    def told_batches():
        for place, batch in enumerate(split):
            on_evaluation(place)
            yield batch

    with (
        contextlib.closing(make_writer([], folder, resume_step=began)) as writer,
        Progress(Console(file=io.StringIO()), steps, start=began) as progress,
    ):
        loop.fit(
            start,
            train_step=told_step,
            batches=source or Batches(),
            evaluators=[
                Evaluator(
                    "validation", 10, lambda state: evaluate(eval_step, state, told_batches(), mesh)
                )
            ],
            cadence=loop.Cadence(steps, 1, save_every, examples_per_step=BATCH),
            mesh=mesh,
            checkpoints=checkpoints,
            writer=writer,
            progress=progress,
        )
    checkpoints.close()
    return began


def main(folder: pathlib.Path, steps: int, die_at: int) -> None:
    def die(step: int) -> None:
        if jax.process_index() == 1 and step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    began = train(folder, steps, on_step=die)
    sys.stdout.write(f"done {began} {jax.process_count()} {jax.device_count()}\n")


if __name__ == "__main__":
    processes, index, port, steps, *die_at = map(int, sys.argv[2:])
    if processes > 1:
        distributed.initialize(f"localhost:{port}", processes, index, heartbeat_seconds=10)
    main(pathlib.Path(sys.argv[1]), steps, *die_at or [-1])
