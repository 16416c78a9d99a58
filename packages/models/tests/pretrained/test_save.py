"""To files and back, for every family; the names in them are timm's, by timm's own account."""

import functools
import json
import pathlib
import runpy

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util
from safetensors import numpy as safetensors

import scenax.models
from scenax.models.pretrained.save import config_of
from scenax.models.pretrained.timm import abstract_variables, name_of, place_of, to_timm

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens"
SEEDED = runpy.run_path(str(GOLDENS / "seeded.py"))
LISTS = {
    path.stem: json.loads(path.read_text())["cases"]
    for path in sorted(GOLDENS.glob("*.json"))
    if "." not in path.stem
}


@functools.cache
def shapes(family):
    """What the reference says of the state dicts of all cases."""
    return json.loads(np.load(GOLDENS / f"{family}.npz")["shapes"].tobytes())


@pytest.mark.parametrize("family", LISTS)
def test_names_and_axes_have_a_way_back(family):
    for case in shapes(family).values():
        for name, shape in case.items():
            if name.endswith("num_batches_tracked"):
                continue
            path, axes = place_of(name, len(shape))
            back, back_axes = name_of(path, len(shape))
            assert back == name
            assert [axes[i] for i in back_axes] == list(range(len(shape)))


@pytest.mark.parametrize("family", LISTS)
def test_from_the_references_arrays_to_a_file_and_back(family, tmp_path):
    case, what = next(iter(LISTS[family].items()))
    model = scenax.models.create_model(what["model"], **what["options"])
    state = {}
    for key, shape in shapes(family)[case].items():
        counter = key.endswith("num_batches_tracked")
        array = np.zeros(shape) if counter else SEEDED["weight"](key, tuple(shape))
        state[key] = array.astype(np.int64 if counter else np.float32)
    places = {key: place_of(key, array.ndim) for key, array in state.items()}
    arrays = {
        path: state[key].transpose(axes)
        for key, (path, axes) in places.items()
        if not key.endswith("num_batches_tracked")
    }
    variables = traverse_util.unflatten_dict(arrays, sep="/")

    scenax.models.save_pretrained(model, variables, tmp_path)
    stored = safetensors.load_file(tmp_path / "model.safetensors")
    assert set(stored) == set(state)
    for key, array in state.items():
        assert stored[key].dtype == array.dtype
        np.testing.assert_array_equal(stored[key], array, err_msg=key)

    again = scenax.models.load_pretrained(model, tmp_path)
    assert jax.tree.structure(again) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, again, variables)


def tiny(**options):
    options = {"embed_dim": 16, "depth": 1, "num_classes": 5, "img_size": 32, **options}
    return scenax.models.create_model("test_vit", **options)


def initial(model, shape=None):
    shapes = abstract_variables(model, shape or (*model.img_size, model.in_chans))
    rng = np.random.default_rng(0)
    arrays = {path: rng.normal(size=leaf.shape).astype("f") for path, leaf in shapes.items()}
    return traverse_util.unflatten_dict(arrays, sep="/")


def test_oblong_windows_come_back_as_they_were(tmp_path):
    """Tables of 5 x 3 and of 3 x 3 positions, and 9 x 1: no square, a square, and none that is."""
    options = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "window_size": 5}
    name, size = "swin_tiny_patch4_window7_224", (40, 8)
    model = scenax.models.create_model(name, img_size=size, num_classes=0, **options)
    variables = initial(model)
    tables = [
        variables["params"][f"layers_{i}"]["blocks_0"]["attn"]["relative_position_bias_table"]
        for i in range(2)
    ]
    assert [len(table) for table in tables] == [9 * 3, 9 * 1]
    scenax.models.save_pretrained(model, variables, tmp_path)
    again = scenax.models.load_pretrained(model, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_oblong_grids_come_back_as_they_were(tmp_path):
    model = tiny(img_size=(16, 64))  # As many patches as 32 x 32 have.
    scenax.models.save_pretrained(model, variables := initial(model), tmp_path)
    again = scenax.models.load_pretrained(model, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    square = scenax.models.load_pretrained(tiny(), tmp_path)
    changed = np.abs(square["params"]["pos_embed"] - variables["params"]["pos_embed"]).max()
    assert changed > 0.001


def test_dtypes_are_kept(tmp_path):
    model = tiny()
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), initial(model))
    scenax.models.save_pretrained(model, half, tmp_path)
    stored = safetensors.load_file(tmp_path / "model.safetensors")
    assert {array.dtype for array in stored.values()} == {np.dtype(ml_dtypes.bfloat16)}
    kernel = half["params"]["head"]["kernel"]
    np.testing.assert_array_equal(stored["head.weight"], np.asarray(kernel).T)


