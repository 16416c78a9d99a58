"""Any number of labels per example."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, final

import jax
import jax.numpy as jnp

from scenax.common.contracts import Batch, MetricsFn, MetricSums, Model, PyTree, Split
from scenax.models.base_models.base import BaseModel
from scenax.models.losses.classification import sigmoid_cross_entropy
from scenax.models.losses.reduction import masked_mean, masked_sums
from scenax.models.metrics.classification import multilabel_top_1_correct


@final
class MultiLabelClassificationModel(BaseModel):
    """Sigmoid cross-entropy on ``label`` ``[b, k]``, ones for the classes of an example.

    A label that is one class ``[b]`` does too: ViTs are often trained so on ImageNet.

    Config keys besides ``architecture`` and ``args``: ``label_smoothing`` (0) and
    ``class_weights`` (none, or one number for each class).

    Metrics are ``loss`` (the plain one, summed over the classes) and ``top_1_accuracy``, how often
    the likeliest class is among the labels. What is not a sum over examples, such as the average
    precision, is in ``metrics.ranking``.
    """

    task_options: ClassVar[Mapping[str, Any]] = {"label_smoothing": 0.0, "class_weights": None}

    def loss_fn(self, outputs: PyTree, batch: Batch, params: PyTree | None = None) -> jax.Array:
        """Returns the mean loss over the batch's real examples, 0 if there are none.

        Args:
          outputs: logits ``[b, k]``.
          batch: with ``label`` and, maybe, ``batch_mask``.
          params: not used.

        Raises:
          ValueError: if the number of class weights is not that of the classes.
        """
        del params
        values = sigmoid_cross_entropy(
            outputs,
            jnp.asarray(batch["label"]),
            label_smoothing=self.options["label_smoothing"],
            class_weights=self.options["class_weights"],
        )
        return masked_mean(values, batch)

    def get_metrics_fn(self, split: Split) -> MetricsFn:
        """Returns ``fn(logits, batch) -> {name: (sum, number of real examples)}``."""
        del split

        def metrics_fn(outputs: PyTree, batch: Batch) -> MetricSums:
            label = jnp.asarray(batch["label"])
            multi_hot = jax.nn.one_hot(label, outputs.shape[-1]) if label.ndim == 1 else label
            values = {
                "loss": sigmoid_cross_entropy(outputs, label),
                "top_1_accuracy": multilabel_top_1_correct(outputs, multi_hot),
            }
            return {name: masked_sums(value, batch) for name, value in values.items()}

        return metrics_fn


if TYPE_CHECKING:

    def _fits(model: MultiLabelClassificationModel) -> Model:
        return model
