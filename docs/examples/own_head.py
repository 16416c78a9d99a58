"""Published weights with a head of one's own: ``python own_head.py vit_tiny_patch16_224 100``."""

import itertools
import sys

import jax
import optax
from flax import linen as nn

import scenax.data
import scenax.models


class WithHead(nn.Module):
    backbone: nn.Module

    @nn.compact
    def __call__(self, images, *, train):
        features = self.backbone(images, train=train)  # [b, backbone.num_features]
        return nn.Dense(10)(nn.gelu(nn.Dense(256)(features)))


def loss_fn(params, batch):
    logits = model.apply({"params": params}, batch["inputs"], train=False)
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()


@jax.jit
def step(params, state, batch):
    updates, state = optimizer.update(jax.grad(loss_fn)(params, batch), state, params)
    return optax.apply_updates(params, updates), state


source, steps = sys.argv[1], int(sys.argv[2])
dataset = scenax.data.get_dataset("digits", batch_size=64, eval_batch_size=374, image_size=32)
backbone = scenax.models.pretrained_model(source, num_classes=0, img_size=32, in_chans=1)
model, optimizer = WithHead(backbone), optax.adamw(3e-4)
params = model.init(jax.random.key(0), next(dataset.train_iter)["inputs"], train=False)["params"]
params["backbone"] = scenax.models.load_pretrained(backbone, source)["params"]
state = optimizer.init(params)
for batch in itertools.islice(dataset.train_iter, steps):
    params, state = step(params, state, batch)
(test,) = dataset.test_iter  # All of it is one batch.
guesses = model.apply({"params": params}, test["inputs"], train=False).argmax(-1)
print(f"{backbone.num_features} features, top-1 {(guesses == test['label']).mean():.3f}")