def test_the_config_is_timms():
    model = scenax.models.create_model("resnet18d", num_classes=7, in_chans=1)
    assert json.loads(json.dumps(config_of(model))) == {
        "architecture": "resnet18d",
        "num_classes": 7,
        "num_features": 512,
        "global_pool": "avg",
        "model_args": {"in_chans": 1},
        "pretrained_cfg": {
            "tag": "ra2_in1k",
            "custom_load": False,
            "input_size": [1, 224, 224],
            "fixed_input_size": False,
            "interpolation": "bicubic",
            "crop_pct": 0.875,
            "crop_mode": "center",
            "mean": [pytest.approx((0.485 + 0.456 + 0.406) / 3)],
            "std": [pytest.approx((0.229 + 0.224 + 0.225) / 3)],
            "num_classes": 7,
            "first_conv": "conv1.0",
            "classifier": "fc",
            "license": "apache-2.0",
        },
    }


def test_options_that_are_no_defaults_are_in_the_config():
    options = {"embed_dim": 16, "depth": 1, "img_size": (32, 48), "global_pool": "avg"}
    model = scenax.models.create_model("test_vit", patch_size=8, num_heads=2, **options)
    config = config_of(model)
    assert config["model_args"] == {**options, "patch_size": 8}
    assert config["pretrained_cfg"]["input_size"] == (3, 32, 48)
    default = config_of(scenax.models.create_model("resnet50"))
    assert default["model_args"] == {}
    assert default["pretrained_cfg"]["test_input_size"] == (3, 288, 288)


def test_variables_of_another_model_are_refused(tmp_path):
    variables = initial(tiny())
    del variables["params"]["cls_token"]
    with pytest.raises(ValueError, match="are not those of this VisionTransformer") as error:
        scenax.models.save_pretrained(tiny(num_classes=6), variables, tmp_path / "new")
    assert "params/cls_token: absent, not (1, 1, 16)" in str(error.value)
    assert "params/head/kernel: (16, 5), not (16, 6)" in str(error.value)
    assert not (tmp_path / "new").exists()


def test_models_of_ones_own_have_names_and_no_config(tmp_path):
    dense = nn.Dense(2)
    variables = {"params": {"Dense_0": {"kernel": np.arange(6.0).reshape(3, 2)}}}
    state = to_timm(variables, dense)
    np.testing.assert_array_equal(state["Dense.0.weight"], [[0, 2, 4], [1, 3, 5]])
    with pytest.raises(ValueError, match=r"This Dense is not of the zoo.*to_timm"):
        scenax.models.save_pretrained(dense, variables, tmp_path)
    with pytest.raises(ValueError, match="no names of timm's kind for cache/Dense_0/kernel"):
        to_timm({"cache": variables["params"]}, dense)


def test_a_model_for_images_of_any_size(tmp_path):
    model = scenax.models.create_model("fully_connected", num_classes=3)
    variables = initial(model, (8, 8, 1))
    scenax.models.save_pretrained(model, variables, tmp_path)
    again = scenax.models.load_pretrained(model, tmp_path, input_shape=(8, 8, 1))
    jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_files_are_replaced_and_nothing_else_lies_there(tmp_path):
    model = tiny()
    variables = initial(model)
    for factor in (1, 2):
        scaled = jax.tree.map(lambda x: factor * x, variables)  # noqa: B023
        scenax.models.save_pretrained(model, scaled, tmp_path / "a" / "b")
    assert sorted(each.name for each in (tmp_path / "a" / "b").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    again = scenax.models.load_pretrained(model, tmp_path / "a" / "b")
    jax.tree.map(np.testing.assert_array_equal, again, scaled)
