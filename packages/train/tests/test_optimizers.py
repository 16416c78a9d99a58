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


DEEP = {
    "patch_embed": {"kernel": jnp.ones((2, 2))},
    "pos_embed": jnp.ones((1, 2, 2)),
    "blocks_0": {"norm1": {"scale": jnp.ones(2)}},
    "blocks_1": {"norm1": {"scale": jnp.ones(2)}},
    "blocks_10": {"norm1": {"scale": jnp.ones(2)}},
    "norm": {"scale": jnp.ones(2)},
    "head": {"kernel": jnp.ones((2, 3))},
}


def moved(optimizer, params):
    """How far one step with gradients of one goes, by parameter."""
    grads = jax.tree.map(jnp.ones_like, params)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    return jax.tree.map(lambda x: -float(x.ravel()[0]), updates)


def test_layer_decay_is_a_power_of_the_distance_from_the_head():
    found = moved(optimizers.make_optimizer("sgd", 1.0, momentum=0.0, layer_decay=0.5), DEEP)
    # Three blocks: the stem is four steps from the head, as in timm's param_groups_layer_decay.
    assert found["patch_embed"]["kernel"] == found["pos_embed"] == 0.5**4
    assert found["blocks_0"]["norm1"]["scale"] == 0.5**3
    assert found["blocks_1"]["norm1"]["scale"] == 0.5**2
    assert found["blocks_10"]["norm1"]["scale"] == 0.5
    assert found["norm"]["scale"] == found["head"]["kernel"] == 1


def test_blocks_of_stages_are_numbered_through():
    params = {
        f"layers_{i}": {f"blocks_{j}": {"w": jnp.ones(2)} for j in range(2)} for i in range(2)
    } | {"layer3_0": {"w": jnp.ones(1)}, "head": {"w": jnp.ones(1)}}
    found = optimizers.layer_rates(params, 0.1)
    order = [found[f"layers_{i}"][f"blocks_{j}"]["w"] for i in range(2) for j in range(2)]
    order.append(found["layer3_0"]["w"])
    np.testing.assert_allclose(order, [1e-5, 1e-4, 1e-3, 1e-2, 1e-1])
    assert found["head"]["w"] == 1
    with pytest.raises(ValueError, match=r"blocks_0.*there are head"):
        optimizers.layer_rates({"head": jnp.ones(1)}, 0.5)


def test_rates_are_factors_by_pattern_the_first_counts():
    rates = {"^head/": 10.0, "norm": 0.1, "kernel": 3.0}
    found = moved(optimizers.make_optimizer("sgd", 1.0, momentum=0.0, rates=rates), DEEP)
    assert found["head"]["kernel"] == 10
    assert found["patch_embed"]["kernel"] == 3
    np.testing.assert_allclose(found["blocks_1"]["norm1"]["scale"], 0.1, rtol=1e-6)
    assert found["pos_embed"] == 1
    both = optimizers.make_optimizer("sgd", 1.0, momentum=0.0, rates=rates, layer_decay=0.5)
    np.testing.assert_allclose(moved(both, DEEP)["patch_embed"]["kernel"], 3 * 0.5**4, rtol=1e-6)


def test_frozen_parameters_stay_and_have_no_state():
    optimizer = optimizers.make_optimizer(
        "adamw", 0.1, weight_decay=0.1, clip_norm=1.0, frozen=["^blocks_", "embed"]
    )
    found = moved(optimizer, DEEP)
    assert found["blocks_0"]["norm1"]["scale"] == found["pos_embed"] == 0
    assert found["patch_embed"]["kernel"] == 0
    assert found["head"]["kernel"] > 0
    sizes = [x.size for x in jax.tree.leaves(optimizer.init(DEEP)) if x.ndim]
    assert sum(sizes) == 2 * (2 + 6)  # Two moments of norm and head.
    # What is frozen does not count in the norm that is clipped to.
    grads = jax.tree.map(jnp.ones_like, DEEP)
    grads["blocks_0"]["norm1"]["scale"] *= 1e6
    sgd = optimizers.make_optimizer("sgd", 1.0, momentum=0.0, clip_norm=1.0, frozen=["blocks_"])
    updates, _ = sgd.update(grads, sgd.init(DEEP), DEEP)
    trained = sum(x.size for k, x in DEEP.items() if k == "pos_embed") + 4 + 2 + 6
    np.testing.assert_allclose(updates["norm"]["scale"], -1 / np.sqrt(trained), rtol=1e-5)


@pytest.mark.parametrize("options", [{"frozen": ["blcks"]}, {"rates": {"blcks": 2.0}}])
def test_a_pattern_that_is_found_nowhere_is_an_error(options):
    optimizer = optimizers.make_optimizer("sgd", 0.1, **options)
    with pytest.raises(ValueError, match=r"'blcks' is found in no parameter.*blocks_0"):
        optimizer.init(DEEP)
