"""One update of the training state, and one look at a batch in evaluation.

The steps never index a batch and know no layer: what a batch means is the model's affair.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from scenax.common.contracts import Batch, MetricSums, Model, PyTree, Split
from scenax.train import sharding
from scenax.train.state import TrainState

TrainStep: TypeAlias = Callable[[TrainState, Batch], tuple[TrainState, MetricSums]]
BatchTransform: TypeAlias = Callable[[Batch, jax.Array], Batch]
EvalStep: TypeAlias = Callable[[TrainState, Batch], MetricSums]

_BATCH_TRANSFORM = 1  # Apart from what flax folds into the key of the dropout.

_Results: TypeAlias = tuple[PyTree, dict[str, PyTree], MetricSums]
"""Gradients, the model's other variables, metrics."""


def make_train_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    state_sharding: PyTree | None = None,
    batch_transform: BatchTransform | None = None,
    ema_decay: float | None = None,
    microbatches: int = 1,
    sam_rho: float | None = None,
) -> jax.stages.Wrapped:
    """Returns the compiled function from state and batch to the next state and metrics.

    It runs over the whole mesh: the loss is the mean over the global batch. The state that it is
    given is used up (its buffers are donated). To the model's metrics it adds ``grad_norm`` before
    any clipping, of all parameters and of each group of them (``grad_norm/blocks_0``), and
    ``param_norm`` after the update, which is finite only if the state is sound.

    Args:
      model: what is trained.
      optimizer: what makes an update of a gradient.
      mesh: the devices.
      state_sharding: where they hold the state, a tree like it; on every device if not given.
      batch_transform: changes the batch on the devices first (mixup, for instance); it draws from
        the key that it is given, which is another one in every step.
      ema_decay: if the state has a moving average, step t (from 0) keeps
        ``min(ema_decay, (1 + t) / (10 + t))`` of it, as TensorFlow's ``ExponentialMovingAverage``
        does, so that the beginning is soon forgotten.
      microbatches: in how many parts the batch is computed, one after the other, in less memory.
        The gradient is the mean of theirs, each counting as many examples as its ``loss`` does:
        that of the whole batch, if the loss is a mean over examples. Each part has its own noise,
        and normalizes by its own statistics where a network has such.
      sam_rho: the radius of sharpness-aware minimization (arXiv 2010.01412): the gradient is taken
        where the loss is highest within it, which costs a second one.
    """
    metrics_fn = model.get_metrics_fn("train")
    gather, wrap = sharding.gathering(state_sharding and state_sharding.params)

    def gradients(
        params: PyTree, model_state: dict[str, PyTree], batch: Batch, key: jax.Array
    ) -> _Results:
        def objective(params: PyTree) -> tuple[jax.Array, tuple[dict[str, PyTree], MetricSums]]:
            params = gather(params)
            variables = {"params": params, **model_state}
            outputs, after = model.apply(variables, batch, train=True, rngs={"dropout": key})
            return model.loss_fn(outputs, batch, params), (after, metrics_fn(outputs, batch))

        (_, (after, metrics)), grads = jax.value_and_grad(wrap(objective), has_aux=True)(params)
        return grads, after, metrics

    if microbatches > 1:
        gradients = _accumulated(gradients, microbatches, mesh)
    if sam_rho is not None:
        gradients = _sharpness_aware(gradients, sam_rho)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, MetricSums]:
        if (state.ema is None) != (ema_decay is None):
            raise ValueError("ema_decay is for a state with a moving average, and only for one.")
        key = jax.random.fold_in(state.rng, state.step)
        if batch_transform is not None:
            batch = batch_transform(batch, jax.random.fold_in(key, _BATCH_TRANSFORM))
        grads, model_state, metrics = gradients(state.params, state.model_state, batch, key)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None and ema_decay is not None:
            t = state.step.astype(jnp.float32)
            ema = _averaged(
                ema, {"params": params, **model_state}, jnp.minimum(ema_decay, (1 + t) / (10 + t))
            )
        metrics = {
            **metrics,
            **_norms("grad_norm", grads),
            "param_norm": (optax.tree.norm(params), 1.0),
        }
        return TrainState(state.step + 1, params, opt_state, model_state, state.rng, ema), metrics

    everywhere = sharding.replicated(mesh)
    placed = everywhere if state_sharding is None else state_sharding
    return jax.jit(train_step, donate_argnums=0, out_shardings=(placed, everywhere))


