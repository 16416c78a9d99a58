"""The training loop.

At every step, in this order: evaluate if due, save if due, fetch a batch, update, log if due.
So a checkpoint is taken after everything that its step calls for, and a run that is stopped and
continued from it makes the very updates that it would have made.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax.sharding import Mesh

from scenax.common.contracts import BatchIterator, MetricSums
from scenax.train.checkpoints import Checkpoint, Checkpoints
from scenax.train.evaluate import mean_metrics
from scenax.train.interrupts import TrainingInterrupted, caught_signals
from scenax.train.prefetch import DevicePrefetch
from scenax.train.progress import Progress, Stopwatch
from scenax.train.state import TrainState
from scenax.train.step import TrainStep
from scenax.train.writers import MetricWriter


class TrainingDiverged(Exception):
    """A metric of training is no longer a number."""


@dataclasses.dataclass(frozen=True)
class Cadence:
    """How long to train, and every how many steps to do what."""

    total_steps: int
    log_every: int
    evaluate_every: int
    save_every: int
    examples_per_step: int

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(
                    f"{field.name} must be at least 1, got {getattr(self, field.name)}."
                )


def fit(  # noqa: PLR0913  (what a loop has in hand is what it takes)
    start: Checkpoint,
    *,
    train_step: TrainStep,
    batches: BatchIterator,
    evaluate: Callable[[TrainState], Mapping[str, float]],
    cadence: Cadence,
    mesh: Mesh,
    checkpoints: Checkpoints,
    writer: MetricWriter,
    progress: Progress,
) -> Checkpoint:
    """Trains from ``start`` to ``cadence.total_steps`` and returns where it ended, saved.

    Args:
      start: a new state at step 0, or a restored one; ``batches`` is put at its position.
      train_step: from ``make_train_step``; uses up the states that it is given.
      batches: the host's training batches.
      evaluate: measures a state; what it returns is logged as ``validation``.
      cadence: when to do what.
      mesh: the devices.
      checkpoints: where the run is saved.
      writer: where measurements go.
      progress: what the user sees.

    Raises:
      TrainingDiverged: if a metric is NaN or infinite; names the step. No such state is saved.
      TrainingInterrupted: on SIGTERM or SIGINT, when the state is saved.
    """
    state = start.state
    step = first = int(state.step)
    batches.set_state(start.position)
    pending: list[MetricSums] = []  # On the devices: to look at one is to wait for its step.
    clock = Stopwatch(start.seconds)
    logged, waited = clock.seconds, 0.0

    with caught_signals() as caught, DevicePrefetch(batches, mesh) as ahead:
        while True:
            stopping = caught[0] if caught else None
            done = step >= cadence.total_steps
            new = step > first  # What the step we start from called for, was done before.

            # 1. Evaluate, off the clock.
            if new and (done or step % cadence.evaluate_every == 0):
                _check_finite(pending, step, checkpoints)
                with clock.paused():
                    writer.write(step, "validation", evaluate(state))

            # 2. Save, and only what is sound.
            if new and (done or stopping or step % cadence.save_every == 0):
                _check_finite(pending, step, checkpoints)
                with clock.paused():
                    checkpoints.save(Checkpoint(state, ahead.get_state(), clock.seconds))
            if done:
                return Checkpoint(state, ahead.get_state(), clock.seconds)
            if stopping:
                raise TrainingInterrupted(step, stopping)

            # 3. Fetch.
            batch = ahead.next_after(pending[-1:])

            # 4. Update.
            state, metrics = train_step(state, batch)
            pending.append(metrics)
            step += 1

            # 5. Log. No record spans a checkpoint, so a continued run writes the same ones.
            due = not step % cadence.log_every or not step % cadence.save_every
            if due or step == cadence.total_steps:
                sums = _check_finite(pending, step, checkpoints)
                seconds = clock.seconds
                rate = len(sums) * cadence.examples_per_step / (seconds - logged)
                waiting, working = ahead.input_seconds - waited, seconds - logged
                logged, waited = seconds, ahead.input_seconds
                means = mean_metrics(sums)
                times = {
                    "examples_per_second": rate,
                    "seconds": seconds,
                    "input_seconds": waiting,
                    "compute_seconds": working - waiting,
                }
                writer.write(step, "train", {**means, **times})
                progress.update(step, means, rate, input_share=waiting / working)
                pending.clear()


def _check_finite(
    pending: list[MetricSums], step: int, checkpoints: Checkpoints
) -> list[MetricSums]:
    """The metrics of the last steps on the host, all of them finite."""
    sums = jax.device_get(pending)
    for at, metrics in enumerate(sums, start=step - len(sums) + 1):
        bad = [name for name, (total, _) in metrics.items() if not np.isfinite(total).all()]
        if bad:
            good = checkpoints.steps()
            kept = f"the one of step {good[-1]} in {checkpoints.directory}" if good else "none yet"
            raise TrainingDiverged(
                f"{', '.join(bad)} became NaN or infinite at step {at}. The last good checkpoint "
                f"is {kept}. A lower learning rate, a longer warm-up or a smaller clip_norm helps."
            )
    return sums
