"""Where arrays live: one mesh over all devices, and which of them holds what.

The mesh has two axes. Batches are split over ``"data"``. Parameters, and what an optimizer keeps
for them, are on every device, or split over ``"data"`` (fully sharded: ZeRO, arXiv 1910.02054), or
over ``"model"`` (tensor parallel: Megatron-LM, arXiv 1909.08053), or over both. Rules say which, by
path. The compiler adds the communication, so rules change memory and time and not what is computed.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from scenax.common import tree
from scenax.common.contracts import Batch, PyTree
from scenax.common.registry import did_you_mean

Rules: TypeAlias = Mapping[str, str | Sequence[str | None]]
"""From a regular expression, searched for in paths, to the mesh's axes of an array's dimensions.

The first that is found counts, and only for arrays of as many dimensions as it has axes. ``"fsdp"``
in place of axes is for arrays of any: their largest dimension that divides is split over
``"data"``, unless they are small. What no rule is for is whole on every device.
"""

Loss: TypeAlias = Callable[[PyTree], Any]

_SMALL = 2**14  # Elements: to gather less takes longer than it saves memory.

_OUT = r"(qkv|q|k|v|kv|fc1|fc1_g|fc1_x|w12)/kernel$"  # Each device has some heads, or hidden units,
_OUT_BIAS = r"(qkv|q|k|v|kv|fc1|fc1_g|fc1_x|w12)/bias$"
_IN = r"(attn\w*/proj|fc2|w3)/kernel$"  # and adds their part to the sum over all devices.

STRATEGIES: Mapping[str, Rules] = {
    "replicated": {},
    "fsdp": {"": "fsdp"},
    "tensor": {_OUT: (None, "model"), _OUT_BIAS: ("model",), _IN: ("model", None)},
    "fsdp+tensor": {
        _OUT: ("data", "model"),
        _OUT_BIAS: ("model",),
        _IN: ("model", "data"),
        "": "fsdp",
    },
}
"""Rules by name. Those of ``"tensor"`` are for transformers, in timm's names."""


