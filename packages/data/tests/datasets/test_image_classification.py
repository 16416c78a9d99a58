"""Benchmarks: ImageNet from tiny archives, all of them from tiny copies; folders of one's own.

In the tiny copies, image ``i`` of a split is of one colour, which tells ``i`` from any crop of it.
"""

import io
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
from fractions import Fraction

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from scenax import data
from scenax.data.datasets._folders import DataWarning
from scenax.data.datasets.image_classification import BENCHMARKS
from scenax.data.prepare import prepare_image_folder
from scenax.data.reports import UnreadableError

_SYNSETS = ("n01440764", "n01443537", "n01484850", "n01491361")
_PER_SYNSET = 40


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

    command = re.search(r"^  python (-m scenax\.data .*)$", message, re.MULTILINE).group(1)
    ran = subprocess.run(
        f"{sys.executable} {command}", shell=True, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return str(folder)


def imagenet(folder, **options):
    small = {"batch_size": 8, "eval_batch_size": 4, "image_size": 32, "num_threads": 2}
    return data.get_dataset("imagenet2012", data_dir=folder, **(small | options))


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


def test_what_is_missing_and_how_to_prepare_it_is_said(tmp_path):
    message = error_when_not_prepared(tmp_path)
    assert f"imagenet2012 is not prepared in {tmp_path / 'imagenet2012'}" in message
    assert "ILSVRC2012_img_train.tar" in message
    assert "https://image-net.org/download-images" in message
    assert f"manual_dir is {tmp_path / 'downloads' / 'manual'}" in message
    assert f"  python -m scenax.data prepare imagenet2012 --data_dir={tmp_path}\n" in message
    assert not list(tmp_path.iterdir())  # Asking writes nothing.


def test_a_copy_that_is_still_being_written_is_not_prepared(tmp_path):
    unfinished = tmp_path / "imagenet2012" / "incomplete.ABC_5.1.0"
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


def test_all_splits_together_have_every_training_image_once(folder, take, evaluated):
    dataset = imagenet(folder, batch_size=2, eval_batch_size=2)
    train = take(dataset.train_iter, 79)["label"]
    validation = evaluated(dataset.valid_iter)["label"]
    counts = np.bincount(np.concatenate([train, validation]), minlength=1000)
    np.testing.assert_array_equal(counts[:4], _PER_SYNSET)
    assert counts.sum() == 4 * _PER_SYNSET


def central(image: Image.Image, smaller_side: int, size: int) -> np.ndarray:
    """Pillow's resize and central crop, uint8; sizes and places as torchvision rounds them."""
    sides = tuple(int(Fraction(side * smaller_side, min(image.size))) for side in image.size)
    left, top = (round((side - size) / 2) for side in sides)
    resized = image.resize(sides, Image.Resampling.BILINEAR)
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def test_evaluation_images_are_pillows_resize_and_central_crop(folder, evaluated):
    found = evaluated(imagenet(folder).test_iter)["inputs"]
    images = [Image.open(io.BytesIO(jpeg(1000 + i))).convert("RGB") for i in range(10)]
    # 256 pixels for 224, so 36.6 for 32.
    expected = np.stack([central(image, 37, 32) for image in images]).astype(np.float32) / 127.5 - 1
    # TFDS keeps the images in an order of its own.
    distances = np.abs(expected[None, :, 0, 0] - found[:, None, 0, 0]).sum(axis=-1)
    match = distances.argmin(axis=1)
    np.testing.assert_array_equal(np.sort(match), np.arange(10))
    np.testing.assert_allclose(found, expected[match], atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"repeats": 3}], ids=["plain", "repeated"])
def test_batches_are_a_function_of_seed_and_position(folder, options, take):
    stream = imagenet(folder, seed=3, **options).train_iter
    take(stream, 19)  # Nearly an epoch of 158.
    state = stream.get_state()
    expected = take(stream, 3)

    resumed = imagenet(folder, seed=3, num_threads=1, **(options)).train_iter
    resumed.set_state(state)
    assert_equal(take(resumed, 3), expected)

    other_size = imagenet(folder, seed=3, batch_size=4, **options).train_iter
    other_size.set_state(state)
    assert_equal(take(other_size, 6), expected)

    other_seed = take(imagenet(folder, seed=4, **options).train_iter, 1)
    start = take(imagenet(folder, seed=3, **options).train_iter, 1)
    assert not np.array_equal(other_seed["inputs"], start["inputs"])


