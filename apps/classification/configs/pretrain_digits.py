"""A small vision transformer on the digits 0 to 4, to be fine-tuned on the others.

The first half of ``python -m apps.classification.demo_finetune``. Architecture: ViT (arXiv
2010.11929) as in ``digits_vit.py``. Expected: test top-1 0.99. Hardware: two CPU cores, half a
minute.

    python -m apps.classification.main --config=apps/classification/configs/pretrain_digits.py \
        --workdir=runs/pretrain_digits
"""


def get_config():
    return {
        "dataset": {"name": "digits", "args": {"augment": "affine", "classes": [0, 1, 2, 3, 4]}},
        "model": {
            "name": "vit_tiny_patch16_224",
            "args": {
                "patch_size": 2,
                "embed_dim": 128,
                "depth": 3,
                "num_heads": 4,
                "mlp_ratio": 2.0,
                "global_pool": "avg",
            },
        },
        "optimizer": {
            "name": "adamw",
            "learning_rate": 1e-3,
            "clip_norm": 1.0,
            "args": {"weight_decay": 0.05},
        },
        "schedule": {"name": "cosine", "args": {"warmup_steps": 100}},
        "batch_size": 64,
        "total_steps": 600,
        "evaluate_every": 200,
        "save_every": 200,
    }
