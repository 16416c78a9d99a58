"""Costs as every matcher reads them."""

from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Cost: TypeAlias = Float[Array, "b n m"]
Mask: TypeAlias = Bool[Array, "b m"]
Indices: TypeAlias = Int[Array, "b 2 k"]


def finite(cost: Cost, mask: Mask | None) -> Cost:
    """Returns costs in the same order that are finite, with those of real pairs up to 1 in size.

    The finite ones are divided by a power of two, which is exact. NaN and infinity become 3k for k
    pairs, which no sum of k others outweighs, and minus infinity -3k. Padding becomes 0.
    """
    dtype = jnp.float64 if cost.dtype == jnp.float64 else jnp.float32
    cost = jax.lax.stop_gradient(cost).astype(dtype)
    if mask is not None:
        cost = jnp.where(mask[:, None, :], cost, 0.0)
    limit = 3.0 * max(1, min(cost.shape[1:]))
    is_finite = jnp.isfinite(cost)
    size = jnp.max(jnp.where(is_finite, jnp.abs(cost), 0.0), axis=(1, 2), keepdims=True, initial=0)
    _, exponent = jnp.frexp(size)
    scaled = jnp.ldexp(jnp.where(is_finite, cost, 0.0), -exponent)
    return jnp.where(is_finite, scaled, jnp.where(cost == -jnp.inf, -limit, limit))


def free_first(taken: Bool[Array, "b n"]) -> Int[Array, "b n"]:
    """Returns the indices of each row, those that are not taken first, in ascending order."""
    return jnp.argsort(taken, axis=1, stable=True).astype(jnp.int32)


def pairs(partner: Int[Array, "b k"], other: int) -> Indices:
    """Returns the pairs of the shorter side's every member with its partner on the other.

    Args:
      partner: of each of the ``k``, or -1 for those without, who take what is left in order.
      other: how many there are on the other side.
    """
    b, k = partner.shape
    batch = jnp.arange(b)[:, None]
    has = partner >= 0
    taken = (
        jnp.zeros((b, other), bool).at[batch, jnp.where(has, partner, other)].set(True, mode="drop")
    )
    turn = jnp.cumsum(~has, axis=1) - 1
    left = jnp.take_along_axis(free_first(taken), jnp.maximum(turn, 0), axis=1)
    shorter = jnp.broadcast_to(jnp.arange(k, dtype=jnp.int32), (b, k))
    return jnp.stack([shorter, jnp.where(has, partner, left).astype(jnp.int32)], axis=1)
