"""Pairs of an image and a text that belong together."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, final

import jax
import jax.numpy as jnp

from scenax.common.contracts import Batch, MetricsFn, MetricSums, Model, PyTree, Split
from scenax.models.base_models.base import BaseModel
from scenax.models.losses.contrastive import sigmoid_contrastive, softmax_contrastive
from scenax.models.losses.reduction import example_mask, masked_mean, masked_sums


@final
class ContrastiveModel(BaseModel):
    """CLIP's or SigLIP's loss of ``inputs`` ``[b, ...]`` and ``text`` ``[b, ...]``.

    The architecture is called with both and gives a mapping: ``image`` and ``text``, embeddings
    ``[b, d]`` of length 1, ``scale``, the factor of similarities, and for the sigmoid ``bias``.

    Config keys besides ``architecture`` and ``args``: ``loss``, ``"softmax"`` (CLIP, arXiv
    2103.00020) or ``"sigmoid"`` (SigLIP, arXiv 2303.15343).

    Metrics are ``loss``, and ``image_to_text`` and ``text_to_image``, how often the nearest within
    the batch is the right one. Retrieval over a split is in ``metrics.retrieval``.
    """

    task_options: ClassVar[Mapping[str, Any]] = {"loss": "softmax"}
    task_choices: ClassVar[Mapping[str, Collection[str]]] = {"loss": ("softmax", "sigmoid")}
    network_inputs: ClassVar[tuple[str, ...]] = ("inputs", "text")

    def loss_fn(self, outputs: PyTree, batch: Batch, params: PyTree | None = None) -> jax.Array:
        """Returns the mean loss over the batch's real pairs, 0 if there are none.

        Args:
          outputs: of the architecture.
          batch: with, maybe, ``batch_mask``.
          params: not used.
        """
        del params
        return masked_mean(self._values(outputs, batch), batch)

    def get_metrics_fn(self, split: Split) -> MetricsFn:
        """Returns ``fn(outputs, batch) -> {name: (sum, number of real pairs)}``."""
        del split

        def metrics_fn(outputs: PyTree, batch: Batch) -> MetricSums:
            images, texts = outputs["image"], outputs["text"]
            real = example_mask(batch, len(images)) > 0
            similarities = images.astype(jnp.float32) @ texts.astype(jnp.float32).T
            similarities = jnp.where(real[:, None] & real[None, :], similarities, -jnp.inf)
            pairs = jnp.arange(len(images))
            values = {
                "loss": self._values(outputs, batch),
                "image_to_text": jnp.argmax(similarities, axis=1) == pairs,
                "text_to_image": jnp.argmax(similarities, axis=0) == pairs,
            }
            return {name: masked_sums(value, batch) for name, value in values.items()}

        return metrics_fn

    def _values(self, outputs: Mapping[str, jax.Array], batch: Batch) -> jax.Array:
        images, texts, scale = outputs["image"], outputs["text"], outputs["scale"]
        mask = example_mask(batch, len(images))
        if self.options["loss"] == "softmax":
            return softmax_contrastive(images, texts, scale, mask)
        return sigmoid_contrastive(images, texts, scale, outputs["bias"], mask)


if TYPE_CHECKING:

    def _fits(model: ContrastiveModel) -> Model:
        return model
