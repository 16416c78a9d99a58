"""What is the ViT's own; what it computes is compared with timm's in test_parity.py."""

import functools
import json
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scenax.models
from scenax.models.architectures import vit
from scenax.models.pretrained.timm import from_timm

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens"
SEEDED = runpy.run_path(str(GOLDENS / "seeded.py"))
TRANSFORMERS = dict(np.load(GOLDENS / "transformers.npz"))


def made(**options):
    """A tiny ViT with weights large enough that attention is not uniform, and images."""
    model = scenax.models.create_model("test_vit", img_size=32, patch_size=8, **options)
    images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    variables = model.init(jax.random.key(1), images, train=False)
    return model, jax.tree.map(lambda x: 3 * x, variables), images


def assert_close(got, wanted):
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= 2e-5 * wanted.std()


@pytest.mark.parametrize("remat", [False, True])
def test_attention_maps_are_what_the_model_uses(remat):
    model, variables, images = made(global_pool="avg", remat=remat)
    maps = vit.attention_maps(model, variables, images)
    np.testing.assert_allclose(maps.sum(axis=-1), 1, atol=1e-5)
    assert maps.std() > 0.01
    _, state = model.apply(
        variables, images, train=False, capture_intermediates=True, mutable=["intermediates"]
    )
    for i in range(6):
        inside = state["intermediates"][f"blocks_{i}"]["attn"]
        values = inside["qkv"]["__call__"][0].reshape(2, 17, 3, 2, 32)[:, :, 2]
        mixed = np.einsum("bhqk,bkhe->bqhe", maps[:, i], values).reshape(2, 17, 64)
        proj = jax.device_get(variables["params"][f"blocks_{i}"]["attn"]["proj"])
        assert_close(inside["__call__"][0], mixed @ proj["kernel"] + proj["bias"])


@functools.cache
def logits(**options):
    """Of a small ViT with the weights of ``goldens/make_transformers.py``."""
    model = scenax.models.create_model(
        "test_vit", **options, img_size=32, patch_size=8, depth=4, mlp_ratio=4.0, num_classes=7
    )
    shapes = json.loads(TRANSFORMERS["shapes"].tobytes())["vit"]
    state = {key: SEEDED["weight"](key, tuple(shape)) for key, shape in shapes.items()}
    for key in state:
        if key.startswith(("patch_embed.", "cls_token", "pos_embed")):
            state[key] *= 1e-3  # The epsilon shows in small numbers.
    images = SEEDED["images"]((2, 32, 32, 3)).astype(np.float32)
    variables = from_timm(state, model, images.shape[1:])
    return jax.jit(functools.partial(model.apply, train=False))(variables, images)


def test_with_an_epsilon_of_1e_12_logits_are_those_of_transformers():
    wanted = TRANSFORMERS["vit"]
    assert np.abs(logits(norm_eps=1e-12) - wanted).max() <= 2e-5 * wanted.std()
    assert np.abs(logits() - wanted).max() > 0.01 * wanted.std()


def test_the_tanh_gelu_is_another_function():
    # The exact one is checked against timm's; the tanh one differs by some 1e-3 (arXiv 1606.08415).
    worst = np.abs(logits(act_layer="gelu_tanh") - logits()).max() / np.std(logits())
    assert 1e-4 < worst < 1e-2


def test_initial_values_have_timms_spread():
    model = scenax.models.create_model("test_vit")
    params = jax.jit(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, 160, 160, 3)), train=False)
    )()
    params = params["params"]
    bound = (16 * 16 * 3) ** -0.5
    for leaf in params["patch_embed"]["proj"].values():
        assert 0.9 * bound < np.abs(leaf).max() <= bound
        np.testing.assert_allclose(np.std(leaf), bound / 3**0.5, rtol=0.2)
    np.testing.assert_allclose(np.std(params["pos_embed"]), 0.02, rtol=0.1)
    np.testing.assert_allclose(np.std(params["cls_token"]), 1e-6, rtol=0.3)
    for kernel in (params["head"]["kernel"], params["blocks_3"]["attn"]["qkv"]["kernel"]):
        np.testing.assert_allclose(np.std(kernel), 0.02, rtol=0.1)
    assert not np.any(params["head"]["bias"])


