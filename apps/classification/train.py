"""The wiring of a run: where it starts, what it measures, the loop. Meant to be edited."""

import contextlib
import dataclasses
import pathlib
from typing import Any

from rich.console import Console

from scenax.common import config as config_lib
from scenax.train import crashes, loop, profiling, state, step, workdir, writers
from scenax.train.checkpoints import Checkpoint, CheckpointError, Checkpoints
from scenax.train.evaluate import Evaluator, evaluate
from scenax.train.progress import Progress

from . import pretrained
from .config import Config
from .evaluators import make_evaluators
from .task import Task, make_task

BEST_NAME = "best"


@dataclasses.dataclass(frozen=True)
class Run(Task):
    """A task in a folder: ready to train or to evaluate."""

    evaluators: list[Evaluator]
    checkpoints: Checkpoints
    best: loop.KeepBest | None
    start: Checkpoint
    """The newest checkpoint, or the beginning."""


def make_run(config: Config, folder: pathlib.Path, data_dir: str | None) -> Run:
    """Returns the run in ``folder``, at its newest checkpoint if it has one.

    What a user can get wrong in a configuration shows here, before anything in ``folder`` changes.
    """
    task = make_task(config, data_dir)
    evaluators = make_evaluators(task)
    if config.selection is not None:
        config.selection.every({evaluator.name: evaluator.every for evaluator in evaluators})
    checkpoints = Checkpoints(
        folder / workdir.CHECKPOINTS_NAME,
        keep=config.keep_checkpoints,
        tolerated_failures=config.tolerated_save_failures,
    )
    start = checkpoints.restore_latest(like=task.abstract_state) or _beginning(task)
    return _run(task, evaluators, checkpoints, _keep_best(config, folder), start)


def read_run(config: Config, folder: pathlib.Path, data_dir: str | None) -> Run:
    """Returns the run in ``folder`` at its best checkpoint, or the newest if it selects none.

    Nothing in ``folder`` changes, so it may be under way meanwhile.

    Raises:
      CheckpointError: if there is no checkpoint yet.
    """
    task = make_task(config, data_dir)
    name = workdir.CHECKPOINTS_NAME if config.selection is None else BEST_NAME
    checkpoints = Checkpoints(folder / name, read_only=True)
    start = checkpoints.restore_latest(like=task.abstract_state)
    if start is None:
        raise CheckpointError(f"{folder} has no checkpoint yet.")
    return _run(task, [], checkpoints, None, start)


def train(
    run: Run, folder: pathlib.Path, console: Console, *, profile_steps: range = range(0)
) -> tuple[Checkpoint, dict[str, float]]:
    """Trains in ``folder`` from where the run stands.

    Args:
      run: from ``make_run``.
      folder: where all goes.
      console: what the user sees.
      profile_steps: steps of which a trace is written into ``folder``.

    Returns:
      Where it ended, or was best if the run selects, and the metrics of the test split there.
    """
    first = int(run.start.state.step)
    if first:
        console.print(f"Continuing from the checkpoint of step {first}.", highlight=False)
    plain = config_lib.to_dict(run.config)
    writer = writers.make_writer(run.config.writers, folder, resume_step=first, config=plain)
    with contextlib.closing(writer):
        with (
            Progress(console, run.cadence.total_steps, start=first, unit="images") as progress,
            profiling.profiled(
                run.train_step(), profile_steps, folder / "tensorboard"
            ) as train_step,
            crashes.crash_report(folder, config=plain, step=lambda: progress.step),
        ):
            end = loop.fit(
                run.start,
                train_step=train_step,
                batches=run.dataset.train_iter,
                evaluators=run.evaluators,
                cadence=run.cadence,
                mesh=run.mesh,
                checkpoints=run.checkpoints,
                writer=writer,
                progress=progress,
                keep_best=run.best,
            )
        run.checkpoints.close()
        if run.best is not None:
            end = run.best.checkpoints.restore_latest(like=run.abstract_state) or end
            run.best.checkpoints.close()
        test_step = step.make_eval_step(run.model, run.mesh, "test")
        metrics = evaluate(test_step, end.state, run.dataset.test_iter, run.mesh)
        writer.write(int(end.state.step), "test", metrics)
    return end, metrics


def _beginning(task: Task) -> Checkpoint:
    """The state at step 0: by chance, or of weights that there are already."""
    seed, position = task.config.seed, task.dataset.train_iter.get_state()
    if task.config.weights is None:
        first = state.create_state(
            task.model, task.optimizer, task.example, seed=seed, **task.placing
        )
    else:
        variables = pretrained.variables(task)
        first = state.state_of(variables, task.optimizer, seed=seed, **task.placing)
    return Checkpoint(first, position, seconds=0.0)


def _keep_best(config: Config, folder: pathlib.Path) -> loop.KeepBest | None:
    if config.selection is None:
        return None
    return loop.KeepBest(config.selection, Checkpoints(folder / BEST_NAME, keep=1))


def _run(task: Task, *where: Any) -> Run:
    return Run(*(getattr(task, field.name) for field in dataclasses.fields(task)), *where)
