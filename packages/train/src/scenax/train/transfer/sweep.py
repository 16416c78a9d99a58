"""Choices that were tried, and which one the validation split is for.

Letters in shapes: r repeats with other examples or seeds, s choices.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Top-1 accuracies of every choice in every repeat. The test split decides nothing.

    >>> accuracy = np.array([[0.5, 0.9], [0.7, 0.8]])
    >>> sweep = Sweep(({"penalty": 1.0}, {"penalty": 2.0}), accuracy, accuracy)
    >>> sweep.choice, round(sweep.test_top_1, 2), round(sweep.test_deviation, 4)
    ({'penalty': 2.0}, 0.85, 0.0707)
    """

    choices: tuple[Mapping[str, float], ...]
    validation: Float[np.ndarray, "r s"]
    test: Float[np.ndarray, "r s"]

    @property
    def best(self) -> int:
        """The place of the choice with the best mean on validation; the first of equal ones."""
        return int(self.validation.mean(axis=0).argmax())

    @property
    def choice(self) -> Mapping[str, float]:
        """The best one."""
        return self.choices[self.best]

    @property
    def validation_top_1(self) -> float:
        """Of the choice, the mean over repeats."""
        return float(self.validation[:, self.best].mean())

    @property
    def test_top_1(self) -> float:
        """Of the choice, the mean over repeats."""
        return float(self.test[:, self.best].mean())

    @property
    def test_deviation(self) -> float:
        """The standard deviation of a repeat (of a sample: divided by r - 1), 0 for a single one.

        It is of the choice that was made for all repeats together.
        """
        return float(self.test[:, self.best].std(ddof=1)) if len(self.test) > 1 else 0.0
