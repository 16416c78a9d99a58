"""Every option of a classification run, with its type and default."""

import dataclasses
from typing import Any

from scenax.common.config import schema
from scenax.train import schedules
from scenax.train.selection import Selection


@schema
class Choice:
    """Something that is made by name, and the options it is made with."""

    name: str
    args: dict[str, Any] = dataclasses.field(default_factory=dict)


@schema
class ModelChoice:
    """An architecture, by its name in ``scenax.models``, and the loss on top of it."""

    name: str
    args: dict[str, Any] = dataclasses.field(default_factory=dict)
    loss: str = "softmax"
    """``"sigmoid"`` for binary cross-entropies, summed over the classes."""
    label_smoothing: float = 0.0
    target_threshold: float | None = None
    """The share of a class above which ``"sigmoid"`` takes it for a whole one."""


@schema
class OptimizerChoice:
    """An optimizer of ``scenax.train.optimizers``, and the highest learning rate.

    ``args`` are those of ``make_optimizer``: the optimizer's own, weight decay, clipping, and for
    fine-tuning ``layer_decay``, ``frozen`` and ``rates``.
    """

    name: str
    learning_rate: float
    clip_norm: float | None = None
    args: dict[str, Any] = dataclasses.field(default_factory=dict)


@schema
class EvaluatorChoice:
    """Something else to measure in training, besides the validation split."""

    every: int
    """Steps from one time to the next; it is measured at the end too."""
    split: str = "test"
    dataset: Choice | None = None
    """Another dataset with the same classes (a robustness set); the run's own if not given."""
    shots: list[int] = dataclasses.field(default_factory=list)
    """If there are any, what is measured is the accuracy of a linear classifier on the model's
    features, fitted to so many examples of each class of the dataset, and not the model's own."""


@schema
class Config:
    """A run."""

    dataset: Choice
    model: ModelChoice
    optimizer: OptimizerChoice
    schedule: Choice
    """A learning rate of ``scenax.train.schedules``. Options that end in ``_steps`` can be given in
    ``_epochs`` or ``_examples`` too: ``warmup_epochs``."""
    batch_size: int
    """Examples per step, over all devices and hosts together."""
    evaluate_every: int
    """Steps between evaluations on the validation split."""
    save_every: int
    """Steps between checkpoints."""
    total_steps: int | None = None
    total_epochs: float | None = None
    """How long to train: in steps, or in passes over the training split."""
    log_every: int = 50
    """Steps that are summed up in one record of the log."""
    weights: str | None = None
    """What parameters start from instead of from chance: a tag, file or folder, as for
    ``load_pretrained``. Images are normalized as these weights want, unless
    ``dataset.args.normalize`` says how."""
    fresh: list[str] = dataclasses.field(default_factory=list)
    """Wildcards of timm's names of what starts from chance in spite of ``weights``: ``head.*``. A
    head for another number of classes does so by itself."""
    batch_transform: dict[str, Any] | None = None
    """What changes training batches on the devices, such as mixup, written by ``to_plain``."""
    ema_decay: float | None = None
    """Of a moving average of the parameters, which is what is evaluated; None for none."""
    sam_rho: float | None = None
    """The radius of sharpness-aware minimization; None for none."""
    microbatches: int = 1
    """In how many parts a batch is computed, one after the other, in less memory."""
    model_parallel: int = 1
    """Over how many devices the mesh's axis ``model`` runs; the others split the batch."""
    sharding: str | dict[str, str | list[str | None]] = "replicated"
    """What each device holds of the state: ``replicated`` (all), ``fsdp``, ``tensor``,
    ``fsdp+tensor``, or rules as of ``scenax.train.sharding``."""
    eval_batch_size: int = 256
    evaluators: dict[str, EvaluatorChoice] = dataclasses.field(default_factory=dict)
    """More to measure, by the name that it has in the log."""
    selection: Selection | None = None
    """By what the best state is chosen, which is then tested; None to test the last one."""
    writers: list[str] = dataclasses.field(default_factory=list)
    """Services that measurements go to besides the folder: ``wandb``, ``mlflow``."""
    keep_checkpoints: int = 3
    tolerated_save_failures: int = 0
    """How many checkpoints in a row may fail to be written (a full disk) before the run stops."""
    seed: int = 0
    """Decides parameters, order of the data and all noise."""

    @property
    def length(self) -> dict[str, float]:
        """Whichever of ``total_steps`` and ``total_epochs`` is given, by its name.

        Raises:
          ValueError: if both are, or none is.
        """
        both = {"total_steps": self.total_steps, "total_epochs": self.total_epochs}
        given = {name: value for name, value in both.items() if value is not None}
        if len(given) != 1:
            came = " and ".join(f"{name}={value}" for name, value in both.items())
            raise ValueError(
                f"Give either total_steps or total_epochs, got {came}. The one of a config file is "
                "taken back by --config.total_epochs=None, for example."
            )
        return given


def in_steps(config: Config, num_examples: int) -> tuple[int, dict[str, Any]]:
    """Returns the length of training in steps, and the schedule's options with theirs in steps.

    Raises:
      ValueError: as ``Config.length`` and ``schedules.in_steps``.
    """
    length, args = (
        schedules.in_steps(options, batch_size=config.batch_size, num_examples=num_examples)
        for options in (config.length, config.schedule.args)
    )
    return length["total_steps"], args