def test_two_hosts_together_read_what_one_reads(folder, take, evaluated):
    alone = imagenet(folder)
    hosts = [imagenet(folder, process_index=h, process_count=2) for h in range(2)]
    read = [take(host.train_iter, 3) for host in hosts]
    for name, expected in take(alone.train_iter, 3).items():
        together = np.stack([part[name] for part in read], axis=1).reshape(expected.shape)
        np.testing.assert_array_equal(together, expected)
    tests = [evaluated(host.test_iter)["inputs"] for host in hosts]
    together = np.stack(tests, axis=1).reshape(10, 32, 32, 3)
    np.testing.assert_array_equal(together, evaluated(alone.test_iter)["inputs"])


def test_epochs_show_the_same_image_in_other_ways(folder):
    stream = imagenet(folder, batch_size=158).train_iter
    first, second = next(stream), next(stream)
    np.testing.assert_array_equal(np.sort(first["label"]), np.sort(second["label"]))
    means = [np.sort(batch["inputs"].mean(axis=(1, 2, 3))) for batch in (first, second)]
    assert np.abs(means[0] - means[1]).max() > 0.01


def test_a_repeated_example_is_transformed_anew(folder, take):
    found = take(imagenet(folder, repeats=2).train_iter, 4)
    labels = found["label"].reshape(-1, 2)
    np.testing.assert_array_equal(labels[:, 0], labels[:, 1])
    first, second = found["inputs"].reshape(16, 2, 32, 32, 3).swapaxes(0, 1)
    assert (np.abs(first - second).max(axis=(1, 2, 3)) > 0).all()


def test_one_hot_labels_are_vectors_everywhere(folder, take, evaluated):
    plain, dataset = imagenet(folder), imagenet(folder, one_hot=True)
    assert dataset.meta_data.targets == "one_hot"
    labels = take(dataset.train_iter, 2)["label"]
    assert labels.dtype == np.float32
    rows = np.eye(1000)
    np.testing.assert_array_equal(labels, rows[take(plain.train_iter, 2)["label"]])
    found, wanted = (evaluated(each.test_iter)["label"] for each in (dataset, plain))
    np.testing.assert_array_equal(found, rows[wanted])


def test_a_models_own_mean_and_deviation_are_applied(folder, take):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    plain = (take(imagenet(folder).train_iter, 1)["inputs"] + 1) / 2
    own = {"name": "image.Normalize", "args": {"mean": mean, "std": std}}
    found = take(imagenet(folder, normalize=own).train_iter, 1)["inputs"]
    np.testing.assert_allclose(found, (plain - np.array(mean)) / np.array(std), atol=1e-5)


def test_other_transforms_take_the_place_of_the_datasets_own(folder, take, evaluated):
    squeezed = [{"name": "geometry.Resize", "args": {"height": 20, "width": 24}}]
    dataset = imagenet(folder, train_transforms=squeezed, eval_transforms=squeezed)
    assert dataset.meta_data.input_shape == (20, 24, 3)
    assert take(dataset.train_iter, 1)["inputs"].shape == (8, 20, 24, 3)
    found = evaluated(dataset.test_iter)["inputs"]
    image = Image.open(io.BytesIO(jpeg(1003))).convert("RGB").resize((24, 20), Image.BILINEAR)
    wanted = np.asarray(image, np.float32) / 127.5 - 1
    assert np.abs(found - wanted).max(axis=(1, 2, 3)).min() < 1e-6


@pytest.mark.parametrize("cache", ["memory", "disk", "decoded_memory", "decoded_disk"])
def test_what_was_read_before_is_the_same(folder, cache, take, tmp_path, monkeypatch):
    monkeypatch.setenv("SCENAX_CACHE_DIR", str(tmp_path))
    expected = take(imagenet(folder).train_iter, 2)
    for _ in range(2):
        dataset = imagenet(folder, cache=cache)
        assert_equal(take(dataset.train_iter, 2), expected)
        assert_equal(take(dataset.train_iter, 2), expected)
    assert any(tmp_path.rglob("*.npz")) == cache.endswith("disk")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size must be at least 1, got 0"),
        ({"one_hott": True}, "Did you mean 'one_hot'"),
        ({"process_count": 3}, "multiple of the 3 host"),
    ],
)
def test_bad_options_are_named(folder, options, message):
    with pytest.raises(ValueError, match=message):
        imagenet(folder, **options)


