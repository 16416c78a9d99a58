import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from scenax.train import sharding

PARAMS = {
    "blocks_0": {
        "attn": {
            "qkv": {"kernel": (256, 768), "bias": (768,)},
            "proj": {"kernel": (256, 256), "bias": (256,)},
        },
        "mlp": {
            "fc1": {"kernel": (256, 1024), "bias": (1024,)},
            "fc2": {"kernel": (1024, 256), "bias": (256,)},
        },
        "norm1": {"scale": (256,)},
    },
    "patch_embed": {"proj": {"kernel": (16, 16, 3, 256)}},
    "head": {"kernel": (256, 10), "bias": (10,)},
}
STATE = jax.tree.map(
    lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
    {"params": PARAMS, "opt_state": ({"mu": PARAMS}, {"count": ()})},
    is_leaf=lambda x: isinstance(x, tuple) and all(isinstance(n, int) for n in x),
)


def specs(strategy, model=1):
    mesh = sharding.make_mesh(model=model)
    placed = sharding.shardings(STATE, mesh, sharding.make_rules(strategy))
    return jax.tree.map(lambda where: where.spec, placed)


@pytest.mark.parametrize("model", [1, 2, 8])
def test_a_mesh_has_all_devices_once(model):
    mesh = sharding.make_mesh(model=model)
    assert dict(mesh.shape) == {"data": 8 // model, "model": model}
    assert sorted(d.id for d in mesh.devices.flat) == list(range(8))


def test_replicated_is_whole():
    assert set(jax.tree.leaves(specs("replicated"))) == {PartitionSpec()}


def test_fully_sharded_splits_the_largest_dimension_of_what_is_large():
    found = specs("fsdp")
    for part in (found["params"], found["opt_state"][0]["mu"]):
        assert part["blocks_0"]["attn"]["qkv"]["kernel"] == PartitionSpec(None, "data")
        assert part["blocks_0"]["attn"]["proj"]["kernel"] == PartitionSpec("data")
        assert part["blocks_0"]["mlp"]["fc2"]["kernel"] == PartitionSpec("data")
        assert part["patch_embed"]["proj"]["kernel"] == PartitionSpec(None, None, None, "data")
        assert part["head"]["kernel"] == PartitionSpec()  # It is small.
        assert part["blocks_0"]["norm1"]["scale"] == PartitionSpec()
    assert found["opt_state"][1]["count"] == PartitionSpec()


@pytest.mark.parametrize(("strategy", "other"), [("tensor", None), ("fsdp+tensor", "data")])
def test_tensor_parallel_splits_out_and_in_again(strategy, other):
    block = specs(strategy, model=2)["params"]["blocks_0"]
    for layer in (block["attn"]["qkv"], block["mlp"]["fc1"]):
        assert layer["kernel"] == PartitionSpec(other, "model")
        assert layer["bias"] == PartitionSpec("model")
    for layer in (block["attn"]["proj"], block["mlp"]["fc2"]):
        assert layer["kernel"] == PartitionSpec("model", other)
        assert layer["bias"] == PartitionSpec()
    patches = specs(strategy, model=2)["params"]["patch_embed"]["proj"]["kernel"]
    assert patches == (PartitionSpec() if other is None else PartitionSpec(*[None] * 3, "data"))


def test_the_first_rule_that_is_found_counts_and_ranks_have_to_fit():
    rules = {"fc1": ["model"], "mlp": [None, "model"], "": "fsdp"}
    block = specs(rules, model=4)["params"]["blocks_0"]
    assert block["mlp"]["fc1"]["bias"] == PartitionSpec("model")
    assert block["mlp"]["fc1"]["kernel"] == PartitionSpec(None, "model")
    assert block["attn"]["qkv"]["kernel"] == PartitionSpec(None, "data")


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        ("fdsp", r"no sharding 'fdsp'. Did you mean 'fsdp'"),
        ({"qvk": (None, "model")}, r"rule 'qvk' is for no array.*params/blocks_0"),
        ({"qkv": (None, None, "model")}, r"rule 'qkv' is for no array"),
        ({"qkv": (None, "modle")}, r"no axis 'modle'. Did you mean 'model'"),
        ({"head/kernel": (None, "model")}, r"head/kernel \(256, 10\).*10 is not a multiple of.* 4"),
    ],
)
def test_what_cannot_be_is_named(strategy, said):
    with pytest.raises(ValueError, match=said):
        specs(strategy, model=4)


@pytest.mark.parametrize("model", [0, 3, 16])
def test_a_mesh_that_cannot_be_is_named(model):
    with pytest.raises(ValueError, match=rf"must divide the 8 devices.*got {model}"):
        sharding.make_mesh(model=model)


def test_a_batch_is_split_over_data_alone():
    mesh = sharding.make_mesh(model=2)
    put = sharding.put_batch({"x": np.arange(6, dtype=np.float32)}, mesh)["x"]
    np.testing.assert_array_equal(put, [0, 1, 2, 3, 4, 5, 0, 0])  # Filled up for 4 parts.
    assert {shard.data.shape for shard in put.addressable_shards} == {(2,)}


def test_gathered_parameters_are_whole_in_the_loss_and_gradients_are_stored_as_they():
    mesh = sharding.make_mesh()
    stored = {"w": jax.NamedSharding(mesh, PartitionSpec("data"))}
    gather, wrap = sharding.gathering(stored)
    x = np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)
    w = np.random.default_rng(1).normal(size=(16, 8)).astype(np.float32)

    def loss(params):
        return jnp.sum(jnp.tanh(x @ gather(params)["w"]))

    placed = jax.device_put({"w": jnp.asarray(w)}, stored)
    compiled = jax.jit(jax.grad(wrap(loss))).lower(placed).compile()
    found = compiled(placed)["w"]
    np.testing.assert_allclose(found, x.T @ (1 - np.tanh(x @ w) ** 2), rtol=1e-4, atol=1e-5)
    assert found.sharding.is_equivalent_to(stored["w"], 2)
    assert "all-gather" in compiled.as_text()


def test_whole_parameters_are_left_alone():
    everywhere = {"w": sharding.replicated(sharding.make_mesh())}
    for stored in (None, everywhere):
        gather, wrap = sharding.gathering(stored)
        params = {"w": jnp.ones(3)}
        assert gather(params) is params
        assert wrap(gather) is gather
