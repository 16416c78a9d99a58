"""What is ResNet V2's own; what it computes is compared with timm's in test_parity.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scenax.models
from scenax.models.architectures import resnetv2


def test_standardised_weights_have_no_mean_and_a_variance_that_epsilon_shrinks():
    noise = np.random.default_rng(0).standard_normal((3, 3, 8, 5))
    noise = (noise - noise.mean((0, 1, 2))) / noise.std((0, 1, 2))
    # With timm's epsilon, a variance of 1e-8 becomes 1 / 2. The authors' release adds 1e-10 to it,
    # and vision_transformer's adds 1e-5 to the deviation: 1 / 1.01 and 1 / 1.21.
    got = resnetv2.standardize(jnp.asarray(0.3 + 1e-4 * noise[..., :1], jnp.float32))
    np.testing.assert_allclose(got.var(), 0.5, rtol=1e-3)
    got = resnetv2.standardize(jnp.asarray(0.3 + 0.1 * noise, jnp.float32))
    np.testing.assert_allclose(got, noise, atol=1e-5)


def test_standardised_weights_have_a_gradient_along_neither_mean_nor_length():
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 4, 2))
    weight = jax.random.normal(jax.random.key(1), kernel.shape)
    gradient = jax.grad(lambda k: jnp.sum(weight * resnetv2.standardize(k)))(kernel)
    np.testing.assert_allclose(gradient.sum((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose((gradient * kernel).sum((0, 1, 2)), 0, atol=1e-4)
    assert np.abs(gradient).max() > 0.1


def test_zeros_lie_around_the_map_of_a_fixed_stem_alone():
    x = jnp.full((1, 4, 4, 1), -1.0)
    inside = jnp.asarray([[[[0.0], [0.0]], [[0.0], [-1.0]]]])  # Only one window has no border.
    np.testing.assert_array_equal(resnetv2._stem_pool(x, "fixed"), inside)
    np.testing.assert_array_equal(resnetv2._stem_pool(x, ""), jnp.full((1, 2, 2, 1), -1.0))


def test_a_basic_block_projects_only_where_it_has_to():
    model = scenax.models.create_model("resnetv2_18", channels=(64, 96, 128, 160))
    images = jnp.zeros((1, 64, 64, 3))
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    projected = [
        "downsample" in shapes["params"][f"stages_{i}"][f"blocks_{j}"]
        for i in range(4)
        for j in range(2)
    ]
    assert projected == [False, False, True, False, True, False, True, False]


def test_training_updates_running_averages_as_torch_does():
    model = scenax.models.create_model(
        "resnetv2_18d", layers=(1,), channels=(8,), stem_chs=16, num_classes=0
    )
    images = 3 + jax.random.normal(jax.random.key(0), (4, 32, 32, 3))
    variables = jax.jit(lambda: model.init(jax.random.key(1), images, train=False))()
    _, state = model.apply(
        variables,
        images,
        train=True,
        mutable=["batch_stats", "intermediates"],
        capture_intermediates=lambda module, _: module.name == "conv1",
    )
    (inside,) = state["intermediates"]["stem"]["conv1"]["__call__"]
    stats = state["batch_stats"]["stem"]["norm1"]
    np.testing.assert_allclose(stats["mean"], 0.1 * inside.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * inside.var((0, 1, 2)), rtol=1e-3)


def test_feature_maps_need_fewer_parameters_and_no_norm():
    model = scenax.models.create_model("resnetv2_50x1_bit", features_only=True, out_indices=(0, 2))
    images = jnp.zeros((1, 64, 64, 3))
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    assert set(shapes["params"]) == {"stem", "stages_0", "stages_1"}
    assert [level["reduction"] for level in model.feature_info] == [2, 8]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": (2, 2)}, r"one entry for each stage, got \(2, 2\) and \(256, 512"),
        ({"stem_type": "wide"}, r"stem_type .*'fixed'.*got 'wide'"),
        ({"norm_layer": "layernorm"}, r"norm_layer .*'groupnorm'.*got 'layernorm'"),
        ({"channels": (128, 64, 128, 128)}, r"multiple of 32 channels, got \[16\]"),
        ({"stem_type": "tiered"}, r"multiple of 32 channels, got \[24\]"),
        ({"global_pool": "token"}, r"one of .*'catavgmax'.*got 'token'"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        scenax.models.create_model("resnetv2_50x1_bit", **options)


def test_images_of_other_channels_are_refused():
    model = scenax.models.create_model("resnetv2_18")
    with pytest.raises(ValueError, match=r"images of 3 channels, got 1.*in_chans=1"):
        model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 1)), train=False)
