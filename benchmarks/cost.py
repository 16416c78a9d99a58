"""FLOPs and parameters of every architecture, counted and not measured: the same on any machine.

A model is taken as ``create_model(name)`` makes it, and counted for the forward pass of one image
of the size in its ``default_cfg``, which is the published one; no size is published for
``fully_connected``, whose default is 32x32x3. GFLOPs are 2 x multiply-adds, so twice what most
papers print. Everything is abstract: nothing is compiled, allocated, or put on a device.

Checked against timm 1.0.31 for every ViT: parameters exactly, and the multiply-adds of timm's
benchmark tables to 1 % or their last digit.
"""

import pathlib
import runpy
from typing import NamedTuple

from scenax.models import create_model, list_models

_CATALOG = pathlib.Path(__file__).parents[1] / "packages/models/src/scenax/models/_catalog.py"

# What asv reads. It calls for parameters by their position, while this module is imported with the
# packages of the commit under test: so the names are those of the tree that this file is in, or an
# older commit's shorter list would file figures under wrong names. asv forks its processes from one
# that has imported this module, so jax, whose threads do not survive that, is imported in
# functions. A new version would drop a figure's history.
params = list(runpy.run_path(str(_CATALOG))["families"]())
param_names = ["model"]
version = "1"


class Cost(NamedTuple):
    """The cost of one architecture."""

    gflops: float
    parameters: float


UNKNOWN = Cost(float("nan"), float("nan"))
"""A gap in the graph, for a name that a commit does not have."""


def setup_cache() -> dict[str, Cost]:
    """Returns the costs of the architectures that the commit under test has, in one process."""
    return {name: cost_of(name) for name in list_models()}


setup_cache.timeout = 1800


def track_flops(costs: dict[str, Cost], model: str) -> float:
    """Returns 2 x multiply-adds of one image's forward pass, in billions."""
    return costs.get(model, UNKNOWN).gflops


track_flops.unit = "GFLOPs"


def track_parameters(costs: dict[str, Cost], model: str) -> float:
    """Returns the number of learned scalars, without running statistics."""
    return costs.get(model, UNKNOWN).parameters


track_parameters.unit = "parameters"


def cost_of(name: str) -> Cost:
    """Returns the cost of an architecture."""
    import functools

    import jax

    from scenax.common.flops import count_flops
    from scenax.common.tree import parameter_count

    model = create_model(name)
    channels, *size = model.default_cfg["input_size"]
    images = jax.ShapeDtypeStruct((1, *size, channels), "float32")
    key = jax.eval_shape(jax.random.key, 0)
    variables = jax.eval_shape(functools.partial(model.init, train=False), key, images)
    flops = count_flops(model.apply, variables, images, train=False)
    return Cost(flops / 1e9, parameter_count(variables["params"]))
