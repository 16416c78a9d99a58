"""Signals that ask a run to stop: it saves first."""

import contextlib
import signal
from collections.abc import Iterator
from typing import Any


class TrainingInterrupted(Exception):
    """SIGTERM or SIGINT came; the state is saved."""

    def __init__(self, step: int, signal_number: int) -> None:
        super().__init__(f"{signal.Signals(signal_number).name} came after step {step}.")
        self.step = step
        self.signal_number = signal_number


@contextlib.contextmanager
def caught_signals() -> Iterator[list[int]]:
    """A list that SIGTERM and SIGINT are put into; a second one ends the process as ever."""
    caught: list[int] = []

    def catch(number: int, _: object) -> None:
        caught.append(number)
        signal.signal(number, before[number])

    before: dict[int, Any] = {
        int(n): signal.signal(n, catch) for n in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
