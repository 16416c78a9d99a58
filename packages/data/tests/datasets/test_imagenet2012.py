"""TFDS's own imagenet2012, prepared from tiny archives with the command that the error gives."""

import io
import os
import re
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from scenax import data

_SYNSETS = ("n01440764", "n01443537", "n01484850", "n01491361")
_PER_SYNSET = 40
_RECIPE = {"randaugment_layers": 2, "randaugment_magnitude": 10, "mixup_alpha": 0.2}


def jpeg(number: int) -> bytes:
    """A ramp between two colours, of a size of its own; every fifth is grey."""
    rng = np.random.default_rng(number)
    width, height = rng.integers(40, 90, size=2)
    ramp = np.linspace(0, 1, width)[None, :, None] * np.linspace(0.5, 1, height)[:, None, None]
    pixels = rng.uniform(0, 100, 3) + ramp * rng.uniform(50, 155, 3)
    encoded = io.BytesIO()
    image = Image.fromarray(pixels.astype(np.uint8))
    (image.convert("L") if number % 5 == 0 else image).save(encoded, "jpeg", quality=95)
    return encoded.getvalue()


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def error_when_not_prepared(folder) -> str:
    with pytest.raises(FileNotFoundError) as caught:
        data.get_dataset("imagenet2012", batch_size=4, data_dir=str(folder))
    return str(caught.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the data were prepared as the error says: archives in manual_dir, then its command."""
    folder = tmp_path_factory.mktemp("imagenet")
    message = error_when_not_prepared(folder)
    manual_dir = re.search(r"manual_dir is (\S+)\. ", message).group(1)
    os.makedirs(manual_dir)
    with tarfile.open(f"{manual_dir}/ILSVRC2012_img_train.tar", "w") as archive:
        for label, synset in enumerate(_SYNSETS):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as images:
                for i in range(_PER_SYNSET):
                    add(images, f"{synset}_{i}.JPEG", jpeg(label * _PER_SYNSET + i))
            add(archive, f"{synset}.tar", inner.getvalue())
    with tarfile.open(f"{manual_dir}/ILSVRC2012_img_val.tar", "w") as archive:
        for i in range(10):
            add(archive, f"ILSVRC2012_val_{i + 1:08d}.JPEG", jpeg(1000 + i))

    command = re.search(r"^  python (-c .*)$", message, re.MULTILINE).group(1)
    ran = subprocess.run(
        f"{sys.executable} {command}", shell=True, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return str(folder)


def imagenet(folder, **options):
    small = {"batch_size": 8, "eval_batch_size": 4, "image_size": 32, "resize_to": 40}
    return data.get_dataset("imagenet2012", data_dir=folder, **(small | options))


def take(batches, count):
    read = [next(batches) for _ in range(count)]
    return {name: np.concatenate([batch[name] for batch in read]) for name in read[0]}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


def test_what_is_missing_and_how_to_prepare_it_is_said(tmp_path):
    message = error_when_not_prepared(tmp_path)
    root = tmp_path / "array_record"
    assert f"imagenet2012 is not prepared in {root / 'imagenet2012'}" in message
    assert "ILSVRC2012_img_train.tar" in message
    assert "https://image-net.org/download-images" in message
    assert f"manual_dir is {root / 'downloads' / 'manual'}" in message
    assert f'data_dir="{root}", file_format="array_record").download_and_prepare()' in message
    assert not root.exists()  # Asking writes nothing.


def test_a_copy_that_is_still_being_written_is_not_prepared(tmp_path):
    unfinished = tmp_path / "array_record" / "imagenet2012" / "incomplete.ABC_5.1.0"
    unfinished.mkdir(parents=True)
    (unfinished / "dataset_info.json").write_text("{}")
    assert "is not prepared" in error_when_not_prepared(tmp_path)


def test_meta_data_and_batches_agree(folder):
    dataset = imagenet(folder)
    info = dataset.meta_data
    assert info.input_shape == (32, 32, 3)
    assert info.targets == "class_id"
    assert info.num_classes == len(info.label_names) == 1000
    assert info.label_names[:4] == _SYNSETS
    assert dict(info.num_examples) == {"train": 158, "validation": 2, "test": 10}

    batch = next(dataset.train_iter)
    assert batch["inputs"].shape == (8, *info.input_shape)
    assert batch["inputs"].dtype == info.input_dtype
    assert batch["label"].dtype == np.int32
    assert batch["label"].shape == (8,)
    assert set(batch["label"]) <= set(range(4))
    assert np.abs(batch["inputs"]).max() <= 1


def test_all_splits_together_have_every_training_image_once(folder):
    dataset = imagenet(folder, batch_size=2, eval_batch_size=2)
    train = take(dataset.train_iter, 79)["label"]
    (validation,) = (batch["label"] for batch in dataset.valid_iter)
    counts = np.bincount(np.concatenate([train, validation]), minlength=1000)
    np.testing.assert_array_equal(counts[:4], _PER_SYNSET)
    assert counts.sum() == 4 * _PER_SYNSET


def test_evaluation_images_are_pillows_resize_and_central_crop(folder):
    batches = list(imagenet(folder).test_iter)
    found = np.concatenate([batch["inputs"][batch["batch_mask"] > 0] for batch in batches])
    expected = []
    for i in range(10):
        image = Image.open(io.BytesIO(jpeg(1000 + i))).convert("RGB")
        scale = 40 / min(image.size)
        size = tuple(round(side * scale) for side in image.size)
        left, top = (size[0] - 32) // 2, (size[1] - 32) // 2
        image = image.resize(size, Image.Resampling.BILINEAR)
        image = image.crop((left, top, left + 32, top + 32))
        expected.append(np.asarray(image, np.float32) / 127.5 - 1)
    # TFDS keeps the images in an order of its own.
    first_pixels = np.stack(expected)[None, :, 0, 0], found[:, None, 0, 0]
    match = np.abs(first_pixels[0] - first_pixels[1]).sum(axis=-1).argmin(axis=1)
    np.testing.assert_array_equal(np.sort(match), np.arange(10))
    np.testing.assert_allclose(found, np.stack(expected)[match], atol=1e-6)


def test_with_mixup_labels_are_shares_of_two_classes_everywhere(folder):
    dataset = imagenet(folder, **_RECIPE)
    assert dataset.meta_data.targets == "one_hot"
    labels = take(dataset.train_iter, 20)["label"]
    assert labels.shape == (160, 1000)
    assert labels.dtype == np.float32
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
    assert set((labels > 0).sum(axis=1)) == {1, 2}  # One where both were of one class.
    pairs = labels.reshape(-1, 2, 1000)
    plain = take(imagenet(folder).train_iter, 20)["label"].reshape(-1, 2)
    np.testing.assert_allclose(pairs.sum(axis=1), np.eye(1000)[plain].sum(axis=1), atol=1e-6)

    plain_test = [batch["label"] for batch in imagenet(folder).test_iter]
    for batch, classes in zip(dataset.test_iter, plain_test, strict=True):
        real = batch["batch_mask"] > 0
        assert batch["label"].dtype == np.float32
        np.testing.assert_array_equal(batch["label"][real], np.eye(1000)[classes[real]])


@pytest.mark.parametrize("options", [{}, _RECIPE], ids=["plain", "recipe"])
def test_batches_are_a_function_of_seed_and_position(folder, options):
    stream = imagenet(folder, seed=3, **options).train_iter
    take(stream, 19)  # Nearly an epoch.
    state = stream.get_state()
    expected = take(stream, 3)

    resumed = imagenet(folder, seed=3, **options).train_iter
    resumed.set_state(state)
    assert_equal(take(resumed, 3), expected)

    other_size = imagenet(folder, seed=3, batch_size=4, **options).train_iter
    other_size.set_state(state)
    assert_equal(take(other_size, 6), expected)

    other_seed = take(imagenet(folder, seed=4, **options).train_iter, 1)
    start = take(imagenet(folder, seed=3, **options).train_iter, 1)
    assert not np.array_equal(other_seed["inputs"], start["inputs"])


@pytest.mark.parametrize(("options", "unit"), [({}, 1), (_RECIPE, 2)], ids=["plain", "recipe"])
def test_two_hosts_together_read_what_one_reads(folder, options, unit):
    alone = take(imagenet(folder, **options).train_iter, 3)
    hosts = [
        take(imagenet(folder, process_index=h, process_count=2, **options).train_iter, 3)
        for h in range(2)
    ]
    for name, expected in alone.items():
        units = [part[name].reshape(-1, unit, *expected.shape[1:]) for part in hosts]
        together = np.stack(units, axis=1).reshape(expected.shape)
        np.testing.assert_array_equal(together, expected)


def test_epochs_show_the_same_image_in_other_ways(folder):
    stream = imagenet(folder, batch_size=158).train_iter
    first, second = next(stream), next(stream)
    np.testing.assert_array_equal(np.sort(first["label"]), np.sort(second["label"]))
    means = [np.sort(batch["inputs"].mean(axis=(1, 2, 3))) for batch in (first, second)]
    assert np.abs(means[0] - means[1]).max() > 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 64}, "image_size=64 and resize_to=40"),
        ({"randaugment_layers": 2, "randaugment_magnitude": 11}, "from 0 to 10, got 11"),
        ({"mixup_alpha": -0.2}, r"alpha above 0, got -0\.2"),
        ({"mixup": 0.2}, "Did you mean 'mixup_alpha'"),
    ],
)
def test_bad_options_are_named(folder, options, message):
    with pytest.raises(ValueError, match=message):
        imagenet(folder, **options)


def test_mixup_needs_an_even_batch_on_every_host(folder):
    dataset = imagenet(folder, batch_size=6, process_count=2, **_RECIPE)
    with pytest.raises(ValueError, match="batch_size must be a multiple of 4, got 6"):
        dataset.train_iter  # noqa: B018


def test_reading_does_not_import_tensorflow(folder):
    program = f"""
import sys
import scenax.data
dataset = scenax.data.get_dataset(
    "imagenet2012", batch_size=4, data_dir={folder!r}, randaugment_layers=2, mixup_alpha=0.2
)
next(dataset.train_iter)
next(iter(dataset.test_iter))
sys.exit("tensorflow" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
