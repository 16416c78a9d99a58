import jax.numpy as jnp
import numpy as np
import pytest

from scenax.models.losses.classification import softmax_cross_entropy

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 4)).astype(np.float32) * 3
LABELS = np.array([0, 1, 2, 3, 1, 1], np.int32)


def by_hand(logits, targets, smoothing=0.0, weights=(1.0, 1.0, 1.0, 1.0)):
    """The definition, one term at a time, in float64."""
    values = []
    for row, target in zip(logits.astype(float), targets, strict=True):
        probabilities = [np.exp(score) / sum(np.exp(row)) for score in row]
        smooth = [(1 - smoothing) * t + smoothing / len(row) for t in target]
        terms = zip(weights, smooth, probabilities, strict=True)
        values.append(-sum(w * t * np.log(p) for w, t, p in terms))
    return np.array(values)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 0.5, 0.0)])
def test_against_the_definition(smoothing, weights):
    options = {"label_smoothing": smoothing, "class_weights": weights}
    got = softmax_cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABELS), **options)
    wanted = by_hand(LOGITS, np.eye(4)[LABELS], smoothing, weights or (1.0,) * 4)
    np.testing.assert_allclose(got, wanted, rtol=2e-6)
    one_hot = jnp.asarray(np.eye(4, dtype=np.float32)[LABELS])
    np.testing.assert_array_equal(
        softmax_cross_entropy(jnp.asarray(LOGITS), one_hot, **options), got
    )


def test_mixed_targets():
    targets = RNG.dirichlet(np.ones(4), size=6).astype(np.float32)
    got = softmax_cross_entropy(jnp.asarray(LOGITS), jnp.asarray(targets))
    np.testing.assert_allclose(got, by_hand(LOGITS, targets), rtol=2e-6)


def test_a_flat_prediction_costs_the_logarithm_of_the_classes():
    got = softmax_cross_entropy(jnp.zeros((2, 1000), jnp.bfloat16), jnp.array([3, 999]))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, [6.907755, 6.907755], rtol=1e-6)


def test_large_logits_stay_finite():
    got = softmax_cross_entropy(jnp.array([[1e4, 0.0], [-1e4, 0.0]]), jnp.array([0, 0]))
    np.testing.assert_allclose(got, [0, 1e4])


def test_a_wrong_number_of_weights():
    with pytest.raises(ValueError, match="4 classes need as many weights, got 2"):
        softmax_cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABELS), class_weights=(1.0, 2.0))
