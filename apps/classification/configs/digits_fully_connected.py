"""One hidden layer on the embedded handwritten digits: the smallest model there is to compare with.

Expected: test top-1 about 0.99. Hardware: two CPU cores, about 10 seconds of training.

    python -m apps.classification.main \
        --config=apps/classification/configs/digits_fully_connected.py --workdir=runs/digits_fc
"""


def get_config():
    return {
        "dataset": {"name": "digits"},
        "model": {"name": "fully_connected", "args": {"hid_sizes": (128,)}},
        "optimizer": {
            "name": "adamw",
            "learning_rate": 3e-3,
            "args": {"weight_decay": 0.05},
        },
        "schedule": {"name": "cosine", "args": {"warmup_steps": 50}},
        "batch_size": 64,
        "total_steps": 1000,
        "evaluate_every": 250,
        "save_every": 250,
    }
