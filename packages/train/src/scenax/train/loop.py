"""The training loop.

At every step, in this order: evaluate if due, save if due, fetch a batch, update, log if due.
So a checkpoint is taken after everything that its step calls for, and a run that is stopped and
continued from it makes the very updates that it would have made.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from scenax.common.contracts import BatchIterator, MetricSums
from scenax.train import distributed, hardware, interrupts
from scenax.train.checkpoints import Checkpoint, Checkpoints
from scenax.train.divergence import check_finite
from scenax.train.evaluate import Evaluator, mean_metrics
from scenax.train.prefetch import DevicePrefetch
from scenax.train.progress import Progress, Stopwatch
from scenax.train.selection import Best, Selection
from scenax.train.state import TrainState
from scenax.train.step import TrainStep
from scenax.train.writers import Writer


@dataclasses.dataclass(frozen=True)
class Cadence:
    """How long to train, every how many steps to do what, and what a step is."""

    total_steps: int
    log_every: int
    save_every: int
    examples_per_step: int
    flops_per_step: float | None = None
    """Over all devices; the log then has the share of their peak that is used."""

    def __post_init__(self) -> None:
        for name in ("total_steps", "log_every", "save_every", "examples_per_step"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")


@dataclasses.dataclass(frozen=True)
class KeepBest:
    """What is best, and where it is kept."""

    selection: Selection
    checkpoints: Checkpoints


def fit(  # noqa: C901, PLR0913  (one order from top to bottom, and what it has in hand)
    start: Checkpoint,
    *,
    train_step: TrainStep,
    batches: BatchIterator,
    evaluators: Sequence[Evaluator],
    cadence: Cadence,
    mesh: Mesh,
    checkpoints: Checkpoints,
    writer: Writer,
    progress: Progress,
    keep_best: KeepBest | None = None,
) -> Checkpoint:
    """Trains from ``start`` to ``cadence.total_steps`` and returns where it ended, saved.

    Args:
      start: a new state at step 0, or a restored one; ``batches`` is put at its position.
      train_step: from ``make_train_step``; uses up the states that it is given.
      batches: the host's training batches.
      evaluators: measure a state, each at its own cadence; their results are logged by their names.
      cadence: when to do what.
      mesh: the devices.
      checkpoints: where the run is saved.
      writer: where measurements go.
      progress: what the user sees.
      keep_best: the evaluation that decides which state is kept besides the newest, and how long
        to go on without a better one.

    Raises:
      TrainingDiverged: if a metric is NaN or infinite; names the step. No such state is saved.
      TrainingInterrupted: on SIGTERM or SIGINT, when the state is saved.
      CheckpointError: if checkpoints cannot be written.
    """
    state, best = start.state, start.best
    step = first = int(state.step)
    batches.set_state(start.position)
    pending: list[MetricSums] = []  # On the devices: to look at one is to wait for its step.
    clock = Stopwatch(start.seconds)
    ends, waited = [clock.seconds], 0.0  # When the last record was made, and each step since then.
    hopeless = _hopeless(keep_best, evaluators)

    with interrupts.caught_signals(), DevicePrefetch(batches, mesh) as ahead, checkpoints.writing():
        while True:
            stopping = _agreed_to_stop(step, cadence)
            last = step >= cadence.total_steps
            new = step > first  # What the step we start from called for, was done before.

            # 1. Evaluate, off the clock.
            due = [e for e in evaluators if last or step % e.every == 0]
            results, evaluated = {}, True
            if due and (new or not start.evaluated):
                check_finite(pending, step, checkpoints)
                with clock.paused():
                    results = {} if stopping else _measure(due, state)
                evaluated = bool(results)
                if not evaluated:
                    stopping = stopping or interrupts.requested()
            for name, result in results.items():
                writer.write(step, name, result)
            if keep_best is not None and keep_best.selection.evaluator in results:
                best = _best(keep_best.selection, best, step, results)
                if best.step == step:
                    with clock.paused():
                        keep_best.checkpoints.save(
                            Checkpoint(state, ahead.get_state(), clock.seconds, best)
                        )

            # 2. Save, and only what is sound.
            done = evaluated and (last or hopeless(best, step))
            here = Checkpoint(state, ahead.get_state(), clock.seconds, best, evaluated)
            if new and (done or stopping or step % cadence.save_every == 0):
                check_finite(pending, step, checkpoints)
                with clock.paused():
                    if keep_best is not None:
                        keep_best.checkpoints.wait()  # What this one calls the best is whole.
                    checkpoints.save(here)
            if new and (done or stopping):
                checkpoints.ensure(step)
            if done:
                return here
            if stopping:
                raise interrupts.TrainingInterrupted(step, stopping)

            # 3. Fetch.
            batch = ahead.next_after(pending[-1:])

            # 4. Update; the devices have one step to do while the next is prepared.
            state, metrics = train_step(state, batch)
            if pending:
                jax.block_until_ready(pending[-1])
                ends.append(clock.seconds)
            pending.append(metrics)
            step += 1
            progress.step = step

            # 5. Log. No record spans a checkpoint, so a continued run writes the same ones.
            due_to_log = not step % cadence.log_every or not step % cadence.save_every
            if due_to_log or step == cadence.total_steps:
                sums = check_finite(pending, step, checkpoints)
                ends.append(clock.seconds)
                means, waiting = mean_metrics(sums), ahead.input_seconds - waited
                costs = _costs(ends, waiting, cadence, mesh)
                writer.write(step, "train", {**means, **costs})
                progress.update(
                    step,
                    means,
                    costs["examples_per_second"],
                    input_share=waiting / (ends[-1] - ends[0]),
                )
                pending.clear()
                ends, waited = ends[-1:], ahead.input_seconds


def _agreed_to_stop(step: int, cadence: Cadence) -> int:
    """The signal that asks the run to stop, 0 if none does.

    Several hosts agree on it, at the steps where they wait for one another anyway.
    """
    if jax.process_count() == 1:
        return interrupts.requested()
    waiting = not step % cadence.log_every or not step % cadence.save_every
    return distributed.agreed(interrupts.requested()) if waiting else 0


def _measure(evaluators: Sequence[Evaluator], state: TrainState) -> dict[str, Mapping[str, float]]:
    """What all of them measure; nothing if a signal came meanwhile."""
    try:
        return {evaluator.name: evaluator.measure(state) for evaluator in evaluators}
    except interrupts.EvaluationStopped:
        return {}


def _hopeless(
    keep_best: KeepBest | None, evaluators: Sequence[Evaluator]
) -> Callable[[Best | None, int], bool]:
    """Whether to stop early, as a function of the best evaluation so far and the step."""
    if keep_best is None:
        return lambda best, step: False
    selection = keep_best.selection
    between = selection.every({evaluator.name: evaluator.every for evaluator in evaluators})
    return lambda best, step: best is not None and selection.exhausted(best, step, between)


def _best(
    selection: Selection, best: Best | None, step: int, results: Mapping[str, Mapping[str, float]]
) -> Best:
    """The best evaluation, that of this step among them."""
    metrics = results[selection.evaluator]
    named = {f"{selection.evaluator}/{name}": value for name, value in metrics.items()}
    return selection.update(best, step, selection.value(named))


def _costs(ends: Sequence[float], waiting: float, cadence: Cadence, mesh: Mesh) -> dict[str, float]:
    """What the steps that ended at these times took, of the clock and of the devices."""
    seconds, steps = ends[-1] - ends[0], np.diff(ends)
    costs = {
        "examples_per_second": len(steps) * cadence.examples_per_step / seconds,
        "seconds": ends[-1],
        "input_seconds": waiting,
        "compute_seconds": seconds - waiting,
    }
    for percent in (50, 90, 99):
        costs[f"step_ms_p{percent}"] = 1000 * float(np.percentile(steps, percent))
    devices = list(mesh.devices.flat)
    if cadence.flops_per_step is not None:
        used = hardware.mfu(cadence.flops_per_step, float(np.median(steps)), devices)
        costs |= {} if used is None else {"mfu": used}
    memory = hardware.memory_in_use(mesh.local_devices)
    return costs | {} if memory is None else costs | memory
