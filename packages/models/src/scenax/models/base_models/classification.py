"""One label per example."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, final

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from scenax.common.contracts import Batch, DatasetInfo, MetricsFn, MetricSums, Model, PyTree, Split
from scenax.models.base_models.base import BaseModel
from scenax.models.losses.classification import sigmoid_cross_entropy, softmax_cross_entropy
from scenax.models.losses.reduction import masked_mean, masked_sums
from scenax.models.metrics.classification import top_k_correct

_LOSSES = {"softmax": softmax_cross_entropy, "sigmoid": sigmoid_cross_entropy}


@final
class ClassificationModel(BaseModel):
    """Cross-entropy on ``label``, an integer ``[b]`` or a distribution ``[b, k]``.

    Config keys besides ``architecture`` and ``args``: ``loss`` ("softmax", or "sigmoid" for the
    binary cross-entropies summed over the classes, of "ResNet strikes back", arXiv 2110.00476),
    ``label_smoothing`` (0), which is spread over all classes evenly, ``target_threshold`` (none, or
    the share of a class above which "sigmoid" takes it for a whole one, as where two images are
    mixed), and ``class_weights`` (none, or one number for each class).

    Metrics are ``loss`` (the plain cross-entropy, so that runs with other options compare),
    ``accuracy`` and, outside of training and with more than 5 classes, ``top_5_accuracy``.
    """

    task_options: ClassVar[Mapping[str, Any]] = {
        "loss": "softmax",
        "label_smoothing": 0.0,
        "target_threshold": None,
        "class_weights": None,
    }
    task_choices: ClassVar[Mapping[str, Collection[str]]] = {"loss": tuple(_LOSSES)}

    def __init__(
        self,
        config: Mapping[str, Any],
        dataset_meta_data: DatasetInfo,
        *,
        architecture: str | None = None,
    ) -> None:
        """Makes the architecture for the dataset; see ``BaseModel``.

        Raises:
          ValueError: as in ``BaseModel``; if examples have several labels, if the number of
            class weights is not the number of classes, or if "softmax" has a target threshold.
        """
        super().__init__(config, dataset_meta_data, architecture=architecture)
        info, weights = dataset_meta_data, self.options["class_weights"]
        if info.targets == "multi_hot":
            raise ValueError(
                f"ClassificationModel needs one label per example, and {info.name} has several "
                "(targets='multi_hot')."
            )
        if weights is not None and len(weights) != info.num_classes:
            raise ValueError(
                f"class_weights has {len(weights)} numbers for the {info.num_classes} classes of "
                f"{info.name}. Give one for each class."
            )

        if self.options["loss"] == "softmax" and self.options["target_threshold"] is not None:
            raise ValueError(
                "target_threshold is of the loss 'sigmoid', and the loss is 'softmax'."
            )

    def loss_fn(self, outputs: PyTree, batch: Batch, params: PyTree | None = None) -> jax.Array:
        """Returns the mean cross-entropy over the batch's real examples, 0 if there are none.

        Args:
          outputs: logits ``[b, k]``.
          batch: with ``label`` and, maybe, ``batch_mask``.
          params: not used.
        """
        del params
        label = jnp.asarray(batch["label"])
        if label.ndim == 1:
            label = nn.one_hot(label, outputs.shape[-1])
        label = optax.smooth_labels(label, self.options["label_smoothing"])
        if (threshold := self.options["target_threshold"]) is not None:
            label = (label > threshold).astype(jnp.float32)
        loss = _LOSSES[self.options["loss"]]
        values = loss(outputs, label, class_weights=self.options["class_weights"])
        return masked_mean(values, batch)

    def get_metrics_fn(self, split: Split) -> MetricsFn:
        """Returns ``fn(logits, batch) -> {name: (sum, number of real examples)}`` for a split."""
        with_top_5 = split != "train" and self.dataset_meta_data.num_classes > 5

        def metrics_fn(outputs: PyTree, batch: Batch) -> MetricSums:
            label = jnp.asarray(batch["label"])
            values = {
                "loss": _LOSSES[self.options["loss"]](outputs, label),
                "accuracy": top_k_correct(outputs, label),
            }
            if with_top_5:
                values["top_5_accuracy"] = top_k_correct(outputs, label, top=5)
            return {name: masked_sums(value, batch) for name, value in values.items()}

        return metrics_fn


if TYPE_CHECKING:

    def _fits(model: ClassificationModel) -> Model:
        return model
