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


class EvaluationStopped(Exception):
    """An evaluation was given up, since a signal asks the run to stop."""


_caught: list[int] = []  # Signals are the process's, and so is what came of them.


@contextlib.contextmanager
def caught_signals() -> Iterator[None]:
    """Notes SIGTERM and SIGINT for ``requested``; a second one ends the process as ever."""

    def catch(number: int, _: object) -> None:
        _caught.append(number)
        signal.signal(number, before[number])

    _caught.clear()
    before: dict[int, Any] = {  # A handler that is not Python's cannot be put back.
        int(n): signal.signal(n, catch) or signal.SIG_DFL for n in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _caught.clear()


def requested() -> int:
    """Returns the signal that came to this process and asks it to stop, 0 if none did."""
    return _caught[0] if _caught else 0
