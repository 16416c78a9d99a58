"""Learning rates as functions of the step.

Plain ones by name, each after a linear warm-up from 0, and ``compound``, the products of factors
that Scenic's configurations name (arXiv 2110.11403). Checked against the formulas in numpy, and
against what timm's, torch's and Scenic's own code gives.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from scenax.common.registry import Registry, RegistryError, did_you_mean

_SCHEDULES: Registry = Registry("schedule")
_FACTORS: Registry = Registry("factor")


def make_schedule(name: str, learning_rate: float, total_steps: int, **options) -> optax.Schedule:
    """Returns the schedule ``name``.

    That is ``"constant"``, ``"cosine"``, ``"linear"``, ``"polynomial"``, ``"rsqrt"``, ``"step"`` or
    ``"compound"``.

    Args:
      name: which.
      learning_rate: its highest value.
      total_steps: the length of training.
      **options: the schedule's own, such as ``warmup_steps``; ``in_steps`` makes them of epochs.

    Raises:
      RegistryError: if there is no such schedule or option.
      ValueError: if an option is missing or out of its range.
    """
    warmup_steps = options.get("warmup_steps", 0)
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"warmup_steps must be at least 0 and below total_steps={total_steps}, "
            f"got {warmup_steps}."
        )
    return _SCHEDULES.make(name, learning_rate, total_steps, **options)


def in_steps(options: Mapping[str, Any], *, batch_size: int, num_examples: int) -> dict[str, Any]:
    """Returns options with their durations in steps: for ``warmup_epochs`` ``warmup_steps``.

    So for ``warmup_examples``, and for every other name that ends in one of the two. Values are
    numbers or sequences of them; they become the nearest whole steps, and 1 at least unless 0.

    >>> in_steps({"warmup_epochs": 5, "final": 0.0}, batch_size=100, num_examples=1000)
    {'warmup_steps': 50, 'final': 0.0}

    Args:
      options: of a schedule, or the length of a training.
      batch_size: examples of a step.
      num_examples: examples of an epoch.

    Raises:
      ValueError: if a duration is given in two ways, or is not a number.
    """
    examples = {"epochs": num_examples, "examples": 1}
    converted: dict[str, Any] = {}
    names: dict[str, str] = {}
    for name, value in options.items():
        stem, _, unit = name.rpartition("_")
        steps_name = f"{stem}_steps" if unit in examples else name
        if steps_name in converted:
            raise ValueError(
                f"{names[steps_name]} and {name} say the same thing; give one of them."
            )
        names[steps_name] = name
        if unit in examples:
            per_unit = examples[unit] / batch_size
            if isinstance(value, list | tuple):
                value = [_nearest_steps(name, each, per_unit) for each in value]
            else:
                value = _nearest_steps(name, value, per_unit)
        converted[steps_name] = value
    return converted


def _nearest_steps(name: str, value: Any, steps_per_unit: float) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number, or a list of them, got {value!r}.")
    return max(1, round(value * steps_per_unit)) if value > 0 else round(value * steps_per_unit)


@_SCHEDULES.register("constant")
def constant(learning_rate: float, total_steps: int, *, warmup_steps: int = 0) -> optax.Schedule:
    """Returns ``learning_rate`` after a linear warm-up from 0."""
    return _warmed_up(lambda step: jnp.float32(learning_rate), learning_rate, warmup_steps)


@_SCHEDULES.register("cosine")
def cosine(
    learning_rate: float, total_steps: int, *, warmup_steps: int = 0, final: float = 0.0
) -> optax.Schedule:
    """Returns half a cosine from ``learning_rate`` to ``final`` after a linear warm-up from 0.

    Source: Loshchilov and Hutter, SGDR, arXiv 1608.03983, without restarts.
    """
    decay_steps = total_steps - warmup_steps

    def decay(step: jax.Array) -> jax.Array:
        progress = jnp.clip(step / decay_steps, 0.0, 1.0)
        return final + (learning_rate - final) * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))

    return _warmed_up(decay, learning_rate, warmup_steps)


@_SCHEDULES.register("linear")
def linear(
    learning_rate: float, total_steps: int, *, warmup_steps: int = 0, final: float = 0.0
) -> optax.Schedule:
    """Returns a straight line from ``learning_rate`` to ``final`` after a linear warm-up from 0."""
    return polynomial(learning_rate, total_steps, power=1.0, warmup_steps=warmup_steps, final=final)


@_SCHEDULES.register("polynomial")
def polynomial(
    learning_rate: float,
    total_steps: int,
    *,
    power: float = 2.0,
    warmup_steps: int = 0,
    final: float = 0.0,
) -> optax.Schedule:
    """Returns ``(1 - progress) ** power`` of the way from ``final`` back to ``learning_rate``.

    After a linear warm-up from 0.

    Raises:
      ValueError: if ``power`` is not above 0.
    """
    if not power > 0:
        raise ValueError(f"power must be above 0, got {power}.")
    decay_steps = total_steps - warmup_steps

    def decay(step: jax.Array) -> jax.Array:
        left = jnp.clip(1.0 - step / decay_steps, 0.0, 1.0)
        return final + (learning_rate - final) * left**power

    return _warmed_up(decay, learning_rate, warmup_steps)


@_SCHEDULES.register("rsqrt")
def rsqrt(
    learning_rate: float,
    total_steps: int,
    *,
    warmup_steps: int = 0,
    timescale_steps: int = 10_000,
    cooldown_steps: int = 0,
) -> optax.Schedule:
    """Returns the inverse square root of the step, after a linear warm-up from 0.

    s steps after the warm-up it is ``learning_rate / sqrt(1 + s / timescale_steps)``; in the last
    ``cooldown_steps`` it is multiplied by what falls linearly from 1 to 0. Until then it does not
    depend on the length of training. Source: Zhai et al., Scaling vision transformers, arXiv
    2106.04560.

    Raises:
      ValueError: if ``timescale_steps`` is not above 0, or warm-up and cool-down do not fit in.
    """
    if not timescale_steps > 0:
        raise ValueError(f"timescale_steps must be above 0, got {timescale_steps}.")
    if not 0 <= cooldown_steps <= total_steps - warmup_steps:
        raise ValueError(
            f"cooldown_steps must be at least 0 and at most total_steps - warmup_steps = "
            f"{total_steps - warmup_steps}, got {cooldown_steps}."
        )

    def decay(step: jax.Array) -> jax.Array:
        left = jnp.maximum(total_steps - warmup_steps - step, 0.0)
        cooled = jnp.minimum(left / cooldown_steps, 1.0) if cooldown_steps else 1.0
        return learning_rate * cooled / jnp.sqrt(1.0 + step / timescale_steps)

    return _warmed_up(decay, learning_rate, warmup_steps)


@_SCHEDULES.register("step")
def step(
    learning_rate: float,
    total_steps: int,
    *,
    every_steps: int | None = None,
    boundary_steps: Sequence[int] | None = None,
    factor: float = 0.1,
    warmup_steps: int = 0,
) -> optax.Schedule:
    """Returns ``learning_rate`` times ``factor`` to the power of how often it has fallen.

    It falls every ``every_steps``, or at each of ``boundary_steps``, both counted from the first
    step, of which ``warmup_steps`` belong to a linear warm-up from 0.

    Raises:
      ValueError: if not exactly one of the two is given, or it is out of range.
    """
    if (every_steps is None) == (boundary_steps is None):
        raise ValueError(
            f"step needs every_steps or boundary_steps, got {every_steps} and {boundary_steps}."
        )
    times = boundary_steps
    if every_steps is not None:
        if every_steps < 1:
            raise ValueError(f"every_steps must be at least 1, got {every_steps}.")
        times = range(every_steps, total_steps, every_steps)
    assert times is not None
    if list(times) != sorted(set(times)) or any(not 0 < at < total_steps for at in times):
        raise ValueError(
            f"boundary_steps must rise between 0 and total_steps={total_steps}, got {list(times)}."
        )
    boundaries = jnp.asarray(times, jnp.int32)

    def decay(steps_since_warmup: jax.Array) -> jax.Array:
        fallen = jnp.sum(boundaries <= steps_since_warmup + warmup_steps)
        return learning_rate * jnp.float32(factor) ** fallen

    return _warmed_up(decay, learning_rate, warmup_steps)


def _warmed_up(
    decay: Callable[[jax.Array], jax.Array], learning_rate: float, warmup_steps: int
) -> optax.Schedule:
    """A line from 0 to ``learning_rate``, then ``decay``, which counts from its end."""

    def rate(count: Any) -> jax.Array:
        since = jnp.maximum(jnp.asarray(count) - warmup_steps, 0)
        rising = learning_rate * count / max(1, warmup_steps)
        return jnp.where(jnp.asarray(count) < warmup_steps, rising, decay(since))

    return rate


@_SCHEDULES.register("compound")
def compound(
    learning_rate: float, total_steps: int, *, factors: str, **options: Any
) -> optax.Schedule:
    """Returns a product such as ``"constant * linear_warmup * cosine_decay"``, as Scenic has it.

    Factors, their options and their values are those of Scenic's ``lr_schedules``; of its options,
    ``base_learning_rate`` and ``total_steps`` are the arguments here.

    Args:
      learning_rate: the value of ``constant``.
      total_steps: the length of training.
      factors: names with ``*`` between them, applied in their order.
      **options: of the factors; those of one name are the same for all.

    Raises:
      RegistryError: if there is no such factor, or none that has such an option.
      ValueError: if an option is missing or out of its range.
    """
    names = [name.strip() for name in factors.split("*")]
    taken = {name: inspect.signature(_FACTORS.get(name)).parameters for name in names}
    ours = {"ratio", "count", "base_learning_rate", "total_steps"}
    known = {option for parameters in taken.values() for option in parameters} - ours
    for option in options:
        if option not in known:
            raise RegistryError(
                f"None of the factors {factors!r} has an option {option!r}. "
                f"{did_you_mean(option, known)}"
            )
    given = {"base_learning_rate": learning_rate, "total_steps": total_steps, **options}
    for name, parameters in taken.items():
        for parameter in parameters.values():
            if (
                parameter.kind is parameter.KEYWORD_ONLY
                and parameter.default is parameter.empty
                and parameter.name not in given
            ):
                raise ValueError(f"The factor {name!r} needs the option {parameter.name!r}.")
    own = [{o: given[o] for o in taken[name] if o in given} for name in names]

    def rate(count: Any) -> jax.Array:
        ratio = jnp.float32(1.0)
        for name, its in zip(names, own, strict=True):
            ratio = _FACTORS.get(name)(ratio, count, **its)
        return jnp.asarray(ratio, jnp.float32)

    rate(0)  # What is out of its range is an error now.
    return rate


@_FACTORS.register("constant")
def _constant(ratio: jax.Array, count: Any, *, base_learning_rate: float) -> jax.Array:
    return ratio * base_learning_rate


@_FACTORS.register("polynomial")
def _polynomial(
    ratio: jax.Array, count: Any, *, decay_steps: int, end_factor: float, power: float
) -> jax.Array:
    left = jnp.maximum(1 - count / decay_steps, 0.0)
    return ratio * ((1 - end_factor) * left**power + end_factor)


@_FACTORS.register("piecewise_constant")
def _piecewise_constant(
    ratio: jax.Array, count: Any, *, decay_events: Sequence[int], decay_factors: Sequence[float]
) -> jax.Array:
    """After the step of an event its factor, which is of the initial value, not of the last."""
    _check_events(decay_events, decay_factors)
    passed = jnp.sum(jnp.asarray(decay_events) < count)
    return ratio * jnp.asarray([1.0, *decay_factors])[passed]


@_FACTORS.register("piecewise_linear")
def _piecewise_linear(
    ratio: jax.Array, count: Any, *, decay_events: Sequence[int], decay_factors: Sequence[float]
) -> jax.Array:
    _check_events(decay_events, decay_factors)
    events, values = jnp.asarray([0.0, *decay_events]), jnp.asarray([1.0, *decay_factors])
    return ratio * jnp.interp(jnp.asarray(count, jnp.float32), events, values)


@_FACTORS.register("linear_warmup")
def _linear_warmup(
    ratio: jax.Array, count: Any, *, warmup_steps: int, warmup_alpha: float = 0.0
) -> jax.Array:
    if warmup_steps <= 0:
        return ratio
    return ratio * jnp.minimum(1.0, warmup_alpha + count * (1 - warmup_alpha) / warmup_steps)


@_FACTORS.register("rsqrt_decay")
def _rsqrt_decay(
    ratio: jax.Array, count: Any, *, warmup_steps: int = 0, timescale: float = 10_000
) -> jax.Array:
    since = jnp.maximum(count - warmup_steps, 0.0)
    return ratio / jnp.sqrt(1 + since / timescale)


@_FACTORS.register("decay_every")
def _decay_every(
    ratio: jax.Array, count: Any, *, steps_per_decay: int, decay_factor: float
) -> jax.Array:
    return ratio * jnp.float32(decay_factor) ** (count // steps_per_decay)


@_FACTORS.register("exponential_decay")
def _exponential_decay(
    ratio: jax.Array, count: Any, *, decay_steps: int, decay_rate: float, staircase: bool = False
) -> jax.Array:
    progress = count / decay_steps
    return ratio * jnp.float32(decay_rate) ** (jnp.floor(progress) if staircase else progress)


@_FACTORS.register("cosine_decay")
def _cosine_decay(  # noqa: PLR0913  (Scenic's options)
    ratio: jax.Array,
    count: Any,
    *,
    total_steps: int,
    steps_per_cycle: int,
    warmup_steps: int = 0,
    start_decay_step: int = 0,
    t_mul: float = 1.0,
    m_mul: float = 1.0,
    alpha: float = 0.0,
) -> jax.Array:
    """Cosines one after the other, each ``t_mul`` times as long and ``m_mul`` times as high.

    The warm-up is taken off the cycles, from each its share.
    """
    length = steps_per_cycle - int(warmup_steps * steps_per_cycle / total_steps)
    if length <= 0:
        return ratio
    progress = jnp.maximum(0.0, count - (warmup_steps + start_decay_step)) / length
    if t_mul == 1:
        cycle = jnp.floor(progress)
        progress = progress - cycle
    else:
        # The cycles before this one have lengths that are a geometric series.
        cycle = jnp.floor(jnp.log(1 - progress * (1 - t_mul)) / jnp.log(jnp.float32(t_mul)))
        begun = (1 - jnp.float32(t_mul) ** cycle) / (1 - t_mul)
        progress = (progress - begun) / jnp.float32(t_mul) ** cycle
    height = jnp.float32(m_mul) ** cycle
    cosine = jnp.maximum(0.0, 0.5 * height * (1 + jnp.cos(jnp.pi * (progress % 1.0))))
    return ratio * ((1 - alpha) * cosine + alpha)


@_FACTORS.register("linear_decay")
def _linear_decay(
    ratio: jax.Array,
    count: Any,
    *,
    total_steps: int,
    warmup_steps: int = 0,
    end_learning_rate: float = 0.0,
) -> jax.Array:
    progress = jnp.maximum(0.0, (count - warmup_steps) / (total_steps - warmup_steps))
    left = jnp.maximum(1 - progress, 0.0)
    return (ratio - end_learning_rate) * left + end_learning_rate


@_FACTORS.register("linear_cooldown")
def _linear_cooldown(
    ratio: jax.Array, count: Any, *, total_steps: int, cooldown_steps: int, warmup_steps: int = 0
) -> jax.Array:
    left = total_steps - jnp.maximum(count, warmup_steps)
    return ratio * jnp.minimum(1.0, left / cooldown_steps)


def _check_events(events: Sequence[int], factors: Sequence[float]) -> None:
    if len(events) != len(factors):
        raise ValueError(
            f"decay_events and decay_factors go together, got {len(events)} and {len(factors)}."
        )
