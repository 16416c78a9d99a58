import hashlib
import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn import datasets as sklearn_datasets

from scenax import data
from scenax.data.datasets import digit_scenes, digits
from scenax.data.sources import tfds as tfds_source

BUNCH = sklearn_datasets.load_digits()


def scenes(split, config="default"):
    builder = tfds_source.prepare(f"digit_scenes/{config}")
    source = tfds_source.open_lazily(builder, split, encoded=["image", "instances"])
    examples = [source[index] for index in range(len(source))]
    for example in examples:
        for name in ("image", "instances"):
            example[name] = np.asarray(Image.open(io.BytesIO(example[name])))
    return examples


@pytest.fixture(scope="module")
def splits():
    return {split: scenes(split) for split in ("train", "validation", "test")}


def batch_of(task, config="default", size=100):
    dataset = data.get_dataset(
        "digit_scenes", batch_size=4, eval_batch_size=size, task=task, config=config
    )
    return dataset.meta_data, next(iter(dataset.test_iter))


def whole_masks(scene):
    """Every digit as Pillow enlarges it, where it is ink for more than a half, ``[n, h, w]``."""
    masks = np.zeros((len(scene["sources"]), *scene["instances"].shape), bool)
    cells = np.array(scene["cells"], int)
    for mask, row, (x0, y0, x1, y1) in zip(masks, scene["sources"], cells, strict=True):
        ink = Image.fromarray(BUNCH.images[row].astype(np.float32) / 16)
        ink = np.asarray(ink.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR))
        mask[y0:y1, x0:x1] = ink > 2039.5 / 4080 - 5e-8  # The library rounds, halves up.
    return masks


def composed(masks):
    """The map of masks of which later ones hide earlier ones."""
    last = len(masks) - np.argmax(masks[::-1], axis=0)
    return np.where(masks.any(axis=0), last, 0)


def test_a_split_is_composed_of_its_own_digits_only(splits):
    assert {split: len(found) for split, found in splits.items()} == {
        "train": 2000,
        "validation": 250,
        "test": 500,
    }
    for split, found in splits.items():
        rows = np.unique(np.concatenate([scene["sources"] for scene in found]))
        assert {digits.split_of(BUNCH.images[row]) for row in rows} == {split}
        assert len(rows) > 100
        for scene in found:
            np.testing.assert_array_equal(scene["classes"], BUNCH.target[scene["sources"]])


def test_boxes_and_areas_are_those_of_the_map(splits):
    for scene in splits["train"] + splits["test"]:
        found = ndimage.find_objects(scene["instances"].astype(int))
        boxes = [(x.start, y.start, x.stop, y.stop) for y, x in found]
        np.testing.assert_array_equal(scene["boxes"], boxes)
        ids = np.arange(1, len(found) + 1)
        ones = np.ones(scene["instances"].shape)
        areas = ndimage.sum_labels(ones, scene["instances"], ids)
        np.testing.assert_array_equal(scene["area"], areas)
        assert len(scene["classes"]) == len(scene["sources"]) == len(found)
        assert 1 <= len(found) <= 6


def test_the_map_is_what_pillow_composes_of_the_sources(splits):
    shares = []
    for scene in splits["validation"]:
        masks = whole_masks(scene)
        np.testing.assert_array_equal(composed(masks), scene["instances"])
        shares.extend(scene["area"] / masks.sum(axis=(1, 2)))
        heights = scene["cells"][:, 3] - scene["cells"][:, 1]
        assert np.all((heights >= 10) & (heights <= 28))
    assert min(shares) >= 0.8
    assert 0.05 < np.mean(np.array(shares) < 1) < 0.6  # Some are hidden in part.


def test_crowded_scenes_have_many_digits_and_each_can_be_seen():
    config = digit_scenes.DigitScenes.get_builder_config("crowded")
    counts, shares = [], []
    for index in range(40):
        scene = digit_scenes.compose(config, "train", np.random.default_rng(index))
        masks = whole_masks(scene)
        np.testing.assert_array_equal(composed(masks), scene["instances"])
        shares.extend(scene["area"] / masks.sum(axis=(1, 2)))
        counts.append(len(masks))
    assert min(counts) >= 8
    assert 16 < max(counts) <= 20
    assert 0.5 <= min(shares) < 0.6


def test_digits_are_bright_on_a_dark_background(splits):
    for scene in splits["validation"]:
        brightness = scene["image"].max(axis=-1)
        assert brightness[scene["instances"] > 0].mean() > 190
        assert brightness[scene["instances"] == 0].mean() < 130


