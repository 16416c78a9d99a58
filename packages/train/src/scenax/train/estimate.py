"""What a training step needs of every device, before there are any: memory, FLOPs, communication.

The step is compiled for as many simulated devices and not run. What is counted is then of that
program: XLA's own account of its buffers, and the collectives in its text. Another backend fuses
otherwise, so activations are an estimate, mostly from above; arguments are exact.
"""

import dataclasses
import math
import re
import time
from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from scenax.common.contracts import Batch, PyTree
from scenax.train.state import TrainState

_COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_COLLECTIVE = re.compile(rf"= (?P<result>.*?) (?P<kind>{'|'.join(_COLLECTIVES)})(?:-start)?\(")
_CALLED = re.compile(r"(?:body|calls|to_apply|\w+_computations?)=(\{[^}]*\}|%[\w.-]+)")
_NAME = re.compile(r"%([\w.-]+)")
_ARRAY = re.compile(r"\b(?:pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Of one device and one step, in bytes."""

    params: int
    optimizer: int
    other_state: int
    """Moving averages and running statistics, among others."""
    batch: int
    activations: int
    """What the program needs besides, at most at one time: gradients too."""
    communication: Mapping[str, int]
    """What the results of collectives hold, by their kind; in loops, as often as they run."""
    compile_seconds: float

    @property
    def total(self) -> int:
        """All of the memory."""
        return self.params + self.optimizer + self.other_state + self.batch + self.activations


def estimate(step: jax.stages.Wrapped, state: TrainState, batch: Batch, mesh: Mesh) -> Estimate:
    """Returns what a step needs.

    Args:
      step: from ``make_train_step``.
      state: abstract, from ``abstract_state`` with the step's mesh.
      batch: of all hosts together; only shapes and dtypes matter.
      mesh: of the step.
    """
    split = NamedSharding(mesh, PartitionSpec("data"))
    inputs = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=split), dict(batch)
    )
    lowered = step.lower(state, inputs)
    began = time.monotonic()
    compiled = lowered.compile()
    seconds = time.monotonic() - began
    memory, program = compiled.memory_analysis(), compiled.as_text()
    assert memory is not None and program is not None  # Every backend of jaxlib has both.
    params, optimizer = bytes_per_device(state.params), bytes_per_device(state.opt_state)
    return Estimate(
        params=params,
        optimizer=optimizer,
        other_state=bytes_per_device(state) - params - optimizer,
        batch=bytes_per_device(inputs),
        activations=memory.temp_size_in_bytes,
        communication=communication(program),
        compile_seconds=seconds,
    )


def bytes_per_device(arrays: PyTree) -> int:
    """Returns the bytes that each device holds of arrays, which may be abstract."""
    return sum(
        int(np.prod(x.sharding.shard_shape(x.shape))) * x.dtype.itemsize
        for x in jax.tree.leaves(arrays)
    )


def communication(hlo: str) -> dict[str, int]:
    """Returns the bytes of the results of collectives in a compiled program's text, by kind."""
    found: dict[str, int] = dict.fromkeys(_COLLECTIVES, 0)
    bodies = _computations(hlo)
    entry = next((name for name in bodies if name.startswith("ENTRY ")), None)
    for name, times in _runs(bodies, entry).items() if entry else ():
        for line in bodies[name]:
            match = _COLLECTIVE.search(line)
            if match:
                found[match["kind"]] += times * _bytes(match["result"])
    return {kind: size for kind, size in found.items() if size}


def _computations(hlo: str) -> dict[str, list[str]]:
    """The lines of each computation, by its name; the main one's begins with ENTRY."""
    bodies: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in hlo.splitlines():
        if match := re.match(r"(ENTRY )?%?([\w.-]+) \(.*\{$", line):
            lines = bodies.setdefault((match[1] or "") + match[2], [])
        elif line.startswith(" "):
            lines.append(line)
    return bodies


def _runs(bodies: Mapping[str, list[str]], entry: str) -> dict[str, int]:
    """How often each computation that is reached runs; a loop of unknown length counts once."""
    runs: dict[str, int] = {}
    waiting = [(entry, 1)]
    while waiting:
        name, times = waiting.pop()
        runs[name] = runs.get(name, 0) + times
        for line in bodies[name]:
            trips = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
            often = times * (int(trips[1]) if trips and " while(" in line else 1)
            names = {other for found in _CALLED.findall(line) for other in _NAME.findall(found)}
            waiting += [(other, often) for other in names if other in bodies]
    return runs


def _bytes(result: str) -> int:
    """The bytes of a result, an array or several: ``(f32[8,4]{1,0}, bf16[])``."""
    return sum(
        math.prod(int(n) for n in dims.split(",") if n) * max(1, int(bits or 8) // 8)
        for bits, dims in _ARRAY.findall(result)
    )
