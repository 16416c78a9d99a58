import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from scenax.common.flops import count_flops
from scenax.models.layers.conv import Conv

# Channels, features, side of the kernel, stride, padding, groups: each path of conv.py.
CASES = {
    "pointwise": (8, 16, 1, 1, 0, 1),
    "pointwise with stride": (8, 16, 1, 2, 0, 1),
    "patches that leave a border": (8, 16, 2, 2, "VALID", 1),
    "image stem": (3, 8, 7, 2, 3, 1),
    "TensorFlow's padding": (24, 8, 3, 2, "SAME", 1),
    "depthwise": (24, 24, 3, 1, 1, 24),
    "depthwise with TensorFlow's padding": (24, 24, 5, 2, "SAME", 24),
    "groups": (24, 48, 3, 1, ((1, 0), (2, 1)), 4),
}


def pair(case, dtype=jnp.float32):
    """Flax's convolution and ours, variables for both, and a map."""
    chans, features, side, stride, padding, groups = CASES[case]
    options = {"strides": stride, "padding": padding, "feature_group_count": groups}
    modules = [make(features, (side, side), dtype=dtype, **options) for make in (nn.Conv, Conv)]
    x = jax.random.normal(jax.random.key(0), (2, 17, 14, chans))
    theirs, ours = (module.init(jax.random.key(1), x) for module in modules)
    jax.tree.map(np.testing.assert_array_equal, theirs, ours)
    return *modules, jax.tree.map(lambda leaf: leaf + 0.1, ours), x


def assert_close(got, wanted):
    for one, two in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert one.shape == two.shape
        assert np.abs(one - two).max() <= 1e-5 * np.abs(two).max()


@pytest.mark.parametrize("case", CASES)
def test_values_and_derivatives_are_those_of_flax(case):
    theirs, ours, variables, x = pair(case)

    def both_orders(module):
        def loss(variables, x):
            return jnp.sum(jnp.sin(module.apply(variables, x)))

        gradient = jax.grad(loss, argnums=(0, 1))
        return jax.jit(lambda *at: (module.apply(*at), *jax.jvp(gradient, at, at)))(variables, x)

    assert_close(both_orders(ours), both_orders(theirs))


@pytest.mark.parametrize("case", CASES)
def test_multiply_adds_are_those_of_flax(case):
    theirs, ours, variables, x = pair(case)
    assert count_flops(ours.apply, variables, x) == count_flops(theirs.apply, variables, x) > 0


@pytest.mark.parametrize("case", CASES)
def test_bfloat16_is_as_precise_as_flax(case):
    exact, _, variables, x = pair(case)
    theirs, ours, _, _ = pair(case, jnp.bfloat16)
    wanted = np.asarray(exact.apply(variables, x))
    outputs = [np.asarray(m.apply(variables, x), np.float32) for m in (ours, theirs)]
    got, other = (np.abs(output - wanted).max() for output in outputs)
    assert ours.apply(variables, x).dtype == jnp.bfloat16
    assert got <= 2 * other


def test_other_platforms_keep_the_native_convolution():
    _, ours, variables, x = pair("depthwise")
    lower = jax.jit(ours.apply).trace(variables, x).lower
    on_tpu = lower(lowering_platforms=("tpu",)).as_text()
    on_cpu = lower(lowering_platforms=("cpu",)).as_text()
    assert "stablehlo.convolution" in on_tpu
    assert "stablehlo.convolution" not in on_cpu


def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="4 groups do not divide 6 channels and 8 features"):
        Conv(8, (3, 3), feature_group_count=4).init(jax.random.key(0), jnp.zeros((1, 4, 4, 6)))
