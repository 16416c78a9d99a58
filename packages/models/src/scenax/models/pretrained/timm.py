"""From a timm state dict to Flax variables.

Submodules here have timm's names, with ``_`` in front of a number where timm has a dot, so one
table of what an array is called and how its axes lie does for every family. Checked by the parity
tests of each family, which load timm's arrays through it.
"""

import dataclasses
import fnmatch
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util


@dataclasses.dataclass(frozen=True)
class Rule:
    """Where an array goes, by its last name and number of axes."""

    source: str
    ndim: int
    collection: str
    target: str
    axes: tuple[int, ...]


RULES = (
    Rule("weight", 4, "params", "kernel", (2, 3, 1, 0)),  # out, in, h, w -> h, w, in, out
    Rule("weight", 3, "params", "kernel", (2, 1, 0)),  # out, in, w -> w, in, out
    Rule("weight", 2, "params", "kernel", (1, 0)),  # out, in -> in, out
    Rule("weight", 1, "params", "scale", (0,)),
    Rule("bias", 1, "params", "bias", (0,)),
    Rule("running_mean", 1, "batch_stats", "mean", (0,)),
    Rule("running_var", 1, "batch_stats", "var", (0,)),
)
"""An array that no rule names is a parameter of the same name, with its axes as they are."""

IGNORED = (
    "*num_batches_tracked",
    # Swin Transformers' constants, which older files have.
    "*.attn_mask",
    "*.relative_position_index",
    "*.relative_coords_table",
    "*.k_bias",
)
"""Source names that Flax has no use for."""


def from_timm(
    state_dict: Mapping[str, np.ndarray],
    model: nn.Module,
    input_shape: Sequence[int],
    *,
    ignore: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns a model's variables with the arrays of a timm state dict, as numpy arrays.

    Args:
      state_dict: arrays by timm's name for them.
      model: made with the same options as timm's.
      input_shape: of one example, ``(h, w, c)``.
      ignore: wildcards of timm's names that the model leaves out, such as ``"head.*"``.

    Raises:
      ValueError: if an array is missing, left over or of another shape; the message has them all.
    """
    images = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    template = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    wanted: dict[str, Any] = traverse_util.flatten_dict(dict(template), sep="/")
    found: dict[str, np.ndarray] = {}
    problems = []
    for name, array in state_dict.items():
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in (*IGNORED, *ignore)):
            continue
        path, value = _convert(name, np.asarray(array))
        if path not in wanted:
            problems.append(f"left over: {name} {array.shape}, which would be {path}")
        elif value.shape != wanted[path].shape:
            problems.append(f"shape: {name} gives {path} {value.shape}, not {wanted[path].shape}")
        found[path] = value
    problems += [f"missing: {path} {wanted[path].shape}" for path in wanted if path not in found]
    if problems:
        listed = "\n  ".join(sorted(problems))
        raise ValueError(
            f"These weights do not fit this {type(model).__name__}. Was it made with the same "
            f"options?\n  {listed}"
        )
    return traverse_util.unflatten_dict(
        {path: found[path].astype(leaf.dtype, copy=False) for path, leaf in wanted.items()}, sep="/"
    )


def _convert(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    *modules, leaf = re.sub(r"\.(\d+)(?=\.)", r"_\1", name).split(".")
    for rule in RULES:
        if (rule.source, rule.ndim) == (leaf, array.ndim):
            return "/".join([rule.collection, *modules, rule.target]), array.transpose(rule.axes)
    return "/".join(["params", *modules, leaf]), array
