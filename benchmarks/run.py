"""Measures commits, or the working tree, with asv: what ``nox -s bench`` runs.

Of the working tree figures are printed and not saved. Commits are installed one by one, each with
its own lock, and what is measured is written to ``results/``, a file for each machine and commit.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator, Sequence

from benchmarks import measuring

FOLDER = pathlib.Path(__file__).parent
RESULTS = FOLDER / "results"
VERSIONS = ("jax", "jaxlib", "flax", "optax", "numpy")
QUICK = "cost|architectures|imports"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs asv; returns its exit status."""
    parser = argparse.ArgumentParser(prog="nox -s bench --", description=__doc__)
    parser.add_argument("commits", nargs="?", help="as for git log: v0.1.0..main, HEAD^!")
    scope = parser.add_mutually_exclusive_group()
    scope.add_argument("--quick", action="store_true", help="counts and inference, in 3 minutes")
    scope.add_argument(
        "--all", action="store_true", help="every architecture, and not one a family"
    )
    parser.add_argument("--device", choices=measuring.CONDITIONS, default="cpu")
    parser.add_argument("--machine", help="the name that results are kept under; the device's")
    parser.add_argument("--bench", help="a regular expression of the benchmarks to run")
    options = parser.parse_args(arguments)
    scoped = "quick" if options.quick else "all" if options.all else "representatives"
    bench = options.bench or (QUICK if options.quick else None)
    os.environ |= environment(options.device, scoped)
    start = time.monotonic()
    if options.commits:
        status = measure_commits(options.commits, options.machine or options.device, bench)
    else:
        status = measure_working_tree(bench)
    sys.stderr.write(f"{(time.monotonic() - start) / 60:.1f} minutes\n")
    return status


def environment(device: str, scope: str) -> dict[str, str]:
    """Returns what benchmarks read of how they are run."""
    # Where the device is not there, jax takes no other one if it is named.
    platforms = {"gpu": "cuda"}.get(device, device)
    return {
        "SCENAX_BENCH_DEVICE": device,
        "SCENAX_BENCH_SCOPE": scope,
        "JAX_PLATFORMS": platforms,
    }


def measure_working_tree(bench: str | None) -> int:
    """Measures the packages of this Python; returns asv's exit status."""
    with tempfile.TemporaryDirectory() as home:
        command = _Asv("working_tree.json", "working-tree", home)
        command.run("machine", "--yes")
        return command.run("run", "--quick", "--show-stderr", *_only(bench))


def measure_commits(commits: str, machine: str, bench: str | None) -> int:
    """Measures commits that have no results yet; returns asv's exit status."""
    before = _written(machine)
    with tempfile.TemporaryDirectory() as home:
        command = _Asv("asv.conf.json", machine, home)
        fields = [f"--{name}={value}" for name, value in machine_fields(machine).items()]
        command.run("machine", "--yes", *fields)
        skip = [] if bench else ["--skip-existing-commits"]
        status = command.run("run", "--quick", "--show-stderr", *skip, *_only(bench), commits)
    for path in _written(machine) - before:
        describe(path)
    return status


def machine_fields(machine: str) -> dict[str, str]:
    """Returns what a machine is: as it was first described, since its fields tell series apart."""
    described = RESULTS / machine / "machine.json"
    if described.exists():
        fields = json.loads(described.read_text())
        return {name: fields[name] for name in ("os", "arch", "cpu", "num_cpu", "ram")}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "os": platform.system(),
        "arch": platform.machine(),
        "cpu": measuring.processor(),
        "num_cpu": str(os.cpu_count()),
        "ram": f"{memory:.0f}GB",
    }


def describe(path: pathlib.Path) -> None:
    """Adds to a file of results what it was measured with."""
    results = json.loads(path.read_text())
    lock = _git("show", f"{results['commit_hash']}:uv.lock")
    packages = {each["name"]: each["version"] for each in tomllib.loads(lock)["package"]}
    conditions = measuring.CONDITIONS[measuring.asked_device()]
    results["versions"] = {name: packages[name] for name in VERSIONS if name in packages}
    results["conditions"] = {
        "device": measuring.asked_device(),
        "batch": conditions.batch,
        "precision": conditions.dtype,
        "processor": measuring.processor(),
    }
    path.write_text(json.dumps(results))


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(FOLDER), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _written(machine: str) -> set[pathlib.Path]:
    """The files of results that have no description yet."""
    paths = set((RESULTS / machine).glob("*-*.json"))
    return {path for path in paths if '"versions"' in path.read_text()} ^ paths


def _only(bench: str | None) -> list[str]:
    return [f"--bench={bench}"] if bench else []


class _Asv:
    """asv, with a home of its own: it would describe the machine in the user's."""

    def __init__(self, config: str, machine: str, home: str) -> None:
        self._options = [f"--config={FOLDER / config}", f"--machine={machine}"]
        self._home = home

    def run(self, command: str, *arguments: str) -> int:
        """Runs one of asv's commands; returns its exit status."""
        cache = subprocess.run(["uv", "cache", "dir"], check=True, capture_output=True, text=True)
        progress = pathlib.Path(self._home) / "progress"
        environment = {
            "HOME": self._home,
            "UV_CACHE_DIR": cache.stdout.strip(),
            "SCENAX_BENCH_PROGRESS": str(progress),
        }
        with _told(progress):
            return subprocess.run(
                [sys.executable, "-m", "asv", command, *self._options, *arguments],
                check=False,
                env=os.environ | environment,
            ).returncode


@contextlib.contextmanager
def _told(progress: pathlib.Path) -> Iterator[None]:
    """Shows what benchmarks say of their progress, which asv keeps to itself, while they run."""
    progress.touch()
    over = threading.Event()

    def show() -> None:
        with progress.open(encoding="utf-8") as lines:
            while not over.is_set():
                for line in lines:
                    sys.stderr.write(f"  {line}")
                over.wait(0.5)

    thread = threading.Thread(target=show)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
