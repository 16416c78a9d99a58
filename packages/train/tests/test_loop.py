import dataclasses
import functools
import io
import os
import random
import signal
import time

import jax
import numpy as np
import optax
import pytest
from rich.console import Console

from scenax.train import loop, sharding, step
from scenax.train import state as state_lib
from scenax.train.checkpoints import Checkpoint, Checkpoints
from scenax.train.divergence import TrainingDiverged
from scenax.train.evaluate import Evaluator
from scenax.train.interrupts import TrainingInterrupted
from scenax.train.progress import Progress
from scenax.train.selection import Best, Selection
from scenax.train.writers import MetricWriter, read_log

from . import faults, hosts

OPTIMIZER = optax.adam(0.05)
CADENCE = loop.Cadence(total_steps=20, log_every=4, save_every=5, examples_per_step=8)


class Runner:
    """Runs of the toy model in one folder, each as after a restart."""

    def __init__(self, folder, toy, mesh, make_state):
        self.folder, self.toy, self.mesh, self.make_state = folder, toy, mesh, make_state
        self.events: list[str] = []
        self.terminal = io.StringIO()

    def run(
        self,
        cadence=CADENCE,
        poison=None,
        on_step=None,
        evaluate_every=10,
        evaluators=(),
        selection=None,
        batches=None,
    ):
        """``evaluators`` are more of them, by name: how often, and what loss at which step."""
        checkpoints = Checkpoints(self.folder / "checkpoints")
        best = selection and loop.KeepBest(selection, Checkpoints(self.folder / "best", keep=1))
        fresh = self.make_state(OPTIMIZER)
        batches = batches or self.toy.Stream(poison)
        start = checkpoints.restore_latest(fresh)
        start = start or Checkpoint(fresh, batches.get_state(), 0.0)
        train_step = make_train_step(self.toy.Linear, self.mesh)

        def spied_step(state, batch):
            at = int(state.step)
            self.events.append(f"step {at}")
            if on_step:
                on_step(at)
            return train_step(state, batch)

        def evaluate(state):
            self.events.append(f"evaluate {int(state.step)}")
            return {"loss": float(state.params["b"])}

        def scripted(name, losses):
            def measure(state):
                self.events.append(f"{name} {int(state.step)}")
                return {"loss": losses[int(state.step)]}

            return measure

        save = checkpoints.save

        def spied_save(checkpoint):
            self.events.append(f"save {int(checkpoint.state.step)}")
            if best:  # What is called the best is complete by now.
                assert best.checkpoints.steps() == [checkpoint.best.step] * bool(checkpoint.best)
            save(checkpoint)

        checkpoints.save = spied_save
        console = Console(file=self.terminal, width=200)
        with Progress(console, cadence.total_steps, seconds_per_line=0) as self.progress:
            return loop.fit(
                start,
                train_step=spied_step,
                batches=batches,
                evaluators=[
                    Evaluator("validation", evaluate_every, evaluate),
                    *(Evaluator(n, every, scripted(n, ls)) for n, every, ls in evaluators),
                ],
                cadence=cadence,
                mesh=self.mesh,
                checkpoints=checkpoints,
                writer=MetricWriter(self.folder, resume_step=int(start.state.step)),
                progress=self.progress,
                keep_best=best,
            )


@functools.cache
def make_train_step(model, mesh):
    return step.make_train_step(model(), OPTIMIZER, mesh)


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


