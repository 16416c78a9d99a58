"""ViT-S/16 on ImageNet-1k from scratch, by the recipe of "Better plain ViT baselines".

Source: Beyer, Zhai and Kolesnikov, arXiv 2205.01580, as in big_vision's ``vit_s16_i1k`` config:
90 epochs of train[:99%] in batches of 1,024, inception crop, flip, RandAugment(2, 10), mixup 0.2,
Adam with a first moment in bfloat16 and a peak of 1e-3 after 10,000 steps of warm-up, cosine,
weight decay 1e-4 that does not depend on the learning rate, gradients clipped at 1, global average
pooling.
Published: 76.5 % top-1 on the validation set, in 6 to 7 hours on a TPU v3-8 (300 epochs: 80 %).
Different here: position embeddings are learned and the head is one linear layer, as in timm's ViT.
Not run in full by us.

Needs ImageNet prepared in --data_dir; without it the command says how to prepare it.

    python -m apps.classification.main --config=apps/classification/configs/imagenet_vit_s16.py \
        --data_dir=DATA --workdir=runs/imagenet_vit_s16
"""

from scenax.data.transforms import to_plain
from scenax.data.transforms.geometry import RandomFlip, RandomResizedCrop
from scenax.data.transforms.mixing import Mixup
from scenax.data.transforms.policies import RandAugment


def get_config():
    crop = RandomResizedCrop(224, area=(0.05, 1.0))
    return {
        "dataset": {
            "name": "imagenet2012",
            "args": {
                "train_transforms": to_plain([crop, RandomFlip(), RandAugment(2, 10)]),
                "one_hot": True,  # As mixup wants them.
            },
        },
        "batch_transform": to_plain([Mixup(0.2)])[0],
        "model": {
            "name": "vit_small_patch16_224",
            "args": {"global_pool": "avg", "dtype": "bfloat16"},
        },
        "optimizer": {
            "name": "adam",
            "learning_rate": 1e-3,
            "clip_norm": 1.0,
            "args": {"independent_weight_decay": 1e-4, "mu_dtype": "bfloat16"},
        },
        "schedule": {"name": "cosine", "args": {"warmup_steps": 10_000}},
        "batch_size": 1024,
        "total_steps": 111_476,  # 90 epochs of 1,268,356 images.
        "evaluate_every": 2_500,
        "save_every": 1_000,
        "eval_batch_size": 1024,
    }
