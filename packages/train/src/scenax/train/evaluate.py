"""Exact evaluation: sums over a whole split, divided once."""

import math

import jax
from jax.sharding import Mesh

from scenax.common.contracts import Batches, MetricSums
from scenax.train import sharding
from scenax.train.state import TrainState
from scenax.train.step import EvalStep


def evaluate(
    eval_step: EvalStep, state: TrainState, batches: Batches, mesh: Mesh
) -> dict[str, float]:
    """Returns the means of the metrics over a split.

    Every example counts once, whatever the batch size and the number of devices or hosts.

    Raises:
      ValueError: if the split has no example that counts.
    """
    on_device = [eval_step(state, sharding.put_batch(batch, mesh)) for batch in batches]
    return mean_metrics(jax.device_get(on_device))


def mean_metrics(sums: list[MetricSums]) -> dict[str, float]:
    """Returns the quotients of the totals of ``(sum, normalizer)`` pairs on the host.

    >>> mean_metrics([{"loss": (6.0, 3.0)}, {"loss": (4.0, 1.0)}])
    {'loss': 2.5}

    Raises:
      ValueError: if there is nothing to divide by.
    """
    means = {}
    for name in sums[0] if sums else ():
        total = math.fsum(float(s[name][0]) for s in sums)
        count = math.fsum(float(s[name][1]) for s in sums)
        if not count:
            raise ValueError(f"No example counts for {name!r}: all of them are masked.")
        means[name] = total / count
    if not means:
        raise ValueError("There is nothing to evaluate: the split has no batches.")
    return means
