"""The counts that the dashboard shows, against published ones."""

import itertools
import math
import subprocess
import sys

import pytest
from benchmarks import catalog, measuring, worker
from benchmarks.suite import cost

# timm 1.0.31: multiply-adds in billions, activations in millions, and parameters.
PUBLISHED = {
    "vit_small_patch32_224": (1.15, 2.50, 22_878_952),
    "vit_base_patch16_224": (17.58, 23.90, 86_567_656),
    "vit_huge_patch14_224": (167.4, 139.41, 630_764_800),  # its published weights have no head
    "resnet50": (4.11, 11.11, 25_557_032),
    "efficientnet_b3": (1.63, 21.49, 12_233_232),
    "swin_large_patch4_window7_224": (34.53, 54.94, 196_532_476),
    "resmlp_36_224": (8.91, 16.33, 44_690_488),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name):
    multiply_adds, activations, parameters = PUBLISHED[name]
    costs = {name: worker.cost(name)}
    assert cost.track_flops(costs, name) == pytest.approx(2 * multiply_adds, rel=0.03)
    assert cost.track_activations(costs, name) == pytest.approx(activations, abs=0.0051)
    assert cost.track_parameters(costs, name) == parameters


def test_counts_by_hand():
    widths = (32 * 32 * 3, 20, 10, 1000)
    layers = list(itertools.pairwise(widths))
    assert worker.cost("fully_connected") == {
        "flops": pytest.approx(2 * sum(a * b for a, b in layers) / 1e9),
        "parameters": sum((a + 1) * b for a, b in layers),
        "activations": pytest.approx(sum(widths[1:]) / 1e6),
    }


def test_a_name_that_a_commit_lacks_is_a_gap():
    assert math.isnan(cost.track_flops({}, "vit_base_patch16_224"))
    assert math.isnan(cost.track_parameters({}, "vit_base_patch16_224"))


def test_an_architecture_that_cannot_be_counted_is_a_failure():
    with pytest.raises(measuring.MeasurementError, match="resnet18: ValueError: no"):
        cost.track_flops({"resnet18": {"failed": "ValueError: no"}}, "resnet18")


def test_every_architecture_is_enrolled_and_none_is_imported():
    # In a process of its own, since another test may have registered a model or imported jax.
    script = """
import sys
from benchmarks.suite import architectures, cost
from scenax.models import list_models
assert sorted(cost.params) == sorted(list_models())
assert set(architectures.params) < set(cost.params)
assert "jax" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_small_copy_of_a_name_is_that_of_its_family():
    assert catalog.small_copy("resnet50") == catalog.small_copy("resnet18")
    assert catalog.small_copy("resnet50")["layers"] == (1,) * 4
