"""Where arrays live: one mesh over all devices, parameters on each, batches split among them."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from scenax.common.contracts import Batch


def data_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """Returns a mesh with one axis, ``"data"``, over jax's ``devices`` (all by default)."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array of which every device has a whole copy."""
    return NamedSharding(mesh, PartitionSpec())


def put_batch(batch: Batch, mesh: Mesh) -> Batch:
    """Returns the global batch on the devices, its first axis split over the mesh.

    Every host gives its own part. A part that does not divide among the host's devices is filled
    up with zeros, and so is its ``batch_mask``, so the filling counts for nothing.
    """
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    local_devices = len(mesh.local_devices)

    def put(array: np.ndarray) -> jax.Array:
        missing = -len(array) % local_devices
        filled = np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1)) if missing else array
        return jax.make_array_from_process_local_data(sharding, filled)

    return jax.tree.map(put, dict(batch))
