"""The training state: everything that a step changes."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Key

from scenax.common.contracts import Batch, Model, PyTree
from scenax.train import sharding

# What runs once takes longer to optimize than to compute: 30 s and 2 s for a small ResNet on a CPU.
_UNOPTIMIZED = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Parameters and what goes with them, as one pytree: of arrays, or of shapes or shardings."""

    step: Any
    """How many updates were made, an int32 scalar."""
    params: PyTree
    opt_state: PyTree
    model_state: PyTree
    """The model's variables other than its parameters, such as running statistics."""
    rng: Any
    """A key that never changes: the noise of step ``i`` is a function of this key and ``i``."""
    ema: PyTree = None
    """A moving average of the variables, if there is one: what is evaluated."""

    @property
    def variables(self) -> dict[str, PyTree]:
        """What ``Model.apply`` takes in training."""
        return {"params": self.params, **self.model_state}

    @property
    def eval_variables(self) -> dict[str, PyTree]:
        """What ``Model.apply`` takes in evaluation."""
        return self.variables if self.ema is None else self.ema


def create_state(
    model: Model,
    optimizer: optax.GradientTransformation,
    batch: Batch,
    *,
    seed: int,
    mesh: Mesh,
    rules: sharding.Rules | None = None,
    ema: bool = False,
) -> TrainState:
    """Returns the state at step 0, on the devices of the mesh.

    It is made where it stays: no device ever holds more than its part.

    Args:
      model: whose variables are made.
      optimizer: whose state is made.
      batch: of the training shape; only shapes and dtypes matter.
      seed: decides the parameters, and the noise of every step to come.
      mesh: the devices.
      rules: which of them hold what, by paths of the state (``params/blocks_0/attn/qkv/kernel``);
        every device has all of it if not given.
      ema: whether a moving average of the variables is kept.
    """
    init = _initializer(model, optimizer, batch, ema=ema)
    key = jax.random.key(seed)
    placed = sharding.shardings(jax.eval_shape(init, key), mesh, rules or {})
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    once = jax.jit(init, out_shardings=placed, compiler_options=_UNOPTIMIZED if on_cpu else None)
    return once(key)


def abstract_state(
    model: Model,
    optimizer: optax.GradientTransformation,
    batch: Batch,
    *,
    mesh: Mesh,
    rules: sharding.Rules | None = None,
    ema: bool = False,
) -> TrainState:
    """Returns what ``create_state`` would make: shapes, dtypes and shardings, and no numbers."""
    shapes = jax.eval_shape(_initializer(model, optimizer, batch, ema=ema), jax.random.key(0))
    placed = sharding.shardings(shapes, mesh, rules or {})
    return jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes, placed
    )


def state_of(
    variables: Mapping[str, PyTree],
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    mesh: Mesh,
    rules: sharding.Rules | None = None,
    ema: bool = False,
) -> TrainState:
    """Returns the state at step 0 of variables that there are already, such as published ones.

    Args:
      variables: as of ``Model.init``. They are copied: a training step uses up its state.
      optimizer: whose state is made.
      seed: decides the noise of every step to come, as in ``create_state``.
      mesh: the devices.
      rules: as for ``create_state``.
      ema: whether a moving average of the variables is kept.
    """

    def first(key: Key[Array, ""], variables: Mapping[str, PyTree]) -> TrainState:
        _, train_key = jax.random.split(key)
        return _first(jax.tree.map(jax.numpy.copy, variables), optimizer, train_key, ema=ema)

    key, given = jax.random.key(seed), dict(variables)
    placed = sharding.shardings(jax.eval_shape(first, key, given), mesh, rules or {})
    everywhere = {"params": placed.params, **placed.model_state}
    start = jax.jit(first, out_shardings=placed)
    return start(key, jax.device_put(given, everywhere))


def _initializer(
    model: Model, optimizer: optax.GradientTransformation, batch: Batch, *, ema: bool
) -> Callable[[Key[Array, ""]], TrainState]:
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), dict(batch))

    def init(key: Key[Array, ""]) -> TrainState:
        init_key, train_key = jax.random.split(key)
        zeros = jax.tree.map(lambda x: jax.numpy.zeros(x.shape, x.dtype), abstract)
        return _first(model.init(init_key, zeros), optimizer, train_key, ema=ema)

    return init


def _first(
    variables: Mapping[str, PyTree],
    optimizer: optax.GradientTransformation,
    key: Key[Array, ""],
    *,
    ema: bool,
) -> TrainState:
    model_state = dict(variables)
    params = model_state.pop("params")
    return TrainState(
        step=jax.numpy.zeros((), jax.numpy.int32),
        params=params,
        opt_state=optimizer.init(params),
        model_state=model_state,
        rng=key,
        ema=jax.tree.map(jax.numpy.copy, dict(variables)) if ema else None,
    )
