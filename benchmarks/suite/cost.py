"""FLOPs, parameters and activations of every architecture: counted, so the same on any machine.

A model is taken as ``create_model(name)`` makes it, and counted for the forward pass of one image
of the size in its ``default_cfg``, which is the published one; no size is published for
``fully_connected``, whose default is 32x32x3. GFLOPs are 2 x multiply-adds, so twice what most
papers print; activations are what convolutions and matrix products put out. Everything is abstract:
nothing is compiled, allocated, or put on a device.

Checked against timm 1.0.31: parameters exactly, and the multiply-adds and activations of its
benchmark tables to 1 % or their last digit.
"""

from benchmarks import catalog, measuring

params = catalog.counted_names()
param_names = ["model"]
version = "1"  # A new one would drop a figure's history.


def setup_cache() -> measuring.Figures:
    """Returns the costs of the architectures that the commit under test has."""
    return measuring.costs(params)


setup_cache.timeout = 3600


def track_flops(costs: measuring.Figures, model: str) -> float:
    """Returns 2 x multiply-adds of one image's forward pass, in billions."""
    return measuring.figure(costs, model, "flops")


track_flops.unit = "GFLOPs"


def track_parameters(costs: measuring.Figures, model: str) -> float:
    """Returns the number of learned scalars, without running statistics."""
    return measuring.figure(costs, model, "parameters")


track_parameters.unit = "parameters"


def track_activations(costs: measuring.Figures, model: str) -> float:
    """Returns the elements that convolutions and matrix products put out, in millions."""
    return measuring.figure(costs, model, "activations")


track_activations.unit = "million elements"
