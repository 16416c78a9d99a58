import dataclasses
from typing import Any, NamedTuple

import flax.core
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenax.common.tree import flatten_with_paths, parameter_count, parameter_table


class Moments(NamedTuple):
    count: Any
    mu: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    step: Any
    moments: Any


def test_paths_of_every_kind_of_container():
    tree = State(
        step=0,
        moments=(
            Moments(count=1, mu={"dense": {"kernel": 2, "bias": 3}}),
            [flax.core.freeze({"a": 4}), None],
            {7: 5},
        ),
    )
    assert flatten_with_paths(tree) == {
        "step": 0,
        "moments/0/count": 1,
        "moments/0/mu/dense/bias": 3,
        "moments/0/mu/dense/kernel": 2,
        "moments/1/0/a": 4,
        "moments/2/7": 5,
    }


def test_a_single_leaf_has_the_empty_path_and_an_empty_tree_none():
    assert flatten_with_paths(3.0) == {"": 3.0}
    assert flatten_with_paths({"a": None, "b": ()}) == {}


@pytest.mark.parametrize("tree", [{"a/b": 1, "a": {"b": 2}}, {"x": {"0": 1, "y": 2}, "x/0": 3}])
def test_paths_that_clash_are_an_error(tree):
    with pytest.raises(ValueError, match="Two leaves of the tree have the path"):
        flatten_with_paths(tree)


words = st.text("abcxyz_0123456789", min_size=1, max_size=5)
trees = st.recursive(
    st.integers(0, 100), lambda inner: st.dictionaries(words, inner, max_size=4), max_leaves=12
)


@given(trees)
def test_the_order_is_the_trees_own_and_every_path_leads_to_its_leaf(tree):
    flat = flatten_with_paths(tree)
    assert list(flat.values()) == jax.tree.leaves(tree)
    for path, leaf in flat.items():
        node = tree
        for key in path.split("/") if path else []:
            node = node[key]
        assert node == leaf


class Classifier(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(16, (3, 3), name="stem")(x)
        x = nn.BatchNorm(use_running_average=True, name="norm")(x)
        return nn.Dense(10, name="head")(x.mean((1, 2)))


def abstract_classifier():
    return jax.eval_shape(Classifier().init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def test_counts_of_an_abstract_model_are_those_of_the_formula():
    variables = abstract_classifier()
    assert parameter_count(variables["params"]) == (3 * 3 * 3 * 16 + 16) + 2 * 16 + (16 * 10 + 10)
    assert parameter_count(variables["batch_stats"]) == 2 * 16


def test_counts_do_not_overflow_and_take_scalars():
    assert (
        parameter_count({"a": jax.ShapeDtypeStruct((2**20, 2**20), jnp.bfloat16), "b": 1.0})
        == 2**40 + 1
    )
    assert parameter_count({}) == 0
    assert parameter_count({"empty": np.zeros((0, 3))}) == 0


def test_the_table_has_a_row_for_every_leaf_and_the_total():
    header, *rows, total = parameter_table(abstract_classifier()["params"]).splitlines()
    assert header.split() == ["path", "shape", "dtype", "size"]
    assert [row.split()[0] for row in rows] == [
        "head/bias",
        "head/kernel",
        "norm/bias",
        "norm/scale",
        "stem/bias",
        "stem/kernel",
    ]
    assert rows[-1].split(maxsplit=1)[1] == "(3, 3, 3, 16) float32   432"
    assert total.split() == ["total", "650"]
    assert len({len(line) for line in [header, *rows, total]}) == 1


def test_the_table_shows_other_dtypes_and_bare_numbers():
    tree = {"bf": jnp.zeros(3, jnp.bfloat16), "key": jax.random.key(0), "n": 2}
    lines = parameter_table(tree).splitlines()
    assert [line.split()[-2] for line in lines[1:-1]] == ["bfloat16", "key<fry>", "int64"]
    assert lines[-1].split() == ["total", "5"]
    assert parameter_table({}).splitlines()[-1].split() == ["total", "0"]
