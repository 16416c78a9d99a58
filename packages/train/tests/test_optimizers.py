import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scenax.common.registry import RegistryError
from scenax.train import optimizers

PARAMS = {
    "blocks_0": {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.full((2,), 3.0)},
    "pos_embed": jnp.full((1, 4, 2), 3.0),
}


def updated(optimizer, grads, count=1):
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(count):
        updates, state = optimizer.update(grads, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params


def ones():
    return jax.tree.map(jnp.ones_like, PARAMS)


def test_adamw_is_the_papers_update():
    rate, b1, b2, decay, eps = 0.1, 0.8, 0.9, 0.5, 1e-8
    optimizer = optimizers.make_optimizer("adamw", rate, b1=b1, b2=b2, weight_decay=decay)
    w, m, v = 3.0, 0.0, 0.0
    for t in (1, 2, 3):
        m, v = b1 * m + (1 - b1), b2 * v + (1 - b2)
        w -= rate * ((m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps) + decay * w)
    found = updated(optimizer, ones(), count=3)
    np.testing.assert_allclose(found["blocks_0"]["kernel"], w, rtol=1e-5)
    # Without decay every step is the learning rate, as all gradients are one.
    np.testing.assert_allclose(found["blocks_0"]["bias"], 3.0 - 3 * rate, rtol=1e-5)
    np.testing.assert_allclose(found["pos_embed"], 3.0 - 3 * rate, rtol=1e-5)


def test_sgd_is_momentum_with_an_l2_penalty():
    optimizer = optimizers.make_optimizer("sgd", 0.1, momentum=0.5, weight_decay=0.2)
    w, velocity = 3.0, 0.0
    for _ in range(3):
        velocity = 0.5 * velocity + 1 + 0.2 * w
        w -= 0.1 * velocity
    found = updated(optimizer, ones(), count=3)
    np.testing.assert_allclose(found["blocks_0"]["kernel"], w, rtol=1e-5)


def test_clipping_scales_the_whole_gradient():
    optimizer = optimizers.make_optimizer("sgd", 1.0, momentum=0.0, clip_norm=1.0)
    count = sum(x.size for x in jax.tree.leaves(PARAMS))
    found = updated(optimizer, ones())
    np.testing.assert_allclose(found["blocks_0"]["bias"], 3.0 - 1 / np.sqrt(count), rtol=1e-5)


def test_no_decay_patterns_are_found_in_paths():
    mask = optimizers.decay_mask(PARAMS, no_decay=["^blocks_0/"])
    assert mask == {"blocks_0": {"kernel": False, "bias": False}, "pos_embed": True}


def test_unknown_optimizer_names_the_closest():
    with pytest.raises(RegistryError, match="Did you mean 'adamw'"):
        optimizers.make_optimizer("adam", 0.1)
