"""Losses for a class per pixel, and for masks.

``pixel_cross_entropy`` has a value per pixel, the dice losses have one per mask or image. Labels
outside of the classes, such as 255 or -1, are pixels that nobody has labelled: they do not count.
Checked against torch and formulas in numpy. Letters in shapes: b batch, h w image, k classes.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int


def is_labelled(labels: Int[Array, "*b"], classes: int) -> Bool[Array, "*b"]:
    """Returns which labels are classes, from 0 to ``classes - 1``."""
    return (labels >= 0) & (labels < classes)


def pixel_cross_entropy(
    logits: Float[Array, "b h w k"],
    labels: Int[Array, "b h w"],
    *,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
) -> Float[Array, "b h w"]:
    """Returns the cross-entropy of each pixel in nats, in float32, 0 where there is no label.

    Args:
      logits: unnormalised log-probabilities.
      labels: classes; others do not count.
      label_smoothing: share of the target that is spread over all classes evenly.
      class_weights: factor of the pixels of each class, ``k`` numbers.

    Raises:
      ValueError: if the number of class weights is not ``k``.
    """
    classes = logits.shape[-1]
    if class_weights is not None and len(class_weights) != classes:
        raise ValueError(f"{classes} classes need as many weights, got {len(class_weights)}.")
    counts = is_labelled(labels, classes)
    safe = jnp.where(counts, labels, 0)
    logits = logits.astype(jnp.float32)
    if label_smoothing:
        log_p = jax.nn.log_softmax(logits)
        scale = jnp.ones(classes) if class_weights is None else jnp.asarray(class_weights)
        scale = scale.astype(jnp.float32)
        even = -jnp.mean(log_p * scale[None, None, None], axis=-1)
        hard = -jnp.take_along_axis(log_p, safe[..., None], axis=-1)[..., 0] * scale[safe]
        values = (1 - label_smoothing) * hard + label_smoothing * even
    else:
        values = optax.softmax_cross_entropy_with_integer_labels(logits, safe)
        if class_weights is not None:
            values = values * jnp.asarray(class_weights, jnp.float32)[safe]
    return jnp.where(counts, values, 0.0)


def balanced_class_weights(proportions: Sequence[float], factor: float = 1.0) -> tuple[float, ...]:
    """Returns weights of classes that make up for their rarity, of mean 1.

    Scenic's rule: a class with share p of all pixels weighs ``1 / (factor * p + 1 - factor)``.

    >>> balanced_class_weights([0.75, 0.25])
    (0.5, 1.5)

    Args:
      proportions: pixels of each class, as shares or counts; those without any count as 1e-8.
      factor: from 0, for equal weights, to 1.
    """
    shares = [max(p / sum(proportions), 1e-8) for p in proportions]
    weights = [1 / (factor * p + 1 - factor) for p in shares]
    return tuple(w * len(weights) / sum(weights) for w in weights)


def dice(
    logits: Float[Array, "*b h w"], targets: Float[Array, "*b h w"] | Bool[Array, "*b h w"]
) -> Float[Array, "*b"]:
    """Returns 1 - dice coefficient of each mask, in float32.

    ``1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1)`` with ``p = sigmoid(logits)``: V-Net's (arXiv
    1606.04797) without its squares, smoothed as in MaskFormer (arXiv 2107.06278), so that an empty
    target with an empty prediction costs nothing. optax smooths with twice as much.

    Args:
      logits: of each pixel.
      targets: ones within the mask.
    """
    p, t = jax.nn.sigmoid(logits.astype(jnp.float32)), targets.astype(jnp.float32)
    overlap = jnp.sum(p * t, axis=(-2, -1))
    return 1 - (2 * overlap + 1) / (jnp.sum(p, axis=(-2, -1)) + jnp.sum(t, axis=(-2, -1)) + 1)


def generalized_dice(
    logits: Float[Array, "b h w k"], labels: Int[Array, "b h w"]
) -> Float[Array, " b"]:
    """Returns the generalised dice loss of each image (arXiv 1707.03237, equation 4), in float32.

    Classes are weighted by the inverse of their squared number of pixels in the image; those that
    it does not have weigh as one with a single pixel. An image without labels costs nothing.

    Args:
      logits: unnormalised log-probabilities.
      labels: classes; others do not count.
    """
    classes = logits.shape[-1]
    counts = is_labelled(labels, classes)[..., None].astype(jnp.float32)
    p = jax.nn.softmax(logits.astype(jnp.float32)) * counts
    t = jax.nn.one_hot(labels, classes) * counts
    pixels = jnp.sum(t, axis=(1, 2))
    weights = 1 / jnp.square(jnp.maximum(pixels, 1))
    overlap = jnp.sum(weights * jnp.sum(p * t, axis=(1, 2)), axis=-1)
    both = jnp.sum(weights * jnp.sum(p + t, axis=(1, 2)), axis=-1)
    return jnp.where(both == 0, 0.0, 1 - 2 * overlap / jnp.where(both == 0, 1.0, both))
