import math

import pytest

from scenax.common.registry import RegistryError
from scenax.train import schedules


def test_constant_warms_up_and_stays():
    rate = schedules.make_schedule("constant", 0.4, 100, warmup_steps=10)
    assert [float(rate(s)) for s in (0, 5, 10, 99)] == pytest.approx([0.0, 0.2, 0.4, 0.4])


@pytest.mark.parametrize("step", [0, 3, 10, 40, 73, 100])
def test_cosine_is_the_papers_formula(step):
    rate = schedules.make_schedule("cosine", 0.4, 100, warmup_steps=10, final=0.1)
    if step < 10:
        expected = 0.4 * step / 10
    else:
        expected = 0.1 + 0.5 * (0.4 - 0.1) * (1 + math.cos(math.pi * (step - 10) / 90))
    assert float(rate(step)) == pytest.approx(expected, rel=1e-5)


def test_unknown_schedule_names_the_closest():
    with pytest.raises(RegistryError, match="Did you mean 'cosine'"):
        schedules.make_schedule("cosin", 0.1, 10)


@pytest.mark.parametrize("warmup", [-1, 100, 101])
def test_a_warmup_that_does_not_fit_is_named(warmup):
    with pytest.raises(ValueError, match=f"below total_steps=100, got {warmup}"):
        schedules.make_schedule("cosine", 0.1, 100, warmup_steps=warmup)