def test_a_crash_finds_the_step_that_was_begun(runner):
    fitter = runner("run")
    with pytest.raises(ZeroDivisionError):
        fitter.run(on_step=lambda at: 1 // (7 - at))
    assert fitter.progress.step == 7
    fitter.run()
    assert fitter.progress.step == 20


def test_each_evaluator_has_its_own_cadence(runner):
    fitter = runner("run")
    other = ("other", 4, {4: 0.5, 8: 0.25, 10: 0.125})
    fitter.run(dataclasses.replace(CADENCE, total_steps=10), evaluate_every=8, evaluators=[other])
    measured = [e for e in fitter.events if e.startswith(("evaluate", "other"))]
    assert measured == ["other 4", "evaluate 8", "other 8", "evaluate 10", "other 10"]
    logged = {r["step"]: r["loss"] for r in read_log(fitter.folder) if r["split"] == "other"}
    assert logged == other[2]


SCRIPT = ("script", 5, {5: 3.0, 10: 1.0, 15: 2.0, 20: 1.5})


def best_of(fitter):
    return Checkpoints(fitter.folder / "best").restore_latest(fitter.make_state(OPTIMIZER))


def test_the_best_state_is_kept_and_a_resumed_run_keeps_the_same(runner):
    expected = runner("short").run(dataclasses.replace(CADENCE, total_steps=10))
    options = {"evaluators": [SCRIPT], "selection": Selection(metric="script/loss", mode="min")}
    straight, stopped = runner("straight"), runner("stopped")
    assert straight.run(**options).best == Best(10, 1.0)
    for crash in (8, 12, 17):  # Before the best one, and after it.
        with pytest.raises(ZeroDivisionError):
            stopped.run(on_step=lambda at, crash=crash: 1 // (crash - at), **options)
    same(stopped.run(**options), runner("straight").run())
    for fitter in (straight, stopped):
        assert best_of(fitter).best == Best(10, 1.0)
        same(best_of(fitter), expected)
    assert fitter.run(**options).best == Best(10, 1.0)


def test_patience_ends_a_run_that_is_then_left_as_it_is(runner):
    fitter = runner("run")
    options = {
        "evaluators": [SCRIPT],
        "selection": Selection(metric="script/loss", mode="min", patience=2),
    }
    longer = dataclasses.replace(CADENCE, total_steps=40)
    end = fitter.run(longer, **options)
    assert int(end.state.step) == 20
    assert fitter.events[-2:] == ["script 20", "save 20"]
    log, events = read_log(fitter.folder), list(fitter.events)
    same(fitter.run(longer, **options), end)
    assert read_log(fitter.folder) == log
    assert fitter.events == events


def test_a_selection_by_what_is_not_evaluated_is_named(runner):
    with pytest.raises(ValueError, match=r"'valid/loss' is to be selected by.*'validation'"):
        runner("run").run(selection=Selection(metric="valid/loss"))


def test_divergence_of_some_parameters_names_their_group(runner, toy):
    class Overflowing(toy.Stream):
        def __next__(self):
            batch = super().__next__()
            if self._next == 8:
                batch["inputs"][0] = 1e15  # The weights' gradient is of its square: 1e30.
            return batch

    with pytest.raises(TrainingDiverged) as error:
        runner("run").run(batches=Overflowing())
    assert "grad_norm became NaN or infinite at step 8. " in str(error.value)
    assert "Of 2 groups of parameters, the gradients of w did. " in str(error.value)


def test_divergence_of_all_parameters_names_what_had_grown(runner):
    cadence = dataclasses.replace(CADENCE, log_every=20, save_every=20)
    steps = runner("steps")
    steps.run(dataclasses.replace(cadence, total_steps=9, log_every=1))
    records = [r for r in read_log(steps.folder) if r["split"] == "train"]
    growth = {}
    for group in ("w", "b"):
        *before, last = [r[f"grad_norm/{group}"] for r in records]
        growth[group] = last / np.median(before)
    fastest = max(growth, key=growth.get)
    with pytest.raises(TrainingDiverged) as error:
        runner("run").run(cadence, poison=9, evaluate_every=20)
    assert (
        "The gradients of all parameters did at once; in the step before, those of "
        f"{fastest} had grown the most, to {growth[fastest]:.2g} times their median. "
    ) in str(error.value)


def test_the_log_has_the_quantiles_of_a_steps_time(runner):
    fitter = runner("run")
    cadence = dataclasses.replace(CADENCE, total_steps=20, log_every=20, save_every=20)
    fitter.run(cadence, on_step=lambda at: time.sleep(0.5) if at == 15 else None)
    (record,) = [r for r in read_log(fitter.folder) if r["split"] == "train"]
    p50, p90, p99 = (record[f"step_ms_p{percent}"] for percent in (50, 90, 99))
    assert 0 < p50 <= p90 <= p99
    assert p50 < 250 < 400 < p99  # One of twenty took half a second.


# Runs in processes of their own, for all that can happen to one.


def half_written(folder):
    return list((folder / "checkpoints").glob("*tmp*"))


def newest(folder):
    steps = [int(p.name) for p in (folder / "checkpoints").glob("*") if p.name.isdecimal()]
    return max(steps, default=0)


def end_of(folder):
    """The newest checkpoint of a run, read on one device."""
    like = state_lib.abstract_state(
        hosts.Regression(),
        hosts.OPTIMIZER,
        hosts.part(0, hosts.BATCH, hosts.BATCH),
        mesh=sharding.make_mesh(jax.devices()[:1]),
    )
    return Checkpoints(folder / "checkpoints", read_only=True).restore_latest(like)


def check_same_run(folder, expected):
    same(end_of(folder), end_of(expected))
    assert without_times(read_log(folder)) == without_times(read_log(expected))


@pytest.fixture(scope="module")
def straight(fork, tmp_path_factory):
    """A function that returns the folder of a run that nothing befell."""

    @functools.cache
    def run(steps=30, evaluation_batches=2):
        folder = tmp_path_factory.mktemp("straight") / "run"
        assert fork(folder, steps, evaluation_batches=evaluation_batches).end() == 0
        return folder

    return run


def test_killed_at_twenty_moments_it_ends_the_same(fork, straight, tmp_path):
    rng = random.Random(0)
    folder, mark = tmp_path / "run", tmp_path / "mark"
    options = {"evaluation_batches": 10}
    marking = {
        "on_step": faults.Mark(mark, "update"),
        "on_evaluation": faults.Mark(mark, "evaluate", 0.003),
    }
    words, lost, cut_short = set(), 0, 0
    for turn, least in enumerate(sorted(rng.sample(range(100), 20))):
        mark.unlink(missing_ok=True)
        child = fork(folder, 150, **options, **marking)
        if turn % 4:
            faults.wait_for_mark(child, mark, "update", least)
        if turn % 4 == 1:
            faults.wait_for_mark(child, mark, "evaluate")
        while turn % 4 == 2 and not half_written(folder):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.4 if turn % 4 == 0 else 0.02))
        child.send(signal.SIGKILL)
        assert child.end() == -signal.SIGKILL
        word, number = faults.read_mark(mark)
        words.add(word)
        cut_short += bool(half_written(folder))
        lost += word == "update" and number > newest(folder)
    assert words == {"begin", "update", "evaluate"}
    assert min(lost, cut_short) > 3  # Kills that cost updates, and those of a save under way.
    child = fork(folder, 150, **options)
    assert child.end() == 0
    assert "damaged" not in child.said
    check_same_run(folder, straight(150, **options))


