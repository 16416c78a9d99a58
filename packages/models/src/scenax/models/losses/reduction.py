"""From values per example to a batch: the one place where examples are masked and averaged.

Letters in shapes: b batch; ``...`` pixels, tokens or anchors of an example.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from scenax.common.contracts import Batch


def example_mask(batch: Batch, examples: int) -> Float[Array, " b"]:
    """Returns the weight of each example in float32: ``batch_mask``, or ones without one."""
    return jnp.asarray(batch.get("batch_mask", jnp.ones(examples)), jnp.float32)


def masked_sums(
    values: Shaped[Array, "b ..."], batch: Batch, weights: Shaped[Array, "b ..."] | None = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns the sum over the batch's real values, and their number, both in float32.

    Args:
      values: one per example, or several; what padding holds does not matter, NaN included.
      batch: its ``batch_mask`` ``[b]`` is 1 for real examples and 0 for padding; without one,
        every example counts. Other values are weights, which count in both sums.
      weights: of each value, in the shape of ``values``; 0 for those that do not count.
    """
    values = values.astype(jnp.float32)
    mask = example_mask(batch, len(values)).reshape(-1, *[1] * (values.ndim - 1))
    mask = jnp.broadcast_to(mask, values.shape)
    if weights is not None:
        mask = mask * weights.astype(jnp.float32)
    return jnp.sum(jnp.where(mask == 0, 0.0, values * mask)), jnp.sum(mask)


def masked_mean(
    values: Shaped[Array, "b ..."], batch: Batch, weights: Shaped[Array, "b ..."] | None = None
) -> Float[Array, ""]:
    """Returns the mean over the batch's real values, 0 if there are none; see ``masked_sums``."""
    total, count = masked_sums(values, batch, weights)
    return total / jnp.where(count == 0, 1.0, count)
