"""However many devices there are and whatever each holds, training computes the same."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import scenax.models
from scenax.common.contracts import DatasetInfo
from scenax.models import ClassificationModel, DetectionModel
from scenax.train import estimate, sharding, state, step

STEPS, BATCH, SIDE, CLASSES = 20, 16, 32, 5
INFO = DatasetInfo("pictures", (SIDE, SIDE, 3), "float32", CLASSES, tuple("abcde"), {"train": 64})


@pytest.fixture(autouse=True, scope="module")
def _optax_mixes_integers_and_floats():
    with jax.numpy_dtype_promotion("standard"):
        yield


class Detector(nn.Module):
    """DETR in small: learned queries that attend to patches."""

    num_classes: int
    width: int = 128

    @nn.compact
    def __call__(self, x, *, train):
        del train
        x = nn.Conv(self.width, (8, 8), (8, 8), name="patch_embed")(x)
        patches = x.reshape(len(x), -1, self.width)
        queries = self.param("queries", nn.initializers.normal(1.0), (1, 6, self.width))
        queries = jnp.broadcast_to(queries, (len(x), 6, self.width))
        for i in range(2):
            queries += nn.MultiHeadDotProductAttention(4, name=f"attn_{i}")(
                nn.LayerNorm(name=f"norm_{i}")(queries), patches
            )
        return {
            "logits": nn.Dense(self.num_classes + 1, name="class_head")(queries),
            "boxes": nn.sigmoid(nn.Dense(4, name="box_head")(queries)),
        }


scenax.models.register_model("tiny_detector")(Detector)


def batch(index):
    rng = np.random.default_rng(index)
    inputs = rng.normal(size=(BATCH, SIDE, SIDE, 3)).astype(np.float32)
    return {"inputs": inputs, "label": rng.integers(0, CLASSES, BATCH, dtype=np.int32)}


def batch_of_boxes(index):
    rng = np.random.default_rng(index)
    corners = np.sort(rng.uniform(size=(BATCH, 4, 2, 2)), axis=2).reshape(BATCH, 4, 4)
    label = {
        "boxes": corners.astype(np.float32),
        "classes": rng.integers(0, CLASSES, (BATCH, 4), dtype=np.int32),
        "mask": (np.arange(4) < rng.integers(1, 5, (BATCH, 1))).astype(np.float32),
    }
    return batch(index) | {"label": label}


VIT = {"img_size": SIDE, "patch_size": 8, "depth": 2, "num_classes": CLASSES}
RUNS = {
    "vit": (
        lambda: ClassificationModel({"architecture": "vit_tiny_patch16_224", "args": VIT}, INFO),
        batch,
        optax.adamw(1e-3, weight_decay=0.05),
        np.float32,
    ),
    # In float64, parameters too, since rounding decides at a kink of ReLU or max-pooling, and batch
    # normalization over few values makes much of it: in float32 the losses part after 8 steps, and
    # by 1e-3.
    "resnet": (
        lambda: ClassificationModel(
            {"architecture": "test_resnet", "args": {"dtype": "float64"}}, INFO
        ),
        batch,
        optax.sgd(0.01, momentum=0.9),
        np.float64,
    ),
    "detector": (
        lambda: DetectionModel({"architecture": "tiny_detector"}, INFO),
        batch_of_boxes,
        optax.adamw(1e-3),
        np.float32,
    ),
}
"""Of each: the model, its batches, the optimizer, and the type of parameters."""


def train(name, *, devices=8, model=1, strategy="replicated", steps=STEPS, **options):
    """The losses of the steps, and the state after them."""
    with jax.enable_x64(RUNS[name][-1] == np.float64):
        return _train(name, devices, model, strategy, steps, options)


def _train(name, devices, model, strategy, steps, options):
    make, make_batch, optimizer, dtype = RUNS[name]
    network = make()
    mesh = sharding.make_mesh(jax.devices()[:devices], model=model)
    start = state.create_state(
        network, optimizer, make_batch(0), seed=0, mesh=mesh, rules=sharding.make_rules(strategy)
    )
    start = jax.tree.map(lambda x: x.astype(dtype) if x.dtype == np.float32 else x, start)
    placed = jax.tree.map(lambda x: x.sharding, start)
    update = step.make_train_step(network, optimizer, mesh, state_sharding=placed, **options)
    at, losses = start, []
    for index in range(steps):
        at, metrics = update(at, sharding.put_batch(make_batch(index % 4), mesh))
        total, count = metrics["loss"]
        losses.append(float(total) / float(count))
    assert jax.tree.map(lambda x: x.sharding.spec, at) == jax.tree.map(lambda x: x.spec, placed)
    return np.array(losses), at


@pytest.fixture(scope="module")
def alone():
    """The losses of each run on one device, computed when first asked for."""
    found = {}

    def losses(name):
        if name not in found:
            found[name] = train(name, devices=1)[0]
        return found[name]

    return losses


@pytest.mark.parametrize(
    ("name", "strategy", "model"),
    [
        ("vit", "replicated", 1),
        ("vit", "fsdp", 1),
        ("vit", "tensor", 4),
        ("vit", "fsdp+tensor", 2),
        ("resnet", "replicated", 1),
        ("resnet", "fsdp", 1),
        ("detector", "replicated", 1),
        ("detector", "fsdp", 1),
    ],
)
def test_losses_are_those_of_one_device(alone, name, strategy, model):
    losses, at = train(name, strategy=strategy, model=model)
    expected = alone(name)
    assert expected[-1] < 0.9 * expected[0]  # It learns.
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    held = estimate.bytes_per_device((at.params, at.opt_state))
    whole = sum(x.nbytes for x in jax.tree.leaves((at.params, at.opt_state)))
    split = sum(
        shard.data.nbytes
        for x in jax.tree.leaves((at.params, at.opt_state))
        for shard in x.addressable_shards
        if shard.device == jax.devices()[3]
    )
    assert held == split
    most = {"replicated": 1.0, "fsdp": 0.3, "tensor": 0.5, "fsdp+tensor": 0.3}[strategy]
    assert held <= most * whole
