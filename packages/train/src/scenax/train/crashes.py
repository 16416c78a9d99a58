"""What there is to know about a run that ended with an error, in a file of its folder."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from scenax.common import config as config_lib
from scenax.train.interrupts import TrainingInterrupted

_DISTRIBUTIONS = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "scenax-common",
    "scenax-data",
    "scenax-models",
    "scenax-train",
)


@contextlib.contextmanager
def crash_report(
    directory: pathlib.Path, *, config: Any, step: Callable[[], int | None]
) -> Iterator[None]:
    """Writes ``crash_TIME_PROCESS.txt`` if the ``with`` block raises, and raises the same.

    The file has the error and its traceback, step, configuration, command, versions, devices, and
    of the environment ``XLA_FLAGS`` and ``JAX_*`` alone, since there may be secrets in the rest. A
    line on the standard error says where it lies, or why it could not be written. What was asked
    for is no crash: ``KeyboardInterrupt``, ``SystemExit`` and ``TrainingInterrupted``.

    Args:
      directory: the run's folder.
      config: its configuration, a dataclass or a mapping.
      step: returns how many updates were made, None if that is not known.
    """
    try:
        yield
    except TrainingInterrupted:
        raise
    except Exception as error:
        _report(directory, error, config, step)
        raise


def _report(
    directory: pathlib.Path, error: Exception, config: Any, step: Callable[[], int | None]
) -> None:
    sections = {
        "Error": lambda: "".join(traceback.format_exception(error)),
        "Step": lambda: str(step()),
        "Command": lambda: shlex.join(sys.orig_argv),
        "Config": lambda: _json(config),
        "Versions": _versions,
        "Devices": _devices,
        "Environment": _environment,
    }
    now = datetime.datetime.now(datetime.UTC)
    try:
        path = directory / f"crash_{now:%Y-%m-%dT%H-%M-%S.%fZ}_{jax.process_index()}.txt"
        text = "\n".join(f"{name}\n{_attempt(of)}\n" for name, of in sections.items())
        path.write_text(text)
    except Exception as problem:
        sys.stderr.write(f"No crash report could be written to {directory}: {problem}\n")
    else:
        sys.stderr.write(f"Crash report: {path}\n")


def _attempt(section: Callable[[], str]) -> str:
    """The text of a section, or why there is none: what broke the run may break it as well."""
    try:
        return section().rstrip()
    except Exception as problem:
        return f"not known, {type(problem).__name__}: {problem}"


def _json(config: Any) -> str:
    plain = config if isinstance(config, Mapping) else config_lib.to_dict(config)
    return json.dumps(plain, indent=2, default=repr)


def _versions() -> str:
    lines = [f"python {platform.python_version()} on {platform.platform()}"]
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            lines.append(f"{name} {importlib.metadata.version(name)}")
    return "\n".join(lines)


def _devices() -> str:
    process = f"process {jax.process_index()} of {jax.process_count()}"
    return "\n".join([process, *(f"{d}: {d.device_kind}" for d in jax.local_devices())])


def _environment() -> str:
    names = (name for name in sorted(os.environ) if name == "XLA_FLAGS" or name.startswith("JAX_"))
    return "\n".join(f"{name}={os.environ[name]}" for name in names)
