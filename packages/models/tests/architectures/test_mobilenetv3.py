"""What is MobileNetV3's own; what it computes is compared with timm's in test_parity.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

import scenax.models
from scenax.models.architectures.mobilenetv3 import VARIANTS

IMAGES = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)


def params_of(name, **options):
    model = scenax.models.create_model(name, **options)
    init = functools.partial(model.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), IMAGES)["params"]


def hard_swish(y):
    return y * np.clip(y + 3, 0, 6) / 6


def test_the_head_pools_first_and_has_a_layer_before_the_classifier():
    images = jax.random.normal(jax.random.key(1), IMAGES.shape)
    first, last = [["ds", 1, 3, 2, 1, 8, 0, "relu"]], [["cn", 1, 1, 1, 1, 32, 0, "hard_swish"]]
    sizes = {"stages": [first, last], "channel_multiplier": 1.0, "num_features": 48}
    make = functools.partial(scenax.models.create_model, "mobilenetv3_small_100", **sizes)
    model = make(num_classes=0)
    assert (model.num_features, model.head_hidden_size) == (32, 48)
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), images)
    got = model.apply(variables, images, train=False)

    parts = make(features_only=True, out_indices=(-1,))
    params = {k: v for k, v in variables["params"].items() if k != "conv_head"}
    (last,) = parts.apply({**variables, "params": params}, images, train=False)
    kernel, bias = variables["params"]["conv_head"]["kernel"][0, 0], np.linspace(-4, 4, 48)
    y = np.asarray(last).mean((1, 2)) @ np.asarray(kernel)
    np.testing.assert_allclose(got, hard_swish(y), rtol=1e-4, atol=1e-5)
    biased = {**params, "conv_head": {"kernel": kernel[None, None], "bias": jnp.float32(bias)}}
    got = model.apply({**variables, "params": biased}, images, train=False)
    np.testing.assert_allclose(got, hard_swish(y + bias), rtol=1e-4, atol=1e-5)

    mapped = make(num_classes=0, global_pool="").apply(variables, images, train=False)
    assert mapped.shape == (2, 16, 16, 48)
    np.testing.assert_allclose(mapped, hard_swish(np.asarray(last) @ kernel), rtol=1e-4, atol=1e-5)


def test_two_pools_side_by_side_widen_the_layer_behind_them():
    params = params_of("mobilenetv3_small_100", global_pool="catavgmax")
    assert params["conv_head"]["kernel"].shape == (1, 1, 2 * 576, 1024)
    assert params["classifier"]["kernel"].shape == (1024, 1000)


@pytest.mark.parametrize(
    ("name", "squeezes"),
    [  # A quarter of the width inside, which is 72, 120, 480, 672 and 960.
        ("mobilenetv3_large_100", {"2_0": 24, "2_1": 32, "4_0": 120, "4_1": 168, "5_1": 240}),
        ("mobilenetv3_rw", {"2_0": 18, "2_1": 30, "4_0": 120, "4_1": 168, "5_1": 240}),
    ],
)
def test_squeezes_are_multiples_of_8_but_for_timms_own_size(name, squeezes):
    params = params_of(name)
    assert squeezes == {
        block: params[f"blocks_{block}"]["se"]["conv_reduce"]["bias"].shape[0] for block in squeezes
    }


@pytest.mark.parametrize(
    ("name", "stem", "widths"),
    [
        ("mobilenetv3_small_050", 16, [8, 16, 24, 24, 48, 288]),  # A stem of 8 is not wanted.
        ("mobilenetv3_small_075", 16, [16, 24, 32, 40, 72, 432]),
        ("mobilenetv3_large_150d", 24, [24, 40, 64, 120, 168, 240, 1440]),
    ],
)
def test_widths_are_multiples_of_8(name, stem, widths):
    size = VARIANTS[name]
    assert size.stem == stem
    assert [stage[-1].channels for stage in size.blocks] == widths


def test_widths_inside_of_blocks_are_multiples_of_8():
    params = params_of("mobilenetv3_small_100")
    width = {block: params[f"blocks_{block}"]["bn1"]["scale"].shape[0] for block in ("1_0", "1_1")}
    assert width == {"1_0": 72, "1_1": 88}  # 24 x 3.67 is 88.08.


def test_a_deeper_stage_has_more_of_its_last_rows():
    stages = VARIANTS["mobilenetv3_large_150d"].blocks
    assert [len(stage) for stage in stages] == [2, 3, 4, 5, 3, 4, 2]
    assert [row.expand for row in stages[3]] == [6, 2.5, 2.5, 2.3, 2.3]
    assert [row.stride for row in stages[3]] == [2, 1, 1, 1, 1]


def test_minimal_ones_have_neither_squeezes_nor_large_kernels_nor_hard_swishes():
    paths = traverse_util.flatten_dict(params_of("tf_mobilenetv3_large_minimal_100"), sep="/")
    assert not any("/se/" in path for path in paths)
    assert {leaf.shape[0] for path, leaf in paths.items() if "conv_dw" in path} == {3}
    size = VARIANTS["tf_mobilenetv3_large_minimal_100"]
    rows = [row for stage in size.blocks for row in stage]
    assert {size.act_layer, *(row.act_layer for row in rows)} == {"relu"}
    plain = [row for stage in VARIANTS["tf_mobilenetv3_large_100"].blocks for row in stage]
    assert [(row.channels, row.stride) for row in rows] == [(r.channels, r.stride) for r in plain]


def test_the_stem_is_a_feature_map_where_the_first_stage_halves_the_sides():
    small, large = (
        scenax.models.create_model(
            f"mobilenetv3_{name}_100", features_only=True, out_indices=(0, 1)
        )
        for name in ("small", "large")
    )
    assert [level["module"] for level in small.feature_info] == ["bn1", "blocks.0"]
    assert [level["module"] for level in large.feature_info] == ["blocks.0", "blocks.1"]
    only = {"features_only": True, "out_indices": (0,)}
    assert set(params_of("mobilenetv3_small_100", **only)) == {"conv_stem", "bn1"}
    assert set(params_of("mobilenetv3_large_100", **only)) == {"conv_stem", "bn1", "blocks_0_0"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pad_type": "valid"}, r"pad_type .*'same'.*got 'valid'"),
        ({"act_layer": "gelu"}, r"act_layer .*'hard_swish'.*got \['gelu'\]"),
        ({"stages": [[["er", 1, 3, 1, 1, 8, 0, "relu"]]]}, r"Blocks are \('ds', .*got \['er'\]"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        scenax.models.create_model("mobilenetv3_small_100", **options)
