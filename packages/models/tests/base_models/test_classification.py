import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import scenax.models
from scenax.common.contracts import DatasetInfo

INFO = DatasetInfo("toy", (4, 4, 1), "float32", 6, tuple("abcdef"), {"train": 30})
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(8, 6)).astype(np.float32)
LABELS = RNG.integers(0, 6, size=8)
MASK = np.array([1, 1, 1, 1, 1, 0, 0, 0], np.float32)
PROBABILITIES = np.exp(LOGITS.astype(float)) / np.exp(LOGITS.astype(float)).sum(
    axis=1, keepdims=True
)
NATS = -np.log(PROBABILITIES[np.arange(8), LABELS])


def make(info=INFO, **config):
    return scenax.models.get_model_cls("fully_connected_classification")(config, info)


def test_the_loss_is_the_mean_over_real_examples():
    batch = {"label": jnp.asarray(LABELS)}
    np.testing.assert_allclose(make().loss_fn(jnp.asarray(LOGITS), batch), NATS.mean(), rtol=1e-6)
    batch["batch_mask"] = jnp.asarray(MASK)
    np.testing.assert_allclose(
        make().loss_fn(jnp.asarray(LOGITS), batch), NATS[:5].mean(), rtol=1e-6
    )
    batch["batch_mask"] = jnp.zeros(8)
    assert float(make().loss_fn(jnp.asarray(LOGITS), batch)) == 0


def test_options_of_the_loss():
    batch = {"label": jnp.asarray(LABELS)}
    smooth = 0.7 * NATS - 0.3 * np.log(PROBABILITIES).mean(axis=1)
    got = make(label_smoothing=0.3).loss_fn(jnp.asarray(LOGITS), batch)
    np.testing.assert_allclose(got, smooth.mean(), rtol=1e-6)
    weights = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    got = make(class_weights=weights).loss_fn(jnp.asarray(LOGITS), batch)
    np.testing.assert_allclose(got, (LABELS * NATS).mean(), rtol=1e-6)


def test_the_sigmoid_loss_is_that_of_one_decision_for_each_class():
    yes = 1 / (1 + np.exp(-LOGITS.astype(float)))
    target = 0.7 * np.eye(6)[LABELS] + 0.3 / 6
    values = -(target * np.log(yes) + (1 - target) * np.log(1 - yes)).sum(axis=1)
    model = make(loss="sigmoid", label_smoothing=0.3)
    got = model.loss_fn(jnp.asarray(LOGITS), {"label": jnp.asarray(LABELS)})
    np.testing.assert_allclose(got, values.mean(), rtol=1e-6)
    plain = -np.log(np.where(np.eye(6)[LABELS] > 0, yes, 1 - yes)).sum()
    total, count = model.get_metrics_fn("train")(jnp.asarray(LOGITS), {"label": LABELS})["loss"]
    np.testing.assert_allclose(total, plain, rtol=1e-6)
    assert float(count) == 8
    with pytest.raises(ValueError, match=r"no loss 'sigmid'. Did you mean 'sigmoid'"):
        make(loss="sigmid")


def test_a_share_above_the_threshold_is_a_whole_class():
    mixed = np.zeros((8, 6), np.float32)
    mixed[:, 2], mixed[:, 4] = 0.9, 0.1
    yes = 1 / (1 + np.exp(-LOGITS.astype(float)))
    for threshold, classes in ((0.2, [2]), (0.0, [2, 4])):
        target = np.isin(np.arange(6), classes)
        values = -np.log(np.where(target, yes, 1 - yes)).sum(axis=1)
        model = make(loss="sigmoid", target_threshold=threshold)
        got = model.loss_fn(jnp.asarray(LOGITS), {"label": jnp.asarray(mixed)})
        np.testing.assert_allclose(got, values.mean(), rtol=1e-6)
    with pytest.raises(ValueError, match="target_threshold is of the loss 'sigmoid'"):
        make(target_threshold=0.0)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("one_hot", [False, True])
def test_metrics_are_sums_over_real_examples(split, one_hot):
    label = np.eye(6, dtype=np.float32)[LABELS] if one_hot else LABELS
    batch = {"label": jnp.asarray(label), "batch_mask": jnp.asarray(MASK)}
    model = make(label_smoothing=0.3, class_weights=[2.0] * 6)
    got = jax.jit(model.get_metrics_fn(split))(jnp.asarray(LOGITS), batch)
    rank = (LOGITS[np.arange(8), LABELS][:, None] < LOGITS).sum(axis=1)
    wanted = {"loss": NATS[:5].sum(), "accuracy": (rank[:5] == 0).sum()}
    if split != "train":
        wanted["top_5_accuracy"] = (rank[:5] < 5).sum()
    assert set(got) == set(wanted)
    for name, (total, count) in got.items():
        np.testing.assert_allclose(total, wanted[name], rtol=1e-6)
        assert float(count) == 5


def test_few_classes_have_no_top_5():
    model = make(dataclasses.replace(INFO, num_classes=5, label_names=tuple("abcde")))
    metrics = model.get_metrics_fn("test")(jnp.zeros((2, 5)), {"label": jnp.array([0, 1])})
    assert set(metrics) == {"loss", "accuracy"}


def test_padding_and_sharding_do_not_change_the_totals():
    metrics_fn = jax.jit(make().get_metrics_fn("test"))
    batch = {"label": jnp.asarray(LABELS), "batch_mask": jnp.asarray(MASK)}
    short = metrics_fn(jnp.asarray(LOGITS[:5]), {"label": jnp.asarray(LABELS[:5])})
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    sharded = metrics_fn(*jax.device_put((jnp.asarray(LOGITS), batch), sharding))
    for name, (total, count) in short.items():
        np.testing.assert_allclose(sharded[name], (total, count), rtol=1e-6)


def test_bfloat16_logits_give_float32_sums():
    batch = {"label": jnp.asarray(LABELS)}
    logits = jnp.asarray(LOGITS, jnp.bfloat16)
    assert make().loss_fn(logits, batch).dtype == jnp.float32
    for total, count in make().get_metrics_fn("test")(logits, batch).values():
        assert total.dtype == count.dtype == jnp.float32


def test_datasets_that_do_not_fit():
    with pytest.raises(ValueError, match="needs one label per example, and toy has several"):
        make(dataclasses.replace(INFO, targets="multi_hot"))
    with pytest.raises(ValueError, match="class_weights has 2 numbers for the 6 classes of toy"):
        make(class_weights=[1.0, 2.0])


def test_a_few_steps_learn_a_batch():
    model = make(args={"hid_sizes": (32,)})
    batch = {
        "inputs": jnp.asarray(RNG.normal(size=(8, 4, 4, 1)), jnp.float32),
        "label": jnp.asarray(LABELS),
    }
    params = model.init(jax.random.key(0), batch)["params"]

    @jax.jit
    def step(params):
        def loss(params):
            outputs, _ = model.apply({"params": params}, batch, train=True)
            return model.loss_fn(outputs, batch, params)

        return jax.tree.map(lambda p, g: p - 0.3 * g, params, jax.grad(loss)(params))

    for _ in range(100):
        params = step(params)
    outputs, _ = model.apply({"params": params}, batch, train=False)
    correct, count = model.get_metrics_fn("train")(outputs, batch)["accuracy"]
    assert float(correct) == float(count) == 8
