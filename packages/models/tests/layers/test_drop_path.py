import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scenax.models.layers.drop_path import DropPath


def test_an_example_is_dropped_or_scaled_as_a_whole():
    x = 1 + jax.random.uniform(jax.random.key(0), (2000, 3, 2))
    y = DropPath(0.2).apply({}, x, train=True, rngs={"dropout": jax.random.key(1)})
    ratio = np.asarray(y / x).reshape(2000, 6)
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), rtol=1e-6)
    kept = ratio[:, 0] > 0
    np.testing.assert_allclose(ratio[kept], 1.25, rtol=1e-6)
    np.testing.assert_allclose(kept.mean(), 0.8, atol=4 * (0.16 / 2000) ** 0.5)


@pytest.mark.parametrize(("rate", "train"), [(0.0, True), (0.3, False), (1.0, False)])
def test_nothing_happens_without_a_key(rate, train):
    x = jnp.ones((4, 2))
    np.testing.assert_array_equal(DropPath(rate).apply({}, x, train=train), x)


def test_extremes():
    x = jnp.ones((4, 2), jnp.bfloat16)
    np.testing.assert_array_equal(DropPath(1.0).apply({}, x, train=True), 0 * x)
    y = DropPath(0.5).apply({}, x, train=True, rngs={"dropout": jax.random.key(1)})
    assert y.dtype == jnp.bfloat16
    with pytest.raises(ValueError, match=r"from 0 to 1, got 1.5"):
        DropPath(1.5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_rate_can_be_an_array(dtype):
    x = jax.random.normal(jax.random.key(0), (200, 3), dtype)

    @jax.jit
    def dropped(rate):
        return DropPath(rate).apply({}, x, train=True, rngs={"dropout": jax.random.key(1)})

    for rate in (0.0, 0.3):
        wanted = DropPath(rate).apply({}, x, train=True, rngs={"dropout": jax.random.key(1)})
        got = dropped(jnp.float32(rate))
        assert got.dtype == x.dtype
        np.testing.assert_allclose(got.astype("float32"), wanted.astype("float32"), rtol=1e-6)
