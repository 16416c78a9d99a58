"""Where measurements go: a line of JSON each and TensorBoard, and services that teams look at."""

import contextlib
import json
import logging
import os
import pathlib
import re
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import tensorboardX

from scenax.common.registry import did_you_mean

LOG_NAME = "metrics.jsonl"
WANDB_RUN_NAME = "wandb_run_id.txt"
MLFLOW_RUN_NAME = "mlflow_run_id.txt"

_logger = logging.getLogger(__name__)


@runtime_checkable
class Writer(Protocol):
    """Takes the measurements of a run."""

    def write(self, step: int, split: str, scalars: Mapping[str, float]) -> None:
        """Takes what was measured on a split after ``step`` updates, by name."""
        ...

    def close(self) -> None:
        """Sees to it that all of it is where it belongs."""
        ...


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


class WandbWriter:
    """Writes to one run of Weights & Biases, as ``split/name`` over ``step``.

    Project, entity and mode are those of W&B's own variables: ``WANDB_PROJECT``, ``WANDB_ENTITY``,
    ``WANDB_MODE=offline``. The run has the name of the folder, where its id is kept.
    """

    def __init__(
        self, directory: pathlib.Path, *, resume: bool, config: Mapping[str, Any] | None
    ) -> None:
        """Continues the folder's run if ``resume``, else begins one.

        Raises:
          ImportError: if wandb is not installed; names the extra.
        """
        try:
            import wandb
        except ImportError as error:
            raise _not_installed("wandb") from error
        path = directory / WANDB_RUN_NAME
        run_id = _read_run_id(path, resume=resume)
        if run_id is None:
            run_id = secrets.token_hex(4)
            path.write_text(run_id)
        self._run = wandb.init(
            dir=directory,
            id=run_id,
            name=directory.absolute().name,
            resume="allow",
            config=dict(config or {}),
        )
        # W&B's own count of steps takes nothing of a step that has passed, which a continued run
        # may still have to write.
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, split: str, scalars: Mapping[str, float]) -> None:
        """Hands one record to W&B, which sends it from another process."""
        self._run.log({"step": step, **_by_split(split, scalars)})

    def close(self) -> None:
        """Waits until W&B has all of it."""
        self._run.finish()


class MlflowWriter:
    """Writes to one run of MLflow, as ``split/name``.

    The server is that of ``MLFLOW_TRACKING_URI``, the experiment that of
    ``MLFLOW_EXPERIMENT_NAME`` (``Default`` if not set). The run has the name of the folder, where
    its id is kept.
    """

    def __init__(
        self, directory: pathlib.Path, *, resume: bool, config: Mapping[str, Any] | None
    ) -> None:
        """Continues the folder's run if ``resume``, else begins one.

        Raises:
          ImportError: if mlflow is not installed; names the extra.
          ValueError: if no server is named.
        """
        try:
            import mlflow
            from mlflow.entities import Metric, Param
        except ImportError as error:
            raise _not_installed("mlflow") from error
        if not mlflow.is_tracking_uri_set():
            raise ValueError(
                "MLflow does not know where to write. Set MLFLOW_TRACKING_URI to the address of "
                "its server, http://HOST:PORT."
            )
        self._metric, self._refusal = Metric, mlflow.MlflowException
        self._client = mlflow.MlflowClient()
        path = directory / MLFLOW_RUN_NAME
        run_id = _read_run_id(path, resume=resume)
        if run_id is None:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default")
            there = self._client.get_experiment_by_name(name)
            experiment = there.experiment_id if there else self._client.create_experiment(name)
            run = self._client.create_run(experiment, run_name=directory.absolute().name)
            run_id = run.info.run_id
            path.write_text(run_id)
            params = [Param(*item) for item in _flat(config or {}).items()]
            for first in range(0, len(params), 100):  # It takes no more at once.
                self._client.log_batch(run_id, params=params[first : first + 100])
        else:
            self._client.update_run(run_id, status="RUNNING")
        self._run_id = run_id

    def write(self, step: int, split: str, scalars: Mapping[str, float]) -> None:
        """Sends one record; if the server does not take it, says so, and the run goes on."""
        now = int(1000 * time.time())
        metrics = [
            self._metric(name, value, now, step)
            for name, value in _by_split(split, scalars).items()
        ]
        try:
            self._client.log_batch(self._run_id, metrics=metrics)
        except self._refusal as error:
            _logger.warning("MLflow did not take the %s record of step %d: %s", split, step, error)

    def close(self) -> None:
        """Marks the run as finished."""
        self._client.set_terminated(self._run_id)


