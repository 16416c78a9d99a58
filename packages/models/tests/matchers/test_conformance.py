"""What every matcher owes, and what the exact ones do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy.optimize import linear_sum_assignment

from scenax.models.matchers.greedy import greedy
from scenax.models.matchers.hungarian import hungarian
from scenax.models.matchers.hungarian_host import hungarian_host
from scenax.models.matchers.lazy import lazy
from scenax.models.matchers.sinkhorn import sinkhorn

MATCHERS = {f.__name__: jax.jit(f) for f in (lazy, greedy, sinkhorn, hungarian, hungarian_host)}
EXACT = ("hungarian", "hungarian_host")
SHAPES = [(1, 1), (1, 7), (7, 1), (5, 9), (9, 5), (8, 8), (20, 20), (24, 6)]


def random_costs(kind, shape, seed):
    rng = np.random.default_rng(seed)
    if kind == "uniform":
        return rng.uniform(size=shape)
    if kind == "negative":
        return rng.normal(size=shape) - 2
    if kind == "tied":
        return rng.integers(0, 4, size=shape).astype(float)
    if kind == "constant":
        return np.full(shape, rng.normal())
    if kind == "products":  # Where taking the cheapest first goes wrong most.
        return np.arange(1, shape[1] + 1)[:, None] * rng.uniform(1, 2, size=(1, shape[2])) + (
            np.zeros(shape)
        )
    return 10.0 ** rng.uniform(-6, 6, size=shape)  # huge range


KINDS = ["uniform", "negative", "tied", "constant", "products", "huge range"]


def assert_is_matching(indices, n, m):
    assert indices.shape[1:] == (2, min(n, m))
    for predictions, targets in np.asarray(indices):
        assert len(set(predictions)) == len(set(targets)) == min(n, m)
        assert set(predictions) <= set(range(n)) and set(targets) <= set(range(m))
        order = targets if m <= n else predictions
        assert list(order) == sorted(order)


def least_cost(cost, real):
    """Of matching every real target that can be, by scipy in float64."""
    cost = cost[:, real]
    return cost[linear_sum_assignment(cost)].sum()


def cost_of(cost, indices, real):
    return sum(cost[i, j] for i, j in np.asarray(indices).T if real[j])


# 2 matchers x 8 shapes x 6 kinds x 22 = 2,112 problems, half of them with padding.
@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_exact_matchers_reach_the_least_cost(name, shape):
    n, m = shape
    for seed, kind in enumerate(KINDS):
        costs = random_costs(kind, (22, n, m), seed).astype(np.float32)
        rng = np.random.default_rng(seed)
        real = rng.uniform(size=(22, m)) < rng.uniform(size=(22, 1))
        real[::2] = True
        padded = np.where(real[:, None], costs, np.nan)
        indices = MATCHERS[name](jnp.asarray(padded), jnp.asarray(real))
        assert_is_matching(indices, n, m)
        unmasked = MATCHERS[name](jnp.asarray(costs))
        assert_is_matching(unmasked, n, m)
        for cost, one, is_real, plain in zip(
            costs.astype(float), indices, real, unmasked, strict=True
        ):
            matched_targets = sum(is_real[np.asarray(one[1])])
            assert matched_targets == min(n, is_real.sum())
            wanted = least_cost(cost, is_real)
            size = np.abs(cost[:, is_real]).max(initial=0) if kind == "negative" else abs(wanted)
            assert cost_of(cost, one, is_real) == pytest.approx(wanted, rel=0, abs=2e-6 * size)
            every = np.ones(m, bool)
            wanted = least_cost(cost, every)
            size = max(abs(wanted), np.abs(cost).max() if kind == "negative" else 0)
            assert cost_of(cost, plain, every) == pytest.approx(wanted, rel=0, abs=2e-6 * size)


@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=60, deadline=None)
@given(
    costs=hnp.arrays(
        np.float32, (3, 4, 6), elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
    ),
    real=hnp.arrays(bool, (3, 6)),
    turned=st.booleans(),
)
def test_exact_matchers_on_any_costs(name, costs, real, turned):
    if turned:
        costs, real = costs.transpose(0, 2, 1), real[:, :4]
    indices = MATCHERS[name](jnp.asarray(costs), jnp.asarray(real))
    assert_is_matching(indices, *costs.shape[1:])
    for cost, one, is_real in zip(costs.astype(float), indices, real, strict=True):
        wanted = least_cost(cost, is_real)
        slack = 1e-5 * np.abs(cost[:, is_real]).max(initial=0)
        assert cost_of(cost, one, is_real) == pytest.approx(wanted, rel=0, abs=slack)


@pytest.mark.parametrize("name", MATCHERS)
@settings(max_examples=40, deadline=None)
@given(
    costs=hnp.arrays(
        np.float32,
        (2, 5, 4),
        elements=st.sampled_from([0.0, 1.0, 2.5, -3.0, np.nan, np.inf, -np.inf, 1e30, 1e-30]),
    ),
    real=hnp.arrays(bool, (2, 4)),
)
def test_what_is_not_finite_is_a_matching_all_the_same(name, costs, real):
    assert_is_matching(MATCHERS[name](jnp.asarray(costs), jnp.asarray(real)), 5, 4)


@pytest.mark.parametrize("name", [*EXACT, "greedy"])
def test_forbidden_pairs_come_up_only_where_there_is_no_other_way(name):
    nan, inf = np.nan, np.inf
    costs = [[[1, nan, inf], [nan, 5, inf], [inf, inf, 900]], [[nan, 2, 2], [nan, 1, 1], [nan] * 3]]
    indices = np.asarray(MATCHERS[name](jnp.asarray(costs, jnp.float32)))
    assert indices[0].tolist() == [[0, 1, 2], [0, 1, 2]]
    assert indices[1, 0, 0] == 2
    # One that is wanted more than all others together.
    costs = jnp.full((1, 2, 3), -5.0).at[0, 1, 2].set(-inf)
    assert np.asarray(MATCHERS[name](costs))[0, :, 1].tolist() == [1, 2]


@pytest.mark.parametrize("name", MATCHERS)
@pytest.mark.parametrize("factor", [2.0**-40, 2.0**60])
def test_the_scale_of_the_costs_does_not_matter(name, factor):
    """The original Scenic's are wrong above 1e10, and greedy repeats itself on large costs."""
    costs = random_costs("uniform", (4, 9, 7), 0).astype(np.float32)
    wanted = MATCHERS[name](jnp.asarray(costs))
    np.testing.assert_array_equal(MATCHERS[name](jnp.asarray(costs * factor)), wanted)


