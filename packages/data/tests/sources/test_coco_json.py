import json

import numpy as np
import pytest
from PIL import Image

from scenax.data.reports import UnreadableError
from scenax.data.sources.coco_json import CocoJson, CocoPanoptic

CATEGORIES = [
    {"id": 7, "name": "dog"},
    {"id": 2, "name": "cat"},
    {"id": 90, "name": "emu"},
]


def entry(number, name, height=4, width=6):
    return {"id": number, "file_name": name, "height": height, "width": width}


def annotation(number, image_id=1, category_id=7, bbox=(1, 1, 2, 2), **rest):
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": list(bbox),
    } | rest


def draw(folder, name, height=4, width=6):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height)).save(folder / name)


@pytest.fixture
def opened(tmp_path):
    """Opens a file of these entries, after drawing the images that it names."""

    def open_it(images=None, annotations=(), categories=CATEGORIES, **options):
        images = [entry(1, "a.png")] if images is None else images
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        for each in images:
            name = each.get("file_name")
            if name and not name.startswith(("/", "..")) and not (folder / name).exists():
                draw(folder, name, each["height"] or 1, each["width"] or 1)
        content = {"images": images, "annotations": annotations, "categories": categories}
        (tmp_path / "a.json").write_text(json.dumps(content), "utf-8")
        return CocoJson(folder, tmp_path / "a.json", **options)

    return open_it


def test_an_example_has_the_objects_of_its_image(tmp_path, opened):
    source = opened(
        [entry(12, "b/2.png"), entry(10, "a.png"), entry(11, "b/1.png", 8, 8)],
        [
            annotation(5, 12, 90, (0.5, 1, 2, 3), area=5.5),
            annotation(4, 11, 2, (0, 0, 8, 8), iscrowd=1),
            annotation(3, 12, 2, (3, 1, 1, 2), area=2, iscrowd=0),
        ],
    )
    assert source.category_ids == (2, 7, 90)
    assert source.label_names == ("cat", "dog", "emu")
    assert [source[i]["name"] for i in range(len(source))] == ["a.png", "b/1.png", "b/2.png"]
    found = source[2]
    assert found["image"] == (tmp_path / "images" / "b" / "2.png").read_bytes()
    np.testing.assert_array_equal(found["boxes"], np.float32([[0.5, 1, 2.5, 4], [3, 1, 4, 3]]))
    assert found["classes"].tolist() == [2, 0]
    assert found["area"].tolist() == [5.5, 2]
    assert found["is_crowd"].tolist() == [False, False]
    assert found["image_id"] == 12
    assert source[1]["is_crowd"].tolist() == [True]
    assert source[1]["area"].tolist() == [64]  # Of the box, where none is annotated.
    assert {key: value.dtype for key, value in found.items() if key not in ("image", "name")} == {
        "boxes": np.float32,
        "classes": np.int32,
        "is_crowd": np.bool_,
        "area": np.float32,
        "image_id": np.int64,
    }
    assert not source.report


def test_an_image_without_objects_has_none(opened):
    found = opened(with_masks=True)[0]
    assert found["boxes"].shape == (0, 4)
    assert found["masks"].shape == (0, 4, 6)
    assert [found[key].shape for key in ("classes", "is_crowd", "area")] == [(0,)] * 3


def test_boxes_are_repaired_and_counted(opened):
    source = opened(
        annotations=[
            annotation(1, bbox=(4, 2, 9, 9)),
            annotation(2, bbox=(1, 1, -1, 2)),
            annotation(3, bbox=(1, 1, float("nan"), 2)),
            annotation(4, bbox=(1, 1, 1, 1), category_id=2),
        ]
    )
    np.testing.assert_array_equal(source[0]["boxes"], np.float32([[4, 2, 6, 4], [1, 1, 2, 2]]))
    assert source[0]["classes"].tolist() == [1, 0]
    assert source.report.places == {
        "box outside the image, clipped": ["a.png, annotation 1"],
        "box that is no finite number, dropped": ["a.png, annotation 3"],
        "box without area in the image, dropped": ["a.png, annotation 2"],
    }


