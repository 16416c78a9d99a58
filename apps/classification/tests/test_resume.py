"""Runs that are killed, stopped and damaged end as if they had not been."""

import json
import pathlib
import random
import shutil
import signal
import time

import numpy as np
import orbax.checkpoint as ocp
import pytest

from scenax.train.writers import read_log

from .conftest import SMOKE

# The arrays are read back here without saying where they shall lie.
pytestmark = pytest.mark.filterwarnings("ignore:Sharding info not provided")

# Long enough to be killed in the middle, and noisy: drop path and augmentation are on.
LONGER = (
    f"--config={SMOKE}",
    "--config.total_steps=300",
    "--config.save_every=25",
    "--config.evaluate_every=60",
    "--config.dataset.args.augment=affine",
)


def arrays(folder: pathlib.Path, step: int) -> dict[str, np.ndarray]:
    manager = ocp.CheckpointManager((folder / "checkpoints").absolute())
    state = ocp.args.Composite(state=ocp.args.StandardRestore())
    restored = manager.restore(step, args=state)["state"]
    flat = ocp.tree.to_flat_dict(restored, sep="/")
    return {name: np.asarray(value) for name, value in flat.items()}


def assert_same(folder: pathlib.Path, expected: pathlib.Path, step: int = 300) -> None:
    found, wanted = arrays(folder, step), arrays(expected, step)
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


def without_times(records):
    times = ("seconds", "examples_per_second", "step_ms")
    return [{k: v for k, v in r.items() if not any(t in k for t in times)} for r in records]


def wait_for_step(process, folder: pathlib.Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while not any(r["step"] >= step for r in read_log(folder)):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def straight(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "straight"
    ran = command(*LONGER, f"--workdir={folder}")
    assert ran.returncode == 0, ran.stderr
    return folder


def test_killed_at_arbitrary_moments_it_ends_bit_for_bit_the_same(command, straight, tmp_path):
    rng = random.Random(0)
    reached = 0
    for _ in range(2):
        process = command.start(*LONGER, f"--workdir={tmp_path}")
        reached += rng.randrange(30, 120)
        wait_for_step(process, tmp_path, reached)
        time.sleep(rng.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    ran = command(*LONGER, f"--workdir={tmp_path}")
    assert ran.returncode == 0, ran.stderr
    assert "Continuing from the checkpoint of step" in ran.stdout
    assert_same(tmp_path, straight)
    assert without_times(read_log(tmp_path)) == without_times(read_log(straight))


def test_terminated_it_saves_first_and_ends_the_same(command, straight, tmp_path):
    process = command.start(*LONGER, f"--workdir={tmp_path}")
    wait_for_step(process, tmp_path, 40)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, err
    assert "SIGTERM came after step" in out
    assert "same command continues" in out
    saved = max(int(p.name) for p in (tmp_path / "checkpoints").iterdir())
    assert f"after step {saved}." in out
    assert saved > max(r["step"] for r in read_log(tmp_path)) - 25

    ran = command(*LONGER, f"--workdir={tmp_path}")
    assert ran.returncode == 0, ran.stderr
    assert f"Continuing from the checkpoint of step {saved}" in ran.stdout
    assert_same(tmp_path, straight)


def test_damaged_and_half_written_newest_checkpoints_are_passed_over(command, straight, tmp_path):
    process = command.start(*LONGER, f"--workdir={tmp_path}")
    wait_for_step(process, tmp_path, 110)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    folder = tmp_path / "checkpoints"
    newest = max(int(p.name) for p in folder.iterdir() if p.name.isdigit())
    # As if the next one had been under way: a folder with Orbax's name for it, and half the files.
    half = folder / f"{newest + 25}.orbax-checkpoint-tmp-0"
    shutil.copytree(folder / str(newest) / "state", half / "state")
    for path in (folder / str(newest)).rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[:-7])

    ran = command(*LONGER, f"--workdir={tmp_path}")
    assert ran.returncode == 0, ran.stderr
    assert f"The checkpoint of step {newest} is damaged" in ran.stderr
    assert f"Continuing from the checkpoint of step {newest - 25}" in ran.stdout
    assert (folder / f"{newest}.damaged").is_dir()
    assert not half.exists()
    assert_same(tmp_path, straight)


def test_a_finished_run_only_reports_again(command, smoke_run):
    folder, _ = smoke_run
    before = without_times(read_log(folder))
    ran = command(f"--config={SMOKE}", f"--workdir={folder}")
    assert ran.returncode == 0, ran.stderr
    assert without_times(read_log(folder)) == before


def test_a_run_starts_from_the_config_that_a_run_left(command, smoke_run, tmp_path):
    folder, _ = smoke_run
    ran = command(f"--config={folder / 'config.json'}", f"--workdir={tmp_path / 'again'}")
    assert ran.returncode == 0, ran.stderr
    assert_same(tmp_path / "again", folder, step=40)
    assert json.loads((tmp_path / "again" / "config.json").read_text()) == json.loads(
        (folder / "config.json").read_text()
    )
