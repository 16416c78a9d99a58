"""Metrics of semantic segmentation, all from one confusion matrix.

A matrix is a sum, so matrices of batches, devices and hosts add up. Mean intersection over union
is the mean over classes of the split's intersections over the split's unions. Boundary IoU is
from arXiv 2103.16562, here per class over a split. Checked against scikit-learn's
``confusion_matrix`` and ``jaccard_score``. Letters in shapes: b batch, h w image, k classes.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from scenax.common.masks import boundary


def confusion_matrix(
    predictions: Integer[Array, "*b"],
    targets: Integer[Array, "*b"],
    weights: Float[Array, "*b"],
    num_classes: int,
) -> Float[Array, "k k"]:
    """Returns the weight of every pair of a true class (row) and a predicted one (column).

    Args:
      predictions: classes, 0 to ``num_classes - 1``; one outside these is counted nowhere, so an
        arg max belongs here.
      targets: classes; where one is outside 0 to ``num_classes - 1`` (an ignore label such as 255
        or -1), the pixel is counted nowhere.
      weights: 0 for pixels that do not count; other values count as they are.
      num_classes: ``k``.
    """
    # Counted per entry of the first axis and then added: float32 counts by ones up to 2^24 only,
    # which is as many as eight images of Cityscapes have pixels.
    groups = (targets.shape[0], -1) if targets.ndim > 1 and targets.size else (1, -1)
    predictions = predictions.astype(jnp.int32).reshape(groups)
    targets = targets.astype(jnp.int32).reshape(groups)
    weights = weights.astype(jnp.float32).reshape(groups)
    known = (targets >= 0) & (targets < num_classes)
    known = known & (predictions >= 0) & (predictions < num_classes)
    pairs = jnp.where(known, targets * num_classes + predictions, num_classes**2)

    def count(pairs: Array, weights: Array) -> Array:
        return jnp.zeros(num_classes**2, jnp.float32).at[pairs].add(weights, mode="drop")

    counts = jnp.sum(jax.vmap(count)(pairs, weights), axis=0)
    return counts.reshape(num_classes, num_classes)


def intersections_and_unions(
    matrix: Float[Array, "k k"],
) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    """Returns each class's intersection and union of prediction and truth, from a matrix.

    The mean of their quotients over the classes with a union is the mean IoU. A class that is
    predicted somewhere and true nowhere has a union, and its IoU of 0 counts in that mean.
    """
    intersections = jnp.diagonal(matrix)
    return intersections, jnp.sum(matrix, axis=0) + jnp.sum(matrix, axis=1) - intersections


def correct_and_counts(
    matrix: Float[Array, "k k"],
) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    """Returns each class's weight of right pixels and of its true pixels, from a matrix.

    Summed over classes they give the pixel accuracy; the mean of their quotients over the classes
    that occur is the mean per-class accuracy.
    """
    return jnp.diagonal(matrix), jnp.sum(matrix, axis=1)


def boundary_intersections_and_unions(
    predictions: Integer[Array, "b h w"],
    targets: Integer[Array, "b h w"],
    weights: Float[Array, " b"],
    num_classes: int,
) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    """Returns each class's intersection and union of the inner boundaries (arXiv 2103.16562).

    The boundary of a class is those of its pixels that are within 2% of the image's diagonal of
    the class's contour or of the image's border. Pixels whose target is outside 0 to
    ``num_classes - 1`` belong to no class, neither in truth nor in prediction.

    Args:
      predictions: classes.
      targets: classes, or an ignore label.
      weights: of the images; 0 for padding.
      num_classes: ``k``. Time grows with it; memory does not.
    """
    predictions, targets = predictions.astype(jnp.int32), targets.astype(jnp.int32)
    known = (targets >= 0) & (targets < num_classes)
    weights = weights.astype(jnp.float32)

    def of_class(index: Array) -> tuple[Array, Array]:
        # An ignored region cuts both sides alike, so that a perfect prediction stays perfect.
        predicted = boundary((predictions == index) & known)
        true = boundary(targets == index)
        intersections = jnp.sum(predicted & true, axis=(1, 2), dtype=jnp.float32)
        unions = jnp.sum(predicted | true, axis=(1, 2), dtype=jnp.float32)
        return jnp.sum(intersections * weights), jnp.sum(unions * weights)

    return jax.lax.map(of_class, jnp.arange(num_classes, dtype=jnp.int32))


def per_class_iou(matrix: Float[Array | np.ndarray, "k k"]) -> Float[np.ndarray, " k"]:
    """Returns each class's intersection over union in float64, NaN for classes without a union.

    Args:
      matrix: a confusion matrix, added over a split.
    """
    matrix = np.asarray(matrix, np.float64)
    intersections = np.diagonal(matrix)
    unions = matrix.sum(0) + matrix.sum(1) - intersections
    return np.where(unions > 0, intersections / np.where(unions > 0, unions, 1.0), np.nan)