def test_stochastic_depth_grows_linearly():
    model = scenax.models.create_model("test_vit", img_size=16, drop_path_rate=0.5)
    block = vit.Block(model.size, 0.5, jnp.float32)
    x = jax.random.normal(jax.random.key(0), (64, 2, 64))
    params = block.init(jax.random.key(1), x, False)
    y = block.apply(params, x, True, rngs={"dropout": jax.random.key(2)})
    untouched = np.all(np.asarray(x == y), axis=(1, 2)).mean()
    np.testing.assert_allclose(untouched, 0.25, atol=0.15)  # both branches of a block dropped

    rates = []
    original = vit.Block.__call__
    try:
        vit.Block.__call__ = lambda self, x, train: rates.append(self.drop_path) or x
        jax.eval_shape(
            lambda x: model.init(jax.random.key(0), x, train=False), jnp.zeros((1, 16, 16, 3))
        )
    finally:
        vit.Block.__call__ = original
    np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.3, 0.4, 0.5], atol=1e-9)


def test_feature_maps_need_fewer_parameters():
    model = scenax.models.create_model("test_vit", features_only=True, out_indices=(-4, 0, -4))
    assert [info["module"] for info in model.feature_info] == ["blocks.0", "blocks.2"]
    images = jnp.zeros((1, 160, 160, 3))
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    names = {"cls_token", "pos_embed", "patch_embed", "blocks_0", "blocks_1", "blocks_2"}
    assert set(variables["params"]) == names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"img_size": 16, "patch_size": 7},
            "ViT/7 needs an image whose sides divide by 7, got 16x16",
        ),
        (
            {"img_size": (32, 40)},
            "ViT/16 needs an image whose sides divide by 16, got 32x40. Resize",
        ),
        ({"act_layer": "relu"}, r"act_layer has to be one of .*'quick_gelu'.* got 'relu'"),
        ({"in_chans": 0}, r"in_chans=0: images need at least one channel. Leave"),
        ({"num_classes": -1}, r"num_classes=-1: .* 0 leaves it out"),
        ({"drop_path_rate": 1.0}, r"drop_path_rate is a probability below 1, got 1.0"),
        ({"global_pool": "mean"}, "global_pool has to be one of .*'avgmax'.* got 'mean'"),
        (
            {"features_only": True, "out_indices": (6,)},
            r"out_indices=\(6,\) is out of range.* 0 to 5",
        ),
        (
            {"features_only": True, "out_indices": (-7,)},
            r"-7.* is out of range. There are 6 feature",
        ),
        ({"features_only": True, "out_indices": 7}, "out_indices=7 is out of range"),
        ({"features_only": True, "out_indices": 0}, "out_indices=0 is out of range"),
        ({"features_only": True, "out_indices": ()}, "is out of range"),
        ({"out_indices": (1,)}, "needs features_only=True"),
    ],
)
def test_what_cannot_be_made(options, message):
    with pytest.raises(ValueError, match=message):
        scenax.models.create_model("test_vit", **options)


def test_images_of_another_shape():
    model = scenax.models.create_model("test_vit", img_size=32, in_chans=1)
    message = r"made for images of 32x32x1, got 48x32x3.*img_size=\(48, 32\), in_chans=3"
    with pytest.raises(ValueError, match=message):
        model.init(jax.random.key(0), jnp.zeros((2, 48, 32, 3)), train=False)


def test_single_numbers_of_the_size_are_options():
    model = scenax.models.create_model(
        "vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=96, mlp_ratio=2.0
    )
    assert model.size == vit.Size(96, 2, 3, 2.0)
    assert len(model.feature_info) == 2
    with pytest.raises(ValueError, match="multiple of num_heads, got 100 and 3"):
        scenax.models.create_model("vit_tiny_patch16_224", embed_dim=100)
    with pytest.raises(TypeError, match="no option 'size'"):
        scenax.models.create_model("vit_tiny_patch16_224", size=vit.TINY)
