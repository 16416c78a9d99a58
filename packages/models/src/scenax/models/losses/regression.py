"""Losses for numbers, per example. Letters in shapes: b batch; ``...`` what is predicted."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float


def squared_error(
    predictions: Float[Array, "b ..."], targets: Float[Array, "b ..."]
) -> Float[Array, " b"]:
    """Returns the mean of the squared differences of each example, in float32."""
    predictions, targets = predictions.astype(jnp.float32), targets.astype(jnp.float32)
    return _mean(jnp.square(predictions - targets))


def absolute_error(
    predictions: Float[Array, "b ..."], targets: Float[Array, "b ..."]
) -> Float[Array, " b"]:
    """Returns the mean of the absolute differences of each example, in float32."""
    predictions, targets = predictions.astype(jnp.float32), targets.astype(jnp.float32)
    return _mean(jnp.abs(predictions - targets))


def huber(
    predictions: Float[Array, "b ..."], targets: Float[Array, "b ..."], *, delta: float = 1.0
) -> Float[Array, " b"]:
    """Returns the mean Huber loss of each example, in float32: squares up to ``delta``, then lines.

    Half the square of a difference up to ``delta``; above it ``delta`` times what is above half of
    it (Huber 1964, doi 10.1214/aoms/1177703732).
    """
    predictions, targets = predictions.astype(jnp.float32), targets.astype(jnp.float32)
    return _mean(optax.huber_loss(predictions, targets, delta=delta))


def _mean(values: Float[Array, "b ..."]) -> Float[Array, " b"]:
    return jnp.mean(values, axis=range(1, values.ndim))
