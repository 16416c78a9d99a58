"""The training state: everything that a step changes."""

import dataclasses

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

    @property
    def variables(self) -> dict[str, PyTree]:
        """What ``Model.apply`` takes."""
        return {"params": self.params, **self.model_state}


def create_state(
    model: Model,
    optimizer: optax.GradientTransformation,
    batch: Batch,
    *,
    seed: int,
    mesh: Mesh,
) -> TrainState:
    """Returns the state at step 0, on the devices of the mesh.

    Args:
      model: whose variables are made.
      optimizer: whose state is made.
      batch: of the training shape; only shapes and dtypes matter.
      seed: decides the parameters, and the noise of every step to come.
      mesh: the devices.
    """
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), dict(batch))

    def init(key: Key[Array, ""]) -> TrainState:
        init_key, train_key = jax.random.split(key)
        zeros = jax.tree.map(lambda x: jax.numpy.zeros(x.shape, x.dtype), abstract)
        model_state = dict(model.init(init_key, zeros))
        params = model_state.pop("params")
        return TrainState(
            step=jax.numpy.zeros((), jax.numpy.int32),
            params=params,
            opt_state=optimizer.init(params),
            model_state=model_state,
            rng=train_key,
        )

    return jax.jit(init, out_shardings=sharding.replicated(mesh))(jax.random.key(seed))
