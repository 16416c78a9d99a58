"""Error, speed, memory and time to compile of what stands for each family; of all by request.

The error is of a small copy after a short training on digits, the same for every family: it says
whether something changed, and not which architecture is best. Times are of one device, float32 in
batches of 4 on CPUs and bfloat16 in batches of 128 elsewhere, 1,000 classes, the published image
size, AdamW; each the fastest of at least two runs after one that is not timed, which end when the
device is done. Compiling counts in seconds of CPU. Memory is what the compiler plans for a
training step: arguments, results and what is between.
"""

from benchmarks import catalog, measuring

params = catalog.timed_names()
param_names = ["model"]
version = "1"  # A new one would drop a figure's history.


def setup_cache() -> measuring.Figures:
    """Returns what was measured of the architectures that the commit under test has."""
    return measuring.errors_and_speeds(params, catalog.parts())


setup_cache.timeout = 24 * 3600


def track_error(figures: measuring.Figures, model: str) -> float:
    """Returns the top-1 error on the test digits, in percent."""
    return measuring.figure(figures, model, "learning", "error")


track_error.unit = "%"
track_error.version = "2"  # Since copies have two stages.


def track_inference_time(figures: measuring.Figures, model: str) -> float:
    """Returns milliseconds per image."""
    return _fastest(figures, model, "inference")


track_inference_time.unit = "ms/image"


def track_training_time(figures: measuring.Figures, model: str) -> float:
    """Returns milliseconds per image of an update: forward, backward, optimizer."""
    return _fastest(figures, model, "training")


track_training_time.unit = "ms/image"


def track_memory(figures: measuring.Figures, model: str) -> float:
    """Returns the memory of a training step, in MiB."""
    return measuring.figure(figures, model, "speed", "training", "memory")


track_memory.unit = "MiB"


def track_compile_time(figures: measuring.Figures, model: str) -> float:
    """Returns the time to compile a training step, in seconds of CPU."""
    return measuring.figure(figures, model, "speed", "training", "seconds")


track_compile_time.unit = "s"


def _fastest(figures: measuring.Figures, model: str, part: str) -> float:
    runs = measuring.figure(figures, model, "speed", part, "runs")
    batch = measuring.CONDITIONS[measuring.asked_device()].batch
    return min(runs) / batch * 1000 if isinstance(runs, list) else runs
