"""What pretraining is worth: ``python -m apps.classification.demo_finetune``.

Trains a small ViT on the digits 0 to 4, saves it, fine-tunes it on the digits 5 to 9 at another
image size, and trains the same model from scratch for as many steps. Needs no network. A folder
that has some of it already goes on from there. ``--config.KEY=VALUE`` changes all three runs.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from scenax.train import writers

from . import export
from . import main as training

CONFIGS = pathlib.Path(__file__).parent / "configs"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all of it and prints the margin. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}.demo_finetune",
        description="Pretrains, fine-tunes, and compares with training from scratch.",
    )
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/demo_finetune"))
    parser.add_argument("--data_dir", help="where prepared datasets lie")
    flags, changes = parser.parse_known_args(arguments)
    data = [] if flags.data_dir is None else [f"--data_dir={flags.data_dir}"]

    def train(config: str, folder: pathlib.Path, *own: str) -> int:
        start = [f"--config={CONFIGS / config}", f"--workdir={folder}"]
        return training.main([*start, *own, *changes, *data])

    first, exported = flags.workdir / "pretrained", flags.workdir / "exported"
    status = train("pretrain_digits.py", first)
    status = status or export.main([f"--workdir={first}", f"--output={exported}", *data])
    folders = {}
    for start, weights in (("pretrained weights", exported), ("scratch", None)):
        folders[start] = flags.workdir / f"from_{start.replace(' ', '_')}"
        weights = f"--config.weights={weights}"
        status = status or train("finetune_digits.py", folders[start], weights)
    if status:
        return status

    tests = {
        name: next(r for r in reversed(writers.read_log(folder)) if r["split"] == "test")
        for name, folder in folders.items()
    }
    steps = {record["step"] for record in tests.values()}
    table = Table(title=f"Digits 5 to 9, {' and '.join(map(str, steps))} steps")
    for column in ("start", "test top-1", "test loss"):
        table.add_column(column, justify="left" if column == "start" else "right")
    for name, record in tests.items():
        table.add_row(name, f"{record['accuracy']:.4f}", f"{record['loss']:.4f}")
    console = Console()
    console.print(table)
    pretrained, scratch = (record["accuracy"] for record in tests.values())
    console.print(
        f"Pretraining is worth {100 * (pretrained - scratch):.1f} points of top-1.", highlight=False
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
