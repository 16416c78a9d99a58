"""Metrics for classes of whole examples: one label per example, or several.

Calibration is after "On Calibration of Modern Neural Networks" (arXiv 1706.04599, section 2).
Checked against scikit-learn and against formulas written out in float64 numpy. Letters in shapes:
b batch, k classes.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num


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


def per_class_correct(
    logits: Float[Array, "b k"],
    targets: Int[Array, " b"] | Float[Array, "b k"],
    weights: Float[Array, " b"],
) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    """Returns each class's weight of rightly classified examples, and its weight of examples.

    Summed over a split, the mean of their quotients over the classes that occur is the mean
    per-class accuracy (scikit-learn's balanced accuracy). Fractional weights count as they are.

    Args:
      logits: any scores of the classes; of equal ones the lower class is the prediction.
      targets: as in ``top_k_correct``; an example whose class is not one of the ``k`` counts
        nowhere.
      weights: 0 for padding, whose logits do not matter then, NaN included.
    """
    classes = targets if targets.ndim == 1 else jnp.argmax(targets, axis=-1)
    weights = weights.astype(jnp.float32)
    correct = jnp.where(jnp.argmax(logits, axis=-1) == classes.astype(jnp.int32), weights, 0.0)
    # A negative index would count from the end.
    classes = jnp.where(classes < 0, logits.shape[-1], classes)
    zeros = jnp.zeros(logits.shape[-1], jnp.float32)
    return zeros.at[classes].add(correct, mode="drop"), zeros.at[classes].add(weights, mode="drop")


def multilabel_top_1_correct(
    logits: Float[Array, "b k"], multi_hot: Num[Array, "b k"]
) -> Float[Array, " b"]:
    """Returns 1 for each example whose likeliest class is one of its labels, and 0 otherwise.

    This is Scenic's ``prec@1``. Of equal logits the lower class counts as the likeliest; an
    example without labels is never right.

    Args:
      logits: any scores of the classes.
      multi_hot: above 0 at an example's labels.
    """
    likeliest = jnp.argmax(logits, axis=-1)[:, None]
    return (jnp.take_along_axis(multi_hot, likeliest, axis=-1)[:, 0] > 0).astype(jnp.float32)


def calibration_bins(
    logits: Float[Array, "b k"],
    targets: Int[Array, " b"] | Float[Array, "b k"],
    weights: Float[Array, " b"],
    *,
    bins: int = 15,
) -> Float[Array, "3 bins"]:
    """Returns three sums for each bin of confidence: of weight, of confidence, of right examples.

    An example's confidence is the softmax probability of its prediction. Bin ``i`` of ``m`` holds
    the confidences above ``i / m`` and up to ``(i + 1) / m``. Sums of several batches may be added.

    Args:
      logits: unnormalised log-probabilities.
      targets: as in ``top_k_correct``.
      weights: 0 for padding, whose logits do not matter then, NaN included.
      bins: their number; the paper's is 15.

    Raises:
      ValueError: if there is no bin.
    """
    if bins < 1:
        raise ValueError(f"Calibration needs at least one bin, got {bins}.")
    weights = weights.astype(jnp.float32)
    probabilities = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
    confidence = jnp.where(weights == 0, 1.0, jnp.max(probabilities, axis=-1))
    index = jnp.clip(jnp.ceil(confidence * bins).astype(jnp.int32) - 1, 0, bins - 1)
    correct = top_k_correct(logits, targets)
    values = jnp.stack([weights, weights * confidence, weights * correct])
    return jnp.zeros((3, bins), jnp.float32).at[:, index].add(values)


def expected_calibration_error(sums: Float[Array | np.ndarray, "3 bins"]) -> float:
    """Returns the mean distance of confidence and accuracy over bins, weighted by their weight.

    Args:
      sums: what ``calibration_bins`` returned, added over a split.

    Returns:
      From 0, which is perfectly calibrated, to 1 (arXiv 1706.04599, equation 3).

    Raises:
      ValueError: if no example was counted.
    """
    weight, confidence, correct = np.asarray(sums, np.float64)
    if weight.sum() == 0:
        raise ValueError(
            "The calibration error of no examples is not defined: every weight in the sums is 0."
        )
    return float(np.abs(confidence - correct).sum() / weight.sum())
