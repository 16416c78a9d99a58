"""Tiny copies of COCO, LVIS and VOC, and files of one's own in COCO's and VOC's formats.

Images are 40 x 20 pixels (width x height). In evaluation at 20 pixels they are half as large and
the lower half is padding, so that what is (x, y) there becomes (x / 40, y / 40) in the label.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from scenax import data
from scenax.data.datasets._folders import DataWarning
from scenax.data.reports import UnreadableError

WIDTH, HEIGHT = 40, 20
# Top, left, bottom and right as shares of an image, as TFDS writes them; and in the label.
YXYX = [(0.1, 0.25, 0.5, 0.75), (0.0, 0.0, 1.0, 0.5)]
IN_LABEL = [(0.25, 0.05, 0.75, 0.25), (0.0, 0.0, 0.5, 0.5)]
VOC = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
)


def picture(number: int = 0) -> np.ndarray:
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8) + 30
    pixels[:, WIDTH // 2 :] = (2 * number, 200, 90)
    return pixels


def opened(name, folder, **options):
    small = {"batch_size": 2, "eval_batch_size": 2, "image_size": 20, "max_objects": 3}
    return data.get_dataset(name, data_dir=str(folder), **({"num_threads": 2} | small | options))


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        if isinstance(expected[name], dict):
            assert_equal(found[name], expected[name])
        else:
            np.testing.assert_array_equal(found[name], expected[name])


def row(name: str, number: int, png) -> dict:
    """Image ``number``: 0, 1 or 2 objects, of the classes ``number`` and ``number + 1``."""
    few = number % 3
    each = [
        {"bbox": tfds.features.BBox(*box), "label": number % 19 + i}
        for i, box in enumerate(YXYX[:few])
    ]
    if name.startswith("voc"):
        more = [{"pose": 0, "is_truncated": False, "is_difficult": i == 1} for i in range(few)]
    else:
        more = [{"area": 7 + i, "id": 10 * number + i} for i in range(few)]
    if name == "coco/2017":
        more = [extra | {"is_crowd": i == 1} for i, extra in enumerate(more)]
    if name == "lvis":
        mask = png(np.full((HEIGHT, WIDTH), 255, np.uint8))
        more = [extra | {"segmentation": mask} for extra in more]
    named = {} if name == "lvis" else {"image/filename": f"{number}.jpg"}
    numbered = {} if name.startswith("voc") else {"image/id": 1000 + number}
    objects = [a | b for a, b in zip(each, more, strict=True)]
    return {"image": png(picture(number)), "objects": objects} | named | numbered


PARTS = {
    # What TFDS prepares, and what is read.
    "coco/2017": ({"train": 100, "validation": 6}, {"train": 99, "validation": 1, "test": 6}),
    "lvis": ({"train": 100, "validation": 6}, {"train": 99, "validation": 1, "test": 6}),
    "voc/2007": ({"train": 4, "validation": 5, "test": 6},) * 2,
    "voc/2012": ({"train": 4, "validation": 6},) * 2,
}
CLASSES = {"coco/2017": 80, "lvis": 1203, "voc/2007": 20, "voc/2012": 20}


def write(name, folder, write_copy, png, **options):
    splits = {s: [row(name, i, png) for i in range(n)] for s, n in PARTS[name][0].items()}
    if name == "coco/2017":
        options["class_names"] = {"objects.label": [f"thing {i}" for i in range(80)]}
    write_copy(name, folder, splits, **options)


@pytest.fixture(scope="module")
def copies(tmp_path_factory, write_copy, png):
    folder = tmp_path_factory.mktemp("copies")
    for name in PARTS:
        write(name, folder, write_copy, png)
    return folder


@pytest.mark.parametrize("name", PARTS)
def test_a_benchmark_is_as_it_was_published(copies, name):
    dataset = data.get_dataset(name, batch_size=2, data_dir=str(copies), num_threads=2)
    info = dataset.meta_data
    assert info.name == name
    assert info.input_shape == (640, 640, 3)
    assert dict(info.num_examples) == PARTS[name][1]
    assert info.num_classes == len(info.label_names) == CLASSES[name]
    names = {"coco/2017": ("thing 0", "thing 1"), "lvis": ("aerosol_can",)}
    wanted = names.get(name, tuple(VOC.split()))
    assert info.label_names[: len(wanted)] == wanted

    batch = next(dataset.train_iter)
    assert batch["inputs"].shape == (2, 640, 640, 3)
    assert batch["inputs"].dtype == np.float32
    label = batch["label"]
    assert {key: (value.shape, str(value.dtype)) for key, value in label.items()} == {
        "boxes": ((2, 100, 4), "float32"),
        "classes": ((2, 100), "int32"),
        "mask": ((2, 100), "float32"),
        "is_crowd": ((2, 100), "bool"),
    }
    assert label["boxes"].min() >= 0
    assert label["boxes"].max() <= 1


@pytest.mark.parametrize("name", PARTS)
def test_boxes_in_evaluation_are_where_they_were_written(copies, name, evaluated):
    dataset = opened(name, copies)
    batches = dataset.valid_iter if name == "voc/2012" else dataset.test_iter
    found = evaluated(batches)
    count = len(found["inputs"])
    assert count == 6
    if name.startswith("voc"):
        numbers = ((found["inputs"][:, 5, 15, 0] + 1) * 127.5 / 2).round().astype(int)
    else:
        numbers = found["image_id"] - 1000
    assert sorted(numbers) == list(range(6))
    label = found["label"]
    for place, number in enumerate(numbers):
        few = number % 3
        boxes = np.zeros((3, 4))
        boxes[:few] = np.array(IN_LABEL)[:few]
        np.testing.assert_allclose(label["boxes"][place], boxes, atol=1e-6)
        assert label["classes"][place].tolist() == [number, number + 1][:few] + [0] * (3 - few)
        crowd = [i == 1 and few == 2 and name == "coco/2017" for i in range(3)]
        assert label["is_crowd"][place].tolist() == crowd
        real = [1.0 if i < few and not crowd[i] else 0.0 for i in range(3)]
        assert label["mask"][place].tolist() == real
        assert found["original_size"][place].tolist() == [HEIGHT, WIDTH]
        # The upper half is the image at half its size, the lower is black.
        pixels = ((found["inputs"][place] + 1) * 127.5).round()
        wanted = np.zeros((20, 20, 3))
        wanted[:10] = np.asarray(Image.fromarray(picture(int(number))).resize((20, 10), 2))
        np.testing.assert_array_equal(pixels, wanted)


def test_every_image_of_coco_is_in_one_split(copies, evaluated, take):
    dataset = opened("coco/2017", copies, batch_size=3)
    train = take(dataset.train_iter, 33)["image_id"]
    validation = evaluated(dataset.valid_iter)["image_id"]
    together = np.concatenate([train, validation])
    np.testing.assert_array_equal(np.sort(together), np.arange(1000, 1100))


def test_a_label_leads_back_to_pixels_of_the_original(copies, evaluated):
    """By the formula of the module's first lines."""
    found = evaluated(opened("coco/2017", copies).test_iter)
    (place,) = np.flatnonzero(found["image_id"] == 1001)
    scale = min(20 / found["original_size"][place])
    box = found["label"]["boxes"][place, 0] * 20 / scale
    np.testing.assert_allclose(box, [0.25 * 40, 0.1 * 20, 0.75 * 40, 0.5 * 20], atol=1e-5)


