import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scenax.common.registry import RegistryError
from scenax.train import optimizers

GOLDENS = json.loads((pathlib.Path(__file__).parent / "goldens" / "optimizers.json").read_text())
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


def test_unknown_optimizer_names_the_closest():
    with pytest.raises(RegistryError, match="Did you mean 'adam' or 'adamw'"):
        optimizers.make_optimizer("adamv", 0.1)


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


@pytest.mark.parametrize(
    "options",
    [
        {"frozen": ["blcks"]},
        {"rates": {"blcks": 2.0}},
        {"no_decay": ["blcks"], "weight_decay": 0.1},
        {"no_decay": ["blcks"], "independent_weight_decay": 0.1},
    ],
)
def test_a_pattern_that_is_found_nowhere_is_an_error(options):
    optimizer = optimizers.make_optimizer("sgd", 0.1, **options)
    with pytest.raises(ValueError, match=r"'blcks' is found in no parameter.*blocks_0"):
        optimizer.init(DEEP)


def test_independent_decay_follows_the_schedule_and_not_its_height():
    def rate(count):
        return 0.2 * (1 - count / 4)

    optimizer = optimizers.make_optimizer(
        "adamw", rate, independent_weight_decay=0.1, peak_learning_rate=0.2
    )
    grads = jax.tree.map(jnp.zeros_like, PARAMS)
    found = updated(optimizer, grads, count=3)
    np.testing.assert_allclose(found["blocks_0"]["kernel"], 3 * 0.9 * 0.925 * 0.95, rtol=1e-6)
    np.testing.assert_array_equal(found["blocks_0"]["bias"], 3.0)
    # A number is its own peak, and momentum does not come into it.
    lars = optimizers.make_optimizer("lars", 0.2, independent_weight_decay=0.1)
    found = updated(lars, grads, count=3)
    np.testing.assert_allclose(found["blocks_0"]["kernel"], 3 * 0.9**3, rtol=1e-6)


def test_adaptive_clipping_is_timms_and_spares_the_classifier():
    def start(name, shape):
        return np.round(np.sin(3 * np.arange(np.prod(shape)) + len(name)), 3).reshape(shape)

    def gradient(parameter):
        wave = np.arange(parameter.size).reshape(parameter.shape)
        return 0.5 * parameter - np.round(np.cos(wave + 1), 3)

    params = {k: start(k, np.shape(v)) for k, v in GOLDENS["clipped"].items()}
    params["head"] = params["linear"]
    grads = jax.tree.map(lambda p: jnp.asarray(gradient(p)), params)
    optimizer = optimizers.make_optimizer(
        "sgd", 1.0, momentum=0.0, adaptive_clip=GOLDENS["adaptive_clip"]
    )
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    for name, wanted in GOLDENS["clipped"].items():
        np.testing.assert_allclose(updates[name], -np.array(wanted), rtol=1e-5)
    np.testing.assert_allclose(updates["head"], -grads["head"])
    assert not np.allclose(updates["linear"], -grads["linear"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"clip_norm": 1.0, "adaptive_clip": 0.1}, "one of clip_norm and adaptive_clip, got 1.0"),
        ({"clip_norm": 0.0}, "clip_norm must be above 0, got 0.0"),
        ({"weight_decay": 0.1, "independent_weight_decay": 0.2}, "one of weight_decay and indep"),
        ({"weight_decay": -0.1}, "at least 0, got -0.1"),
        ({"no_decay": ["bias"]}, "no_decay says what has no weight decay, and there is none"),
        ({"weight_dcay": 0.1}, "'adamw' has no option 'weight_dcay'. Did you mean 'weight_decay'"),
        ({"momentum": 0.1}, "'adamw' has no option 'momentum'"),
    ],
)
def test_options_that_do_nothing_or_do_not_go_together_are_errors(options, said):
    with pytest.raises(ValueError, match=said):
        optimizers.make_optimizer("adamw", 0.1, **options)


def test_a_function_of_unknown_peak_has_no_independent_decay():
    with pytest.raises(ValueError, match="give peak_learning_rate"):
        optimizers.make_optimizer("adamw", lambda count: 0.1, independent_weight_decay=0.1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weight_decay": 0.1, "no_decay": ["kernel", "embed"]}, "of 0.1 applies to no parameter"),
        ({"independent_weight_decay": 0.1, "no_decay": ["."]}, "of 0.1 applies to no parameter"),
        ({"frozen": ["."]}, r"frozen=\['.'\] leaves no parameter to train"),
    ],
)
def test_what_has_no_effect_on_these_parameters_is_an_error(options, said):
    with pytest.raises(ValueError, match=said):
        optimizers.make_optimizer("adamw", 0.1, **options).init(DEEP)
