"""What features are computed from: images as the weights want them, and checkpoints of any kind."""

import numpy as np
import optax
import pytest
from flax import traverse_util
from PIL import Image

from scenax.common import config as config_lib
from scenax.models import ClassificationModel
from scenax.train import sharding, state
from scenax.train.checkpoints import Checkpoint, Checkpoints

from ..config import Config
from ..features import make_task

GREY = 200


@pytest.fixture
def images(tmp_path):
    """A folder of images by class, all of one colour."""
    for split in ("train", "val", "test"):
        for name in ("a", "b"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            Image.fromarray(np.full((20, 30, 3), GREY, np.uint8)).save(folder / "1.png")
    return str(tmp_path / "images")


def config(**values):
    return config_lib.resolve(Config, {"dataset": {"name": "image_folder"}, **values}, {})


@pytest.mark.parametrize(
    ("model", "weights", "mean", "std"),
    [
        ("vit_tiny_patch16_224", None, 0.5, 0.5),
        ("resnet18", None, np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])),
        # Other weights of an architecture want other images.
        (
            "vit_small_patch16_224",
            "vit_small_patch16_224.dino",
            np.array([0.485, 0.456, 0.406]),
            np.array([0.229, 0.224, 0.225]),
        ),
    ],
)
def test_images_look_as_the_weights_want(images, model, weights, mean, std):
    task = make_task(config(model={"name": model}, weights=weights, batch_size=2), images)
    for split in ("train", "validation", "test"):
        (batch,) = task.dataset.once(split)
        assert batch["inputs"].shape == (2, 224, 224, 3)
        expected = np.broadcast_to((GREY / 255 - mean) / std, batch["inputs"].shape)
        np.testing.assert_allclose(batch["inputs"], expected, rtol=1e-5)


def test_images_have_the_models_size(images):
    model = {"name": "vit_tiny_patch16_224", "args": {"img_size": 32, "patch_size": 8}}
    task = make_task(config(model=model), images)
    assert task.dataset.meta_data.input_shape == (32, 32, 3)
    assert task.model.flax_model.img_size == (32, 32)


def test_the_datasets_own_options_go_before(images):
    args = {
        "eval_transforms": [
            {"name": "geometry.Resize", "args": {"height": 48, "width": 48}},
        ],
        "normalize": {"name": "image.Normalize", "args": {"mean": [0.0], "std": [1.0]}},
    }
    data = {"name": "image_folder", "args": args}
    task = make_task(config(dataset=data, model={"name": "resnet18"}), images)
    (batch,) = task.dataset.once("test")
    assert batch["inputs"].shape[1:] == (48, 48, 3)
    np.testing.assert_allclose(batch["inputs"][0], GREY / 255, rtol=1e-6)


def test_the_dataset_says_how_images_look_if_asked(images):
    data = {"name": "image_folder", "args": {"image_size": 64}}
    values = {"dataset": data, "model": {"name": "resnet18"}, "preprocessing": "dataset"}
    (batch,) = make_task(config(**values), images).dataset.once("test")
    assert batch["inputs"].shape[1:] == (64, 64, 3)
    np.testing.assert_allclose(batch["inputs"][0], GREY / 127.5 - 1, rtol=1e-5)


def test_checkpoints_of_a_training_run_load(data_dir, tmp_path):
    """As apps/classification writes them, with a head for other classes."""
    values = {"model": {"name": "fully_connected"}, "dataset": {"name": "digits"}}
    values |= {"weights": str(tmp_path / "checkpoints"), "preprocessing": "dataset"}
    task = make_task(config(**values), str(data_dir))
    trained = ClassificationModel({"architecture": "fully_connected"}, task.dataset.meta_data)
    batch = next(iter(task.dataset.once("test")))
    start = state.create_state(trained, optax.sgd(0.1), batch, seed=5, mesh=sharding.make_mesh())
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(Checkpoint(start, {}, 0.0))
    checkpoints.close()
    loaded = task.variables()["params"]
    assert start.params.keys() - loaded.keys() == {"head"}
    for path, leaf in traverse_util.flatten_dict(loaded).items():
        np.testing.assert_array_equal(leaf, traverse_util.flatten_dict(start.params)[path])