def test_training_shows_boxes_about_what_they_mark(copies, take):
    """The second box of an image is its left half, which is dark."""
    found = take(opened("coco/2017", copies, image_size=40, batch_size=4).train_iter, 10)
    checked = 0
    for inputs, boxes, crowd in zip(
        found["inputs"], found["label"]["boxes"], found["label"]["is_crowd"], strict=True
    ):
        if not crowd[1]:
            continue
        left, top, right, bottom = (boxes[1] * 40).round(3)
        if right - left < 4 or bottom - top < 4:
            continue
        inner = inputs[int(top) + 1 : int(bottom) - 1, int(left) + 2 : int(right) - 2]
        np.testing.assert_allclose((inner + 1) * 127.5, 30, atol=1e-3)
        checked += 1
    assert checked > 3


def test_two_hosts_together_read_what_one_reads(copies, take):
    alone = take(opened("coco/2017", copies).train_iter, 3)
    hosts = [
        take(opened("coco/2017", copies, process_index=h, process_count=2).train_iter, 3)
        for h in range(2)
    ]
    for key in ("inputs", "image_id"):
        together = np.stack([part[key] for part in hosts], axis=1).reshape(alone[key].shape)
        np.testing.assert_array_equal(together, alone[key])


@pytest.mark.parametrize("name", ["coco/2017", "voc/2007"])
def test_array_record_files_are_read_like_tfrecord_files(
    copies, name, write_copy, png, tmp_path, evaluated
):
    write(name, tmp_path, write_copy, png, file_format="array_record")
    assert list(tmp_path.rglob("*.array_record-*"))
    one, other = opened(name, copies), opened(name, tmp_path)
    assert one.meta_data == other.meta_data
    assert_equal(evaluated(other.test_iter), evaluated(one.test_iter))