# Three forms of one mask: columns 1 and 2 of rows 1 to 3. Column by column, an image of 4 x 6
# pixels is 5 outside, 3 inside, 1 outside, 3 inside, 12 outside. COCO's code adds 48 to each of
# these but the fourth, the fifth being less the third, 11; the fourth less the second is 0.
MASK = np.zeros((4, 6), np.bool_)
MASK[1:4, 1:3] = True
FORMS = {
    "polygon": [[1, 1, 3, 1, 3, 4, 1, 4]],
    "lengths": {"size": [4, 6], "counts": [5, 3, 1, 3, 12]},
    "compressed": {"size": [4, 6], "counts": "5310;"},
}


@pytest.mark.parametrize("form", FORMS)
def test_masks_are_read_in_every_form(opened, form):
    source = opened(annotations=[annotation(1, segmentation=FORMS[form])], with_masks=True)
    np.testing.assert_array_equal(source[0]["masks"], MASK[None])
    assert source[0]["masks"].dtype == np.bool_


def test_masks_are_left_alone_unless_asked_for(opened):
    assert "masks" not in opened(annotations=[annotation(1, segmentation="nonsense")])[0]


def test_masks_stay_with_their_boxes_when_one_is_dropped(opened):
    lone = {"size": [4, 6], "counts": [0, 1, 23]}
    source = opened(
        [entry(1, "a.png"), entry(2, "b.png")],
        [
            annotation(1, 2, segmentation=FORMS["lengths"]),
            annotation(2, 1, bbox=(0, 0, 0, 0), segmentation=FORMS["lengths"]),
            annotation(3, 1, segmentation=lone),
        ],
        with_masks=True,
    )
    assert source[0]["masks"].sum() == 1
    np.testing.assert_array_equal(source[1]["masks"], MASK[None])


def test_polygons_of_two_corners_are_left_out_and_reported(tmp_path, opened):
    drawn = [*FORMS["polygon"], [0, 0, 5, 3]]
    source = opened(annotations=[annotation(1, segmentation=drawn)], with_masks=True)
    np.testing.assert_array_equal(source[0]["masks"], MASK[None])
    assert source.report.places == {
        "polygon of fewer than 3 corners, left out": [f"{tmp_path / 'a.json'}, annotation 1"]
    }


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        (None, "no .segmentation.. Open the file without with_masks"),
        ({"size": [4, 6], "counts": [5, 3]}, "add up to 8 pixels, but the mask has 24"),
        ({"size": [6, 4], "counts": [24]}, r"is of 6 x 4 pixels .*its image of 4 x 6"),
        ([[1, 1, 3, 1, 3, float("nan")]], "every coordinate must be a finite number"),
        ([5], "cannot be read"),
    ],
)
def test_a_mask_that_cannot_be_read_names_its_annotation(opened, drawn, message):
    source = opened(annotations=[annotation(31, segmentation=drawn)], with_masks=True)
    with pytest.raises(UnreadableError, match=rf"mask of .*a\.json, annotation 31.*{message}"):
        source[0]


def test_lvis_names_images_by_their_addresses(tmp_path):
    draw(tmp_path, "train2017/9.png")
    image = {"id": 9, "height": 4, "width": 6, "neg_category_ids": [2]}
    image["coco_url"] = "http://images.cocodataset.org/train2017/9.png"
    content = {"images": [image], "annotations": [annotation(1, 9)], "categories": CATEGORIES}
    (tmp_path / "lvis.json").write_text(json.dumps(content), "utf-8")
    assert CocoJson(tmp_path, tmp_path / "lvis.json")[0]["name"] == "train2017/9.png"


def test_names_may_be_in_another_spelling(tmp_path, opened):
    folder = tmp_path / "images"
    opened([entry(1, "\u00e9 🐈.png")])
    (folder / "\u00e9 🐈.png").rename(folder / "e\u0301 🐈.png")
    assert CocoJson(folder, tmp_path / "a.json")[0]["name"] == "\u00e9 🐈.png"