def test_reading_does_not_import_tensorflow(folder, copies):
    program = f"""
import sys
import scenax.data
for name, folder in {{"imagenet2012": {folder!r}, "mnist": {copies!r}, "dtd": {copies!r}}}.items():
    dataset = scenax.data.get_dataset(name, batch_size=4, data_dir=folder, image_size=32)
    next(dataset.train_iter)
    next(iter(dataset.test_iter))
sys.exit("tensorflow" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# What is read, and how much of which of TFDS's splits it is.
_TEST = {"test": {"test": 9}}
_98_2 = {"train": {"train": 98, "validation": 2}} | _TEST
_99_1 = {"train": {"train": 99, "validation": 1}, "validation": {"test": 8}}
_ALL = {"train": {"train": 100}, "validation": {"validation": 8}} | _TEST
_RGB = (224, 224, 3)
_TABLE = {
    # Name: classes, inputs, and by TFDS's split how many examples of it go where.
    "imagenet2012": (1000, _RGB, _99_1),
    "imagenet2012_subset/1pct": (1000, _RGB, _99_1),
    "imagenet2012_subset/10pct": (1000, _RGB, _99_1),
    "imagenet2012_real": (1000, _RGB, {"validation": {"test": 8}}),
    "imagenet_v2": (1000, _RGB, _TEST),
    "imagenet_a": (1000, _RGB, _TEST),
    "imagenet_r": (1000, _RGB, _TEST),
    "imagenet_sketch": (1000, _RGB, _TEST),
    "imagenet21k": (5, _RGB, {"train": {"train": 99, "validation": 1}}),
    "cifar10": (10, (32, 32, 3), _98_2),
    "cifar100": (100, (32, 32, 3), _98_2),
    "mnist": (10, (28, 28, 1), _98_2),
    "fashion_mnist": (10, (28, 28, 1), _98_2),
    "svhn_cropped": (10, (32, 32, 3), _98_2 | {"extra": {}}),
    "eurosat": (10, (64, 64, 3), {"train": {"train": 80, "validation": 10, "test": 10}}),
    "oxford_iiit_pet": (37, _RGB, _98_2),
    "oxford_flowers102": (102, _RGB, _ALL),
    "dtd": (47, _RGB, _ALL),
    "stanford_dogs": (120, _RGB, _98_2),
    "food101": (101, _RGB, _99_1),
    "places365_small": (365, _RGB, _99_1 | {"test": {}}),
}
_OF_21K = ("n00005787", "n00006484", "n00007846", "n00015388", "n00017222")
_OF_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse")
_OF_CIFAR10 += ("ship", "truck")
_IN_ARRAY_RECORD = ("imagenet2012_real", "cifar10", "mnist", "eurosat", "dtd")


def label_of(number: int, classes: int) -> int:
    return 7 * number % classes


def real_labels_of(number: int) -> list[int]:
    """None, one or two classes."""
    return [number, 500 + number][: number % 3]


def flat(number: int, channels: int, side: int, encoding: str) -> bytes:
    """An image of the one grey that stands for a number."""
    encoded = io.BytesIO()
    size = (side, side) if side else (16 + number % 9, 18 + number % 5)
    Image.new("L" if channels == 1 else "RGB", size, (2 * number + 10,) * channels).save(
        encoded, encoding, quality=95
    )
    return encoded.getvalue()


def numbers_of(inputs: np.ndarray) -> np.ndarray:
    """The numbers of flat images, by their central pixels."""
    centre = inputs[:, inputs.shape[1] // 2, inputs.shape[2] // 2, 0]
    numbers = ((centre + 1) * 127.5 - 10) / 2
    np.testing.assert_allclose(numbers, numbers.round(), atol=1e-3)
    return numbers.round().astype(int)


def flat_rows(name: str, count: int):
    classes, (_, _, channels), _ = _TABLE[name]
    side = BENCHMARKS[name].image_size if BENCHMARKS[name].small else 0
    encoding = "jpeg" if name.startswith("imagenet") else "png"
    for i in range(count):
        row = {"image": flat(i, channels, side, encoding)}
        if name == "imagenet2012_real":
            yield row | {"real_label": real_labels_of(i)}
        else:
            yield row | {"label": label_of(i, classes)}


def write(write_copy, name, folder, **options) -> None:
    if name == "imagenet21k":  # TFDS has no builder for it.
        label = tfds.features.ClassLabel(names=list(_OF_21K))
        kinds = {"image": tfds.features.Image(encoding_format="jpeg"), "label": label}
        options["features"] = tfds.features.FeaturesDict(kinds)
    if name == "cifar10":
        options["class_names"] = {"label": list(_OF_CIFAR10)}
    sizes = {split: sum(parts.values()) or 3 for split, parts in _TABLE[name][2].items()}
    splits = {split: list(flat_rows(name, size)) for split, size in sizes.items()}
    write_copy(name, folder, splits, **options)


@pytest.fixture(scope="module")
def copies(tmp_path_factory, write_copy):
    folder = tmp_path_factory.mktemp("copies")
    for name in _TABLE:
        write(write_copy, name, folder)
    return str(folder)


def test_the_table_has_every_benchmark():
    assert _TABLE.keys() == BENCHMARKS.keys()
    assert _TABLE.keys() <= set(data.list_datasets())


def counts_of(name: str) -> dict[str, int]:
    """How many examples each split has."""
    return {split: n for parts in _TABLE[name][2].values() for split, n in parts.items()}


def tiny(name, folder, **options):
    size = {} if BENCHMARKS[name].small else {"image_size": 14}
    small = {"batch_size": 1, "eval_batch_size": 4, "num_threads": 2}
    return data.get_dataset(name, data_dir=folder, **(small | size | options))


@pytest.mark.parametrize("name", _TABLE)
def test_a_benchmark_is_as_it_was_published(copies, name, tmp_path):
    classes, shape, _ = _TABLE[name]
    counts = counts_of(name)
    dataset = data.get_dataset(name, batch_size=1, data_dir=copies, num_threads=2)
    info = dataset.meta_data
    assert info.name == name
    assert info.num_classes == len(info.label_names) == classes
    assert info.input_shape == shape
    assert dict(info.num_examples) == counts
    assert info.targets == ("multi_hot" if name == "imagenet2012_real" else "class_id")
    if name in ("imagenet21k", "cifar10"):
        assert info.label_names == (_OF_21K if name == "imagenet21k" else _OF_CIFAR10)
    else:
        kinds = tfds.builder(name, data_dir=tmp_path).info.features
        label = kinds["real_label"].feature if "real_label" in kinds else kinds["label"]
        assert info.label_names == tuple(label.names)

    batches = {"train": lambda: dataset.train_iter, "test": lambda: iter(dataset.test_iter)}
    for split in counts.keys() & batches.keys():
        batch = next(batches[split]())
        assert batch["inputs"].shape == (1, *shape)
        assert batch["inputs"].dtype == info.input_dtype == "float32"
        vector = name == "imagenet2012_real"
        assert batch["label"].shape == ((1, classes) if vector else (1,))
        assert batch["label"].dtype == (np.float32 if vector else np.int32)


def test_names_of_classes_are_words(copies):
    names = {name: tiny(name, copies).meta_data.label_names for name in ("mnist", "food101")}
    assert names["food101"][::100] == ("apple_pie", "waffles")
    assert names["mnist"] == tuple("0123456789")


@pytest.mark.parametrize("name", [name for name in _TABLE if name != "imagenet2012_real"])
def test_every_image_is_in_one_split_with_its_label(copies, name, take, evaluated):
    classes, _, sources = _TABLE[name]
    dataset, counts = tiny(name, copies), counts_of(name)
    readers = {
        "train": lambda: take(dataset.train_iter, counts["train"]),
        "validation": lambda: evaluated(dataset.valid_iter),
        "test": lambda: evaluated(dataset.test_iter),
    }
    numbers = {}
    for split in counts:
        found = readers[split]()
        numbers[split] = numbers_of(found["inputs"])
        wanted = [label_of(number, classes) for number in numbers[split]]
        np.testing.assert_array_equal(found["label"], wanted)
        assert len(wanted) == counts[split]
    for parts in sources.values():
        if parts:
            together = np.concatenate([numbers[split] for split in parts])
            np.testing.assert_array_equal(np.sort(together), np.arange(sum(parts.values())))


def test_real_labels_are_any_number_of_classes(copies):
    dataset = tiny("imagenet2012_real", copies, eval_batch_size=5)
    seen = []
    for batch in dataset.test_iter:
        for inputs, label, counted in zip(*(batch[key] for key in _REAL), strict=True):
            if not inputs.any() and not counted:  # The padding of the last batch.
                continue
            (number,) = numbers_of(inputs[None])
            wanted = real_labels_of(number)
            assert np.flatnonzero(label).tolist() == wanted
            assert label.sum() == len(wanted)
            assert counted == (1.0 if wanted else 0.0)
            seen.append(number)
    assert sorted(seen) == list(range(8))


_REAL = ("inputs", "label", "batch_mask")


def test_images_that_are_small_are_shifted_and_flipped_where_that_keeps_the_class(
    tmp_path, write_copy, png, take
):
    size = 28
    columns = np.broadcast_to(np.arange(10, 38, dtype=np.uint8)[:, None], (size, size, 1))
    rows = [{"image": png(columns), "label": 3}] * 50
    for name in ("mnist", "fashion_mnist"):
        write_copy(name, tmp_path, {"train": rows, "test": rows[:2]})
        found = take(tiny(name, str(tmp_path)).train_iter, 48)["inputs"]
        pixels = ((found + 1) * 127.5).round().astype(int)
        # Columns count up, or down in a mirror; zeros come in where it was shifted away.
        middle = pixels[:, size // 2, :, 0]
        steps = np.diff(middle[:, 4:-4], axis=1)
        assert {int(row[0]) for row in steps} == ({1} if name == "mnist" else {1, -1})
        assert (steps == steps[:, :1]).all()
        shifts = middle[steps[:, 0] == 1][:, 14] - 24
        assert set(shifts) <= set(range(-3, 4))
        assert len(set(shifts)) > 3
        plain = next(iter(tiny(name, str(tmp_path), eval_batch_size=2).test_iter))["inputs"]
        np.testing.assert_allclose((plain[0, 5, :, 0] + 1) * 127.5, np.arange(10, 38), atol=1e-4)


@pytest.mark.parametrize("name", _IN_ARRAY_RECORD)
def test_array_record_files_are_read_like_tfrecord_files(
    copies, name, write_copy, tmp_path, take, evaluated
):
    write(write_copy, name, tmp_path, file_format="array_record")
    assert list(tmp_path.rglob("*.array_record-*"))
    one, other = tiny(name, copies), tiny(name, str(tmp_path))
    assert one.meta_data == other.meta_data
    assert_equal(evaluated(other.test_iter), evaluated(one.test_iter))
    if "train" in counts_of(name):
        assert_equal(take(other.train_iter, 5), take(one.train_iter, 5))


def test_a_prepared_file_that_is_cut_off_is_named(write_copy, tmp_path):
    write(write_copy, "mnist", tmp_path)
    (path,) = tmp_path.rglob("mnist-test.tfrecord-*")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UnreadableError, match=rf"{path} is cut off in record 8"):
        list(tiny("mnist", str(tmp_path)).test_iter)


def photo(number: int, width: int = 24, height: int = 20) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
    )


def photos(root: pathlib.Path, *, count: int = 4, classes=("cat", "dog")) -> pathlib.Path:
    """Writes PNG files; the label of each can be told from its number, of which it is made."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            photo(100 * label + i).save(root / name / f"{i}.png")
    return root


