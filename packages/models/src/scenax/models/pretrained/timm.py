"""From a timm state dict to Flax variables, and back.

Submodules here have timm's names, with ``_`` in front of a number where timm has a dot, so one
table of what an array is called and how its axes lie does for every family, in both directions.
Checked by the parity tests of each family, which load timm's arrays through it.
"""

import dataclasses
import fnmatch
import functools
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
    module: str = ""
    """What the name of its module has to match, if it matters."""


RULES = (
    # Scales that timm calls so. They are not a norm's, which are weights there.
    Rule("scale", 1, "params", "scale", (0,), r"(layer_scale|res_scale|act)\d*"),
    Rule("weight", 4, "params", "kernel", (2, 3, 1, 0)),  # out, in, h, w -> h, w, in, out
    Rule("weight", 3, "params", "kernel", (2, 1, 0)),  # out, in, w -> w, in, out
    Rule("weight", 2, "params", "kernel", (1, 0)),  # out, in -> in, out
    Rule("weight", 1, "params", "scale", (0,)),
    Rule("bias", 1, "params", "bias", (0,)),
    Rule("running_mean", 1, "batch_stats", "mean", (0,)),
    Rule("running_var", 1, "batch_stats", "var", (0,)),
)
"""An array that no rule names is a parameter of the same name, with its axes as they are."""

COUNTER = "num_batches_tracked"
"""Of torch's batch norms; it has no effect where momentum is a number, as in all of timm."""

