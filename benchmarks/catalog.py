"""The architectures of this tree, read from their sources: no jax, and no installed package.

Figures are of the packages of the commit under test, but the list of names is that of the tree that
the benchmarks are in: asv calls for parameters by their position, and an older commit's shorter
list would file figures under wrong names.
"""

import fnmatch
import functools
import os
import pathlib
import runpy
from typing import Any

_SOURCE = pathlib.Path(__file__).parents[1] / "packages/models/src/scenax/models/_catalog.py"


@functools.cache
def _catalog() -> dict[str, Any]:
    return runpy.run_path(str(_SOURCE))


def all_names() -> list[str]:
    """Returns every name."""
    return list(_catalog()["families"]())


def representatives() -> list[str]:
    """Returns the name that stands for each family."""
    return [name for name, _ in small_copies()]


def small_copies() -> list[tuple[str, dict[str, Any]]]:
    """Returns the name that stands for each family, and the options that make a small copy."""
    return list(_catalog()["representatives"]().values())


def small_copy(name: str) -> dict[str, Any]:
    """Returns the options with which an architecture is trained on digits: those of its family."""
    family = _catalog()["families"]()[name].rpartition(".")[2]
    return _catalog()["representatives"]()[family][1]


def scope() -> str:
    """Returns what is measured: ``"representatives"``, ``"all"``, ``"quick"`` or ``"compare"``."""
    return os.environ.get("SCENAX_BENCH_SCOPE", "representatives")


def counted_names() -> list[str]:
    """Returns what is counted: all, but for a quick look."""
    return representatives() if scope() == "quick" else all_names()


def timed_names() -> list[str]:
    """Returns what is trained and timed: of these, what the wildcards that were asked for match."""
    names = all_names() if scope() == "all" else representatives()
    return fnmatch.filter(names, os.environ.get("SCENAX_BENCH_MODELS", "*"))


def parts() -> list[str]:
    """Returns what of an architecture is measured; a comparison measures speed by itself."""
    only = {"quick": ["inference"], "compare": ["learning"]}
    return only.get(scope(), ["learning", "inference", "training"])
