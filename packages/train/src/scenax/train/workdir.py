"""The folder of one run: it belongs to one configuration, which lies in it."""

import contextlib
import datetime
import errno
import fcntl
import json
import logging
import os
import pathlib
import socket
import tempfile
from collections.abc import Iterator
from typing import Any

import jax

from scenax.common import config as config_lib

CONFIG_NAME = "config.json"
CHECKPOINTS_NAME = "checkpoints"
LOCK_NAME = ".lock"

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}

_logger = logging.getLogger(__name__)


class WorkdirError(Exception):
    """A folder that this run cannot use."""


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
    """Makes the folder if need be, and keeps other runs out of it while the ``with`` block runs.

    The lock is the kernel's (``flock``) and ends with the process, however that ends: what is left
    of the file means nothing. Of several hosts, the first holds it. Where a file system has no
    locks, a warning says so.

    Raises:
      WorkdirError: if another run has the folder, which is named, or it cannot be written to.
    """
    if jax.process_index() != 0:
        yield
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = (workdir / LOCK_NAME).open("a+")
    except OSError as error:
        raise _cannot_write(workdir, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.truncate(0)
            lock.write(json.dumps(_this_run()))
            lock.flush()
        except BlockingIOError:
            lock.seek(0)
            raise WorkdirError(
                f"Another run has {workdir}: {_told(lock.read())}. Wait for its end, or stop it "
                "first, or choose another folder with --workdir."
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise _cannot_write(workdir, error) from error
            _logger.warning(
                "The file system of %s has no locks (%s). See to it yourself that no other run "
                "uses the folder.",
                workdir,
                error.strerror,
            )
        yield


def claim(workdir: pathlib.Path, config: Any, *, accept_changes: bool) -> None:
    """Makes the folder if need be, and sees to it that this run may use it.

    Args:
      workdir: of a new run, or of one to continue.
      config: a ``config.schema`` instance.
      accept_changes: continue a run that has another configuration, under this one.

    Raises:
      WorkdirError: if the folder cannot be written to, or holds another run and ``accept_changes``
        is false.
    """
    path = workdir / CONFIG_NAME
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if path.exists() and not accept_changes:
            _check_same_run(workdir, config)
        elif not path.exists() and (workdir / CHECKPOINTS_NAME).exists():
            raise WorkdirError(
                f"{workdir} holds checkpoints and no {CONFIG_NAME}, so what run they are of is not "
                "known. Choose another folder with --workdir."
            )
        with tempfile.TemporaryFile(dir=workdir):
            pass
    except OSError as error:
        raise _cannot_write(workdir, error) from error


def keep_config(workdir: pathlib.Path, config: Any) -> None:
    """Writes the configuration into a folder that was claimed, when nothing can go wrong any more.

    Until then a run under way keeps the one it has.
    """
    config_lib.save(config, workdir / CONFIG_NAME)


def _check_same_run(workdir: pathlib.Path, config: Any) -> None:
    there = config_lib.load(workdir / CONFIG_NAME)
    with contextlib.suppress(config_lib.ConfigError):  # What it lacks has the default.
        there = config_lib.to_dict(config_lib.resolve(type(config), there, {}))
    changed = config_lib.differences(there, config_lib.to_dict(config))
    if changed:
        raise WorkdirError(
            f"{workdir} holds another run. They differ in\n  "
            + "\n  ".join(changed)
            + "\nChoose another folder with --workdir, or continue that run under this config with "
            "--accept_config_changes."
        )


def _cannot_write(workdir: pathlib.Path, error: OSError) -> WorkdirError:
    return WorkdirError(
        f"Cannot write to {workdir}: {error.strerror}. Choose another folder with --workdir."
    )


def _this_run() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M:%S UTC}",
    }


def _told(text: str) -> str:
    """What a lock's file tells of the run that has it; it may just be about to write it."""
    try:
        run = json.loads(text)
    except json.JSONDecodeError:
        return "one that has just begun"
    return f"process {run['pid']} on {run['host']}, since {run['started']}"
