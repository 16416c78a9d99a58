"""Metrics of how well scores rank the examples of each class, for several labels per example.

Both depend on the order of all scores of a split, so they are accumulators. Checked against
scikit-learn's ``average_precision_score`` and ``roc_auc_score``. Letters in shapes: b batch,
k classes.
"""

import abc
from collections.abc import Mapping
from typing import final

import numpy as np
from jaxtyping import Bool, Float, Shaped

from scenax.models.metrics.accumulator import Accumulator


class _Ranking(Accumulator):
    """Keeps scores and labels of all examples."""

    def __init__(self) -> None:
        """Starts empty."""
        self.clear()

    def add(
        self,
        scores: Float[np.ndarray, "b k"],
        targets: Shaped[np.ndarray, "b k"],
        batch_mask: Shaped[np.ndarray, " b"] | None = None,
    ) -> None:
        """Adds examples.

        Args:
          scores: any scores of the classes, higher is likelier; they are kept in float32, or in
            float64 where they come in it.
          targets: 1 at an example's labels, 0 elsewhere.
          batch_mask: above 0 for the examples that count, each of which counts once.

        Raises:
          ValueError: for NaN among the scores, targets other than 0 and 1, or another number of
            classes than before.
        """
        if scores.dtype != np.float64:
            scores = scores.astype(np.float32)
        if batch_mask is not None:
            real = batch_mask > 0
            scores, targets = scores[real], targets[real]
        if np.isnan(scores).any():
            raise ValueError(
                "Scores hold NaN, which has no rank. Find where the model makes them, or mask "
                "the examples with batch_mask."
            )
        if not np.isin(targets, (0, 1)).all():
            raise ValueError("Targets have to be 0 or 1 for each class, got other values.")
        if self._scores and self._scores[0].shape[1] != scores.shape[1]:
            raise ValueError(
                f"Scores of {scores.shape[1]} classes came after scores of "
                f"{self._scores[0].shape[1]}. Use one accumulator per set of classes."
            )
        self._scores.append(scores)
        self._targets.append(targets.astype(bool))

    @abc.abstractmethod
    def per_class(self) -> Float[np.ndarray, " k"]:
        """Returns each class's figure, NaN where it is not defined.

        Raises:
          ValueError: if nothing was added.
        """

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns all ``scores`` and ``targets``; see ``Accumulator``."""
        if not self._scores:
            return {}
        return {"scores": np.concatenate(self._scores), "targets": np.concatenate(self._targets)}

    def add_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Adds what ``to_arrays`` returned; see ``Accumulator``."""
        if arrays:
            self.add(arrays["scores"], arrays["targets"])

    def clear(self) -> None:
        """Forgets all that was added."""
        self._scores: list[np.ndarray] = []
        self._targets: list[np.ndarray] = []

    def _columns(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns each class's scores and labels."""
        arrays = self.to_arrays()
        if not arrays:
            raise ValueError("No scores were added. Call add with every batch before computing.")
        return list(zip(arrays["scores"].T, arrays["targets"].T, strict=True))


def _mean_of_defined(values: np.ndarray, needed: str) -> float:
    if np.isnan(values).all():
        raise ValueError(f"No class has {needed} among the examples that were added.")
    return float(np.nanmean(values))


@final
class AveragePrecision(_Ranking):
    """Mean average precision over classes, as is usual where examples have several labels.

    A class's average precision is the sum over the distinct scores, from the highest, of the
    precision at that score times the recall gained there; nothing is interpolated. Examples with
    equal scores are taken together, so their order does not matter.
    """

    def per_class(self) -> Float[np.ndarray, " k"]:
        """Returns each class's average precision, NaN for a class without positives.

        Raises:
          ValueError: if nothing was added.
        """
        return np.array([_average_precision(s, t) for s, t in self._columns()])

    def compute(self) -> dict[str, float]:
        """Returns ``average_precision``, the mean over the classes that have positives.

        Raises:
          ValueError: if nothing was added, or no class has positives.
        """
        return {"average_precision": _mean_of_defined(self.per_class(), "positives")}


@final
class AUROC(_Ranking):
    """Area under the receiver operating characteristic, per class and its mean over classes.

    It is the probability that a positive example scores higher than a negative one, a tie
    counting as one half.
    """

    def per_class(self) -> Float[np.ndarray, " k"]:
        """Returns each class's area, NaN for a class with positives only or negatives only.

        Raises:
          ValueError: if nothing was added.
        """
        return np.array([_area_under_roc(s, t) for s, t in self._columns()])

    def compute(self) -> dict[str, float]:
        """Returns ``auroc``, the mean over the classes that have positives and negatives.

        Raises:
          ValueError: if nothing was added, or no class has both.
        """
        return {"auroc": _mean_of_defined(self.per_class(), "both positives and negatives")}


def _average_precision(scores: Float[np.ndarray, " b"], targets: Bool[np.ndarray, " b"]) -> float:
    if not targets.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    scores, targets = scores[order], targets[order]
    # A threshold falls behind the last of several equal scores.
    behind = np.append(scores[1:] != scores[:-1], True)
    found = np.cumsum(targets)[behind]
    precision = found / (np.flatnonzero(behind) + 1)
    return float(np.sum(np.diff(found, prepend=0) * precision) / targets.sum())


def _area_under_roc(scores: Float[np.ndarray, " b"], targets: Bool[np.ndarray, " b"]) -> float:
    positives = int(targets.sum())
    negatives = targets.size - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    # Equal scores share the mean of their ranks (the statistic of Mann and Whitney).
    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[group]
    wins = ranks[targets].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * negatives))