def test_detection_and_instance_labels(splits):
    info, batch = batch_of("instance")
    assert info.num_classes == 10
    assert batch["inputs"].shape == (100, *info.input_shape)
    assert batch["inputs"].dtype == info.input_dtype
    label = batch["label"]
    for index, scene in enumerate(splits["test"][:100]):
        n = len(scene["classes"])
        np.testing.assert_allclose(
            batch["inputs"][index], scene["image"] / 255 * 2 - 1, rtol=0, atol=1e-6
        )
        np.testing.assert_array_equal(label["boxes"][index, :n] * 64, scene["boxes"])
        np.testing.assert_array_equal(label["classes"][index, :n], scene["classes"])
        assert label["mask"][index].tolist() == [1.0] * n + [0.0] * (6 - n)
        for i, mask in enumerate(label["masks"][index]):
            np.testing.assert_array_equal(mask, scene["instances"] == i + 1)
    assert not label["is_crowd"].any()

    _, detection = batch_of("detection")
    assert set(detection["label"]) == {"boxes", "classes", "mask", "is_crowd"}
    for name, values in detection["label"].items():
        np.testing.assert_array_equal(values, label[name])


def test_semantic_and_panoptic_labels_agree_with_the_map(splits):
    info, semantic = batch_of("semantic")
    assert info.num_classes == 11
    assert info.label_names[-1] == "background"
    assert np.all(semantic["label_weights"] == 1)
    panoptic_info, panoptic = batch_of("panoptic")
    assert panoptic_info.num_classes == 11
    for index, scene in enumerate(splits["test"][:100]):
        classes = semantic["label"][index]
        np.testing.assert_array_equal(classes == 10, scene["instances"] == 0)
        for i, class_id in enumerate(scene["classes"]):
            assert set(classes[scene["instances"] == i + 1]) == {class_id}
        segments = panoptic["label"]["segments"][index]
        of_segment = panoptic["label"]["classes"][index]
        np.testing.assert_array_equal(of_segment[segments - 1], classes)
        n = len(scene["classes"])
        assert np.unique(segments).tolist() == list(range(1, n + 2))
        assert of_segment.tolist() == [*scene["classes"], 10] + [-1] * (6 - n)


def test_classification_labels_say_which_digits_are_there(splits):
    info, batch = batch_of("classification")
    assert info.targets == "multi_hot"
    for label, scene in zip(batch["label"], splits["test"], strict=False):
        assert set(np.flatnonzero(label)) == set(scene["classes"])
        assert set(label) <= {0.0, 1.0}


def test_scenes_of_a_users_own(monkeypatch):
    own = digit_scenes.DigitScenesConfig(
        name="own",
        image_size=40,
        max_digits=3,
        digit_sizes=(9, 12),
        max_overlap=0.0,
        num_examples={"train": 12, "validation": 4, "test": 8},
    )
    configs = [*digit_scenes.DigitScenes.BUILDER_CONFIGS, own]
    monkeypatch.setattr(digit_scenes.DigitScenes, "BUILDER_CONFIGS", configs)
    info, batch = batch_of("detection", "own", size=8)
    assert info.input_shape == (40, 40, 3)
    assert dict(info.num_examples) == own.num_examples
    assert batch["label"]["boxes"].shape == (8, 3, 4)
    for scene in scenes("train", "own"):  # Nothing is hidden.
        np.testing.assert_array_equal(scene["area"], whole_masks(scene).sum(axis=(1, 2)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"digit_sizes": (6, 20)}, r"8 <= smallest .*got digit_sizes=\(6, 20\)"),
        ({"digit_sizes": (10, 65)}, "largest <= image_size=64"),
        ({"max_digits": 0}, "max_digits=0"),
        ({"min_digits": 7}, "min_digits=7 and max_digits=6"),
        ({"max_overlap": 0.9}, "from 0 to 0.75, got 0.9"),
        ({"num_examples": {"train": 1, "val": 1}}, "validation, test, got 'train', 'val'"),
    ],
)
def test_numbers_that_do_not_go_together_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        digit_scenes.DigitScenesConfig(name="wrong", **wrong)


def test_a_wrong_task_or_config_is_named():
    with pytest.raises(ValueError, match=r"no task 'panoptics'\. Did you mean 'panoptic'"):
        data.get_dataset("digit_scenes", batch_size=4, task="panoptics")
    with pytest.raises(ValueError, match=r"no config 'crowd'\. Did you mean 'crowded'"):
        data.get_dataset("digit_scenes", batch_size=4, config="crowd")


def test_scenes_are_as_they_ever_were(splits):
    def digest(scene):
        names = ("image", "instances", "boxes", "classes", "cells", "sources")
        arrays = [np.asarray(scene[name], np.int32) for name in names]
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:16]

    found = {split: [digest(scene) for scene in splits[split][:3]] for split in splits}
    assert found == {
        "train": ["27c41cc224e44592", "30a2052c63417abd", "d7e6637d328efb85"],
        "validation": ["13f094179b40db46", "0ed4cd9ee94350ec", "f007310a9f934d42"],
        "test": ["069f0b0815a1a31e", "a239c33eb83b5dbb", "0518617bea03be1d"],
    }
