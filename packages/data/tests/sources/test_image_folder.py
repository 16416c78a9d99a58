import numpy as np
import pytest
from PIL import Image

from scenax.data.reports import UnreadableError
from scenax.data.sources.image_folder import ImageFolder


def write(root, *names, content=b"x"):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def names(source):
    return [source[i]["name"] for i in range(len(source))]


@pytest.mark.parametrize(
    ("mode", "ending"),
    [("RGB", "jpg"), ("P", "png"), ("CMYK", "JPEG"), ("1", "bmp"), ("LA", "PNG")],
)
def test_an_example_is_the_file_its_class_and_its_name(tmp_path, mode, ending):
    (tmp_path / "cat" / "my cats").mkdir(parents=True)
    path = tmp_path / "cat" / "my cats" / f"a 🐈.{ending}"
    Image.new(mode, (3, 2)).save(path)
    write(tmp_path, "ant/1.png")
    example = ImageFolder(str(tmp_path))[1]
    assert example == {
        "image": path.read_bytes(),
        "label": 1,
        "name": f"cat/my cats/a 🐈.{ending}",
    }
    assert example["label"].dtype == np.int32


def test_classes_are_the_sorted_folders_or_as_given(tmp_path):
    write(tmp_path, "dog/1.png", "cat/1.png")
    assert ImageFolder(tmp_path).label_names == ("cat", "dog")
    found = ImageFolder(tmp_path, class_names=["dog", "cat"])
    assert found.label_names == ("dog", "cat")
    assert [found[i]["label"] for i in range(2)] == [1, 0]
    assert len(found) == 2


def test_an_empty_file_is_an_example_that_cannot_be_read(tmp_path):
    write(tmp_path, "cat/1.png", "dog/1.png")
    write(tmp_path, "cat/2.png", content=b"")
    source = ImageFolder(tmp_path)
    assert len(source) == 3
    assert source.report.places == {"empty file": ["cat/2.png"]}
    with pytest.raises(UnreadableError, match=r"2\.png is empty"):
        source[1]


def test_what_is_no_image_is_reported(tmp_path):
    write(tmp_path, "cat/1.png", "dog/1.png", "cat/1.txt", "read me.md")
    source = ImageFolder(tmp_path)
    assert source.report.places == {"not an image, left out": ["cat/1.txt", "read me.md"]}


def test_layouts_that_are_wrong_say_what_is_wanted(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*none.*cats/1\.jpg"):
        ImageFolder(tmp_path / "none")
    with pytest.raises(ValueError, match=r"no image.*cats/1\.jpg.*no files"):
        ImageFolder(tmp_path)
    write(tmp_path, "1.png")
    with pytest.raises(ValueError, match=r"in no class's folder: '1\.png'.*cats/1\.jpg"):
        ImageFolder(tmp_path)
