"""A trace of a few steps, to be looked at in TensorBoard, XProf or Perfetto."""

import contextlib
import pathlib
from collections.abc import Iterator

import jax

from scenax.common.contracts import Batch, MetricSums
from scenax.train.state import TrainState
from scenax.train.step import TrainStep


def parse_steps(text: str) -> range:
    """Returns the steps that a flag names, the last one left out, as in Python.

    >>> parse_steps("10:20")
    range(10, 20)

    Raises:
      ValueError: if it has another form, or there are no steps in it.
    """
    first, colon, last = text.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise ValueError(
            "Steps to profile are written FIRST:END, of which END is not among them, such as "
            f"10:20; got {text!r}."
        )
    return range(int(first), int(last))


@contextlib.contextmanager
def profiled(
    train_step: TrainStep, steps: range, directory: str | pathlib.Path
) -> Iterator[TrainStep]:
    """A training step that does the same, and traces the given steps.

    The trace has what the host and its devices do from when all before is done until the last of
    the steps is, each under the name ``train`` with its number. It is written into ``directory``,
    in a folder ``plugins/profile/TIME``, as soon as the last step is done, or if there are fewer
    at the end of the ``with`` block. A run that is continued amid the steps traces the rest.

    Args:
      train_step: from ``make_train_step``.
      steps: in order and without gaps. They count as ``state.step`` does: step 10 is the update of
        a state whose ``step`` is 10.
      directory: where TensorBoard looks.
    """
    at, tracing = None, False
    with contextlib.ExitStack() as trace:

        def step(state: TrainState, batch: Batch) -> tuple[TrainState, MetricSums]:
            nonlocal at, tracing
            at = int(state.step) if at is None else at + 1  # To read it each time is to wait.
            if at not in steps:
                return train_step(state, batch)
            if not tracing:
                jax.block_until_ready(state)
                trace.enter_context(jax.profiler.trace(directory))
                tracing = True
            with jax.profiler.StepTraceAnnotation("train", step_num=at):
                updated = train_step(state, batch)
            if at == steps[-1]:
                jax.block_until_ready(updated)
                trace.close()
            return updated

        yield step
