"""Where measurements go: a line of JSON each, and TensorBoard."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import tensorboardX

LOG_NAME = "metrics.jsonl"


class MetricWriter:
    """Writes scalars to ``metrics.jsonl`` and to TensorBoard events in one folder."""

    def __init__(self, directory: pathlib.Path, *, resume_step: int = 0) -> None:
        """Forgets what an interrupted run wrote after ``resume_step``: it will be written again."""
        self._log = directory / LOG_NAME
        kept = [r for r in read_log(directory) if r["step"] <= resume_step] if resume_step else []
        self._written = {(r["step"], r["split"]) for r in kept}
        rewritten = self._log.with_suffix(".tmp")
        rewritten.write_text("".join(json.dumps(record) + "\n" for record in kept))
        rewritten.replace(self._log)
        self._events = tensorboardX.SummaryWriter(
            str(directory / "tensorboard"), purge_step=resume_step + 1 if resume_step else None
        )

    def write(self, step: int, split: str, scalars: Mapping[str, float]) -> None:
        """Writes one record, unless the step has one of this split; then it is on disk."""
        if (step, split) in self._written:
            return
        self._written.add((step, split))
        record = {"step": step, "split": split, **scalars}
        with self._log.open("a") as log:
            log.write(json.dumps(record) + "\n")
        for name, value in scalars.items():
            self._events.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        """Flushes TensorBoard's events."""
        self._events.close()


def read_log(directory: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the records of a folder's ``metrics.jsonl``, none if it has none.

    A last line that was cut off when the run was killed is left out.
    """
    log = directory / LOG_NAME
    lines = log.read_text().split("\n") if log.exists() else []
    return [json.loads(line) for line in lines[:-1]]
