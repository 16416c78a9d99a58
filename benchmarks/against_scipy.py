"""Exact matchers beside optax's and scipy's on this machine: ``nox -s matchers``.

Batches of 16 random cost matrices. Rounds alternate between all of them, and a figure is the median
of its rounds in milliseconds; ``scipy`` is its C++ in a loop over matrices that are on the host
already. On an accelerator ``hungarian_host`` is the round trip to the host.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.optimize import linear_sum_assignment

from scenax.models.matchers.greedy import greedy
from scenax.models.matchers.hungarian import hungarian
from scenax.models.matchers.hungarian_host import hungarian_host
from scenax.models.matchers.sinkhorn import sinkhorn

SHAPES = ((100, 100), (300, 300), (100, 30), (300, 100))
BATCH = 16


def contenders(costs: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Returns what is timed, compiled already."""
    on_device = jnp.asarray(costs)
    functions = {f.__name__: jax.jit(f) for f in (hungarian, hungarian_host, greedy, sinkhorn)}
    functions["optax"] = jax.jit(jax.vmap(optax.assignment.hungarian_algorithm))
    for function in functions.values():
        jax.block_until_ready(function(on_device))
    runs = {
        name: lambda function=function: jax.block_until_ready(function(on_device))
        for name, function in functions.items()
    }
    return {**runs, "scipy": lambda: [linear_sum_assignment(cost) for cost in costs]}


def main() -> None:
    """Times and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    rng = np.random.default_rng(0)
    sys.stdout.write(f"{BATCH} matrices on {jax.devices()[0].device_kind}, milliseconds\n")
    for shape in SHAPES:
        runs = contenders(rng.uniform(size=(BATCH, *shape)).astype(np.float32))
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(rounds):
            for name, run in runs.items():
                began = time.perf_counter()
                run()
                times[name].append(1e3 * (time.perf_counter() - began))
        medians = {name: statistics.median(values) for name, values in times.items()}
        cells = "".join(f"  {name} {median:.1f}" for name, median in medians.items())
        ratios = (
            f"  optax/ours {medians['optax'] / medians['hungarian']:.1f}"
            f"  ours/scipy {medians['hungarian'] / medians['scipy']:.2f}"
        )
        sys.stdout.write(f"{shape[0]:>3} x {shape[1]:<3}{cells}{ratios}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
