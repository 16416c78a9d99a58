"""Exact evaluation: sums over a whole split, divided once."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax.sharding import Mesh

from scenax.common.contracts import Batches, MetricSums
from scenax.train import interrupts, sharding
from scenax.train.state import TrainState
from scenax.train.step import EvalStep


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Something that is measured now and then in training, and always at its end."""

    name: str
    """Of what is measured, in the log: ``validation``."""
    every: int
    """Steps from one time to the next."""
    measure: Callable[[TrainState], Mapping[str, float]]

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(
                f"{self.name} must be evaluated every 1 or more steps, not {self.every}."
            )


def evaluate(
    eval_step: EvalStep, state: TrainState, batches: Batches, mesh: Mesh
) -> dict[str, float]:
    """Returns the means of the metrics over a split.

    Every example counts once, whatever the batch size and the number of devices or hosts.

    Raises:
      ValueError: if the split has no example that counts.
      EvaluationStopped: if a signal asks the run to stop. Where there are several hosts, who cannot
        stop one by one, it is finished first.
    """
    on_device: list[MetricSums] = []
    for batch in batches:
        # The devices have one batch to do while the next is prepared; whoever asks the run to stop
        # would have to wait for more.
        jax.block_until_ready(on_device[-2:-1])
        if interrupts.requested() and jax.process_count() == 1:
            raise interrupts.EvaluationStopped
        on_device.append(eval_step(state, sharding.put_batch(batch, mesh)))
    return mean_metrics(jax.device_get(on_device))


def mean_metrics(sums: list[MetricSums]) -> dict[str, float]:
    """Returns the quotients of the totals of ``(sum, normalizer)`` pairs on the host.

    Of pairs of vectors it is the mean of the quotients, over the entries that have any. A metric of
    which nothing counts, such as a box's error where there is no box, is left out.

    >>> mean_metrics([{"loss": (6.0, 3.0)}, {"loss": (4.0, 1.0)}])
    {'loss': 2.5}
    >>> mean_metrics([{"iou": ([1.0, 3.0, 0.0], [2.0, 3.0, 0.0])}])
    {'iou': 0.75}

    Raises:
      ValueError: if there are no batches, or nothing counts for any metric.
    """
    means = {}
    for name in sums[0] if sums else ():
        total = np.sum([np.asarray(s[name][0], np.float64) for s in sums], axis=0)
        count = np.sum([np.asarray(s[name][1], np.float64) for s in sums], axis=0)
        counted = count != 0
        if counted.any():
            means[name] = float(np.mean(total[counted] / count[counted]))
    if not sums:
        raise ValueError("There is nothing to evaluate: the split has no batches.")
    if not means:
        raise ValueError("No example counts: all of them are masked.")
    return means