def make_mesh(devices: Sequence[Any] | None = None, *, model: int = 1) -> Mesh:
    """Returns a mesh with the axes ``"data"`` and ``"model"`` over all of jax's devices.

    Args:
      devices: or these.
      model: the length of the axis ``"model"``; that of ``"data"`` is what remains.

    Raises:
      ValueError: if the devices of a host are not a multiple of ``model``.
    """
    devices = jax.devices() if devices is None else devices
    hosts = len({device.process_index for device in devices})
    if model < 1 or len(devices) % (model * hosts):
        raise ValueError(
            f"The mesh's axis 'model' lies within a host, so its length must divide the "
            f"{len(devices) // hosts} devices of each of the {hosts} host(s), got {model}."
        )
    return jax.make_mesh(
        (len(devices) // model, model),
        ("data", "model"),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=devices,
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array of which every device has a whole copy."""
    return NamedSharding(mesh, PartitionSpec())


def make_rules(strategy: str | Rules) -> Rules:
    """Returns the rules of a name in ``STRATEGIES``, or those that it is given.

    Raises:
      ValueError: if there is no such name.
    """
    if not isinstance(strategy, str):
        return strategy
    if strategy not in STRATEGIES:
        raise ValueError(f"There is no sharding {strategy!r}. {did_you_mean(strategy, STRATEGIES)}")
    return STRATEGIES[strategy]


def shardings(arrays: PyTree, mesh: Mesh, rules: Rules) -> PyTree:
    """Returns the sharding of every array by the rules, as a tree of the same structure.

    Args:
      arrays: or their shapes (``jax.ShapeDtypeStruct``).
      mesh: as of ``make_mesh``.
      rules: as of ``make_rules``.

    Raises:
      ValueError: if a rule is for no array, names an axis that the mesh lacks, or splits a
        dimension into parts that are not equal.
    """
    leaves = tree.flatten_with_paths(arrays)
    found = {path: _rule(path, leaf.ndim, rules) for path, leaf in leaves.items()}
    for pattern in rules:
        if pattern not in found.values():
            raise ValueError(
                f"The sharding rule {pattern!r} is for no array of the state. Its arrays begin "
                f"with {', '.join(sorted({'/'.join(path.split('/')[:2]) for path in leaves}))}."
            )
    specs = [
        PartitionSpec()
        if pattern is None
        else _spec(path, leaves[path].shape, mesh, rules[pattern])
        for path, pattern in found.items()
    ]
    placed = [NamedSharding(mesh, spec) for spec in specs]
    return jax.tree.structure(arrays).unflatten(placed)


def _rule(path: str, ndim: int, rules: Rules) -> str | None:
    for pattern, axes in rules.items():
        if (axes == "fsdp" or len(axes) == ndim) and re.search(pattern, path):
            return pattern
    return None


def _spec(
    path: str, shape: tuple[int, ...], mesh: Mesh, axes: str | Sequence[str | None]
) -> PartitionSpec:
    if axes == "fsdp":
        return _fully_sharded(shape, mesh.shape["data"])
    for size, axis in zip(shape, axes, strict=False):
        if axis is not None and axis not in mesh.shape:
            raise ValueError(f"The mesh has no axis {axis!r}. {did_you_mean(axis, mesh.shape)}")
        if axis is not None and size % mesh.shape[axis]:
            raise ValueError(
                f"{path} {shape} cannot be split by {tuple(axes)}: {size} is not a multiple of the "
                f"{mesh.shape[axis]} devices along {axis!r}."
            )
    return PartitionSpec(*axes)


def _fully_sharded(shape: tuple[int, ...], parts: int) -> PartitionSpec:
    dividing = [size for size in shape if size % parts == 0]
    if not dividing or math.prod(shape) < _SMALL:
        return PartitionSpec()
    at = shape.index(max(dividing))
    return PartitionSpec(*[None] * at, "data")


def gathering(
    stored: PyTree | None,
) -> tuple[Callable[[PyTree], PyTree], Callable[[Loss], Loss]]:
    """Returns what makes parameters whole along ``"data"`` where they are used.

    Left to itself, the compiler may split activations as the parameters are, and exchange those.

    Args:
      stored: the parameters' shardings; None if all of them are on every device.

    Returns:
      A function of the parameters, for the beginning of a loss; and one of that loss, to be called
      before it is differentiated, so that what was gathered is dropped after use and gathered again
      in the backward pass. Gradients come back as the parameters are stored.
    """
    placed = [] if stored is None else jax.tree.leaves(stored)
    if not any("data" in where.spec for where in placed):
        return lambda params: params, lambda loss: loss

    def gather(params: PyTree) -> PyTree:
        return jax.tree.map(_gathered, params, stored)

    return gather, lambda loss: jax.checkpoint(loss, policy=_all_but_gathered)


def _gathered(x: jax.Array, stored: NamedSharding) -> jax.Array:
    if "data" not in stored.spec:
        return x
    used = NamedSharding(
        stored.mesh, PartitionSpec(*(a if a != "data" else None for a in stored.spec))
    )

    @jax.custom_vjp
    def gathered(x: jax.Array) -> jax.Array:
        return jax.lax.with_sharding_constraint(x, used)

    def forward(x: jax.Array) -> tuple[jax.Array, None]:
        return gathered(x), None

    def backward(_: None, gradient: jax.Array) -> tuple[jax.Array]:
        return (jax.lax.with_sharding_constraint(gradient, stored),)

    gathered.defvjp(forward, backward)
    return gathered(x)


def _all_but_gathered(primitive: Any, *_: Any, **__: Any) -> bool:
    return primitive.name != "custom_vjp_call"


def put_batch(batch: Batch, mesh: Mesh) -> Batch:
    """Returns the global batch on the devices, its first axis split over the mesh's ``"data"``.

    Every host gives its own part. A part that does not divide among the host's devices is filled
    up with zeros, and so is its ``batch_mask``, so the filling counts for nothing.
    """
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    parts = mesh.local_mesh.shape["data"]

    def put(array: np.ndarray) -> jax.Array:
        missing = -len(array) % parts
        filled = np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1)) if missing else array
        return jax.make_array_from_process_local_data(sharding, filled)

    return jax.tree.map(put, dict(batch))


def on_this_host(arrays: PyTree) -> PyTree:
    """Returns arrays that every host can use by itself, whole; all hosts have to call it."""

    def whole(x: jax.Array) -> jax.Array:
        assert isinstance(x.sharding, NamedSharding) and isinstance(x.sharding.mesh, Mesh)
        return jax.device_put(x, replicated(x.sharding.mesh)).addressable_data(0)

    return arrays if jax.process_count() == 1 else jax.tree.map(whole, arrays)
