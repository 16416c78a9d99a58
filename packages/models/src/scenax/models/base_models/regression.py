"""Numbers to predict."""

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, final

import jax
import jax.numpy as jnp

from scenax.common.contracts import Batch, MetricsFn, MetricSums, Model, PyTree, Split
from scenax.models.base_models.base import BaseModel
from scenax.models.losses.reduction import masked_mean, masked_sums
from scenax.models.losses.regression import absolute_error, huber, squared_error

_LOSSES: dict[str, Callable[..., jax.Array]] = {
    "absolute_error": absolute_error,
    "huber": huber,
    "squared_error": squared_error,
}


@final
class RegressionModel(BaseModel):
    """Distance to ``label`` ``[b, ...]``, numbers in the shape of the outputs.

    Config keys besides ``architecture`` and ``args``: ``loss``, ``"squared_error"`` (without
    Scenic's sum over an example's numbers: it is their mean), ``"absolute_error"`` or ``"huber"``.
    A dataset's ``num_classes`` is how many numbers there are.

    Metrics are ``loss``, ``mean_squared_error`` and ``mean_absolute_error``.
    """

    task_options: ClassVar[Mapping[str, Any]] = {"loss": "squared_error"}
    task_choices: ClassVar[Mapping[str, Collection[str]]] = {"loss": _LOSSES}

    def loss_fn(self, outputs: PyTree, batch: Batch, params: PyTree | None = None) -> jax.Array:
        """Returns the mean loss over the batch's real examples, 0 if there are none.

        Args:
          outputs: numbers ``[b, ...]``.
          batch: with ``label`` and, maybe, ``batch_mask``.
          params: not used.

        Raises:
          ValueError: if outputs and labels differ in shape.
        """
        del params
        return masked_mean(_LOSSES[self.options["loss"]](outputs, _targets(outputs, batch)), batch)

    def get_metrics_fn(self, split: Split) -> MetricsFn:
        """Returns ``fn(outputs, batch) -> {name: (sum, number of real examples)}``."""
        del split

        def metrics_fn(outputs: PyTree, batch: Batch) -> MetricSums:
            targets = _targets(outputs, batch)
            values = {
                "loss": _LOSSES[self.options["loss"]](outputs, targets),
                "mean_squared_error": squared_error(outputs, targets),
                "mean_absolute_error": absolute_error(outputs, targets),
            }
            return {name: masked_sums(value, batch) for name, value in values.items()}

        return metrics_fn


def _targets(outputs: jax.Array, batch: Batch) -> jax.Array:
    targets = jnp.asarray(batch["label"], jnp.float32)
    if targets.shape != outputs.shape:
        raise ValueError(
            f"The architecture gives {outputs.shape} and labels are {targets.shape}. Make them the "
            "same; [b] and [b, 1] are not."
        )
    return targets


if TYPE_CHECKING:

    def _fits(model: RegressionModel) -> Model:
        return model
