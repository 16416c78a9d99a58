"""What a configuration stands for: dataset, model, optimizer, mesh. Meant to be edited."""

import dataclasses
import functools
from typing import Any, cast

import jax
import numpy as np
import optax
from jax.sharding import Mesh

import scenax.data
from scenax.common import flops
from scenax.common.contracts import Batch, Dataset
from scenax.data.transforms import from_plain
from scenax.models import ClassificationModel
from scenax.train import hardware, loop, optimizers, schedules, sharding, state, step

from .config import Choice, Config, in_steps


@dataclasses.dataclass(frozen=True)
class Task:
    """All of a run but where it stands."""

    config: Config
    data_dir: str | None
    dataset: Dataset
    model: ClassificationModel
    schedule: optax.Schedule
    """The learning rate of a step."""
    optimizer: optax.GradientTransformation
    cadence: loop.Cadence
    mesh: Mesh
    example: Batch
    """A batch of this host."""

    @functools.cached_property
    def abstract_state(self) -> state.TrainState:
        """What a state looks like, and where it lies."""
        return state.abstract_state(self.model, self.optimizer, self.example, **self.placing)

    @property
    def placing(self) -> dict[str, Any]:
        """How a state is made of variables."""
        rules = sharding.make_rules(self.config.sharding)
        return {"mesh": self.mesh, "rules": rules, "ema": self.config.ema_decay is not None}

    def train_step(self) -> jax.stages.Wrapped:
        """Returns the update of a state."""
        mix = self.config.batch_transform
        return step.make_train_step(
            self.model,
            self.optimizer,
            self.mesh,
            state_sharding=jax.tree.map(lambda x: x.sharding, self.abstract_state),
            batch_transform=None if mix is None else cast(Any, from_plain([mix])[0]),
            ema_decay=self.config.ema_decay,
            microbatches=self.config.microbatches,
            sam_rho=self.config.sam_rho,
        )


def make_task(config: Config, data_dir: str | None) -> Task:
    """Returns what the configuration stands for, on all of jax's devices.

    Raises:
      ValueError: whatever a user can get wrong in a configuration.
    """
    mesh = sharding.make_mesh(model=config.model_parallel)
    parts = mesh.shape["data"] * config.microbatches
    if config.microbatches < 1 or config.batch_size % parts:
        raise ValueError(
            f"batch_size must be a multiple of {parts} ({mesh.shape['data']} devices x "
            f"{config.microbatches} microbatches), got {config.batch_size}."
        )
    dataset = make_dataset(config, data_dir)
    total_steps, schedule_args = in_steps(config, dataset.meta_data.num_examples["train"])
    model_config = {
        "architecture": config.model.name,
        "args": config.model.args,
        "loss": config.model.loss,
        "label_smoothing": config.model.label_smoothing,
        "target_threshold": config.model.target_threshold,
    }
    model = ClassificationModel(model_config, dataset.meta_data)
    schedule = schedules.make_schedule(
        config.schedule.name, config.optimizer.learning_rate, total_steps, **schedule_args
    )
    optimizer = optimizers.make_optimizer(
        config.optimizer.name,
        schedule,
        peak_learning_rate=config.optimizer.learning_rate,
        clip_norm=config.optimizer.clip_norm,
        **config.optimizer.args,
    )
    known_peak = hardware.peak_flops(mesh.devices.flat[0]) is not None
    cadence = loop.Cadence(
        total_steps=total_steps,
        log_every=config.log_every,
        save_every=config.save_every,
        examples_per_step=config.batch_size,
        flops_per_step=flops_per_step(model, config.batch_size) if known_peak else None,
    )
    example = next(dataset.train_iter)
    return Task(config, data_dir, dataset, model, schedule, optimizer, cadence, mesh, example)


def make_dataset(
    config: Config,
    data_dir: str | None,
    choice: Choice | None = None,
    *,
    host: int | None = None,
    hosts: int | None = None,
) -> Any:
    """Returns the run's dataset, or another one, of which this host reads its part.

    Or the part of ``host`` of so many ``hosts``.
    """
    choice = choice or config.dataset
    return scenax.data.get_dataset(
        choice.name,
        batch_size=config.batch_size,
        eval_batch_size=config.eval_batch_size,
        seed=config.seed,
        data_dir=data_dir,
        process_index=jax.process_index() if host is None else host,
        process_count=jax.process_count() if hosts is None else hosts,
        **choice.args,
    )


def flops_per_image(model: ClassificationModel) -> int:
    """Returns the FLOPs of one image, forward: 2 x multiply-adds."""
    shape = model.dataset_meta_data.input_shape
    example = {"inputs": np.zeros((1, *shape), np.float32)}
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), example))
    inputs = jax.ShapeDtypeStruct((1, *shape), "float32")
    return flops.count_flops(model.flax_model.apply, variables, inputs, train=False)


def flops_per_step(model: ClassificationModel, batch_size: int) -> float:
    """Returns what a model needs for one update: three times the forward pass, as is usual.

    That is of each example; what is computed anew to save memory does not count.
    """
    return 3.0 * batch_size * flops_per_image(model)
