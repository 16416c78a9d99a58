"""Losses for sequences of tokens, per token. Letters in shapes: b batch, n tokens, k vocabulary."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


def token_cross_entropy(
    logits: Float[Array, "b n k"], targets: Int[Array, "b n"], *, label_smoothing: float = 0.0
) -> Float[Array, "b n"]:
    """Returns the cross-entropy of each token in nats, in float32.

    Which tokens count is for ``reduction`` to say: padding has a value here like any other.

    Args:
      logits: unnormalised log-probabilities of what stands at each place.
      targets: what does stand there, from 0 to ``k - 1``.
      label_smoothing: share of the target that is spread over the vocabulary evenly.
    """
    logits = logits.astype(jnp.float32)
    values = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    if label_smoothing:
        even = -jnp.mean(jax.nn.log_softmax(logits), axis=-1)
        values = (1 - label_smoothing) * values + label_smoothing * even
    return values
