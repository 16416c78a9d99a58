"""ViT-B/16 from ImageNet-21k, fine-tuned on a folder of pictures or on a dataset of TFDS.

Weights: AugReg's (Steiner et al., arXiv 2106.10270). Recipe: that of MAE (He et al., arXiv
2111.06377, table 9) without its augmentation policies: AdamW with 1e-3 for 256 images, hence a
quarter of it for 64, weight decay 0.05, layer-wise decay of the rate 0.75, a twentieth of the steps
of warm-up, stochastic depth 0.1, label smoothing 0.1. Expected: the
top-1 depends on the pictures; not run by us on these weights, which need a network. Hardware:
minutes on a GPU.

    python -m apps.classification.main --config=apps/classification/configs/finetune_vit_b16.py \
        --data_dir=photos --workdir=runs/photos

``--config.dataset.name=oxford_iiit_pet`` and the like take datasets of TFDS; other weights are
``--config.weights=SOURCE`` with ``--config.model.name=NAME``.
"""

from scenax.data.transforms import to_plain
from scenax.data.transforms.geometry import RandomFlip, RandomResizedCrop

STEPS = 1000


def get_config():
    crop = RandomResizedCrop(224, area=(0.35, 1.0))
    return {
        "dataset": {
            "name": "image_folder",
            "args": {"train_transforms": to_plain([crop, RandomFlip()])},
        },
        "model": {
            "name": "vit_base_patch16_224",
            "args": {"drop_path_rate": 0.1},
            "label_smoothing": 0.1,
        },
        "weights": "vit_base_patch16_224.augreg_in21k",
        "optimizer": {
            "name": "adamw",
            "learning_rate": 2.5e-4,
            "clip_norm": 1.0,
            "args": {"weight_decay": 0.05, "layer_decay": 0.75},
        },
        "schedule": {"name": "cosine", "args": {"warmup_steps": STEPS // 20}},
        "ema_decay": 0.99,
        "batch_size": 64,
        "total_steps": STEPS,
        "evaluate_every": 200,
        "save_every": 200,
        "eval_batch_size": 64,
    }
