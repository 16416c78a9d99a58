"""How long every matcher takes on the device: batches of 16 random cost matrices.

A figure is the fastest of some runs of the compiled matcher, each of which ends when the device is
done. Sizes are of predictions by targets.
"""

import importlib
import time
from collections.abc import Callable
from typing import Any

from benchmarks import device

MATCHERS = ["hungarian", "hungarian_host", "greedy", "sinkhorn", "lazy"]
SIZES = ["100x100", "300x100"]
params = [MATCHERS, SIZES]
param_names = ["matcher", "size"]
version = "1"  # A new one would drop a figure's history.

BATCH = 16
RUNS = 3
"""At least, and as many as there is time for."""
SECONDS = 0.2


def setup_cache() -> dict[str, dict[str, float]]:
    """Returns milliseconds by matcher and size, of the matchers that the commit has."""
    device.require()
    import jax
    import numpy as np

    rng = np.random.default_rng(0)
    shapes = {size: tuple(map(int, size.split("x"))) for size in SIZES}
    costs = {
        size: jax.device_put(rng.uniform(size=(BATCH, *shape)).astype(np.float32))
        for size, shape in shapes.items()
    }
    found = {name: find(name) for name in MATCHERS}
    return {
        name: {size: _fastest(jax.jit(matcher), cost) for size, cost in costs.items()}
        for name, matcher in found.items()
        if matcher is not None
    }


setup_cache.timeout = 600


def track_time(figures: dict[str, dict[str, float]], matcher: str, size: str) -> float:
    """Returns milliseconds for a batch."""
    return figures.get(matcher, {}).get(size, float("nan"))


track_time.unit = "ms"


def find(name: str) -> Callable[..., Any] | None:
    """Returns the matcher of that name, or none if the commit has no such one."""
    module = f"scenax.models.matchers.{name}"
    try:
        return getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if not (error.name and f"{module}.".startswith(f"{error.name}.")):
            raise
        return None


def _fastest(matcher: Callable[..., Any], cost: Any) -> float:
    import jax

    jax.block_until_ready(matcher(cost))  # Compiles.
    times = []
    start = time.perf_counter()
    while len(times) < RUNS or time.perf_counter() - start < SECONDS:
        began = time.perf_counter()
        jax.block_until_ready(matcher(cost))
        times.append(1000 * (time.perf_counter() - began))
    return min(times)
