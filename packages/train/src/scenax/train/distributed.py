"""Several hosts: how they find one another, agree, and end together.

Every host runs the same program on its own part of the data; what is computed is the same as on one
host with all of the devices.
"""

import inspect
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils

HEARTBEAT_SECONDS = 30
"""A process that gave no sign of life for so long is taken for dead, and the others stop."""


class DistributedError(Exception):
    """The hosts cannot be brought together."""


def detected(environment: Mapping[str, str] = os.environ) -> bool:
    """Returns whether this process was started as one of several.

    That is by SLURM's ``srun``, by Open MPI's ``mpirun``, on a TPU pod or as a GKE TPU job, or with
    the address of a coordinator in ``JAX_COORDINATOR_ADDRESS``.
    """
    counts = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "JAX_NUM_PROCESSES")
    workers = environment.get("TPU_WORKER_HOSTNAMES", "")
    return (
        any(int(environment.get(name, "1")) > 1 for name in counts)
        or "," in workers
        or "JAX_COORDINATOR_ADDRESS" in environment
    )


def initialize(
    coordinator: str | None = None,
    process_count: int | None = None,
    process_index: int | None = None,
    *,
    heartbeat_seconds: int = HEARTBEAT_SECONDS,
) -> None:
    """Brings the processes of a run together; to be called before anything else is done with jax.

    Without arguments jax finds out where it runs (SLURM, Open MPI, TPU pods, GKE).
    When a process dies or hangs, the others end with an error about ``heartbeat_seconds`` later:
    start all of them again, and the run continues from its last checkpoint.

    Args:
      coordinator: ``HOST:PORT`` of process 0, which all hosts can reach.
      process_count: how many processes there are.
      process_index: which of them this is, from 0.
      heartbeat_seconds: how long a process may give no sign of life.

    Raises:
      DistributedError: if something is missing that cannot be found out, or the others do not come.
    """
    given = (coordinator, process_count, process_index)
    if any(x is not None for x in given) and None in given:
        raise DistributedError(
            "To say who takes part needs all of coordinator=HOST:PORT, process_count and "
            f"process_index, got {coordinator}, {process_count} and {process_index}."
        )
    timeouts: dict[str, Any] = {"heartbeat_timeout_seconds": heartbeat_seconds}
    # Who ends with an error waits so long for the others; older versions of jax do for 5 minutes.
    if "shutdown_timeout_seconds" in inspect.signature(jax.distributed.initialize).parameters:
        timeouts["shutdown_timeout_seconds"] = heartbeat_seconds
    try:
        jax.distributed.initialize(coordinator, process_count, process_index, **timeouts)
    except (ValueError, RuntimeError) as error:
        raise DistributedError(
            f"The processes of the run could not be brought together: {error} Where they are not "
            "found out, say --coordinator=HOST:PORT, --process_count and --process_index."
        ) from error


def agreed(number: int) -> int:
    """Returns the largest of the numbers of all hosts, which wait for one another here."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.process_allgather(jnp.asarray(number)).max())


def lost(error: Exception) -> DistributedError:
    """Returns what to tell of an error that came while several processes worked together."""
    reason = (str(error).strip().splitlines() or ["no message"])[0]
    return DistributedError(
        f"What the processes do together failed, probably since one of them ended: {reason} Start "
        "all of them again; the same command continues the run from its last checkpoint."
    )
