"""Optimizers by name, from optax: weight decay where it belongs, rates by parameter, freezing.

Layer-wise decay: Clark et al., arXiv 2003.10555, as timm and BEiT (arXiv 2106.08254) have it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import optax

from scenax.common import tree
from scenax.common.contracts import PyTree
from scenax.common.registry import Registry

NO_DECAY = ("pos_embed", "cls_token", "reg_token", "dist_token")
"""Parameters of more than one dimension that timm leaves without weight decay too."""

STEM = (
    r"^(patch_embed|cls_token|pos_embed|reg_token|dist_token|norm_pre|stem|conv1|bn1|conv_stem)\b"
)
"""Parameters before the first block, in timm's names, as a regular expression."""

_BLOCK = re.compile(r"(?:^|/)(?:blocks|layers|stages|layer)(\d*)_(\d+)")

_OPTIMIZERS: Registry = Registry("optimizer")


def make_optimizer(
    name: str,
    learning_rate: optax.ScalarOrSchedule,
    *,
    clip_norm: float | None = None,
    frozen: Sequence[str] = (),
    rates: Mapping[str, float] | None = None,
    layer_decay: float | None = None,
    **options: Any,
) -> optax.GradientTransformation:
    """Returns the optimizer ``name``: ``"adamw"`` or ``"sgd"``.

    Patterns are regular expressions that are searched for in a parameter's path, ``a/b/c``; one
    that is found in none is an error when the optimizer first sees the parameters.

    Args:
      name: which.
      learning_rate: a number or a function of the step.
      clip_norm: the largest global norm of the gradient, which is scaled down to it. Frozen
        parameters do not count.
      frozen: patterns of parameters that stay as they are, and take no memory of the optimizer.
      rates: factors of the learning rate by pattern; the first that is found counts. Weight decay
        shrinks alike.
      layer_decay: the learning rate of a block is this factor times that of the next one; what
        comes after the blocks has the whole (``layer_rates``).
      **options: the optimizer's own.

    Raises:
      RegistryError: if there is no such optimizer or option.
    """
    steps = [] if clip_norm is None else [optax.clip_by_global_norm(clip_norm)]
    steps.append(_OPTIMIZERS.make(name, learning_rate, **options))
    if rates is not None or layer_decay is not None:
        steps.append(_scale_by_path(rates or {}, layer_decay))
    optimizer = optax.chain(*steps) if len(steps) > 1 else steps[0]
    if not frozen:
        return optimizer
    return optax.partition(
        {"trained": optimizer, "frozen": optax.set_to_zero()},
        lambda params: jax.tree.map(
            lambda is_frozen: "frozen" if is_frozen else "trained",
            _found("frozen", params, frozen),
        ),
    )


@_OPTIMIZERS.register("adamw")
def adamw(
    learning_rate: optax.ScalarOrSchedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    weight_decay: float = 0.0,
    no_decay: Sequence[str] = NO_DECAY,
) -> optax.GradientTransformation:
    """Returns AdamW (arXiv 1711.05101); ``no_decay`` as in ``decay_mask``."""
    return optax.adamw(
        learning_rate, b1, b2, weight_decay=weight_decay, mask=lambda p: decay_mask(p, no_decay)
    )


@_OPTIMIZERS.register("sgd")
def sgd(
    learning_rate: optax.ScalarOrSchedule,
    *,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    no_decay: Sequence[str] = NO_DECAY,
) -> optax.GradientTransformation:
    """Returns SGD with momentum; weight decay is added to the gradient, as an L2 penalty is."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=lambda p: decay_mask(p, no_decay)),
        optax.sgd(learning_rate, momentum),
    )


def decay_mask(params: PyTree, no_decay: Sequence[str] = NO_DECAY) -> PyTree:
    """Returns True where weight decay applies.

    That is, not to arrays of fewer than two dimensions (biases and the scales of norms), and not
    to those whose path ``a/b/c`` a regular expression of ``no_decay`` is found in.
    """

    def decays(path: str, leaf: Any) -> bool:
        return leaf.ndim > 1 and not any(re.search(pattern, path) for pattern in no_decay)

    leaves, structure = jax.tree.flatten(params)
    paths = tree.flatten_with_paths(params)
    return structure.unflatten(map(decays, paths, leaves))


def layer_rates(params: PyTree, decay: float) -> PyTree:
    """Returns each parameter's factor of the learning rate in layer-wise decay.

    Blocks are numbered in their order, over all stages: of n blocks, block i (from 1) has
    ``decay ** (n + 1 - i)``, what comes before them (``STEM``) ``decay ** (n + 1)``, and what comes
    after them 1.

    Raises:
      ValueError: if no parameter is in a block.
    """
    paths = tree.flatten_with_paths(params)
    keys = {path: tuple(map(_numbers, _BLOCK.findall(path))) for path in paths}
    blocks = sorted({key for key in keys.values() if key})
    if not blocks:
        raise ValueError(
            "layer_decay needs parameters in blocks_0, layers_0/blocks_0 or the like, and there "
            f"are {', '.join(sorted({path.split('/')[0] for path in paths}))}."
        )
    numbers = {key: i for i, key in enumerate(blocks, start=1)}
    last = len(blocks) + 1

    def rate(path: str) -> float:
        layer = 0 if re.search(STEM, path) else numbers.get(keys[path], last)
        return decay ** (last - layer)

    return jax.tree.structure(params).unflatten(map(rate, paths))


def _numbers(found: tuple[str, str]) -> tuple[int, int]:
    stage, block = found
    return int(stage or 0), int(block)


def _scale_by_path(
    rates: Mapping[str, float], layer_decay: float | None
) -> optax.GradientTransformation:
    """Multiplies updates by factors that are functions of the parameters' paths."""

    def factors(params: PyTree) -> PyTree:
        paths = tree.flatten_with_paths(params)
        _check_found("rates", paths, list(rates))
        first = [next((p for p in rates if re.search(p, path)), None) for path in paths]
        own = [1.0 if pattern is None else rates[pattern] for pattern in first]
        if layer_decay is not None:
            layers = jax.tree.leaves(layer_rates(params, layer_decay))
            own = [factor * layer for factor, layer in zip(own, layers, strict=True)]
        return jax.tree.structure(params).unflatten(own)

    def update(updates: PyTree, state: Any, params: PyTree | None = None) -> tuple[PyTree, Any]:
        scaled = jax.tree.map(
            lambda u, f: u * jax.numpy.asarray(f, u.dtype), updates, factors(params)
        )
        return scaled, state

    def init(params: PyTree) -> optax.EmptyState:
        factors(params)  # A pattern that is found nowhere is an error now.
        return optax.EmptyState()

    return optax.GradientTransformation(init, update)


def _found(what: str, params: PyTree, patterns: Sequence[str]) -> PyTree:
    """True for the parameters that a pattern is found in."""
    paths = tree.flatten_with_paths(params)
    _check_found(what, paths, patterns)
    found = [any(re.search(pattern, path) for pattern in patterns) for path in paths]
    return jax.tree.structure(params).unflatten(found)


def _check_found(what: str, paths: Mapping[str, Any], patterns: Sequence[str]) -> None:
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in paths):
            raise ValueError(
                f"{what}: {pattern!r} is found in no parameter. They begin with "
                f"{', '.join(sorted({path.split('/')[0] for path in paths}))}."
            )
