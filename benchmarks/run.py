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
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from packaging.markers import Marker

from benchmarks import measuring

FOLDER = pathlib.Path(__file__).parent
RESULTS = FOLDER / "results"
VERSIONS = ("jax", "jaxlib", "flax", "optax", "numpy")
PLUGINS = {"gpu": "jax[cuda12]", "tpu": "jax[tpu]"}
"""What is installed beside a commit's own lock, which has jax for CPUs."""
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
    parser.add_argument("--models", default="*", help="wildcards for what is trained and timed")
    parser.add_argument("--bench", help="a regular expression of the benchmarks to run")
    options = parser.parse_args(arguments)
    scoped = "quick" if options.quick else "all" if options.all else "representatives"
    bench = options.bench or (QUICK if options.quick else None)
    os.environ |= environment(options.device, scoped, options.models)
    start = time.monotonic()
    if options.commits:
        status = measure_commits(options.commits, options.machine or options.device, bench)
    else:
        status = measure_working_tree(bench)
    sys.stderr.write(f"{(time.monotonic() - start) / 60:.1f} minutes\n")
    return status


def environment(device: str, scope: str, models: str) -> dict[str, str]:
    """Returns what benchmarks read of how they are run."""
    # Where the device is not there, jax takes no other one if it is named.
    platforms = {"gpu": "cuda"}.get(device, device)
    return {
        "SCENAX_BENCH_PLUGIN": PLUGINS.get(device, ""),
        "SCENAX_BENCH_DEVICE": device,
        "SCENAX_BENCH_SCOPE": scope,
        "SCENAX_BENCH_MODELS": models,
        "JAX_PLATFORMS": platforms,
    }


def measure_working_tree(bench: str | None) -> int:
    """Measures the packages of this Python; returns asv's exit status."""
    with asv("working_tree.json", "working-tree") as command:
        return command("run", "--quick", "--show-stderr", *_only(bench))


def measure_commits(commits: str, machine: str, bench: str | None) -> int:
    """Measures commits that have no results yet; returns asv's exit status.

    Raises:
      SystemExit: if results of that name are of another processor.
    """
    if (known := machine_fields(machine).get("cpu")) not in (None, measuring.processor()):
        raise SystemExit(
            f"Results of {machine!r} are of another processor, {known}, and would not compare with "
            f"those of this one, {measuring.processor()}. Give it a name with --machine=NAME."
        )
    with asv("asv.conf.json", machine) as command:
        # Where a part is asked for, a commit's other figures say nothing of this one.
        part = bench or os.environ["SCENAX_BENCH_MODELS"] != "*"
        skip = [] if part else ["--skip-existing-commits"]
        status = command("run", "--quick", "--show-stderr", *skip, *_only(bench), commits)
    for path in (RESULTS / machine).glob("*-*.json"):
        describe(path)
    return status


def machine_fields(machine: str) -> dict[str, str]:
    """Returns what a machine is: as it was first described, since its fields tell series apart."""
    described = RESULTS / machine / "machine.json"
    if described.exists():
        fields = json.loads(described.read_text())
        known = ("os", "arch", "cpu", "num_cpu", "ram")
        return {name: fields[name] for name in known if name in fields}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "os": platform.system(),
        "arch": platform.machine(),
        "cpu": measuring.processor(),
        "num_cpu": str(os.cpu_count()),
        "ram": f"{memory:.0f}GB",
    }


def describe(path: pathlib.Path) -> None:
    """Adds to a file of results what it was measured with, if it does not say so yet."""
    results = json.loads(path.read_text())
    if "versions" in results:
        return
    lock = _git("show", f"{results['commit_hash']}:uv.lock")
    packages = locked_versions(lock, results["python"])
    conditions = measuring.CONDITIONS[measuring.asked_device()]
    results["versions"] = {name: packages[name] for name in VERSIONS if name in packages}
    results["conditions"] = {
        "device": measuring.asked_device(),
        "batch": conditions.batch,
        "precision": conditions.dtype,
        "processor": measuring.processor(),
    }
    path.write_text(json.dumps(results))


def locked_versions(lock: str, python: str) -> dict[str, str]:
    """Returns the version of each package in the text of uv's lock, for a version of Python."""
    environment = {"python_full_version": f"{python}.0", "python_version": python}

    def is_for(package: dict[str, Any]) -> bool:
        marks = package.get("resolution-markers", [])
        return not marks or any(Marker(mark).evaluate(environment) for mark in marks)

    packages = tomllib.loads(lock)["package"]
    return {package["name"]: package["version"] for package in packages if is_for(package)}


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(FOLDER), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _only(bench: str | None) -> list[str]:
    return [f"--bench={bench}"] if bench else []


@contextlib.contextmanager
def asv(config: str, machine: str) -> Iterator[Callable[..., int]]:
    """Yields a function that runs one of asv's commands and returns its exit status.

    asv gets a home of its own, since it would describe the machine in the user's.
    """
    cache = subprocess.run(["uv", "cache", "dir"], check=True, capture_output=True, text=True)
    options = [f"--config={FOLDER / config}", f"--machine={machine}"]

    def command(name: str, *arguments: str) -> int:
        run = [sys.executable, "-m", "asv", name, *options, *arguments]
        return subprocess.run(run, check=False, env=environment).returncode

    with tempfile.TemporaryDirectory() as home, measuring.told():
        environment = os.environ | {"HOME": home, "UV_CACHE_DIR": cache.stdout.strip()}
        # "asv machine" would leave out what is as it finds it itself.
        described = {machine: {"machine": machine, **machine_fields(machine)}, "version": 1}
        (pathlib.Path(home) / ".asv-machine.json").write_text(json.dumps(described))
        yield command


if __name__ == "__main__":
    sys.exit(main())
