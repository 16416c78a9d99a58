import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from scenax.data.reports import Report, UnreadableError
from scenax.data.sources import _files


def write(root, *names, content=b"x"):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def listed(root, report=None):
    return _files.Folder(root, "a folder of things", Report() if report is None else report)


def test_files_are_listed_below_the_folder_in_the_order_of_code_points(tmp_path):
    write(tmp_path, "b/2.png", "b/10.png", "B.png", "b.png", "é.png", "z.png", "🐈 x.png")
    names = [file.name for file in listed(tmp_path).files]
    # "." comes before "/", capitals before small letters, 1 before 2, é and 🐈 after z.
    assert names == ["B.png", "b.png", "b/10.png", "b/2.png", "z.png", "é.png", "🐈 x.png"]


def test_names_are_composed_and_paths_are_as_on_disk(tmp_path):
    name = unicodedata.normalize("NFD", "é.png")
    write(tmp_path, name)
    (file,) = listed(tmp_path).files
    assert file.name == "\u00e9.png"
    assert file.path == str(tmp_path / name)
    assert file.read() == b"x"


def test_one_name_in_two_spellings_is_an_error(tmp_path):
    write(tmp_path, "\u00e9.png", "e\u0301.png")
    with pytest.raises(ValueError, match=r"both called '\u00e9\.png'.*rename"):
        _files.by_name(listed(tmp_path).files, str)


@pytest.mark.parametrize(
    "name", [".DS_Store", "a/._x.png", ".ipynb_checkpoints/x.png", "__MACOSX/a/x.png"]
)
def test_hidden_files_and_folders_are_not_seen(tmp_path, name):
    write(tmp_path, name, "a/seen.png")
    assert [file.name for file in listed(tmp_path).files] == ["a/seen.png"]


def test_links_to_files_and_folders_are_followed_but_not_in_circles(tmp_path):
    root, other = tmp_path / "root", tmp_path / "other"
    write(other, "x.png", "in/y.png")
    root.mkdir()
    (root / "file.png").symlink_to(other / "x.png")
    (root / "folder").symlink_to(other / "in")
    (root / "up").symlink_to(root)
    (root / "lost.png").symlink_to(tmp_path / "nowhere.png")
    report = Report()
    folder = listed(root, report)
    assert [file.name for file in folder.files] == ["file.png", "folder/y.png"]
    assert report.places == {
        "link to a folder that it is in, left out": ["up"],
        "neither a file nor a folder (a broken link?), left out": ["lost.png"],
    }


def test_a_kind_goes_by_the_ending_and_the_rest_is_reported(tmp_path):
    write(tmp_path, "a.JPG", "b.jpeg", "notes.txt", "c.png.zip", "none")
    write(tmp_path, "empty.png", content=b"")
    report = Report()
    found = listed(tmp_path, report).only(_files.IMAGES)
    assert [file.name for file in found] == ["a.JPG", "b.jpeg", "empty.png"]
    assert report.places == {
        "not an image, left out": ["c.png.zip", "none", "notes.txt"],
        "empty file": ["empty.png"],
    }


def test_a_folder_without_the_kind_says_what_it_holds(tmp_path):
    write(tmp_path, "a.txt", "b.txt", "c.zip")
    with pytest.raises(ValueError, match=r"no image\. Wanted is a folder of things.*\.jpg") as e:
        listed(tmp_path).only(_files.IMAGES)
    assert "Found: 2 x .txt, 1 x .zip." in str(e.value)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="Found: no files"):
        listed(tmp_path / "none").only(_files.IMAGES)


