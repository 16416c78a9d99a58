import pathlib
import runpy

import numpy as np
import pytest

import scenax.data
from scenax.data.transforms import geometry, preprocessing

FOLDER = pathlib.Path(__file__).parent / "goldens"
MAKE = runpy.run_path(str(FOLDER / "make_preprocessing.py"))


def cfg_of(name):
    _, _, size, crop_pct, crop_mode, interpolation = MAKE["CASES"][name]
    return {
        "input_size": (3, size, size),
        "crop_pct": crop_pct,
        "crop_mode": crop_mode,
        "interpolation": interpolation,
        "mean": MAKE["MEAN"],
        "std": MAKE["STD"],
    }


@pytest.mark.parametrize("name", MAKE["CASES"])
def test_images_are_prepared_as_timm_prepares_them(name):
    cfg, rng = cfg_of(name), np.random.default_rng(0)
    example = {"inputs": MAKE["image"](*MAKE["CASES"][name][:2])}
    for transform in [*preprocessing.evaluation(cfg), preprocessing.normalization(cfg)]:
        example = transform(example, rng)
    with np.load(FOLDER / "preprocessing.npz") as golden:
        np.testing.assert_allclose(example["inputs"], golden[name], rtol=0, atol=2e-6)


def test_another_size_keeps_the_share_that_is_cropped():
    resize, crop = preprocessing.evaluation(cfg_of("wide"), 28)
    assert resize == geometry.ResizeSmallerSide(32, "bicubic")
    assert crop == geometry.CentralCrop(28)


def test_grey_images_have_the_averages_of_the_three_channels():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    example = preprocessing.normalization(cfg_of("wide"))(
        {"inputs": pixels}, np.random.default_rng(0)
    )
    wanted = (pixels / 255 - np.mean(MAKE["MEAN"])) / np.mean(MAKE["STD"])
    np.testing.assert_allclose(example["inputs"], wanted, atol=1e-6)


def test_what_cannot_be_prepared_is_said():
    with pytest.raises(ValueError, match=r"Only square images.*not 20x10"):
        preprocessing.evaluation(cfg_of("wide") | {"input_size": (3, 10, 20)})
    with pytest.raises(ValueError, match=r"\('center', 'squash'\), got 'border'"):
        preprocessing.evaluation(cfg_of("wide") | {"crop_mode": "border"})


def test_a_dataset_takes_them(tmp_path):
    cfg = cfg_of("wide")
    dataset = scenax.data.get_dataset(
        "digit_scenes",
        batch_size=2,
        data_dir=str(tmp_path),
        eval_transforms=preprocessing.evaluation(cfg, 32),
        normalize=preprocessing.normalization(cfg),
    )
    batch = next(iter(dataset.test_iter))
    assert batch["inputs"].shape[1:3] == (32, 32)
