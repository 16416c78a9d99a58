"""What metrics that are not sums over examples have in common, and how hosts pool them.

An accumulator lives on the host: it keeps what it is given, or sums of it, and computes its
figures once at the end. Checked with two processes on one machine.
"""

import abc
import io
from collections.abc import Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

# Bytes that a host sends at a time, which bounds what the gathering takes of a device's memory.
_CHUNK = 1 << 26


class Accumulator(abc.ABC):
    """A metric to which examples are added and which is computed at the end.

    Every final class has a method ``add`` of its own, which takes numpy arrays, and where these
    are a batch also the batch's ``batch_mask``.
    """

    @abc.abstractmethod
    def compute(self) -> dict[str, float]:
        """Returns the metric's figures by name.

        Raises:
          ValueError: if nothing was added of which they could be computed.
        """

    @abc.abstractmethod
    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns all that was added, as arrays of numbers which ``numpy.savez`` can write."""

    @abc.abstractmethod
    def add_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Adds what ``to_arrays`` of an accumulator with the same settings returned."""

    @abc.abstractmethod
    def clear(self) -> None:
        """Forgets all that was added."""

    def merge(self, other: "Accumulator") -> None:
        """Adds all that was added to another accumulator with the same settings.

        Raises:
          TypeError: if the other one is of another class.
        """
        if type(other) is not type(self):
            raise TypeError(
                f"{type(self).__name__} cannot merge {type(other).__name__}. Merge accumulators "
                "of one class with the same settings."
            )
        self.add_arrays(other.to_arrays())


def merge_across_hosts(accumulator: Accumulator) -> None:
    """Gives every host what all hosts have added, each host's part once and in the hosts' order.

    All hosts have to call it, once before ``compute``: a second call would count everything again
    for each host. With one process nothing changes.
    """
    if jax.process_count() == 1:
        return
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **accumulator.to_arrays())
    parts = _gather(stream.getvalue())
    # The own part is read back as well: the order of addition is then the same on every host, and
    # so are the figures to the last bit.
    accumulator.clear()
    for part in parts:
        with np.load(io.BytesIO(part), allow_pickle=False) as arrays:
            accumulator.add_arrays(dict(arrays))


def _gather(data: bytes) -> list[bytes]:
    """Returns every host's bytes, in the order of the hosts."""
    # As two numbers, since one int32 ends at 2 GiB.
    own = np.asarray(divmod(len(data), _CHUNK), np.int32)
    sizes = multihost_utils.process_allgather(own)
    lengths = [int(chunks) * _CHUNK + int(rest) for chunks, rest in np.asarray(sizes)]
    parts = [bytearray() for _ in lengths]
    for start in range(0, max(lengths), _CHUNK):
        width = min(_CHUNK, max(lengths) - start)
        chunk = np.frombuffer(data[start : start + width], np.uint8)
        padded = np.pad(chunk, (0, width - chunk.size))
        gathered = np.asarray(multihost_utils.process_allgather(padded))
        for part, row, length in zip(parts, gathered, lengths, strict=True):
            part += row[: max(0, length - start)].tobytes()
    return [bytes(part) for part in parts]
