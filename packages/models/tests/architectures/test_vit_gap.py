"""What is these transformers' own; what they compute is compared with timm's in test_parity.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scenax.models

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}


def test_a_name_says_how_it_pools():
    pools = {
        name: scenax.models.create_model(name).global_pool
        for name in (
            "vit_base_patch16_siglip_224",
            "vit_base_patch16_siglip_gap_224",
            "vit_so150m_patch16_reg4_map_256",
            "vit_medium_patch16_gap_256",
        )
    }
    assert list(pools.values()) == ["map", "avg", "map", "avg"]
    other = scenax.models.create_model("vit_base_patch16_siglip_224", global_pool="avg")
    assert other.global_pool == "avg"


def test_pixels_that_make_no_patch_are_not_looked_at():
    # SigLIP's published size of 384 pixels is no multiple of its patches of 14.
    name, small = "vit_so400m_patch14_siglip_384", {"embed_dim": 32, "depth": 1, "num_heads": 2}
    model = scenax.models.create_model(name, mlp_ratio=2.0, **small)
    images = jax.random.normal(jax.random.key(0), (1, 384, 384, 3))
    variables = jax.jit(lambda: model.init(jax.random.key(1), images, train=False))()
    assert variables["params"]["pos_embed"].shape == (1, 27 * 27, 32)
    changed = images.at[:, 378:].set(7.0).at[:, :, 378:].set(7.0)
    apply = jax.jit(lambda x: model.apply(variables, x, train=False))
    np.testing.assert_array_equal(apply(images), apply(changed))
    with pytest.raises(ValueError, match="divide by 14, got 383x383"):
        scenax.models.create_model(name, img_size=383)


def test_registers_are_not_pooled_and_make_no_map():
    model = scenax.models.create_model(
        "vit_wee_patch16_reg1_gap_256", features_only=True, out_indices=1, **SMALL
    )
    images = jnp.zeros((1, 32, 32, 3))
    init = model.init_with_output
    (level,), variables = jax.eval_shape(lambda x: init(jax.random.key(0), x, train=False), images)
    assert level.shape == (1, 4, 4, 32)
    assert variables["params"]["reg_token"].shape == (1, 1, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"act_layer": "quick_gelu"}, r"act_layer has to be one of .*got 'quick_gelu'"),
        ({"global_pool": "token"}, r"global_pool has to be one of .*'map'.* got 'token'"),
        ({"num_heads": 7}, r"multiple of num_heads, got 768 and 7"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        scenax.models.create_model("vit_base_patch16_siglip_224", **options)
