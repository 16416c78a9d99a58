import dataclasses
import importlib.metadata
import shlex
import subprocess
import sys

import jax
import pytest

from scenax.train import crashes
from scenax.train.interrupts import TrainingInterrupted


@dataclasses.dataclass(frozen=True)
class Config:
    batch_size: int = 12345


def crash(folder, error, config=None, step=lambda: 7):
    with crashes.crash_report(folder, config=config or Config(), step=step):
        raise error


def sections(path):
    """The sections of a report, by their names."""
    parts = [part.split("\n", 1) for part in path.read_text().split("\n\n")]
    return {name: text for name, text in parts}


def test_a_report_has_what_is_asked_first(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAX_TEST_FLAG", "seen")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "never seen")
    with pytest.raises(RuntimeError, match="out of cheese"):
        crash(tmp_path, RuntimeError("out of cheese"))
    (path,) = tmp_path.glob("crash_*.txt")
    assert capsys.readouterr().err == f"Crash report: {path}\n"
    report = sections(path)
    assert report["Error"].startswith("Traceback (most recent call last):")
    assert "RuntimeError: out of cheese" in report["Error"]
    assert __file__ in report["Error"]
    assert report["Step"] == "7"
    assert report["Config"] == '{\n  "batch_size": 12345\n}'
    for name in ("jax", "jaxlib", "optax", "orbax-checkpoint", "numpy", "scenax-train"):
        assert f"\n{name} {importlib.metadata.version(name)}" in report["Versions"]
    assert "process 0 of 1" in report["Devices"]
    assert report["Devices"].count(jax.devices()[0].device_kind) >= len(jax.devices())
    assert "JAX_TEST_FLAG=seen" in report["Environment"]
    assert "XLA_FLAGS=" in report["Environment"]
    assert shlex.split(report["Command"]) == sys.orig_argv
    assert "never seen" not in path.read_text()


def test_older_reports_remain(tmp_path):
    for _ in range(2):
        with pytest.raises(ValueError, match="again"):
            crash(tmp_path, ValueError("again"))
    assert len(list(tmp_path.glob("crash_*.txt"))) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), TrainingInterrupted(8, 15)])
def test_what_was_asked_for_is_no_crash(tmp_path, error):
    with pytest.raises(type(error)):
        crash(tmp_path, error)
    assert list(tmp_path.iterdir()) == []


def test_no_error_is_no_report(tmp_path):
    with crashes.crash_report(tmp_path, config={}, step=lambda: None):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_found_out_costs_no_other_section(tmp_path):
    def step():
        raise RuntimeError("Array has been deleted")

    with pytest.raises(ValueError, match="first"):
        crash(tmp_path, ValueError("first"), config={"path": tmp_path}, step=step)
    report = sections(next(tmp_path.glob("crash_*.txt")))
    assert report["Step"] == "not known, RuntimeError: Array has been deleted"
    assert "ValueError: first" in report["Error"]
    assert repr(tmp_path) in report["Config"]


def test_a_folder_that_is_not_there_hides_nothing(tmp_path, capsys):
    with pytest.raises(ValueError, match="the first one"):
        crash(tmp_path / "gone", ValueError("the first one"))
    assert "No crash report could be written" in capsys.readouterr().err


def test_a_disk_that_takes_nothing_hides_nothing(tmp_path):
    program = f"""
import pathlib, resource
from scenax.train import crashes
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # As if the disk were full.
with crashes.crash_report(pathlib.Path({str(tmp_path)!r}), config={{}}, step=lambda: 1):
    raise ValueError("the first one")
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    first, *_, last = ran.stderr.splitlines()
    assert first.startswith(f"No crash report could be written to {tmp_path}: ")
    assert last == "ValueError: the first one"
