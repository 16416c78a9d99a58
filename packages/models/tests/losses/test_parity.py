"""Every loss beside torch, torchvision and transformers; see ``goldens/make_losses.py``."""

import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scenax.models.losses import boxes, classification, contrastive, distillation, segmentation

GOLDENS = pathlib.Path(__file__).parent / "goldens"
WANTED = np.load(GOLDENS / "losses.npz")
X = runpy.run_path(str(GOLDENS / "make_losses.py"))["inputs"]()


def x(name):
    value = X[name]
    return jnp.asarray(value, jnp.float32 if value.dtype == np.float64 else jnp.int32)


def class_weights():
    return [float(w) for w in X["class_weights"]]


CASES = {
    "sigmoid": lambda: classification.sigmoid_cross_entropy(x("logits"), x("multi_hot")),
    "focal": lambda: classification.sigmoid_focal(x("logits"), x("multi_hot")),
    "pixel": lambda: segmentation.pixel_cross_entropy(x("pixels"), x("pixel_labels")),
    "pixel_weighted": lambda: segmentation.pixel_cross_entropy(
        x("pixels"), x("pixel_labels"), class_weights=class_weights()
    ),
    "pixel_smooth": lambda: segmentation.pixel_cross_entropy(
        x("pixels"), x("pixel_labels"), class_weights=class_weights(), label_smoothing=0.2
    ),
    "l1": lambda: boxes.l1(x("boxes"), x("others")),
    "smooth_l1": lambda: boxes.smooth_l1(x("boxes"), x("others"), beta=0.11),
    "huber": lambda: boxes.huber(x("boxes"), x("others"), delta=0.11),
    "giou": lambda: boxes.giou(x("boxes"), x("others")),
    "diou": lambda: boxes.diou(x("boxes"), x("others")),
    "ciou": lambda: boxes.ciou(x("boxes"), x("others")),
    "soft_distillation": lambda: distillation.soft_distillation(
        x("logits"), x("teacher"), temperature=3.0
    ),
    "hard_distillation": lambda: distillation.hard_distillation(x("logits"), x("teacher")),
    "clip": lambda: contrastive.softmax_contrastive(
        x("image_embeddings"), x("text_embeddings"), jnp.array(7.0), jnp.ones(6)
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(name):
    np.testing.assert_allclose(jax.jit(CASES[name])(), WANTED[name], rtol=2e-5, atol=2e-6)


OF_LOGITS = {
    "softmax": lambda z: classification.softmax_cross_entropy(z, jnp.argmax(x("multi_hot"), 1)),
    "sigmoid": lambda z: classification.sigmoid_cross_entropy(z, x("multi_hot")),
    "focal": lambda z: classification.sigmoid_focal(z, x("multi_hot"), gamma=1.5),
    "soft_distillation": lambda z: distillation.soft_distillation(z, x("teacher")),
    "dice": lambda z: segmentation.dice(z, x("multi_hot")),
    "generalized_dice": lambda z: segmentation.generalized_dice(
        z[None, :, None], x("pixel_labels")[:1, :1, :1] * 0 + jnp.arange(8)[None, :, None] % 5
    ),
}


@pytest.mark.parametrize("name", OF_LOGITS)
def test_gradients_are_those_of_finite_differences(name):
    def total(z):
        return jnp.sum(OF_LOGITS[name](z))

    z, at = x("logits"), np.random.default_rng(1).normal(size=(8, 5))
    slope = float(jnp.sum(jax.grad(total)(z) * jnp.asarray(at, jnp.float32)))
    step = 1e-2
    moved = [float(total(z + jnp.asarray(s * step * at, jnp.float32))) for s in (1, -1)]
    assert slope == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=5e-3, abs=5e-4)


@pytest.mark.parametrize("name", OF_LOGITS)
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_extreme_logits_have_finite_values_and_gradients(name, size):
    z = jnp.sign(x("logits")) * size
    value, slope = jax.value_and_grad(lambda z: jnp.sum(OF_LOGITS[name](z)))(z)
    assert np.isfinite(value) and np.isfinite(slope).all()
