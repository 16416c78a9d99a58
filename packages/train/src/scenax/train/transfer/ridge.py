"""Ridge regression on one-hot targets: every penalty from one eigendecomposition.

The classifier of few-shot evaluation in BiT (arXiv 1912.11370) and ViT (arXiv 2010.11929), as in
big_vision's ``evaluators/fewshot_lsr.py``: standardized features, targets 1 for the class and -1
for the others, and a bias that is penalized as the weight of one more feature, whose value is 100.
Features of mean 0 have nothing to do with that one, so the bias is known in closed form, and with a
penalty p and n examples it is the mean target over ``1 + p / (100^2 n)``. This is the same solution
without a feature of 100 among those of 1, which costs float32 some digits; all is float64 here.
Checked against the normal equations with that feature, and big_vision's functions in float64, of
which all accuracies were the same.

Letters in shapes: n m examples, d width, k classes, r the smaller of n and d, p penalties.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int32

from scenax.train.transfer.features import Features, Splits
from scenax.train.transfer.standardize import Standardizer, blocks
from scenax.train.transfer.sweep import Sweep

PENALTIES = tuple(2.0**power for power in range(-10, 21))
"""2^-10 to 2^20, weak to strong; big_vision's 2^10 is one of them."""

_BIAS_FEATURE = 100.0


@dataclasses.dataclass(frozen=True)
class RidgePath:
    """The solutions of all penalties: weights are ``left @ diag(1 / (e + penalty)) @ right``."""

    standardize: Standardizer
    left: Float64[np.ndarray, "d r"]
    eigenvalues: Float64[np.ndarray, " r"]
    right: Float64[np.ndarray, "r k"]
    mean_target: Float64[np.ndarray, " k"]
    count: int
    """Examples that it was fit on."""

    def weights(self, penalty: float) -> Float64[np.ndarray, "d k"]:
        """Returns what standardized features are multiplied by."""
        return (self.left / (self.eigenvalues + penalty)) @ self.right

    def bias(self, penalty: float) -> Float64[np.ndarray, " k"]:
        """Returns what is added to that."""
        return self.mean_target / (1 + penalty / (_BIAS_FEATURE**2 * self.count))

    def accuracies(
        self, examples: Features, penalties: Sequence[float]
    ) -> Float64[np.ndarray, " p"]:
        """Returns the top-1 accuracy of every penalty."""
        correct = np.zeros(len(penalties))
        for rows in blocks(len(examples)):
            rotated = self.standardize(examples.features[rows]) @ self.left
            for place, penalty in enumerate(penalties):
                scores = (rotated / (self.eigenvalues + penalty)) @ self.right + self.bias(penalty)
                correct[place] += (scores.argmax(axis=1) == examples.labels[rows]).sum()
        return correct / len(examples)


def ridge(splits: Splits, *, penalties: Sequence[float] = PENALTIES) -> Sweep:
    """Returns the accuracy of ridge regression with every penalty.

    Raises:
      ValueError: if there is no penalty, or one is not positive.
    """
    check_penalties(penalties)
    path = fit_ridge(splits.train, splits.num_classes)
    return Sweep(
        choices=tuple({"penalty": float(penalty)} for penalty in penalties),
        validation=path.accuracies(splits.validation, penalties)[None],
        test=path.accuracies(splits.test, penalties)[None],
    )


def check_penalties(penalties: Sequence[float]) -> None:
    """Sees to it that there are penalties, and that all of them are positive.

    Raises:
      ValueError: if not.
    """
    if not penalties or min(penalties) <= 0:
        raise ValueError(f"penalties have to be positive numbers, got {list(penalties)}.")


def fit_ridge(train: Features, num_classes: int) -> RidgePath:
    """Returns the solutions of all penalties: of the covariance's, or of the kernel's if n < d."""
    standardize = Standardizer.fit(train.features)
    count, width = train.features.shape
    mean_target = 2 * np.bincount(train.labels, minlength=num_classes) / count - 1
    if count < width:
        x = standardize(train.features)
        eigenvalues, vectors = np.linalg.eigh(x @ x.T)
        left, right = x.T @ vectors, vectors.T @ (_targets(train.labels, num_classes) - mean_target)
    else:
        covariance, moments = np.zeros((width, width)), np.zeros((width, num_classes))
        for rows in blocks(count):
            x = standardize(train.features[rows])
            covariance += x.T @ x
            moments += x.T @ (_targets(train.labels[rows], num_classes) - mean_target)
        eigenvalues, left = np.linalg.eigh(covariance)
        right = left.T @ moments
    # None is negative but for rounding.
    return RidgePath(standardize, left, np.maximum(eigenvalues, 0), right, mean_target, count)


def _targets(labels: Int32[np.ndarray, " n"], num_classes: int) -> Float64[np.ndarray, "n k"]:
    return 2 * np.eye(num_classes)[labels] - 1
