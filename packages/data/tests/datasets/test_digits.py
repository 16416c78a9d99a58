import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn import datasets as sklearn_datasets

from scenax import data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def digits(folder):
    return data.get_dataset("digits", batch_size=16, eval_batch_size=100, data_dir=folder)


def rows(batches, count=None):
    """All real examples of an evaluation split as rows of 64 counts from 0 to 16 and a label."""
    images, labels = [], []
    for batch in batches:
        real = batch["batch_mask"] > 0
        images.append((batch["inputs"][real] + 1) * 8)
        labels.append(batch["label"][real])
    images = np.concatenate(images).reshape(-1, 64)
    return images, np.concatenate(labels)


def split_rows(dataset):
    """The rows of every split, the training split's read as an epoch of its stream."""
    count = dataset.meta_data.num_examples["train"]
    stream = dataset.train_iter
    images, labels = [], []
    while len(images) * 16 < count:
        batch = next(stream)
        images.append((batch["inputs"] + 1) * 8)
        labels.append(batch["label"])
    train = np.concatenate(images).reshape(-1, 64)[:count], np.concatenate(labels)[:count]
    return {"train": train, "validation": rows(dataset.valid_iter), "test": rows(dataset.test_iter)}


def test_the_splits_are_scikit_learns_digits_and_never_overlap(digits):
    splits = split_rows(digits)
    assert {name: len(labels) for name, (_, labels) in splits.items()} == dict(
        digits.meta_data.num_examples
    )
    images = np.concatenate([images for images, _ in splits.values()])
    labels = np.concatenate([labels for _, labels in splits.values()])
    found = {
        tuple(np.round(image).astype(int)): label
        for image, label in zip(images, labels, strict=True)
    }

    bunch = sklearn_datasets.load_digits()
    wanted = {tuple(x.astype(int)): y for x, y in zip(bunch.data, bunch.target, strict=True)}
    assert len(wanted) == len(bunch.data) == len(images)  # No image is there twice.
    assert found == wanted
    np.testing.assert_allclose(images, np.round(images), atol=0.04)  # The rounding to 8 bits.


def test_splits_are_as_they_ever_were(digits):
    assert dict(digits.meta_data.num_examples) == {"train": 1255, "validation": 168, "test": 374}
    first = next(iter(digits.test_iter))
    assert first["label"][:12].tolist() == [5, 0, 1, 0, 4, 6, 0, 3, 4, 8, 8, 1]
    batch = next(digits.train_iter)
    assert batch["label"].tolist() == [8, 6, 8, 6, 2, 7, 5, 1, 7, 6, 7, 1, 5, 7, 2, 0]


def test_batches_are_as_the_meta_data_say(digits):
    batch = next(digits.train_iter)
    info = digits.meta_data
    assert batch["inputs"].shape == (16, *info.input_shape)
    assert batch["inputs"].dtype == info.input_dtype
    assert batch["inputs"].min() == -1
    assert batch["inputs"].max() == 1
    assert batch["label"].dtype == np.int32
    assert batch["batch_mask"].tolist() == [1.0] * 16
    assert set(batch["label"]) <= set(range(info.num_classes))


def test_augmentation_moves_training_images_only(folder, digits):
    moved = data.get_dataset(
        "digits", batch_size=16, eval_batch_size=100, data_dir=folder, augment="affine"
    )
    plain, other = next(digits.train_iter), next(moved.train_iter)
    np.testing.assert_array_equal(plain["label"], other["label"])
    change = np.abs(plain["inputs"] - other["inputs"]).mean(axis=(1, 2, 3))
    assert np.all(change > 0)
    assert np.all(change < 0.8)
    for a, b in zip(digits.test_iter, moved.test_iter, strict=True):
        np.testing.assert_array_equal(a["inputs"], b["inputs"])


def test_a_wrong_augmentation_is_named(folder):
    with pytest.raises(ValueError, match="'none' or 'affine', got 'flip'"):
        data.get_dataset("digits", batch_size=16, data_dir=folder, augment="flip")


def test_a_folder_that_cannot_be_written_is_named():
    with pytest.raises(OSError, match="/proc/nowhere"):
        data.get_dataset("digits", batch_size=16, data_dir="/proc/nowhere")


def test_plain_tfds_load_knows_the_digits(tmp_path, digits):
    """In a process of its own: TensorFlow's import warns, and takes long."""
    program = f"""
import collections
from scenax import data
import tensorflow_datasets as tfds
datasets, info = tfds.load("digits", data_dir={str(tmp_path)!r}, with_info=True)
assert info.features["image"].shape == (8, 8, 1), info
print({{name: len(list(split.as_numpy_iterator())) for name, split in datasets.items()}})
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == str(
        {name: digits.meta_data.num_examples[name] for name in ("train", "validation", "test")}
    )


def test_reading_digits_does_not_import_tensorflow(folder):
    program = f"""
import sys
from scenax import data
batches = data.get_dataset("digits", batch_size=8, data_dir={folder!r}).train_iter
next(batches)
sys.exit("tensorflow" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_some_classes_alone_and_larger_images(tmp_path):
    def read(**options):
        dataset = data.get_dataset(
            "digits", batch_size=8, eval_batch_size=512, data_dir=str(tmp_path), **options
        )
        batch = next(iter(dataset.test_iter))
        return dataset.meta_data, {k: v[batch["batch_mask"] > 0] for k, v in batch.items()}

    _, every = read()
    info, some = read(classes=(7, 2), image_size=16)
    assert (info.label_names, info.num_classes, info.input_shape) == (("7", "2"), 2, (16, 16, 1))
    kept = np.isin(every["label"], [7, 2])
    np.testing.assert_array_equal(some["label"], np.where(every["label"][kept] == 7, 0, 1))
    for small, large in zip(every["inputs"][kept], some["inputs"], strict=True):
        pixels = Image.fromarray(np.round((small[..., 0] + 1) * 127.5).astype(np.uint8))
        wanted = np.asarray(pixels.resize((16, 16), Image.Resampling.BILINEAR)) / 127.5 - 1
        np.testing.assert_allclose(large[..., 0], wanted, atol=1.01 / 127.5)


@pytest.mark.parametrize(
    "options", [{"classes": ()}, {"classes": (1, 1)}, {"classes": (10,)}, {"image_size": 7}]
)
def test_other_classes_and_sizes_are_refused(options):
    with pytest.raises(ValueError, match=r"different digits from 0 to 9|at least 8"):
        data.get_dataset("digits", batch_size=8, **options)
