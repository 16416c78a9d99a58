import dataclasses
import io
import os
import signal

import jax
import numpy as np
import optax
import pytest
from rich.console import Console

from scenax.train import loop, step
from scenax.train.checkpoints import Checkpoint, Checkpoints
from scenax.train.divergence import TrainingDiverged
from scenax.train.evaluate import Evaluator
from scenax.train.interrupts import TrainingInterrupted
from scenax.train.progress import Progress
from scenax.train.writers import MetricWriter, read_log

OPTIMIZER = optax.adam(0.05)
CADENCE = loop.Cadence(total_steps=20, log_every=4, save_every=5, examples_per_step=8)


class Runner:
    """Runs of the toy model in one folder, each as after a restart."""

    def __init__(self, folder, toy, mesh, make_state):
        self.folder, self.toy, self.mesh, self.make_state = folder, toy, mesh, make_state
        self.events: list[str] = []
        self.terminal = io.StringIO()

    def run(self, cadence=CADENCE, poison=None, on_step=None, evaluate_every=10, **options):
        checkpoints = Checkpoints(self.folder / "checkpoints")
        fresh = self.make_state(OPTIMIZER)
        batches = self.toy.Stream(poison)
        start = checkpoints.restore_latest(fresh)
        start = start or Checkpoint(fresh, batches.get_state(), 0.0)
        train_step = step.make_train_step(self.toy.Linear(), OPTIMIZER, self.mesh)

        def spied_step(state, batch):
            at = int(state.step)
            self.events.append(f"step {at}")
            if on_step:
                on_step(at)
            return train_step(state, batch)

        def evaluate(state):
            self.events.append(f"evaluate {int(state.step)}")
            return {"loss": float(state.params["b"])}

        save = checkpoints.save

        def spied_save(checkpoint):
            self.events.append(f"save {int(checkpoint.state.step)}")
            save(checkpoint)

        checkpoints.save = spied_save
        console = Console(file=self.terminal, width=200)
        with Progress(console, cadence.total_steps, seconds_per_line=0) as progress:
            return loop.fit(
                start,
                train_step=spied_step,
                batches=batches,
                evaluators=[Evaluator("validation", evaluate_every, evaluate)],
                cadence=cadence,
                mesh=self.mesh,
                checkpoints=checkpoints,
                writer=MetricWriter(self.folder, resume_step=int(start.state.step)),
                progress=progress,
                **options,
            )


@pytest.fixture
def runner(tmp_path, toy, mesh, make_state):
    return lambda name: Runner(make_folder(tmp_path / name), toy, mesh, make_state)


def make_folder(path):
    path.mkdir(exist_ok=True)
    return path


def same(a, b):
    leaves = [jax.tree.leaves(x.state) for x in (a, b)]
    for x, y in zip(*leaves, strict=True):
        if x.dtype == a.state.rng.dtype:
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)
    assert a.position == b.position


def without_times(records):
    times = ("seconds", "examples_per_second", "step_ms")
    return [{k: v for k, v in r.items() if not any(t in k for t in times)} for r in records]


def test_the_order_of_side_effects(runner):
    straight = runner("run")
    end = straight.run(dataclasses.replace(CADENCE, total_steps=12))
    assert int(end.state.step) == 12
    assert straight.events == [
        *[f"step {i}" for i in range(5)],
        "save 5",
        *[f"step {i}" for i in range(5, 10)],
        "evaluate 10",
        "save 10",
        *[f"step {i}" for i in range(10, 12)],
        "evaluate 12",
        "save 12",
    ]


def test_training_learns(runner):
    fitter = runner("run")
    fitter.run(dataclasses.replace(CADENCE, total_steps=200))
    records = [r for r in read_log(fitter.folder) if r["split"] == "train"]
    assert records[-1]["loss"] < 0.5 * records[0]["loss"]
    due = {*range(4, 201, 4), *range(5, 201, 5)}  # At every log and every checkpoint.
    assert [r["step"] for r in records] == sorted(due)


@pytest.mark.parametrize("at", [1, 7, 10, 15])
def test_a_stop_at_any_step_changes_nothing(runner, at):
    straight = runner("straight")
    expected = straight.run()

    class Killed(Exception):
        pass

    def kill(step):
        if step == at:
            raise Killed

    stopped = runner("stopped")
    with pytest.raises(Killed):
        stopped.run(on_step=kill)
    found = stopped.run()
    same(found, expected)
    assert without_times(read_log(stopped.folder)) == without_times(read_log(straight.folder))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_first(runner, number):
    expected = runner("straight").run()
    stopped = runner("stopped")
    with pytest.raises(TrainingInterrupted, match="came after step 8") as interruption:
        stopped.run(on_step=lambda at: os.kill(os.getpid(), number) if at == 7 else None)
    assert interruption.value.signal_number == number
    assert stopped.events[-1] == "save 8"
    same(stopped.run(), expected)


def test_a_finished_run_is_left_as_it_is(runner):
    fitter = runner("run")
    end = fitter.run()
    log, events = read_log(fitter.folder), list(fitter.events)
    same(fitter.run(), end)
    assert read_log(fitter.folder) == log
    assert fitter.events == events


def test_more_steps_continue_a_finished_run(runner):
    longer = dataclasses.replace(CADENCE, total_steps=30)
    expected = runner("straight").run(longer)
    fitter = runner("run")
    fitter.run()
    same(fitter.run(longer), expected)


def test_divergence_names_the_step_and_keeps_the_last_good_checkpoint(runner):
    fitter = runner("run")
    with pytest.raises(TrainingDiverged, match=r"loss.* NaN or infinite at step 8\..*step 5"):
        fitter.run(poison=7)
    assert "save 10" not in fitter.events
    same(fitter.run(), runner("straight").run())  # And the run can go on from it.


def test_divergence_before_a_checkpoint_is_not_saved(runner):
    fitter = runner("run")
    never_logs = dataclasses.replace(CADENCE, log_every=100)
    with pytest.raises(TrainingDiverged, match=r"at step 10.*step 5"):
        fitter.run(never_logs, poison=9, evaluate_every=100)
    assert fitter.events[-1] == "step 9"


def test_the_user_sees_progress(runner):
    fitter = runner("run")
    fitter.run()
    shown = fitter.terminal.getvalue().splitlines()
    lines = [line for line in shown if line.startswith("step")]  # There may be a word on the input.
    assert len(lines) == len({4, 5, 8, 10, 12, 15, 16, 20})
    assert lines[-1].startswith("step 20/20")
    for word in ("loss", "examples/s", "s left"):
        assert word in lines[0]


def test_a_cadence_of_nothing_is_named():
    with pytest.raises(ValueError, match="save_every must be at least 1, got 0"):
        dataclasses.replace(CADENCE, save_every=0)
