"""What every architecture has to do.

Being in the zoo is being tested here: ``test_parity.py`` sees to it that every family has its file
in ``goldens/``.
"""

import functools
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import serialization, traverse_util
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import scenax.models
from scenax.models import _registry
from scenax.models.layers.conv import Conv

GOLDENS = pathlib.Path(__file__).parent / "goldens"
SMALL = {
    path.stem: next(iter(json.loads(path.read_text())["cases"].values()))
    for path in sorted(GOLDENS.glob("*.json"))
    if "." not in path.stem
}
"""The first case of each family's list: a name, options, an image size, and further options that
make it as small as it can be, which the reference may not have."""
SMALL["fully_connected"] = {"model": "fully_connected", "size": [8, 8], "options": {}}
FAMILIES = sorted(SMALL)
RATES = ("drop_rate", "drop_path_rate")


def for_every(families):
    """Parametrizes a test by family; one process has all tests of a family, which share work."""
    mark = pytest.mark.xdist_group
    return pytest.mark.parametrize("family", [pytest.param(f, marks=mark(f)) for f in families])


def make(family, **options):
    """A small model, and 8 images for it."""
    small = SMALL[family]
    options = {**small["options"], **small.get("small", {}), **options}
    model = scenax.models.create_model(small["model"], **options)
    shape = (8, *getattr(model, "img_size", small["size"]), getattr(model, "in_chans", 3))
    return model, jax.random.normal(jax.random.key(1), shape)


def has(family, rate):
    model, _ = make(family)
    residual = rate != "drop_path_rate" or getattr(model, "residual", False)
    return residual and _registry.has_option(SMALL[family]["model"], rate)


NOISY = [(family, rate) for family in FAMILIES for rate in RATES if has(family, rate)]


@functools.cache
def compiled(model, *, train):
    """The model's function of variables, images and random keys, compiled once for each shape."""
    stats = ["batch_stats"] if train else []

    def apply(variables, images, rngs):
        return model.apply(variables, images, train=train, rngs=rngs or None, mutable=stats)[0]

    return jax.jit(apply)


def forward(model, variables, images, **rngs):
    return compiled(model, train=bool(rngs))(variables, images, rngs)


def program(model, variables, images):
    """The text of what is compiled for evaluation."""
    return compiled(model, train=False).lower(variables, images, {}).as_text()


@functools.cache
def made(family):
    model, images = make(family)
    init = functools.partial(model.init, train=False)
    variables = filled(jax.eval_shape(init, jax.random.key(0), images))
    return model, variables, images, forward(model, variables, images)


def filled(shapes):
    """Random variables, without a program that has to be compiled; no branch is closed."""
    rng = np.random.default_rng(0)
    leaves = traverse_util.flatten_dict(shapes)
    for path, leaf in leaves.items():
        noise = rng.standard_normal(leaf.shape, np.float32)
        if leaf.ndim > 1:
            value = noise / math.sqrt(math.prod(leaf.shape[:-1]))
        else:
            value = (path[-1] in ("scale", "var")) + 0.2 * noise.clip(-3, 3)
        leaves[path] = jax.device_put(value)
    return traverse_util.unflatten_dict(leaves)


def assert_close(got, wanted, tolerance=1e-5):
    assert (
        np.abs(np.asarray(got) - np.asarray(wanted)).max() <= tolerance * np.asarray(wanted).std()
    )


@for_every(FAMILIES)
def test_parameters_are_float32_and_models_can_be_hashed(family):
    model, images = make(family)
    init = functools.partial(model.init, jax.random.key(0), train=False)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(jax.eval_shape(init, images)))
    assert isinstance(hash(model), int)  # every field can be hashed, as jit's static arguments are


@for_every(FAMILIES)
def test_without_a_head_come_features(family):
    (model, images), (_, variables, _, _) = make(family, num_classes=0), made(family)
    init = functools.partial(model.init_with_output, jax.random.key(0), train=False)
    output, without = jax.eval_shape(init, images)
    width = getattr(model, "head_hidden_size", model.num_features)
    assert output.shape == (8, width)
    whole, rest = (set(traverse_util.flatten_dict(v["params"])) for v in (variables, without))
    assert rest < whole


