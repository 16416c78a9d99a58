"""Processes that measure, and what is kept of their answers."""

import json
import math

import pytest
from benchmarks import measuring
from benchmarks.suite import architectures, cost


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "KEPT", tmp_path)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("XLA_FLAGS", "")
    return tmp_path


@pytest.fixture(scope="module")
def worker():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_PLATFORMS", "cpu")
        patch.setenv("XLA_FLAGS", "")
        with measuring.Worker() as worker:
            yield worker


def test_what_was_measured_is_not_measured_again(kept):
    asked = []
    for key in ("a", "a", "b"):
        assert measuring.kept("speed", key, lambda key=key: asked.append(key) or [key]) == [key]
    assert asked == ["a", "b"]
    assert sorted(path.name for path in (kept / "speed").iterdir()) == ["a.json", "b.json"]


def test_an_error_is_told_and_the_process_goes_on(worker):
    with pytest.raises(measuring.MeasurementError, match="RegistryError: Unknown model 'resnot'"):
        worker.ask("cost", "resnot")
    assert "resnet18" in worker.ask("names")


def test_a_process_that_ends_is_told():
    with measuring.Worker() as worker:
        worker.end()
        with pytest.raises(measuring.MeasurementError, match="ended with status -9"):
            worker.ask("names")


@pytest.mark.parametrize(
    ("platforms", "message"), [("cpu", "runs on a cpu"), ("cuda", "finds none")]
)
def test_another_device_than_the_one_asked_for_is_an_error(platforms, message, monkeypatch, capfd):
    monkeypatch.setenv("SCENAX_BENCH_DEVICE", "gpu")
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    with measuring.Worker() as worker, pytest.raises(measuring.MeasurementError, match="ended"):
        worker.ask("names")
    assert (
        f"RuntimeError: The figures were to be of a gpu, and jax {message}"
        in capfd.readouterr().err
    )


def test_a_short_training_is_the_same_in_every_process(worker):
    error = measuring.learning(worker, "fully_connected")
    assert 0 < error < 80  # Chance is 90.
    with measuring.Worker() as other:
        keys = [each.ask("learning_key", "fully_connected", "{}", 0) for each in (worker, other)]
        assert keys[0] == keys[1] != worker.ask("learning_key", "fully_connected", "{}", 1)
        assert other.ask("learning", "fully_connected", "{}", 0) == error


def test_a_program_is_run_and_its_memory_counted(worker, kept):
    name = ["fully_connected", 4, "float32"]
    assert len(worker.ask("speed_key", *name, "training")) == 32
    compiled = worker.ask("compiling", *name, "training")
    # Parameters and Adam's two moments of them, and four images of 32x32x3, in MiB.
    held = 4 * (3 * 72_670 + 4 * 32 * 32 * 3) / 2**20
    assert held < compiled["memory"] < 2 * held
    runs = worker.ask("timing", *name, "training", 0.01)
    assert 3 <= len(runs) <= 30
    assert all(0 < run < 1 for run in runs)
    worker.ask("forget", "fully_connected")


def test_a_name_that_a_commit_lacks_is_a_gap_and_costs_are_kept(kept):
    found = measuring.costs(["fully_connected", "not_yet_there"])
    assert found == {"fully_connected": json.loads(next((kept / "cost").iterdir()).read_text())}
    assert cost.track_parameters(found, "fully_connected") == 72_670
    assert math.isnan(cost.track_parameters(found, "not_yet_there"))


def test_times_are_the_fastest_run_per_image():
    speed = {"training": {"runs": [3.0, 2.0, 4.0], "memory": 7.0, "seconds": 1.0}}
    figures = {"a": {"speed": speed, "learning": {"failed": "ValueError: no"}}}
    assert architectures.track_training_time(figures, "a") == 1000 * 2.0 / 4
    assert architectures.track_memory(figures, "a") == 7.0
    assert math.isnan(architectures.track_inference_time(figures, "a"))
    with pytest.raises(measuring.MeasurementError, match="a: ValueError: no"):
        architectures.track_error(figures, "a")
