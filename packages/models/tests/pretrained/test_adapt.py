"""What changes when a model's options are not those of its weights, against timm doing the same."""

import json
import math
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import scenax.models
from scenax.models.pretrained import adapt
from scenax.models.pretrained.timm import to_timm

GOLDENS = pathlib.Path(__file__).parent / "goldens"
SEEDED = runpy.run_path(str(GOLDENS.parents[1] / "goldens" / "seeded.py"))
CASES = json.loads((GOLDENS / "adapted.json").read_text())
ARRAYS = np.load(GOLDENS / "adapted.npz")
SHAPES = json.loads(ARRAYS["shapes"].tobytes())
RNG = np.random.default_rng(0)


def options(case, which):
    given = {**CASES[case]["shared"], **CASES[case][which]}
    return {key: tuple(v) if isinstance(v, list) else v for key, v in given.items()}


def source(case, folder):
    """A folder as timm would have saved the source; its arrays."""
    shapes, _ = SHAPES[case]
    state = {}
    for key, shape in shapes.items():
        counter = key.endswith("num_batches_tracked")
        array = np.zeros(()) if counter else SEEDED["weight"](key, tuple(shape))
        state[key] = array.astype(np.int64 if counter else np.float32)
    save_file(state, folder / "model.safetensors")
    given = options(case, "source")
    cfg = scenax.models.create_model(CASES[case]["model"]).default_cfg
    size = given.get("img_size", cfg["input_size"][1:])
    pretrained = {
        "input_size": [given.get("in_chans", 3), *size],
        "first_conv": cfg["first_conv"],
        "classifier": cfg["classifier"],
    }
    config = {"num_classes": given["num_classes"], "pretrained_cfg": pretrained}
    (folder / "config.json").write_text(json.dumps(config))
    return state


@pytest.mark.parametrize("case", CASES)
def test_what_is_loaded_is_what_timm_loads(case, tmp_path):
    state = source(case, tmp_path)
    model = scenax.models.create_model(CASES[case]["model"], **options(case, "target"))
    got = to_timm(scenax.models.load_pretrained(model, tmp_path), model)

    assert {key: list(array.shape) for key, array in got.items()} == SHAPES[case][1]
    wanted = {key.partition("/")[2]: key for key in ARRAYS if key.startswith(f"{case}/")}
    heads = model.default_cfg["classifier"]
    heads = (heads,) if isinstance(heads, str) else heads
    other_head = model.num_classes != options(case, "source")["num_classes"]
    for key, array in got.items():
        if key in wanted:
            assert array.shape == ARRAYS[wanted[key]].shape
            np.testing.assert_allclose(array, ARRAYS[wanted[key]], rtol=0, atol=1e-5, err_msg=key)
        elif other_head and key.rpartition(".")[0] in heads:
            assert key not in state or state[key].shape != array.shape
        else:
            np.testing.assert_array_equal(array, state[key], err_msg=key)


def test_each_of_the_things_that_change_is_among_the_cases():
    changed = {
        key.rpartition("/")[2].rpartition(".")[0] or "pos_embed"
        for key in ARRAYS
        if key != "shapes"
    }
    assert {"pos_embed", "patch_embed.proj", "conv1.0", "stem.0"} <= changed
    assert any("attn" in key for key in changed)


@pytest.mark.parametrize(("old", "new"), [(4, 9), (14, 5), (7, 8), (8, 7), (1, 3), (5, 1)])
def test_the_filter_is_jaxs_antialiased_cubic(old, new):
    x = RNG.normal(size=(old, 3)).astype(np.float32)
    wanted = jax.image.resize(jnp.asarray(x), (new, 3), "cubic", antialias=True)
    np.testing.assert_allclose(adapt.resize_matrix(old, new) @ x, wanted, atol=2e-6)


def test_filters_of_repeated_channels_see_an_image_of_equal_channels_alike():
    weight = RNG.normal(size=(5, 3, 2, 2)).astype(np.float32)
    for channels in (1, 2, 4, 7):
        got = adapt.adapt_input_conv(weight, channels)
        assert got.shape == (5, channels, 2, 2)
        assert got.dtype == np.float32
    np.testing.assert_allclose(
        adapt.adapt_input_conv(weight, 6).sum(axis=1), weight.sum(axis=1), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(
        adapt.adapt_input_conv(weight, 4), weight[:, [0, 1, 2, 0]] * 0.75, rtol=1e-6
    )
    assert adapt.adapt_input_conv(weight.astype(np.float16), 2).dtype == np.float16


def test_larger_patches_see_in_a_resized_patch_what_the_old_ones_saw():
    weight, patch = RNG.normal(size=(4, 1, 6, 6)), RNG.normal(size=(6, 6))
    resize = adapt.resize_matrix(6, 10)
    larger = adapt.resample_patch_embed(weight, (10, 10))
    np.testing.assert_allclose(
        np.einsum("oihw,hw->o", larger, resize @ patch @ resize.T),
        np.einsum("oihw,hw->o", weight, patch),
        atol=1e-8,
    )


def test_a_table_keeps_its_centre_and_its_distances_order():
    side = 7
    grid = np.abs(np.mgrid[1 - side : side, 1 - side : side]).sum(axis=0).astype(np.float32)
    got = adapt.resize_rel_pos_bias_table(grid.reshape(-1, 1), (12, 9)).reshape(23, 17)
    assert got[11, 8] == 0
    assert (np.diff(got[11:, 8]) > 0).all()
    np.testing.assert_allclose(got, got[::-1, ::-1], atol=1e-5)
    assert got[-1, -1] == pytest.approx(2 * (side - 1), rel=1e-4)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda: adapt.resample_abs_pos_embed(np.zeros((1, 12, 4)), (2, 2)),
            "12 positions, 1 of them of tokens in front, are no grid of 3 x 3. Say old_size",
        ),
        (
            lambda: adapt.resize_rel_pos_bias_table(np.zeros((15, 2)), (4, 4)),
            "A table of 15 relative positions is not of square windows. Say old_window",
        ),
    ],
)
def test_what_cannot_be_resampled_is_refused(function, message):
    with pytest.raises(ValueError, match=message):
        function()


def test_a_table_of_oblong_windows_is_told_so():
    table = RNG.normal(size=(math.prod((2 * 2 - 1, 2 * 4 - 1)), 3)).astype(np.float32)
    assert adapt.resize_rel_pos_bias_table(table, (2, 4)) is table
    assert adapt.resize_rel_pos_bias_table(table, (4, 4), old_window=(2, 4)).shape == (49, 3)
