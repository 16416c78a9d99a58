"""Configurations that compute something."""

import runpy

import pytest

from .conftest import APP


@pytest.mark.parametrize(
    ("examples", "side", "crop", "mixed", "steps"),
    [
        (1_020, 224, (512, 480), False, [100, 200, 300, 400, 500]),
        (50_000, 32, (160, 128), True, [500, 3_000, 6_000, 9_000, 10_000]),
        (1_281_167, 224, (512, 480), True, [500, 6_000, 12_000, 18_000, 20_000]),
    ],
    ids=["flowers", "cifar", "imagenet"],
)
def test_bits_rule_is_the_authors(examples, side, crop, mixed, steps):
    hyper_rule = runpy.run_path(str(APP / "configs" / "finetune_bit_r50x1.py"))["hyper_rule"]
    rule = hyper_rule(examples, side, side)
    resize, random_crop, flip = (t["args"] for t in rule["transforms"]["train_transforms"])
    assert (resize["height"], random_crop["width"]) == crop
    assert flip == {"probability": 0.5}
    assert (rule["batch_transform"] is not None) == rule["transforms"]["one_hot"] == mixed
    schedule = rule["schedule"]["args"]
    ends = [schedule["warmup_steps"], *schedule["boundary_steps"], rule["total_steps"]]
    assert ends == steps
