"""Checkpoints of state, data position and clock, which say themselves whether they are whole.

Orbax writes a checkpoint into a temporary folder and renames it when it is complete, so one that
was interrupted is never taken for a checkpoint. It writes in the background, all hosts together,
while training goes on. What happens to the files later is found out by fingerprints: every array
has one, computed on the devices, and is checked when it is restored, on whatever devices.
"""

import contextlib
import dataclasses
import functools
import json
import logging
import os
import pathlib
import re
import shutil
import sys
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, UInt32

from scenax.common import tree
from scenax.common.contracts import PyTree
from scenax.train import distributed, sharding
from scenax.train.selection import Best
from scenax.train.state import TrainState

_logger = logging.getLogger(__name__)


class CheckpointError(Exception):
    """Checkpoints that cannot be written, or are there and cannot be continued from."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on as if it had never stopped."""

    state: TrainState
    position: dict[str, Any]
    """Where the training data stood, from ``BatchIterator.get_state``."""
    seconds: float
    """The clock: time spent in training so far."""
    best: Best | None = None
    """The best evaluation so far, where a run selects."""
    evaluated: bool = True
    """Whether the evaluations that are due at its step are done."""


class Checkpoints:
    """The checkpoints of one run, by step, of which the newest few are kept."""

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        keep: int = 3,
        tolerated_failures: int = 0,
        read_only: bool = False,
    ) -> None:
        """Makes the folder if it is not there.

        Args:
          directory: the folder.
          keep: how many checkpoints stay when there are newer ones.
          tolerated_failures: how many in a row may fail to be written (as on a full disk) with a
            warning, before one is an error. Those that are there stay in any case.
          read_only: for looking at the checkpoints of a run that may be under way: changes nothing.

        Raises:
          OSError: if it cannot be made or written to.
        """
        self.directory = directory.absolute()
        if not read_only:
            self.directory.mkdir(parents=True, exist_ok=True)
            _say_errors_once()
        self._read_only = read_only
        self._options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            enable_async_checkpointing=True,
            cleanup_tmp_directories=not read_only,
            create=not read_only,
        )
        self._tolerated = tolerated_failures
        self._failures = 0
        self._writing: int | None = None
        self._manager = ocp.CheckpointManager(self.directory, options=self._options)

    def steps(self) -> list[int]:
        """Returns the steps there are complete checkpoints of, in order."""
        return sorted(step for step in self._manager.all_steps() if step != self._writing)

    def save(self, checkpoint: Checkpoint) -> None:
        """Begins to write a checkpoint under its state's step, when the one before it is complete.

        The state may be changed or used up as soon as this returns; ``wait`` returns when the
        checkpoint is complete on disk.

        Raises:
          CheckpointError: if too many could not be written.
        """
        self.wait()
        if self._failures:
            self._remove_unfinished()
        arrays = _storable(checkpoint.state)
        meta = {
            "position": checkpoint.position,
            "seconds": checkpoint.seconds,
            "best": checkpoint.best and dataclasses.asdict(checkpoint.best),
            "evaluated": checkpoint.evaluated,
            "arrays": _describe(arrays),
            "fingerprints": _fingerprints(arrays),
        }
        self._writing = step = int(checkpoint.state.step)
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(arrays),
                    meta=ocp.args.JsonSave({"content": meta, "checksum": _checksum(meta)}),
                ),
            )
        except Exception as error:
            self._failed(error)

    def wait(self) -> None:
        """Returns when what ``save`` began is complete on disk.

        Raises:
          CheckpointError: if too many could not be written.
        """
        if self._writing is None:
            return
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._failed(error)
        else:
            self._writing, self._failures = None, 0

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Completes what was begun when the ``with`` block ends, whatever ended it."""
        try:
            yield
        finally:
            self.wait()

    def ensure(self, step: int) -> None:
        """Returns when the checkpoint of this step, the last one that was begun, is complete.

        Raises:
          CheckpointError: if it could not be written.
        """
        self.wait()
        if step not in self.steps():
            raise CheckpointError(
                f"The run ends without a checkpoint of step {step}, which could not be written to "
                f"{self.directory}. Make room there; the same command then continues the run."
            )

    def _failed(self, error: Exception) -> None:
        """Reports a checkpoint that could not be written, and makes ready for the next."""
        step, self._writing = self._writing, None
        self._failures += 1
        self._remove_unfinished()
        options = dataclasses.replace(self._options, cleanup_tmp_directories=False)
        self._manager = ocp.CheckpointManager(self.directory, options=options)
        steps = self.steps()
        message = (
            f"The checkpoint of step {step} could not be written to {self.directory} "
            f"({_reason(error)}). "
            + (f"The last complete one is of step {steps[-1]}." if steps else "There is none yet.")
        )
        if self._failures > self._tolerated:
            raise CheckpointError(
                f"{message} Make room there; the same command then continues the run."
            ) from error
        _logger.warning("%s Training goes on.", message)

    def _remove_unfinished(self) -> None:
        """Makes room; what threads still write of a checkpoint that failed, goes the next time."""
        if jax.process_index() == 0:
            for path in self.directory.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(path, ignore_errors=True)

    def restore_latest(self, like: TrainState) -> Checkpoint | None:
        """Returns the newest whole checkpoint, or None if there are none at all.

        A damaged one is reported and passed over for the one before it; unless this is for reading
        only, it is set aside as ``<step>.damaged``.

        Args:
          like: a state, or an abstract one, whose shapes, dtypes and shardings the restored one
            has. It may have been written on other devices and by another number of hosts.

        Raises:
          CheckpointError: if every checkpoint is damaged, or one is whole but holds other arrays.
        """
        self.wait()
        steps = self.steps()
        for step in reversed(steps):
            error = checkpoint = None
            try:
                checkpoint = self._restore(step, like)
            except CheckpointError:
                raise
            # Damage shows as any error of any layer below, from JSON to the storage driver.
            except Exception as found:
                error = found
            if not distributed.agreed(int(checkpoint is None)):
                return checkpoint
            if self._read_only and self._has_newer_than(steps[-1]):
                return self.restore_latest(like)  # It was removed for a newer one meanwhile.
            self._set_aside(step, error or OSError("another host could not read it"))
        if steps:
            aside = "" if self._read_only else "; they were set aside there"
            raise CheckpointError(
                f"All {len(steps)} checkpoints in {self.directory} are damaged{aside}. Choose "
                "another working directory to start afresh."
            )
        return None

    def _restore(self, step: int, like: TrainState) -> Checkpoint:
        meta = self._restore_meta(step)
        _check_same_arrays(step, meta["arrays"], _describe(_storable_shapes(like)))
        arrays = self._restore_arrays(step, like, meta["fingerprints"])
        state = TrainState(**{**arrays, "rng": jax.random.wrap_key_data(arrays["rng"])})
        best = meta["best"] and Best(**meta["best"])
        return Checkpoint(state, meta["position"], meta["seconds"], best, meta["evaluated"])

    def _restore_meta(self, step: int) -> dict[str, Any]:
        stored = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
        meta = stored["meta"]
        if _checksum(meta["content"]) != meta["checksum"]:
            raise ValueError("its metadata do not match their checksum")
        return meta["content"]

    def _restore_arrays(
        self, step: int, like: TrainState, fingerprints: Mapping[str, int]
    ) -> dict[str, PyTree]:
        args = ocp.args.Composite(state=ocp.args.StandardRestore(_storable_shapes(like)))
        arrays = self._manager.restore(step, args=args)["state"]
        found = _fingerprints(arrays)
        wrong = [path for path, value in fingerprints.items() if found[path] != value]
        if wrong:
            raise ValueError(f"{len(wrong)} arrays are not what was saved, {wrong[0]} among them")
        return arrays

    def _has_newer_than(self, step: int) -> bool:
        self._manager.reload()
        return any(other > step for other in self.steps())

    def _set_aside(self, step: int, error: Exception) -> None:
        damaged = self.directory / str(step)
        aside = self.directory / f"{step}.damaged"
        number = 1
        while aside.exists():
            number += 1
            aside = self.directory / f"{step}.damaged{number}"
        if self._read_only:
            _logger.warning("The checkpoint of step %d is damaged (%s).", step, _reason(error))
            return
        _logger.warning(
            "The checkpoint of step %d is damaged (%s). It was moved to %s, and the one before it "
            "is taken.",
            step,
            _reason(error),
            aside,
        )
        if jax.process_index() == 0:
            damaged.rename(aside)
        distributed.agreed(0)  # Nobody looks before it is moved.
        self._manager.reload()

    def close(self) -> None:
        """Waits for what is under way and lets the folder go.

        Raises:
          CheckpointError: if too many could not be written.
        """
        self.wait()
        self._manager.close()


def _reason(error: Exception) -> str:
    """One line on an error; what the storage driver adds to the system's own words is left out."""
    text = str(error).strip().partition("\n")[0]
    if code := re.search(r"os_error_code='(\d+)'", text):
        return os.strerror(int(code[1]))
    text = re.sub(r" (\[tensorstore_spec|See full TensorStore details).*", "", text)
    return f"{type(error).__name__}: {text or 'no message'}"


