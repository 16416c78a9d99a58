"""Objects as a set: every prediction answers for one object at most.

The criterion of DETR (arXiv 2005.12872) and, with the focal loss, of Deformable DETR (arXiv
2010.04159). Letters in shapes: b batch, n predictions, m targets, k classes, p pairs.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from scenax.common import boxes
from scenax.common.contracts import Batch, MetricsFn, MetricSums, Model, PyTree, Split
from scenax.models.base_models.base import BaseModel
from scenax.models.losses.boxes import giou, l1
from scenax.models.losses.classification import sigmoid_focal, softmax_cross_entropy
from scenax.models.losses.reduction import example_mask, masked_sums
from scenax.models.matchers.greedy import greedy
from scenax.models.matchers.hungarian import hungarian
from scenax.models.matchers.hungarian_host import hungarian_host
from scenax.models.matchers.lazy import lazy
from scenax.models.matchers.sinkhorn import sinkhorn

_MATCHERS = {f.__name__: f for f in (greedy, hungarian, hungarian_host, lazy, sinkhorn)}

Outputs = Mapping[str, Any]


@final
class DetectionModel(BaseModel):
    """Classes and boxes of predictions that are matched with the objects of an image.

    ``label`` is a mapping: ``boxes`` ``[b, m, 4]``, xyxy as shares of the image; ``classes``
    ``[b, m]``, from 0; and ``mask`` ``[b, m]``, 1 for real objects and 0 for padding (set it to 0
    for crowds, too).

    The architecture gives a mapping: ``logits`` ``[b, n, k + 1]``, whose last class is "no object"
    (``[b, n, k]`` for the focal loss); ``boxes`` ``[b, n, 4]``, cxcywh as shares of the image; and
    maybe ``aux_outputs``, a sequence of such mappings of earlier layers, which are trained alike.
    It is made for k classes, the dataset's, and adds the last by itself.

    Config keys besides ``architecture`` and ``args``: ``class_loss``, ``"softmax"`` or ``"focal"``;
    ``class_coef`` (1), ``box_coef`` (5) and ``giou_coef`` (2), weights of the terms in the loss and
    in the costs of matching; ``no_object_weight`` (0.1), of the softmax's last class; ``matcher``
    (``"hungarian"``).

    Metrics are ``loss`` (the mean of batches, by their real examples), its terms ``class_loss``,
    ``box_loss`` and ``giou_loss`` of the last layer, and ``class_accuracy``, how many matched
    predictions have the right class. Average precision is in ``metrics.detection``, for what
    ``detections`` returns.
    """

    task_options: ClassVar[Mapping[str, Any]] = {
        "class_loss": "softmax",
        "class_coef": 1.0,
        "box_coef": 5.0,
        "giou_coef": 2.0,
        "no_object_weight": 0.1,
        "matcher": "hungarian",
    }
    task_choices: ClassVar[Mapping[str, Collection[str]]] = {
        "class_loss": ("softmax", "focal"),
        "matcher": _MATCHERS,
    }

    def loss_fn(self, outputs: PyTree, batch: Batch, params: PyTree | None = None) -> jax.Array:
        """Returns the sum of the weighted terms, of all layers.

        Each is divided by what it counts in the whole batch: objects, or the weights of the classes
        of predictions, and by 1 if there are none. A batch without real examples gives 0.

        Args:
          outputs: of the architecture.
          batch: with ``label`` and, maybe, ``batch_mask``.
          params: not used.
        """
        del params
        return self._total(self._layers(outputs, batch))

    def get_metrics_fn(self, split: Split) -> MetricsFn:
        """Returns ``fn(outputs, batch) -> {name: (sum, normalizer)}``."""
        del split

        def metrics_fn(outputs: PyTree, batch: Batch) -> MetricSums:
            examples = jnp.sum(example_mask(batch, len(outputs["boxes"])))
            layers = self._layers(outputs, batch)
            return {**layers[0], "loss": (self._total(layers) * examples, examples)}

        return metrics_fn

    def detections(self, outputs: PyTree) -> dict[str, jax.Array]:
        """Returns what the network sees, for every prediction or, with the focal loss, the best.

        Args:
          outputs: of the architecture.

        Returns:
          ``boxes`` ``[b, n, 4]``, xyxy as shares of the image; ``scores`` ``[b, n]``, from 0 to 1;
          ``classes`` ``[b, n]``. With the softmax in the order of the predictions, of each its
          likeliest class that is an object; with the focal loss the n best pairs of prediction and
          class, best first.
        """
        logits = outputs["logits"].astype(jnp.float32)
        corners = boxes.cxcywh_to_xyxy(outputs["boxes"].astype(jnp.float32))
        if self.options["class_loss"] == "softmax":
            p = jax.nn.softmax(logits)[..., :-1]
            return {"boxes": corners, "scores": p.max(-1), "classes": jnp.argmax(p, axis=-1)}
        b, n, k = logits.shape
        scores, best = jax.lax.top_k(jax.nn.sigmoid(logits).reshape(b, n * k), n)
        chosen = jnp.take_along_axis(corners, (best // k)[..., None], axis=1)
        return {"boxes": chosen, "scores": scores, "classes": best % k}

    def _layers(self, outputs: Outputs, batch: Batch) -> list[MetricSums]:
        """The terms of the last layer, and of those before it."""
        layers = [outputs, *outputs.get("aux_outputs", ())]
        return [self._terms(layer, batch) for layer in layers]

    def _total(self, layers: list[MetricSums]) -> jax.Array:
        loss = jnp.zeros(())
        for terms in layers:
            for name in ("class", "box", "giou"):
                total, count = terms[f"{name}_loss"]
                loss += self.options[f"{name}_coef"] * total / jnp.where(count == 0, 1.0, count)
        return loss

    def _terms(self, outputs: Outputs, batch: Batch) -> MetricSums:
        """The sums of a layer's terms, and what they are divided by."""
        logits = outputs["logits"].astype(jnp.float32)
        predicted = outputs["boxes"].astype(jnp.float32)
        label = {name: jnp.asarray(value) for name, value in batch["label"].items()}
        mask = example_mask(batch, len(logits))[:, None] * label["mask"].astype(jnp.float32)
        # What padding holds does not matter: here it is a box like any other.
        corners = jnp.where(mask[..., None] > 0, label["boxes"].astype(jnp.float32), 0.5)
        classes = jnp.where(mask > 0, label["classes"], 0)

        cost = self._cost(logits, predicted, corners, classes)
        pairs = _MATCHERS[self.options["matcher"]](cost, mask > 0)
        of_prediction, of_target = pairs[:, 0], pairs[:, 1]
        weights = jnp.take_along_axis(mask, of_target, axis=1)
        matched = jnp.take_along_axis(predicted, of_prediction[..., None], axis=1)
        wanted = jnp.take_along_axis(corners, of_target[..., None], axis=1)
        wanted_classes = jnp.take_along_axis(classes, of_target, axis=1)

        objects = jnp.sum(mask)
        distances = weights * l1(matched, boxes.xyxy_to_cxcywh(wanted))
        overlaps = weights * giou(boxes.cxcywh_to_xyxy(matched), wanted)
        batch_rows = jnp.arange(len(logits))[:, None]
        k = self.dataset_meta_data.num_classes
        targets = jnp.full(logits.shape[:2], k).at[batch_rows, of_prediction]
        targets = targets.set(jnp.where(weights > 0, wanted_classes, k))
        right = jnp.take_along_axis(jnp.argmax(logits[..., :k], axis=-1), of_prediction, axis=1)
        right = jnp.where(right == wanted_classes, weights, 0.0)
        return {
            "class_loss": self._class_sums(logits, targets, batch, objects),
            "box_loss": (jnp.sum(distances), objects),
            "giou_loss": (jnp.sum(overlaps), objects),
            "class_accuracy": (jnp.sum(right), objects),
        }

    def _class_sums(
        self, logits: jax.Array, targets: jax.Array, batch: Batch, objects: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        k = self.dataset_meta_data.num_classes
        if self.options["class_loss"] == "focal":
            values = sigmoid_focal(logits, jax.nn.one_hot(targets, k))
            return masked_sums(values, batch)[0], objects
        values = softmax_cross_entropy(logits.reshape(-1, k + 1), targets.reshape(-1))
        weights = jnp.where(targets == k, self.options["no_object_weight"], 1.0)
        return masked_sums(values.reshape(targets.shape), batch, weights)

    def _cost(
        self,
        logits: Float[Array, "b n k1"],
        predicted: Float[Array, "b n 4"],
        corners: Float[Array, "b m 4"],
        classes: Int[Array, "b m"],
    ) -> Float[Array, "b n m"]:
        if self.options["class_loss"] == "softmax":
            of_class = -jax.nn.softmax(logits)
        else:  # What it would cost to be of a class, less what it would cost not to be.
            log_p, log_not_p = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
            p = jax.nn.sigmoid(logits)
            of_class = 0.75 * p**2 * log_not_p - 0.25 * (1 - p) ** 2 * log_p
        of_class = jnp.take_along_axis(of_class, classes[:, None, :], axis=2)
        centered = boxes.xyxy_to_cxcywh(corners)
        distance = l1(predicted[:, :, None], centered[:, None])
        overlap = boxes.pairwise_giou(boxes.cxcywh_to_xyxy(predicted), corners)
        options = self.options
        return (
            options["class_coef"] * of_class
            + options["box_coef"] * distance
            - options["giou_coef"] * overlap
        )


if TYPE_CHECKING:

    def _fits(model: DetectionModel) -> Model:
        return model
