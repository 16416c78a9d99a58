import errno
import fcntl
import json
import re
import signal
import socket
import subprocess
import sys

import jax
import pytest

from scenax.common.config import schema
from scenax.train import workdir


@schema
class Config:
    batch_size: int
    seed: int = 0


def test_a_new_folder_gets_the_config(tmp_path):
    workdir.claim(tmp_path / "a" / "run", Config(8), accept_changes=False)
    workdir.keep_config(tmp_path / "a" / "run", Config(8))
    written = json.loads((tmp_path / "a" / "run" / "config.json").read_text())
    assert written == {"batch_size": 8, "seed": 0}


def test_the_same_run_goes_on(tmp_path):
    for _ in range(2):
        workdir.claim(tmp_path, Config(8), accept_changes=False)
        workdir.keep_config(tmp_path, Config(8))
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_another_run_is_refused_and_kept(tmp_path):
    workdir.keep_config(tmp_path, Config(8))
    with pytest.raises(
        workdir.WorkdirError, match=r"another run.*\n  batch_size: 8 there, 16 here"
    ) as e:
        workdir.claim(tmp_path, Config(16), accept_changes=False)
    assert "--workdir" in str(e.value)
    assert "--accept_config_changes" in str(e.value)
    assert json.loads((tmp_path / "config.json").read_text())["batch_size"] == 8

    workdir.claim(tmp_path, Config(16), accept_changes=True)
    assert json.loads((tmp_path / "config.json").read_text())["batch_size"] == 8


def test_checkpoints_of_nobody_knows_what_are_refused(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(workdir.WorkdirError, match="what run they are of is not known"):
        workdir.claim(tmp_path, Config(8), accept_changes=False)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(workdir.WorkdirError, match=r"Cannot write to .*file/run.*--workdir"):
        workdir.claim(tmp_path / "file" / "run", Config(8), accept_changes=False)


@pytest.fixture
def other_run():
    """A function that begins a run in a folder in another process, and returns it when it has."""
    begun = []

    def begin(folder):
        program = f"""
import pathlib, sys
from scenax.train import workdir
with workdir.locked(pathlib.Path({str(folder)!r})):
    print("begun", flush=True)
    sys.stdin.read()
"""
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        begun.append(process)
        assert process.stdout.readline() == "begun\n"
        return process

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def test_a_second_run_is_refused_until_the_first_ends(tmp_path, other_run):
    folder = tmp_path / "a" / "run"
    first = other_run(folder)
    expected = (
        f"Another run has {re.escape(str(folder))}: process {first.pid} on "
        rf"{re.escape(socket.gethostname())}, since [-\d]{{10}} [:\d]{{8}} UTC\. .*--workdir"
    )
    for _ in range(2):  # To be refused changes nothing.
        with pytest.raises(workdir.WorkdirError, match=expected), workdir.locked(folder):
            pass
    with workdir.locked(tmp_path / "a" / "other"):
        pass
    first.communicate()
    with workdir.locked(folder):
        pass


def test_a_run_that_was_killed_leaves_nothing_in_the_way(tmp_path, other_run):
    first = other_run(tmp_path)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    with workdir.locked(tmp_path):
        pass


def test_a_run_that_fails_gives_the_folder_back(tmp_path, other_run):
    with pytest.raises(ZeroDivisionError), workdir.locked(tmp_path):
        raise ZeroDivisionError
    other_run(tmp_path)


def test_a_run_that_has_just_begun_is_no_riddle(tmp_path, other_run):
    other_run(tmp_path)
    (tmp_path / workdir.LOCK_NAME).write_text("")
    with (
        pytest.raises(workdir.WorkdirError, match="one that has just begun"),
        workdir.locked(tmp_path),
    ):
        pass


def test_only_the_first_host_holds_the_lock(tmp_path, other_run, monkeypatch):
    other_run(tmp_path)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with workdir.locked(tmp_path):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, caplog, number):
    def flock(file, operation):
        raise OSError(number, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with workdir.locked(tmp_path):
        pass
    assert f"The file system of {tmp_path} has no locks (No locks available)" in caplog.text


def test_a_folder_that_cannot_be_locked_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(workdir.WorkdirError, match=r"Cannot write to .*file/run.*--workdir"),
        workdir.locked(tmp_path / "file" / "run"),
    ):
        pass
