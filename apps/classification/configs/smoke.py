"""Forty steps of the tiniest transformer: to see in a moment that everything turns.

Expected: test top-1 about 0.85. Hardware: two CPU cores, a few seconds.

    python -m apps.classification.main --config=apps/classification/configs/smoke.py \
        --workdir=runs/smoke
"""


def get_config():
    return {
        "dataset": {"name": "digits"},
        "model": {
            "name": "test_vit",
            "args": {
                "img_size": 8,
                "patch_size": 4,
                "depth": 2,
                "global_pool": "avg",
                "drop_path_rate": 0.1,
            },
        },
        "optimizer": {"name": "adamw", "learning_rate": 1e-2, "clip_norm": 1.0},
        "schedule": {"name": "cosine", "args": {"warmup_steps": 4}},
        "batch_size": 64,
        "total_steps": 40,
        "evaluate_every": 20,
        "save_every": 10,
        "log_every": 5,
    }
