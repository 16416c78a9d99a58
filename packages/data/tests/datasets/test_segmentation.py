"""Cityscapes and COCO's panoptic segments from tiny copies, ADE20K and other folders of maps."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from scenax import data
from scenax.data.datasets._folders import DataWarning
from scenax.data.reports import UnreadableError


def opened(name, folder, **options):
    small = {"batch_size": 2, "eval_batch_size": 2, "num_threads": 2}
    return data.get_dataset(name, data_dir=str(folder), **(small | options))


# cityscapesScripts' labels.py: the trainId of every id that has one.
TRAIN_IDS = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11}
TRAIN_IDS |= {25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}


@pytest.fixture(scope="module")
def cityscapes(tmp_path_factory, write_copy, png):
    """17 x 34 pixels; column ``i`` is of label id ``i``, and one pixel of -1, which is 255."""
    folder = tmp_path_factory.mktemp("cityscapes")
    ids = np.tile(np.arange(34, dtype=np.uint8), (17, 1))
    ids[16, 33] = 255
    row = {"image_left": png(np.stack([7 * ids] * 3, axis=-1)), "segmentation_label": png(ids)}
    rows = {"train": 100, "validation": 3, "test": 5}
    splits = {s: [row | {"image_id": f"{s}{i}"} for i in range(n)] for s, n in rows.items()}
    write_copy("cityscapes/semantic_segmentation", folder, splits)
    return folder


def test_cityscapes_is_as_it_was_published(cityscapes):
    dataset = data.get_dataset("cityscapes", batch_size=1, data_dir=str(cityscapes), num_threads=2)
    info = dataset.meta_data
    assert info.input_shape == (512, 1024, 3)
    assert info.num_classes == len(info.label_names) == 19
    assert info.label_names[::6] == ("road", "traffic light", "rider", "bicycle")
    # The test split's labels are not public.
    assert dict(info.num_examples) == {"train": 98, "validation": 2, "test": 3}
    batch = next(dataset.train_iter)
    assert batch["inputs"].shape == (1, 512, 1024, 3)
    assert batch["label"].shape == batch["label_weights"].shape == (1, 512, 1024)
    dtypes = {key: str(value.dtype) for key, value in batch.items()}
    assert dtypes == {
        "inputs": "float32",
        "label": "int32",
        "label_weights": "float32",
        "batch_mask": "float32",
    }


def test_ids_of_cityscapes_become_those_that_are_evaluated(cityscapes, evaluated):
    found = evaluated(opened("cityscapes", cityscapes, image_size=(17, 34)).test_iter)
    label = np.tile([TRAIN_IDS.get(i, 0) for i in range(34)], (17, 1))
    weights = np.tile([float(i in TRAIN_IDS) for i in range(34)], (17, 1))
    label[16, 33] = weights[16, 33] = 0
    np.testing.assert_array_equal(found["label"], [label] * 3)
    np.testing.assert_array_equal(found["label_weights"], [weights] * 3)


def test_evaluation_images_are_padded_without_weight(cityscapes, evaluated):
    tall = evaluated(opened("cityscapes", cityscapes, image_size=(40, 34)).test_iter)
    assert tall["label_weights"][:, :17, 7].all()
    assert not tall["label_weights"][:, 17:].any()
    assert not tall["label"][:, 17:].any()
    np.testing.assert_array_equal(tall["inputs"][:, 17:], -1)
    wide = evaluated(opened("cityscapes", cityscapes, image_size=(17, 50)).test_iter)
    assert wide["label_weights"][:, :16, 33].all()
    assert not wide["label_weights"][:, :, 34:].any()
    np.testing.assert_array_equal(wide["inputs"][:, :, 34:], -1)


def test_training_moves_labels_with_pixels(cityscapes, take):
    """The grey of an image is 7 times the label id; between columns it is blended."""
    dataset = opened("cityscapes", cityscapes, image_size=(32, 64), batch_size=4)
    found = take(dataset.train_iter, 10)
    ids = ((found["inputs"][..., 0] + 1) * 127.5 / 7).round().astype(int)
    train_id = np.full(256, 0)
    train_id[list(TRAIN_IDS)] = list(TRAIN_IDS.values())
    counted = found["label_weights"] > 0
    agree = train_id[ids][counted] == found["label"][counted]
    assert agree.mean() > 0.8
    assert 0.1 < counted.mean() < 0.9
    assert not found["label"][~counted].any()
    assert len({shown.tobytes() for shown in ids}) > 30


def test_what_is_not_prepared_is_named(tmp_path):
    for name, command in {
        "cityscapes": "data prepare cityscapes/semantic_segmentation ",
        "coco/2017_panoptic": "data prepare coco/2017_panoptic ",
    }.items():
        with pytest.raises(FileNotFoundError, match=command):
            opened(name, tmp_path)


def save(path, pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


@pytest.fixture
def ade20k(tmp_path):
    """ADEChallengeData2016 with images of 12 x 152 pixels, whose columns have the ids 0 to 151."""
    rows = ["Idx\tRatio\tTrain\tVal\tStuff\tName", "1\t0.1576\t11664\t1172\t1\twall"]
    rows += ["2\t0.1072\t6046\t612\t1\tbuilding, edifice"]
    rows += [f"{i}\t0.01\t9\t9\t0\tthing {i}, other word" for i in range(3, 151)]
    (tmp_path / "objectInfo150.txt").write_text("\n".join(rows) + "\n")
    ids = np.tile(np.arange(151), (12, 1))
    for part, count in {"training": 3, "validation": 2}.items():
        for i in range(count):
            save(tmp_path / "images" / part / f"ADE_{i}.jpg", np.full((12, 151, 3), 60))
            save(tmp_path / "annotations" / part / f"ADE_{i}.png", ids)
    return tmp_path


def test_ade20k_counts_classes_from_one(ade20k, evaluated, take):
    dataset = opened("ade20k", ade20k, image_size=(12, 151))
    info = dataset.meta_data
    assert info.num_classes == len(info.label_names) == 150
    assert info.label_names[:3] == ("wall", "building", "thing 3")
    assert dict(info.num_examples) == {"train": 3, "test": 2}
    found = evaluated(dataset.test_iter)
    np.testing.assert_array_equal(found["label"][..., 1:], np.tile(np.arange(150), (2, 12, 1)))
    np.testing.assert_array_equal(found["label_weights"][..., 1:], 1)
    assert not found["label_weights"][..., 0].any()
    train = take(dataset.train_iter, 2)
    assert train["inputs"].shape == (4, 12, 151, 3)
    assert train["label"].max() <= 149


def test_a_wrong_folder_of_ade20k_is_named(ade20k):
    assert opened("ade20k", ade20k).meta_data.input_shape == (512, 512, 3)
    names = ade20k / "objectInfo150.txt"
    names.write_text("\n".join(names.read_text().splitlines()[:100]))
    with pytest.raises(ValueError, match="names 99 classes, and the benchmark has 150"):
        opened("ade20k", ade20k)
    names.unlink()
    with pytest.raises(FileNotFoundError, match=r"objectInfo150\.txt, which names the classes"):
        opened("ade20k", ade20k)


# 8 x 12 pixels: the left third is class 0, the middle 1, the right has none.
MAP = np.repeat([[0, 1, 255]], 4, axis=1).repeat(8, axis=0)
COUNTS = (MAP < 255).astype(np.float32)
LABEL = np.where(MAP < 255, MAP, 0)


def folder_of_maps(root, write, *, splits=("train", "val"), suffixes=("", "")):
    """Two images and maps in every split; ``write`` saves a map."""
    for split in splits:
        for name in ("a", "b/c"):
            save(root / "images" / split / f"{name}{suffixes[0]}.jpg", np.full((8, 12, 3), 90))
            path = root / "masks" / split / f"{name}{suffixes[1]}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path)


def write_grey(path):
    Image.fromarray(MAP.astype(np.uint8)).save(path)


def write_wide(path):
    Image.fromarray(MAP.astype(np.uint16)).save(path)


def write_palette(path):
    picture = Image.fromarray(MAP.astype(np.uint8))
    picture.putpalette([(37 * i) % 256 for i in range(768)])
    assert picture.mode == "P"
    picture.save(path)


def mask_folder(folder, **options):
    small = {"class_names": ("sky", "tree"), "image_size": (8, 12)}
    return opened("mask_folder", folder, **(small | options))


@pytest.mark.parametrize("write", [write_grey, write_wide, write_palette])
def test_maps_are_grey_or_have_a_palette(tmp_path, write, evaluated, take):
    folder_of_maps(tmp_path, write)
    dataset = mask_folder(tmp_path)
    info = dataset.meta_data
    assert info.label_names == ("sky", "tree")
    assert info.input_shape == (8, 12, 3)
    assert dict(info.num_examples) == {"train": 2, "validation": 2}
    found = evaluated(dataset.valid_iter)
    np.testing.assert_array_equal(found["label"], [LABEL] * 2)
    np.testing.assert_array_equal(found["label_weights"], [COUNTS] * 2)
    np.testing.assert_allclose(found["inputs"], 90 / 127.5 - 1, atol=0.01)
    assert take(dataset.train_iter, 1)["label"].shape == (2, 8, 12)


def test_maps_are_colours(tmp_path, evaluated):
    colours = np.array([(10, 20, 30), (200, 0, 0), (0, 0, 0)], np.uint8)
    picture = colours[np.where(MAP < 255, MAP, 2)]
    folder_of_maps(tmp_path, lambda path: Image.fromarray(picture).save(path))
    # The last colour is that of what has no class.
    dataset = mask_folder(tmp_path, colors=colours.tolist(), ignore=2)
    found = evaluated(dataset.valid_iter)
    np.testing.assert_array_equal(found["label"], [LABEL] * 2)
    np.testing.assert_array_equal(found["label_weights"], [COUNTS] * 2)
    with pytest.raises(UnreadableError, match="colours that colors does not have"):
        list(mask_folder(tmp_path, colors=colours[:2].tolist()).valid_iter)
    with pytest.raises(UnreadableError, match="Give colors="):
        list(mask_folder(tmp_path).valid_iter)


def test_another_id_is_ignored_if_asked_for(tmp_path, evaluated):
    folder_of_maps(tmp_path, write_grey)
    found = evaluated(
        mask_folder(tmp_path, class_names=[f"{i}" for i in range(256)], ignore=1).valid_iter
    )
    np.testing.assert_array_equal(found["label_weights"][0], (MAP == 0).astype(np.float32))
    np.testing.assert_array_equal(found["label"], 0)


def test_names_have_suffixes(tmp_path, evaluated):
    folder_of_maps(tmp_path, write_grey, suffixes=("_left", "_labels"))
    with pytest.raises(ValueError, match="have no map"):
        mask_folder(tmp_path)
    found = evaluated(mask_folder(tmp_path, suffixes=("_left", "_labels")).valid_iter)
    np.testing.assert_array_equal(found["label"], [LABEL] * 2)


def test_other_folders_are_given_as_splits(tmp_path):
    folder_of_maps(tmp_path, write_grey, splits=("x", "y"))
    splits = {"train": ("images/x", "masks/x"), "test": ("images/y", "masks/y")}
    dataset = mask_folder(tmp_path, splits=splits)
    assert dict(dataset.meta_data.num_examples) == {"train": 2, "test": 2}
    with pytest.raises(FileNotFoundError, match="images/train"):
        mask_folder(tmp_path)


@pytest.mark.parametrize("unreadable", ["raise", "skip"])
def test_a_map_of_another_size_or_class(tmp_path, unreadable):
    folder_of_maps(tmp_path, write_grey)
    save(tmp_path / "masks" / "val" / "a.png", MAP[:5])
    save(tmp_path / "masks" / "train" / "a.png", np.full((8, 12), 2))
    dataset = mask_folder(tmp_path, unreadable=unreadable)
    if unreadable == "raise":
        with pytest.raises(UnreadableError, match=r"a\.jpg is of 8 x 12 pixels"):
            list(dataset.valid_iter)
        with pytest.raises(UnreadableError, match=r"a\.png has pixels of the value 2"):
            next(dataset.train_iter)
        return
    (batch,) = dataset.valid_iter
    assert batch["batch_mask"].tolist() == [0, 1]
    assert not batch["label_weights"][0].any()
    np.testing.assert_array_equal(batch["label"][1], LABEL)
    assert "a.jpg is of 8 x 12 pixels" in str(dataset.report)


def test_what_is_odd_about_a_folder_is_said(tmp_path):
    folder_of_maps(tmp_path, write_grey)
    (tmp_path / "images" / "train" / "notes.txt").write_text("x")
    with pytest.warns(DataWarning, match=r"not an image, left out: 1 \(notes\.txt\)"):
        mask_folder(tmp_path)
    with pytest.raises(ValueError, match="mask_folder reads a folder of your own"):
        data.get_dataset("mask_folder", batch_size=2, class_names=("sky",))


@pytest.mark.parametrize("size", [(0, 8), (8, -1)])
def test_sizes_are_positive(cityscapes, size):
    with pytest.raises(ValueError, match="height and width in pixels, got"):
        opened("cityscapes", cityscapes, image_size=size)


# Segments of 8 x 12 pixels: their ids, red + 256 green + 65536 blue, and their colours.
SEGMENTS = {70_001: (113, 17, 1), 300: (44, 1, 0), 5: (5, 0, 0)}
SEGMENT_MAP = np.zeros((8, 12), int)
SEGMENT_MAP[:, :4], SEGMENT_MAP[:4, 4:8], SEGMENT_MAP[4:, 4:8] = 70_001, 300, 5


def segment_picture() -> np.ndarray:
    picture = np.zeros((8, 12, 3), np.uint8)
    for segment, colour in SEGMENTS.items():
        picture[np.equal(SEGMENT_MAP, segment)] = colour
    return picture


def panoptic_folder(root, parts):
    """Image ``i``; its segments are of the categories 90, 2 and 90."""
    categories = [{"id": 90, "name": "cat", "isthing": 1}, {"id": 2, "name": "sky", "isthing": 0}]
    infos = [
        {"id": number, "category_id": category, "iscrowd": 0}
        for number, category in zip(SEGMENTS, (90, 2, 90), strict=True)
    ]
    for part, count in parts.items():
        images, annotations = [], []
        for i in range(count):
            save(root / part / f"{i}.jpg", np.full((8, 12, 3), 50))
            save(root / f"panoptic_{part}" / f"{i}.png", segment_picture())
            images.append({"id": i, "file_name": f"{i}.jpg", "height": 8, "width": 12})
            annotations.append({"image_id": i, "file_name": f"{i}.png", "segments_info": infos})
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"panoptic_{part}.json").write_text(json.dumps(content))


def assert_panoptic(label, classes):
    """Segments are numbered from 1 in the order in which they were listed."""
    wanted = np.zeros((8, 12), int)
    for number, segment in enumerate(SEGMENTS, start=1):
        wanted[np.equal(SEGMENT_MAP, segment)] = number
    np.testing.assert_array_equal(label["segments"], [wanted] * len(label["segments"]))
    assert label["segments"].dtype == label["classes"].dtype == np.int32
    rows = [*classes] + [-1] * (label["classes"].shape[1] - len(classes))
    assert label["classes"].tolist() == [rows] * len(label["classes"])


def test_cocos_panoptic_layout_is_read(tmp_path, evaluated, take):
    panoptic_folder(tmp_path, {"train2017": 3, "val2017": 2})
    dataset = opened("coco_panoptic", tmp_path, image_size=(8, 12), max_segments=4)
    info = dataset.meta_data
    assert info.label_names == ("sky", "cat")  # In the order of COCO's ids.
    assert dict(info.num_examples) == {"train": 3, "test": 2}
    found = evaluated(dataset.test_iter)
    assert_panoptic(found["label"], [1, 0, 1])
    assert found["inputs"].shape == (2, 8, 12, 3)
    label = take(dataset.train_iter, 8)["label"]
    for segments, classes in zip(label["segments"], label["classes"], strict=True):
        shown = np.unique(segments[segments > 0])
        np.testing.assert_array_equal(shown, np.arange(1, len(shown) + 1))
        assert (classes[: len(shown)] >= 0).all()
        assert (classes[len(shown) :] == -1).all()


def test_panoptic_files_elsewhere_and_errors(tmp_path):
    with pytest.raises(ValueError, match="coco_panoptic reads a folder of your own"):
        data.get_dataset("coco_panoptic", batch_size=2)
    panoptic_folder(tmp_path, {"mine": 2})
    with pytest.raises(FileNotFoundError, match=r"panoptic_train2017\.json"):
        opened("coco_panoptic", tmp_path)
    splits = {"train": ("mine", "panoptic_mine", "annotations/panoptic_mine.json")}
    dataset = opened("coco_panoptic", tmp_path, splits=splits, image_size=(8, 12))
    assert dict(dataset.meta_data.num_examples) == {"train": 2}
    crowded = opened(
        "coco_panoptic",
        tmp_path,
        splits=splits | {"test": splits["train"]},
        image_size=(8, 12),
        max_segments=2,
    )
    with pytest.raises(ValueError, match="3 segments need max_segments=3 at least"):
        list(crowded.test_iter)


@pytest.fixture(scope="module")
def coco_2017(tmp_path_factory, write_copy, png):
    folder = tmp_path_factory.mktemp("panoptic")
    box = tfds.features.BBox(0.0, 0.0, 1.0, 1.0)
    objects = [
        {"id": number, "label": label, "area": 1, "bbox": box, "is_crowd": False}
        for number, label in zip(SEGMENTS, (7, 132, 7), strict=True)
    ]
    row = {
        "image": png(np.full((8, 12, 3), 50, np.uint8)),
        "panoptic_image": png(segment_picture()),
        "panoptic_objects": objects,
    }
    names = {"panoptic_objects.label": [f"class {i}" for i in range(133)]}
    rows = {"train": [row] * 100, "validation": [row] * 3}
    write_copy("coco/2017_panoptic", folder, rows, class_names=names)
    return folder


def test_cocos_panoptic_segments_are_read_from_tfds(coco_2017, evaluated, take):
    dataset = opened("coco/2017_panoptic", coco_2017, image_size=(8, 12), max_segments=5)
    info = dataset.meta_data
    assert info.name == "coco/2017_panoptic"
    assert info.num_classes == len(info.label_names) == 133
    assert info.label_names[7] == "class 7"
    assert dict(info.num_examples) == {"train": 99, "validation": 1, "test": 3}
    assert_panoptic(evaluated(dataset.test_iter)["label"], [7, 132, 7])
    train = take(dataset.train_iter, 2)
    assert train["inputs"].shape == (4, 8, 12, 3)
    assert set(train["label"]["classes"].flat) <= {7, 132, -1}
    default = opened("coco/2017_panoptic", coco_2017).meta_data
    assert default.input_shape == (640, 640, 3)
