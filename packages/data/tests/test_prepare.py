"""Folders of images as a few large files. What is in these is read by TFDS."""

import hashlib
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from scenax.data import prepare
from scenax.data.prepare import prepare_image_folder
from scenax.data.reports import UnreadableError


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (6, 5 + number % 3, 3), np.uint8)


def number_of(split: str, name: str, i: int) -> int:
    return 1000 * ("train", "val", "test").index(split) + 100 * ("cat", "dog").index(name) + i


@pytest.fixture
def photos(tmp_path) -> pathlib.Path:
    """7 + 7 images for training, 2 + 2 for validation, 1 + 1 for testing."""
    for split, count in {"train": 7, "val": 2, "test": 1}.items():
        for name in ("cat", "dog"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                image = Image.fromarray(pixels(number_of(split, name, i)))
                image.save(folder / f"{i}.png")
    return tmp_path / "photos"


COUNTS = {"train": 14, "validation": 4, "test": 2}


def prepared(photos, name="out", **options):
    return prepare_image_folder(photos, photos.parent / name, images_per_file=4, **options)


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(folder.glob("*.array_record-*-of-?????"))


def times(folder: pathlib.Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in files(folder)}


def test_images_are_written_by_split_in_files_of_a_size(photos):
    result = prepared(photos)
    assert dict(result.counts) == COUNTS
    assert not result.report
    assert result.folder == photos.parent / "out"
    names = [f"train.array_record-0000{i}-of-00004" for i in range(4)]
    names += ["test.array_record-00000-of-00001", "validation.array_record-00000-of-00001"]
    assert [path.name for path in files(result.folder)] == sorted(
        f"image_folder-{n}" for n in names
    )
    assert not list(result.folder.glob("*.tmp"))


def test_checksums_are_those_of_the_files(photos):
    folder = prepared(photos).folder
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    listed = dict(reversed(line.split("  ")) for line in lines)
    assert listed == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files(folder)
    }


def test_tfds_reads_the_same_images_labels_and_names(photos):
    builder = tfds.builder_from_directory(prepared(photos).folder)
    assert builder.info.features["label"].names == ["cat", "dog"]
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == COUNTS
    for split, folder in {"train": "train", "validation": "val", "test": "test"}.items():
        examples = list(builder.as_data_source(split))
        each = COUNTS[split] // 2
        wanted = [(label, i) for label in range(2) for i in range(each)]
        assert [example["label"] for example in examples] == [label for label, _ in wanted]
        for example, (label, i) in zip(examples, wanted, strict=True):
            name = ("cat", "dog")[label]
            assert example["name"].decode() == f"{name}/{i}.png"
            np.testing.assert_array_equal(example["image"], pixels(number_of(folder, name, i)))


@pytest.mark.parametrize("num_threads", [1, 5])
def test_files_are_the_same_for_any_number_of_threads(photos, num_threads):
    one = prepared(photos, "one").folder
    other = prepared(photos, "other", num_threads=num_threads).folder
    for path, again in zip(files(one), files(other), strict=True):
        assert path.name == again.name
        assert path.read_bytes() == again.read_bytes()
    assert (one / "SHA256SUMS").read_text() == (other / "SHA256SUMS").read_text()


def test_a_folder_that_is_divided_by_a_hash_is_written_as_it_is_read(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(20):
            number = number_of("train", name, i)
            Image.fromarray(pixels(number)).save(tmp_path / "photos" / name / f"{i}.png")
    result = prepared(tmp_path / "photos")
    assert sum(result.counts.values()) == 40
    assert result.counts["train"] > 20
    builder = tfds.builder_from_directory(result.folder)
    names = [e["name"] for split in result.counts for e in builder.as_data_source(split)]
    assert sorted(names) == sorted(
        f"{c}/{i}.png".encode() for c in ("cat", "dog") for i in range(20)
    )


class Killed(BaseException):
    """Stands for the end of the process."""


def test_who_is_stopped_goes_on_from_the_files_that_are_done(photos, monkeypatch):
    decode = prepare.decode_image

    def stops(encoded, *, name):
        if name == "dog/3.png":  # The eleventh training image, in the third file.
            raise Killed
        return decode(encoded, name=name)

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "decode_image", stops)
        with pytest.raises(Killed):
            prepared(photos, num_threads=1)
    folder = photos.parent / "out"
    done = times(folder)
    assert "image_folder-train.array_record-00001-of-00004" in done
    assert "image_folder-train.array_record-00002-of-00004" not in done
    assert not (folder / "dataset_info.json").exists()  # It is no dataset yet.

    seen = []

    def noting(encoded, *, name):
        seen.append(name)
        return decode(encoded, name=name)

    monkeypatch.setattr(prepare, "decode_image", noting)
    result = prepared(photos)
    assert dict(result.counts) == COUNTS
    assert "dog/3.png" in seen
    assert not {f"cat/{i}.png" for i in range(2, 7)} & set(seen)  # All in files that are done.
    assert not list(folder.glob("*.tmp"))
    after = times(folder)
    assert {name: after[name] for name in done} == done
    whole = prepared(photos, "whole").folder
    for path, wanted in zip(files(folder), files(whole), strict=True):
        assert path.read_bytes() == wanted.read_bytes()


