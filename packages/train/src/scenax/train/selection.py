"""Which evaluation is the best one, and when no better one is to be waited for."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

from scenax.common.config import schema
from scenax.common.registry import did_you_mean


@dataclasses.dataclass(frozen=True)
class Best:
    """The best evaluation so far."""

    step: int
    value: float


@schema
class Selection:
    """By what metric evaluations are compared, and for how many of them to wait for a better one.

    >>> selection = Selection(metric="validation/loss", mode="min", patience=2)
    >>> best = selection.update(None, 100, 0.5)
    >>> best = selection.update(best, 200, 0.7)
    >>> best
    Best(step=100, value=0.5)
    >>> [selection.exhausted(best, step, every=100) for step in (200, 300)]
    [False, True]
    """

    metric: str = "validation/accuracy"
    """As ``split/name``."""
    mode: Literal["max", "min"] = "max"
    """Whether more is better, or less."""
    patience: int | None = None
    """Evaluations without a better one after which to stop, None for never."""

    def __post_init__(self) -> None:
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience must be at least 1, or None, got {self.patience}.")

    @property
    def evaluator(self) -> str:
        """The name of what measures the metric: ``validation``."""
        return self.metric.partition("/")[0]

    def every(self, evaluators: Mapping[str, int]) -> int:
        """Returns how many steps are between evaluations, given that of every evaluator.

        Raises:
          ValueError: if nothing measures the metric.
        """
        if self.evaluator not in evaluators:
            raise ValueError(
                f"{self.metric!r} is to be selected by, and {self.evaluator!r} is not evaluated. "
                f"{did_you_mean(self.evaluator, evaluators)}"
            )
        return evaluators[self.evaluator]

    def value(self, metrics: Mapping[str, float]) -> float:
        """Returns the metric's value among those of an evaluation, by ``split/name``.

        Raises:
          ValueError: if it is not among them; names those that are.
        """
        if self.metric not in metrics:
            raise ValueError(
                f"There is no metric {self.metric!r} to select by. "
                f"{did_you_mean(self.metric, metrics)}"
            )
        return metrics[self.metric]

    def better(self, best: Best | None, value: float) -> bool:
        """Whether a value beats the best one; NaN never does, and anything else beats NaN."""
        if math.isnan(value):
            return False
        if best is None or math.isnan(best.value):
            return True
        return value > best.value if self.mode == "max" else value < best.value

    def update(self, best: Best | None, step: int, value: float) -> Best:
        """Returns the best one after another evaluation; of equal ones, the first.

        A first one is kept whatever it is, and patience counts from it.
        """
        return Best(step, value) if best is None or self.better(best, value) else best

    def exhausted(self, best: Best, step: int, every: int) -> bool:
        """Whether patience is at an end at ``step``, if there is an evaluation every few steps."""
        return self.patience is not None and (step - best.step) // every >= self.patience
