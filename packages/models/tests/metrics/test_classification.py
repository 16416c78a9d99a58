import jax.numpy as jnp
import numpy as np
import pytest

from scenax.models.metrics.classification import top_k_correct


@pytest.mark.parametrize("top", [1, 2, 5, 7])
def test_against_sorting_in_numpy(top):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 7)).astype(np.float32)
    labels = rng.integers(0, 7, size=50)
    wanted = [float(y in np.argsort(-row)[:top]) for row, y in zip(logits, labels, strict=True)]
    got = top_k_correct(jnp.asarray(logits), jnp.asarray(labels), top=top)
    np.testing.assert_array_equal(got, wanted)
    one_hot = jnp.asarray(np.eye(7, dtype=np.float32)[labels])
    np.testing.assert_array_equal(top_k_correct(jnp.asarray(logits), one_hot, top=top), wanted)


def test_a_flat_prediction_is_not_right_for_everyone():
    got = top_k_correct(jnp.zeros((4, 4), jnp.bfloat16), jnp.arange(4))
    np.testing.assert_array_equal(got, [1, 0, 0, 0])
    assert got.dtype == jnp.float32


@pytest.mark.parametrize("top", [0, 5])
def test_more_than_the_classes(top):
    with pytest.raises(ValueError, match=f"from 1 to the 4 classes, got {top}"):
        top_k_correct(jnp.zeros((4, 4)), jnp.arange(4), top=top)
