import numpy as np
import pytest
from PIL import Image

from scenax.data.reports import UnreadableError
from scenax.data.sources.mask_folder import MaskFolder

IDS = np.array([[0, 1, 2], [2, 255, 1]])


def save(path, pixels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path)


@pytest.fixture
def folders(tmp_path):
    """A folder with an image of 3 x 2 pixels, ``a/1.jpg``, and one with the map that is given."""

    def write(pixels, name="a/1.png"):
        save(tmp_path / "images" / "a" / "1.jpg", Image.new("RGB", (3, 2)))
        save(tmp_path / "masks" / name, pixels)
        return tmp_path / "images", tmp_path / "masks"

    return write


def test_an_example_is_the_image_and_its_map(folders):
    images, masks = folders(IDS.astype(np.uint8))
    source = MaskFolder(images, masks)
    found = source[0]
    assert found["image"] == (images / "a" / "1.jpg").read_bytes()
    assert found["name"] == "a/1.jpg"
    np.testing.assert_array_equal(found["segmentation"], IDS)
    assert found["segmentation"].dtype == np.int32
    assert len(source) == 1
    assert source.label_names == ()
    assert not source.report


def test_the_ids_of_a_palette_are_its_positions(folders):
    picture = Image.fromarray(IDS.astype(np.uint8)).convert("P")
    picture.putpalette([200, 0, 0, 0, 200, 0, 7, 7, 7] + [0] * 759)
    picture.putdata(IDS.ravel().tolist())
    np.testing.assert_array_equal(MaskFolder(*folders(picture))[0]["segmentation"], IDS)


@pytest.mark.parametrize("ending", ["png", "TIF"])
def test_ids_may_have_16_bits(folders, ending):
    ids = np.array([[0, 300, 65535], [1, 2, 3]])
    found = MaskFolder(*folders(ids.astype(np.uint16), f"a/1.{ending}"))
    np.testing.assert_array_equal(found[0]["segmentation"], ids)


def test_a_map_of_one_bit_has_the_ids_0_and_1(folders):
    ids = np.array([[0, 1, 1], [1, 0, 0]])
    found = MaskFolder(*folders(Image.fromarray(ids.astype(np.bool_))))[0]["segmentation"]
    np.testing.assert_array_equal(found, ids)


COLORS = [(0, 0, 0), (255, 0, 0), (0, 0, 255)]
PICTURE = np.array([*COLORS, (224, 224, 192)], np.uint8)[np.minimum(IDS, 3)]


def test_colours_are_ids_by_position_or_as_given(folders):
    known = PICTURE[:, :1]
    images, masks = folders(PICTURE)
    found = MaskFolder(
        images, masks, colors={c: i for i, c in enumerate(COLORS)} | {(224, 224, 192): 255}
    )
    np.testing.assert_array_equal(found[0]["segmentation"], IDS)
    save(images / "a" / "1.jpg", Image.new("RGB", (1, 2)))
    save(masks / "a" / "1.png", known)
    found = MaskFolder(images, masks, colors=COLORS)[0]["segmentation"]
    np.testing.assert_array_equal(found, IDS[:, :1])
    assert found.dtype == np.int32


def test_a_palette_can_be_read_by_its_colours(folders):
    picture = Image.fromarray(np.array([[0, 1, 2], [2, 0, 1]], np.uint8)).convert("P")
    picture.putpalette([0, 0, 255, 0, 0, 0, 255, 0, 0])
    picture.putdata([0, 1, 2, 2, 0, 1])
    found = MaskFolder(*folders(picture), colors=COLORS)[0]["segmentation"]
    assert found.tolist() == [[2, 0, 1], [1, 2, 0]]


@pytest.mark.parametrize("value", [9, 255])
def test_an_unknown_colour_is_named_and_counted(folders, value):
    wrong = PICTURE.copy()
    wrong[0] = value
    source = MaskFolder(*folders(wrong), colors=COLORS)
    message = rf"1\.png has 4 pixels .*3 of them \({value}, {value}, {value}\)\. Add"
    with pytest.raises(UnreadableError, match=message):
        source[0]


def test_a_picture_without_colours_given_is_an_error(folders):
    source = MaskFolder(*folders(PICTURE))
    with pytest.raises(UnreadableError, match=r"1\.png is a picture in colours.*RGB.*Give colors="):
        source[0]


def test_ids_beyond_the_classes_are_named(folders):
    images, masks = folders(IDS.astype(np.uint8))
    source = MaskFolder(images, masks, class_names=["sky", "sea", "cat"])
    assert source.label_names == ("sky", "sea", "cat")
    np.testing.assert_array_equal(source[0]["segmentation"], IDS)
    source = MaskFolder(images, masks, class_names=["sky", "sea", "cat"], ignore=0)
    with pytest.raises(
        UnreadableError, match=r"1\.png has pixels of the value 255, .*3 classes, 0 to 2"
    ):
        source[0]
    source = MaskFolder(images, masks, class_names=["sky", "sea"])
    with pytest.raises(
        UnreadableError, match=r"of the value 2, .*2 classes, 0 to 1, and 255 for none"
    ):
        source[0]


