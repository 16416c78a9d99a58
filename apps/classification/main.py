"""From flags to a run: ``python -m apps.classification.main --config=FILE --workdir=FOLDER``."""

import argparse
import dataclasses
import logging
import pathlib
import sys
from collections.abc import Sequence

import jax
from rich.console import Console
from rich.table import Table

from scenax.common import config as config_lib
from scenax.train import distributed, divergence, profiling, workdir
from scenax.train.checkpoints import Checkpoint, CheckpointError
from scenax.train.interrupts import TrainingInterrupted
from scenax.train.sharding import on_this_host

from . import plan, pretrained, report
from .config import Config
from .task import make_dataset
from .train import Run, make_run, train

# What is wrong with a command, as opposed to a program: said without a traceback.
USER_ERRORS = (
    workdir.WorkdirError,
    CheckpointError,
    distributed.DistributedError,
    ValueError,
    TypeError,
    ImportError,
    OSError,
)


def parse_arguments(arguments: Sequence[str]) -> tuple[argparse.Namespace, Config]:
    """Returns the flags, and the configuration that they name with what they change in it."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}.main",
        description="Trains an image classifier. --config.KEY=VALUE changes a value of the config.",
    )
    add = parser.add_argument
    add("--config", required=True, help="a file of configs/, or a run's config.json")
    add("--workdir", type=pathlib.Path, help="the run's folder; not needed for --dry_run")
    add("--data_dir", help="where prepared datasets lie (TFDS's own default if not given)")
    add(
        "--accept_config_changes",
        action="store_true",
        help="continue the run in --workdir although its config was another",
    )
    add(
        "--dry_run",
        nargs="?",
        type=int,
        const=0,
        metavar="DEVICES",
        help="only say what each device would need; of so many devices, there or not",
    )
    add("--profile_steps", default="", metavar="10:20", help="steps to trace, for TensorBoard")
    add("--compilation_cache", metavar="FOLDER", help="where compiled programs are kept")
    group = parser.add_argument_group(
        "several hosts", "SLURM, Open MPI and Kubernetes jobs are found out; else say all of them."
    )
    group.add_argument("--distributed", action="store_true", help="find out, as on TPU pods")
    group.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 is reached")
    group.add_argument("--process_count", type=int)
    group.add_argument("--process_index", type=int)
    flags, rest = parser.parse_known_args(arguments)
    if flags.workdir is None and flags.dry_run is None:
        parser.error("--workdir is needed, or --dry_run.")
    overrides = config_lib.parse_overrides(rest)
    return flags, config_lib.resolve(Config, config_lib.load(flags.config), overrides)


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, tests and reports. Returns the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        flags, config = parse_arguments(sys.argv[1:] if arguments is None else arguments)
        if flags.compilation_cache is not None:
            jax.config.update("jax_compilation_cache_dir", flags.compilation_cache)
        if flags.dry_run is not None:
            if flags.dry_run:
                plan.simulate(flags.dry_run)
            plan.show(pretrained.complete(config), flags.data_dir, Console())
            return 0
        explicit = (flags.coordinator, flags.process_count, flags.process_index)
        if flags.distributed or any(x is not None for x in explicit) or distributed.detected():
            distributed.initialize(*explicit)
        with workdir.locked(flags.workdir):
            return _run(flags, pretrained.complete(config))
    except USER_ERRORS as error:
        return _failed(error)


def _run(flags: argparse.Namespace, config: Config) -> int:
    """Trains in a folder that no other run has. Returns the exit status."""
    first_host = jax.process_index() == 0
    console = Console(quiet=not first_host)
    profile_steps = profiling.parse_steps(flags.profile_steps) if flags.profile_steps else range(0)
    workdir.claim(flags.workdir, config, accept_changes=flags.accept_config_changes)
    run = make_run(config, flags.workdir, flags.data_dir)
    if first_host:
        workdir.keep_config(flags.workdir, config)
    try:
        end, metrics = train(run, flags.workdir, console, profile_steps=profile_steps)
    except TrainingInterrupted as interruption:
        console.print(f"{interruption} The same command continues the run.", highlight=False)
        return 128 + interruption.signal_number
    except divergence.TrainingDiverged as error:
        return _failed(error)
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        return _failed(distributed.lost(error))
    # The report looks at the whole test split, and one host makes it.
    end = dataclasses.replace(end, state=on_this_host(end.state))
    if first_host:
        whole = make_dataset(config, flags.data_dir, host=0, hosts=1)
        _show(flags, dataclasses.replace(run, dataset=whole), end, metrics, console)
    return 0


def _show(
    flags: argparse.Namespace,
    run: Run,
    end: Checkpoint,
    metrics: dict[str, float],
    console: Console,
) -> None:
    command = f"python -m {__package__}.main"
    report_path = report.write(run, end, metrics, flags.workdir, command=command)

    table = Table(title=f"{run.config.model.name} on {run.config.dataset.name}: test split")
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


def _failed(error: Exception) -> int:
    Console(stderr=True).print(f"Error: {error}", markup=False, highlight=False, soft_wrap=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
