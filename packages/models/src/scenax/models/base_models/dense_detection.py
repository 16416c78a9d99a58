"""Objects by anchors: every anchor says which object it sees, if any, and how far off it is.

The criterion of RetinaNet (arXiv 1708.02002). Letters in shapes: b batch, a anchors, m targets, k
classes.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, final

import jax
import jax.numpy as jnp

from scenax.common import boxes, nms
from scenax.common.anchors import from_deltas, to_deltas
from scenax.common.contracts import Batch, MetricsFn, MetricSums, Model, PyTree, Split
from scenax.models.base_models.base import BaseModel
from scenax.models.losses.boxes import l1
from scenax.models.losses.classification import sigmoid_focal
from scenax.models.losses.reduction import masked_mean, masked_sums
from scenax.models.matchers.by_overlap import BETWEEN, by_overlap


@final
class DenseDetectionModel(BaseModel):
    """Classes and offsets of anchors that overlap the objects of an image.

    ``label`` is a mapping, as for ``DetectionModel``: ``boxes`` ``[b, m, 4]``, xyxy as shares of
    the image; ``classes`` ``[b, m]``, from 0; and ``mask`` ``[b, m]``, 1 for real objects.

    The architecture gives a mapping: ``logits`` ``[b, a, k]``; ``deltas`` ``[b, a, 4]``, offsets as
    ``scenax.common.anchors`` writes them; ``anchors`` ``[a, 4]``, xyxy as shares.

    Config keys besides ``architecture`` and ``args``: ``background_iou`` (0.4) and
    ``foreground_iou`` (0.5), between which an anchor does not count; ``box_coef`` (1); ``alpha``
    (0.25) and ``gamma`` (2) of the focal loss.

    Metrics are ``loss``, ``class_loss`` and ``box_loss``, means over images of what an image has by
    its anchors on objects. Average precision is in ``metrics.detection``, for what ``detections``
    returns.
    """

    task_options: ClassVar[Mapping[str, Any]] = {
        "background_iou": 0.4,
        "foreground_iou": 0.5,
        "box_coef": 1.0,
        "alpha": 0.25,
        "gamma": 2.0,
    }

    def loss_fn(self, outputs: PyTree, batch: Batch, params: PyTree | None = None) -> jax.Array:
        """Returns the mean loss over the batch's real examples, 0 if there are none.

        Args:
          outputs: of the architecture.
          batch: with ``label`` and, maybe, ``batch_mask``.
          params: not used.
        """
        del params
        return masked_mean(self._values(outputs, batch)["loss"], batch)

    def get_metrics_fn(self, split: Split) -> MetricsFn:
        """Returns ``fn(outputs, batch) -> {name: (sum, number of real examples)}``."""
        del split

        def metrics_fn(outputs: PyTree, batch: Batch) -> MetricSums:
            values = self._values(outputs, batch)
            return {name: masked_sums(value, batch) for name, value in values.items()}

        return metrics_fn

    def detections(
        self,
        outputs: PyTree,
        *,
        max_outputs: int = 100,
        iou_threshold: float = 0.5,
        score_threshold: float = 0.05,
    ) -> dict[str, jax.Array]:
        """Returns what the network sees, best first, without what is seen twice.

        Args:
          outputs: of the architecture.
          max_outputs: the number n of detections in an image.
          iou_threshold: above it, the lesser of two boxes of a class goes.
          score_threshold: what scores less is left out. At most 1,000 pairs of anchor and class
            are looked at in an image.

        Returns:
          ``boxes`` ``[b, n, 4]``, xyxy as shares of the image; ``scores`` ``[b, n]``, 0 where there
          is no detection any more; ``classes`` ``[b, n]``.
        """
        logits = outputs["logits"].astype(jnp.float32)
        anchors = outputs["anchors"].astype(jnp.float32)
        b, a, k = logits.shape
        scores, best = jax.lax.top_k(jax.nn.sigmoid(logits).reshape(b, a * k), min(1000, a * k))
        deltas = jnp.take_along_axis(outputs["deltas"], (best // k)[..., None], axis=1)
        found = boxes.clip(from_deltas(deltas.astype(jnp.float32), anchors[best // k]), 1, 1)
        scores = jnp.where(scores >= score_threshold, scores, jnp.nan)

        def without_doubles(*image: jax.Array) -> tuple[jax.Array, jax.Array]:
            return nms.nms_per_class(*image, iou_threshold=iou_threshold, max_outputs=max_outputs)

        kept, valid = jax.vmap(without_doubles)(found, scores, best % k)
        return {
            "boxes": jnp.take_along_axis(found, kept[..., None], axis=1),
            "scores": jnp.where(valid, jnp.take_along_axis(scores, kept, axis=1), 0.0),
            "classes": jnp.take_along_axis(best % k, kept, axis=1),
        }

    def _values(self, outputs: Mapping[str, jax.Array], batch: Batch) -> dict[str, jax.Array]:
        """The loss of each image, and its terms."""
        logits = outputs["logits"].astype(jnp.float32)
        anchors = outputs["anchors"].astype(jnp.float32)
        label = {name: jnp.asarray(value) for name, value in batch["label"].items()}
        mask = label["mask"] > 0
        corners = jnp.where(mask[..., None], label["boxes"].astype(jnp.float32), 0.5)
        classes = jnp.where(mask, label["classes"], 0)

        iou = boxes.pairwise_iou(jnp.broadcast_to(anchors, (len(corners), *anchors.shape)), corners)
        low, high = self.options["background_iou"], self.options["foreground_iou"]
        target = by_overlap(iou, mask, low=low, high=high)
        on_object = target >= 0
        chosen = jnp.maximum(target, 0)
        objects = jnp.maximum(jnp.sum(on_object, axis=1), 1).astype(jnp.float32)

        wanted = jax.nn.one_hot(jnp.take_along_axis(classes, chosen, axis=1), logits.shape[-1])
        wanted = wanted * on_object[..., None].astype(jnp.float32)
        focal = sigmoid_focal(
            logits, wanted, alpha=self.options["alpha"], gamma=self.options["gamma"]
        )
        of_class = jnp.sum(jnp.where(target == BETWEEN, 0.0, focal), axis=1) / objects

        own = jnp.take_along_axis(corners, chosen[..., None], axis=1)
        # Anchors without an object want to stay where they are: no offset from padding is NaN.
        own = jnp.where(on_object[..., None], own, anchors[None])
        distance = l1(outputs["deltas"], to_deltas(own, anchors[None]))
        of_box = jnp.sum(jnp.where(on_object, distance, 0.0), axis=1) / objects
        loss = of_class + self.options["box_coef"] * of_box
        return {"loss": loss, "class_loss": of_class, "box_loss": of_box}


if TYPE_CHECKING:

    def _fits(model: DenseDetectionModel) -> Model:
        return model