@functools.cache
def _say_errors_once() -> None:
    """Leaves it to ``wait`` to say why a checkpoint could not be written.

    Before it is raised there, each thread of Orbax that meets the error logs a traceback of it; and
    what else was being written prints or logs one when it finds that nobody waits for it any more.
    Nor is it worth a warning that ``wait`` waited.
    """

    def is_news(record: logging.LogRecord) -> bool:
        theirs = f"{os.sep}orbax{os.sep}" in record.pathname
        told = record.exc_info or "Waiting for previous save" in str(record.msg)
        return not (theirs and told)

    def is_awaited(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        return not ("exception was never retrieved" in text and ".orbax-checkpoint-tmp" in text)

    logging.getLogger("absl").addFilter(is_news)
    logging.getLogger("asyncio").addFilter(is_awaited)
    show = sys.unraisablehook

    def show_news(error: Any) -> None:
        if str(error.exc_value) != "Event loop is closed":
            show(error)

    sys.unraisablehook = show_news


def _storable(state: TrainState) -> dict[str, PyTree]:
    """The state's fields, its key as plain numbers."""
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return {**fields, "rng": jax.random.key_data(state.rng)}


def _storable_shapes(state: TrainState) -> dict[str, PyTree]:
    """The same of a state that may be abstract: shapes, dtypes and shardings."""
    shapes = jax.eval_shape(_storable, state)
    return jax.tree.map(
        lambda x, own: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=own.sharding),
        shapes,
        {field.name: getattr(state, field.name) for field in dataclasses.fields(state)},
    )


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
    mesh = jax.tree.leaves(arrays)[0].sharding.mesh
    found = jax.device_get(_fingerprint_tree(mesh)(arrays))
    return {path: int(value) for path, value in tree.flatten_with_paths(found).items()}


@functools.cache
def _fingerprint_tree(mesh: Mesh) -> jax.stages.Wrapped:
    """The fingerprints of all arrays on a mesh, known to every host."""
    return jax.jit(
        lambda arrays: jax.tree.map(fingerprint, arrays), out_shardings=sharding.replicated(mesh)
    )


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
