import functools
import math
import subprocess
import sys
import textwrap

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.experimental import pallas as pl
from jax.sharding import AxisType, PartitionSpec

from scenax.common.flops import count_flops
from scenax.common.tree import parameter_count

sizes = st.integers(1, 40)


def spec(*shape: int, dtype="float32") -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


MATMUL = 2 * 5 * 7 * 3  # [5, 7] @ [7, 3]
A, B = spec(5, 7), spec(7, 3)


@settings(deadline=None, max_examples=30)
@given(sizes, sizes, sizes, sizes)
def test_matrix_products_of_any_size(batch, rows, terms, columns):
    flops = count_flops(jnp.matmul, spec(batch, rows, terms), spec(batch, terms, columns))
    assert flops == batch * rows * columns * terms * 2


@pytest.mark.parametrize(
    ("equation", "shapes", "macs"),
    [
        ("bqhd,bkhd->bhqk", [(2, 5, 3, 4), (2, 6, 3, 4)], 2 * 5 * 6 * 3 * 4),
        ("ij,j->i", [(5, 7), (7,)], 5 * 7),
        ("i,j->ij", [(5,), (7,)], 5 * 7),
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)], 2 * 3 * 4 + 2 * 4 * 5),
    ],
)
def test_einsum(equation, shapes, macs):
    assert (
        count_flops(functools.partial(jnp.einsum, equation), *[spec(*s) for s in shapes])
        == 2 * macs
    )


def convolve(x, kernel, **options):
    options = {"window_strides": (1, 1), "padding": "SAME"} | options
    return lax.conv_general_dilated(
        x, kernel, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


@pytest.mark.parametrize(
    ("options", "inputs_per_group", "out_size"),
    [
        ({}, 12, 20),
        ({"padding": "VALID"}, 12, 18),
        ({"window_strides": (2, 2)}, 12, 10),
        ({"feature_group_count": 4}, 3, 20),
        ({"feature_group_count": 12}, 1, 20),
        ({"rhs_dilation": (2, 2)}, 12, 20),
        ({"rhs_dilation": (2, 2), "padding": "VALID"}, 12, 16),
    ],
)
def test_convolutions(options, inputs_per_group, out_size):
    x, kernel = spec(2, 20, 20, 12), spec(3, 3, inputs_per_group, 24)
    expected = 2 * (2 * out_size**2) * (3 * 3 * inputs_per_group) * 24
    assert count_flops(functools.partial(convolve, **options), x, kernel) == expected


def test_convolutions_over_one_and_three_axes():
    one = count_flops(
        nn.Conv(6, (5,)).apply,
        {"params": {"kernel": spec(5, 4, 6), "bias": spec(6)}},
        spec(2, 9, 4),
    )
    assert one == 2 * 2 * 9 * 5 * 4 * 6
    params = {"kernel": spec(3, 3, 3, 4, 6), "bias": spec(6)}
    three = count_flops(nn.Conv(6, (3, 3, 3)).apply, {"params": params}, spec(2, 4, 8, 8, 4))
    assert three == 2 * 2 * 4 * 8 * 8 * 27 * 4 * 6


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("size", "stride"), [(2, 2), (4, 2), (3, 2), (3, 3)])
def test_a_transposed_convolution_counts_every_tap_of_every_input(padding, size, stride):
    def fn(x, kernel):
        return lax.conv_transpose(x, kernel, (stride, stride), padding)

    flops = count_flops(fn, spec(2, 14, 14, 8), spec(size, size, 8, 16))
    assert flops == 2 * (2 * 14 * 14) * (size * size) * 8 * 16


