"""What is ConvNeXt's own; what it computes is compared with timm's in test_parity.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scenax.models
from scenax.models.architectures import convnext


def test_a_global_response_norm_by_hand_and_its_gradient_at_a_silent_channel():
    x = jnp.asarray([[[[3.0, 0.0], [4.0, 0.0]]]])  # Norms over the map are 5 and 0, mean 2.5.
    params = {"scale": jnp.asarray([0.5, 0.5]), "bias": jnp.asarray([0.0, 1.0])}
    norm = convnext.GlobalResponseNorm(jnp.float32)
    y = norm.apply({"params": params}, x)
    np.testing.assert_allclose(y, [[[[6.0, 1.0], [8.0, 1.0]]]], rtol=1e-5)
    gradient = jax.grad(lambda x: norm.apply({"params": params}, x).sum())(x)
    assert np.isfinite(gradient).all()


def test_layer_scale_and_response_norm_start_as_timms():
    old, new = (
        scenax.models.create_model("test_convnext2", use_grn=grn, ls_init_value=scale)
        for grn, scale in ((False, 1e-6), (True, 0.0))
    )
    images = jnp.zeros((1, 32, 32, 3))
    blocks = [
        jax.jit(lambda model=model: model.init(jax.random.key(0), images, train=False))()
        for model in (old, new)
    ]
    old, new = (variables["params"]["stages_0"]["blocks_0"] for variables in blocks)
    np.testing.assert_allclose(old["gamma"], 1e-6)
    assert "gamma" not in new
    assert not np.any(new["mlp"]["grn"]["scale"])
    np.testing.assert_allclose(np.std(new["mlp"]["fc1"]["kernel"]), 0.02, rtol=0.1)


def test_feature_maps_need_fewer_parameters():
    model = scenax.models.create_model("test_convnext", features_only=True, out_indices=(1,))
    images = jnp.zeros((1, 64, 64, 3))
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    assert set(shapes["params"]) == {"stem_0", "stem_1", "stages_0", "stages_1"}
    assert [level["reduction"] for level in model.feature_info] == [8]


def test_numbers_of_the_size_are_options_and_lists_will_do():
    model = scenax.models.create_model("convnext_tiny", depths=[1, 1], dims=[8, 16])
    assert (model.num_features, len(model.feature_info), hash(model) != 0) == (16, 2, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stem_type": "conv"}, r"stem_type .*'patch'.*got 'conv'"),
        ({"norm_layer": "batchnorm"}, r"norm_layer .*'layernorm'.*got 'batchnorm'"),
        ({"act_layer": "relu"}, r"act_layer .*'gelu'.*got 'relu'"),
        ({"global_pool": "catavgmax"}, r"one of .*'avgmax'.*got 'catavgmax'"),
        ({"head_norm_first": True, "head_hidden_size": 8}, r"no head_hidden_size"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        scenax.models.create_model("convnext_tiny", **options)


def test_images_of_other_channels_are_refused():
    model = scenax.models.create_model("test_convnext")
    with pytest.raises(ValueError, match=r"images of 3 channels, got 1.*in_chans=1"):
        model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 1)), train=False)
