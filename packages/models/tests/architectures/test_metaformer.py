import functools
import json
import math
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scenax.models
from scenax.models.architectures._token_mixers import TOKEN_MIXERS
from scenax.models.pretrained.timm import from_timm

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens"
SEEDED = runpy.run_path(str(GOLDENS / "seeded.py"))
AUTHORS = dict(np.load(GOLDENS / "transformers.npz"))
SMALL = {"depths": (1, 2, 1, 1), "dims": (16, 24, 32, 40), "num_classes": 7}


def random_map(*shape):
    return jax.random.normal(jax.random.key(0), shape)


def logits(**options):
    model = scenax.models.create_model("poolformer_s12", **SMALL, **options)
    shapes = json.loads(AUTHORS["shapes"].tobytes())["poolformer"]
    state = {key: SEEDED["weight"](key, tuple(shape)) for key, shape in shapes.items()}
    variables = from_timm(state, model, (59, 51, 3))
    images = jnp.asarray(SEEDED["images"]((2, 59, 51, 3)).astype(np.float32))
    return jax.jit(functools.partial(model.apply, train=False))(variables, images)


def test_with_a_group_norm_in_the_head_logits_are_the_authors():
    wanted = AUTHORS["poolformer"]
    assert np.abs(logits(head_norm="group") - wanted).max() <= 2e-5 * wanted.std()
    assert np.abs(logits() - wanted).max() > 0.01 * wanted.std()


def test_pooling_is_a_mean_over_what_lies_inside_the_map():
    x = random_map(2, 4, 5, 3)
    got = TOKEN_MIXERS["pooling"](jnp.float32).apply({}, x)
    for row in range(4):
        for col in range(5):
            window = x[:, max(row - 1, 0) : row + 2, max(col - 1, 0) : col + 2]
            wanted = window.mean(axis=(1, 2)) - x[:, row, col]
            np.testing.assert_allclose(got[:, row, col], wanted, atol=1e-6)


def test_identity_mixes_nothing():
    x = random_map(2, 4, 5, 3)
    np.testing.assert_array_equal(TOKEN_MIXERS["identity"](jnp.float32).apply({}, x), x)


def test_spatial_mlp_is_one_matrix_over_positions():
    mixer, x = TOKEN_MIXERS["spatial_mlp"](jnp.float32), random_map(2, 2, 3, 4)
    matrix = random_map(6, 6)
    got = mixer.apply({"params": {"fc": {"kernel": matrix}}}, x)
    wanted = np.einsum("bnc,nm->bmc", np.asarray(x).reshape(2, 6, 4), matrix)
    np.testing.assert_allclose(got.reshape(2, 6, 4), wanted, atol=1e-5)
    with pytest.raises(ValueError, match=r"mixes 6 positions, got 3x3"):
        mixer.apply({"params": {"fc": {"kernel": matrix}}}, random_map(2, 3, 3, 4))


@pytest.mark.parametrize(
    ("mixers", "millions"),
    [
        ("identity", 11.9),
        (("pooling", "pooling", "pooling", "attention"), 14.0),
        (("pooling", "pooling", "attention", "attention"), 16.5),
        (("pooling", "pooling", "pooling", "spatial_mlp"), 11.9),
        (("pooling", "pooling", "spatial_mlp", "spatial_mlp"), 12.2),
    ],
)
def test_parameters_of_hybrids_are_those_of_table_5(mixers, millions):
    model = scenax.models.create_model("poolformer_s12", token_mixers=mixers)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    init = functools.partial(model.init, train=False)
    params = jax.eval_shape(init, jax.random.key(0), images)["params"]
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    assert count / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token_mixers": "conv"}, r"token_mixers\[0\] has to be one of .*'sep_conv'.*got 'conv'"),
        ({"head_norm": "batch"}, r"head_norm has to be one of .*got 'batch'"),
        ({"depths": (1, 2)}, r"one entry for each stage, got \(1, 2\)"),
        ({"token_mixers": "attention", "dims": (32, 40, 64, 96)}, r"divide by 32, got 40"),
        ({"global_pool": "catavgmax"}, r"global_pool has to be one of"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        scenax.models.create_model("poolformer_s12", **options)
