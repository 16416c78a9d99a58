"""What befalls a run from outside is told in a line, and costs nothing that was saved."""

import os
import re
import resource
import signal
import time

import pytest

from scenax.data import pipeline
from scenax.train.writers import read_log

from .. import evaluators
from ..evaluate import main as evaluate_main
from ..main import main
from .conftest import SMOKE
from .test_resume import assert_same, wait_for_step


@pytest.fixture
def run(data_dir, tmp_path):
    """A function that runs the command in this process and returns its status."""
    flags = [f"--config={SMOKE}", f"--data_dir={data_dir}"]
    return lambda *more, workdir=tmp_path / "run": main([*flags, f"--workdir={workdir}", *more])


def saved(folder):
    names = [path.name for path in (folder / "checkpoints").iterdir()]
    return sorted(int(name) for name in names if name.isdecimal())


def test_a_signal_in_an_evaluation_is_obeyed_at_once(run, tmp_path, monkeypatch, capsys):
    evaluate = evaluators.evaluate

    def terminated(eval_step, state, batches, mesh):
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(eval_step, state, batches, mesh)

    monkeypatch.setattr(evaluators, "evaluate", terminated)
    assert run() == 128 + signal.SIGTERM
    out = " ".join(capsys.readouterr().out.split())
    assert "SIGTERM came after step 20. The same command continues the run." in out
    assert saved(tmp_path / "run")[-1] == 20
    assert {r["split"] for r in read_log(tmp_path / "run")} == {"train"}  # It was given up.


def test_a_source_that_fails_is_told_and_reported(run, tmp_path, monkeypatch, capsys):
    read = pipeline.TrainBatches.__next__

    def fail(batches):
        if batches.get_state()["examples_consumed"] == 16 * 64:
            raise OSError("the disk is gone")
        return read(batches)

    monkeypatch.setattr(pipeline.TrainBatches, "__next__", fail)
    assert run() == 1
    report, error = capsys.readouterr().err.splitlines()
    assert error == "Error: the disk is gone"
    (path,) = (tmp_path / "run").glob("crash_*.txt")
    assert report == f"Crash report: {path}"
    assert "OSError: the disk is gone" in path.read_text()
    assert saved(tmp_path / "run") == [10]


def test_a_file_in_the_place_of_the_folder_is_named_and_stays(run, tmp_path, capsys):
    file = tmp_path / "run"
    file.write_text("mine")
    assert run() == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"Error: Cannot write to {file}: ")
    assert "--workdir" in error
    assert file.read_text() == "mine"


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="Linux alone limits another process.")
def test_a_full_disk_is_told_in_a_line(command, tmp_path):
    process = command.start(f"--config={SMOKE}", f"--workdir={tmp_path}")
    wait_for_step(process, tmp_path, 10)
    while 10 not in saved(tmp_path):
        time.sleep(0.01)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2**17, resource.RLIM_INFINITY))
    _, err = process.communicate()
    assert process.returncode == 1
    assert re.fullmatch(
        rf"Crash report: \S+\nError: The checkpoint of step (20|30|40) could not be written to "
        rf"{re.escape(str(tmp_path / 'checkpoints'))} \(File too large\)\. The last complete one is"
        r" of step \d0\. Make room there; the same command then continues the run\.\n",
        err,
    )


def test_a_folder_has_one_run_at_a_time_and_any_number_of_readers(
    command, run, smoke_run, data_dir, tmp_path, capsys
):
    first = command.start(f"--config={SMOKE}", f"--workdir={tmp_path}")
    try:
        wait_for_step(first, tmp_path, 25)
        first.send_signal(signal.SIGSTOP)  # So that what changes now is not its doing.
        before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
        assert run(workdir=tmp_path) == 1
        said = capsys.readouterr().err
        assert f"Error: Another run has {tmp_path}: process {first.pid} on " in said
        assert evaluate_main([f"--workdir={tmp_path}", f"--data_dir={data_dir}"]) == 0
        captured = capsys.readouterr()
        assert re.search(r"step \d0: test split", " ".join(captured.out.split()))
        assert captured.err == ""
        assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
    finally:
        first.send_signal(signal.SIGCONT)
        _, err = first.communicate()
    assert first.returncode == 0, err
    assert_same(tmp_path, smoke_run[0], step=40)
