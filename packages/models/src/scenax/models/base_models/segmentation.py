"""One class per pixel."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, final

import jax
import jax.numpy as jnp

from scenax.common.contracts import Batch, MetricsFn, MetricSums, Model, PyTree, Split
from scenax.models.base_models.base import BaseModel
from scenax.models.losses.reduction import example_mask, masked_mean, masked_sums
from scenax.models.losses.segmentation import is_labelled, pixel_cross_entropy
from scenax.models.metrics.segmentation import (
    confusion_matrix,
    correct_and_counts,
    intersections_and_unions,
)


@final
class SegmentationModel(BaseModel):
    """Softmax cross-entropy on ``label`` ``[b, h, w]``, an integer for each pixel.

    Labels outside of the classes, such as 255 or -1, do not count. ``label_weights`` ``[b, h, w]``
    in a batch, if there are any, weigh its pixels.

    Config keys besides ``architecture`` and ``args``: ``label_smoothing`` (0) and
    ``class_weights`` (none, or one number for each class; ``losses.segmentation`` has a function
    that makes them from the classes' shares).

    Metrics are ``loss`` (the plain cross-entropy), ``pixel_accuracy``, ``mean_accuracy`` and
    ``mean_iou``, the last two over the classes that a split has.
    """

    task_options: ClassVar[Mapping[str, Any]] = {"label_smoothing": 0.0, "class_weights": None}

    def loss_fn(self, outputs: PyTree, batch: Batch, params: PyTree | None = None) -> jax.Array:
        """Returns the mean loss over the labelled pixels of real examples, 0 if there are none.

        Args:
          outputs: logits ``[b, h, w, k]``.
          batch: with ``label`` and, maybe, ``batch_mask`` and ``label_weights``.
          params: not used.

        Raises:
          ValueError: if the outputs do not have one vector of logits for each label.
        """
        del params
        label, weights = _labels(outputs, batch)
        values = pixel_cross_entropy(
            outputs,
            label,
            label_smoothing=self.options["label_smoothing"],
            class_weights=self.options["class_weights"],
        )
        return masked_mean(values, batch, weights)

    def get_metrics_fn(self, split: Split) -> MetricsFn:
        """Returns ``fn(logits, batch) -> {name: (sum, normalizer)}``."""
        del split

        def metrics_fn(outputs: PyTree, batch: Batch) -> MetricSums:
            label, weights = _labels(outputs, batch)
            predictions = jnp.argmax(outputs, axis=-1)
            counted = weights * example_mask(batch, len(label))[:, None, None]
            matrix = confusion_matrix(predictions, label, counted, outputs.shape[-1])
            correct, counts = correct_and_counts(matrix)
            return {
                "loss": masked_sums(pixel_cross_entropy(outputs, label), batch, weights),
                "pixel_accuracy": (jnp.sum(correct), jnp.sum(counts)),
                "mean_accuracy": (correct, counts),
                "mean_iou": intersections_and_unions(matrix),
            }

        return metrics_fn


def _labels(outputs: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Labels and their weights, 0 for those that do not count."""
    label = jnp.asarray(batch["label"])
    if outputs.shape[:-1] != label.shape:
        raise ValueError(
            f"The architecture gives {outputs.shape} for labels {label.shape}; segmentation needs "
            "[b, h, w, k] for [b, h, w]. Give the architecture a head that keeps the image's size."
        )
    weights = is_labelled(label, outputs.shape[-1]).astype(jnp.float32)
    return label, weights * jnp.asarray(batch.get("label_weights", 1.0), jnp.float32)


if TYPE_CHECKING:

    def _fits(model: SegmentationModel) -> Model:
        return model
