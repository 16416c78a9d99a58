"""When a run is no longer sound: which step, which metric, and where it may have begun."""

import jax
import numpy as np

from scenax.common.contracts import MetricSums
from scenax.train.checkpoints import Checkpoints

_GROUP = "grad_norm/"


class TrainingDiverged(Exception):
    """A metric of training is no longer a number."""


def check_finite(
    pending: list[MetricSums], step: int, checkpoints: Checkpoints
) -> list[MetricSums]:
    """Returns the metrics of the last steps on the host, all of them finite.

    Args:
      pending: metrics of steps up to ``step``, on the devices.
      step: how many updates were made.
      checkpoints: what there is to go back to.

    Raises:
      TrainingDiverged: if one is not. It names the first step, the metrics, and the groups of
        parameters whose gradients are not finite, or if all, whose had grown the most before.
    """
    sums = jax.device_get(pending)
    for place, metrics in enumerate(sums):
        bad = [name for name, (total, _) in metrics.items() if not np.isfinite(total).all()]
        if bad:
            checkpoints.wait()
            good = checkpoints.steps()
            kept = f"the one of step {good[-1]} in {checkpoints.directory}" if good else "none yet"
            whole = [name for name in bad if not name.startswith(_GROUP)]
            raise TrainingDiverged(
                f"{', '.join(whole or bad)} became NaN or infinite at step "
                f"{step - len(sums) + 1 + place}. {_where(sums[: place + 1])}The last good "
                f"checkpoint is {kept}. A lower learning rate, a longer warm-up or a smaller "
                "clip_norm helps."
            )
    return sums


def _where(sums: list[MetricSums]) -> str:
    """A sentence on the groups of parameters that the last of these steps went wrong in."""
    *before, last = sums
    groups = [name.removeprefix(_GROUP) for name in last if name.startswith(_GROUP)]
    bad = [group for group in groups if not np.isfinite(last[_GROUP + group][0])]
    if not bad:
        return ""
    if len(bad) < len(groups):
        return f"Of {len(groups)} groups of parameters, the gradients of {', '.join(bad)} did. "
    if len(before) < 2:
        return "The gradients of all parameters did at once. "
    norms = {g: np.array([float(metrics[_GROUP + g][0]) for metrics in before]) for g in groups}
    tiny = np.finfo(np.float32).tiny
    growth = {g: n[-1] / max(np.median(n[:-1]), tiny) for g, n in norms.items()}
    fastest = max(growth, key=lambda group: growth[group])
    return (
        "The gradients of all parameters did at once; in the step before, those of "
        f"{fastest} had grown the most, to {growth[fastest]:.2g} times their median. "
    )