def test_other_and_empty_images_are_reported(tmp_path, opened):
    draw(tmp_path / "images", "more.png")
    (tmp_path / "images" / "b.png").write_bytes(b"")
    source = opened([entry(1, "a.png"), entry(2, "b.png"), entry(3, "a.png")])
    assert source.report.places == {
        "not in a.json, left out": ["more.png"],
        "empty file": ["b.png"],
        "file of several images": ["a.png"],
    }
    assert [source[0]["image_id"], source[1]["image_id"]] == [1, 3]
    with pytest.raises(UnreadableError, match=r"b\.png is empty"):
        source[2]


def test_an_image_of_another_size_is_named(tmp_path, opened):
    draw(tmp_path / "images", "a.png", 5, 7)
    with pytest.raises(UnreadableError, match=r"a\.png is of 5 x 7 .*a\.json of 4 x 6"):
        opened()[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"category_id": 3},
            r"annotation 8 has the category_id 3, .*the 3 ids there are: 2, 7, 90",
        ),
        ({"image_id": 44}, r"annotation 8 has the image_id 44, .*the 1 ids there are: 1\."),
        ({"image_id": None}, "annotation 8 has the image_id None"),
        ({"category_id": [2]}, r"annotation 8 has the category_id \[2\]"),
        ({"bbox": [1, 2, 3]}, r"annotation 8 has the bbox \[1, 2, 3\], .*\[x, y, width, height\]"),
        ({"bbox": None}, "annotation 8 has the bbox None"),
        ({"bbox": [1, 2, 3, "x"]}, r"annotation 8 has the bbox \[1, 2, 3, 'x'\]"),
    ],
)
def test_an_annotation_that_fits_nothing_is_named(opened, wrong, message):
    with pytest.raises(ValueError, match=rf"a\.json: {message}"):
        opened(annotations=[annotation(7), annotation(8) | wrong])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (entry(1, "b.png"), "more than one image with id 1"),
        (entry("2", "b.png"), "image 1, counted from 0, has the id '2', .*whole numbers"),
        (entry(2, "b.png", 0), "image 2 has height 0 and width 6"),
        (entry(2, "b.png", 4, None), "image 2 has height 4 and width None"),
        (entry(2, "../../etc/passwd"), r"image 2, names the file '../../etc/passwd', .*not below"),
        (entry(2, "/etc/passwd"), "image 2, names the file '/etc/passwd', .*not below"),
        (entry(2, None), "image 2, should name a file, got None"),
    ],
)
def test_an_image_that_is_wrong_is_named(opened, image, message):
    with pytest.raises(ValueError, match=message) as error:
        opened([entry(1, "a.png"), image])
    assert "a.json" in str(error.value)


def test_a_category_that_is_there_twice_is_named(opened):
    with pytest.raises(ValueError, match="more than one category with id 2"):
        opened(categories=[{"id": 2, "name": "a"}, {"id": 2, "name": "b"}])


