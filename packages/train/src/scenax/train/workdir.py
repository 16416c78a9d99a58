"""The folder of one run: it belongs to one configuration, which lies in it."""

import pathlib
import tempfile
from typing import Any

from scenax.common import config as config_lib

CONFIG_NAME = "config.json"
CHECKPOINTS_NAME = "checkpoints"


class WorkdirError(Exception):
    """A folder that this run cannot use."""


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
        raise WorkdirError(
            f"Cannot write to {workdir}: {error.strerror}. Choose another folder with --workdir."
        ) from error


def keep_config(workdir: pathlib.Path, config: Any) -> None:
    """Writes the configuration into a folder that was claimed, when nothing can go wrong any more.

    Until then a run under way keeps the one it has.
    """
    config_lib.save(config, workdir / CONFIG_NAME)


def _check_same_run(workdir: pathlib.Path, config: Any) -> None:
    there = config_lib.load(workdir / CONFIG_NAME)
    changed = config_lib.differences(there, config_lib.to_dict(config))
    if changed:
        raise WorkdirError(
            f"{workdir} holds another run. They differ in\n  "
            + "\n  ".join(changed)
            + "\nChoose another folder with --workdir, or continue that run under this config with "
            "--accept_config_changes."
        )
