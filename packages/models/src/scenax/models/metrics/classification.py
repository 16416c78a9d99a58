"""Metrics for one label per example, per example.

Checked against numpy. Letters in shapes: b batch, k classes.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def top_k_correct(
    logits: Float[Array, "b k"], targets: Int[Array, " b"] | Float[Array, "b k"], *, top: int = 1
) -> Float[Array, " b"]:
    """Returns 1 for each example whose class is among the ``top`` likeliest, and 0 otherwise.

    Of equal logits the lower class comes first.

    Args:
      logits: any scores of the classes.
      targets: classes, or distributions over them, of which the largest entry is the class.
      top: how many classes to look at.

    Raises:
      ValueError: if there are fewer than ``top`` classes.
    """
    if not 1 <= top <= logits.shape[-1]:
        raise ValueError(f"top has to be from 1 to the {logits.shape[-1]} classes, got {top}.")
    classes = targets if targets.ndim == 1 else jnp.argmax(targets, axis=-1)
    _, likeliest = jax.lax.top_k(logits, top)
    return jnp.any(likeliest == classes.astype(jnp.int32)[:, None], axis=-1).astype(jnp.float32)
