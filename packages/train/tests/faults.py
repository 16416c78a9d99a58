"""Runs of ``hosts.py`` in processes of their own, and what befalls them.

They are forked from a server that has imported what they need, and they share what they compiled,
so that one begins in about a second.
"""

import dataclasses
import logging
import multiprocessing
import os
import pathlib
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from scenax.train import sharding
from scenax.train.checkpoints import Checkpoint, Checkpoints
from scenax.train.state import TrainState

from . import hosts

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(
    ["pytest", "optax", "scenax.train.loop", "scenax.train.writers", "jaxlib.mlir.dialects.mhlo"]
)


class Child:
    """A process; what it says is in a file beside its run's folder."""

    def __init__(self, compiled: pathlib.Path, folder: pathlib.Path, does: Callable[[], Any]):
        self._said = folder.with_suffix(".said")
        self._process = _server.Process(target=_begin, args=(compiled, self._said, does))
        self._process.start()

    @property
    def runs(self) -> bool:
        return self._process.is_alive()

    @property
    def said(self) -> str:
        return self._said.read_text()

    def send(self, number: int) -> None:
        os.kill(self._process.pid, number)

    def end(self, within: float = 120) -> int:
        """Its status, when it has ended by itself."""
        self._process.join(within)
        assert not self.runs, f"It still runs after {within} s."
        return self._process.exitcode

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()


def _begin(compiled: pathlib.Path, said: pathlib.Path, does: Callable[[], Any]) -> None:
    """What a process does: as the command of an app would, on one device."""
    with said.open("w") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    os.environ["XLA_FLAGS"] = "--xla_cpu_use_fusion_emitters=false"
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_compilation_cache_dir", str(compiled))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        does()
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")


@dataclasses.dataclass(frozen=True)
class Mark:
    """Writes into a file where a run is, and takes some time."""

    path: pathlib.Path
    word: str
    seconds: float = 0.0

    def __call__(self, number: int) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(f"{self.word} {number}")
        new.replace(self.path)
        time.sleep(self.seconds)


def read_mark(path: pathlib.Path) -> tuple[str, int]:
    """The word and the number that a run wrote last."""
    if not path.exists():
        return "begin", 0
    word, number = path.read_text().split()
    return word, int(number)


def wait_for_mark(child: Child, path: pathlib.Path, word: str, least: int = 0) -> None:
    """Returns when a run is where it writes this word with a number of at least so many."""
    until = time.monotonic() + 60
    while True:
        found, number = read_mark(path)
        if found == word and number >= least:
            return
        assert child.runs, child.said
        assert time.monotonic() < until
        time.sleep(0.001)


@dataclasses.dataclass(frozen=True)
class At:
    """Does something at each of some steps."""

    what: Mapping[int, Callable[[], Any]]

    def __call__(self, number: int) -> None:
        if number in self.what:
            self.what[number]()


def fill_disk() -> None:
    """Lets no file grow beyond what logs need, once what is being written is complete."""
    _limit_files(2**17)


def make_room() -> None:
    """Lets files grow again, once what is being written has failed."""
    _limit_files(resource.RLIM_INFINITY)


def _limit_files(size: int) -> None:
    while any(thread.name == "save_finalize" for thread in threading.enumerate()):  # Of Orbax.
        time.sleep(0.001)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def save_and_die(folder: pathlib.Path, last: int, returns: str) -> None:
    """Saves ``numbered(1)`` and so on, and dies when the last is reported as saved."""
    checkpoints = Checkpoints(folder)
    for number in range(1, last + 1):
        checkpoints.save(numbered(number))
    {"wait": checkpoints.wait, "ensure": lambda: checkpoints.ensure(last)}[returns]()
    die()


def numbered(step: int) -> Checkpoint:
    """A checkpoint of this step with numbers of its own."""
    numbers = np.random.default_rng(step).normal(size=10**5).astype(np.float32)
    arrays = TrainState(np.int32(step), {"w": numbers}, {}, {}, jax.random.key(step))
    state = jax.device_put(arrays, sharding.replicated(sharding.make_mesh(jax.devices()[:1])))
    return Checkpoint(state, {"next": step}, float(step))


def turn_back_clock() -> None:
    now = time.time
    time.time = lambda: now() - 3600


class BrokenBatches(hosts.Batches):
    """Batches of which one cannot be read."""

    def __init__(self, broken: int) -> None:
        super().__init__()
        self._broken = broken

    def __next__(self):
        if self.next == self._broken:
            raise OSError(f"batch {self.next} cannot be read")
        return super().__next__()
