import gzip
import json

import jax
import numpy as np
import optax
import pytest

from scenax.train import profiling, sharding, step

OPTIMIZER = optax.sgd(0.1)


@pytest.fixture
def run(toy, mesh, make_state, tmp_path):
    """A function that makes some steps, of which others are traced, and returns the last state."""

    def run(count, traced=None, until=None):
        state, batches = make_state(OPTIMIZER), toy.Stream()
        train_step = step.make_train_step(toy.Linear(), OPTIMIZER, mesh)
        with profiling.profiled(train_step, traced or range(0), tmp_path) as profiled_step:
            for at in range(count):
                if at == until:
                    raise KeyboardInterrupt
                state, _ = profiled_step(state, sharding.put_batch(next(batches), mesh))
        return state

    return run


def traced_steps(folder):
    """The numbers of the steps in the traces of a folder, in Chrome's format."""
    events = [
        event
        for path in folder.glob("plugins/profile/*/*.trace.json.gz")
        for event in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    ]
    steps = [event for event in events if event.get("name") == "train"]
    return sorted(int(event["args"]["step_num"]) for event in steps)


def test_the_steps_that_are_named_are_in_the_trace(run, tmp_path):
    run(8, range(3, 6))
    assert traced_steps(tmp_path) == [3, 4, 5]


def test_a_trace_changes_nothing(run):
    jax.tree.map(np.testing.assert_array_equal, run(4, range(1, 3)).params, run(4).params)


def test_a_run_that_ends_early_has_what_there_was(run, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(10, range(2, 8), until=4)
    assert traced_steps(tmp_path) == [2, 3]
    run(2, range(1, 2))  # It was stopped: there is never more than one.


def test_a_run_continued_amid_the_steps_traces_the_rest(tmp_path, toy, mesh, make_state):
    train_step = step.make_train_step(toy.Linear(), OPTIMIZER, mesh)
    state, batches = make_state(OPTIMIZER), toy.Stream()
    for _ in range(4):
        state, _ = train_step(state, sharding.put_batch(next(batches), mesh))
    with profiling.profiled(train_step, range(2, 6), tmp_path) as profiled_step:
        for _ in range(4):
            state, _ = profiled_step(state, sharding.put_batch(next(batches), mesh))
    assert traced_steps(tmp_path) == [4, 5]


def test_no_steps_make_no_trace(run, tmp_path):
    run(2, range(5, 8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["10", "10:", "20:10", "10:10", "a:b", "-1:5", "1:2:3", ""])
def test_a_flag_that_is_no_range_is_named(text):
    with pytest.raises(ValueError, match=r"FIRST:END.*such as 10:20; got") as error:
        profiling.parse_steps(text)
    assert repr(text) in str(error.value)
