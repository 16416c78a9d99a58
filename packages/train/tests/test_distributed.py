"""Real processes, which work together over the loopback interface."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from scenax.train import distributed
from scenax.train.writers import read_log

WORKER = pathlib.Path(__file__).parent / "hosts.py"
DEVICES = 8


def start(folder, processes, *arguments, devices=DEVICES):
    folder.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    flags = f"--xla_force_host_platform_device_count={devices // processes}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    return [
        subprocess.Popen(
            [sys.executable, WORKER, folder, *map(str, (processes, index, port, *arguments))],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(processes)
    ]


def finish(processes, timeout=240):
    """The statuses and outputs of processes that end in time."""
    until = time.monotonic() + timeout
    try:
        ends = [p.communicate(timeout=max(1, until - time.monotonic())) for p in processes]
    finally:
        for process in processes:
            process.kill()
    return [p.returncode for p in processes], [out for out, _ in ends]


def run(folder, processes, *arguments, devices=DEVICES):
    statuses, outputs = finish(start(folder, processes, *arguments, devices=devices))
    assert statuses == [0] * processes, "\n".join(outputs)
    return outputs


def losses(folder, split):
    """The losses of a split by step; no step is written twice."""
    records = [r for r in read_log(folder) if r["split"] == split]
    found = {r["step"]: r["loss"] for r in records}
    assert len(found) == len(records)
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of a run of 20 steps in one process."""
    folder = tmp_path_factory.mktemp("runs") / "alone"
    run(folder, 1, 20)
    return folder


def check_same(found, expected):
    for split, steps in (("train", range(1, 21)), ("validation", (10, 20))):
        a, b = losses(found, split), losses(expected, split)
        assert sorted(a) == sorted(b) == list(steps)
        np.testing.assert_allclose([a[s] for s in steps], [b[s] for s in steps], rtol=1e-5)


@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_compute_what_one_does(alone, tmp_path, processes):
    outputs = run(tmp_path / "run", processes, 20)
    assert all(f"done 0 {processes} {DEVICES}" in out for out in outputs)
    check_same(tmp_path / "run", alone)
    written = {p.name for p in (tmp_path / "run" / "checkpoints" / "20").rglob("ocdbt.process_*")}
    assert written == {f"ocdbt.process_{i}" for i in range(processes)}  # Each writes its part.


def test_the_others_end_when_one_dies_and_another_number_goes_on(alone, tmp_path):
    folder = tmp_path / "run"
    processes = start(folder, 2, 20, 13)
    processes[1].wait(timeout=200)
    began = time.monotonic()
    (status, killed), (told, _) = finish(processes, timeout=90)
    assert time.monotonic() - began < 60
    assert killed == -9
    assert status != 0
    assert "died" in told or "crashed" in told, told
    last = max(int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdecimal())
    assert last in (5, 10)  # The one of step 10 may have been under way.
    for out in run(folder, 4, 20, devices=4):
        assert f"done {last} 4 4" in out
    check_same(folder, alone)


def test_a_signal_to_one_stops_all_at_the_same_step(tmp_path):
    folder = tmp_path / "run"
    processes = start(folder, 2, 10**6)
    until = time.monotonic() + 200
    while not (folder / "checkpoints" / "5").exists() and time.monotonic() < until:
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGTERM)
    _, outputs = finish(processes, timeout=90)
    steps = {
        found for out in outputs for found in re.findall(r"SIGTERM came after step (\d+)", out)
    }
    assert len(steps) == 1, outputs
    assert all("SIGTERM came after step" in out for out in outputs)
    assert (folder / "checkpoints" / steps.pop()).is_dir()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "16"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"TPU_WORKER_HOSTNAMES": "10.0.0.1"}, False),
        ({"TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2"}, True),
        ({"JAX_COORDINATOR_ADDRESS": "head:1234"}, True),
    ],
)
def test_what_starts_several_processes_is_seen(variables, expected):
    assert distributed.detected(variables) is expected


def test_half_an_address_is_an_error():
    with pytest.raises(distributed.DistributedError, match=r"all of coordinator.*None"):
        distributed.initialize("head:1234", 2)


def test_a_process_alone_agrees_with_itself():
    assert distributed.agreed(15) == 15
