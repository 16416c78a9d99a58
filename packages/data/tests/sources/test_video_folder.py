import numpy as np
import pytest

from scenax.data.reports import UnreadableError
from scenax.data.sources.video_folder import VideoFolder


def write(root, *names, content=b"x"):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


@pytest.mark.parametrize("ending", ["mp4", "avi", "WEBM", "mkv", "mov", "gif"])
def test_an_example_is_the_path_the_class_and_the_name(tmp_path, monkeypatch, ending):
    write(tmp_path, f"b/take 1/é.{ending}", f"a/1.{ending}")
    monkeypatch.chdir(tmp_path.parent)
    source = VideoFolder(tmp_path.name)
    assert source.label_names == ("a", "b")
    assert source[1] == {
        "video": str(tmp_path / "b" / "take 1" / f"é.{ending}"),
        "label": 1,
        "name": f"b/take 1/é.{ending}",
    }
    assert source[1]["label"].dtype == np.int32
    assert len(source) == 2


def test_given_classes_fix_the_order(tmp_path):
    write(tmp_path, "a/1.mp4", "b/1.mp4")
    source = VideoFolder(tmp_path, class_names=["b", "a"])
    assert [source[i]["label"] for i in range(2)] == [1, 0]
    with pytest.raises(ValueError, match="the folder 'b', which is not among"):
        VideoFolder(tmp_path, class_names=["a"])


def test_other_and_empty_files_are_reported(tmp_path):
    write(tmp_path, "a/1.mp4", "b/1.mp4", "a/cover.jpg")
    write(tmp_path, "a/2.mp4", content=b"")
    source = VideoFolder(tmp_path)
    assert source.report.places == {
        "not a video, left out": ["a/cover.jpg"],
        "empty file": ["a/2.mp4"],
    }
    with pytest.raises(UnreadableError, match=r"2\.mp4 is empty"):
        source[1]


def test_layouts_that_are_wrong_say_what_is_wanted(tmp_path):
    write(tmp_path, "1.jpg")
    with pytest.raises(ValueError, match=r"no video\. Wanted is .*/1\.mp4.*Found: 1 x \.jpg"):
        VideoFolder(tmp_path)
    write(tmp_path, "a/1.mp4", "2.mp4")
    with pytest.raises(ValueError, match=r"videos in no class's folder: '2\.mp4'"):
        VideoFolder(tmp_path)
