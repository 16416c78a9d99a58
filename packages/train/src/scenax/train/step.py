"""One update of the training state, and one look at a batch in evaluation.

The steps never index a batch and know no layer: what a batch means is the model's affair.
"""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from scenax.common.contracts import Batch, MetricSums, Model, PyTree, Split
from scenax.train import sharding
from scenax.train.state import TrainState

TrainStep: TypeAlias = Callable[[TrainState, Batch], tuple[TrainState, MetricSums]]
BatchTransform: TypeAlias = Callable[[Batch, jax.Array], Batch]
EvalStep: TypeAlias = Callable[[TrainState, Batch], MetricSums]

_BATCH_TRANSFORM = 1  # Apart from what flax folds into the key of the dropout.


def make_train_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    batch_transform: BatchTransform | None = None,
    ema_decay: float | None = None,
) -> TrainStep:
    """Returns the compiled function from state and batch to the next state and metrics.

    It runs over the whole mesh: the loss is the mean over the global batch. The state that it is
    given is used up (its buffers are donated). To the model's metrics it adds ``grad_norm`` before
    any clipping, and ``param_norm`` after the update, which is finite only if the state is sound.
    ``batch_transform`` (mixup, for instance) changes the batch on the devices first; it draws from
    the key that it is given, which is another one in every step. If the state has a moving average,
    step t (from 0) keeps ``min(ema_decay, (1 + t) / (10 + t))`` of it, as TensorFlow's
    ``ExponentialMovingAverage`` does, so that the beginning is soon forgotten.
    """
    metrics_fn = model.get_metrics_fn("train")

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, MetricSums]:
        rngs = {"dropout": jax.random.fold_in(state.rng, state.step)}
        if batch_transform is not None:
            batch = batch_transform(batch, jax.random.fold_in(rngs["dropout"], _BATCH_TRANSFORM))

        def objective(params: PyTree) -> tuple[jax.Array, tuple[PyTree, dict[str, PyTree]]]:
            variables = {"params": params, **state.model_state}
            outputs, model_state = model.apply(variables, batch, train=True, rngs=rngs)
            return model.loss_fn(outputs, batch, params), (outputs, model_state)

        (_, (outputs, model_state)), grads = jax.value_and_grad(objective, has_aux=True)(
            state.params
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {
            **metrics_fn(outputs, batch),
            "grad_norm": (optax.tree.norm(grads), 1.0),
            "param_norm": (optax.tree.norm(params), 1.0),
        }
        ema = state.ema
        if (ema is None) != (ema_decay is None):
            raise ValueError("ema_decay is for a state with a moving average, and only for one.")
        if ema is not None and ema_decay is not None:
            t = state.step.astype(jnp.float32)
            ema = _averaged(
                ema, {"params": params, **model_state}, jnp.minimum(ema_decay, (1 + t) / (10 + t))
            )
        return TrainState(state.step + 1, params, opt_state, model_state, state.rng, ema), metrics

    return jax.jit(train_step, donate_argnums=0, out_shardings=sharding.replicated(mesh))


def make_eval_step(model: Model, mesh: Mesh, split: Split) -> EvalStep:
    """Returns the compiled function from state and batch to the sums of the split's metrics."""
    metrics_fn = model.get_metrics_fn(split)

    def eval_step(state: TrainState, batch: Batch) -> MetricSums:
        outputs, _ = model.apply(state.eval_variables, batch, train=False)
        return metrics_fn(outputs, batch)

    return jax.jit(eval_step, out_shardings=sharding.replicated(mesh))


def _averaged(old: PyTree, new: PyTree, decay: jax.Array) -> PyTree:
    """A step of a moving average; counters and other whole numbers are the new ones."""

    def average(old: jax.Array, new: jax.Array) -> jax.Array:
        if not jnp.issubdtype(new.dtype, jnp.floating):
            return new
        return old + (1 - decay).astype(new.dtype) * (new - old)  # Exact where nothing changes.

    return jax.tree.map(average, old, new)
