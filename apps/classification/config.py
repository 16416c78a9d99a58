"""Every option of a classification run, with its type and default."""

import dataclasses
from typing import Any

from scenax.common.config import schema


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
    label_smoothing: float = 0.0


@schema
class OptimizerChoice:
    """An optimizer of ``scenax.train.optimizers``, and the highest learning rate.

    ``args`` are those of ``make_optimizer``: the optimizer's own, and for fine-tuning
    ``layer_decay``, ``frozen`` and ``rates``.
    """

    name: str
    learning_rate: float
    clip_norm: float | None = None
    args: dict[str, Any] = dataclasses.field(default_factory=dict)


@schema
class Config:
    """A run."""

    dataset: Choice
    model: ModelChoice
    optimizer: OptimizerChoice
    schedule: Choice
    batch_size: int
    """Examples per step, over all devices and hosts together."""
    total_steps: int
    evaluate_every: int
    """Steps between evaluations on the validation split."""
    save_every: int
    """Steps between checkpoints."""
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
    eval_batch_size: int = 256
    keep_checkpoints: int = 3
    seed: int = 0
    """Decides parameters, order of the data and all noise."""
