"""What is tracked of every architecture: one table, which measuring, comparing and showing share.

A figure is one of asv's benchmarks, with the architecture's name as its parameter. asv takes lower
for better everywhere, so a score is tracked as what it lacks, and speed as time; the dashboard
shows them the way that people read them. Importing this loads no other library.
"""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure of an architecture."""

    benchmark: str
    """asv's name of it, ``module.function``."""
    title: str
    unit: str
    """Of what asv stores."""
    shown_title: str = ""
    """Where people read another form of it, that form's name."""
    shown_unit: str = ""
    show: Callable[[float], float] = float
    """What is stored as people read it. It is monotonic."""
    shown_higher_is_better: bool = False
    noise: float = 0.0
    """What it moves by itself, in percent, or in points where the unit is one."""

    @property
    def exact(self) -> bool:
        """Whether it is counted, and so the same on every machine, and any growth is a change."""
        return not self.noise


TIME_NOISE = 10.0
"""Percent that times move by themselves."""

FIGURES = (
    Figure(
        "architectures.track_error",
        "error",
        "%",
        shown_title="score",
        shown_unit="%",
        show=lambda error: 100 - error,
        shown_higher_is_better=True,
        noise=2.0,
    ),
    Figure("cost.track_parameters", "parameters", "parameters"),
    Figure("cost.track_flops", "FLOPs", "GFLOPs"),
    Figure("cost.track_activations", "activations", "million elements"),
    Figure(
        "architectures.track_inference_time",
        "inference time",
        "ms/image",
        shown_title="inference",
        shown_unit="images/s",
        show=lambda milliseconds: 1000 / milliseconds,
        shown_higher_is_better=True,
        noise=TIME_NOISE,
    ),
    Figure(
        "architectures.track_training_time",
        "training time",
        "ms/image",
        shown_title="training",
        shown_unit="images/s",
        show=lambda milliseconds: 1000 / milliseconds,
        shown_higher_is_better=True,
        noise=TIME_NOISE,
    ),
    Figure("architectures.track_memory", "memory of a training step", "MiB", noise=2.0),
    Figure(
        "architectures.track_compile_time",
        "compile time of a training step",
        "s",
        noise=TIME_NOISE,
    ),
)

BY_BENCHMARK = {figure.benchmark: figure for figure in FIGURES}