@pytest.mark.parametrize("word", ["update", "evaluate"])
def test_a_signal_ends_a_run_soon_and_loses_nothing(fork, straight, tmp_path, word):
    folder, mark = tmp_path / "run", tmp_path / "mark"
    options = {"evaluation_batches": 100}
    child = fork(
        folder,
        30,
        **options,
        on_step=faults.Mark(mark, "update", 0.01),
        on_evaluation=faults.Mark(mark, "evaluate", 0.1),  # All of it would take ten seconds.
    )
    faults.wait_for_mark(child, mark, word, 4)
    child.send(signal.SIGTERM)
    assert child.end(within=5) == 1
    end = end_of(folder)
    assert f"TrainingInterrupted: SIGTERM came after step {int(end.state.step)}." in child.said
    assert "Traceback" not in child.said
    assert end.evaluated == (word == "update")
    if word == "evaluate":
        assert int(end.state.step) == 10
        assert not [r for r in read_log(folder) if r["split"] == "validation"]
    assert fork(folder, 30, **options).end() == 0
    check_same_run(folder, straight(30, **options))


def test_a_full_disk_stops_a_run_and_costs_nothing_that_was_saved(fork, straight, tmp_path):
    folder = tmp_path / "run"
    child = fork(folder, 30, on_step=faults.At({8: faults.fill_disk}))
    assert child.end() == 1
    assert child.said == (
        f"CheckpointError: The checkpoint of step 10 could not be written to "
        f"{folder / 'checkpoints'} (File too large). The last complete one is of step 5. Make room "
        "there; the same command then continues the run.\n"
    )
    assert int(end_of(folder).state.step) == 5
    assert fork(folder, 30).end() == 0
    check_same_run(folder, straight())


