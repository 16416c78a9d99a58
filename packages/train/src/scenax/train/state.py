"""The training state: everything that a step changes."""

import dataclasses
from collections.abc import Mapping

import jax
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int, Key

from scenax.common.contracts import Batch, Model, PyTree
from scenax.train import sharding


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Parameters and what goes with them, as one pytree."""

    step: Int[Array, ""]
    """How many updates were made."""
    params: PyTree
    opt_state: PyTree
    model_state: dict[str, PyTree]
    """The model's variables other than its parameters, such as running statistics."""
    rng: Key[Array, ""]
    """Never changes: the noise of step ``i`` is a function of this key and ``i``."""
    ema: dict[str, PyTree] | None = None
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
    ema: bool = False,
) -> TrainState:
    """Returns the state at step 0, on the devices of the mesh.

    Args:
      model: whose variables are made.
      optimizer: whose state is made.
      batch: of the training shape; only shapes and dtypes matter.
      seed: decides the parameters, and the noise of every step to come.
      mesh: the devices.
      ema: whether a moving average of the variables is kept.
    """
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), dict(batch))

    def init(key: Key[Array, ""]) -> TrainState:
        init_key, train_key = jax.random.split(key)
        zeros = jax.tree.map(lambda x: jax.numpy.zeros(x.shape, x.dtype), abstract)
        return _first(model.init(init_key, zeros), optimizer, train_key, ema=ema)

    return jax.jit(init, out_shardings=sharding.replicated(mesh))(jax.random.key(seed))


def state_of(
    variables: Mapping[str, PyTree],
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    mesh: Mesh,
    ema: bool = False,
) -> TrainState:
    """Returns the state at step 0 of variables that there are already, such as published ones.

    Args:
      variables: as of ``Model.init``. They are copied: a training step uses up its state.
      optimizer: whose state is made.
      seed: decides the noise of every step to come, as in ``create_state``.
      mesh: the devices.
      ema: whether a moving average of the variables is kept.
    """

    def first(key: Key[Array, ""], variables: Mapping[str, PyTree]) -> TrainState:
        _, train_key = jax.random.split(key)
        return _first(jax.tree.map(jax.numpy.copy, variables), optimizer, train_key, ema=ema)

    placed = jax.device_put(dict(variables), sharding.replicated(mesh))
    start = jax.jit(first, out_shardings=sharding.replicated(mesh))
    return start(jax.random.key(seed), placed)


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
