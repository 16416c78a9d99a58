import jax.numpy as jnp
import numpy as np
import pytest

from scenax.train import parameter_rates


def test_no_decay_patterns_are_found_in_paths():
    params = {
        "blocks_0": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
        "pos_embed": jnp.ones((1, 4, 2)),
    }
    mask = parameter_rates.decay_mask(params, no_decay=["^blocks_0/"])
    assert mask == {"blocks_0": {"kernel": False, "bias": False}, "pos_embed": True}


def test_blocks_of_stages_are_numbered_through():
    params = {
        f"layers_{i}": {f"blocks_{j}": {"w": jnp.ones(2)} for j in range(2)} for i in range(2)
    } | {"layer3_0": {"w": jnp.ones(1)}, "head": {"w": jnp.ones(1)}}
    found = parameter_rates.layer_rates(params, 0.1)
    order = [found[f"layers_{i}"][f"blocks_{j}"]["w"] for i in range(2) for j in range(2)]
    order.append(found["layer3_0"]["w"])
    np.testing.assert_allclose(order, [1e-5, 1e-4, 1e-3, 1e-2, 1e-1])
    assert found["head"]["w"] == 1
    with pytest.raises(ValueError, match=r"blocks_0.*there are head"):
        parameter_rates.layer_rates({"head": jnp.ones(1)}, 0.5)


def test_the_head_is_the_classifier_and_nothing_else():
    params = {"head": {"fc": {"kernel": 0}}, "heads": 0, "blocks_0": {"fc": 0}, "fc": {"bias": 0}}
    assert parameter_rates.outside_head(params) == {
        "head": {"fc": {"kernel": False}},
        "heads": True,
        "blocks_0": {"fc": True},
        "fc": {"bias": False},
    }


def test_a_pattern_that_never_counts_is_named():
    scaling = parameter_rates.scale_by_path({"kernel": 0.1, "head/kernel": 2.0}, None)
    with pytest.raises(ValueError, match="where 'head/kernel' is found, an earlier pattern is too"):
        scaling.init({"head": {"kernel": jnp.ones(1)}})
