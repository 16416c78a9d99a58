"""Image classification: benchmarks under their names in TFDS, and folders of one's own.

Benchmarks are split and prepared as papers do it. Photographs of any size are inception crops with
flips in training, and resized and cropped centrally in evaluation ("Better plain ViT baselines for
ImageNet-1k", arXiv 2205.01580); small images keep their size, and are shifted and, where a mirror
image is one of the same class, flipped (as in ResNet's CIFAR experiments, arXiv 1512.03385).
Validation is a part of the training split wherever a benchmark has no validation split of its own,
since a test split is for testing.

ImageNet: Russakovsky et al., arXiv 1409.0575; ReaL: Beyer et al., arXiv 2006.07159; V2: Recht et
al., arXiv 1902.10811; A: Hendrycks et al., arXiv 1907.07174; R: arXiv 2006.16241; Sketch: Wang et
al., arXiv 1905.13549; ImageNet-21k: arXiv 2104.10972. The others are described in TFDS's catalogue.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from scenax.common.contracts import DatasetInfo, Targets
from scenax.data import _registry, pipeline
from scenax.data.caching import Mapped
from scenax.data.datasets import _folders
from scenax.data.examples import Example, Source, Transform
from scenax.data.sources import class_folder
from scenax.data.sources import tfds as tfds_source
from scenax.data.sources.image_folder import ImageFolder
from scenax.data.transforms import geometry, image, targets

_CARVED = {"train": "train[:98%]", "validation": "train[98%:]", "test": "test"}
_ONE_SPLIT = {"train": "train[:80%]", "validation": "train[80%:90%]", "test": "train[90%:]"}
_THREE = {"train": "train", "validation": "validation", "test": "test"}
_IMAGENET = {"train": "train[:99%]", "validation": "train[99%:]", "test": "validation"}
_TEST_ONLY = {"test": "test"}


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A dataset's splits in TFDS's notation, and how it is prepared.

    ``small`` images have ``image_size`` pixels a side and are resized if others are asked for;
    others are cropped to ``image_size``, in evaluation from a smaller side that is 8/7 as long.
    """

    splits: Mapping[str, str]
    image_size: int = 224
    small: bool = False
    flips: bool = True
    label: str = "label"


BENCHMARKS = {
    "imagenet2012": Benchmark(_IMAGENET),
    "imagenet2012_subset/1pct": Benchmark(_IMAGENET),
    "imagenet2012_subset/10pct": Benchmark(_IMAGENET),
    "imagenet2012_real": Benchmark({"test": "validation"}, label="real_label"),
    "imagenet_v2": Benchmark(_TEST_ONLY),
    "imagenet_a": Benchmark(_TEST_ONLY),
    "imagenet_r": Benchmark(_TEST_ONLY),
    "imagenet_sketch": Benchmark(_TEST_ONLY),
    "imagenet21k": Benchmark({"train": "train[:99%]", "validation": "train[99%:]"}),
    "cifar10": Benchmark(_CARVED, 32, small=True),
    "cifar100": Benchmark(_CARVED, 32, small=True),
    "mnist": Benchmark(_CARVED, 28, small=True, flips=False),
    "fashion_mnist": Benchmark(_CARVED, 28, small=True),
    "svhn_cropped": Benchmark(_CARVED, 32, small=True, flips=False),
    "eurosat": Benchmark(_ONE_SPLIT, 64, small=True),
    "oxford_iiit_pet": Benchmark(_CARVED),
    "oxford_flowers102": Benchmark(_THREE),
    "dtd": Benchmark(_THREE),
    "stanford_dogs": Benchmark(_CARVED),
    "food101": Benchmark(_IMAGENET),
    "places365_small": Benchmark(_IMAGENET),  # Its test split has no labels.
}