def test_reading_does_not_import_tensorflow(copies):
    program = f"""
import sys
import scenax.data
for name in ("voc/2007", "coco/2017", "lvis"):
    dataset = scenax.data.get_dataset(name, batch_size=2, data_dir={str(copies)!r}, image_size=32)
    next(dataset.train_iter)
    next(iter(dataset.test_iter))
    if "tensorflow" in sys.modules:
        sys.exit(f"{{name}} imports TensorFlow")
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("name", PARTS)
def test_what_is_not_prepared_is_named(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"data prepare {name} --data_dir={tmp_path}"):
        opened(name, tmp_path)


@pytest.mark.parametrize("options", [{"image_size": 0}, {"max_objects": 0}])
def test_sizes_are_positive(copies, options):
    with pytest.raises(ValueError, match="image_size and max_objects must be at least 1"):
        opened("voc/2007", copies, **options)


CATEGORIES = [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}]


def coco(root, images: str, file: str, *, count: int, polygons: bool = True) -> None:
    """Image ``i`` has a dog in the box (4, 2, 12, 10), xyxy, and a cat in (20, 8, 40, 20)."""
    (root / images).mkdir(parents=True)
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    entries, annotations = [], []
    for i in range(count):
        Image.fromarray(picture(i)).save(root / images / f"{i}.png")
        entry = {"id": 70 + i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH}
        entries.append(entry)
        for j, (category, (x, y, w, h)) in enumerate([(9, (4, 2, 8, 8)), (4, (20, 8, 20, 12))]):
            one = {"id": 2 * i + j, "image_id": 70 + i, "category_id": category}
            one |= {"bbox": [x, y, w, h], "iscrowd": 0, "area": w * h}
            if polygons:
                one["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            annotations.append(one)
    content = {"images": entries, "annotations": annotations, "categories": CATEGORIES}
    (root / file).write_text(json.dumps(content))


COCO_BOXES = np.array([(4, 2, 12, 10), (20, 8, 40, 20), (0, 0, 0, 0)]) / 40


@pytest.fixture(scope="module")
def own_coco(tmp_path_factory):
    root = tmp_path_factory.mktemp("coco")
    coco(root, "train2017", "annotations/instances_train2017.json", count=6)
    coco(root, "val2017", "annotations/instances_val2017.json", count=3)
    return root


def test_cocos_own_layout_is_read(own_coco, evaluated):
    dataset = opened("coco_json", own_coco)
    info = dataset.meta_data
    assert info.label_names == ("cat", "dog")  # In the order of COCO's ids.
    assert dict(info.num_examples) == {"train": 6, "test": 3}
    found = evaluated(dataset.test_iter)
    assert found["image_id"].tolist() == [70, 71, 72]
    assert found["original_size"].tolist() == [[HEIGHT, WIDTH]] * 3
    np.testing.assert_allclose(found["label"]["boxes"], [COCO_BOXES] * 3, atol=1e-6)
    assert found["label"]["classes"].tolist() == [[1, 0, 0]] * 3
    assert found["label"]["mask"].tolist() == [[1, 1, 0]] * 3
    assert "masks" not in found["label"]
    assert "masks" not in next(dataset.train_iter)["label"]
    with pytest.raises(ValueError, match="has no validation split, only train, test"):
        dataset.valid_iter  # noqa: B018


def test_the_largest_objects_stay(own_coco, evaluated):
    found = evaluated(opened("coco_json", own_coco, max_objects=1).test_iter)["label"]
    np.testing.assert_allclose(found["boxes"], [COCO_BOXES[1:2]] * 3, atol=1e-6)
    assert found["classes"].tolist() == [[0]] * 3


def test_masks_are_those_of_the_polygons(own_coco, evaluated, take):
    dataset = opened("coco_json", own_coco, with_masks=True, image_size=40)
    masks = evaluated(dataset.test_iter)["label"]["masks"]
    assert masks.dtype == bool
    wanted = np.zeros((3, 40, 40), bool)
    wanted[0, 2:10, 4:12] = True
    wanted[1, 8:20, 20:40] = True
    np.testing.assert_array_equal(masks, [wanted] * 3)

    found = take(dataset.train_iter, 3)["label"]
    for boxes, masks in zip(found["boxes"], found["masks"], strict=True):
        for box, mask in zip((boxes * 40), masks, strict=True):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            if len(rows):
                edges = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
                np.testing.assert_allclose(box, edges, atol=1.01)


def test_copy_paste_shows_objects_of_two_images(own_coco, take):
    options = {"image_size": 40, "max_objects": 9, "copy_paste": True, "batch_size": 4}
    plain = take(opened("coco_json", own_coco, **options | {"copy_paste": False}).train_iter, 6)
    found = take(opened("coco_json", own_coco, **options).train_iter, 6)
    np.testing.assert_array_equal(found["image_id"], plain["image_id"])
    counts, before = (each["label"]["mask"].sum(axis=1) for each in (found, plain))
    assert before.max() <= 2
    assert counts.max() > 2
    changed = np.abs(found["inputs"] - plain["inputs"]).max(axis=(1, 2, 3)) > 0
    assert 3 < changed.sum() < 24
    for masks in found["label"]["masks"]:
        assert masks.sum(axis=0).max() <= 1  # What is pasted hides what was there.


def test_copy_paste_needs_pairs_and_masks(own_coco, tmp_path):
    with pytest.raises(ValueError, match="batch_size must be a multiple of 2, got 3"):
        opened("coco_json", own_coco, copy_paste=True, batch_size=3).train_iter  # noqa: B018
    with pytest.raises(ValueError, match="batch_size must be a multiple of 4, got 2"):
        opened("coco_json", own_coco, copy_paste=True, process_count=2).train_iter  # noqa: B018
    coco(tmp_path, "images", "a.json", count=2, polygons=False)
    splits = {"train": ("images", "a.json")}
    without = opened("coco_json", tmp_path, copy_paste=True, splits=splits)
    with pytest.raises(UnreadableError, match='has no "segmentation"'):
        next(without.train_iter)


def test_other_places_are_given_as_splits(tmp_path, evaluated):
    for split, count in {"a": 3, "b": 2, "c": 1}.items():
        coco(tmp_path, f"{split}/pictures", f"{split}.json", count=count)
    places = {"train": "a", "validation": "b", "test": "c"}
    splits = {split: (f"{name}/pictures", f"{name}.json") for split, name in places.items()}
    dataset = opened("coco_json", tmp_path, splits=splits)
    assert dict(dataset.meta_data.num_examples) == {"train": 3, "validation": 2, "test": 1}
    assert evaluated(dataset.valid_iter)["image_id"].tolist() == [70, 71]


def test_files_of_cocos_that_lack_or_contradict_are_named(tmp_path):
    with pytest.raises(ValueError, match="coco_json reads a folder of your own"):
        data.get_dataset("coco_json", batch_size=2)
    coco(tmp_path, "train2017", "annotations/instances_train2017.json", count=2)
    with pytest.raises(FileNotFoundError, match=r"instances_val2017\.json"):
        opened("coco_json", tmp_path)
    splits = {"train": ("train2017", "annotations/instances_train2017.json")}
    path = tmp_path / splits["train"][1]
    content = json.loads(path.read_text())
    content["annotations"][1]["category_id"] = 5
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="5"):
        opened("coco_json", tmp_path, splits=splits)


def test_boxes_that_were_repaired_are_said(tmp_path, evaluated):
    coco(tmp_path, "images", "a.json", count=1)
    content = json.loads((tmp_path / "a.json").read_text())
    content["annotations"][0]["bbox"] = [-4, 2, 16, 8]
    content["annotations"][1]["bbox"] = [20, 8, 0, 12]
    (tmp_path / "a.json").write_text(json.dumps(content))
    splits = {"train": ("images", "a.json"), "test": ("images", "a.json")}
    with pytest.warns(DataWarning) as caught:
        dataset = opened("coco_json", tmp_path, splits=splits)
    said = str(caught[0].message)
    assert "box outside the image, clipped: 1 (0.png, annotation 0)" in said
    assert "box without area in the image, dropped: 1 (0.png, annotation 1)" in said
    label = evaluated(dataset.test_iter)["label"]
    np.testing.assert_allclose(label["boxes"][0, 0], [0, 2 / 40, 12 / 40, 10 / 40], atol=1e-6)
    assert label["mask"].tolist() == [[1, 0, 0]]


def voc(root, *, count: int, names=("dog", "person")) -> None:
    """Images whose pixels (5 to 12, 3 to 10), counted from 1, are the first of the names."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
    for i in range(count):
        Image.fromarray(picture(i)).save(root / "JPEGImages" / f"{i}.jpg")
        objects = "".join(
            f"<object><name>{name}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin>"
            f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
            for name, (left, top, right, bottom) in zip(
                names, [(5, 3, 12, 10), (21, 9, 40, 20)], strict=True
            )
        )
        xml = f"<annotation>{size}{objects}</annotation>"
        (root / "Annotations" / f"{i}.xml").write_text(xml)


