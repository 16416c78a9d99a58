"""Learning rates as functions of the step."""

import optax

from scenax.common.registry import Registry

_SCHEDULES: Registry = Registry("schedule")


def make_schedule(name: str, learning_rate: float, total_steps: int, **options) -> optax.Schedule:
    """Returns the schedule ``name``: ``"constant"`` or ``"cosine"``.

    Args:
      name: which.
      learning_rate: its highest value.
      total_steps: the length of training.
      **options: the schedule's own, such as ``warmup_steps``.

    Raises:
      RegistryError: if there is no such schedule or option.
      ValueError: if the warm-up is longer than the training.
    """
    return _SCHEDULES.make(name, learning_rate, total_steps, **options)


@_SCHEDULES.register("constant")
def constant(learning_rate: float, total_steps: int, *, warmup_steps: int = 0) -> optax.Schedule:
    """Returns ``learning_rate`` after a linear warm-up from 0."""
    _check_warmup(warmup_steps, total_steps)
    return optax.schedules.warmup_constant_schedule(0.0, learning_rate, warmup_steps)


@_SCHEDULES.register("cosine")
def cosine(
    learning_rate: float, total_steps: int, *, warmup_steps: int = 0, final: float = 0.0
) -> optax.Schedule:
    """Returns half a cosine from ``learning_rate`` to ``final`` after a linear warm-up from 0.

    Source: Loshchilov and Hutter, SGDR, arXiv 1608.03983, without restarts.
    """
    _check_warmup(warmup_steps, total_steps)
    return optax.schedules.warmup_cosine_decay_schedule(
        0.0, learning_rate, warmup_steps, total_steps, final
    )


def _check_warmup(warmup_steps: int, total_steps: int) -> None:
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"warmup_steps must be at least 0 and below total_steps={total_steps}, "
            f"got {warmup_steps}."
        )
