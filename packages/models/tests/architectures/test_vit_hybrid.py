"""What is the hybrids' own; what they compute is compared with timm's in test_parity.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scenax.models
from scenax.models.architectures import vit_hybrid


def test_even_sides_are_padded_behind_alone():
    conv = vit_hybrid.StdConv(1, 3, 2, jnp.float32)
    x = jnp.ones((1, 4, 4, 1))
    kernel = jnp.asarray(np.arange(9.0).reshape(3, 3, 1, 1), jnp.float32)
    got = conv.apply({"params": {"kernel": kernel}}, x)[0, :, :, 0]
    weights = (np.arange(9.0).reshape(3, 3) - 4) / np.sqrt(60 / 9)
    wanted = [[weights.sum(), weights[:, :2].sum()], [weights[:2].sum(), weights[:2, :2].sum()]]
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_standardised_weights_have_a_variance_that_epsilon_shrinks():
    noise = np.random.default_rng(0).standard_normal((1, 1, 64, 1))
    noise = (noise - noise.mean()) / noise.std()
    kernel = jnp.asarray(0.3 + 1e-4 * noise, jnp.float32)
    conv = vit_hybrid.StdConv(1, 1, 1, jnp.float32)
    # With timm's epsilon, a variance of 1e-8 becomes 1 / 2; vision_transformer adds 1e-5 to the
    # deviation, for 1 / 1.21.
    each = jnp.eye(64).reshape(64, 1, 1, 64)
    np.testing.assert_allclose(
        conv.apply({"params": {"kernel": kernel}}, each).var(), 0.5, rtol=1e-3
    )


@pytest.mark.parametrize(
    ("name", "stride"),
    [("vit_tiny_r_s16_p8_224", 32), ("vit_small_r26_s32_224", 32), ("vit_base_r50_s16_224", 16)],
)
def test_tokens_are_as_far_apart_as_stem_stages_and_patches_make_them(name, stride):
    model = scenax.models.create_model(name, img_size=(64, 96))
    images = jnp.zeros((1, 64, 96, 3))
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    assert shapes["params"]["pos_embed"].shape[1] == 1 + (64 // stride) * (96 // stride)
    assert model.feature_info[0]["reduction"] == stride


def test_feature_maps_need_no_head():
    model = scenax.models.create_model(
        "vit_tiny_r_s16_p8_224", features_only=True, out_indices=(0, 1), img_size=32
    )
    images = jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    wanted = {"patch_embed", "cls_token", "pos_embed", "blocks_0", "blocks_1"}
    assert set(shapes["params"]) == wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"img_size": (64, 48)}, r"/32 needs an image whose sides divide by 32, got 64x48"),
        ({"num_heads": 5}, r"embed_dim has to be a multiple of num_heads, got 384 and 5"),
        ({"global_pool": "catavgmax"}, r"one of .*'token'.*got 'catavgmax'"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        scenax.models.create_model("vit_small_r26_s32_224", **options)