def test_vocs_layout_is_read(tmp_path, evaluated):
    voc(tmp_path, count=5)
    lists = tmp_path / "ImageSets" / "Main"
    (lists / "train.txt").write_text("0\n1\n2\n")
    (lists / "val.txt").write_text("3\n4\n")
    dataset = opened("voc_xml", tmp_path)
    assert dict(dataset.meta_data.num_examples) == {"train": 3, "validation": 2}
    assert dataset.meta_data.label_names == tuple(VOC.split())
    found = evaluated(dataset.valid_iter)
    np.testing.assert_allclose(found["label"]["boxes"], [COCO_BOXES] * 2, atol=1e-6)
    assert found["label"]["classes"].tolist() == [[11, 14, 0]] * 2
    assert found["original_size"].tolist() == [[HEIGHT, WIDTH]] * 2
    assert next(dataset.train_iter)["inputs"].shape == (2, 20, 20, 3)

    (lists / "own.txt").write_text("4\n")
    own = opened("voc_xml", tmp_path, splits={"train": "train", "test": "own"})
    assert dict(own.meta_data.num_examples) == {"train": 3, "test": 1}
    with pytest.raises(FileNotFoundError, match=r"has no trainval\.txt"):
        opened("voc_xml", tmp_path, splits={"train": "trainval"})


