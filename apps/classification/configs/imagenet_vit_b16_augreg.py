"""ViT-B/16 on ImageNet-1k from scratch, by the recipe of AugReg.

Source: Steiner et al., How to train your ViT?, arXiv 2106.10270, as in big_vision's ``vit_i1k``
config with its augmentation "medium2": 300 epochs of train[:99%] in batches of 4,096, inception
crop, flip, RandAugment(2, 15), mixup 0.5, binary cross-entropy, Adam with a first moment in
bfloat16 and a peak of 1e-3 after 10,000 steps of warm-up, cosine, weight decay 1e-4 that does not
depend on the learning rate, gradients clipped at 1.
Published: 79.2 % top-1 on the validation set, of the weights that timm has as augreg_in1k.
Different here: no hidden layer in the head, whose biases begin at 0 and not at -6.9. Not run in
full by us.

Needs ImageNet prepared in --data_dir; without it the command says how to prepare it.

    python -m apps.classification.main --data_dir=DATA --workdir=runs/imagenet_vit_b16_augreg \
        --config=apps/classification/configs/imagenet_vit_b16_augreg.py
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
                "train_transforms": to_plain([crop, RandomFlip(), RandAugment(2, 15)]),
                "one_hot": True,  # As mixup wants them.
            },
        },
        "batch_transform": to_plain([Mixup(0.5)])[0],
        "model": {
            "name": "vit_base_patch16_224",
            "args": {"dtype": "bfloat16"},
            "loss": "sigmoid",
        },
        "optimizer": {
            "name": "adam",
            "learning_rate": 1e-3,
            "clip_norm": 1.0,
            "args": {"independent_weight_decay": 1e-4, "mu_dtype": "bfloat16"},
        },
        "schedule": {"name": "cosine", "args": {"warmup_steps": 10_000}},
        "batch_size": 4096,
        "total_epochs": 300,
        "evaluate_every": 2_500,
        "save_every": 1_000,
        "eval_batch_size": 1024,
    }
