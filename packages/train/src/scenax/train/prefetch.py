"""Batches that are on the devices before they are asked for."""

import queue
import threading
import time
from types import TracebackType
from typing import Any

import jax
from jax.sharding import Mesh

from scenax.common.contracts import Batch, BatchIterator, PyTree
from scenax.train import sharding

_AHEAD = 2  # One that is copied while another is computed with.


class DevicePrefetch:
    """Fetches a host's batches in a thread and puts them on the devices, two ahead.

    Use as a context manager. What it saves is the position of the batches that were handed out,
    whatever it has fetched beyond them.
    """

    def __init__(self, batches: BatchIterator, mesh: Mesh) -> None:
        """``batches`` goes on from where it stands, and is the thread's until ``close``."""
        self.input_seconds = 0.0
        """How long the devices had nothing to do because the next batch was not there."""
        self._batches = batches
        self._mesh = mesh
        self._position = batches.get_state()
        self._queue: queue.Queue[tuple[Batch, dict[str, Any]] | BaseException] = queue.Queue(_AHEAD)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)

    def __enter__(self) -> "DevicePrefetch":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops fetching."""
        self._closed.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.01)  # It may be waiting for room.
            except queue.Empty:
                self._thread.join(timeout=0.01)

    def next_after(self, work: PyTree) -> Batch:
        """Returns the next batch; ``work`` is what the devices are busy with until then.

        Raises:
          Exception: whatever fetching raised.
        """
        try:
            item = self._queue.get_nowait()
        except queue.Empty:
            # Waiting counts only from when the devices have finished, and it is no loss to wait for
            # them first: there is nothing else to give them.
            jax.block_until_ready(work)
            began = time.monotonic()
            item = self._queue.get()
            self.input_seconds += time.monotonic() - began
        if isinstance(item, BaseException):
            raise item
        batch, self._position = item
        return batch

    def get_state(self) -> dict[str, Any]:
        """Returns the position after the last batch that was handed out."""
        return self._position

    def _run(self) -> None:
        try:
            while not self._closed.is_set():
                batch = sharding.put_batch(next(self._batches), self._mesh)
                self._put((batch, self._batches.get_state()))
        except BaseException as error:  # The loop's thread is the one to stop.
            self._put(error)

    def _put(self, item: tuple[Batch, dict[str, Any]] | BaseException) -> None:
        while not self._closed.is_set():
            try:
                return self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