def test_a_wrong_folder_of_vocs_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="VOC's layout"):
        opened("voc_xml", tmp_path / "nowhere")
    voc(tmp_path, count=2)
    for name in ("train", "val"):
        (tmp_path / "ImageSets" / "Main" / f"{name}.txt").write_text("0\n")
    (tmp_path / "Annotations" / "0.xml").write_text("<annotation><object>")
    with pytest.raises(ValueError, match=r"0\.xml is not XML"):
        opened("voc_xml", tmp_path)


@pytest.mark.parametrize("unreadable", ["raise", "skip"])
def test_an_image_of_another_size_than_was_annotated(own_coco, tmp_path, unreadable):
    coco(tmp_path, "images", "a.json", count=3)
    Image.new("RGB", (9, 9)).save(tmp_path / "images" / "1.png")
    splits = {"train": ("images", "a.json"), "test": ("images", "a.json")}
    dataset = opened("coco_json", tmp_path, splits=splits, unreadable=unreadable)
    if unreadable == "raise":
        with pytest.raises(UnreadableError, match=r"1\.png is of 9 x 9 pixels"):
            list(dataset.test_iter)
        return
    first, second = dataset.test_iter
    assert first["batch_mask"].tolist() == [1, 0]
    assert second["batch_mask"].tolist() == [1, 0]
    assert not first["label"]["mask"][1].any()
    assert "1.png is of 9 x 9 pixels" in str(dataset.report)
