"""Every rule over a few steps, beside another implementation or its paper's formulas."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scenax.train import optimizers, update_rules

GOLDENS = json.loads((pathlib.Path(__file__).parent / "goldens" / "optimizers.json").read_text())
SHAPES = {"kernel": (4, 3), "bias": (3,)}


def start(name):
    count = np.prod(SHAPES[name])
    return np.round(np.sin(3 * np.arange(count) + len(name)), 3).reshape(SHAPES[name])


def gradient(parameter, step):
    """As in goldens/make_optimizers.py."""
    wave = np.arange(parameter.size).reshape(parameter.shape)
    return 0.5 * parameter - np.round(np.cos(wave + step), 3)


def ended(optimizer, steps):
    """Where the optimizer leads from ``start`` on the gradients of ``gradient``."""
    params = {name: jnp.asarray(start(name), jnp.float32) for name in SHAPES}
    state = optimizer.init(params)
    for step in range(steps):
        grads = {k: jnp.asarray(gradient(np.asarray(v), step)) for k, v in params.items()}
        updates, state = optimizer.update(grads, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params


@pytest.mark.parametrize("case", GOLDENS["cases"], ids=lambda c: f"{c['name']}-{c['options']}")
def test_five_steps_lead_where_torch_and_timm_go(case):
    optimizer = optimizers.make_optimizer(case["name"], GOLDENS["learning_rate"], **case["options"])
    found = ended(optimizer, GOLDENS["steps"])
    for name, wanted in case["end"].items():
        np.testing.assert_allclose(found[name], wanted, rtol=2e-5, atol=2e-6)


def test_lars_is_the_papers_ratio_with_momentum_of_whole_steps():
    rate, decay, momentum, trust = 0.5, 0.1, 0.7, 0.02
    optimizer = optimizers.make_optimizer(
        "lars", rate, momentum=momentum, trust_coefficient=trust, weight_decay=decay
    )
    kernel, bias = start("kernel"), start("bias")
    moved = {"kernel": np.zeros((4, 3)), "bias": np.zeros(3)}
    for step in range(4):
        descent = gradient(kernel, step) + decay * kernel
        ratio = trust * np.sqrt((kernel**2).sum() / (descent**2).sum())
        moved["kernel"] = momentum * moved["kernel"] + rate * ratio * descent
        moved["bias"] = momentum * moved["bias"] + rate * gradient(bias, step)
        kernel, bias = kernel - moved["kernel"], bias - moved["bias"]
    found = ended(optimizer, 4)
    np.testing.assert_allclose(found["kernel"], kernel, rtol=1e-4)
    np.testing.assert_allclose(found["bias"], bias, rtol=1e-4)


def test_rmsprop_keeps_past_learning_rates_in_its_momentum():
    optimizer = optimizers.make_optimizer(
        "rmsprop", lambda count: jnp.where(count == 0, 0.1, 0.0), momentum=0.5, eps=0.0
    )
    grads = {"bias": jnp.array([2.0])}
    params, state = grads, optimizer.init(grads)
    first, state = optimizer.update(grads, state, params)
    second, _ = optimizer.update(grads, state, params)
    wanted = -0.1 * 2 / np.sqrt(0.9 * 1 + 0.1 * 4)
    np.testing.assert_allclose(first["bias"], wanted, rtol=1e-5)
    np.testing.assert_allclose(second["bias"], 0.5 * wanted, rtol=1e-5)


def test_big_visions_adafactor_is_factored_capped_and_slow_in_bfloat16():
    rate, momentum, cap = 0.03, 0.9, 0.6
    optimizer = optimizers.make_optimizer(
        "adafactor_big_vision", rate, b2_cap=cap, min_dim_size_to_factor=2, clipping_threshold=0.9
    )
    kernel, slow = start("kernel"), np.zeros((4, 3))
    rows, columns = np.zeros(4), np.zeros(3)
    for step in range(5):
        grad = gradient(kernel, step)
        b2 = min(cap, 1 - (step + 1) ** -0.8)  # 0, 0.43, 0.58, and then the cap.
        rows = b2 * rows + (1 - b2) * (grad**2).mean(axis=1)
        columns = b2 * columns + (1 - b2) * (grad**2).mean(axis=0)
        direction = grad / np.sqrt(np.outer(rows, columns) / rows.mean())
        direction /= max(1, np.sqrt((direction**2).mean()) / 0.9)
        slow = momentum * slow + (1 - momentum) * direction
        kernel = kernel - rate * slow
    moved = ended(optimizer, 5)["kernel"] - start("kernel")
    # Steps of up to 0.02, of which bfloat16's eight bits leave a hundredth open.
    np.testing.assert_allclose(moved, kernel - start("kernel"), atol=2e-4)
    params = {"kernel": jnp.ones((64, 32))}
    sizes = {(x.dtype.name, x.size) for x in jax.tree.leaves(optimizer.init(params)) if x.ndim}
    assert ("bfloat16", 64 * 32) in sizes
    assert max(size for dtype, size in sizes if dtype == "float32") == 64


def test_muon_sends_singular_values_through_its_polynomial():
    rate, momentum = 0.1, 0.9
    optimizer = optimizers.make_optimizer(
        "muon", rate, momentum=momentum, weight_decay=0.3, rms=0.2
    )
    kernel, slow = start("kernel"), np.zeros((4, 3))
    for step in range(3):
        grad = gradient(kernel, step)
        slow = momentum * slow + (1 - momentum) * grad
        ahead = momentum * slow / (1 - momentum ** (step + 2))
        ahead += (1 - momentum) * grad / (1 - momentum ** (step + 1))
        left, values, right = np.linalg.svd(ahead, full_matrices=False)
        values = values / np.sqrt((values**2).sum())
        for _ in range(5):
            values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
        orthogonal = left @ np.diag(values) @ right
        kernel = kernel - rate * (0.2 * np.sqrt(4) * orthogonal + 0.3 * kernel)
    np.testing.assert_allclose(ended(optimizer, 3)["kernel"], kernel, rtol=1e-3, atol=1e-4)


def test_muons_rest_is_adams():
    params = {
        "blocks_0": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)},
        "conv": {"kernel": jnp.ones((1, 1, 2, 3))},
        "head": {"kernel": jnp.ones((2, 3))},
    }
    grads = jax.tree.map(lambda p: jnp.cos(jnp.arange(p.size)).reshape(p.shape), params)
    steps = {}
    for name in ("muon", "adamw"):
        optimizer = optimizers.make_optimizer(name, 0.1, weight_decay=0.2)
        steps[name], _ = optimizer.update(grads, optimizer.init(params), params)
    differ = jax.tree.map(lambda a, b: not np.allclose(a, b, rtol=1e-5), *steps.values())
    assert differ == {
        "blocks_0": {"kernel": True, "bias": False},
        "conv": {"kernel": False},
        "head": {"kernel": False},
    }


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_first_moment_can_be_small(name):
    params = {"kernel": jnp.ones((8, 8))}
    optimizer = optimizers.make_optimizer(name, 0.1, mu_dtype="bfloat16")
    found = sorted(x.dtype.name for x in jax.tree.leaves(optimizer.init(params)) if x.ndim)
    assert found == ["bfloat16", "float32"]


def test_every_rule_is_checked_here():
    here = {"lars", "adafactor_big_vision", "muon"}
    assert set(update_rules.RULES.names()) == here | {case["name"] for case in GOLDENS["cases"]}


def test_nesterov_without_momentum_is_an_error():
    with pytest.raises(ValueError, match="momentum is 0"):
        optimizers.make_optimizer("sgd", 0.1, momentum=0.0, nesterov=True)
