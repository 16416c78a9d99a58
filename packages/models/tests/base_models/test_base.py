import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import scenax.models
from scenax.common.contracts import DatasetInfo
from scenax.models import _registry

INFO = DatasetInfo("toy", (16, 24, 1), "float32", 3, ("a", "b", "c"), {"train": 30})
BATCH = {"inputs": np.ones((4, 16, 24, 1), np.float32), "label": np.zeros(4, np.int32)}


class WithState(nn.Module):
    """Running statistics, noise, and a value that it sows."""

    num_classes: int = 2

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.BatchNorm(use_running_average=not train, name="bn")(x.mean(axis=(1, 2)))
        self.sow("intermediates", "mean", x)
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(self.num_classes, name="head")(x)


@pytest.fixture
def with_state(monkeypatch):
    monkeypatch.setattr(_registry, "_custom", _registry.Registry("model"))

    @scenax.models.register_model("with_state")
    def build(**options) -> WithState:
        return WithState(**options)

    return scenax.models.get_model_cls("with_state_classification")({}, INFO)


def test_the_usage_in_the_scenic_paper():
    config, dataset = {}, SimpleNamespace(meta_data=INFO)
    rng, input_shape, dtype = jax.random.key(0), (2, 16, 24, 1), jnp.float32

    model_cls = scenax.models.get_model_cls("fully_connected_classification")
    model = model_cls(config, dataset.meta_data)
    flax_model = model.build_flax_model()
    variables = flax_model.init(rng, jnp.zeros(input_shape, dtype), train=False)

    assert variables["params"]["head"]["kernel"].shape == (10, 3)
    assert flax_model == model.flax_model


def test_the_architecture_is_made_for_the_dataset():
    config = {"architecture": "test_vit", "args": {"patch_size": 8}}
    vit = scenax.models.get_model_cls("classification")(config, INFO).flax_model
    assert (vit.num_classes, vit.img_size, vit.in_chans) == (3, (16, 24), 1)


def test_args_go_before_the_dataset():
    config = {"architecture": "test_vit", "args": {"img_size": 32, "num_classes": 9}}
    vit = scenax.models.get_model_cls("classification")(config, INFO).flax_model
    assert (vit.num_classes, vit.img_size, vit.in_chans) == (9, (32, 32), 1)


def test_init_and_apply_without_state():
    model = scenax.models.get_model_cls("fully_connected_classification")({}, INFO)
    variables = model.init(jax.random.key(0), BATCH)
    assert set(variables) == {"params"}
    outputs, state = model.apply(variables, BATCH, train=True, rngs={"dropout": jax.random.key(1)})
    assert (outputs.shape, state) == ((4, 3), {})


def test_state_is_updated_in_training_only(with_state):
    variables = with_state.init(jax.random.key(0), BATCH)
    assert set(variables) == {"params", "batch_stats"}
    outputs, same = with_state.apply(variables, BATCH, train=False)
    assert jax.tree.all(
        jax.tree.map(np.array_equal, same, {"batch_stats": variables["batch_stats"]})
    )
    apply = jax.jit(functools.partial(with_state.apply, train=True))
    _, state = apply(variables, BATCH, rngs={"dropout": jax.random.key(1)})
    assert set(state) == {"batch_stats"}
    # A running mean of 0 that moves by 1% towards the batch's mean of 1.
    np.testing.assert_allclose(state["batch_stats"]["bn"]["mean"], [0.01], rtol=1e-5)
    assert outputs.shape == (4, 3)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, r"Name one architecture, as config\['architecture'\].*got none"),
        ({"architecture": "test_vit", "arg": {}}, "no config key 'arg'. Did you mean 'args'"),
        ({"architecture": "test_vit", "label_smooting": 0.1}, "Did you mean 'label_smoothing'"),
        ({"architecture": "test_vitt"}, "Unknown model 'test_vitt'. Did you mean 'test_vit'"),
        ({"architecture": "test_vit"}, "sides divide by 16, got 16x24"),
    ],
)
def test_configs_with_mistakes(config, message):
    with pytest.raises(ValueError, match=message):
        scenax.models.get_model_cls("classification")(config, INFO)


def test_an_architecture_named_twice():
    model_cls = scenax.models.get_model_cls("fully_connected_classification")
    assert model_cls({"architecture": "fully_connected"}, INFO).architecture == "fully_connected"
    with pytest.raises(ValueError, match="got fully_connected and test_vit"):
        model_cls({"architecture": "test_vit"}, INFO)


def test_the_base_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        scenax.models.BaseModel({"architecture": "fully_connected"}, INFO)
