"""From flags to a run: ``python -m apps.classification.main --config=FILE --workdir=FOLDER``."""

import argparse
import logging
import pathlib
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from scenax.common import config as config_lib
from scenax.train import loop, workdir
from scenax.train.checkpoints import CheckpointError
from scenax.train.interrupts import TrainingInterrupted

from . import pretrained, report
from .config import Config
from .train import make_run, train

# What is wrong with a command, as opposed to a program: said without a traceback.
USER_ERRORS = (workdir.WorkdirError, CheckpointError, ValueError, TypeError, OSError)


def parse_arguments(arguments: Sequence[str]) -> tuple[argparse.Namespace, Config]:
    """Returns the flags, and the configuration that they name with what they change in it."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}.main",
        description="Trains an image classifier. --config.KEY=VALUE changes a value of the config.",
    )
    parser.add_argument(
        "--config", required=True, help="a file of configs/, or a run's config.json"
    )
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="the run's folder")
    parser.add_argument(
        "--data_dir", help="where prepared datasets lie (TFDS's own default if not given)"
    )
    parser.add_argument(
        "--accept_config_changes",
        action="store_true",
        help="continue the run in --workdir although its config was another",
    )
    flags, rest = parser.parse_known_args(arguments)
    overrides = config_lib.parse_overrides(rest)
    config = config_lib.resolve(Config, config_lib.load(flags.config), overrides)
    return flags, pretrained.complete(config)


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, tests and reports. Returns the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    console = Console()
    try:
        flags, config = parse_arguments(sys.argv[1:] if arguments is None else arguments)
        workdir.claim(flags.workdir, config, accept_changes=flags.accept_config_changes)
        run = make_run(config, flags.workdir, flags.data_dir)
        workdir.keep_config(flags.workdir, config)
    except USER_ERRORS as error:
        return _failed(error)
    try:
        end, metrics = train(run, flags.workdir, console)
    except TrainingInterrupted as interruption:
        console.print(f"{interruption} The same command continues the run.", highlight=False)
        return 128 + interruption.signal_number
    except loop.TrainingDiverged as error:
        return _failed(error)
    command = f"python -m {__package__}.main"
    report_path = report.write(run, end, metrics, flags.workdir, command=command)

    table = Table(title=f"{config.model.name} on {config.dataset.name}: test split")
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.4f}")
    table.add_row("training time", f"{end.seconds:.1f} s")
    console.print(table)
    console.print(
        f"Report:      {report_path}\n"
        f"Log:         {flags.workdir / 'metrics.jsonl'}\n"
        f"TensorBoard: tensorboard --logdir {flags.workdir}\n"
        f"Checkpoints: {flags.workdir / workdir.CHECKPOINTS_NAME}\n"
        "Try next:\n"
        f"  python -m {__package__}.evaluate --workdir={flags.workdir}\n"
        f"  {command} --config={flags.workdir / workdir.CONFIG_NAME} "
        f"--config.seed=1 --workdir={flags.workdir}_seed1",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def _failed(error: Exception) -> int:
    Console(stderr=True).print(f"Error: {error}", markup=False, highlight=False, soft_wrap=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
