import numpy as np
import pytest
from PIL import Image

from scenax.data.reports import UnreadableError
from scenax.data.sources.voc_xml import VocXml

VOC = "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike"
VOC += " person pottedplant sheep sofa train tvmonitor"


def thing(name="dog", box=(2, 3, 5, 6), difficult=None):
    sides = zip(("ymin", "xmax", "xmin", "ymax"), (box[1], box[2], box[0], box[3]), strict=True)
    inner = "".join(f"<{tag}>{value}</{tag}>" for tag, value in sides)
    flag = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    part = "<part><name>head</name><bndbox><xmin>9</xmin></bndbox></part>"
    return f"<object>{part}<name>{name}</name>{flag}<bndbox>{inner}</bndbox></object>"


SIZE = "<size><width>8</width><height>6</height><depth>3</depth></size>"


@pytest.fixture
def add(tmp_path):
    """Adds an image of 8 x 6 pixels (width x height) and its annotation."""

    def write(stem, *inner, size=SIZE, image=None, xml=None):
        image = f"{stem}.jpg" if image is None else image
        for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(tmp_path / "JPEGImages" / image)
        xml = xml or f"<annotation>{size}{''.join(inner)}</annotation>"
        path = tmp_path / "Annotations" / f"{stem}.xml"
        path.write_bytes(xml if isinstance(xml, bytes) else xml.encode())

    return write


def names(source):
    return [source[i]["name"] for i in range(len(source))]


def test_pixels_count_from_one_and_the_last_is_in_the_box(tmp_path, add):
    add(
        "1", thing("dog", (2, 3, 5, 6), 1), thing("cat", (1, 1, 8, 6)), "<filename>1.jpg</filename>"
    )
    add("2")
    source = VocXml(tmp_path)
    found = source[0]
    np.testing.assert_array_equal(found["boxes"], np.float32([[1, 2, 5, 6], [0, 0, 8, 6]]))
    assert source.label_names == tuple(VOC.split())
    assert found["classes"].tolist() == [11, 7]
    assert found["is_difficult"].tolist() == [True, False]
    assert found["is_crowd"].tolist() == [False, False]
    assert found["area"].tolist() == [16, 48]
    assert found["image"] == (tmp_path / "JPEGImages" / "1.jpg").read_bytes()
    assert names(source) == ["1.jpg", "2.jpg"]
    assert source[1]["boxes"].shape == (0, 4)
    assert [source[1]["image_id"], len(source)] == [1, 2]
    types = {key: source[1][key].dtype for key in ("boxes", "classes", "is_difficult", "image_id")}
    assert list(types.values()) == [np.float32, np.int32, np.bool_, np.int64]
    assert not source.report


def test_fractions_of_pixels_are_kept(tmp_path, add):
    add("1", thing(box=(2.25, 3, 4.5, "5.75 ")))
    np.testing.assert_array_equal(VocXml(tmp_path)[0]["boxes"], np.float32([[1.25, 2, 4.5, 5.75]]))


def test_boxes_are_repaired_and_counted(tmp_path, add):
    add("1", thing(box=(0, 1, 3, 9)), thing("cat", (5, 5, 3, 3)), thing("cow", ("nan", 1, 2, 2)))
    add("2", thing("cat", (1, 1, 1, 1)))
    source = VocXml(tmp_path)
    np.testing.assert_array_equal(source[0]["boxes"], np.float32([[0, 0, 3, 6]]))
    np.testing.assert_array_equal(source[1]["boxes"], np.float32([[0, 0, 1, 1]]))
    assert [source[i]["classes"].tolist() for i in range(2)] == [[11], [7]]
    assert source.report.places == {
        "box outside the image, clipped": ["1.xml, box [0.0, 1.0, 3.0, 9.0]"],
        "box that is no finite number, dropped": ["1.xml, box [nan, 1.0, 2.0, 2.0]"],
        "box without area in the image, dropped": ["1.xml, box [5.0, 5.0, 3.0, 3.0]"],
    }


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_a_missing_size_is_reported(tmp_path, add, size):
    add("1", thing(box=(0, 1, 30, 9)), size=size)
    source = VocXml(tmp_path)
    np.testing.assert_array_equal(source[0]["boxes"], np.float32([[0, 0, 30, 9]]))
    assert source.report.places["no size of the image, boxes clipped at 0 only"] == ["1.xml"]


def test_an_image_of_another_size_is_named(tmp_path, add):
    add("1", size="<size><width>6</width><height>8</height></size>")
    with pytest.raises(UnreadableError, match=r"1\.jpg is of 6 x 8 .*its annotation of 8 x 6"):
        VocXml(tmp_path)[0]


def test_a_split_is_a_list_of_names(tmp_path, add):
    for stem in ("a b", "a b -1", "é", "c"):
        add(stem, thing("zebra" if stem == "c" else "dog"))
    lists = tmp_path / "ImageSets" / "Main"
    (lists / "train.txt").write_bytes("e\u0301\r\na b\n\n".encode())
    (lists / "dog_val.txt").write_text("a b -1\nc  1\na b  1\n", "utf-8")
    train = VocXml(tmp_path, "train")
    assert names(train) == ["a b.jpg", "é.jpg"]
    assert names(VocXml(tmp_path, split="dog_val")) == ["a b -1.jpg", "a b.jpg", "c.jpg"]
    assert len(VocXml(tmp_path)) == 4
    # The zebra is not in train, but train and val have the same classes.
    assert train.label_names == ("dog", "zebra")


