"""Optimizers by name, from optax: weight decay where it belongs, clipping, rates, freezing.

An optimizer is a chain: clipping, the rule of its paper with weight decay and the learning rate
(``update_rules``), and factors by parameter (``parameter_rates``). Clipping is checked against
timm's.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from scenax.common import tree
from scenax.common.contracts import PyTree
from scenax.common.registry import RegistryError, did_you_mean
from scenax.train import parameter_rates
from scenax.train.parameter_rates import NO_DECAY, decay_mask
from scenax.train.update_rules import ADAPTED, RULES, Common


def make_optimizer(  # noqa: PLR0913  (what recipes name)
    name: str,
    learning_rate: optax.ScalarOrSchedule,
    *,
    weight_decay: float = 0.0,
    independent_weight_decay: float = 0.0,
    no_decay: Sequence[str] = NO_DECAY,
    peak_learning_rate: float | None = None,
    clip_norm: float | None = None,
    adaptive_clip: float | None = None,
    frozen: Sequence[str] = (),
    rates: Mapping[str, float] | None = None,
    layer_decay: float | None = None,
    **options: Any,
) -> optax.GradientTransformation:
    """Returns the optimizer ``name``.

    That is ``"sgd"``, ``"adam"``, ``"adamw"``, ``"lamb"``, ``"lars"``, ``"lion"``, ``"muon"``,
    ``"rmsprop"``, ``"adafactor"`` or ``"adafactor_big_vision"``.

    Patterns are regular expressions that are searched for in a parameter's path, ``a/b/c``; one
    that is found in none is an error when the optimizer first sees the parameters.

    Args:
      name: which.
      learning_rate: a number or a function of the step.
      weight_decay: as the rule has it, whose function in ``update_rules`` says how. It is
        multiplied by the learning rate.
      independent_weight_decay: the share of a parameter that goes in a step at the peak of the
        learning rate, whatever that peak is; it follows the schedule (arXiv 1711.05101, as
        big_vision's ``wd``). It is another way to say the same thing, so one of the two is 0.
      no_decay: patterns of parameters without either, as in ``decay_mask``. Unlike others the
        default ones need not be found.
      peak_learning_rate: the highest value of a ``learning_rate`` that is a function, which
        ``independent_weight_decay`` needs.
      clip_norm: the largest global norm of the gradient, which is scaled down to it. Frozen
        parameters do not count.
      adaptive_clip: the largest norm of a unit's gradient, as a share of that of its weights
        (arXiv 2102.06171); not for the classifier (``HEAD``).
      frozen: patterns of parameters that stay as they are, and take no memory of the optimizer.
      rates: factors of the learning rate by pattern; the first that is found counts. Weight decay
        shrinks alike.
      layer_decay: the learning rate of a block is this factor times that of the next one; what
        comes after the blocks has the whole (``layer_rates``).
      **options: the optimizer's own.

    Raises:
      RegistryError: if there is no such optimizer or option.
      ValueError: if options exclude one another or have no effect; when it first sees the
        parameters, if weight decay applies to none of them, or all are frozen.
    """
    _check_options(name, options)
    decay = _strength(weight_decay, independent_weight_decay)
    if tuple(no_decay) != NO_DECAY and not decay and name not in ADAPTED:
        raise ValueError("no_decay says what has no weight decay, and there is none. Set it too.")
    mask = _mask(decay, no_decay)
    common = Common(
        optax.add_decayed_weights(weight_decay, mask) if weight_decay else optax.identity(),
        optax.scale_by_learning_rate(learning_rate),
        mask,
    )
    steps = [*_clipping(clip_norm, adaptive_clip), RULES.make(name, common, **options)]
    if independent_weight_decay:
        peak = learning_rate if peak_learning_rate is None else peak_learning_rate
        steps.append(_independent_decay(independent_weight_decay, learning_rate, peak, mask))
    if rates or layer_decay is not None:
        steps.append(parameter_rates.scale_by_path(rates or {}, layer_decay))
    optimizer = optax.chain(*steps)
    if not frozen:
        return optimizer

    def labels(params: PyTree) -> PyTree:
        is_frozen = parameter_rates.found("frozen", params, frozen)
        if all(jax.tree.leaves(is_frozen)):
            raise ValueError(f"frozen={list(frozen)} leaves no parameter to train.")
        return jax.tree.map(lambda stays: "frozen" if stays else "trained", is_frozen)

    return optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raises a RegistryError for an option of no one's, with the closest of all that there are."""
    own, common = (
        [p.name for p in inspect.signature(made).parameters.values() if p.kind is p.KEYWORD_ONLY]
        for made in (RULES.get(name), make_optimizer)
    )
    for option in options:
        if option not in own:
            raise RegistryError(
                f"The optimizer {name!r} has no option {option!r}. "
                f"{did_you_mean(option, [*own, *common])}"
            )


def _strength(weight_decay: float, independent_weight_decay: float) -> float:
    """Whichever of the two is given."""
    if weight_decay and independent_weight_decay:
        raise ValueError(
            "Give one of weight_decay and independent_weight_decay, "
            f"got {weight_decay} and {independent_weight_decay}."
        )
    decay = weight_decay or independent_weight_decay
    if decay < 0:
        raise ValueError(f"Weight decay must be at least 0, got {decay}.")
    return decay


def _mask(decay: float, no_decay: Sequence[str]) -> Callable[[PyTree], PyTree]:
    """``decay_mask``, after a look at whether each part of ``no_decay``, and ``decay``, matters."""

    def mask(params: PyTree) -> PyTree:
        if tuple(no_decay) != NO_DECAY:
            parameter_rates.check_found("no_decay", tree.flatten_with_paths(params), no_decay)
        decays = decay_mask(params, no_decay)
        if decay and not any(jax.tree.leaves(decays)):
            raise ValueError(
                f"Weight decay of {decay} applies to no parameter that is trained: all of them "
                "have fewer than two dimensions or are in no_decay. Leave it out."
            )
        return decays

    return mask


def _clipping(
    clip_norm: float | None, adaptive_clip: float | None
) -> list[optax.GradientTransformation]:
    for name, value in (("clip_norm", clip_norm), ("adaptive_clip", adaptive_clip)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}. Leave it out for none.")
    if clip_norm is not None and adaptive_clip is not None:
        raise ValueError(
            f"Give one of clip_norm and adaptive_clip, got {clip_norm} and {adaptive_clip}."
        )
    if clip_norm is not None:
        return [optax.clip_by_global_norm(clip_norm)]
    if adaptive_clip is not None:
        clip = optax.adaptive_grad_clip(adaptive_clip)
        return [optax.masked(clip, parameter_rates.outside_head)]
    return []


def _independent_decay(
    share: float,
    learning_rate: optax.ScalarOrSchedule,
    peak: optax.ScalarOrSchedule,
    mask: Callable[[PyTree], PyTree],
) -> optax.GradientTransformation:
    """Takes ``share`` of the parameters away, times the learning rate relative to its peak."""
    if callable(peak):
        raise ValueError(
            "independent_weight_decay is relative to the highest learning rate, which of a "
            "function is not known: give peak_learning_rate."
        )

    def init(params: PyTree) -> optax.ScaleByScheduleState:
        mask(params)  # What is wrong with it is an error now.
        return optax.ScaleByScheduleState(count=jnp.zeros((), jnp.int32))

    def update(updates: PyTree, state: Any, params: PyTree | None = None) -> tuple[PyTree, Any]:
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
        factor = share * rate / peak
        decayed = jax.tree.map(
            lambda u, p, decays: u - (factor * p).astype(u.dtype) if decays else u,
            updates,
            params,
            mask(params),
        )
        return decayed, optax.ScaleByScheduleState(count=optax.safe_increment(state.count))

    return optax.GradientTransformation(init, update)
