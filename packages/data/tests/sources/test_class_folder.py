import hashlib

import pytest

from scenax.data.sources.class_folder import splits
from scenax.data.sources.image_folder import ImageFolder


def write(root, *names, content=b"x"):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def names(source):
    return [source[i]["name"] for i in range(len(source))]


@pytest.mark.parametrize("validation", ["val", "Valid", "validation"])
def test_folders_named_as_splits_are_the_splits(tmp_path, validation):
    write(tmp_path, "train/a/1.png", "train/b/1.png", "Test/b/1.png", "notes.txt")
    write(tmp_path, f"{validation}/b/2.png")
    found = splits(ImageFolder, tmp_path)
    assert list(found) == ["train", "validation", "test"]
    assert {name: names(part) for name, part in found.items()} == {
        "train": ["a/1.png", "b/1.png"],
        "validation": ["b/2.png"],
        "test": ["b/1.png"],
    }
    assert all(part.label_names == ("a", "b") for part in found.values())
    assert found["validation"][0]["label"] == 1
    assert found["validation"].report.places == {"class without images": ["a"]}
    assert found["train"].report.places == {"beside the splits, left out": ["notes.txt"]}


def test_a_class_that_is_not_in_train_is_an_error(tmp_path):
    write(tmp_path, "train/cat/1.png", "train/dog/1.png", "val/cats/1.png")
    with pytest.raises(ValueError, match=r"val has the folder 'cats'.*Did you mean 'cat'"):
        splits(ImageFolder, tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["val/a/1.png", "test/a/1.png"], "has only 'test', 'val'.*Name the folder .*'train'"),
        (["train/a/1.png", "val/a/1.png", "valid/a/1.png"], "'val' and 'valid'.*Keep one"),
        (["train/a/1.png", "val/a/1.png", "cat/1.png"], "beside them the folders 'cat'.*Move"),
        (["train/a/1.png", "val/a/1.png", "1.png"], r"beside its splits: '1\.png'"),
    ],
)
def test_splits_that_are_unclear_are_errors(tmp_path, files, message):
    write(tmp_path, *files)
    with pytest.raises(ValueError, match=message):
        splits(ImageFolder, tmp_path)


def test_a_class_may_be_called_train(tmp_path):
    write(tmp_path, *(f"{name}/{i}.png" for name in ("bus", "car", "train") for i in range(20)))
    assert splits(ImageFolder, tmp_path)["train"].label_names == ("bus", "car", "train")


def share(name):
    return int(hashlib.sha256(name.encode()).hexdigest()[:16], 16) / 2**64


def test_one_folder_of_classes_is_divided_by_the_hash_of_names(tmp_path):
    files = [f"{name}/{i}.png" for name in "ab" for i in range(200)]
    write(tmp_path, *files)
    found = splits(ImageFolder, tmp_path)
    by_hash = {
        "train": [name for name in files if share(name) < 0.8],
        "validation": [name for name in files if 0.8 <= share(name) < 0.9],
        "test": [name for name in files if share(name) >= 0.9],
    }
    assert {name: names(part) for name, part in found.items()} == {
        name: sorted(part) for name, part in by_hash.items()
    }
    assert 0.75 < len(found["train"]) / 400 < 0.85
    for part in found.values():
        assert part[len(part) - 1]["label"] == 1
        assert part.label_names == ("a", "b")


def test_an_image_keeps_its_split_when_others_come(tmp_path):
    write(tmp_path, *(f"{name}/{i}.png" for name in "ab" for i in range(50)))
    before = {name: set(names(part)) for name, part in splits(ImageFolder, tmp_path).items()}
    write(tmp_path, *(f"{name}/{i}.png" for name in "ab" for i in range(50, 90)))
    after = {name: set(names(part)) for name, part in splits(ImageFolder, tmp_path).items()}
    assert all(before[name] < after[name] for name in before)


def test_fractions_are_kept(tmp_path):
    write(tmp_path, *(f"{name}/{i}.png" for name in "ab" for i in range(100)))
    found = splits(ImageFolder, tmp_path, fractions=(0.5, 0.5, 0.0))
    assert list(found) == ["train", "validation"]
    assert names(found["train"]) == sorted(
        name for name in (f"{c}/{i}.png" for c in "ab" for i in range(100)) if share(name) < 0.5
    )
    assert not found["train"].report


@pytest.mark.parametrize("fractions", [(0.5, 0.6, 0.1), (1.2, -0.2, 0.0), (0.8, 0.2)])
def test_fractions_that_are_none_are_an_error(tmp_path, fractions):
    write(tmp_path, "a/1.png")
    with pytest.raises(ValueError, match=r"add up to 1, such as \(0\.8, 0\.1, 0\.1\); got"):
        splits(ImageFolder, tmp_path, fractions=fractions)


def test_fractions_beside_splits_are_an_error(tmp_path):
    write(tmp_path, "train/a/1.png", "val/a/1.png")
    with pytest.raises(ValueError, match=r"has the splits 'train', 'val'.*Leave them out"):
        splits(ImageFolder, tmp_path, fractions=(0.8, 0.1, 0.1))


def test_parts_that_stay_empty_are_reported(tmp_path):
    write(tmp_path, "a/1.png", "b/1.png")
    low = sorted(["a/1.png", "b/1.png"], key=share)[0]
    cut = (share("a/1.png") + share("b/1.png")) / 2
    found = splits(ImageFolder, tmp_path, fractions=(cut, 0.0, 1 - cut))
    assert names(found["train"]) == [low]
    missing = "b" if low.startswith("a") else "a"
    assert found["train"].report.places["class without images in train"] == [missing]
    found = splits(ImageFolder, tmp_path, fractions=(0.999, 0.0005, 0.0005))
    assert list(found) == ["train"]
    assert found["train"].report.places == {
        "split that nothing fell into, left out": ["test", "validation"]
    }
    with pytest.raises(ValueError, match=r"None of the 2 files .* fell into train"):
        splits(ImageFolder, tmp_path, fractions=(0.0, 1.0, 0.0))
