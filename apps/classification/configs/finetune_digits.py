"""The small vision transformer of ``pretrain_digits.py`` fine-tuned on the digits 5 to 9.

The second half of ``python -m apps.classification.demo_finetune``: other classes, images of 12
pixels instead of 8, few steps. Layer-wise decay of the learning rate as in BEiT (arXiv 2106.08254),
a head that starts fresh and learns faster, and a moving average of the parameters. Expected: test
top-1 0.93, and 0.31 from scratch. Hardware: two CPU cores, some ten seconds.

    python -m apps.classification.main --config=apps/classification/configs/finetune_digits.py \
        --config.weights=runs/pretrain_digits/exported --workdir=runs/finetune_digits
"""


def get_config():
    return {
        "dataset": {
            "name": "digits",
            "args": {"augment": "affine", "classes": [5, 6, 7, 8, 9], "image_size": 12},
        },
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
        "weights": "runs/pretrain_digits/exported",
        "fresh": ["head.*"],
        "optimizer": {
            "name": "adamw",
            "learning_rate": 1e-3,
            "clip_norm": 1.0,
            "args": {"weight_decay": 0.05, "layer_decay": 0.75, "rates": {"^head/": 3.0}},
        },
        "schedule": {"name": "cosine", "args": {"warmup_steps": 10}},
        "ema_decay": 0.9,
        "batch_size": 64,
        "total_steps": 60,
        "evaluate_every": 30,
        "save_every": 30,
        "log_every": 10,
    }
