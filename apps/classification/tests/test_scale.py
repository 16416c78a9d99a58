"""One program at several sizes: meshes, hosts, and plans for what is not there."""

import re
import socket

import pytest

from scenax.train.writers import read_log

from .conftest import SMOKE

# Without noise, which is by the place in the batch, and that is by the hosts.
FEW = (
    f"--config={SMOKE}",
    "--config.total_steps=10",
    "--config.evaluate_every=5",
    "--config.save_every=5",
    "--config.model.args.drop_path_rate=0.0",
)


def losses(folder):
    return {(r["step"], r["split"]): r["loss"] for r in read_log(folder)}


@pytest.fixture(scope="module")
def alone(command, tmp_path_factory):
    """The folder of a run on one device."""
    folder = tmp_path_factory.mktemp("runs") / "alone"
    ran = command(*FEW, f"--workdir={folder}")
    assert ran.returncode == 0, ran.stderr
    return folder


def finished(processes):
    """The outputs of processes that all have to succeed."""
    ends = []
    try:
        for process in processes:
            ends.append(process.communicate(timeout=240))
    finally:
        for process in processes:
            process.kill()
    assert [p.returncode for p in processes] == [0] * len(processes), ends
    return ends


def test_two_hosts_reach_what_one_device_does(command, alone, tmp_path):
    folder = tmp_path / "run"
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    several = (f"--coordinator=localhost:{port}", "--process_count=2")
    hosts = [
        command.start(*FEW, f"--workdir={folder}", *several, f"--process_index={i}")
        for i in range(2)
    ]
    (first, _), (second, _) = finished(hosts)
    assert "Report:" in first
    assert "Report:" not in second
    assert losses(folder).keys() == losses(alone).keys()
    assert losses(folder) == pytest.approx(losses(alone), rel=1e-4)
    page = (folder / "report.html").read_text()
    assert re.search(r"\d+ of 374 are wrong", page)  # Of the whole test split.
    ended = command(f"--workdir={folder}", module="evaluate")  # On one device.
    loss = losses(folder)[10, "test"]
    assert f"{loss:.4f}" in ended.stdout, ended.stderr


def test_more_is_measured_and_the_best_is_tested(command, tmp_path):
    folder = tmp_path / "run"
    evaluators = {"few": {"every": 5, "shots": [1, 5]}, "own": {"every": 10, "split": "validation"}}
    ran = command(
        *FEW,
        f"--workdir={folder}",
        f"--config.evaluators={evaluators}",
        "--config.total_steps=40",
        # The worst, which is the first.
        '--config.selection={"metric": "validation/loss", "mode": "max", "patience": 3}',
        "--profile_steps=2:4",
    )
    assert ran.returncode == 0, ran.stderr
    log = read_log(folder)
    validation = {r["step"]: r["loss"] for r in log if r["split"] == "validation"}
    best = max(validation, key=validation.__getitem__)
    assert max(validation) == best + 15 < 40  # Three evaluations without a better one.
    few = [r for r in log if r["split"] == "few"]
    assert [r["step"] for r in few] == sorted(validation)
    assert all(0 <= r[f"accuracy_{shots}_shot"] <= 1 for r in few for shots in (1, 5))
    own = {r["step"]: r["loss"] for r in log if r["split"] == "own"}
    assert own == {step: validation[step] for step in own}
    assert [r["step"] for r in log if r["split"] == "test"] == [best]
    assert list(folder.glob("tensorboard/plugins/profile/*/*.xplane.pb"))
    measured = command(f"--workdir={folder}", "--split=validation", module="evaluate")
    assert f"step {best}" in measured.stdout, measured.stderr
    assert f"{validation[best]:.4f}" in measured.stdout


def test_a_plan_is_made_for_devices_that_are_not_there(command):
    plans = {}
    for strategy in ("replicated", "fsdp"):
        ran = command(
            f"--config={SMOKE}",
            "--dry_run=16",
            f"--config.sharding={strategy}",
            "--config.model.args.embed_dim=128",
        )
        assert ran.returncode == 0, ran.stderr
        cells = re.findall(r"│ ([\w ,()-]+?) +│ +([\d.,]+) │", ran.stdout)
        plans[strategy] = {name: float(value.replace(",", "")) for name, value in cells}
        assert "16 data x 1 model" in ran.stdout
        assert "TPU v5e" in ran.stdout
    whole, split = plans["replicated"], plans["fsdp"]
    blocks = 10 * 128 * 128 * 2 * 4 / 2**20  # The kernels of two blocks, in MiB.
    assert whole["parameters"] == pytest.approx(blocks, rel=0.05, abs=0.1)
    assert split["parameters"] < 0.3 * whole["parameters"]
    assert whole["optimizer"] == pytest.approx(2 * whole["parameters"], abs=0.1)


def test_a_folder_or_a_plan_has_to_be_asked_for(command):
    ran = command(f"--config={SMOKE}")
    assert ran.returncode == 2
    assert "--workdir is needed, or --dry_run" in ran.stderr
