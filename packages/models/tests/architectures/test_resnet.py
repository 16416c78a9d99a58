"""What is ResNet's own; what it computes is compared with timm's in test_parity.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scenax.models
from scenax.models.architectures import resnet


def test_an_odd_border_is_the_mean_of_what_there_is():
    x = jnp.arange(15.0).reshape(1, 3, 5, 1)
    wanted = [[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]]
    np.testing.assert_array_equal(resnet._halve(x)[0, :, :, 0], wanted)


def test_training_updates_running_averages_as_torch_does():
    model = scenax.models.create_model("test_resnet", num_classes=0)
    images = 3 + jax.random.normal(jax.random.key(0), (4, 32, 32, 3))
    variables = jax.jit(lambda: model.init(jax.random.key(1), images, train=False))()
    _, state = model.apply(
        variables,
        images,
        train=True,
        mutable=["batch_stats", "intermediates"],
        capture_intermediates=lambda module, _: module.name == "conv1_0",
    )
    (inside,) = state["intermediates"]["conv1_0"]["__call__"]
    stats = state["batch_stats"]["conv1_1"]
    np.testing.assert_allclose(stats["mean"], 0.1 * inside.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * inside.var((0, 1, 2)), rtol=1e-3)


def test_a_new_block_adds_nothing():
    model = scenax.models.create_model("test_resnet")
    block = resnet.Block(model.size, 0, 1, 0.0, jnp.float32)
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 32))
    y, _ = block.init_with_output(jax.random.key(1), x, False)
    np.testing.assert_array_equal(y, jax.nn.relu(x))


def test_feature_maps_need_fewer_parameters():
    model = scenax.models.create_model("test_resnet", features_only=True, out_indices=(0, 2))
    images = jnp.zeros((1, 64, 64, 3))
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    stages = {name.split("_")[0] for name in shapes["params"]}
    assert stages == {"conv1", "bn1", "layer1", "layer2"}
    assert [level["reduction"] for level in model.feature_info] == [2, 8]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block": "dense"}, r"Blocks are .*'bottleneck'.*got .*'dense'"),
        ({"layers": (1, 1)}, r"layers, block and channels .* of 2, 4 and 4"),
        ({"stem_type": "wide"}, r"stem types .*'deep'.*got .*'wide'"),
        ({"block": "basic", "cardinality": 32}, r"Only block='bottleneck'"),
        ({"global_pool": "token"}, r"one of .*'catavgmax'.*got 'token'"),
        ({"out_indices": 2}, r"features_only=True"),
        ({"features_only": True, "out_indices": (5,)}, r"There are 5 feature maps"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        scenax.models.create_model("resnet50", **options)


def test_images_of_other_channels_are_refused():
    model = scenax.models.create_model("test_resnet")
    with pytest.raises(ValueError, match=r"images of 3 channels, got 1.*in_chans=1"):
        model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 1)), train=False)
