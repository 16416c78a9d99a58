"""BiT-M-R50x1 from ImageNet-21k, fine-tuned on CIFAR-10 by BiT's HyperRule.

Source: Kolesnikov et al., Big Transfer, arXiv 1912.11370, section 3.3, and the authors' code: the
number of training examples and their size decide all there is to decide. Batches of 512, SGD with
momentum 0.9 and 0.003 after a warm-up, a tenth of it three times, no weight decay; mixup 0.1 if
there are 20,000 examples or more.
Published: 97.2 % top-1 on the test set. Hardware there: 8 V100. Different here: 49,000 examples,
since the others are for validation. Not run in full by us.

Needs cifar10 prepared in --data_dir; without it the command says how to prepare it.

    python -m apps.classification.main --data_dir=DATA --workdir=runs/finetune_bit_r50x1 \
        --config=apps/classification/configs/finetune_bit_r50x1.py

For another dataset write its name, number of examples, height and width into ``get_config``.
"""

from scenax.data.transforms import to_plain
from scenax.data.transforms.geometry import RandomCrop, RandomFlip, Resize
from scenax.data.transforms.mixing import Mixup

SCHEDULES = (
    (20_000, (100, 200, 300, 400, 500)),
    (500_000, (500, 3_000, 6_000, 9_000, 10_000)),
    (float("inf"), (500, 6_000, 12_000, 18_000, 20_000)),
)
"""Below so many examples: steps at which the warm-up ends, the rate falls and training ends."""


def hyper_rule(num_examples, height, width):
    """Returns what of a configuration depends on a dataset."""
    resized, crop = (160, 128) if height * width < 96 * 96 else (512, 480)
    steps = next(steps for below, steps in SCHEDULES if num_examples < below)
    warmup, *decays, end = steps
    mixed = num_examples >= 20_000
    return {
        "transforms": {
            "image_size": crop,
            "train_transforms": to_plain(
                [Resize(resized, resized), RandomCrop(crop, crop), RandomFlip()]
            ),
            "eval_transforms": to_plain([Resize(crop, crop)]),
            "one_hot": mixed,  # As mixup wants them.
        },
        "batch_transform": to_plain([Mixup(0.1, per_example=False)])[0] if mixed else None,
        "schedule": {"name": "step", "args": {"warmup_steps": warmup, "boundary_steps": decays}},
        "total_steps": end,
    }


def get_config():
    rule = hyper_rule(49_000, 32, 32)
    return {
        "dataset": {"name": "cifar10", "args": rule.pop("transforms")},
        "model": {"name": "resnetv2_50x1_bit"},
        "weights": "resnetv2_50x1_bit.goog_in21k",
        "optimizer": {"name": "sgd", "learning_rate": 0.003, "args": {"momentum": 0.9}},
        "batch_size": 512,
        "evaluate_every": 500,
        "save_every": 500,
        **rule,
    }