def test_a_map_of_another_size_is_named(folders):
    source = MaskFolder(*folders(IDS.T.astype(np.uint8)))
    with pytest.raises(UnreadableError, match=r"1\.jpg is of 2 x 3 .*1\.png of 3 x 2"):
        source[0]


def test_broken_files_are_named(folders):
    images, masks = folders(IDS.astype(np.uint8))
    (masks / "a" / "1.png").write_bytes(b"nothing")
    with pytest.raises(UnreadableError, match=r"1\.png cannot be read"):
        MaskFolder(images, masks)[0]
    (masks / "a" / "1.png").write_bytes(b"")
    source = MaskFolder(images, masks)
    assert source.report.places == {"empty file": ["a/1.png"]}
    with pytest.raises(UnreadableError, match=r"1\.png is empty"):
        source[0]
    save(masks / "a" / "1.png", IDS.astype(np.uint8))
    (images / "a" / "1.jpg").write_bytes(b"nothing")
    with pytest.raises(UnreadableError, match=r"1\.jpg cannot be read"):
        MaskFolder(images, masks)[0]


def test_a_map_in_jpeg_is_reported(folders):
    source = MaskFolder(*folders(IDS.astype(np.uint8), "a/1.jpg"))
    assert source.report.places == {"map in JPEG, whose values are not exact": ["a/1.jpg"]}


def test_suffixes_are_no_part_of_the_name(tmp_path):
    ids = IDS.astype(np.uint8)
    stem = "aachen/aachen_000000_000019"
    save(tmp_path / "leftImg8bit" / f"{stem}_leftImg8bit.png", Image.new("RGB", (3, 2)))
    save(tmp_path / "gtFine" / f"{stem}_gtFine_labelTrainIds.png", ids)
    save(tmp_path / "gtFine" / f"{stem}_gtFine_color.png", PICTURE)
    (tmp_path / "gtFine" / f"{stem}_gtFine_polygons.json").write_text("{}", "utf-8")
    source = MaskFolder(
        tmp_path / "leftImg8bit",
        tmp_path / "gtFine",
        image_suffix="_leftImg8bit",
        mask_suffix="_gtFine_labelTrainIds",
    )
    np.testing.assert_array_equal(source[0]["segmentation"], IDS)
    assert source.report.places == {
        "name does not end in _gtFine_labelTrainIds, left out": [f"{stem}_gtFine_color.png"],
        "not an image, left out": [f"{stem}_gtFine_polygons.json"],
    }
    with pytest.raises(ValueError, match=r"No name in .*gtFine ends in '_ids', but .*color\.png"):
        MaskFolder(tmp_path / "leftImg8bit", tmp_path / "gtFine", mask_suffix="_ids")


def test_names_are_paired_in_either_spelling(tmp_path):
    save(tmp_path / "images" / "\u00e9.png", Image.new("RGB", (3, 2)))
    save(tmp_path / "masks" / "e\u0301.png", IDS.astype(np.uint8))
    assert len(MaskFolder(tmp_path / "images", tmp_path / "masks")) == 1


def test_examples_are_in_the_order_of_names(tmp_path):
    for name in ("b.png", "a/2.png", "a.png", "a/10.png"):
        save(tmp_path / "images" / name, Image.new("RGB", (3, 2)))
        save(tmp_path / "masks" / name, IDS.astype(np.uint8))
    source = MaskFolder(tmp_path / "images", tmp_path / "masks")
    wanted = ["a.png", "a/10.png", "a/2.png", "b.png"]
    assert [source[i]["name"] for i in range(4)] == wanted


def test_what_has_no_partner_is_named_and_counted(folders):
    images, masks = folders(IDS.astype(np.uint8))
    save(images / "b.png", Image.new("RGB", (3, 2)))
    for name in "cd":
        save(masks / f"{name}.png", IDS.astype(np.uint8))
    with pytest.raises(
        ValueError, match=r"1 of 2 images .* no map \('b'\), and 2 of 3 maps"
    ) as error:
        MaskFolder(images, masks)
    assert "('c', 'd')" in str(error.value)
    assert "mask_suffix" in str(error.value)


def test_two_files_of_one_name_are_an_error(folders):
    images, masks = folders(IDS.astype(np.uint8))
    save(images / "a" / "1.png", Image.new("RGB", (3, 2)))
    with pytest.raises(ValueError, match=r"1\.jpg' and .*1\.png' are both called 'a/1'.*Keep one"):
        MaskFolder(images, masks)


@pytest.mark.parametrize("colors", [[], [(0, 0, 256)], [(-1, 0, 0)]])
def test_colours_that_are_none_are_an_error(folders, colors):
    images, masks = folders(PICTURE)
    with pytest.raises(ValueError, match="colours of three numbers from 0 to 255"):
        MaskFolder(images, masks, colors=colors)


def test_a_colour_of_two_classes_is_an_error(folders):
    images, masks = folders(PICTURE)
    with pytest.raises(ValueError, match="a colour more than once"):
        MaskFolder(images, masks, colors=[(0, 0, 0), (1, 1, 1), (0, 0, 0)])