class Writers:
    """Writes to all of several writers, in their order; to nothing if there are none."""

    def __init__(self, writers: Iterable[Writer]) -> None:
        self._writers = tuple(writers)

    def write(self, step: int, split: str, scalars: Mapping[str, float]) -> None:
        """Hands the record to each."""
        for writer in self._writers:
            writer.write(step, split, scalars)

    def close(self) -> None:
        """Closes each, whatever closing another raises."""
        with contextlib.ExitStack() as closing:
            for writer in self._writers:
                closing.callback(writer.close)


_SERVICES = {"wandb": WandbWriter, "mlflow": MlflowWriter}


def make_writer(
    names: Sequence[str],
    directory: pathlib.Path,
    *,
    resume_step: int = 0,
    config: Mapping[str, Any] | None = None,
) -> Writer:
    """Returns what writes to the folder's ``metrics.jsonl`` and TensorBoard, and to services.

    Of several hosts, the first writes; on the others nothing happens. A continued run goes on in
    the services' runs that it began; they get no record twice that ``metrics.jsonl`` has.

    Args:
      names: of services, ``wandb`` and ``mlflow``.
      directory: the run's folder.
      resume_step: the step from which the run is continued, 0 for a new one.
      config: of the run as plain data, shown by the services.

    Raises:
      ValueError: for an unknown name.
      ImportError: if the service's package is not installed; names the extra.
    """
    for name in names:
        if name not in _SERVICES:
            raise ValueError(f"Unknown writer {name!r}. {did_you_mean(name, _SERVICES)}")
    if jax.process_index() != 0:
        return Writers(())
    resume = resume_step > 0
    sent = {(r["step"], r["split"]) for r in read_log(directory)} if resume else set()
    services = [_SERVICES[name](directory, resume=resume, config=config) for name in names]
    local = MetricWriter(directory, resume_step=resume_step)
    return Writers([local, *(_Unsent(service, sent) for service in services)])


class _Unsent:
    """Leaves out the records that an interrupted run has sent: services forget nothing."""

    def __init__(self, writer: Writer, sent: set[tuple[int, str]]) -> None:
        self._writer = writer
        self._sent = set(sent)

    def write(self, step: int, split: str, scalars: Mapping[str, float]) -> None:
        if (step, split) not in self._sent:
            self._sent.add((step, split))
            self._writer.write(step, split, scalars)

    def close(self) -> None:
        self._writer.close()


def read_log(directory: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the records of a folder's ``metrics.jsonl``, none if it has none.

    A last line that was cut off when the run was killed is left out.
    """
    log = directory / LOG_NAME
    lines = log.read_text().split("\n") if log.exists() else []
    return [json.loads(line) for line in lines[:-1]]


def _by_split(split: str, scalars: Mapping[str, float]) -> dict[str, float]:
    return {f"{split}/{name}": value for name, value in scalars.items()}


def _not_installed(name: str) -> ImportError:
    return ImportError(
        f"Writing to {name} needs a package that is not installed: "
        f'pip install "scenax-train[{name}]"'
    )


def _read_run_id(path: pathlib.Path, *, resume: bool) -> str | None:
    return path.read_text() if resume and path.exists() else None


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The values of nested mappings as text, under names with dots that MLflow allows."""
    values = {}
    for key, value in config.items():
        name = prefix + re.sub(r"[^\w.\-:/ ]", "_", key)
        values |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: str(value)}
    return values
