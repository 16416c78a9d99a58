"""The counts that the dashboard shows, against published ones."""

import itertools
import math
import subprocess
import sys

import pytest
from benchmarks import cost

# timm 1.0.31: multiply-adds in billions, and parameters.
PUBLISHED = {
    "vit_small_patch32_224": (1.15, 22_878_952),
    "vit_base_patch16_224": (17.58, 86_567_656),
    "vit_huge_patch14_224": (167.4, 630_764_800),  # its published weights have no head
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name):
    multiply_adds, parameters = PUBLISHED[name]
    costs = {name: cost.cost_of(name)}
    assert cost.track_flops(costs, name) == pytest.approx(2 * multiply_adds, rel=0.01)
    assert cost.track_parameters(costs, name) == parameters


def test_counts_by_hand():
    widths = (32 * 32 * 3, 20, 10, 1000)
    layers = list(itertools.pairwise(widths))
    assert cost.cost_of("fully_connected") == (
        pytest.approx(2 * sum(a * b for a, b in layers) / 1e9),
        sum((a + 1) * b for a, b in layers),
    )


def test_a_name_that_a_commit_lacks_is_a_gap():
    assert math.isnan(cost.track_flops({}, "vit_base_patch16_224"))
    assert math.isnan(cost.track_parameters({}, "vit_base_patch16_224"))


def test_every_architecture_is_enrolled_and_none_is_imported():
    # In a process of its own, since another test may have registered a model or imported jax.
    script = """
import sys
from benchmarks import cost
assert "jax" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
