"""ConvNeXt-T on ImageNet-1k from scratch.

Source: Liu et al., A ConvNet for the 2020s, arXiv 2201.03545, table 5, and the authors' code: 300
epochs in batches of 4,096, AdamW with a peak of 4e-3, weight decay 0.05, twenty epochs of warm-up,
cosine to 1e-6, stochastic depth 0.1, label smoothing 0.1, RandAugment 9, mixup 0.8 or CutMix 1.0,
random erasing 0.25, a moving average of the parameters of 0.9999, which is evaluated.
Published: 82.1 % top-1 on the validation set, on 32 GPUs.
Different here: RandAugment is the TPU code's, not timm's, which is stronger at higher magnitudes in
every operation and has noise on the magnitude; train[:99%] instead of all. Not run in full by us.

Needs ImageNet prepared in --data_dir; without it the command says how to prepare it.

    python -m apps.classification.main --data_dir=DATA --workdir=runs/imagenet_convnext_t \
        --config=apps/classification/configs/imagenet_convnext_t.py
"""

from scenax.data.transforms import to_plain
from scenax.data.transforms.geometry import RandomFlip, RandomResizedCrop
from scenax.data.transforms.image import IMAGENET_MEAN, IMAGENET_STD, Normalize, RandomErasing
from scenax.data.transforms.mixing import CutMix, Mixup, MixupOrCutMix
from scenax.data.transforms.policies import RandAugment


def get_config():
    normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
    crop = RandomResizedCrop(224, method="bicubic")
    train = [crop, RandomFlip(), RandAugment(2, 9), normalize, RandomErasing(0.25)]
    mix = MixupOrCutMix(Mixup(0.8, per_example=False), CutMix(1.0, per_example=False))
    return {
        "dataset": {
            "name": "imagenet2012",
            "args": {
                "train_transforms": to_plain(train),
                "normalize": to_plain([normalize])[0],
                "one_hot": True,  # As mixing wants them.
            },
        },
        "batch_transform": to_plain([mix])[0],
        "model": {
            "name": "convnext_tiny",
            "args": {"drop_path_rate": 0.1, "dtype": "bfloat16"},
            "label_smoothing": 0.1,
        },
        "optimizer": {
            "name": "adamw",
            "learning_rate": 4e-3,
            "args": {"weight_decay": 0.05},
        },
        "schedule": {"name": "cosine", "args": {"warmup_epochs": 20, "final": 1e-6}},
        "ema_decay": 0.9999,
        "batch_size": 4096,
        "total_epochs": 300,
        "evaluate_every": 2_500,
        "save_every": 1_000,
        "eval_batch_size": 1024,
    }
