"""What of a series of figures is a change, and what is noise."""

import itertools
import math
from collections.abc import Callable

from benchmarks.dashboard.data import Machine, Values
from benchmarks.figures import FIGURES, Figure

NOTES = {
    "architectures.track_error": "top-1 of a small copy after a short training on digits. It says "
    "whether something changed, and not which architecture is best."
}
"""What has to be known to read a figure rightly."""

SCALES = {"GFLOPs": (1e9, "FLOPs"), "million elements": (1e6, ""), "parameters": (1.0, "")}
"""What a unit of counts stands for, and what it counts: these are shown with k, M and G."""

SPARKLINE_POINTS = 40
SPARKLINE_LEVELS = 16


def key_of(figure: Figure) -> str:
    """Returns how addresses of the page name a figure."""
    return (figure.shown_title or figure.title).split()[0].lower()


def is_in_points(figure: Figure) -> bool:
    """Returns whether a change is told in points, and not in percent of what it was."""
    return figure.unit == "%"


def shown(figure: Figure, values: Values) -> Values:
    """Returns a series in the form that people read, in whole units."""
    scale, digits = SCALES.get(figure.unit, (1.0, ""))[0], 10 if figure.exact else 5

    def convert(value: float | None) -> float | None:
        if value is None:
            return None
        try:
            return rounded(figure.show(value) * scale, digits)
        except ZeroDivisionError:  # A time of nothing at all says nothing.
            return None

    return [convert(value) for value in values]


def rounded(value: float, digits: int = 5) -> float | None:
    """Returns a number of few digits, for a small page; None for what is no number."""
    if not math.isfinite(value):
        return None
    value = float(f"{value:.{digits}g}")
    return int(value) if value.is_integer() else value


def change(figure: Figure, before: float, after: float) -> float:
    """Returns the change of a shown figure, in percent, or in points."""
    if is_in_points(figure):
        return after - before
    return 100 * (after / before - 1) if before else math.copysign(math.inf, after - before)


def is_worse(figure: Figure, before: float, after: float) -> bool:
    """Returns whether a shown figure became worse by more than noise."""
    growth = change(figure, before, after) if after != before else 0.0
    return (-growth if figure.shown_higher_is_better else growth) > figure.noise


def regressions(figure: Figure, values: Values) -> list[tuple[int, float, float]]:
    """Returns where a series became worse: position, and what was shown before and after.

    What is counted is worse with any growth. What is measured is first cut into levels by asv's
    step detection, and only what the newest level has not made good is told, as asv does.
    """
    # asv looks for benchmarks in all of this folder, with a commit's packages, and is none of them.
    from asv.step_detect import detect_regressions, detect_steps

    if figure.exact:
        return _growths(figure, values)
    converted = shown(figure, values)
    known = [value for value in converted if value is not None]
    low, high = min(known, default=0), max(known, default=0)
    best, worst = (high, low) if figure.shown_higher_is_better else (low, high)
    if not is_worse(figure, best, worst):
        return []  # Most series: finding levels takes its time.
    found = []
    for _, start, *levels in detect_regressions(detect_steps(values))[2] or []:
        before, after = (rounded(figure.show(level)) for level in levels)
        if before is not None and after is not None and is_worse(figure, before, after):
            found.append((start, before, after))
    return found


def _growths(figure: Figure, values: Values) -> list[tuple[int, float, float]]:
    found, before = [], None
    for index, value in enumerate(shown(figure, values)):
        if value is None:
            continue
        if before is not None and is_worse(figure, before, value):
            found.append((index, before, value))
        before = value
    return found


def sparkline(values: Values, least_range: Callable[[float], float]) -> str:
    """Returns a series as at most 40 hexadecimal digits, ``.`` for a gap; empty if it is flat.

    Args:
      values: as shown.
      least_range: of a typical value, the range that fills the height at least, so that noise
        does not look like mountains.
    """
    known = sorted(value for value in values if value is not None)
    if not known or known[0] == known[-1]:
        return ""
    middle = known[len(known) // 2]
    spread = max(known[-1] - known[0], least_range(middle))
    low = (known[0] + known[-1] - spread) / 2
    top = SPARKLINE_LEVELS - 1
    digits = [
        "." if value is None else f"{round((value - low) / spread * top):x}"
        for value in _thinned(values)
    ]
    return "" if len(set(digits) - {"."}) < 2 else "".join(digits)


def least_range(figure: Figure) -> Callable[[float], float]:
    """Returns twice the noise, for the height of a sparkline."""
    noise = 2 * figure.noise
    return lambda value: noise if is_in_points(figure) else abs(value) * noise / 100


def _thinned(values: Values) -> Values:
    """Returns the last known value of at most 40 equal stretches."""
    count = min(len(values), SPARKLINE_POINTS)
    edges = [index * len(values) // count for index in range(count + 1)]
    stretches = (values[start:end] for start, end in itertools.pairwise(edges))
    return [last_known(stretch)[0] for stretch in stretches]


def last_known(values: Values) -> tuple[float | None, int]:
    """Returns the last value that is no gap, and how many gaps follow it."""
    for age, value in enumerate(reversed(values)):
        if value is not None:
            return value, age
    return None, len(values)


def base_of(machine: Machine) -> int:
    """Returns the commit that a table compares with: the last release, or else the oldest."""
    releases = [index for index, commit in enumerate(machine.commits[:-1]) if commit.tags]
    return releases[-1] if releases else 0


def present(machine: Machine) -> list[Figure]:
    """Returns the figures that a machine has, in the order in which people read them."""
    return [figure for figure in FIGURES if figure.benchmark in machine.figures]