def test_a_full_disk_may_be_tolerated_for_a_while(fork, straight, tmp_path):
    folder = tmp_path / "run"
    events = {8: faults.fill_disk, 12: faults.make_room, 18: faults.fill_disk, 22: faults.make_room}
    child = fork(folder, 30, tolerated_failures=1, on_step=faults.At(events))
    assert child.end() == 0
    assert [line.partition("The ")[2] for line in child.said.splitlines()] == [
        f"checkpoint of step {step} could not be written to {folder / 'checkpoints'} (File too "
        f"large). The last complete one is of step {step - 5}. Training goes on."
        for step in (10, 20)
    ]
    steps = {path.name for path in (folder / "checkpoints").iterdir()}
    assert steps == {"15", "25", "30"}
    check_same_run(folder, straight())


def test_a_disk_that_stays_full_stops_a_run(fork, tmp_path):
    folder = tmp_path / "run"
    child = fork(folder, 30, tolerated_failures=1, on_step=faults.At({8: faults.fill_disk}))
    assert child.end() == 1
    warning, error = child.said.splitlines()
    assert "The checkpoint of step 10 could not be written" in warning
    assert error.startswith("CheckpointError: The checkpoint of step 15 could not be written")
    assert int(end_of(folder).state.step) == 5


def test_a_disk_that_is_full_at_the_end_is_an_error(fork, straight, tmp_path):
    folder = tmp_path / "run"
    child = fork(folder, 30, tolerated_failures=9, on_step=faults.At({28: faults.fill_disk}))
    assert child.end() == 1
    assert "CheckpointError: The run ends without a checkpoint of step 30" in child.said
    assert fork(folder, 30).end() == 0
    check_same_run(folder, straight())


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("corrupt", [flip, cut])
def test_a_run_goes_on_from_before_a_damaged_checkpoint(fork, straight, tmp_path, corrupt):
    folder = tmp_path / "run"
    assert fork(folder, 30, on_step=faults.At({17: faults.die})).end() == -signal.SIGKILL
    last = newest(folder)
    for path in (folder / "checkpoints" / str(last)).rglob("*"):
        if path.is_file() and path.parent.name == "d":  # Where the arrays are.
            corrupt(path)
    child = fork(folder, 30)
    assert child.end() == 0
    assert f"The checkpoint of step {last} is damaged" in child.said
    assert (folder / "checkpoints" / f"{last}.damaged").is_dir()
    check_same_run(folder, straight())


def test_a_clock_that_jumps_back_is_no_matter(fork, straight, tmp_path):
    folder = tmp_path / "run"
    events = {13: faults.turn_back_clock, 27: faults.die}
    assert fork(folder, 30, on_step=faults.At(events)).end() == -signal.SIGKILL
    last = newest(folder)
    assert last >= 20
    assert int(end_of(folder).state.step) == last
    child = fork(folder, 30, on_step=faults.At({last: faults.turn_back_clock}))
    assert child.end() == 0
    assert child.said == ""
    assert {p.name for p in (folder / "checkpoints").iterdir()} == {"20", "25", "30"}
    records = [r for r in read_log(folder) if r["split"] == "train"]
    seconds = [r["seconds"] for r in records]
    assert seconds == sorted(seconds)
    assert 0 < seconds[0] < seconds[-1] < 60
    for record in records:
        assert record["examples_per_second"] > 0
        assert 0 <= record["input_seconds"] < 60
        assert 0 < record["step_ms_p50"] < 60_000
    check_same_run(folder, straight())


def test_a_source_that_fails_ends_a_run_that_then_goes_on(fork, straight, tmp_path):
    folder = tmp_path / "run"
    child = fork(folder, 30, source=faults.BrokenBatches(17))
    assert child.end() == 1
    assert child.said == "OSError: batch 17 cannot be read\n"
    assert not half_written(folder)
    assert int(end_of(folder).state.step) == 15
    assert fork(folder, 30).end() == 0
    check_same_run(folder, straight())


def test_a_cadence_of_nothing_is_named():
    with pytest.raises(ValueError, match="save_every must be at least 1, got 0"):
        dataclasses.replace(CADENCE, save_every=0)
