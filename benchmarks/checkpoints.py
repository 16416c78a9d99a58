"""How long a checkpoint takes until it is complete on disk, and to be there again.

Of a ViT-Ti/16 with AdamW, 69 MB, on one device and in the folder for temporary files. Medians of
three; what is restored was written just before, so that it comes from the system's cache.
"""

import dataclasses
import math
import pathlib
import statistics
import tempfile
import time

from benchmarks import device

# asv forks its processes from one that has imported this module: jax is imported in functions.
version = "1"

MODEL = "vit_tiny_patch16_224"
ROUNDS = 3

NEEDED = ("scenax.train.checkpoints", "scenax.train.sharding", "scenax.train.state")
"""What a commit has to have: without, the graph has a gap."""


def setup_cache() -> dict[str, float]:
    """Returns the milliseconds to save and to restore; none if the commit cannot do it."""
    device.require()
    try:
        return measure(MODEL)
    except ImportError as error:
        if error.name not in NEEDED:
            raise  # It is there, and broken.
        return {}


setup_cache.timeout = 600


def track_save_time(times: dict[str, float]) -> float:
    """Returns the milliseconds from a state to a complete checkpoint."""
    return times.get("save", math.nan)


track_save_time.unit = "ms"


def track_restore_time(times: dict[str, float]) -> float:
    """Returns the milliseconds from a checkpoint to a state on the device, checked."""
    return times.get("restore", math.nan)


track_restore_time.unit = "ms"


def measure(architecture: str) -> dict[str, float]:
    """Returns the milliseconds to save and to restore an architecture's training state."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from scenax.common.contracts import DatasetInfo
    from scenax.models import ClassificationModel
    from scenax.train.checkpoints import Checkpoint, Checkpoints
    from scenax.train.sharding import make_mesh
    from scenax.train.state import create_state

    shape, classes = (224, 224, 3), tuple(map(str, range(1000)))
    info = DatasetInfo("images", shape, "float32", len(classes), classes, {"train": 1})
    model = ClassificationModel({"architecture": architecture}, info)
    batch = {
        "inputs": np.zeros((1, *shape), np.float32),
        "label": np.zeros(1, np.int32),
        "batch_mask": np.ones(1, np.float32),
    }
    mesh = make_mesh(jax.devices()[:1])
    state = create_state(model, optax.adamw(1e-3), batch, seed=0, mesh=mesh)
    saving, restoring = [], []
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(pathlib.Path(folder) / "checkpoints")
        for number in range(1 + ROUNDS):
            step = jax.device_put(jnp.int32(number), state.step.sharding)
            state = jax.block_until_ready(dataclasses.replace(state, step=step))
            began = time.perf_counter()
            checkpoints.save(Checkpoint(state, {}, 0.0))
            checkpoints.wait()
            saved = time.perf_counter()
            restored = checkpoints.restore_latest(state)
            if restored is None:
                raise RuntimeError(f"The checkpoint of step {number} is not there.")
            jax.block_until_ready(restored.state.params)
            saving.append(1000 * (saved - began))
            restoring.append(1000 * (time.perf_counter() - saved))
        checkpoints.close()
    # Without the first, which compiles.
    return {"save": statistics.median(saving[1:]), "restore": statistics.median(restoring[1:])}