def test_missing_images_are_counted_and_named(tmp_path, opened):
    opened([entry(1, "train/a.png")])
    content = json.loads((tmp_path / "a.json").read_text("utf-8"))
    content["images"] = [entry(i, f"{i}.png") for i in range(20)] + [entry(20, "train/a.png")]
    (tmp_path / "a.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(FileNotFoundError, match=r"names 21 files, of which 20 are not in") as error:
        CocoJson(tmp_path / "images", tmp_path / "a.json")
    assert "'0.png', '1.png', '10.png', '11.png', '12.png', ..." in str(error.value)
    assert "Found there: 1 x .png" in str(error.value)
    content["images"] = [entry(20, "a.png")]
    (tmp_path / "a.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(FileNotFoundError, match=r"It has 'train/a\.png': give the folder"):
        CocoJson(tmp_path / "images", tmp_path / "a.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b'{"images": [', "is not JSON"),
        (b"\xff\xd8\xff\xe0", "is not JSON"),
        (b"[" * 200_000, "is not JSON"),
        (b"[1]", "holds a list"),
        (b'{"images": [], "info": 1}', "no list of objects 'annotations'; it has 'images', 'info'"),
        (b'{"images": 3}', "no list of objects 'images'"),
        (b'{"images": [1]}', "no list of objects 'images'"),
        (b'{"images": [], "annotations": [], "categories": []}', "has no images"),
    ],
)
def test_a_file_of_another_kind_says_what_is_wanted(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.json.* {message}"):
        CocoJson(tmp_path, tmp_path / "a.json")


def test_a_missing_file_names_those_there(tmp_path):
    (tmp_path / "train.json").write_text("{}", "utf-8")
    with pytest.raises(FileNotFoundError, match=r"no file .*val\.json.*In .*'train\.json'"):
        CocoJson(tmp_path, tmp_path / "val.json")
    with pytest.raises(FileNotFoundError, match=r"'train\.json'"):
        CocoJson(tmp_path, tmp_path)


def test_a_mark_of_byte_order_is_no_harm(tmp_path, opened):
    opened()
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(CocoJson(tmp_path / "images", path)) == 1


@pytest.fixture
def panoptic(tmp_path):
    """Opens a panoptic file with one image and this drawing of its segments."""

    def open_it(pixels, infos, mode="RGB", images=("a.png",)):
        for name in images:
            draw(tmp_path / "images", name, 2, 3)
        (tmp_path / "maps").mkdir(exist_ok=True)
        drawing = Image.fromarray(np.array(pixels, np.uint8)).convert(mode)
        drawing.save(tmp_path / "maps" / "m.png")
        content = {
            "images": [entry(i + 1, name, 2, 3) for i, name in enumerate(images)],
            "annotations": [{"image_id": 1, "file_name": "m.png", "segments_info": infos}],
            "categories": [
                {"id": 5, "name": "sky", "isthing": 0},
                {"id": 3, "name": "cat", "isthing": 1},
            ],
        }
        (tmp_path / "p.json").write_text(json.dumps(content), "utf-8")
        return CocoPanoptic(tmp_path / "images", tmp_path / "maps", tmp_path / "p.json")

    return open_it


# Of three rows and two columns: nothing, segment 5, and 1 + 2 * 256 + 3 * 65536 = 197121.
PIXELS = [[[0, 0, 0], [5, 0, 0], [5, 0, 0]], [[1, 2, 3], [1, 2, 3], [0, 0, 0]]]
INFOS = [{"id": 197121, "category_id": 5}, {"id": 5, "category_id": 3, "iscrowd": 1}]


def test_segments_are_read_from_colours(panoptic):
    source = panoptic(PIXELS, INFOS)
    found = source[0]
    assert found["segments"].tolist() == [[0, 5, 5], [197121, 197121, 0]]
    assert found["segments"].dtype == np.int32
    assert found["segment_ids"].tolist() == [197121, 5]
    assert found["segment_classes"].tolist() == [1, 0]
    assert found["is_crowd"].tolist() == [False, True]
    assert (found["name"], found["image_id"], len(source)) == ("a.png", 1, 1)
    assert source.label_names == ("cat", "sky")
    assert source.category_ids == (3, 5)
    assert source.is_thing == (True, False)
    assert not source.report


def test_a_segment_without_pixels_is_reported(panoptic):
    source = panoptic(PIXELS, [*INFOS, {"id": 9, "category_id": 3}])
    assert source[0]["segment_ids"].tolist() == [197121, 5, 9]
    assert source.report.places == {"segment without pixels": ["m.png, segment 9"]}


def test_maps_that_do_not_fit_are_named(panoptic):
    with pytest.raises(UnreadableError, match=r"m\.png has pixels of the segments 5, which"):
        panoptic(PIXELS, INFOS[:1])[0]
    with pytest.raises(UnreadableError, match=r"a\.png is of 2 x 3 .*m\.png of 1 x 3"):
        panoptic(PIXELS[:1], INFOS)[0]
    with pytest.raises(UnreadableError, match=r"m\.png is of Pillow's mode L.*256 G"):
        panoptic(PIXELS, INFOS, "L")[0]


def test_a_panoptic_file_has_an_annotation_for_each_image(panoptic):
    with pytest.raises(ValueError, match="1 annotations for 1 of its 2 images"):
        panoptic(PIXELS, INFOS, images=("a.png", "b.png"))
    with pytest.raises(ValueError, match=r"annotation of image 1 needs a list segments_info"):
        panoptic(PIXELS, None)
    with pytest.raises(ValueError, match=r"segment 4 has the category_id 77, .*: 3, 5"):
        panoptic(PIXELS, [{"id": 4, "category_id": 77}])
