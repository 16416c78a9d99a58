import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from scenax.train import estimate, sharding, state, step

PROGRAM = """HloModule jit_f, entry_computation_layout={}

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%body.1 (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %gathered = bf16[16,4]{1,0} all-gather(%x), dimensions={0}, to_apply=%add
  ROOT %next = (s32[], f32[8]) tuple(%i, %y)
}

%branch.a (p: f32[8]) -> f32[8] {
  ROOT %moved = f32[8]{0} collective-permute(%p), source_target_pairs={{0,1}}
}

ENTRY %main.5 (p: f32[8]) -> f32[8] {
  %reduced = (f32[3,2]{1,0}, f32[]) all-reduce(%p, %q), to_apply=%add
  %started = f32[10]{0} all-reduce-start(%p), to_apply=%add
  %loop = (s32[], f32[8]) while(%t), condition=%c, body=%body.1, @
  ROOT %chosen = f32[8]{0} conditional(%i, %a, %b), branch_computations={%branch.a, %branch.b}
}
""".replace("@", 'backend_config={"known_trip_count":{"n":"12"}}')


def test_collectives_are_counted_as_often_as_they_run():
    assert estimate.communication(PROGRAM) == {
        "all-gather": 12 * 16 * 4 * 2,
        "all-reduce": 4 * (3 * 2 + 1) + 4 * 10,
        "collective-permute": 4 * 8,
    }


def test_what_a_real_program_exchanges_is_found():
    mesh = sharding.make_mesh()
    split = NamedSharding(mesh, PartitionSpec("data"))

    def f(x):
        def body(x, _):
            total = jax.lax.with_sharding_constraint(x.sum(0), sharding.replicated(mesh))
            return x + total[None], None

        return jax.lax.scan(body, x, None, length=5)[0]

    x = jax.ShapeDtypeStruct((8, 32), jnp.float32, sharding=split)
    text = jax.jit(f, out_shardings=split).lower(x).compile().as_text()
    assert estimate.communication(text) == {"all-reduce": 5 * 32 * 4}


@pytest.mark.parametrize("strategy", ["replicated", "fsdp"])
def test_an_estimate_of_the_state_is_what_devices_then_hold(toy, strategy):
    class Wide(toy.Linear):
        def init(self, rng, batch):
            return {
                "params": {"w": jnp.zeros((256, 128)), "b": jnp.zeros(())},
                "stats": {"calls": jnp.zeros((), jnp.int32)},
            }

        def apply(self, variables, batch, *, train, rngs=None):
            params = variables["params"]
            outputs = (batch["inputs"] @ params["w"]).sum(-1) + params["b"]
            return outputs, {"stats": variables["stats"]}

    rng = np.random.default_rng(0)
    batch = {
        "inputs": rng.normal(size=(16, 256)).astype(np.float32),
        "label": np.zeros(16, np.float32),
        "batch_mask": np.ones(16, np.float32),
    }
    mesh, optimizer = sharding.make_mesh(), optax.adam(0.1)
    placing = {"mesh": mesh, "rules": sharding.make_rules(strategy)}
    like = state.abstract_state(Wide(), optimizer, batch, **placing)
    placed = jax.tree.map(lambda x: x.sharding, like)
    update = step.make_train_step(Wide(), optimizer, mesh, state_sharding=placed)
    need = estimate.estimate(update, like, batch, mesh)

    made = state.create_state(Wide(), optimizer, batch, seed=0, **placing)

    def held(arrays):
        shards = [s for x in jax.tree.leaves(arrays) for s in x.addressable_shards]
        return sum(s.data.nbytes for s in shards if s.device == jax.devices()[5])

    assert (
        need.params == held(made.params) == 4 * (256 * 128 // (8 if strategy == "fsdp" else 1) + 1)
    )
    assert need.optimizer == held(made.opt_state)
    assert need.batch == 2 * 4 * (256 + 2)
    assert need.total == sum(
        (need.params, need.optimizer, need.other_state, need.batch, need.activations)
    )
    assert ("all-gather" in need.communication) == (strategy == "fsdp")
    assert need.communication["all-reduce"] >= 4 * 256 * 128 / 8  # The gradient.
