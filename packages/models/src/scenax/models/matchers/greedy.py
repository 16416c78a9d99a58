"""The cheapest pair first, then the cheapest of what is left, and so on.

All pairs that are each other's cheapest would be taken before either could be had otherwise, so a
round takes all of them at once; a few rounds do. Checked against taking one pair at a time.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from scenax.models.matchers._costs import Cost, Indices, Mask, finite, pairs
from scenax.models.matchers.lazy import lazy


def greedy(cost: Cost, mask: Mask | None = None) -> Indices:
    """Returns the greedy matching; of equal costs the lower prediction, then target, comes first.

    Its cost is not the least there is. See ``matchers`` for the arguments.
    """
    b, n, m = cost.shape
    if not b * n * m:
        return lazy(cost)
    left = finite(cost, mask)
    if mask is not None:  # Above the 3k of what is not finite.
        left = jnp.where(mask[:, None, :], left, 4.0 * max(1, min(n, m)))
    predictions, targets = jnp.arange(n), jnp.arange(m)

    def unfinished(state: tuple[Int[Array, "b n"], Bool[Array, "b m"]]) -> Bool[Array, ""]:
        partner, _ = state
        return jnp.any(jnp.sum(partner >= 0, axis=1) < min(n, m))

    def take_pairs(
        state: tuple[Int[Array, "b n"], Bool[Array, "b m"]],
    ) -> tuple[Int[Array, "b n"], Bool[Array, "b m"]]:
        partner, taken = state
        closed = (partner >= 0)[:, :, None] | taken[:, None, :]
        open_costs = jnp.where(closed, jnp.inf, left)
        target = jnp.argmin(open_costs, axis=2)
        prediction = jnp.argmin(open_costs, axis=1)
        mutual = jnp.take_along_axis(prediction, target, axis=1) == predictions[None]
        mutual &= (partner < 0) & ~jnp.all(taken, axis=1, keepdims=True)
        chosen = jnp.take_along_axis(mutual, prediction, axis=1)
        chosen &= jnp.take_along_axis(target, prediction, axis=1) == targets[None]
        return jnp.where(mutual, target, partner), taken | chosen

    start = (jnp.full((b, n), -1, jnp.int32), jnp.zeros((b, m), bool))
    partner, _ = jax.lax.while_loop(unfinished, take_pairs, start)
    if n < m:
        return pairs(partner, m)
    batch = jnp.arange(b)[:, None]
    of_target = (
        jnp.full((b, m), -1)
        .at[batch, jnp.where(partner < 0, m, partner)]
        .set(predictions[None], mode="drop")
    )
    return pairs(of_target, n)[:, ::-1]
