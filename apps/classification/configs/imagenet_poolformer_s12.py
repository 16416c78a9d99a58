"""PoolFormer-S12 on ImageNet-1k from scratch.

Source: Yu et al., MetaFormer is actually what you need for vision, arXiv 2111.11418, section 4.1,
and the authors' code: 300 epochs in batches of 4,096, AdamW with 1e-3 for 1,024 images, hence 4e-3,
weight decay 0.05, five epochs of warm-up, cosine, stochastic depth 0.1, label smoothing 0.1,
RandAugment 9, mixup 0.8 or CutMix 1.0, random erasing 0.25, as in DeiT.
Published: 77.2 % top-1 on the validation set.
Different here: RandAugment is the TPU code's, not timm's, which is stronger at higher magnitudes in
every operation and has noise on the magnitude; warm-up is from 0; train[:99%] instead of all. Not
run in full by us.

Needs ImageNet prepared in --data_dir; without it the command says how to prepare it.

    python -m apps.classification.main --data_dir=DATA --workdir=runs/imagenet_poolformer_s12 \
        --config=apps/classification/configs/imagenet_poolformer_s12.py
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
            "name": "poolformer_s12",
            "args": {"drop_path_rate": 0.1, "dtype": "bfloat16"},
            "label_smoothing": 0.1,
        },
        "optimizer": {
            "name": "adamw",
            "learning_rate": 4e-3,
            "args": {"weight_decay": 0.05},
        },
        "schedule": {"name": "cosine", "args": {"warmup_epochs": 5, "final": 1e-5}},
        "batch_size": 4096,
        "total_epochs": 300,
        "evaluate_every": 2_500,
        "save_every": 1_000,
        "eval_batch_size": 1024,
    }
