"""Optimal transport with entropy, rounded to a matching: nearly the least cost, in products alone.

Sinkhorn's iterations (arXiv 1306.0895) in the logarithm, from a high temperature to a low one.
Every prediction and every real target has mass 1; what one side has more of goes to a slack on the
other at no cost. The plan is rounded greedily.
"""

from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from scenax.models.matchers._costs import Cost, Indices, Mask, finite
from scenax.models.matchers.greedy import greedy

_State: TypeAlias = tuple[
    Int[Array, ""], Float[Array, ""], Float[Array, "b p"], Float[Array, "b q"]
]
"""Iterations, the share of mass out of place, and both potentials."""


def sinkhorn(
    cost: Cost,
    mask: Mask | None = None,
    *,
    epsilon: float = 1e-3,
    decay: float = 0.9,
    max_iterations: int = 1000,
    threshold: float = 1e-2,
) -> Indices:
    """Returns a matching of nearly the least cost; see ``matchers`` for the arguments.

    Args:
      cost: of every pair.
      mask: which targets are real.
      epsilon: the last temperature, as a share of the largest cost. The lower, the nearer to the
        least cost and the more iterations.
      decay: factor of the temperature from one iteration to the next, from 1 down to ``epsilon``.
      max_iterations: when to stop at the latest.
      threshold: the share of all mass that may be out of place when it stops.
    """
    b, n, m = cost.shape
    costs = finite(cost, mask)
    dtype = costs.dtype
    real = jnp.ones((b, m), bool) if mask is None else mask
    over = n - jnp.sum(real, axis=1, dtype=dtype)
    rows = jnp.pad(jnp.ones((b, n), dtype), ((0, 0), (0, 1))).at[:, n].set(jnp.maximum(-over, 0))
    columns = jnp.pad(real.astype(dtype), ((0, 0), (0, 1))).at[:, m].set(jnp.maximum(over, 0))
    costs = jnp.pad(costs, ((0, 0), (0, 1), (0, 1)))

    def potential(
        masses: Float[Array, "b p"],
        others: Float[Array, "b q"],
        costs: Float[Array, "b p q"],
        t: Float[Array, ""],
    ) -> Float[Array, "b p"]:
        spread = jax.nn.logsumexp((others[:, None] - costs) / t, axis=2)
        return jnp.where(masses > 0, t * (jnp.log(masses) - spread), -jnp.inf)

    def unfinished(state: _State) -> Bool[Array, ""]:
        iteration, error, *_ = state
        return (iteration < max_iterations) & (error > threshold)

    def iterate(state: _State) -> _State:
        iteration, _, _, g = state
        t = jnp.maximum(epsilon, decay ** iteration.astype(dtype))
        f = potential(rows, g, costs, t)
        g = potential(columns, f, costs.transpose(0, 2, 1), t)
        plan = jnp.exp((f[:, :, None] + g[:, None] - costs) / t)
        wrong = jnp.sum(jnp.abs(jnp.sum(plan, axis=2) - rows), axis=1) / jnp.sum(rows, axis=1)
        error = jnp.where(t > epsilon, jnp.inf, jnp.max(wrong, initial=0))
        return iteration + 1, error, f, g

    start = (
        jnp.zeros((), jnp.int32),
        jnp.full((), jnp.inf, dtype),
        jnp.zeros((b, n + 1), dtype),
        jnp.zeros((b, m + 1), dtype),
    )
    *_, f, g = jax.lax.while_loop(unfinished, iterate, start)
    # What a pair costs beyond what its ends are worth: the plan's logarithm, turned around.
    return greedy((costs - f[:, :, None] - g[:, None])[:, :n, :m], mask)
