"""What families share: rematerialisation, and a scan over blocks."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import errors

import scenax.models
from scenax.models.architectures import vit
from scenax.models.architectures._architecture import REMAT_POLICIES

SMALL = {
    "test_vit": {"img_size": 32, "patch_size": 8, "depth": 3, "drop_path_rate": 0.3},
    "resnet18": {
        "layers": (1, 1),
        "block": ("basic", "bottleneck"),
        "channels": (16, 16),
        "drop_path_rate": 0.3,
    },
}
SCANNED = {"drop_path_rate": 0.0, "scan_blocks": True}


@functools.cache
def made(name="test_vit", **options):
    """A small model, variables in which no branch is closed, and images."""
    model = scenax.models.create_model(name, num_classes=5, **{**SMALL[name], **options})
    side = SMALL[name].get("img_size", 64)
    images = jax.random.normal(jax.random.key(0), (4, side, side, 3))
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(1), images)
    return model, jax.tree.map(lambda leaf: 2 * leaf + 0.01, variables), images


def loss(model, variables, images):
    output, _ = model.apply(
        variables,
        images,
        train=True,
        rngs={"dropout": jax.random.key(2)},
        mutable=["batch_stats"],
    )
    return jnp.sum(jnp.sin(output)), output


def trained(model, variables, images):
    """Gradients and outputs of a step of training."""
    step = jax.grad(functools.partial(loss, model), has_aux=True)
    gradients, output = jax.jit(step)(variables, images)
    return gradients["params"], output


@functools.cache
def plain(name, **options):
    return trained(*made(name, **options))


def assert_equal(got, wanted, tolerance=1e-5):
    floor = 1e-2 * max(np.std(leaf) for leaf in jax.tree.leaves(wanted))
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert np.abs(one - other).max() <= tolerance * max(np.std(other), floor)


def kept_bytes(model, variables, images):
    """Size of what the forward pass leaves for the backward pass, parameters included."""

    def backward(variables):
        return jax.vjp(lambda v: loss(model, v, images)[0], variables)[1]

    kept = jax.tree.leaves(jax.eval_shape(backward, variables))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in kept)


@pytest.mark.parametrize("remat", REMAT_POLICIES)
@pytest.mark.parametrize("name", SMALL)
def test_every_policy_computes_the_same(name, remat):
    assert_equal(trained(*made(name, remat=remat)), plain(name), tolerance=5e-5)


@pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in SMALL), ("test_vit", SCANNED)]
)
def test_policies_keep_less_and_less(name, options):
    model, variables, images = made(name, **options)
    kept = [
        kept_bytes(model.clone(remat=remat), variables, images)
        for remat in (False, "dots", "full", True)
    ]
    assert kept[0] > kept[1] > kept[2] == kept[3]


def test_dots_keeps_what_weights_multiply_and_no_more():
    model, variables, images = made(drop_path_rate=0.0)
    dots, full = (kept_bytes(model.clone(remat=r), variables, images) for r in ("dots", "full"))
    # Of each token: queries, keys and values, what attention adds, and the first layer of the MLP,
    # which is three times as wide. What the MLP adds is in the next block's input.
    width, tokens, depth = 64, 4 * 17, 3
    assert dots - full == depth * tokens * (3 + 1 + 3) * width * 4


def test_a_loop_over_the_depth_compiles_to_less_memory():
    model, variables, images = made(**SCANNED, depth=12)
    step = jax.grad(lambda model, v: loss(model, v, images)[0], argnums=1)
    compiled = (
        jax.jit(functools.partial(step, model.clone(remat=remat))).lower(variables).compile()
        for remat in (False, "dots", "full")
    )
    plain, dots, full = (each.memory_analysis().temp_size_in_bytes for each in compiled)
    assert plain > dots > full


@pytest.mark.parametrize(
    ("remat", "message"),
    [
        ("dot", r"remat is False, True, or the name of a policy, got 'dot'. Did you mean 'dots'\?"),
        ("minimal", r"got 'minimal'. There are 'dots', 'full'."),
    ],
)
def test_policies_that_there_are_not(remat, message):
    with pytest.raises(ValueError, match=message):
        scenax.models.create_model("test_vit", remat=remat)


@pytest.mark.parametrize("remat", [False, *REMAT_POLICIES])
def test_a_scan_computes_what_the_loop_does(remat):
    wanted = plain("test_vit", drop_path_rate=0.0)
    assert_equal(trained(*made(**SCANNED, remat=remat)), wanted)


def test_a_scan_gives_the_same_maps():
    options = {"features_only": True, "out_indices": (0, -2)}
    loop, variables, images = made(**options)
    maps = loop.apply(variables, images, train=False)
    scanned = loop.clone(scan_blocks=True).apply(variables, images, train=False)
    assert [map_.shape for map_ in scanned] == [(4, 4, 4, 64)] * 2
    assert_equal(scanned, maps)


def test_intermediates_are_captured_as_without_a_scan():
    model, variables, images = made(scan_blocks=True)
    maps = vit.attention_maps(model, variables, images)
    wanted = vit.attention_maps(model.clone(scan_blocks=False), variables, images)
    assert maps.shape == (4, 3, 2, 17, 17)
    np.testing.assert_array_equal(maps, wanted)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_scan_drops_at_the_rate_of_each_block(dtype):
    model = scenax.models.create_model(
        "test_vit",
        img_size=16,
        depth=5,
        drop_path_rate=0.8,
        features_only=True,
        out_indices=5,
        scan_blocks=True,
        dtype=dtype,
    )
    images = jax.random.normal(jax.random.key(0), (1000, 16, 16, 3))
    variables = model.init(jax.random.key(1), images[:1], train=False)
    variables = jax.tree.map(lambda leaf: 3 * leaf, variables)
    apply = jax.jit(functools.partial(model.apply, train=True))
    maps = apply(variables, images, rngs={"dropout": jax.random.key(2)})
    untouched = [
        np.all(np.asarray(after == before), axis=(1, 2, 3))
        for before, after in itertools.pairwise(maps)
    ]
    rates = np.array([0.2, 0.4, 0.6, 0.8])
    # Both branches of a block have to be dropped, and blocks drop independently.
    spread = np.sqrt(rates**2 * (1 - rates**2) / 1000)
    assert np.all(np.abs(np.mean(untouched, axis=1) - rates**2) < 4 * spread)
    assert np.all(np.abs(np.corrcoef(untouched) - np.eye(4)) < 4 / 1000**0.5)
    again, other = (apply(variables, images, rngs={"dropout": jax.random.key(s)}) for s in (2, 3))
    np.testing.assert_array_equal(again[-1], maps[-1])
    assert np.any(np.asarray(other[-1] != maps[-1]))


@functools.cache
def products(size, *, scan_blocks):
    """How many matrix products there are in a training step at the published size."""
    model = scenax.models.create_model(f"vit_{size}_patch16_224", scan_blocks=scan_blocks)
    images = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    init = functools.partial(model.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), images)
    program = jax.make_jaxpr(jax.grad(functools.partial(loss, model), has_aux=True))
    return str(program(variables, images)).count("dot_general[")


def test_a_scan_is_as_long_for_every_depth():
    small, large = (products(size, scan_blocks=True) for size in ("small", "large"))
    assert small == large
    assert products("large", scan_blocks=False) > 10 * large


def test_a_scan_misses_what_the_loop_misses():
    model, variables, images = made(scan_blocks=True)
    params = {name: leaf for name, leaf in variables["params"].items() if name != "blocks_1"}
    with pytest.raises(errors.ScopeParamNotFoundError, match="blocks_1"):
        model.apply({"params": params}, images, train=False)