def test_what_is_done_is_not_written_again(photos, monkeypatch):
    folder = prepared(photos).folder
    before = times(folder)
    monkeypatch.setattr(prepare, "decode_image", None)  # Nothing may be decoded.
    assert dict(prepared(photos).counts) == COUNTS
    assert times(folder) == before


@pytest.mark.parametrize("damage", ["flip", "cut", "lose"])
def test_a_file_that_was_damaged_is_written_again(photos, damage):
    folder = prepared(photos).folder
    before = times(folder)
    path = folder / "image_folder-train.array_record-00001-of-00004"
    whole = path.read_bytes()
    if damage == "flip":
        path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    elif damage == "cut":
        path.write_bytes(whole[:-1])
    else:
        path.unlink()
    prepared(photos)
    assert path.read_bytes() == whole
    after = times(folder)
    assert {name for name in before if after[name] != before[name]} == {path.name}


def test_an_image_that_was_repaired_is_written_again(photos):
    folder = prepared(photos).folder
    before = times(folder)
    Image.new("RGB", (50, 50)).save(photos / "train" / "cat" / "0.png")
    prepared(photos)
    after = times(folder)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"image_folder-train.array_record-00000-of-00004"}


def test_what_was_left_out_is_an_error_when_nothing_shall_be(photos):
    (photos / "train" / "cat" / "0.png").write_bytes(b"no image")
    prepared(photos, unreadable="skip")
    with pytest.raises(UnreadableError, match=r"cat/0\.png"):
        prepared(photos)


@pytest.mark.parametrize("change", ["more", "renamed", "size"])
def test_other_images_do_not_go_into_the_same_folder(photos, change):
    folder = prepared(photos).folder
    before = {path: path.read_bytes() for path in folder.iterdir()}
    path = photos / "train" / "cat" / "0.png"
    per_file = 4
    if change == "more":
        Image.fromarray(pixels(5000)).save(photos / "train" / "cat" / "new.png")
    elif change == "renamed":
        path.rename(path.with_name("9.png"))
    else:
        per_file = 5
    with pytest.raises(ValueError, match=f"{folder} holds what was prepared of other images"):
        prepare_image_folder(photos, folder, images_per_file=per_file)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_that_is_not_empty_is_left_alone(photos):
    out = photos.parent / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"is not empty: it holds thesis\.txt"):
        prepared(photos)
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_wrong_arguments_are_named(photos):
    with pytest.raises(ValueError, match="images_per_file must be at least 1, got 0"):
        prepare_image_folder(photos, photos.parent / "out", images_per_file=0)
    with pytest.raises(FileNotFoundError, match="no folder"):
        prepare_image_folder(photos / "nowhere", photos.parent / "out")
    assert not (photos.parent / "out").exists()


@pytest.fixture
def broken(photos):
    path = photos / "train" / "dog" / "2.png"
    path.write_bytes(path.read_bytes()[:60])
    (photos / "val" / "cat" / "1.png").write_bytes(b"<html>")
    return photos


def test_an_image_that_cannot_be_read_is_an_error(broken):
    with pytest.raises(UnreadableError, match=r"dog/2\.png \(60 bytes\)"):
        prepared(broken, num_threads=1)
    assert not (broken.parent / "out" / "dataset_info.json").exists()


def test_an_image_that_cannot_be_read_is_left_out_if_asked_for(broken):
    for _ in range(2):  # The second time, it is known from the files that are there.
        result = prepared(broken, unreadable="skip")
        assert dict(result.counts) == {"train": 13, "validation": 3, "test": 2}
        said = str(result.report)
        assert "unreadable, left out: 2" in said
        assert "dog/2.png (60 bytes)" in said
        assert "cat/1.png (6 bytes)" in said
    builder = tfds.builder_from_directory(result.folder)
    names = [example["name"].decode() for example in builder.as_data_source("train")]
    wanted = [f"cat/{i}.png" for i in range(7)] + [f"dog/{i}.png" for i in (0, 1, 3, 4, 5, 6)]
    assert names == wanted


def test_who_was_stopped_by_such_an_image_goes_on_without_it(broken):
    with pytest.raises(UnreadableError):
        prepared(broken, num_threads=1)
    done = times(broken.parent / "out")
    assert done
    result = prepared(broken, unreadable="skip")
    assert dict(result.counts) == {"train": 13, "validation": 3, "test": 2}
    after = times(result.folder)
    assert {name: after[name] for name in done} == done