def make_eval_step(model: Model, mesh: Mesh, split: Split) -> EvalStep:
    """Returns the compiled function from state and batch to the sums of the split's metrics."""
    metrics_fn = model.get_metrics_fn(split)

    def eval_step(state: TrainState, batch: Batch) -> MetricSums:
        outputs, _ = model.apply(state.eval_variables, batch, train=False)
        return metrics_fn(outputs, batch)

    return jax.jit(eval_step, out_shardings=sharding.replicated(mesh))


def _accumulated(gradients: Callable[..., _Results], count: int, mesh: Mesh) -> Any:
    """The gradients of a batch from those of its parts; sums of metrics are added up."""

    def split(x: jax.Array) -> jax.Array:
        if len(x) % (count * mesh.shape["data"]):
            raise ValueError(
                f"A batch of {len(x)} examples does not divide into {count} microbatches over "
                f"{mesh.shape['data']} devices each. Choose another batch size or number of them."
            )
        # Every device splits what it has already: nothing moves.
        parts = jnp.moveaxis(x.reshape(len(x) // count, count, *x.shape[1:]), 1, 0)
        return jax.lax.with_sharding_constraint(
            parts, NamedSharding(mesh, PartitionSpec(None, "data"))
        )

    def accumulated(
        params: PyTree, model_state: dict[str, PyTree], batch: Batch, key: jax.Array
    ) -> _Results:
        def add(carry: Any, part: tuple[jax.Array, Batch]) -> tuple[Any, MetricSums]:
            index, batch = part
            model_state, total, weight = carry
            grads, model_state, metrics = gradients(
                params, model_state, batch, jax.random.fold_in(key, index)
            )
            counted = jnp.asarray(metrics["loss"][1], jnp.float32)
            total = jax.tree.map(lambda t, g: t + g * counted.astype(g.dtype), total, grads)
            return (model_state, total, weight + counted), metrics

        parts = jnp.arange(count), jax.tree.map(split, dict(batch))
        start = model_state, jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.float32)
        (model_state, total, weight), metrics = jax.lax.scan(add, start, parts)
        scale = 1 / jnp.maximum(weight, jnp.finfo(jnp.float32).tiny)
        grads = jax.tree.map(lambda t: t * scale.astype(t.dtype), total)
        return grads, model_state, jax.tree.map(functools.partial(jnp.sum, axis=0), metrics)

    return accumulated


def _sharpness_aware(gradients: Callable[..., _Results], rho: float) -> Any:
    """The gradients where the loss is highest nearby; all else is of the parameters themselves."""

    def sharpness_aware(params: PyTree, *others: Any) -> _Results:
        grads, model_state, metrics = gradients(params, *others)
        norm = optax.tree.norm(grads)
        scale = rho / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny)
        highest = jax.tree.map(lambda p, g: p + g * scale.astype(g.dtype), params, grads)
        return gradients(highest, *others)[0], model_state, metrics

    return sharpness_aware


def _norms(name: str, arrays: PyTree) -> MetricSums:
    """The norm of all arrays, and of each group of them by the first part of their paths."""
    groups = arrays if isinstance(arrays, dict) else {}
    norms = {f"{name}/{group}": optax.tree.norm(part) for group, part in groups.items()}
    return {key: (norm, 1.0) for key, norm in {name: optax.tree.norm(arrays), **norms}.items()}


def _averaged(old: PyTree, new: PyTree, decay: jax.Array) -> PyTree:
    """A step of a moving average; counters and other whole numbers are the new ones."""

    def average(old: jax.Array, new: jax.Array) -> jax.Array:
        if not jnp.issubdtype(new.dtype, jnp.floating):
            return new
        return old + (1 - decay).astype(new.dtype) * (new - old)  # Exact where nothing changes.

    return jax.tree.map(average, old, new)
