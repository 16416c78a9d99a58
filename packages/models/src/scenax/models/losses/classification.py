"""Losses for classes, per example.

Checked against formulas written out in numpy, torch and torchvision. Letters in shapes: b batch,
k classes; ``*b`` any leading axes.
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
    return optax.softmax_cross_entropy(logits, targets * _weights(class_weights, classes))


def sigmoid_cross_entropy(
    logits: Float[Array, "b k"],
    targets: Int[Array, " b"] | Int[Array, "b k"] | Float[Array, "b k"],
    *,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
) -> Float[Array, " b"]:
    """Returns the binary cross-entropies of each example in nats, summed over the classes.

    Args:
      logits: of one independent decision for each class.
      targets: classes, or any number of ones among ``k``, or probabilities.
      label_smoothing: how far targets move towards one half, the even distribution over yes and no.
      class_weights: factor of each class's term, ``k`` numbers.

    Raises:
      ValueError: if the number of class weights is not ``k``.
    """
    classes = logits.shape[-1]
    logits = logits.astype(jnp.float32)
    targets = nn.one_hot(targets, classes) if targets.ndim == 1 else targets.astype(jnp.float32)
    targets = targets * (1 - label_smoothing) + 0.5 * label_smoothing
    values = optax.sigmoid_binary_cross_entropy(logits, targets)
    return jnp.sum(values * _weights(class_weights, classes), axis=-1)


def sigmoid_focal(
    logits: Float[Array, "*b k"],
    targets: Int[Array, "*b k"] | Float[Array, "*b k"],
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> Float[Array, "*b"]:
    """Returns the focal loss (arXiv 1708.02002, equation 5), summed over the classes.

    Args:
      logits: of one independent decision for each class.
      targets: ones and zeros.
      alpha: weight of the ones; zeros weigh ``1 - alpha``.
      gamma: how much less what is nearly right weighs; 0 for cross-entropy.
    """
    logits, targets = logits.astype(jnp.float32), targets.astype(jnp.float32)
    return jnp.sum(optax.sigmoid_focal_loss(logits, targets, alpha=alpha, gamma=gamma), axis=-1)


def _weights(class_weights: Sequence[float] | None, classes: int) -> Float[Array, "1 k"]:
    if class_weights is None:
        return jnp.ones((1, classes))
    if len(class_weights) != classes:
        raise ValueError(f"{classes} classes need as many weights, got {len(class_weights)}.")
    return jnp.asarray(class_weights, jnp.float32)[None, :]