@for_every(FAMILIES)
def test_a_change_of_head_changes_nothing_else(family):
    (small, _), (large, _) = make(family), make(family, num_classes=11)
    assert small.num_features == large.num_features
    assert dict(small.default_cfg) == dict(large.default_cfg)
    assert small.feature_info == large.feature_info


@functools.cache
def trained(family, **options):
    """Gradients and outputs of a step of training, in which as much is random as can be."""
    _, variables, images, _ = made(family)
    noise = {rate: 0.3 for rate in RATES if (family, rate) in NOISY}
    model, _ = make(family, **{**noise, **options})

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


@for_every(FAMILIES)
def test_every_parameter_has_a_gradient(family):
    gradients, _ = trained(family)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(gradient).all(), path
        assert np.any(np.asarray(gradient) != 0), path


@for_every(f for f in FAMILIES if f != "fully_connected")
def test_remat_equals_plain(family):
    assert_trained_alike(trained(family, remat=True), trained(family))


@for_every(f for f in FAMILIES if _registry.has_option(SMALL[f]["model"], "scan_blocks"))
def test_scan_equals_plain(family):
    loop = trained(family, drop_path_rate=0.0)  # Other blocks are dropped in a scan.
    assert_trained_alike(trained(family, drop_path_rate=0.0, scan_blocks=True), loop)


def assert_trained_alike(got, wanted):
    (again, output_again), (gradients, output) = got, wanted
    assert_close(output_again, output)
    # Some are zero but for rounding: a norm removes what its predecessor's bias adds.
    floor = 1e-2 * max(np.std(leaf) for leaf in jax.tree.leaves(gradients))
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(gradients), strict=True):
        assert np.abs(one - other).max() <= 3e-4 * max(np.std(other), floor)


@for_every(FAMILIES)
def test_bfloat16_computes_in_bfloat16_on_float32_parameters(family):
    model, _ = make(family, dtype="bfloat16")
    _, variables, images, output = made(family)
    fresh = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), images)
    assert {leaf.dtype for leaf in jax.tree.leaves(fresh["params"])} == {jnp.dtype("float32")}
    apply = functools.partial(
        model.apply,
        train=False,
        capture_intermediates=lambda module, _: isinstance(module, nn.Dense | Conv),
        mutable=["intermediates"],
    )
    got, state = jax.jit(apply)(variables, images)
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("bfloat16")}
    assert_close(got.astype(jnp.float32), output, tolerance=0.1)


@for_every(FAMILIES)
def test_examples_do_not_see_one_another_in_evaluation(family):
    model, variables, images, output = made(family)
    assert_close(forward(model, variables, images[2:3]), output[2:3])
    changed = forward(model, variables, images.at[0].set(7.0))
    assert_close(changed[1:], output[1:])
    assert np.abs(changed[0] - output[0]).max() > 1e-3 * np.std(output)


@pytest.mark.parametrize(
    ("family", "rate"),
    [pytest.param(*each, marks=pytest.mark.xdist_group(each[0])) for each in NOISY],
)
def test_noise_is_a_function_of_the_key(family, rate):
    model, images = make(family, **{rate: 0.5})
    _, variables, _, output = made(family)
    first, again, other = (
        forward(model, variables, images, dropout=jax.random.key(seed)) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3 * np.std(output)
    assert program(model, variables, images) == program(made(family)[0], variables, images)


@for_every(FAMILIES)
def test_saved_and_loaded_variables_compute_the_same(family):
    model, variables, images, output = made(family)
    saved = serialization.to_bytes(variables)
    empty = jax.tree.map(jnp.zeros_like, variables)
    loaded = serialization.from_bytes(empty, saved)
    np.testing.assert_array_equal(forward(model, loaded, images), output)


@for_every(FAMILIES)
def test_a_sharded_batch_computes_the_same(family):
    model, variables, images, output = made(family)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    images = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    variables = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    assert_close(forward(model, variables, images), output)
