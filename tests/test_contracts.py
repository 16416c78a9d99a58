"""The pieces of the packages fit one another, and the Scenic paper's usage works as printed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import scenax.data
import scenax.models
from scenax.common import contracts
from scenax.train import sharding, state, step
from scenax.train.evaluate import evaluate


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return scenax.data.get_dataset("digits", batch_size=16, data_dir=str(folder))


def test_the_usage_of_the_paper(dataset):
    config = {}
    rng = jax.random.key(0)
    input_shape, dtype = (1, *dataset.meta_data.input_shape), dataset.meta_data.input_dtype

    model_cls = scenax.models.get_model_cls("fully_connected_classification")
    model = model_cls(config, dataset.meta_data)
    flax_model = model.build_flax_model()
    variables = flax_model.init(rng, jnp.zeros(input_shape, dtype), train=False)

    logits = flax_model.apply(variables, jnp.zeros(input_shape, dtype), train=False)
    assert logits.shape == (1, 10)


def test_what_is_made_keeps_its_contract(dataset):
    model = scenax.models.get_model_cls("fully_connected_classification")({}, dataset.meta_data)
    assert isinstance(model, contracts.Model)
    assert isinstance(dataset, contracts.Dataset)
    assert isinstance(dataset.train_iter, contracts.BatchIterator)
    assert isinstance(dataset.test_iter, contracts.Batches)


def test_metrics_of_a_split_are_those_of_its_examples_one_by_one(dataset):
    model = scenax.models.get_model_cls("fully_connected_classification")({}, dataset.meta_data)
    mesh = sharding.make_mesh()
    batch = next(dataset.train_iter)
    start = state.create_state(model, optax.sgd(0.1), batch, seed=0, mesh=mesh)
    eval_step = step.make_eval_step(model, mesh, "test")
    found = evaluate(eval_step, start, dataset.test_iter, mesh)

    losses, hits = [], []
    for batch in dataset.test_iter:
        for inputs, label, real in zip(
            batch["inputs"], batch["label"], batch["batch_mask"], strict=True
        ):
            if real:
                logits = model.flax_model.apply(
                    start.variables, jnp.asarray(inputs[None]), train=False
                )
                logits = np.asarray(logits[0], np.float64)
                losses.append(np.log(np.exp(logits).sum()) - logits[label])
                hits.append(logits.argmax() == label)
    assert len(hits) == dataset.meta_data.num_examples["test"]
    assert found["accuracy"] == pytest.approx(np.mean(hits), abs=1e-12)
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
