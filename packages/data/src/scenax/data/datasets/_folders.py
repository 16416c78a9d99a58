"""What datasets of users' own folders share."""

import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

from scenax.data.pipeline import Reading


class DataWarning(UserWarning):
    """Something odd about a user's data that was repaired or left out."""


def required(reading: Reading, name: str) -> pathlib.Path:
    """Returns the folder that the data are in.

    Raises:
      ValueError: if none was given.
    """
    if reading.data_dir is None:
        raise ValueError(
            f"{name} reads a folder of your own. Give it with --data_dir or data_dir=."
        )
    return pathlib.Path(reading.data_dir).expanduser()


def show(sources: Mapping[str, Any]) -> None:
    """Warns of what was odd in the files, each report once."""
    reports = {id(source.report): source.report for source in sources.values()}
    for report in reports.values():
        if report:
            warnings.warn(DataWarning(str(report)), stacklevel=4)