IGNORED = (
    f"*{COUNTER}",
    # Swin Transformers' constants, which older files have.
    "*.attn_mask",
    "*.relative_position_index",
    "*.relative_coords_table",
    "*.k_bias",
    # A layer in front of the head of older ViTs, which timm leaves out too.
    "pre_logits.*",
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
    wanted = abstract_variables(model, input_shape)
    found = assign(state_dict, wanted, type(model).__name__, ignore=ignore)
    arrays = {}
    for path, (name, axes) in found.items():
        array = np.asarray(state_dict[name]).transpose(axes)
        arrays[path] = array.astype(wanted[path].dtype, copy=False)
    return traverse_util.unflatten_dict(arrays, sep="/")


def to_timm(variables: Mapping[str, Any], model: nn.Module) -> dict[str, np.ndarray]:
    """Returns a model's variables as a timm state dict, of contiguous numpy arrays.

    Batch norms get torch's counter of batches, which starts at zero and has no effect.

    Args:
      variables: as of ``model.init``.
      model: whose variables they are.

    Raises:
      ValueError: if variables do not fit the model, or could not be found again under timm's names;
        the message has them all.
    """
    leaves: dict[str, Any] = traverse_util.flatten_dict(dict(variables), sep="/")
    if (shape := input_shape_of(model)) is not None:
        _check_same(leaves, abstract_variables(model, shape), type(model).__name__)
    state, lost = {}, []
    for path, leaf in leaves.items():
        name, axes = name_of(path, np.ndim(leaf))
        if place_of(name, np.ndim(leaf))[0] != path or name in state:
            lost.append(path)
        state[name] = np.array(np.asarray(leaf).transpose(axes), order="C")
        if path.startswith("batch_stats/") and name.endswith("running_var"):
            state[name.removesuffix("running_var") + COUNTER] = np.zeros((), np.int64)
    if lost:
        raise ValueError(f"There are no names of timm's kind for {', '.join(sorted(lost))}.")
    return state


def place_of(name: str, ndim: int) -> tuple[str, tuple[int, ...]]:
    """Returns the path of an array that timm calls so, and in which order its axes come."""
    *modules, leaf = re.sub(r"\.(\d+)(?=\.)", r"_\1", name).split(".")
    for rule in RULES:
        if (rule.source, rule.ndim) == (leaf, ndim) and _is_in(rule, modules):
            return "/".join([rule.collection, *modules, rule.target]), rule.axes
    return "/".join(["params", *modules, leaf]), tuple(range(ndim))


def name_of(path: str, ndim: int) -> tuple[str, tuple[int, ...]]:
    """Returns timm's name of the array of a path, and in which order its axes come there."""
    collection, *modules, leaf = path.split("/")
    axes = tuple(range(ndim))
    for rule in RULES:
        if (rule.collection, rule.target, rule.ndim) == (collection, leaf, ndim) and _is_in(
            rule, modules
        ):
            leaf, axes = rule.source, tuple(map(int, np.argsort(rule.axes)))
            break
    return ".".join([*(re.sub(r"_(\d+)(?=_|$)", r".\1", each) for each in modules), leaf]), axes


def abstract_variables(model: nn.Module, input_shape: Sequence[int]) -> dict[str, Any]:
    """Returns shapes and dtypes of a model's variables by path, without arrays."""
    try:
        hash(model)
    except TypeError:  # A field is a list or an array: nothing to remember it by.
        return dict(_abstract.__wrapped__(model, tuple(input_shape)))
    return dict(_abstract(model, tuple(input_shape)))


@functools.lru_cache(maxsize=8)  # A large model takes seconds.
def _abstract(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, Any]:
    images = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    init = functools.partial(model.init, train=False)
    return traverse_util.flatten_dict(
        dict(jax.eval_shape(init, jax.random.key(0), images)), sep="/"
    )


def input_shape_of(model: nn.Module) -> tuple[int, ...] | None:
    """Returns height, width and channels of a model's images, or None if it does not say."""
    cfg = getattr(model, "default_cfg", None) or {}
    size = getattr(model, "img_size", None) or tuple(cfg.get("input_size") or ())[1:]
    channels = getattr(model, "in_chans", None)
    return (*size, channels) if size and channels else None


def assign(
    arrays: Mapping[str, Any],
    wanted: Mapping[str, Any],
    model: str,
    *,
    ignore: Sequence[str] = (),
    fresh: Sequence[str] = (),
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Returns for each path the name of its array and the order of its axes, all of them in place.

    Args:
      arrays: by timm's name; only their shapes matter.
      wanted: what there has to be, by path.
      model: what a message calls it.
      ignore: wildcards of timm's names that are no problem if they are left over.
      fresh: wildcards of timm's names that are no problem if they are missing.

    Raises:
      ValueError: if an array is missing, left over or of another shape; the message has them all.
    """
    found, problems = {}, []
    for name, array in arrays.items():
        if _matches(name, (*IGNORED, *ignore)):
            continue
        path, axes = place_of(name, len(array.shape))
        shape = tuple(array.shape[i] for i in axes)
        if path not in wanted:
            problems.append(f"left over: {name} {tuple(array.shape)}, which would be {path}")
        elif shape != wanted[path].shape:
            problems.append(f"shape: {name} gives {path} {shape}, not {wanted[path].shape}")
        found[path] = name, axes
    for path, leaf in wanted.items():
        if path not in found and not _matches(name_of(path, len(leaf.shape))[0], fresh):
            problems.append(f"missing: {path} {leaf.shape}")
    if problems:
        listed = "\n  ".join(sorted(problems))
        raise ValueError(
            f"These weights do not fit this {model}. Was it made with the same options?\n  {listed}"
        )
    return {path: found[path] for path in wanted if path in found}


def _check_same(leaves: Mapping[str, Any], wanted: Mapping[str, Any], model: str) -> None:
    got = {path: np.shape(leaf) for path, leaf in leaves.items()}
    want = {path: leaf.shape for path, leaf in wanted.items()}
    if got != want:
        problems = "\n  ".join(
            f"{path}: {got.get(path, 'absent')}, not {want.get(path, 'absent')}"
            for path in sorted(got.keys() | want.keys())
            if got.get(path) != want.get(path)
        )
        raise ValueError(f"These variables are not those of this {model}:\n  {problems}")


def _is_in(rule: Rule, modules: Sequence[str]) -> bool:
    return not rule.module or bool(modules and re.fullmatch(rule.module, modules[-1]))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
