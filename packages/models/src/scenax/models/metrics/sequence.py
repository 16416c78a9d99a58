"""Metrics of sequences of tokens: accuracy over tokens, exact matches, BLEU.

BLEU is from "BLEU: a Method for Automatic Evaluation of Machine Translation" (Papineni et al.,
ACL 2002), with the smoothing that sacrebleu 2 (arXiv 1804.08771) has by default. Checked against
sacrebleu and formulas written out in numpy. Letters in shapes: b batch, n tokens, k classes.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias, final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from scenax.models.metrics.accumulator import Accumulator

Tokens: TypeAlias = Iterable[int] | np.ndarray
"""Whole numbers, one after another."""


def token_correct(
    logits: Float[Array, "b n k"], targets: Int[Array, "b n"], weights: Float[Array, "b n"]
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """Returns each example's weight of right tokens, and its weight of tokens.

    The accuracy over tokens is the quotient of the two sums over a split.

    Args:
      logits: any scores of the classes; of equal ones the lower class is the prediction.
      targets: classes.
      weights: 0 for tokens that do not count, whose logits do not matter then, NaN included.
    """
    weights = weights.astype(jnp.float32)
    right = jnp.argmax(logits, axis=-1) == targets.astype(jnp.int32)
    return jnp.sum(jnp.where(right, weights, 0.0), axis=-1), jnp.sum(weights, axis=-1)


def exact_match(
    predictions: Int[Array, "b n"], targets: Int[Array, "b n"], weights: Float[Array, "b n"]
) -> Float[Array, " b"]:
    """Returns 1 for each example all of whose tokens that count are right, and 0 otherwise.

    An example of which no token counts is no match.

    Args:
      predictions: classes.
      targets: classes.
      weights: above 0 for the tokens that count; how much above does not matter. The token that
        ends a sequence has to count, or a prediction that goes on after it is a match as well.
    """
    counts = weights > 0
    right = predictions.astype(jnp.int32) == targets.astype(jnp.int32)
    return (jnp.all(right | ~counts, axis=-1) & jnp.any(counts, axis=-1)).astype(jnp.float32)


@final
class BLEU(Accumulator):
    """BLEU of a corpus: how many of the predictions' n-grams occur in their references.

    It is the geometric mean of the clipped precisions of the n-grams of orders 1 to ``max_order``,
    times a penalty if the predictions are shorter than the references. Counts are those of the
    whole corpus, so that it is not a mean over examples. Of several references the one whose length
    is closest counts for the penalty, the shorter one if two are as close.
    """

    def __init__(self, *, max_order: int = 4, smoothing: Literal["exp", "none"] = "exp") -> None:
        """Starts empty.

        Args:
          max_order: the longest n-grams.
          smoothing: ``exp``, sacrebleu's default, takes for the i-th order without any hit
            ``1 / 2^i`` of a hit; ``none`` leaves it 0, and with it BLEU, as in the paper. Corpora
            of some size have hits in every order, and both are the same there.

        Raises:
          ValueError: if ``max_order`` is below 1 or the smoothing is another.
        """
        if max_order < 1:
            raise ValueError(f"max_order has to be 1 or more, got {max_order}.")
        if smoothing not in ("exp", "none"):
            raise ValueError(f"smoothing has to be 'exp' or 'none', got {smoothing!r}.")
        self._max_order = max_order
        self._smoothing = smoothing
        self.clear()

    def add(
        self,
        predictions: Sequence[Tokens],
        references: Sequence[Sequence[Tokens]],
        batch_mask: Shaped[np.ndarray, " b"] | None = None,
    ) -> None:
        """Adds examples.

        Args:
          predictions: each example's tokens, without padding and without the token that ends it.
          references: each example's references, one or more, likewise.
          batch_mask: above 0 for the examples that count.

        Raises:
          ValueError: if there are not as many examples of each, or one has no reference.
        """
        real = np.ones(len(predictions)) if batch_mask is None else batch_mask
        if not len(predictions) == len(references) == len(real):
            raise ValueError(
                f"Each example needs its references and its mask, got {len(predictions)} "
                f"predictions, {len(references)} lists of references and a mask of {len(real)}."
            )
        for prediction, choices, counts in zip(predictions, references, real, strict=True):
            if counts > 0:
                self._add_example(_integers(prediction), [_integers(choice) for choice in choices])

    def _add_example(self, prediction: list[int], references: list[list[int]]) -> None:
        if not references:
            raise ValueError("An example has no reference. Leave it out, or mask it.")
        length = len(prediction)
        closest = min((abs(len(r) - length), len(r)) for r in references)[1]
        self._sizes += (length, closest, 1)
        for order in range(1, self._max_order + 1):
            most: Counter[tuple[int, ...]] = Counter()
            for reference in references:
                most |= _n_grams(reference, order)
            grams = _n_grams(prediction, order)
            self._hits[order - 1] += (grams & most).total()
            self._totals[order - 1] += grams.total()

    def compute(self) -> dict[str, float]:
        """Returns ``bleu`` from 0 to 100 (the paper's is from 0 to 1).

        It is 0 if no n-gram of any order was right, or if no prediction is as long as the largest
        order.

        Raises:
          ValueError: if nothing was added.
        """
        predicted, wanted, examples = self._sizes.tolist()
        if not examples:
            raise ValueError("No sequences were added. Call add with every batch first.")
        if not self._hits.any() or not self._totals.all():
            return {"bleu": 0.0}
        hits = self._hits.astype(np.float64)
        missed = hits == 0
        if self._smoothing == "none" and missed.any():
            return {"bleu": 0.0}
        hits[missed] = 0.5 ** np.arange(1, missed.sum() + 1)
        penalty = min(0.0, 1 - wanted / predicted)
        return {"bleu": 100 * math.exp(penalty + float(np.mean(np.log(hits / self._totals))))}

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns counts of n-grams by order, ``hits`` and ``totals``, and ``sizes``."""
        return {"hits": self._hits, "totals": self._totals, "sizes": self._sizes}

    def add_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Adds what ``to_arrays`` returned; see ``Accumulator``.

        Raises:
          ValueError: if it came from another ``max_order``.
        """
        if len(arrays["hits"]) != self._max_order:
            raise ValueError(
                f"BLEU of order {len(arrays['hits'])} cannot be added to BLEU of order "
                f"{self._max_order}. Use the same settings on both sides."
            )
        self._hits = self._hits + arrays["hits"]
        self._totals = self._totals + arrays["totals"]
        self._sizes = self._sizes + arrays["sizes"]

    def clear(self) -> None:
        """Forgets all that was added."""
        self._hits = np.zeros(self._max_order, np.int64)
        self._totals = np.zeros(self._max_order, np.int64)
        # Tokens of the predictions, of the closest references, and examples.
        self._sizes = np.zeros(3, np.int64)


def _integers(tokens: Tokens) -> list[int]:
    return [int(token) for token in tokens]


def _n_grams(tokens: list[int], order: int) -> Counter[tuple[int, ...]]:
    return Counter(zip(*(tokens[start:] for start in range(order)), strict=False))
