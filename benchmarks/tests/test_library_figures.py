"""Figures of the input pipeline, the matchers and checkpoints, on small work."""

import io
import itertools
import math
import subprocess
import sys
import time

import pytest
from benchmarks.suite import checkpoints, input, matchers

MODULES = [checkpoints, input, matchers]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setenv("SCENAX_BENCH_DEVICE", "cpu")
    for name, value in {"ROUNDS": 2, "BATCH": 8, "BATCHES": 2, "DIFFERENT": 2}.items():
        monkeypatch.setattr(input, name, value)
    for name, value in {"BATCH": 2, "RUNS": 2, "SECONDS": 0, "SIZES": ["7x5"]}.items():
        monkeypatch.setattr(matchers, name, value)
    monkeypatch.setattr(checkpoints, "ROUNDS", 1)
    monkeypatch.setattr(checkpoints, "MODEL", "fully_connected")


def slowed(monkeypatch, owner, name, seconds):
    """Makes a function sleep before it does what it does."""
    original = getattr(owner, name)

    def slow(*arguments):
        time.sleep(seconds)
        return original(*arguments)

    monkeypatch.setattr(owner, name, slow)


def test_nothing_is_loaded_before_something_is_measured():
    # asv forks its processes from one that has imported the benchmarks.
    script = """
import sys
from benchmarks.suite import checkpoints, input, matchers
assert not {"jax", "flax", "tensorflow", "numpy"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("module", MODULES)
def test_another_device_than_the_one_asked_for_is_an_error(module, monkeypatch):
    monkeypatch.setenv("SCENAX_BENCH_DEVICE", "tpu")
    with pytest.raises(RuntimeError, match="were to be of a tpu, and jax runs on a cpu"):
        module.setup_cache()


def test_every_split_is_read():
    figures = input.setup_cache()
    assert sorted(figures) == sorted(input.params)
    assert all(0 < input.track_image_time(figures, split) < 1000 for split in input.params)


def test_a_slower_pipeline_is_seen(monkeypatch):
    from scenax.data.transforms.image import Normalize

    slowed(monkeypatch, Normalize, "stack", 0.16)  # Of a batch of eight.
    figures = input.setup_cache()
    assert all(input.track_image_time(figures, split) >= 20 for split in input.params)


def test_images_are_of_one_size_and_always_the_same(tmp_path):
    from PIL import Image

    written = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        input.write_images(tmp_path / name)
        paths = sorted((tmp_path / name).rglob("*.jpg"))
        written.append([path.read_bytes() for path in paths])
    sizes = {Image.open(io.BytesIO(encoded)).size for encoded in written[0]}
    assert sizes == {(500, 400)}
    assert written[0] == written[1]
    assert (len(written[0]), len(set(written[0]))) == (16, 2)


def test_every_matcher_is_timed_and_a_slower_one_is_seen(monkeypatch):
    from scenax.models.matchers import hungarian_host

    slowed(monkeypatch, hungarian_host, "_partners", 0.05)
    figures = matchers.setup_cache()
    times = {name: matchers.track_time(figures, name, "7x5") for name in matchers.MATCHERS}
    assert all(0 < each < 1000 for each in times.values())
    assert times["hungarian_host"] >= 50 > times["lazy"]


def test_a_matcher_that_a_commit_lacks_is_a_gap_and_the_others_are_timed(monkeypatch):
    from scenax.models.matchers import sinkhorn

    for name in ("hungarian", "hungarian_host", "greedy"):
        monkeypatch.setitem(sys.modules, f"scenax.models.matchers.{name}", None)
    monkeypatch.delattr(sinkhorn, "sinkhorn")
    figures = matchers.setup_cache()
    assert list(figures) == ["lazy"]
    lacking = itertools.product(matchers.MATCHERS[:4], ["7x5"])
    assert all(math.isnan(matchers.track_time(figures, *each)) for each in lacking)


def test_a_matcher_that_cannot_be_imported_is_a_failure(monkeypatch):
    def fail(name):
        raise ModuleNotFoundError("No module named 'scipy'", name="scipy")

    monkeypatch.setattr(matchers.importlib, "import_module", fail)
    with pytest.raises(ModuleNotFoundError, match="scipy"):
        matchers.find("hungarian_host")


def test_saving_and_restoring_are_timed_apart_and_a_slower_one_is_seen(monkeypatch):
    from scenax.train.checkpoints import Checkpoints

    slowed(monkeypatch, Checkpoints, "wait", 0.4)
    slowed(monkeypatch, Checkpoints, "restore_latest", 0.5)
    figures = checkpoints.setup_cache()
    assert 400 <= checkpoints.track_save_time(figures) < 60_000
    assert 500 <= checkpoints.track_restore_time(figures) < 60_000


def test_what_a_commit_lacks_is_a_gap(monkeypatch):
    from scenax.data import pipeline
    from scenax.train import checkpoints as library

    monkeypatch.delattr(pipeline, "PipelineDataset")
    monkeypatch.delattr(library, "Checkpoints")
    assert input.setup_cache() == checkpoints.setup_cache() == {}
    assert math.isnan(input.track_image_time({}, "train"))
    assert math.isnan(checkpoints.track_save_time({}))
    assert math.isnan(checkpoints.track_restore_time({}))


@pytest.mark.parametrize(
    ("module", "needed"), [(input, "scenax.data.pipeline"), (checkpoints, "scenax.train.state")]
)
def test_a_library_that_cannot_be_imported_is_a_failure(module, needed, monkeypatch):
    class Broken:
        def __getattr__(self, name):
            raise ModuleNotFoundError("No module named 'grain'", name="grain")

    monkeypatch.setitem(sys.modules, needed, Broken())
    with pytest.raises(ModuleNotFoundError, match="grain"):
        module.setup_cache()
