"""How long a checkpoint takes to save, until it is complete on disk, and to restore.

The state is that of a vision transformer with AdamW, 69 MB on one device. A figure is the median of
three rounds, each in a folder of its own, after one that is not timed. What is restored was just
written, so it is read from the memory that the system keeps files in.
"""

import pathlib
import statistics
import tempfile
import time
from typing import Any

from benchmarks import device

version = "1"  # A new one would drop a figure's history.

ROUNDS = 3
MODEL = "vit_tiny_patch16_224"


def setup_cache() -> dict[str, float]:
    """Returns milliseconds to ``"save"`` and to ``"restore"``; nothing if the commit cannot."""
    device.require()
    try:
        from scenax.common.contracts import DatasetInfo
        from scenax.models import ClassificationModel
        from scenax.train.checkpoints import Checkpoint, Checkpoints
        from scenax.train.sharding import make_mesh
        from scenax.train.state import abstract_state, create_state
    except ImportError as error:
        if not (error.name or "").startswith("scenax"):
            raise
        return {}
    import numpy as np
    import optax

    classes = tuple(map(str, range(1000)))
    info = DatasetInfo("noise", (224, 224, 3), "float32", 1000, classes, {"train": 1})
    model = ClassificationModel({"architecture": MODEL}, info)
    batch = {
        "inputs": np.zeros((1, 224, 224, 3), np.float32),
        "label": np.zeros(1, np.int32),
        "batch_mask": np.ones(1, np.float32),
    }
    mesh, optimizer = make_mesh(), optax.adamw(1e-3)
    checkpoint = Checkpoint(create_state(model, optimizer, batch, seed=0, mesh=mesh), {}, 0.0)
    like = abstract_state(model, optimizer, batch, mesh=mesh)
    rounds = []
    for _ in range(1 + ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            checkpoints = Checkpoints(pathlib.Path(folder))
            rounds.append(_milliseconds(checkpoints, checkpoint, like))
            checkpoints.close()
    save, restore = (statistics.median(times) for times in zip(*rounds[1:], strict=True))
    return {"save": save, "restore": restore}


setup_cache.timeout = 600


def track_save_time(figures: dict[str, float]) -> float:
    """Returns milliseconds until a checkpoint is complete."""
    return figures.get("save", float("nan"))


track_save_time.unit = "ms"


def track_restore_time(figures: dict[str, float]) -> float:
    """Returns milliseconds until its state is on the device again."""
    return figures.get("restore", float("nan"))


track_restore_time.unit = "ms"


def _milliseconds(checkpoints: Any, checkpoint: Any, like: Any) -> tuple[float, float]:
    import jax

    jax.block_until_ready(checkpoint.state)
    began = time.perf_counter()
    checkpoints.save(checkpoint)
    checkpoints.wait()
    saved = time.perf_counter()
    jax.block_until_ready(checkpoints.restore_latest(like).state)
    return 1000 * (saved - began), 1000 * (time.perf_counter() - saved)
