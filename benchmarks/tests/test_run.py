"""How asv is started, and what is added to what it writes."""

import importlib.metadata
import json
import subprocess
import sys

import pytest
from benchmarks import catalog, run


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    return tmp_path


def test_results_say_what_they_were_measured_with(results):
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip()
    path = results / "one.json"
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    path.write_text(json.dumps({"commit_hash": commit, "python": python, "results": {}}))
    run.describe(path)
    described = json.loads(path.read_text())
    # What is installed here came from the lock.
    assert described["versions"]["jax"] == importlib.metadata.version("jax")
    assert described["conditions"]["batch"] == 4
    assert described["conditions"]["precision"] == "float32"
    path.write_text(json.dumps(described | {"versions": {"jax": "0.1"}}))
    run.describe(path)
    assert json.loads(path.read_text())["versions"] == {"jax": "0.1"}


def test_a_machine_stays_what_it_was_first_described_as(results):
    assert int(run.machine_fields("new")["num_cpu"]) >= 1
    fields = {"os": "Linux", "arch": "x", "cpu": "c", "num_cpu": "3", "ram": "7GB"}
    (results / "old").mkdir()
    (results / "old" / "machine.json").write_text(json.dumps(fields | {"machine": "old"}))
    assert run.machine_fields("old") == fields


def test_results_of_another_processor_are_not_mixed_with(results, monkeypatch):
    (results / "old").mkdir()
    (results / "old" / "machine.json").write_text(json.dumps({"cpu": "64 x Z80"}))
    monkeypatch.setattr(run, "asv", None)  # It would be a TypeError to get that far.
    with pytest.raises(SystemExit, match=r"'old' are of another processor, 64 x Z80, .*--machine"):
        run.measure_commits("HEAD^!", "old", None)


def test_what_is_measured_is_what_was_asked_for(monkeypatch):
    everything = len(catalog.all_names())
    for scope, counted, parts in [
        ("quick", 21, ["inference"]),
        ("compare", everything, ["learning"]),
        ("representatives", everything, ["learning", "inference", "training"]),
    ]:
        for name, value in run.environment("cpu", scope, "resnet*").items():
            monkeypatch.setenv(name, value)
        assert len(catalog.counted_names()) >= counted
        assert catalog.timed_names() == ["resnet18", "resnetv2_18"]
        assert catalog.parts() == parts
    monkeypatch.setenv("SCENAX_BENCH_SCOPE", "all")
    assert set(catalog.timed_names()) > {"resnet18", "resnet50", "resnetv2_18"}


def test_a_gpu_is_asked_of_jax_by_its_platforms_name():
    assert run.environment("gpu", "all", "*")["JAX_PLATFORMS"] == "cuda"
    assert run.environment("tpu", "all", "*")["JAX_PLATFORMS"] == "tpu"


def test_unknown_options_are_told(capsys):
    with pytest.raises(SystemExit):
        run.main(["--quick", "--all"])
    assert "not allowed with argument" in capsys.readouterr().err
