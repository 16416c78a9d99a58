"""From flags to a table: ``python -m apps.transfer.main --config=FILE --output=FOLDER``."""

import argparse
import logging
import pathlib
import sys
import tempfile
from collections.abc import Sequence

from rich.console import Console

from scenax.common import config as config_lib

from . import report
from .config import Config
from .evaluate import evaluate

# What is wrong with a command, as opposed to a program: said without a traceback.
USER_ERRORS = (ValueError, TypeError, OSError)


def parse_arguments(arguments: Sequence[str]) -> tuple[argparse.Namespace, Config]:
    """Returns the flags, and the configuration that they name with what they change in it."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}.main",
        description="Measures what features are worth on a dataset. --config.KEY=VALUE changes a "
        "value of the config.",
    )
    parser.add_argument("--config", required=True, help="a file of configs/")
    parser.add_argument(
        "--output",
        "--workdir",
        required=True,
        type=pathlib.Path,
        help="the folder of the results, where features are kept for the next command",
    )
    parser.add_argument(
        "--data_dir", help="where prepared datasets lie (TFDS's own default if not given)"
    )
    flags, rest = parser.parse_known_args(arguments)
    overrides = config_lib.parse_overrides(rest)
    return flags, config_lib.resolve(Config, config_lib.load(flags.config), overrides)


def make_folder(folder: pathlib.Path) -> None:
    """Makes the folder of the results, and sees to it that it can be written to.

    Raises:
      OSError: if not.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            f"Cannot write to {folder}: {error.strerror}. Choose another folder with --output."
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluates and reports. Returns the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    console = Console()
    try:
        flags, config = parse_arguments(sys.argv[1:] if arguments is None else arguments)
        make_folder(flags.output)
        evaluation = evaluate(config, flags.output, flags.data_dir, console)
        results, page = report.write(evaluation, flags.output)
    except USER_ERRORS as error:
        Console(stderr=True).print(f"Error: {error}", markup=False, highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted. The same command goes on from the features that are there.")
        return 130
    console.print(report.table(evaluation))
    console.print(f"Results: {results}\nReport:  {page}", highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
