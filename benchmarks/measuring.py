"""Figures of many architectures, each measured once for each program that it ever was.

What is measured is kept under a hash of what decides it: counts under the sources of the family,
errors and speeds under the lowered programs, data and versions, which are looked up by the sources
that they come from. A change that leaves a program as it was, as of a comment or another family,
measures nothing anew. Importing this loads no jax: asv forks its processes from one that has
imported the benchmarks.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import platform
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from benchmarks import catalog

ROOT = pathlib.Path(__file__).parents[1]
KEPT = pathlib.Path(__file__).parent / "env" / "measured"
WORKERS = 2
PARTS = ("learning", "inference", "training")
BUDGET = 2.0
"""Seconds that a program is run for, beyond its first three runs."""


@dataclasses.dataclass(frozen=True)
class Conditions:
    """What a speed is of."""

    batch: int
    dtype: str


CONDITIONS: Mapping[str, Conditions] = {
    "cpu": Conditions(4, "float32"),
    "gpu": Conditions(128, "bfloat16"),
    "tpu": Conditions(128, "bfloat16"),
}


def asked_device() -> str:
    """Returns the device that was asked for."""
    return os.environ.get("SCENAX_BENCH_DEVICE", "cpu")


def processor() -> str:
    """Returns the name of the CPU: its programs, and how fast they are, depend on it."""
    described = pathlib.Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


class MeasurementError(Exception):
    """An architecture that could not be measured, or a process that measures and ended."""


class Worker:
    """A process that measures on the device that was asked for, one request at a time."""

    def __init__(self, python: str = sys.executable) -> None:
        """Starts it; it loads jax while others go on."""
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.worker"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, request: str, *arguments: Any) -> Any:
        """Returns the answer to a request of ``benchmarks.worker``.

        Raises:
          MeasurementError: with what went wrong there.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(json.dumps([request, *arguments]) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise MeasurementError(
                f"The process that measures ended with status {self._process.wait()} when it was "
                f"asked for {request} of {arguments}. Standard error says why."
            )
        answer = json.loads(line)
        if "error" in answer:
            raise MeasurementError(answer["error"])
        return answer["result"]

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._process.communicate()

    def end(self) -> None:
        """Ends it, whatever it does."""
        self._process.kill()
        self._process.wait()


def kept(kind: str, key: str, measure: Callable[[], Any]) -> Any:
    """Returns what was measured under a key, and measures it where nothing was."""
    path = KEPT / kind / f"{key}.json"
    if path.exists():
        return json.loads(path.read_text())
    value = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    partial.write_text(json.dumps(value))
    partial.replace(path)
    return value


def program_key(worker: Worker, name: str, request: str, *arguments: Any) -> str:
    """Returns the hash of a program; nothing is lowered anew whose sources were seen before."""
    told = json.dumps([worker.ask("source_key", name), request, *arguments])
    sources = hashlib.sha256(told.encode()).hexdigest()[:32]
    return kept("programs", sources, lambda: worker.ask(request, name, *arguments))


Figures = dict[str, dict[str, Any]]
"""By architecture, then figure: numbers, or why there are none under ``"failed"``."""


def figure(figures: Figures, *path: str) -> Any:
    """Returns a figure, or not-a-number, a gap in its graph, where there is none.

    Raises:
      MeasurementError: if the architecture could not be measured.
    """
    found: Any = figures
    for step in path:
        if "failed" in found:
            raise MeasurementError(f"{path[0]}: {found['failed']}")
        found = found.get(step)
        if found is None:
            return float("nan")
    return found


def costs(names: Sequence[str]) -> Figures:
    """Returns FLOPs, parameters and activations of those architectures that there are."""

    def measure(worker: Worker, name: str) -> dict[str, Any]:
        key = worker.ask("cost_key", name)
        return kept("cost", key, lambda: worker.ask("cost", name))

    with _Crew() as crew:
        return crew.each("counted", crew.known(names), measure)


def errors_and_speeds(names: Sequence[str], parts: Sequence[str] = PARTS) -> Figures:
    """Returns error, times, memory and time to compile of those architectures that there are.

    Programs are compiled and trained by two processes side by side, and timed one at a time.

    Args:
      names: what to measure.
      parts: which of ``PARTS``.
    """
    with _Crew() as crew:
        known = crew.known(names)
        figures: Figures = {name: {} for name in known}
        if "learning" in parts:
            crew.first("prepare")
            trained = crew.each(
                "trained on digits", known, lambda worker, name: {"error": learning(worker, name)}
            )
            for name in known:
                figures[name]["learning"] = trained[name]
        timed = [part for part in parts if part != "learning"]
        if timed:
            for name, speeds in _speeds(crew, known, timed).items():
                figures[name]["speed"] = speeds
        return figures


def learning(worker: Worker, name: str, *, seed: int = 0) -> float:
    """Returns the error of the small copy of an architecture after a short training.

    Args:
      worker: who trains it.
      name: the architecture.
      seed: of parameters and of the order of the data.
    """
    options = json.dumps(catalog.small_copy(name))
    key = program_key(worker, name, "learning_key", options, seed)
    return kept("learning", key, lambda: worker.ask("learning", name, options, seed))


def _speeds(crew: "_Crew", names: Sequence[str], parts: Sequence[str]) -> Figures:
    conditions = dataclasses.astuple(CONDITIONS[asked_device()])
    owners: dict[str, Worker] = {}
    keys: dict[str, str] = {}

    def compile_new(worker: Worker, name: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for part in parts:
            key = program_key(worker, name, "speed_key", *conditions, part)
            keys[f"{name} {part}"] = key
            if not (KEPT / "speed" / f"{key}.json").exists():
                found[part] = worker.ask("compiling", name, *conditions, part)
        owners[name] = worker
        return found

    compiled = crew.each("compiled", names, compile_new)

    def run(_: Worker, name: str) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        if "failed" in compiled[name]:
            raise MeasurementError(compiled[name]["failed"])
        owner = owners[name]
        for part in parts:
            figures[part] = kept(
                "speed",
                keys[f"{name} {part}"],
                lambda part=part: {
                    **compiled[name][part],
                    "runs": owner.ask("timing", name, *conditions, part, BUDGET),
                },
            )
        owner.ask("forget", name)
        return figures

    return crew.each("timed", names, run, side_by_side=False)


class _Crew:
    """Some workers, who share a list of architectures."""

    def __init__(self) -> None:
        self._workers = [Worker() for _ in range(WORKERS)]

    def __enter__(self) -> "_Crew":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.__exit__()

    def first(self, request: str) -> Any:
        """Returns one worker's answer to a request."""
        return self._workers[0].ask(request)

    def known(self, names: Iterable[str]) -> list[str]:
        """Returns those of the names that this commit has."""
        there = set(self.first("names"))
        return [name for name in names if name in there]

    def each(
        self,
        done: str,
        names: Sequence[str],
        measure: Callable[[Worker, str], dict[str, Any]],
        *,
        side_by_side: bool = True,
    ) -> Figures:
        """Returns what ``measure`` says of each architecture; an error is a figure of its own."""
        waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        for name in names:
            waiting.put(name)
        found: Figures = {}

        def work(worker: Worker) -> None:
            while True:
                try:
                    name = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    found[name] = measure(worker, name)
                except MeasurementError as error:
                    found[name] = {"failed": str(error)}
                say(f"{done}: {len(found)} of {len(names)}, {name}")

        workers = self._workers if side_by_side else self._workers[:1]
        with concurrent.futures.ThreadPoolExecutor(len(workers)) as pool:
            list(pool.map(work, workers))
        return found


def say(line: str) -> None:
    """Reports progress: where somebody looks, if asv keeps what benchmarks print to itself."""
    if path := os.environ.get("SCENAX_BENCH_PROGRESS"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    else:
        sys.stderr.write(f"  {line}\n")


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Shows what is said in other processes, while the ``with`` block runs."""
    over = threading.Event()

    def show(lines: TextIO) -> None:
        while not over.wait(0.5):
            for line in lines:
                sys.stderr.write(f"  {line}")

    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as lines:
        os.environ["SCENAX_BENCH_PROGRESS"] = lines.name
        thread = threading.Thread(target=show, args=(lines,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            del os.environ["SCENAX_BENCH_PROGRESS"]