def canonical_transforms(
    benchmark: Benchmark, image_size: int
) -> tuple[list[Transform], list[Transform]]:
    """Returns what is done to decoded images in training and in evaluation."""
    flips: list[Transform] = [geometry.RandomFlip()] if benchmark.flips else []
    if benchmark.small:
        sized: list[Transform] = []
        if image_size != benchmark.image_size:
            sized = [geometry.Resize(image_size, image_size)]
        shifted = geometry.RandomCrop(image_size, image_size, padding=image_size // 8)
        return [*sized, shifted, *flips], sized
    train: list[Transform] = [
        geometry.RandomResizedCrop(image_size, area=(0.05, 1.0)),
        *flips,
    ]
    evaluation: list[Transform] = [
        geometry.ResizeSmallerSide(round(image_size * 8 / 7)),
        geometry.CentralCrop(image_size),
    ]
    return train, evaluation


def _benchmark(
    reading: pipeline.Reading,
    *,
    name: str,
    image_size: int | None = None,
    one_hot: bool = False,
) -> pipeline.PipelineDataset:
    """Returns a benchmark with ``inputs`` float32 ``[size, size, c]`` and ``label``.

    ``label`` is the class as int32, or float32 ``[k]``: one-hot if asked for, which mixup and
    CutMix need, and any number of ones in ImageNet-ReaL, where an image without a label does not
    count.

    Args:
      reading: how it is read.
      name: of the benchmark.
      image_size: side of the images in pixels.
      one_hot: whether labels are vectors, in every split.

    Raises:
      FileNotFoundError: if the data are not prepared; the message says how to.
      ValueError: if an option is out of its range.
    """
    benchmark = BENCHMARKS[name]
    builder = tfds_source.open_prepared(name, data_dir=reading.data_dir)
    return _classification(reading, name, builder, benchmark, image_size, one_hot=one_hot)


@_registry.register("image_folder")
def image_folder(
    reading: pipeline.Reading, *, image_size: int = 224, one_hot: bool = False
) -> pipeline.PipelineDataset:
    """Returns a folder of images by class, prepared like photographs of a benchmark.

    ``data_dir`` has folders named train, val and test, each with a folder for every class; or one
    for every class, and then 80 % of the images are for training, 10 % for validation and 10 % for
    testing, by a hash of their names. Or it is what ``python -m scenax.data prepare image_folder``
    wrote.

    Args:
      reading: how it is read.
      image_size: side of the images in pixels.
      one_hot: whether labels are vectors, in every split, which mixup and CutMix need.

    Raises:
      FileNotFoundError: if there is no such folder.
      ValueError: if the folder is laid out otherwise; the message says what is wanted.
    """
    root = _folders.required(reading, "image_folder")
    benchmark = Benchmark({})
    if (root / "dataset_info.json").exists():
        builder = tfds.builder_from_directory(root)
        benchmark = Benchmark({split: split for split in builder.info.splits})
        return _classification(
            reading, "image_folder", builder, benchmark, image_size, one_hot=one_hot
        )
    parts = class_folder.splits(ImageFolder, root)
    _folders.show(parts)
    return _dataset(
        reading,
        _info("image_folder", parts["train"].label_names, image_size, 3, one_hot=one_hot),
        parts,
        canonical_transforms(benchmark, image_size),
    )


def _classification(
    reading: pipeline.Reading,
    name: str,
    builder: tfds.core.DatasetBuilder,
    benchmark: Benchmark,
    image_size: int | None,
    *,
    one_hot: bool,
) -> pipeline.PipelineDataset:
    """A dataset that TFDS prepared."""
    size = benchmark.image_size if image_size is None else image_size
    features: Any = builder.info.features
    multi_hot = benchmark.label == "real_label"
    label = features[benchmark.label]
    names = tuple((label.feature if multi_hot else label).names)
    adapt = functools.partial(_adapted, benchmark.label, len(names))
    sources = {
        split: Mapped(tfds_source.open_lazily(builder, part, encoded=["image"]), adapt)
        for split, part in benchmark.splits.items()
    }
    info = _info(name, names, size, features["image"].shape[-1], one_hot=one_hot)
    if multi_hot:
        info = dataclasses.replace(info, targets="multi_hot")
    return _dataset(reading, info, sources, canonical_transforms(benchmark, size))


def _info(
    name: str, label_names: tuple[str, ...], size: int, channels: int | None, *, one_hot: bool
) -> DatasetInfo:
    if size < 1:
        raise ValueError(f"image_size must be at least 1, got {size}.")
    kind: Targets = "one_hot" if one_hot else "class_id"
    shape = (size, size, channels or 3)
    return DatasetInfo(name, shape, "float32", len(label_names), label_names, {}, kind)


def _dataset(
    reading: pipeline.Reading,
    info: DatasetInfo,
    sources: Mapping[str, Source],
    canonical: tuple[list[Transform], list[Transform]],
) -> pipeline.PipelineDataset:
    finish: list[Transform] = []
    if info.targets == "one_hot":
        finish.append(targets.OneHot(info.num_classes))
    counted = ("batch_mask",) if info.targets == "multi_hot" else ()
    finish.append(targets.Keep(("inputs", "label", *counted)))
    counts = {split: len(source) for split, source in sources.items()}
    return pipeline.PipelineDataset(
        reading,
        dataclasses.replace(info, num_examples=counts),
        sources,
        decode=image.DecodeImage(info.input_shape[-1]),
        train_transforms=canonical[0],
        eval_transforms=canonical[1],
        finish=finish,
    )


def _adapted(label: str, classes: int, example: Example, rng: np.random.Generator) -> Example:
    """An example of TFDS's as ours: ``image``, ``label`` and ``name``."""
    named = next((example[key] for key in _NAMES if key in example), b"")
    adapted = {"image": example["image"], "name": named.decode()}
    if np.ndim(example[label]) == 0:
        return adapted | {"label": np.int32(example[label])}
    vector = np.zeros(classes, np.float32)
    vector[example[label]] = 1
    return adapted | {"label": vector, "batch_mask": np.float32(vector.any())}


_NAMES = ("file_name", "filename", "image/filename", "name", "id")

for _name in BENCHMARKS:
    _registry.register(_name)(functools.partial(_benchmark, name=_name))
