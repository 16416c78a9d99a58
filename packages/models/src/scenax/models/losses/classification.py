"""Losses for one label per example, per example.

Checked against formulas written out in numpy. Letters in shapes: b batch, k classes.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int


def softmax_cross_entropy(
    logits: Float[Array, "b k"],
    targets: Int[Array, " b"] | Float[Array, "b k"],
    *,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
) -> Float[Array, " b"]:
    """Returns the cross-entropy of each example in nats, in float32 whatever the logits are in.

    Args:
      logits: unnormalised log-probabilities.
      targets: classes, or one-hot or mixed distributions over the classes.
      label_smoothing: share of the target that is spread over all classes evenly
        (arXiv 1512.00567, section 7).
      class_weights: factor of each class's term, ``k`` numbers; the mean over a batch is still
        over examples, not over their weights.

    Raises:
      ValueError: if the number of class weights is not ``k``.
    """
    classes = logits.shape[-1]
    logits = logits.astype(jnp.float32)
    targets = nn.one_hot(targets, classes) if targets.ndim == 1 else targets.astype(jnp.float32)
    targets = optax.smooth_labels(targets, label_smoothing)
    if class_weights is not None:
        if len(class_weights) != classes:
            raise ValueError(f"{classes} classes need as many weights, got {len(class_weights)}.")
        targets = targets * jnp.asarray(class_weights, jnp.float32)[None, :]
    return optax.softmax_cross_entropy(logits, targets)
