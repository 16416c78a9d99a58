"""What an optimizer does to some parameters and not to others: paths, decay, rates by layer.

A parameter's path is ``a/b/c``, and patterns are regular expressions that are searched for in it.
Layer-wise decay of the rate: Clark et al., arXiv 2003.10555, as timm and BEiT (arXiv 2106.08254)
have it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import optax

from scenax.common import tree
from scenax.common.contracts import PyTree

NO_DECAY = ("pos_embed", "cls_token", "reg_token", "dist_token")
"""Parameters of more than one dimension that timm leaves without weight decay too."""

STEM = (
    r"^(patch_embed|cls_token|pos_embed|reg_token|dist_token|norm_pre|stem|conv1|bn1|conv_stem)\b"
)
"""Parameters before the first block, in timm's names, as a regular expression."""

HEAD = r"^(head|head_dist|fc|classifier)\b"
"""The classifier, in timm's names, as a regular expression."""

_BLOCK = re.compile(r"(?:^|/)(?:blocks|layers|stages|layer)(\d*)_(\d+)")


def decay_mask(params: PyTree, no_decay: Sequence[str] = NO_DECAY) -> PyTree:
    """Returns True where weight decay applies.

    That is, not to arrays of fewer than two dimensions (biases and the scales of norms), and not
    to those in whose path a pattern of ``no_decay`` is found.
    """

    def decays(path: str, leaf: Any) -> bool:
        return leaf.ndim > 1 and not any(re.search(pattern, path) for pattern in no_decay)

    leaves, structure = jax.tree.flatten(params)
    paths = tree.flatten_with_paths(params)
    return structure.unflatten(map(decays, paths, leaves))


def outside_head(params: PyTree) -> PyTree:
    """Returns True for all parameters but those of the classifier, ``HEAD``."""
    paths = tree.flatten_with_paths(params)
    return jax.tree.structure(params).unflatten(not re.search(HEAD, path) for path in paths)


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
            f"are {_beginnings(paths)}."
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


def scale_by_path(
    rates: Mapping[str, float], layer_decay: float | None
) -> optax.GradientTransformation:
    """Returns what multiplies updates by factors that are functions of the parameters' paths.

    Args:
      rates: factors by pattern, of which the first that is found counts.
      layer_decay: as for ``layer_rates``, on top of that; None for none.

    Raises:
      ValueError: when it sees the parameters, if a pattern counts for none of them.
    """

    def factors(params: PyTree) -> PyTree:
        paths = tree.flatten_with_paths(params)
        check_found("rates", paths, list(rates))
        first = [next((p for p in rates if re.search(p, path)), None) for path in paths]
        for pattern in rates:
            if pattern not in first:
                raise ValueError(
                    f"rates: where {pattern!r} is found, an earlier pattern is too, and counts. "
                    "Put it first, or leave it out."
                )
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


def found(what: str, params: PyTree, patterns: Sequence[str]) -> PyTree:
    """Returns True for the parameters that a pattern is found in.

    Raises:
      ValueError: if one is found in none; the message begins with ``what``.
    """
    paths = tree.flatten_with_paths(params)
    check_found(what, paths, patterns)
    hits = [any(re.search(pattern, path) for pattern in patterns) for path in paths]
    return jax.tree.structure(params).unflatten(hits)


def check_found(what: str, paths: Mapping[str, Any], patterns: Sequence[str]) -> None:
    """Raises a ValueError that begins with ``what`` if a pattern is found in none of the paths."""
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in paths):
            raise ValueError(
                f"{what}: {pattern!r} is found in no parameter. They begin with "
                f"{_beginnings(paths)}."
            )


def _beginnings(paths: Mapping[str, Any]) -> str:
    return ", ".join(sorted({path.split("/")[0] for path in paths}))
