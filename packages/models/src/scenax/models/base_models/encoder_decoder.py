"""A sequence of tokens for every example."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, final

import jax
import jax.numpy as jnp

from scenax.common.contracts import Batch, MetricsFn, MetricSums, Model, PyTree, Split
from scenax.models.base_models.base import BaseModel
from scenax.models.losses.reduction import masked_mean, masked_sums
from scenax.models.losses.sequence import token_cross_entropy
from scenax.models.metrics.sequence import exact_match, token_correct


@final
class EncoderDecoderModel(BaseModel):
    """Softmax cross-entropy on ``label`` ``[b, n]``, the tokens of a sequence.

    The architecture is called with ``inputs`` and ``label``, and gives logits ``[b, n, k]`` of
    every token by those before it: it shifts the labels itself. ``label_weights`` ``[b, n]`` in a
    batch, if there are any, weigh its tokens.

    Config keys besides ``architecture`` and ``args``: ``label_smoothing`` (0) and ``pad_id`` (0),
    the token that stands for none and does not count; -1 if there is no such token.

    Metrics are ``loss`` (the plain cross-entropy of a token, whose exponential is the perplexity),
    ``token_accuracy``, and ``exact_match``, how often all tokens of an example are right. All are
    with the true tokens as context.
    """

    task_options: ClassVar[Mapping[str, Any]] = {"label_smoothing": 0.0, "pad_id": 0}
    network_inputs: ClassVar[tuple[str, ...]] = ("inputs", "label")

    def loss_fn(self, outputs: PyTree, batch: Batch, params: PyTree | None = None) -> jax.Array:
        """Returns the mean loss over the tokens of real examples, 0 if there are none.

        Args:
          outputs: logits ``[b, n, k]``.
          batch: with ``label`` and, maybe, ``batch_mask`` and ``label_weights``.
          params: not used.
        """
        del params
        label, weights = self._labels(batch)
        smoothing = self.options["label_smoothing"]
        values = token_cross_entropy(outputs, label, label_smoothing=smoothing)
        return masked_mean(values, batch, weights)

    def get_metrics_fn(self, split: Split) -> MetricsFn:
        """Returns ``fn(logits, batch) -> {name: (sum, number of tokens, or of examples)}``."""
        del split

        def metrics_fn(outputs: PyTree, batch: Batch) -> MetricSums:
            label, weights = self._labels(batch)
            right, tokens = token_correct(outputs, label, weights)
            whole = exact_match(jnp.argmax(outputs, axis=-1), label, weights)
            return {
                "loss": masked_sums(token_cross_entropy(outputs, label), batch, weights),
                "token_accuracy": (masked_sums(right, batch)[0], masked_sums(tokens, batch)[0]),
                "exact_match": masked_sums(whole, batch),
            }

        return metrics_fn

    def _labels(self, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Labels and their weights, 0 for padding; there, the label is some token that exists."""
        label = jnp.asarray(batch["label"])
        counts = label != self.options["pad_id"]
        weights = counts.astype(jnp.float32)
        if "label_weights" in batch:
            weights = weights * jnp.asarray(batch["label_weights"], jnp.float32)
        return jnp.where(counts, label, 0), weights


if TYPE_CHECKING:

    def _fits(model: EncoderDecoderModel) -> Model:
        return model