def test_a_split_that_is_not_there_names_those_that_are(tmp_path, add):
    add("1")
    lists = tmp_path / "ImageSets" / "Main"
    (lists / "train.txt").write_text("1\n", "utf-8")
    (lists / "val.txt").write_text("../../1\n2\n", "utf-8")
    with pytest.raises(FileNotFoundError, match=r"no trian\.txt\. Did you mean 'train'"):
        VocXml(tmp_path, "trian")
    with pytest.raises(
        FileNotFoundError, match=r"val\.txt names 2 images, of which 2 .*'\.\./\.\./1'"
    ):
        VocXml(tmp_path, "val")


def test_classes_can_be_given(tmp_path, add):
    add("1", thing("dog"), thing("cat"))
    source = VocXml(tmp_path, class_names=["dog", "emu", "cat"])
    assert source.label_names == ("dog", "emu", "cat")
    assert source[0]["classes"].tolist() == [0, 2]
    assert source.report.places == {"class without objects": ["emu"]}
    with pytest.raises(ValueError, match=r"1\.xml has an object of the class 'dog'.*mean 'dogs'"):
        VocXml(tmp_path, class_names=["dogs", "cat"])


def test_an_image_goes_by_its_annotations_name_first(tmp_path, add):
    add("1", "<filename>2.jpg</filename>", image="1.PNG")
    add("2", "<filename>2</filename>", image="2.jpg")
    add("3", "<filename>photo.jpeg</filename>", image="photo.jpeg")
    assert names(VocXml(tmp_path)) == ["1.PNG", "2.jpg", "photo.jpeg"]


def test_a_missing_image_is_named(tmp_path, add):
    add("1")
    add("2")
    (tmp_path / "JPEGImages" / "2.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 annotations have no image in .*: '2'"):
        VocXml(tmp_path)


def test_two_images_of_one_name_are_an_error(tmp_path, add):
    add("1")
    Image.new("RGB", (8, 6)).save(tmp_path / "JPEGImages" / "1.png")
    with pytest.raises(ValueError, match=r"1\.jpg' and .*1\.png' are both called '1'.*Keep one"):
        VocXml(tmp_path)


def test_images_without_an_annotation_are_reported(tmp_path, add):
    add("1")
    Image.new("RGB", (8, 6)).save(tmp_path / "JPEGImages" / "2.jpg")
    (tmp_path / "JPEGImages" / "list.txt").write_text("x", "utf-8")
    source = VocXml(tmp_path)
    assert source.report.places == {
        "image without an annotation, left out": ["2.jpg"],
        "not an image, left out": ["list.txt"],
    }


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "C:\\x.jpg"])
def test_an_annotation_cannot_lead_out_of_the_folder(tmp_path, add, name):
    add("1", f"<filename>{name}</filename>")
    with pytest.raises(ValueError, match=r"1\.xml names the file .*not below"):
        VocXml(tmp_path)


ENTITIES = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation>&a;</annotation>'


@pytest.mark.parametrize("xml", [ENTITIES, OUTSIDE, ENTITIES.encode("utf-16")])
def test_shorthands_are_refused(tmp_path, add, xml):
    add("1", xml=xml)
    with pytest.raises(ValueError, match=r"1\.xml has a DOCTYPE.*Delete it"):
        VocXml(tmp_path)


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (b" ", "is not XML"),
        (b"<annotation><object>", r"is not XML: .*Copy it anew"),
        (b'<?xml version="1.0" encoding="klingon"?><annotation/>', "is not XML"),
        (b"<svg/>", "is a <svg>, but VOC's"),
        (b"<annotation><object><name>a</name></object></annotation>", "<xmin> is None.*bndbox"),
        ("<annotation>" + thing(box=(1, "x", 2, 2)) + "</annotation>", "<ymin> is 'x'"),
    ],
)
def test_a_file_that_is_not_vocs_is_named(tmp_path, add, xml, message):
    add("1", xml=xml)
    with pytest.raises(ValueError, match=rf"1\.xml:? {message}"):
        VocXml(tmp_path)


def test_text_may_be_in_other_encodings(tmp_path, add):
    text = f'<?xml version="1.0" encoding="latin-1"?><annotation>{thing("bébé")}</annotation>'
    add("1", xml=text.encode("latin-1"))
    assert VocXml(tmp_path).label_names == ("bébé",)


def test_layouts_that_are_wrong_say_what_is_wanted(tmp_path, add):
    (tmp_path / "VOC2012").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no folder .*JPEGImages.*layout.*'VOC2012'"):
        VocXml(tmp_path)
    add("1")
    (tmp_path / "Annotations" / "1.xml").rename(tmp_path / "Annotations" / "1.json")
    with pytest.raises(ValueError, match=r"no annotation\..*\.xml.*1 x \.json"):
        VocXml(tmp_path)
