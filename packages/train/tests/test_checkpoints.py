import dataclasses
import functools
import gc
import json
import logging
import pathlib
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenax.train import sharding
from scenax.train import state as state_lib
from scenax.train.checkpoints import Checkpoint, CheckpointError, Checkpoints, fingerprint

from . import faults

# When Orbax fails to read one array, it leaves its tasks for the others without an owner.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

OPTIMIZER = optax.adam(0.1)


@pytest.fixture(autouse=True)
def _owners_of_nothing_end_here():
    yield
    gc.collect()


@pytest.fixture
def folder(tmp_path, make_state):
    """A folder with checkpoints of steps 1, 2 and 3, whose arrays differ."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for number in (1, 2, 3):
        checkpoints.save(numbered(make_state, number))
    checkpoints.close()
    return tmp_path / "checkpoints"


def numbered(make_state, number):
    state = make_state(OPTIMIZER, seed=number)
    state = dataclasses.replace(state, step=state.step + number)
    return Checkpoint(state, {"next": 10 * number}, seconds=float(number))


def check_is(found, make_state, number):
    check_same(found, numbered(make_state, number))


def check_same(found, expected):
    assert (found.position, found.seconds) == (expected.position, expected.seconds)

    def same(a, b):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype

    for a, b in zip(jax.tree.leaves(found.state), jax.tree.leaves(expected.state), strict=True):
        same(a, b)


def test_a_moving_average_comes_back(tmp_path, toy, mesh):
    start = state_lib.create_state(
        toy.Linear(), OPTIMIZER, toy.batch_of(range(8)), seed=0, mesh=mesh, ema=True
    )
    average = jax.tree.map(lambda x: x + 1, start.ema)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Checkpoint(dataclasses.replace(start, ema=average), {}, 0.0))
    found = checkpoints.restore_latest(like=start)
    checkpoints.close()
    assert found is not None
    jax.tree.map(np.testing.assert_array_equal, found.state.ema, average)
    without = dataclasses.replace(start, ema=None)
    with pytest.raises(CheckpointError, match=r"ema/params/w: .*absent here"):
        Checkpoints(tmp_path).restore_latest(like=without)


def files_of(folder: pathlib.Path, step: int) -> list[pathlib.Path]:
    return sorted(p for p in (folder / str(step)).rglob("*") if p.is_file() and p.stat().st_size)


def test_the_newest_comes_back_bit_for_bit(folder, make_state):
    check_is(Checkpoints(folder).restore_latest(make_state(OPTIMIZER)), make_state, 3)


def test_nothing_there_is_none(tmp_path, make_state):
    assert Checkpoints(tmp_path / "new").restore_latest(make_state(OPTIMIZER)) is None


def test_only_the_newest_are_kept(tmp_path, make_state):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for number in (1, 2, 3, 4):
        checkpoints.save(numbered(make_state, number))
    checkpoints.wait()
    assert checkpoints.steps() == [3, 4]


def test_restored_arrays_have_the_shardings_asked_for(folder, make_state):
    like = make_state(OPTIMIZER)
    single = jax.device_put(like, sharding.replicated(sharding.make_mesh(jax.devices()[:1])))
    restored = Checkpoints(folder).restore_latest(single).state
    assert all(len(x.sharding.device_set) == 1 for x in jax.tree.leaves(restored))


def corruptions():
    def flip(path):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0x10
        path.write_bytes(data)

    def cut(path):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def remove(path):
        path.unlink()

    return [flip, cut, remove]


@pytest.mark.parametrize("corrupt", corruptions(), ids=lambda f: f.__name__)
def test_a_damaged_newest_is_reported_and_skipped(folder, make_state, caplog, corrupt):
    for path in files_of(folder, 3):
        if path.parent.name == "d":  # Where the arrays are.
            corrupt(path)
    checkpoints = Checkpoints(folder)
    with caplog.at_level(logging.WARNING, logger="scenax"):
        check_is(checkpoints.restore_latest(make_state(OPTIMIZER)), make_state, 2)
    assert "checkpoint of step 3 is damaged" in caplog.text
    assert (folder / "3.damaged").is_dir()  # Set aside, not lost.
    checkpoints.save(numbered(make_state, 3))  # Its place is free again.
    checkpoints.wait()
    check_is(Checkpoints(folder).restore_latest(make_state(OPTIMIZER)), make_state, 3)


def test_no_flipped_bit_of_any_file_is_taken_for_a_checkpoint(folder, make_state):
    """Wherever a bit flips, what comes back is step 3 as it was saved, or step 2."""
    for path in files_of(folder, 3):
        relative, whole = path.relative_to(folder), path.read_bytes()
        data = bytearray(whole)
        data[len(data) // 2] ^= 0x04
        path.write_bytes(data)
        found = Checkpoints(folder).restore_latest(make_state(OPTIMIZER))
        check_is(found, make_state, int(found.state.step))
        aside = folder / "3.damaged"
        if aside.exists():
            aside.rename(folder / "3")
        (folder / relative).write_bytes(whole)
    check_is(Checkpoints(folder).restore_latest(make_state(OPTIMIZER)), make_state, 3)


def test_a_half_written_one_is_not_a_checkpoint(folder, make_state):
    (folder / "3").rename(folder / "3.orbax-checkpoint-tmp-0")
    check_is(Checkpoints(folder).restore_latest(make_state(OPTIMIZER)), make_state, 2)


def test_all_damaged_is_an_error_and_loses_nothing(folder, make_state):
    for step in (1, 2, 3):
        for path in files_of(folder, step):
            path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"All 3 checkpoints .* are damaged"):
        Checkpoints(folder).restore_latest(make_state(OPTIMIZER))
    assert sorted(p.name for p in folder.glob("*.damaged")) == [f"{s}.damaged" for s in (1, 2, 3)]


def test_another_models_checkpoint_is_an_error_and_stays(folder, make_state):
    with pytest.raises(CheckpointError, match=r"another model or optimizer.*opt_state"):
        Checkpoints(folder).restore_latest(make_state(optax.sgd(0.1, momentum=0.9)))
    assert Checkpoints(folder).steps() == [1, 2, 3]


def test_changed_metadata_do_not_pass(folder, make_state):
    (meta,) = [
        p for p in files_of(folder, 3) if p.parent.name == "meta" and b"position" in p.read_bytes()
    ]
    content = json.loads(meta.read_text())
    content["content"]["position"]["next"] = 31
    meta.write_text(json.dumps(content))
    check_is(Checkpoints(folder).restore_latest(make_state(OPTIMIZER)), make_state, 2)


def test_an_abstract_state_says_enough(folder, toy, make_state):
    two = sharding.make_mesh(jax.devices()[:2])
    like = state_lib.abstract_state(toy.Linear(), OPTIMIZER, toy.batch_of(range(8)), mesh=two)
    found = Checkpoints(folder).restore_latest(like)
    check_is(found, make_state, 3)
    assert all(x.sharding.device_set == {*two.devices.flat} for x in jax.tree.leaves(found.state))


def snapshot(folder: pathlib.Path) -> dict[str, bytes | None]:
    """All that is in a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("damaged", [(), (3,), (1, 2, 3)])
