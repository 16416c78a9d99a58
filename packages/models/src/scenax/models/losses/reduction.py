"""From one value per example to a batch: the one place where examples are masked and averaged.

Letters in shapes: b batch.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from scenax.common.contracts import Batch


def masked_sums(
    values: Float[Array, " b"], batch: Batch
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns the sum over the batch's real examples, and their number, both in float32.

    Args:
      values: one per example; what padding holds does not matter, NaN included.
      batch: its ``batch_mask`` ``[b]`` is 1 for real examples and 0 for padding; without one,
        every example counts. Other values are weights, which count in both sums.
    """
    values = values.astype(jnp.float32)
    mask = jnp.asarray(batch.get("batch_mask", jnp.ones(values.shape)), jnp.float32)
    return jnp.sum(jnp.where(mask == 0, 0.0, values * mask)), jnp.sum(mask)


def masked_mean(values: Float[Array, " b"], batch: Batch) -> Float[Array, ""]:
    """Returns the mean over the batch's real examples, 0 if there are none; see ``masked_sums``."""
    total, count = masked_sums(values, batch)
    return total / jnp.where(count == 0, 1.0, count)
