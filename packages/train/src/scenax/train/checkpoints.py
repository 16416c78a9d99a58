"""Checkpoints of state, data position and clock, which say themselves whether they are whole.

Orbax writes a checkpoint into a temporary folder and renames it when it is complete, so one that
was interrupted is never taken for a checkpoint. What happens to the files later is found out by
fingerprints: every array has one, computed on the devices, and is checked when it is restored.
"""

import dataclasses
import json
import logging
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax import lax
from jaxtyping import Array, UInt32

from scenax.common import tree
from scenax.common.contracts import PyTree
from scenax.train.state import TrainState

_logger = logging.getLogger(__name__)


class CheckpointError(Exception):
    """Checkpoints are there, and none of them can be continued from."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on as if it had never stopped."""

    state: TrainState
    position: dict[str, Any]
    """Where the training data stood, from ``BatchIterator.get_state``."""
    seconds: float
    """The clock: time spent in training so far."""


class Checkpoints:
    """The checkpoints of one run, by step, of which the newest few are kept."""

    def __init__(self, directory: pathlib.Path, *, keep: int = 3) -> None:
        """Makes the folder if it is not there.

        Raises:
          OSError: if it cannot be made or written to.
        """
        self.directory = directory.absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=False, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def steps(self) -> list[int]:
        """Returns the steps there are checkpoints of, in order."""
        return sorted(self._manager.all_steps())

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint under its state's step; returns when it is complete on disk."""
        arrays = _storable(checkpoint.state)
        meta = {
            "position": checkpoint.position,
            "seconds": checkpoint.seconds,
            "arrays": _describe(arrays),
            "fingerprints": _fingerprints(arrays),
        }
        self._manager.save(
            int(checkpoint.state.step),
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(arrays),
                meta=ocp.args.JsonSave({"content": meta, "checksum": _checksum(meta)}),
            ),
        )

    def restore_latest(self, like: TrainState) -> Checkpoint | None:
        """Returns the newest whole checkpoint, or None if there are none at all.

        A damaged one is reported, set aside as ``<step>.damaged``, and passed over for the one
        before it.

        Args:
          like: a state whose shapes, dtypes and shardings the restored one has.

        Raises:
          CheckpointError: if every checkpoint is damaged, or one is whole but holds other arrays.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                meta = self._restore_meta(step)
                _check_same_arrays(step, meta["arrays"], _describe(_storable(like)))
                arrays = self._restore_arrays(step, like, meta["fingerprints"])
            except CheckpointError:
                raise
            # Damage shows as any error of any layer below, from JSON to the storage driver.
            except Exception as error:
                self._set_aside(step, error)
                continue
            state = TrainState(**{**arrays, "rng": jax.random.wrap_key_data(arrays["rng"])})
            return Checkpoint(state, meta["position"], meta["seconds"])
        if steps:
            raise CheckpointError(
                f"All {len(steps)} checkpoints in {self.directory} are damaged; they were set "
                "aside there. Choose another working directory to start afresh."
            )
        return None

    def _restore_meta(self, step: int) -> dict[str, Any]:
        stored = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
        meta = stored["meta"]
        if _checksum(meta["content"]) != meta["checksum"]:
            raise ValueError("its metadata do not match their checksum")
        return meta["content"]

    def _restore_arrays(
        self, step: int, like: TrainState, fingerprints: Mapping[str, int]
    ) -> dict[str, PyTree]:
        target = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), _storable(like)
        )
        args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
        arrays = self._manager.restore(step, args=args)["state"]
        found = _fingerprints(arrays)
        wrong = [path for path, value in fingerprints.items() if found[path] != value]
        if wrong:
            raise ValueError(f"{len(wrong)} arrays are not what was saved, {wrong[0]} among them")
        return arrays

    def _set_aside(self, step: int, error: Exception) -> None:
        damaged = self.directory / str(step)
        aside = self.directory / f"{step}.damaged"
        number = 1
        while aside.exists():
            number += 1
            aside = self.directory / f"{step}.damaged{number}"
        reason = str(error).strip().splitlines()
        _logger.warning(
            "The checkpoint of step %d is damaged (%s: %s). It was moved to %s, and the one before "
            "it is taken.",
            step,
            type(error).__name__,
            reason[0] if reason else "no message",
            aside,
        )
        damaged.rename(aside)
        self._manager.reload()

    def close(self) -> None:
        """Waits for what is under way and lets the folder go."""
        self._manager.close()


def _storable(state: TrainState) -> dict[str, PyTree]:
    """The state's fields, its key as plain numbers."""
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return {**fields, "rng": jax.random.key_data(state.rng)}


def _describe(arrays: PyTree) -> dict[str, str]:
    leaves = tree.flatten_with_paths(arrays)
    return {path: f"{x.dtype}[{','.join(map(str, x.shape))}]" for path, x in leaves.items()}


def _check_same_arrays(step: int, stored: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    problems = [
        f"{path}: {stored.get(path, 'absent')} there, {wanted.get(path, 'absent')} here"
        for path in sorted(stored.keys() | wanted.keys())
        if stored.get(path) != wanted.get(path)
    ]
    if problems:
        more = f", and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise CheckpointError(
            f"The checkpoint of step {step} is of another model or optimizer: "
            + "; ".join(problems[:5])
            + more
            + ". Choose another working directory, or the config that it was trained with."
        )


def _checksum(meta: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(meta, sort_keys=True).encode())


def _fingerprints(arrays: PyTree) -> dict[str, int]:
    found = jax.device_get(_fingerprint_tree(arrays))
    return {path: int(value) for path, value in tree.flatten_with_paths(found).items()}


@jax.jit
def _fingerprint_tree(arrays: PyTree) -> PyTree:
    return jax.tree.map(fingerprint, arrays)


def fingerprint(x: Array) -> UInt32[Array, ""]:
    """Returns a number that changes with any one element, and when two elements change places.

    The sum of the elements' bits, each times an odd number of its position, modulo 2**32. Sums of
    integers do not depend on their order, so the number is the same however the array is sharded.
    """
    if x.dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    bits = lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * min(x.dtype.itemsize, 4)}"))
    bits = bits.astype(jnp.uint32)
    weight = jnp.ones(bits.shape, jnp.uint32)
    stride = 2
    for axis in reversed(range(bits.ndim)):
        weight += lax.broadcasted_iota(jnp.uint32, bits.shape, axis) * jnp.uint32(stride % 2**32)
        stride *= bits.shape[axis]
    return jnp.sum(bits * weight, dtype=jnp.uint32)
