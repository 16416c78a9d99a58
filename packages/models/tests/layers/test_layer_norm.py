import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from scenax.models.layers.layer_norm import LayerNorm


def made(dtype=jnp.float32, **options):
    x = 3 + 2 * jax.random.normal(jax.random.key(0), (2, 3, 8))
    module = LayerNorm(1e-5, dtype, **options)
    variables = module.init(jax.random.key(1), x)
    noise = jax.random.normal(jax.random.key(2), (8,))
    return module, jax.tree.map(lambda leaf: leaf + 0.3 * noise, variables), x


def test_the_same_in_numpy():
    module, variables, x = made()
    params, x = jax.device_get(variables["params"]), np.asarray(x, np.float64)
    wanted = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    wanted = wanted * params["scale"] + params["bias"]
    np.testing.assert_allclose(
        module.apply(variables, jnp.asarray(x, jnp.float32)), wanted, atol=2e-6
    )


def test_far_from_zero_the_variance_is_exact():
    x = jnp.asarray([[10000.0, 10001.0, 10002.0, 10003.0]])
    module = LayerNorm(0.0)
    got = module.apply(module.init(jax.random.key(0), x), x)
    np.testing.assert_allclose(got, np.array([[-3, -1, 1, 3]]) / 5**0.5, rtol=1e-5)


@pytest.mark.parametrize("use_bias", [True, False])
def test_derivatives_of_first_and_second_order_are_those_of_flax(use_bias):
    module, variables, x = made(use_bias=use_bias)
    other = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, use_bias=use_bias)

    def loss(norm):
        return lambda variables, x: jnp.sum(jnp.sin(norm.apply(variables, x)))

    for derivative in (jax.grad, lambda f, argnums: jax.jacfwd(f, argnums=argnums)):
        got, wanted = (derivative(loss(n), argnums=(0, 1))(variables, x) for n in (module, other))
        for one, two in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(one, two, atol=1e-5)
    got, wanted = (
        jax.jvp(jax.grad(loss(n), argnums=1), (variables, x), (variables, x))[1]
        for n in (module, other)
    )
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_what_is_stored_and_what_comes_out():
    module, variables, x = made(jnp.bfloat16, start=0.0)
    assert module.apply(variables, x).dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    fresh = module.init(jax.random.key(1), x)
    assert not np.any(module.apply(fresh, x))