def photo_folder(root, **options):
    small = {"batch_size": 2, "eval_batch_size": 2, "image_size": 14, "num_threads": 2}
    return data.get_dataset("image_folder", data_dir=str(root), **(small | options))


def as_inputs(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / 127.5 - 1


def test_a_folder_with_splits_is_read_by_class(tmp_path, take, evaluated):
    for split, count in {"train": 4, "val": 3, "test": 1}.items():
        photos(tmp_path / split, count=count)
    dataset = photo_folder(tmp_path)
    info = dataset.meta_data
    assert info.label_names == ("cat", "dog")
    assert info.input_shape == (14, 14, 3)
    assert dict(info.num_examples) == {"train": 8, "validation": 6, "test": 2}
    assert sorted(take(dataset.train_iter, 4)["label"]) == [0] * 4 + [1] * 4
    found = evaluated(dataset.valid_iter)
    assert found["label"].tolist() == [0, 0, 0, 1, 1, 1]
    wanted = [central(photo(number), 16, 14) for number in (0, 1, 2, 100, 101, 102)]
    np.testing.assert_allclose(found["inputs"], as_inputs(np.stack(wanted)), atol=1e-6)
    hot = photo_folder(tmp_path, one_hot=True)
    assert hot.meta_data.targets == "one_hot"
    np.testing.assert_array_equal(evaluated(hot.test_iter)["label"], np.eye(2))


@pytest.fixture(scope="module")
def divided(tmp_path_factory):
    """A folder whose folders are the classes."""
    return photos(tmp_path_factory.mktemp("divided"), count=40)


def test_a_folder_without_splits_is_divided_by_a_hash(divided, tmp_path, take, evaluated):
    counts = dict(photo_folder(divided).meta_data.num_examples)
    assert sum(counts.values()) == 80
    assert 52 <= counts["train"] <= 76  # 64 on average.
    dataset = photo_folder(divided, batch_size=1, eval_transforms=[_SAME], train_transforms=[_SAME])
    splits = {
        "train": take(dataset.train_iter, counts["train"]),
        "validation": evaluated(dataset.valid_iter),
        "test": evaluated(dataset.test_iter),
    }
    sets = {split: {x.tobytes() for x in found["inputs"]} for split, found in splits.items()}
    assert {split: len(each) for split, each in sets.items()} == counts
    images = np.concatenate([found["inputs"] for found in splits.values()])
    labels = np.concatenate([found["label"] for found in splits.values()])
    wanted = as_inputs(np.stack([photo(100 * k + i) for k in range(2) for i in range(40)]))
    distances = np.abs(images[:, None, 0, 0] - wanted[None, :, 0, 0]).sum(axis=-1)
    which = distances.argmin(axis=1)
    np.testing.assert_array_equal(np.sort(which), np.arange(80))
    np.testing.assert_allclose(images, wanted[which], atol=1e-6)
    np.testing.assert_array_equal(labels, which // 40)

    # One more file leaves the others where they are.
    copied = shutil.copytree(divided, tmp_path / "copy")
    photo(999).save(copied / "dog" / "new.png")
    more = photo_folder(copied, batch_size=1, eval_transforms=[_SAME])
    again = {x.tobytes() for x in evaluated(more.test_iter)["inputs"]}
    assert sets["test"] <= again
    assert len(again) <= counts["test"] + 1


_SAME = {"name": "geometry.Resize", "args": {"height": 20, "width": 24}}


@pytest.mark.parametrize("layout", ["splits", "divided"])
def test_after_preparing_batches_are_what_they_were(layout, divided, tmp_path, take, evaluated):
    root = divided
    if layout == "splits":
        for split, count in {"train": 5, "val": 3, "test": 2}.items():
            photos(tmp_path / "photos" / split, count=count)
        root = tmp_path / "photos"
    out = tmp_path / "prepared"
    prepared = prepare_image_folder(root, out, images_per_file=3)
    before, after = photo_folder(root), photo_folder(out)
    assert before.meta_data == after.meta_data
    assert dict(prepared.counts) == dict(before.meta_data.num_examples)
    assert_equal(take(after.train_iter, 3), take(before.train_iter, 3))
    assert_equal(evaluated(after.valid_iter), evaluated(before.valid_iter))
    assert_equal(evaluated(after.test_iter), evaluated(before.test_iter))


def test_what_is_odd_about_a_folder_is_said(tmp_path):
    photos(tmp_path / "train")
    (tmp_path / "train" / "dog" / "notes.txt").write_text("x")
    (tmp_path / "train" / "dog" / "hollow.png").write_bytes(b"")
    with pytest.warns(DataWarning) as caught:
        photo_folder(tmp_path)
    (warning,) = caught
    assert "not an image, left out: 1 (dog/notes.txt)" in str(warning.message)
    assert "empty file: 1 (dog/hollow.png)" in str(warning.message)


def test_a_folder_is_wanted(tmp_path):
    with pytest.raises(ValueError, match="image_folder reads a folder of your own"):
        data.get_dataset("image_folder", batch_size=2)
    with pytest.raises(FileNotFoundError, match="no folder"):
        photo_folder(tmp_path / "nowhere")
    photos(tmp_path / "train")
    with pytest.raises(ValueError, match="image_size must be at least 1, got 0"):
        photo_folder(tmp_path, image_size=0)


@pytest.fixture
def broken(tmp_path):
    """A folder of which a test image is cut off, another no image, and a training image too."""
    for split in ("train", "test"):
        photos(tmp_path / split, count=3)
    whole = (tmp_path / "test" / "cat" / "1.png").read_bytes()
    (tmp_path / "test" / "cat" / "1.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "test" / "dog" / "2.png").write_bytes(b"<html>404</html>")
    (tmp_path / "train" / "dog" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return tmp_path


def test_images_that_cannot_be_read_are_errors(broken):
    dataset = photo_folder(broken)
    with pytest.raises(UnreadableError, match=r"cat/1\.png \(\d+ bytes\)"):
        list(dataset.test_iter)
    with pytest.raises(UnreadableError, match=r"dog/0\.png \(8 bytes\)"):
        for _, batch in zip(range(6), dataset.train_iter, strict=False):
            assert batch


def test_images_that_cannot_be_read_are_left_out_if_asked_for(broken, take):
    dataset = photo_folder(broken, unreadable="skip")
    assert not dataset.report
    batches = list(dataset.test_iter)
    joined = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    assert joined["batch_mask"].tolist() == [1, 0, 1, 1, 1, 0]
    assert joined["label"].tolist() == [0, 0, 0, 1, 1, 0]
    assert not joined["inputs"][[1, 5]].any()
    assert joined["inputs"][[0, 2, 3, 4]].any(axis=(1, 2, 3)).all()
    assert np.abs(joined["inputs"]).max() <= 1
    said = str(dataset.report)
    assert "unreadable, left out: 2" in said
    assert "cat/1.png" in said
    assert "dog/2.png" in said

    train = take(dataset.train_iter, 3)
    assert train["batch_mask"].sum() == 5
    assert sorted(train["label"][train["batch_mask"] > 0]) == [0, 0, 0, 1, 1]
    assert "dog/0.png (8 bytes)" in str(dataset.report)


def test_files_of_every_mode_are_in_one_folder(tmp_path, evaluated):
    """16 x 16 pixels, of which the central 14 x 14 are seen."""
    photos(tmp_path / "train", count=1)
    folder = tmp_path / "test" / "cat"
    folder.mkdir(parents=True)
    (tmp_path / "test" / "dog").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 4), np.uint8)
    Image.fromarray(noise[..., 0].astype(np.uint16) * 257).save(folder / "a16.png")
    cmyk = Image.fromarray(noise[..., :3]).convert("CMYK")
    cmyk.save(folder / "b.tiff")
    cmyk.save(folder / "c.jpg", quality=95)
    Image.fromarray(noise).save(folder / "d_rgba.png")
    turned = Image.new("RGB", (16, 16), (9, 9, 9))
    turned.paste((200, 200, 200), (0, 0, 16, 8))  # The upper half is light.
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned clockwise by a quarter: then the right half is.
    turned.save(folder / "e_exif.png", exif=exif)
    turned.save(folder / "f_exif.jpg", exif=exif, quality=95)
    turned.convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "g.gif")
    Image.fromarray(noise[..., 0] > 99).save(folder / "h.png")

    with pytest.warns(DataWarning, match="folder without images, left out"):
        found = evaluated(photo_folder(tmp_path).test_iter)["inputs"]
    pixels = ((found + 1) * 127.5).round().astype(int)
    assert pixels.shape == (8, 14, 14, 3)
    inner = np.s_[1:15, 1:15]
    grey = np.repeat(noise[..., :1], 3, axis=-1)
    np.testing.assert_array_equal(pixels[0], grey[inner])
    np.testing.assert_array_equal(pixels[1], np.asarray(cmyk.convert("RGB"))[inner])
    decoded = np.asarray(Image.open(folder / "c.jpg").convert("RGB"))
    np.testing.assert_array_equal(pixels[2], decoded[inner])
    np.testing.assert_array_equal(pixels[3], noise[..., :3][inner])
    light = np.zeros((16, 16, 3), int) + 9
    light[:, 8:] = 200
    np.testing.assert_array_equal(pixels[4], light[inner])
    np.testing.assert_allclose(pixels[5], light[inner], atol=3)
    np.testing.assert_array_equal(pixels[6], light.swapaxes(0, 1)[::-1][inner])
    np.testing.assert_array_equal(pixels[7], (grey > 99)[inner] * 255)
