import jax
import numpy as np
import optax
import pytest

from scenax.train import sharding, state, step


@pytest.mark.parametrize("ema", [False, True])
def test_a_state_of_variables_goes_on_like_one_that_made_them(toy, mesh, ema):
    optimizer, batch = optax.adam(0.1), toy.batch_of(range(8))
    made = state.create_state(toy.Linear(), optimizer, batch, seed=5, mesh=mesh, ema=ema)
    variables = jax.device_get(made.variables)
    given = state.state_of(variables, optimizer, seed=5, mesh=mesh, ema=ema)
    assert jax.tree.structure(given) == jax.tree.structure(made)
    train_step = step.make_train_step(toy.Linear(), optimizer, mesh, ema_decay=0.5 if ema else None)
    for _ in range(3):
        made, _ = train_step(made, sharding.put_batch(batch, mesh))
        given, _ = train_step(given, sharding.put_batch(batch, mesh))
    jax.tree.map(np.testing.assert_array_equal, given.eval_variables, made.eval_variables)


def test_the_variables_stay_whole_when_steps_use_up_the_state(toy, mesh):
    optimizer, batch = optax.sgd(0.1), toy.batch_of(range(8))
    variables = jax.device_put(
        toy.Linear().init(jax.random.key(0), batch), sharding.replicated(mesh)
    )
    before = jax.device_get(variables)
    start = state.state_of(variables, optimizer, seed=0, mesh=mesh, ema=True)
    step.make_train_step(toy.Linear(), optimizer, mesh, ema_decay=0.5)(
        start, sharding.put_batch(batch, mesh)
    )
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(variables), before)
