"""Optimizers by name, from optax, with weight decay only where it belongs."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import optax

from scenax.common import tree
from scenax.common.contracts import PyTree
from scenax.common.registry import Registry

NO_DECAY = ("pos_embed", "cls_token", "reg_token", "dist_token")
"""Parameters of more than one dimension that timm leaves without weight decay too."""

_OPTIMIZERS: Registry = Registry("optimizer")


def make_optimizer(
    name: str,
    learning_rate: optax.ScalarOrSchedule,
    *,
    clip_norm: float | None = None,
    **options: Any,
) -> optax.GradientTransformation:
    """Returns the optimizer ``name``: ``"adamw"`` or ``"sgd"``.

    Args:
      name: which.
      learning_rate: a number or a function of the step.
      clip_norm: the largest global norm of the gradient, which is scaled down to it.
      **options: the optimizer's own.

    Raises:
      RegistryError: if there is no such optimizer or option.
    """
    optimizer = _OPTIMIZERS.make(name, learning_rate, **options)
    if clip_norm is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)


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
