import json
import math
import pathlib

import jax
import numpy as np
import pytest

from scenax.common.registry import RegistryError
from scenax.train import schedules

GOLDENS = json.loads((pathlib.Path(__file__).parent / "goldens" / "schedules.json").read_text())


@pytest.mark.parametrize(
    "case", GOLDENS["cases"], ids=lambda c: f"{c['name']}-{c['options'].get('factors', '')}"
)
def test_rates_are_those_of_torch_timm_and_scenic(case):
    rate = schedules.make_schedule(
        case["name"], GOLDENS["learning_rate"], GOLDENS["total_steps"], **case["options"]
    )
    found = jax.vmap(rate)(np.array(GOLDENS["steps"]))
    # Where a cosine ends, single precision leaves a difference of 1e-7 of its height.
    np.testing.assert_allclose(found, case["rates"], rtol=2e-5, atol=2e-7)


def at(rate, *steps):
    return pytest.approx([float(rate(step)) for step in steps], rel=1e-5)


def test_constant_warms_up_and_stays():
    rate = schedules.make_schedule("constant", 0.4, 100, warmup_steps=10)
    assert at(rate, 0, 5, 10, 99) == [0.0, 0.2, 0.4, 0.4]


@pytest.mark.parametrize("step", [0, 3, 10, 40, 73, 100, 120])
def test_cosine_is_the_papers_formula(step):
    rate = schedules.make_schedule("cosine", 0.4, 100, warmup_steps=10, final=0.1)
    if step < 10:
        expected = 0.4 * step / 10
    else:
        expected = 0.1 + 0.5 * (0.4 - 0.1) * (1 + math.cos(math.pi * (min(step, 100) - 10) / 90))
    assert float(rate(step)) == pytest.approx(expected, rel=1e-5)


def test_linear_and_polynomial_reach_what_they_should_and_stay():
    rate = schedules.make_schedule("linear", 0.4, 110, warmup_steps=10, final=0.2)
    assert at(rate, 5, 10, 35, 60, 110, 200) == [0.2, 0.4, 0.35, 0.3, 0.2, 0.2]
    rate = schedules.make_schedule("polynomial", 0.4, 110, warmup_steps=10, power=0.5)
    assert at(rate, 10, 85, 94, 110) == [0.4, 0.4 * 0.5, 0.4 * 0.4, 0.0]


def test_rsqrt_halves_in_three_timescales_and_cools_down_to_zero():
    rate = schedules.make_schedule(
        "rsqrt", 0.4, 1000, warmup_steps=10, timescale_steps=100, cooldown_steps=100
    )
    assert at(rate, 5, 10, 310, 810) == [0.2, 0.4, 0.2, 0.4 / 3]
    # 25 steps before the end: a quarter of what it would be, 965 steps after the warm-up.
    assert at(rate, 975, 1000) == [0.25 * 0.4 / math.sqrt(10.65), 0.0]
    longer = schedules.make_schedule("rsqrt", 0.4, 5000, warmup_steps=10, timescale_steps=100)
    assert float(longer(810)) == float(rate(810))


def test_steps_fall_at_equal_distances_or_at_boundaries():
    rate = schedules.make_schedule("step", 0.4, 90, every_steps=30, warmup_steps=4)
    assert at(rate, 2, 4, 29, 30, 59, 60, 89) == [0.2, 0.4, 0.4, 0.04, 0.04, 0.004, 0.004]
    rate = schedules.make_schedule("step", 0.4, 90, boundary_steps=[30, 80], factor=0.5)
    assert at(rate, 0, 29, 30, 79, 80) == [0.4, 0.4, 0.2, 0.2, 0.1]


def test_durations_become_steps():
    options = {
        "warmup_epochs": 2.5,
        "timescale_examples": 80,
        "boundary_epochs": [1, 2],
        "factor": 0.1,
        "cooldown_steps": 7,
        "tiny_epochs": 1e-9,
        "no_examples": 0,
    }
    assert schedules.in_steps(options, batch_size=8, num_examples=84) == {
        "warmup_steps": 26,  # 2.5 * 84 / 8 = 26.25.
        "timescale_steps": 10,
        "boundary_steps": [10, 21],  # 10.5 is as near to 10, which is even.
        "factor": 0.1,
        "cooldown_steps": 7,
        "tiny_steps": 1,
        "no_steps": 0,
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"warmup_steps": 3, "warmup_epochs": 1}, "warmup_steps and warmup_epochs say the same"),
        ({"warmup_examples": 3, "warmup_epochs": 1}, "warmup_examples and warmup_epochs say"),
        (
            {"warmup_epochs": "five"},
            "warmup_epochs must be a number, or a list of them, got 'five'",
        ),
        ({"boundary_epochs": [1, None]}, "boundary_epochs must be a number, or a list .*got None"),
    ],
)
def test_durations_that_are_none_are_named(options, said):
    with pytest.raises(ValueError, match=said):
        schedules.in_steps(options, batch_size=8, num_examples=84)


def test_unknown_schedule_names_the_closest():
    with pytest.raises(RegistryError, match="Did you mean 'cosine'"):
        schedules.make_schedule("cosin", 0.1, 10)


@pytest.mark.parametrize("name", ["constant", "cosine", "linear", "polynomial", "rsqrt"])
@pytest.mark.parametrize("warmup", [-1, 100, 101])
def test_a_warmup_that_does_not_fit_is_named(name, warmup):
    with pytest.raises(ValueError, match=rf"warmup_steps .* below total_steps=100, got {warmup}"):
        schedules.make_schedule(name, 0.1, 100, warmup_steps=warmup)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("polynomial", {"power": 0}, "power must be above 0, got 0"),
        ("rsqrt", {"timescale_steps": 0}, "timescale_steps must be above 0, got 0"),
        ("rsqrt", {"warmup_steps": 5, "cooldown_steps": 96}, "at most .* = 95, got 96"),
        ("step", {}, "needs every_steps or boundary_steps, got None and None"),
        ("step", {"every_steps": 1, "boundary_steps": [1]}, "got 1 and "),
        ("step", {"every_steps": 0}, "every_steps must be at least 1, got 0"),
        ("step", {"boundary_steps": [30, 20]}, r"must rise between 0 and .*, got \[30, 20\]"),
        ("step", {"boundary_steps": [30, 100]}, r"total_steps=100, got \[30, 100\]"),
        ("compound", {"factors": "constant * cosin_decay"}, "Did you mean 'cosine_decay'"),
        ("compound", {"factors": "constant", "warmup_steps": 3}, "None of the factors 'constant'"),
        (
            "compound",
            {"factors": "constant * linear_warmup", "warmup_step": 3},
            "has an option 'warmup_step'. Did you mean 'warmup_steps'",
        ),
        ("compound", {"factors": "linear_warmup"}, "'linear_warmup' needs .* 'warmup_steps'"),
        (
            "compound",
            {"factors": "piecewise_constant", "decay_events": [1, 2], "decay_factors": [0.1]},
            "decay_events and decay_factors go together, got 2 and 1",
        ),
        ("compound", {"factors": "linear_decay", "warmup_steps": 100}, "below total_steps=100"),
    ],
)
def test_what_does_not_fit_is_named(name, options, said):
    with pytest.raises(ValueError, match=said):
        schedules.make_schedule(name, 0.1, 100, **options)
