"""What a run would need of devices that may not be there: ``main --dry_run=64``."""

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from scenax.common import tree
from scenax.train import estimate, hardware

from .config import Config
from .task import flops_per_step, make_task


def simulate(devices: int) -> None:
    """Makes jax see so many devices, which compile and need no memory; before it sees any other."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)


def show(config: Config, data_dir: str | None, console: Console) -> None:
    """Prints what each device needs of memory, FLOPs and communication, and where it fits.

    Raises:
      ValueError: whatever a user can get wrong in a configuration.
    """
    task = make_task(config, data_dir)
    state = task.abstract_state
    with console.status("Compiling the training step..."):
        need = estimate.estimate(task.train_step(), state, task.example, task.mesh)
    axes = " x ".join(f"{size} {name}" for name, size in task.mesh.shape.items())
    table = Table(title=f"{config.model.name}, batch {config.batch_size}, {axes}")
    table.add_column("of each device")
    table.add_column("MiB", justify="right")
    rows = {
        "parameters": need.params,
        "optimizer": need.optimizer,
        "averages, statistics, counters": need.other_state,
        "batch": need.batch,
        "gradients and activations (estimate)": need.activations,
        "all memory": need.total,
    }
    for kind, size in need.communication.items():
        rows[f"{kind}, results in a step"] = size
    for name, size in rows.items():
        table.add_row(name, f"{size / 2**20:,.1f}")
    console.print(table)

    devices = task.mesh.size
    needed = flops_per_step(task.model, config.batch_size)
    console.print(
        f"{tree.parameter_count(state.params):,} parameters; {needed / 1e12:,.3g} TFLOPs a step, "
        f"{needed / 1e12 / devices:,.3g} on each of {devices} devices. Compiled in "
        f"{need.compile_seconds:.0f} s.",
        highlight=False,
        soft_wrap=True,
    )
    fits = Table(title="Where it fits")
    for column in ("device", "GiB", "of it", "step at 40 % of the peak"):
        fits.add_column(column, justify="left" if column == "device" else "right")
    for kind, chip in sorted(hardware.CHIPS.items(), key=lambda item: (item[1].memory, item[0])):
        share = need.total / (chip.memory * 2**30)
        if share > 1:
            continue
        peak = chip.bfloat16 or chip.float16
        seconds = np.nan if peak is None else needed / devices / (0.4e12 * peak)
        fits.add_row(kind, str(chip.memory), f"{share:.0%}", f"{1000 * seconds:,.1f} ms")
    console.print(fits if fits.rows else "It fits on no device that is known here.")
