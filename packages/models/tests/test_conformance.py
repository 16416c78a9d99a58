"""What every architecture has to do. Being in the zoo is being tested here: there is no list."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import serialization, traverse_util
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import scenax.models
from scenax.models import _catalog, _registry

REPRESENTATIVES = sorted(
    {module: name for name, module in reversed(_catalog.families().items())}.values()
)
"""The first variant of each family, which is its smallest."""
LAST = sorted({module: name for name, module in _catalog.families().items()}.values())
"""The last one; what every name's shapes have to be, another implementation says in test_parity."""
RATES = ("drop_rate", "drop_path_rate")
NOISY = [(n, rate) for n in REPRESENTATIVES for rate in RATES if _registry.has_option(n, rate)]


def make(name, **options):
    """A model for small images with 5 classes, and 8 of these images."""
    small = {"num_classes": 5, "img_size": 32, "in_chans": 3}
    small = {key: value for key, value in small.items() if _registry.has_option(name, key)}
    model = scenax.models.create_model(name, **{**small, **options})
    if "img_size" in small and model.feature_info[-1]["reduction"] > 16:
        small["img_size"] = 64  # In a map of one position there is nothing to attend to.
        model = scenax.models.create_model(name, **{**small, **options})
    channels, height, _ = model.default_cfg["input_size"]
    side = small.get("img_size") or min(height, 96)
    shape = (side, side, channels)
    return model, jax.random.normal(jax.random.key(1), (8, *shape))


def forward(model, variables, images, **rngs):
    stats = ["batch_stats"] if rngs else []
    apply = functools.partial(model.apply, train=bool(rngs), rngs=rngs or None, mutable=stats)
    return jax.jit(apply)(variables, images)[0]


@functools.cache
def made(name):
    model, images = make(name)
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), images)
    variables = {**variables, "params": opened(variables["params"])}
    return model, variables, images, forward(model, variables, images)


def opened(params):
    """Parameters with noise on scales and biases: some start at zero, and close their branch."""
    leaves, tree = jax.tree.flatten(params)
    noise = np.random.default_rng(0)
    opened = [
        leaf + 0.2 * noise.standard_normal(leaf.shape, np.float32) if leaf.ndim == 1 else leaf
        for leaf in leaves
    ]
    return jax.tree.unflatten(tree, opened)


def assert_close(got, wanted, tolerance=1e-5):
    assert (
        np.abs(np.asarray(got) - np.asarray(wanted)).max() <= tolerance * np.asarray(wanted).std()
    )


@pytest.mark.parametrize("name", sorted({*REPRESENTATIVES, *LAST}))
def test_shapes_at_full_size(name):
    model = scenax.models.create_model(name)
    channels, height, width = model.default_cfg["input_size"]
    images = jax.ShapeDtypeStruct((1, height, width, channels), jnp.float32)
    init = functools.partial(model.init_with_output, jax.random.key(0), train=False)
    output, variables = jax.eval_shape(init, images)
    assert output.shape == (1, model.default_cfg["num_classes"] or model.num_features)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    assert isinstance(hash(model), int)  # every field can be hashed, as jit's static arguments are


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_without_a_head_come_features(name):
    (model, images), (_, variables, _, _) = make(name, num_classes=0), made(name)
    init = functools.partial(model.init_with_output, jax.random.key(0), train=False)
    output, without = jax.eval_shape(init, images)
    assert output.shape == (8, model.num_features)
    whole, rest = (set(traverse_util.flatten_dict(v["params"])) for v in (variables, without))
    assert rest < whole


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_a_change_of_head_changes_nothing_else(name):
    (small, _), (large, _) = make(name), make(name, num_classes=11)
    assert small.num_features == large.num_features
    assert dict(small.default_cfg) == dict(large.default_cfg)
    assert small.feature_info == large.feature_info


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_jit_equals_eager(name):
    model, variables, images, output = made(name)
    assert_close(model.apply(variables, images, train=False), output)


@pytest.mark.parametrize("name", [n for n in REPRESENTATIVES if _registry.has_option(n, "remat")])
def test_remat_equals_plain(name):
    _, variables, images, _ = made(name)
    noise = {rate: 0.3 for rate in RATES if _registry.has_option(name, rate)}
    (model, _), (remat, _) = make(name, **noise), make(name, **noise, remat=True)

    def outputs_and_gradients(model):
        def loss(params):
            output, _ = model.apply(
                {**variables, "params": params},
                images,
                train=True,
                rngs={"dropout": jax.random.key(2)},
                mutable=["batch_stats"],
            )
            return jnp.sum(jnp.sin(output)), output

        return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])

    gradients, output = outputs_and_gradients(model)
    again, output_again = outputs_and_gradients(remat)
    assert_close(output_again, output)
    # Some are zero but for rounding: a norm removes what its predecessor's bias adds.
    floor = 1e-2 * max(np.std(leaf) for leaf in jax.tree.leaves(gradients))
    for got, wanted in zip(jax.tree.leaves(again), jax.tree.leaves(gradients), strict=True):
        assert np.abs(got - wanted).max() <= 1e-4 * max(np.std(wanted), floor)


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_every_parameter_has_a_gradient(name):
    model, variables, images, _ = made(name)

    def loss(params):
        return jnp.sum(jnp.sin(model.apply({**variables, "params": params}, images, train=False)))

    gradients = jax.jit(jax.grad(loss))(variables["params"])
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(gradient).all(), path
        assert np.any(np.asarray(gradient) != 0), path


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_bfloat16_computes_in_bfloat16_on_float32_parameters(name):
    model, _ = make(name, dtype="bfloat16")
    _, variables, images, output = made(name)
    fresh = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), images)
    assert {leaf.dtype for leaf in jax.tree.leaves(fresh["params"])} == {jnp.dtype("float32")}
    apply = functools.partial(
        model.apply,
        train=False,
        capture_intermediates=lambda module, _: isinstance(module, nn.Dense | nn.Conv),
        mutable=["intermediates"],
    )
    got, state = jax.jit(apply)(variables, images)
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("bfloat16")}
    assert_close(got.astype(jnp.float32), output, tolerance=0.1)


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_examples_do_not_see_one_another_in_evaluation(name):
    model, variables, images, output = made(name)
    assert_close(forward(model, variables, images[2:3]), output[2:3])
    changed = forward(model, variables, images.at[0].set(7.0))
    assert_close(changed[1:], output[1:])
    assert np.abs(changed[0] - output[0]).max() > 1e-3 * np.std(output)


@pytest.mark.parametrize(("name", "rate"), NOISY)
def test_noise_is_a_function_of_the_key(name, rate):
    model, images = make(name, **{rate: 0.5})
    _, variables, _, output = made(name)
    first, again, other = (
        forward(model, variables, images, dropout=jax.random.key(seed)) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3 * np.std(output)
    np.testing.assert_array_equal(forward(model, variables, images), output)


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_saved_and_loaded_variables_compute_the_same(name):
    model, variables, images, output = made(name)
    saved = serialization.to_bytes(variables)
    empty = jax.tree.map(jnp.zeros_like, variables)
    loaded = serialization.from_bytes(empty, saved)
    np.testing.assert_array_equal(forward(model, loaded, images), output)


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_a_sharded_batch_computes_the_same(name):
    model, variables, images, output = made(name)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    images = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    variables = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    assert_close(forward(model, variables, images), output)
