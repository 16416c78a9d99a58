"""How long a matching takes: 16 problems at once, compiled, their costs on the device already.

The best of many rounds, in which every matcher has its turn, so that what else the machine does for
a while is in no figure. Costs are uniform; sizes are of predictions by targets.
"""

import importlib
import math
import time
from collections.abc import Callable
from typing import Any

from benchmarks import device

# asv forks its processes from one that has imported this module: jax is imported in functions.
params = [
    ["hungarian", "hungarian_host", "greedy", "sinkhorn", "lazy"],
    ["100x100", "300x100"],
]
param_names = ["matcher", "size"]
version = "1"

BATCH = 16
ROUNDS = 25


def setup_cache() -> dict[tuple[str, str], float]:
    """Returns the milliseconds of every matcher that the commit under test has, by size too."""
    device.require()
    return measure(*params)


setup_cache.timeout = 600


def track_time(times: dict[tuple[str, str], float], matcher: str, size: str) -> float:
    """Returns the milliseconds of a batch; a gap for a matcher that a commit does not have."""
    return times.get((matcher, size), math.nan)


track_time.unit = "ms"


def measure(names: list[str], sizes: list[str]) -> dict[tuple[str, str], float]:
    """Returns the milliseconds of those of the matchers that there are, by name and size."""
    import jax
    import numpy as np

    rng = np.random.default_rng(0)
    runs = []
    for size in sizes:
        shape = (BATCH, *map(int, size.split("x")))
        costs = jax.device_put(rng.uniform(size=shape).astype(np.float32))
        for name in names:
            if matcher := find(name):
                compiled = jax.jit(matcher).lower(costs).compile()
                jax.block_until_ready(compiled(costs))
                runs.append(((name, size), compiled, costs))
    best = {key: math.inf for key, _, _ in runs}
    for _ in range(ROUNDS):
        for key, compiled, costs in runs:
            began = time.perf_counter()
            jax.block_until_ready(compiled(costs))
            best[key] = min(best[key], 1000 * (time.perf_counter() - began))
    return best


def find(name: str) -> Callable[..., Any] | None:
    """Returns the matcher of that name, or None if the commit under test has none."""
    module = f"scenax.models.matchers.{name}"
    try:
        return getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name not in ("scenax.models.matchers", module):
            raise  # It is there, and broken.
        return None
