import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scenax.models.losses import segmentation

RNG = np.random.default_rng(0)


def test_dice_by_hand():
    logits, target = RNG.normal(size=(3, 4, 5)), RNG.uniform(size=(3, 4, 5)) < 0.4
    p = 1 / (1 + np.exp(-logits))
    wanted = [
        1 - (2 * sum(a[b]) + 1) / (a.sum() + b.sum() + 1) for a, b in zip(p, target, strict=True)
    ]
    got = segmentation.dice(jnp.asarray(logits, jnp.float32), jnp.asarray(target))
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_nothing_predicted_where_nothing_is_costs_nothing():
    got = segmentation.dice(jnp.full((2, 3, 3), -1e4), jnp.zeros((2, 3, 3), bool))
    np.testing.assert_allclose(got, [0, 0], atol=1e-7)


def test_generalized_dice_by_hand():
    logits, labels = RNG.normal(size=(2, 3, 4, 3)), RNG.integers(0, 3, (2, 3, 4))
    labels[1, 0] = 255
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    wanted = []
    for image, label in zip(p, labels, strict=True):
        above = below = 0.0
        for k in range(3):
            pixels = label == k
            weight = 1 / max(pixels.sum(), 1) ** 2
            above += weight * image[pixels, k].sum()
            below += weight * (image[label < 3, k].sum() + pixels.sum())
        wanted.append(1 - 2 * above / below)
    got = segmentation.generalized_dice(jnp.asarray(logits, jnp.float32), jnp.asarray(labels))
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_an_image_without_labels_costs_nothing():
    logits, labels = jnp.ones((1, 2, 2, 3)), jnp.full((1, 2, 2), 255)
    for loss in (segmentation.generalized_dice, segmentation.pixel_cross_entropy):
        value, slope = jax.value_and_grad(lambda z, f=loss: jnp.sum(f(z, labels)))(logits)
        assert float(value) == 0
        np.testing.assert_array_equal(slope, np.zeros((1, 2, 2, 3)))


def test_balanced_class_weights():
    # Scenic's rule by hand: p = 0.5 p + 0.5, then inverses of mean 1.
    p = np.array([0.7, 0.2, 0.1]) * 0.5 + 0.5
    wanted = 3 / p / (1 / p).sum()
    np.testing.assert_allclose(segmentation.balanced_class_weights([7, 2, 1], 0.5), wanted)
    assert segmentation.balanced_class_weights([7, 2, 1], 0) == (1, 1, 1)
    assert max(segmentation.balanced_class_weights([7, 0, 1])) < 3 + 1e-6


def test_a_wrong_number_of_weights():
    with pytest.raises(ValueError, match="3 classes need as many weights, got 1"):
        segmentation.pixel_cross_entropy(
            jnp.ones((1, 2, 2, 3)), jnp.zeros((1, 2, 2), jnp.int32), class_weights=[1.0]
        )