def test_to_read_changes_nothing(folder, make_state, damaged):
    for step in damaged:
        for path in files_of(folder, step):
            path.write_bytes(path.read_bytes()[:-7])
    (folder / "4.orbax-checkpoint-tmp").mkdir()  # As of a run that is under way.
    before = snapshot(folder)
    checkpoints = Checkpoints(folder, read_only=True)
    if len(damaged) == 3:
        with pytest.raises(CheckpointError, match=r"All 3 checkpoints in \S+ are damaged\. Choose"):
            checkpoints.restore_latest(make_state(OPTIMIZER))
    else:
        check_is(checkpoints.restore_latest(make_state(OPTIMIZER)), make_state, 3 - len(damaged))
    checkpoints.close()
    assert snapshot(folder) == before


def test_a_reader_follows_when_the_newest_is_replaced(tmp_path, make_state, caplog):
    run = Checkpoints(tmp_path, keep=1)
    run.save(numbered(make_state, 1))
    run.wait()
    reader = Checkpoints(tmp_path, read_only=True)
    run.save(numbered(make_state, 2))
    run.wait()
    assert [path.name for path in tmp_path.iterdir()] == ["2"]
    check_is(reader.restore_latest(make_state(OPTIMIZER)), make_state, 2)
    assert "damaged" not in caplog.text


def test_to_read_what_is_not_there_makes_no_folder(tmp_path, make_state):
    checkpoints = Checkpoints(tmp_path / "new", read_only=True)
    assert checkpoints.restore_latest(make_state(OPTIMIZER)) is None
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("returns", ["wait", "ensure"])
@pytest.mark.parametrize("last", [1, 4])
def test_what_was_reported_as_saved_outlives_a_kill(fork, tmp_path, last, returns):
    folder = tmp_path / "checkpoints"
    does = functools.partial(faults.save_and_die, folder, last, returns)
    assert fork(folder, does).end() == -signal.SIGKILL
    expected = faults.numbered(last)
    check_same(Checkpoints(folder).restore_latest(expected.state), expected)


dtypes = st.sampled_from(["float32", "bfloat16", "int32", "uint8", "bool", "float16"])


@settings(deadline=None, max_examples=40)
@given(dtypes, st.integers(0, 2**32 - 1), st.lists(st.integers(1, 4), max_size=3))
def test_a_fingerprint_sees_every_element_and_its_place(dtype, seed, shape):
    rng = np.random.default_rng(seed)
    x = np.asarray(jnp.asarray(rng.integers(0, 2, shape)).astype(dtype))
    number = int(fingerprint(jnp.asarray(x)))

    changed = x.copy()
    at = tuple(int(rng.integers(n)) for n in shape)
    changed[at] = not changed[at]
    assert int(fingerprint(jnp.asarray(changed))) != number

    # The sum written another way: over the flat array, with Python's integers.
    width = "u1" if dtype == "bool" else f"u{x.dtype.itemsize}"
    bits = x.reshape(-1).view(width).tolist()
    assert number == sum(b * (2 * i + 1) for i, b in enumerate(bits)) % 2**32


def test_a_fingerprint_does_not_depend_on_the_sharding(mesh):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32))
    split = sharding.put_batch({"x": np.asarray(x)}, mesh)["x"]
    assert int(jax.jit(fingerprint)(split)) == int(fingerprint(x))
