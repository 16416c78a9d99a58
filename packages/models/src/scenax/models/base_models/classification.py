"""One label per example."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, final

import jax
import jax.numpy as jnp

from scenax.common.contracts import Batch, DatasetInfo, MetricsFn, MetricSums, Model, PyTree, Split
from scenax.models.base_models.base import BaseModel
from scenax.models.losses.classification import softmax_cross_entropy
from scenax.models.losses.reduction import masked_mean, masked_sums
from scenax.models.metrics.classification import top_k_correct


@final
class ClassificationModel(BaseModel):
    """Softmax cross-entropy on ``label``, an integer ``[b]`` or a distribution ``[b, k]``.

    Config keys besides ``architecture`` and ``args``: ``label_smoothing`` (0) and
    ``class_weights`` (none, or one number for each class).

    Metrics are ``loss`` (the plain cross-entropy, so that runs with other options compare),
    ``accuracy`` and, outside of training and with more than 5 classes, ``top_5_accuracy``.
    """

    task_options: ClassVar[Mapping[str, Any]] = {"label_smoothing": 0.0, "class_weights": None}

    def __init__(
        self,
        config: Mapping[str, Any],
        dataset_meta_data: DatasetInfo,
        *,
        architecture: str | None = None,
    ) -> None:
        """Makes the architecture for the dataset; see ``BaseModel``.

        Raises:
          ValueError: as in ``BaseModel``; if examples have several labels, or if the number of
            class weights is not the number of classes.
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

    def loss_fn(self, outputs: PyTree, batch: Batch, params: PyTree | None = None) -> jax.Array:
        """Returns the mean cross-entropy over the batch's real examples, 0 if there are none.

        Args:
          outputs: logits ``[b, k]``.
          batch: with ``label`` and, maybe, ``batch_mask``.
          params: not used.
        """
        del params
        values = softmax_cross_entropy(
            outputs,
            jnp.asarray(batch["label"]),
            label_smoothing=self.options["label_smoothing"],
            class_weights=self.options["class_weights"],
        )
        return masked_mean(values, batch)

    def get_metrics_fn(self, split: Split) -> MetricsFn:
        """Returns ``fn(logits, batch) -> {name: (sum, number of real examples)}`` for a split."""
        with_top_5 = split != "train" and self.dataset_meta_data.num_classes > 5

        def metrics_fn(outputs: PyTree, batch: Batch) -> MetricSums:
            label = jnp.asarray(batch["label"])
            values = {
                "loss": softmax_cross_entropy(outputs, label),
                "accuracy": top_k_correct(outputs, label),
            }
            if with_top_5:
                values["top_5_accuracy"] = top_k_correct(outputs, label, top=5)
            return {name: masked_sums(value, batch) for name, value in values.items()}

        return metrics_fn


if TYPE_CHECKING:

    def _fits(model: ClassificationModel) -> Model:
        return model