def test_gradients_of_convolutions_cost_as_much_as_the_convolution():
    for stride, groups in [(1, 1), (2, 1), (2, 4)]:
        fn = functools.partial(
            convolve, window_strides=(stride, stride), feature_group_count=groups
        )
        x, kernel = spec(2, 20, 20, 12), spec(3, 3, 12 // groups, 24)
        forward = 2 * (2 * (20 // stride) ** 2) * 9 * (12 // groups) * 24
        for argnum in (0, 1):
            gradient = jax.grad(lambda *args, fn=fn: fn(*args).sum(), argnum)
            assert count_flops(gradient, x, kernel) == forward


def test_gradients_of_transposed_convolutions_cost_as_much_too():
    def loss(x, kernel):
        return lax.conv_transpose(x, kernel, (2, 2), "SAME").sum()

    x, kernel = spec(2, 14, 14, 8), spec(2, 2, 8, 16)
    forward = 2 * (2 * 14 * 14) * 4 * 8 * 16
    assert count_flops(jax.grad(loss, (0, 1)), x, kernel) == 2 * forward


def test_linear_layers_backward_is_two_products_and_the_unused_forward_is_none():
    def loss(a, b):
        return (a @ b).sum()

    assert count_flops(jax.grad(loss), A, B) == MATMUL
    assert count_flops(jax.grad(loss, (0, 1)), A, B) == 2 * MATMUL
    assert count_flops(jax.value_and_grad(loss, (0, 1)), A, B) == 2 * MATMUL + MATMUL
    assert count_flops(jax.grad(lambda a, b: ((a @ b) ** 2).sum(), (0, 1)), A, B) == 3 * MATMUL


def test_dead_products_do_not_count():
    def fn(a, b):
        _ = jax.jit(jnp.matmul)(a, b)
        return a

    assert count_flops(fn, A, B) == 0


def test_a_scan_counts_as_often_as_it_runs():
    def stack(x, weights):
        return lax.scan(lambda y, w: (jnp.tanh(y @ w), None), x, weights)[0]

    assert count_flops(stack, spec(4, 16), spec(12, 16, 16)) == 12 * (2 * 4 * 16 * 16)
    # Backward: two products a layer, and the forward pass once more for its result.
    gradient = jax.grad(lambda w, x: stack(x, w).sum())
    assert count_flops(gradient, spec(12, 16, 16), spec(4, 16)) == 3 * 12 * (2 * 4 * 16 * 16)


def test_a_loop_between_known_bounds_counts_as_often_as_it_runs():
    def fn(x, w):
        return lax.fori_loop(0, 5, lambda _, y: y @ w, x)

    assert count_flops(fn, spec(4, 16), spec(16, 16)) == 5 * (2 * 4 * 16 * 16)
    mapped = functools.partial(lax.map, lambda x: x @ jnp.ones((16, 3)))
    assert count_flops(mapped, spec(6, 4, 16)) == 6 * (2 * 4 * 16 * 3)


def test_a_condition_counts_as_its_costliest_branch():
    def fn(index, a, b):
        return lax.switch(
            index, [lambda: a @ b, lambda: 2.0 * (a @ b) + a @ b, lambda: jnp.ones((5, 3))]
        )

    assert count_flops(fn, spec(dtype="int32"), A, B) == 2 * MATMUL


def test_rematerialised_products_count_again():
    def loss(w, x, layer):
        return layer(layer(x, w), w).sum()

    def layer(x, w):
        return jnp.tanh(x @ w)

    w, x, product = spec(16, 16), spec(4, 16), 2 * 4 * 16 * 16
    plain = count_flops(jax.grad(loss), w, x, layer)
    remat = count_flops(jax.grad(loss), w, x, jax.checkpoint(layer))
    assert plain == (2 + 3) * product  # forward 2, to the weights 2, to the first layer's output 1
    assert plain < remat <= plain + 2 * product
    assert count_flops(loss, w, x, jax.checkpoint(layer)) == 2 * product


def test_wrappers_do_not_change_the_count():
    @jax.custom_jvp
    def with_jvp(a, b):
        return a @ b

    with_jvp.defjvp(lambda primals, tangents: (with_jvp(*primals), tangents[0] @ primals[1]))

    @jax.custom_vjp
    def with_vjp(a, b):
        return a @ b

    with_vjp.defvjp(lambda a, b: (a @ b, (a, b)), lambda saved, g: (g @ saved[1].T, saved[0].T @ g))
    for fn in (
        jax.jit(jnp.matmul),
        jax.jit(jax.jit(jnp.matmul)),
        with_jvp,
        with_vjp,
        jax.checkpoint(jnp.matmul),
    ):
        assert count_flops(fn, A, B) == MATMUL
    assert count_flops(jax.grad(lambda a, b: with_vjp(a, b).sum(), (0, 1)), A, B) == 2 * MATMUL


def test_vmap_counts_every_example():
    assert count_flops(jax.vmap(jnp.matmul), spec(6, 5, 7), spec(6, 7, 3)) == 6 * MATMUL
    assert count_flops(jax.vmap(jnp.matmul, in_axes=(0, None)), spec(6, 5, 7), B) == 6 * MATMUL
    kernels = jax.vmap(convolve)
    expected = 6 * (2 * 2 * 8 * 8 * 9 * 4 * 5)
    assert count_flops(kernels, spec(6, 2, 8, 8, 4), spec(6, 3, 3, 4, 5)) == expected


def test_shard_map_counts_all_shards():
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    rows = PartitionSpec(("data", "model"))
    fn = jax.shard_map(jnp.matmul, mesh=mesh, in_specs=(rows, PartitionSpec()), out_specs=rows)
    assert count_flops(fn, spec(16, 7), B) == 2 * 16 * 7 * 3


def test_arguments_that_are_no_arrays_reach_the_function_as_they_are():
    def fn(params, x, *, train, how="plain", dtype=None):
        assert dtype is np.float32
        assert train is False
        assert how == "fancy"
        return x @ params["w"]

    assert (
        count_flops(
            fn,
            {"w": spec(7, 3)},
            x=np.zeros((5, 7), np.float32),
            train=False,
            how="fancy",
            dtype=np.float32,
        )
        == MATMUL
    )


def test_randomness_needs_an_abstract_key_only():
    model = nn.Sequential([nn.Dense(8), nn.Dropout(0.5, deterministic=False)])
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(model.init, {"params": key, "dropout": key}, spec(2, 4))
    assert count_flops(model.apply, params, spec(2, 4), rngs={"dropout": key}) == 2 * 2 * 4 * 8


def test_products_in_a_while_loop_are_an_error():
    def fn(x, w, steps):
        return lax.fori_loop(0, steps, lambda _, y: y @ w, x)

    with pytest.raises(ValueError, match=r"products in a while loop.*jax\.lax\.scan"):
        count_flops(fn, spec(4, 4), spec(4, 4), spec(dtype="int32"))


def test_a_while_loop_without_products_is_none():
    assert (
        count_flops(
            lambda x, n: lax.fori_loop(0, n, lambda _, y: y + 1, x), spec(4), spec(dtype="int32")
        )
        == 0
    )


def test_kernels_that_hide_their_products_are_an_error():
    def kernel(a, b, out):
        out[...] = a[...] @ b[...]

    fn = pl.pallas_call(kernel, out_shape=spec(8, 8), interpret=True)
    with pytest.raises(ValueError, match="calls pallas_call"):
        count_flops(fn, spec(8, 8), spec(8, 8))
    with pytest.raises(ValueError, match="calls ragged_dot"):
        count_flops(lax.ragged_dot, spec(8, 4), spec(2, 4, 3), spec(2, dtype="int32"))


def test_products_in_an_unknown_primitive_are_an_error():
    def solve(a, b):
        return lax.custom_linear_solve(
            lambda x: a @ x, b, lambda matvec, y: matvec(y), symmetric=True
        )

    with pytest.raises(ValueError, match="products in a custom_linear_solve"):
        count_flops(solve, spec(4, 4), spec(4))


def test_agrees_with_xla_where_the_definitions_meet():
    def mlp(x, weights):
        for w in weights:
            x = jax.nn.relu(x @ w)
        return x

    args = spec(32, 64), [spec(64, 256), spec(256, 256), spec(256, 10)]
    analysis = jax.jit(mlp).lower(*args).cost_analysis()
    assert count_flops(mlp, *args) == pytest.approx(analysis["flops"], rel=0.05)


class Block(nn.Module):
    heads: int

    @nn.compact
    def __call__(self, x):
        width = x.shape[-1]
        x = x + nn.MultiHeadDotProductAttention(self.heads)(nn.LayerNorm()(x))
        return x + nn.Dense(width)(nn.gelu(nn.Dense(4 * width)(nn.LayerNorm()(x))))


class ViT(nn.Module):
    """A plain vision transformer (arXiv:2010.11929)."""

    patch: int
    width: int
    depth: int
    heads: int

    @nn.compact
    def __call__(self, images):
        size = (self.patch, self.patch)
        x = nn.Conv(self.width, size, size, padding="VALID")(images)
        x = x.reshape(x.shape[0], -1, self.width)
        cls = self.param("cls", nn.initializers.zeros, (1, 1, self.width))
        x = jnp.concatenate([jnp.tile(cls, (x.shape[0], 1, 1)), x], axis=1)
        x = x + self.param("positions", nn.initializers.zeros, (1, *x.shape[1:]))
        for _ in range(self.depth):
            x = Block(self.heads)(x)
        return nn.Dense(1000)(nn.LayerNorm()(x)[:, 0])


def vit_macs(*, patch, width, depth, size=224):
    patches = (size // patch) ** 2
    n = patches + 1
    block = 4 * n * width**2 + 2 * n**2 * width + 8 * n * width**2  # q k v out, attention, mlp
    return patches * (3 * patch**2) * width + depth * block + width * 1000


def test_vit_b16_costs_what_is_published():
    model, image = ViT(patch=16, width=768, depth=12, heads=12), spec(1, 224, 224, 3)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    flops = count_flops(model.apply, variables, image)
    assert flops == 2 * vit_macs(patch=16, width=768, depth=12)
    assert flops / 2e9 == pytest.approx(17.58, rel=0.005)  # GMACs in timm's results
    assert parameter_count(variables) == 86_567_656  # torchvision's vit_b_16
    assert count_flops(model.apply, variables, spec(8, 224, 224, 3)) == 8 * flops


def test_vit_h14_takes_seconds_and_no_memory():
    """In a process of its own, since a process's peak memory never goes down again."""
    code = """
        import importlib.util, resource, sys, time
        import jax
        found = importlib.util.spec_from_file_location("test_flops", sys.argv[1])
        tests = importlib.util.module_from_spec(found)
        found.loader.exec_module(tests)
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        key = jax.random.key(0)
        before, start = peak(), time.perf_counter()
        model = tests.ViT(patch=14, width=1280, depth=32, heads=16)
        image = tests.spec(1, 224, 224, 3)
        variables = jax.eval_shape(model.init, key, image)
        flops = tests.count_flops(model.apply, variables, image)
        seconds = time.perf_counter() - start
        print(flops, tests.parameter_count(variables), seconds, (peak() - before) / 1024)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), __file__],
        check=True,
        capture_output=True,
        text=True,
    )
    flops, parameters, seconds, mebibytes = map(float, done.stdout.split())
    assert flops == 2 * vit_macs(patch=14, width=1280, depth=32)
    assert flops / 2e9 == pytest.approx(167.3, rel=0.005)  # torchvision's vit_h_14
    assert parameters == 632_045_800  # likewise; 2.5 GB in float32
    assert seconds < 20
    if sys.platform == "linux":  # elsewhere ru_maxrss has another unit
        assert mebibytes < 300


def test_counting_is_exact_beyond_32_and_64_bits():
    huge = 2**22
    assert count_flops(jnp.matmul, spec(huge, huge), spec(huge, huge)) == math.prod(
        [2, huge, huge, huge]
    )
