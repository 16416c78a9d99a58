"""Progress of long work: a bar on a terminal, a line now and then elsewhere."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from types import TracebackType

from rich import progress as rich_progress
from rich.console import Console

_INPUT_BOUND = 0.1  # A tenth of the time is worth a line.


class Progress:
    """Shows step, metrics, images per second and the time left. Use as a context manager."""

    def __init__(
        self,
        console: Console,
        total_steps: int,
        *,
        start: int = 0,
        unit: str = "examples",
        seconds_per_line: float = 10,
    ) -> None:
        """Starts at ``start`` of ``total_steps``.

        ``unit`` is what an example is called; ``seconds_per_line`` is how often a console that is
        no terminal gets a line.
        """
        self.step = start
        """The steps that were begun, whether they were shown or not."""
        self._console = console
        self._total = total_steps
        self._start = start
        self._unit = unit
        self._seconds_per_line = seconds_per_line
        self._began = time.monotonic()
        self._last_line = -float("inf")
        self._warned = False
        self._bar = rich_progress.Progress(
            rich_progress.TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            rich_progress.BarColumn(),
            rich_progress.TextColumn("{task.description}"),
            rich_progress.TimeRemainingColumn(compact=True),
            rich_progress.TextColumn("left"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total_steps, completed=start)

    def __enter__(self) -> "Progress":
        self._began = time.monotonic()
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def update(
        self, step: int, scalars: Mapping[str, float], rate: float, *, input_share: float = 0.0
    ) -> None:
        """Shows that ``step`` updates are made at a rate, and ``scalars`` but for norms.

        ``input_share`` is the share of the time for which the devices waited for batches. The first
        time that it is large, a line says so and what helps.
        """
        named = {name: value for name, value in scalars.items() if "_norm" not in name}
        shown = "  ".join(f"{name} {value:.4f}" for name, value in sorted(named.items()))
        shown += f"  {rate:.0f} {self._unit}/s"
        self._bar.update(self._task, completed=step, description=shown)
        if input_share > _INPUT_BOUND and not self._warned:
            self._warned = True
            self._console.print(
                f"The input holds the devices back: they waited for it {input_share:.0%} of the "
                f"time up to step {step}. Cache or prepare the data, transform less, or give more "
                "cores.",
                style="yellow",
                soft_wrap=True,
            )
        now = time.monotonic()
        due = now - self._last_line >= self._seconds_per_line or step == self._total
        if not self._console.is_terminal and due and step > self._start:
            self._last_line = now
            left = (now - self._began) / (step - self._start) * (self._total - step)
            self._console.print(
                f"step {step}/{self._total}  {shown}  {left:.0f} s left",
                highlight=False,
                soft_wrap=True,
            )


class Stopwatch:
    """Counts seconds, but for those in ``paused()``."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._began = time.monotonic() - seconds

    @property
    def seconds(self) -> float:
        """What it has counted so far."""
        return time.monotonic() - self._began

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Does not count while the ``with`` block runs."""
        seconds = self.seconds
        yield
        self._began = time.monotonic() - seconds
