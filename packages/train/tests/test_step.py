import jax
import numpy as np
import optax
import pytest

from scenax.common.contracts import Model
from scenax.train import sharding, step
from scenax.train import state as state_lib
from scenax.train.evaluate import evaluate, mean_metrics


def test_the_toy_is_a_model(toy):
    assert isinstance(toy.Linear(), Model)


def test_a_step_is_gradient_descent_on_the_mean(toy, mesh, make_state):
    optimizer = optax.sgd(0.1)
    start = make_state(optimizer)
    key = jax.random.fold_in(start.rng, 0)
    batch = toy.batch_of(range(16))
    keep = np.asarray(jax.random.bernoulli(key, 0.8, (16, 3)))
    w, b = np.asarray(start.params["w"]), float(start.params["b"])

    x = np.where(keep, batch["inputs"] / 0.8, 0)
    residual = x @ w + b - batch["label"]
    w_next = w - 0.1 * 2 * (residual[:, None] * x).mean(0)
    b_next = b - 0.1 * 2 * residual.mean()

    train_step = step.make_train_step(toy.Linear(), optimizer, mesh)
    end, metrics = train_step(start, sharding.put_batch(batch, mesh))
    np.testing.assert_allclose(end.params["w"], w_next, rtol=1e-4)
    np.testing.assert_allclose(end.params["b"], b_next, rtol=1e-4)
    assert int(end.step) == 1
    assert int(end.model_state["stats"]["calls"]) == 1
    means = mean_metrics([jax.device_get(metrics)])
    assert means["loss"] == pytest.approx(np.square(residual).mean(), rel=1e-5)
    assert means["param_norm"] == pytest.approx(np.sqrt((w_next**2).sum() + b_next**2), rel=1e-5)


def without_noise(toy):
    """The toy without dropout, for what is to be compared with another way to compute it."""

    class Plain(toy.Linear):
        def apply(self, variables, batch, *, train, rngs=None):
            return super().apply(variables, batch, train=False)[0], {"stats": variables["stats"]}

    return Plain()


def gradient(params, batch):
    """Of the mean squared error over the examples that count, in numpy."""
    x, mask = batch["inputs"], batch["batch_mask"]
    residual = (x @ params["w"] + params["b"] - batch["label"]) * mask
    return {
        "w": 2 * (residual[:, None] * x).sum(0) / mask.sum(),
        "b": 2 * residual.sum() / mask.sum(),
    }


def norm(arrays):
    return np.sqrt(sum(np.square(x).sum() for x in arrays.values()))


def masked_batch(toy):
    """Of 32 examples, some of which do not count: not as many in each part of it."""
    batch = toy.batch_of(range(32))
    batch["batch_mask"][[1, 2, 3, 5, 7, 9, 13, 20, 30]] = 0
    return batch


def one_step(toy, mesh, batch, **options):
    """The parameters before and after a step of gradient descent, and the metrics."""
    optimizer = optax.sgd(0.1)
    start = state_lib.create_state(toy.Linear(), optimizer, batch, seed=1, mesh=mesh)
    before = jax.device_get(start.params)
    update = step.make_train_step(without_noise(toy), optimizer, mesh, **options)
    end, metrics = update(start, sharding.put_batch(batch, mesh))
    return before, jax.device_get(end.params), mean_metrics([jax.device_get(metrics)])


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("microbatches", [1, 2, 4])
def test_a_batch_in_parts_is_the_whole_batch(toy, devices, microbatches):
    mesh = sharding.make_mesh(jax.devices()[:devices])
    batch = masked_batch(toy)
    before, after, metrics = one_step(toy, mesh, batch, microbatches=microbatches)
    grads = gradient(before, batch)
    for name in ("w", "b"):
        np.testing.assert_allclose(after[name], before[name] - 0.1 * grads[name], rtol=1e-5)
    error = (batch["inputs"] @ before["w"] + before["b"] - batch["label"]) * batch["batch_mask"]
    assert metrics["loss"] == pytest.approx(np.square(error).sum() / 23, rel=1e-5)
    assert metrics["grad_norm"] == pytest.approx(norm(grads), rel=1e-5)
    assert metrics["grad_norm/w"] == pytest.approx(norm({"w": grads["w"]}), rel=1e-5)
    assert metrics["grad_norm/b"] == pytest.approx(abs(grads["b"]), rel=1e-5)


