"""The wiring of a run: dataset, model, optimizer, state, loop. Meant to be edited."""

import dataclasses
import pathlib
from typing import Any, cast

import jax
import optax
from jax.sharding import Mesh
from rich.console import Console

import scenax.data
from scenax.common.contracts import Dataset
from scenax.data.transforms import from_plain
from scenax.models import ClassificationModel
from scenax.train import loop, optimizers, schedules, sharding, state, step, workdir, writers
from scenax.train.checkpoints import Checkpoint, Checkpoints
from scenax.train.evaluate import evaluate
from scenax.train.progress import Progress

from . import pretrained
from .config import Config


@dataclasses.dataclass(frozen=True)
class Run:
    """What a configuration stands for, made: ready to train or to evaluate."""

    config: Config
    dataset: Dataset
    model: ClassificationModel
    optimizer: optax.GradientTransformation
    batch_transform: step.BatchTransform | None
    cadence: loop.Cadence
    mesh: Mesh
    checkpoints: Checkpoints
    start: Checkpoint
    """The newest checkpoint, or the beginning."""


def make_run(config: Config, folder: pathlib.Path, data_dir: str | None) -> Run:
    """Returns the run in ``folder``, at its newest checkpoint if it has one.

    What a user can get wrong in a configuration shows here, before anything in ``folder`` changes.
    """
    cadence = loop.Cadence(
        total_steps=config.total_steps,
        log_every=config.log_every,
        evaluate_every=config.evaluate_every,
        save_every=config.save_every,
        examples_per_step=config.batch_size,
    )
    mesh = sharding.data_mesh()
    if config.batch_size % mesh.size:
        raise ValueError(
            f"batch_size must be a multiple of the {mesh.size} devices, got {config.batch_size}."
        )
    dataset = scenax.data.get_dataset(
        config.dataset.name,
        batch_size=config.batch_size,
        eval_batch_size=config.eval_batch_size,
        seed=config.seed,
        data_dir=data_dir,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        **config.dataset.args,
    )
    model_config = {
        "architecture": config.model.name,
        "args": config.model.args,
        "label_smoothing": config.model.label_smoothing,
    }
    model = ClassificationModel(model_config, dataset.meta_data)
    schedule = schedules.make_schedule(
        config.schedule.name,
        config.optimizer.learning_rate,
        config.total_steps,
        **config.schedule.args,
    )
    optimizer = optimizers.make_optimizer(
        config.optimizer.name,
        schedule,
        clip_norm=config.optimizer.clip_norm,
        **config.optimizer.args,
    )
    mix = config.batch_transform
    batch_transform = None if mix is None else cast(step.BatchTransform, from_plain([mix])[0])
    example = next(dataset.train_iter)
    checkpoints = Checkpoints(folder / workdir.CHECKPOINTS_NAME, keep=config.keep_checkpoints)
    placing: Any = {"seed": config.seed, "mesh": mesh, "ema": config.ema_decay is not None}
    if config.weights is None or checkpoints.steps():
        start = state.create_state(model, optimizer, example, **placing)
    else:
        start = state.state_of(pretrained.variables(config, model, mesh), optimizer, **placing)
    restored = checkpoints.restore_latest(like=start)
    beginning = Checkpoint(start, dataset.train_iter.get_state(), seconds=0.0)
    return Run(
        config=config,
        dataset=dataset,
        model=model,
        optimizer=optimizer,
        batch_transform=batch_transform,
        cadence=cadence,
        mesh=mesh,
        checkpoints=checkpoints,
        start=restored or beginning,
    )


def train(run: Run, folder: pathlib.Path, console: Console) -> tuple[Checkpoint, dict[str, float]]:
    """Trains in ``folder`` from where the run stands.

    Returns:
      Where it ended, and the metrics of the test split.
    """
    first = int(run.start.state.step)
    writer = writers.MetricWriter(folder, resume_step=first)
    if first:
        console.print(f"Continuing from the checkpoint of step {first}.", highlight=False)

    valid_step = step.make_eval_step(run.model, run.mesh, "validation")
    with Progress(console, run.cadence.total_steps, start=first, unit="images") as progress:
        end = loop.fit(
            run.start,
            train_step=step.make_train_step(
                run.model,
                run.optimizer,
                run.mesh,
                batch_transform=run.batch_transform,
                ema_decay=run.config.ema_decay,
            ),
            batches=run.dataset.train_iter,
            evaluate=lambda s: evaluate(valid_step, s, run.dataset.valid_iter, run.mesh),
            cadence=run.cadence,
            mesh=run.mesh,
            checkpoints=run.checkpoints,
            writer=writer,
            progress=progress,
        )

    test_step = step.make_eval_step(run.model, run.mesh, "test")
    metrics = evaluate(test_step, end.state, run.dataset.test_iter, run.mesh)
    writer.write(int(end.state.step), "test", metrics)
    writer.close()
    run.checkpoints.close()
    return end, metrics