@pytest.mark.parametrize("name", MATCHERS)
def test_all_nan_ends(name):
    """The original Scenic's Hungarian hangs on it."""
    assert_is_matching(MATCHERS[name](jnp.full((2, 6, 6), jnp.nan)), 6, 6)


@pytest.mark.parametrize("name", MATCHERS)
def test_batches_above_ten(name):
    """On which the original Scenic's Sinkhorn fails."""
    costs = random_costs("uniform", (17, 6, 6), 0)
    many = MATCHERS[name](jnp.asarray(costs, jnp.float32))
    for cost, one in zip(costs, many, strict=True):
        np.testing.assert_array_equal(MATCHERS[name](jnp.asarray(cost, jnp.float32)[None])[0], one)


@pytest.mark.parametrize("name", MATCHERS)
def test_empty_batches_and_no_targets(name):
    assert MATCHERS[name](jnp.zeros((0, 3, 2))).shape == (0, 2, 2)
    assert MATCHERS[name](jnp.zeros((2, 3, 0))).shape == (2, 2, 0)
    nothing_real = MATCHERS[name](jnp.zeros((2, 3, 2)), jnp.zeros((2, 2), bool))
    assert_is_matching(nothing_real, 3, 2)


@pytest.mark.parametrize("name", MATCHERS)
def test_dtypes_and_gradients(name):
    costs = jnp.asarray(random_costs("tied", (2, 5, 4), 0), jnp.bfloat16)
    assert MATCHERS[name](costs).dtype == jnp.int32

    def objective(costs):
        predictions, targets = MATCHERS[name](costs[None])[0]
        return jnp.sum(costs[predictions, targets])

    costs = jnp.asarray(random_costs("uniform", (5, 4), 1), jnp.float32)
    predictions, targets = MATCHERS[name](costs[None])[0]
    wanted = np.zeros((5, 4))
    wanted[predictions, targets] = 1
    np.testing.assert_array_equal(jax.grad(objective)(costs), wanted)


@pytest.mark.parametrize("name", ["hungarian", "greedy", "sinkhorn"])
def test_batches_over_devices(name):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    costs = jnp.asarray(random_costs("uniform", (16, 9, 7), 0), jnp.float32)
    spread = jax.device_put(costs, NamedSharding(mesh, PartitionSpec("data")))
    np.testing.assert_array_equal(MATCHERS[name](spread), MATCHERS[name](costs))


def test_the_exact_one_never_leaves_the_device():
    text = jax.jit(hungarian).lower(jnp.zeros((2, 5, 4))).as_text()
    assert "callback" not in text
    assert "callback" in jax.jit(hungarian_host).lower(jnp.zeros((2, 5, 4))).as_text()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(7, 7), (4, 9), (9, 4)], ids=str)
def test_greedy_takes_one_cheapest_pair_at_a_time(kind, shape):
    costs = random_costs(kind, (20, *shape), 1).astype(np.float32)
    for cost, indices in zip(costs, MATCHERS["greedy"](jnp.asarray(costs)), strict=True):
        left, wanted = cost.astype(float), []
        for _ in range(min(shape)):
            i, j = np.unravel_index(np.argmin(left), shape)
            wanted.append((i, j))
            left[i], left[:, j] = np.inf, np.inf
        assert sorted(wanted) == sorted(map(tuple, np.asarray(indices).T))


def test_lazy_keeps_the_order():
    indices = MATCHERS["lazy"](jnp.zeros((2, 3, 2)))
    assert np.asarray(indices).tolist() == [[[0, 1], [0, 1]]] * 2


@pytest.mark.parametrize("shape", [(40, 40), (40, 15), (15, 40)], ids=str)
def test_sinkhorn_finds_what_stands_out(shape):
    n, m = shape
    rng = np.random.default_rng(0)
    costs = rng.uniform(0.5, 1, size=(12, n, m))
    for cost in costs:
        i, j = rng.permutation(n)[: min(n, m)], rng.permutation(m)[: min(n, m)]
        cost[i, j] = rng.uniform(0, 0.3, size=min(n, m))
    indices = MATCHERS["sinkhorn"](jnp.asarray(costs, jnp.float32))
    np.testing.assert_array_equal(indices, MATCHERS["hungarian"](jnp.asarray(costs, jnp.float32)))


def test_sinkhorn_on_costs_without_structure():
    """Where it is worst: near the least cost if there are more predictions than targets."""
    costs = random_costs("uniform", (16, 100, 30), 0)
    indices = MATCHERS["sinkhorn"](jnp.asarray(costs, jnp.float32))
    every = np.ones(30, bool)
    ratios = [
        cost_of(cost, one, every) / least_cost(cost, every)
        for cost, one in zip(costs, indices, strict=True)
    ]
    assert np.mean(ratios) < 1.02