def test_a_batch_that_does_not_divide_into_parts_is_named(toy, mesh):
    with pytest.raises(ValueError, match=r"32 examples .* 3 microbatches over 8 devices each"):
        one_step(toy, mesh, masked_batch(toy), microbatches=3)


@pytest.mark.parametrize("microbatches", [1, 2])
def test_sharpness_aware_steps_go_by_the_gradient_where_the_loss_is_highest(
    toy, mesh, microbatches
):
    batch, rho = masked_batch(toy), 0.5
    before, after, metrics = one_step(toy, mesh, batch, sam_rho=rho, microbatches=microbatches)
    uphill = gradient(before, batch)
    highest = {name: before[name] + rho * uphill[name] / norm(uphill) for name in before}
    grads = gradient(highest, batch)
    for name in ("w", "b"):
        np.testing.assert_allclose(after[name], before[name] - 0.1 * grads[name], rtol=1e-5)
    error = (batch["inputs"] @ before["w"] + before["b"] - batch["label"]) * batch["batch_mask"]
    assert metrics["loss"] == pytest.approx(np.square(error).sum() / 23, rel=1e-5)  # Not up there.


def test_devices_do_not_matter(toy):
    optimizer = optax.adam(0.1)
    ends = []
    for devices in (jax.devices()[:1], jax.devices()):
        mesh = sharding.make_mesh(devices)
        state = state_lib.create_state(
            toy.Linear(), optimizer, toy.batch_of(range(8)), seed=3, mesh=mesh
        )
        train_step = step.make_train_step(toy.Linear(), optimizer, mesh)
        for i in range(5):
            batch = toy.batch_of(range(16 * i, 16 * i + 16))
            state, _ = train_step(state, sharding.put_batch(batch, mesh))
        ends.append(jax.device_get(state.params))
        assert len(state.params["w"].sharding.device_set) == len(devices)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), *ends)


def test_noise_differs_from_step_to_step_and_by_seed(toy, mesh, make_state):
    train_step = step.make_train_step(toy.Linear(), optax.sgd(0.0), mesh)
    batch = sharding.put_batch(toy.batch_of(range(8)), mesh)

    def losses(seed):
        state, found = make_state(optax.sgd(0.0), seed), []
        for _ in range(2):
            state, metrics = train_step(state, batch)
            found.append(float(metrics["loss"][0]))
        return found

    first, second = losses(0)
    assert first != second
    assert losses(0) == [first, second]
    assert losses(1) != [first, second]


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("size", [1, 7, 256])
def test_evaluation_is_exact_for_any_batch_size(toy, size, devices, make_state):
    mesh = sharding.make_mesh(jax.devices()[:devices])
    state = jax.device_put(make_state(optax.sgd(0.1)), sharding.replicated(mesh))
    eval_step = step.make_eval_step(toy.Linear(), mesh, "test")
    found = evaluate(eval_step, state, toy.Split(20, size), mesh)
    everything = toy.Split(20, 20)[0]
    outputs = everything["inputs"] @ np.asarray(state.params["w"]) + float(state.params["b"])
    expected = np.mean((outputs - everything["label"]).astype(np.float64) ** 2)
    assert found["loss"] == pytest.approx(expected, rel=1e-6)