def test_a_missing_folder_names_the_nearest(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(FileNotFoundError, match=r"a folder of things.*Did you mean 'photos'") as e:
        listed(tmp_path / "photo" / "cats")
    assert str(tmp_path / "photo" / "cats") in str(e.value)


def test_a_file_is_not_a_folder(tmp_path):
    write(tmp_path, "a.zip")
    with pytest.raises(ValueError, match=r"a\.zip is a file.*a folder of things.*unpack"):
        listed(tmp_path / "a.zip")


def test_an_empty_file_cannot_be_read(tmp_path):
    write(tmp_path, "a.png", content=b"")
    (file,) = listed(tmp_path).files
    for read in (file.read, file.filled_path):
        with pytest.raises(UnreadableError, match=r"a\.png is empty \(0 bytes\)"):
            read()


def test_classes_are_the_first_folders(tmp_path):
    write(tmp_path, "dog/1.png", "cat/old/1.png", "cat/2.png", "nothing/a.txt")
    report = Report()
    found = _files.by_class(listed(tmp_path, report), _files.IMAGES, None)
    assert found.label_names == ("cat", "dog")
    assert found.labels.tolist() == [0, 0, 1]
    assert found.labels.dtype == np.int32
    assert report.places["folder without images, left out"] == ["nothing"]


def test_a_class_in_two_spellings_is_one(tmp_path):
    write(tmp_path, "caf\u00e9/1.png", "cafe\u0301/2.png", "bar/1.png")
    found = _files.by_class(listed(tmp_path), _files.IMAGES, ["cafe\u0301", "bar"])
    assert found.label_names == ("caf\u00e9", "bar")
    assert found.labels.tolist() == [1, 0, 0]


def test_given_classes_fix_the_order_and_have_to_be_all(tmp_path):
    write(tmp_path, "dog/1.png", "cat/1.png")
    report = Report()
    found = _files.by_class(listed(tmp_path, report), _files.IMAGES, ["dog", "emu", "cat"])
    assert found.labels.tolist() == [2, 0]
    assert report.places == {"class without images": ["emu"]}
    with pytest.raises(ValueError, match=r"the folder 'cat'.*Did you mean 'cats'") as e:
        _files.by_class(listed(tmp_path), _files.IMAGES, ["dog", "cats"])
    assert str(tmp_path) in str(e.value)
    with pytest.raises(ValueError, match="'dog' more than once"):
        _files.by_class(listed(tmp_path), _files.IMAGES, ["dog", "cat", "dog"])


def test_files_in_no_class_are_an_error(tmp_path):
    write(tmp_path, "dog/1.png", "x.png", "y.png")
    with pytest.raises(ValueError, match=r"in no class's folder: 'x\.png', 'y\.png'.*Move each"):
        _files.by_class(listed(tmp_path), _files.IMAGES, None)


def test_a_single_class_is_reported(tmp_path):
    write(tmp_path, "images/cat/1.png", "images/dog/1.png")
    report = Report()
    _files.by_class(listed(tmp_path, report), _files.IMAGES, None)
    assert report.places == {"the only class": ["images"]}


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "C:\\x.png", "..\\x.png", "a\\..\\b"]
)
def test_an_annotation_cannot_lead_out_of_the_folder(name):
    with pytest.raises(ValueError, match=r"a.json, image 3, names the file .*not below"):
        _files.inside(name, "a.json, image 3,")


@pytest.mark.parametrize("name", [None, 7, "", "  "])
def test_an_annotation_has_to_name_a_file(name):
    with pytest.raises(ValueError, match=r"a.json should name a file"):
        _files.inside(name, "a.json")


def test_names_in_annotations_are_made_alike():
    assert _files.inside("./a\\e\u0301.png", "a.json") == "a/\u00e9.png"


def test_boxes_are_cut_dropped_and_reported():
    report = Report()
    boxes = np.array(
        [
            [1, 2, 3, 4],
            [-2, -1, 3, 4],
            [5, 5, 99, 99],
            [20, 20, 30, 30],
            [3, 3, 2, 4],
            [1, 1, 1, 4],
            [np.nan, 0, 1, 1],
            [0, 0, np.inf, 1],
            [0, 0, 10.004, 5.002],
        ]
    )
    found, kept = _files.repair_boxes(boxes, np.full(9, 8), np.full(9, 10), str, report)
    assert kept.tolist() == [True, True, True, False, False, False, False, False, True]
    wanted = [[1, 2, 3, 4], [0, 0, 3, 4], [5, 5, 10, 8], [0, 0, 10, 5.002]]
    np.testing.assert_array_equal(found[kept], np.float32(wanted))
    assert found.dtype == np.float32
    assert report.places == {
        "box outside the image, clipped": ["1", "2"],
        "box that is no finite number, dropped": ["6", "7"],
        "box without area in the image, dropped": ["3", "4", "5"],
    }


def test_a_size_is_that_of_the_upright_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned by a quarter.
    Image.new("RGB", (4, 2)).save(tmp_path / "a.jpg", exif=exif)
    (file,) = listed(tmp_path).files
    _files.check_size(file, file.read(), (4, 2), "its map")
    with pytest.raises(UnreadableError, match=r"a\.jpg is of 4 x 2 .*its map of 2 x 4"):
        _files.check_size(file, file.read(), (2, 4), "its map")
    with pytest.raises(UnreadableError, match=r"a\.jpg cannot be read as an image"):
        _files.check_size(file, b"nothing", (4, 2), "its map")


def test_a_broken_image_is_named(tmp_path):
    Image.effect_noise((32, 32), 50).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (file,) = listed(tmp_path).files
    assert _files.decoded(file).size == (32, 32)
    for content in (whole[: len(whole) // 2], b"nothing"):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(UnreadableError, match=r"a\.png cannot be read as an image"):
            _files.decoded(file)


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="names are Unicode")
def test_names_that_are_not_unicode_are_listed(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"\xff.png")
    with open(path, "wb") as file:
        file.write(b"x")
    (found,) = listed(tmp_path).files
    assert found.read() == b"x"
