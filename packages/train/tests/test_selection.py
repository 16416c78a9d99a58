import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenax.common.config import ConfigError, resolve, schema
from scenax.train.selection import Best, Selection

NAN = float("nan")
LARGEST, SMALLEST = Selection(), Selection(mode="min")


@pytest.mark.parametrize(
    ("best", "value", "largest", "smallest"),
    [
        (1.0, 2.0, True, False),
        (2.0, 1.0, False, True),
        (1.0, 1.0, False, False),
        (1.0, NAN, False, False),
        (NAN, 1.0, True, True),
        (NAN, NAN, False, False),
        (1.0, math.inf, True, False),
    ],
)
def test_better(best, value, largest, smallest):
    assert LARGEST.better(Best(10, best), value) is largest
    assert SMALLEST.better(Best(10, best), value) is smallest


def test_a_number_is_better_than_none_at_all():
    assert LARGEST.better(None, -1.0)
    assert not LARGEST.better(None, NAN)


@given(st.lists(st.floats(), min_size=1))
def test_the_best_of_many_is_the_first_of_the_largest(values):
    for selection, pick in ((LARGEST, max), (SMALLEST, min)):
        best = None
        for step, value in enumerate(values):
            best = selection.update(best, step, value)
        numbers = [value for value in values if not math.isnan(value)]
        if numbers:
            assert best == Best(values.index(pick(numbers)), pick(numbers))
        else:
            assert best.step == 0
            assert math.isnan(best.value)


def test_patience_counts_evaluations_without_a_better_one():
    selection = Selection(patience=3)
    best, ends = None, []
    for step, value in zip(range(10, 80, 10), [1, 3, 2, 2, 4, 3, 3], strict=True):
        best = selection.update(best, step, float(value))
        ends.append(selection.exhausted(best, step, every=10))
    assert best == Best(50, 4.0)
    assert not any(ends)
    assert selection.exhausted(best, 80, every=10)


def test_an_evaluation_at_the_very_end_is_none_of_those_that_count():
    assert not Selection(patience=1).exhausted(Best(50, 1.0), 55, every=10)


def test_without_patience_there_is_no_end():
    assert not LARGEST.exhausted(Best(0, 1.0), 10**9, every=1)


def test_nan_uses_up_patience():
    selection = Selection(patience=2)
    best = selection.update(None, 10, NAN)
    best = selection.update(best, 20, NAN)
    assert not selection.exhausted(best, 20, every=10)
    assert selection.exhausted(best, 30, every=10)


def test_a_metric_that_there_is_not_is_told_from_those_there_are():
    metrics = {"validation/top1": 0.5, "validation/loss": 2.0}
    assert Selection(metric="validation/loss").value(metrics) == 2.0
    with pytest.raises(ValueError, match=r"'validation/los' to select by\. .*'validation/loss'"):
        Selection(metric="validation/los").value(metrics)
    with pytest.raises(ValueError, match=r"There are 'validation/loss', 'validation/top1'\."):
        Selection(metric="psnr").value(metrics)


def test_a_config_can_hold_it():
    @schema
    class Config:
        selection: Selection

    chosen = resolve(Config, {"selection": {"mode": "min", "patience": 5}}, {})
    assert chosen.selection == Selection(mode="min", patience=5)
    for mistake in ({"mode": "most"}, {"patience": 0}, {"mertic": "validation/loss"}):
        with pytest.raises(ConfigError, match=r"max.*min|at least 1|mertic"):
            resolve(Config, {"selection": mistake}, {})