def test_devices_have_no_more_than_two_batches_to_evaluate(toy, mesh, make_state):
    begun, waited_for = [], set()

    class Metric:
        """A number that is there when it is waited for."""

        def __init__(self, number):
            self._number = number

        def block_until_ready(self):
            waited_for.add(self._number)
            return self

        def __array__(self, dtype=None, copy=None):
            return np.asarray(float(self._number))

    def eval_step(state, batch):
        begun.append(Metric(len(begun)))
        assert len(begun) - len(waited_for) <= 2
        return {"loss": (begun[-1], 1.0)}

    state = make_state(optax.sgd(0.1))
    assert evaluate(eval_step, state, toy.Split(40, 8), mesh) == {"loss": 2.0}
    assert len(begun) == 5


def test_nothing_to_evaluate_is_named(toy, mesh, make_state):
    eval_step = step.make_eval_step(toy.Linear(), mesh, "test")
    with pytest.raises(ValueError, match="no batches"):
        evaluate(eval_step, make_state(optax.sgd(0.1)), toy.Split(0, 4), mesh)
    with pytest.raises(ValueError, match="all of them are masked"):
        mean_metrics([{"loss": (0.0, 0.0)}])


def test_vectors_are_means_over_the_entries_that_count():
    sums = [
        {"loss": (2.0, 2.0), "iou": (np.array([1.0, 0.0, 0.0]), np.array([2.0, 0.0, 1.0]))},
        {"loss": (6.0, 2.0), "iou": (np.array([2.0, 0.0, 1.0]), np.array([2.0, 0.0, 3.0]))},
    ]
    assert mean_metrics(sums) == {"loss": 2.0, "iou": (3 / 4 + 1 / 4) / 2}


def test_a_metric_of_which_nothing_counts_is_left_out():
    assert mean_metrics([{"loss": (2.0, 4.0), "box_loss": (0.0, 0.0)}]) == {"loss": 0.5}


def test_a_batch_transform_changes_the_batch_with_a_key_of_the_step(toy, mesh, make_state):
    keys = []

    def negate(batch, key):
        jax.debug.callback(lambda data: keys.append(tuple(data.tolist())), jax.random.key_data(key))
        return {**batch, "label": -batch["label"]}

    optimizer = optax.sgd(0.1)
    batch = toy.batch_of(range(8))
    plain = step.make_train_step(toy.Linear(), optimizer, mesh)
    transformed = step.make_train_step(toy.Linear(), optimizer, mesh, batch_transform=negate)
    negated = {**batch, "label": -batch["label"]}
    expected, _ = plain(make_state(optimizer), sharding.put_batch(negated, mesh))
    found, _ = transformed(make_state(optimizer), sharding.put_batch(batch, mesh))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found.params, expected.params
    )
    transformed(found, sharding.put_batch(batch, mesh))
    jax.effects_barrier()
    assert len(set(keys)) == 2


def test_the_moving_average_is_of_what_was_and_is_what_is_evaluated(toy, mesh):
    optimizer = optax.sgd(0.1)
    state = state_lib.create_state(
        toy.Linear(), optimizer, toy.batch_of(range(8)), seed=1, mesh=mesh, ema=True
    )
    train_step = step.make_train_step(toy.Linear(), optimizer, mesh, ema_decay=0.25)
    wanted = np.asarray(state.params["w"], np.float64)
    for t in range(6):
        batch = sharding.put_batch(toy.batch_of(range(8 * t, 8 * t + 8)), mesh)
        state, _ = train_step(state, batch)
        decay = min(0.25, (1 + t) / (10 + t))  # Which is below 0.25 in the first two steps.
        wanted = decay * wanted + (1 - decay) * np.asarray(state.params["w"], np.float64)
    np.testing.assert_allclose(state.ema["params"]["w"], wanted, rtol=1e-5)
    assert int(state.ema["stats"]["calls"]) == 6

    eval_step = step.make_eval_step(toy.Linear(), mesh, "validation")
    found = evaluate(eval_step, state, toy.Split(5, 8), mesh)["loss"]
    (batch,) = toy.Split(5, 8)
    outputs = batch["inputs"] @ wanted + float(state.ema["params"]["b"])
    assert found == pytest.approx(np.square(outputs - batch["label"])[:5].mean(), rel=1e-4)
