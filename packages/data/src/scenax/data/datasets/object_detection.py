"""Objects in images: COCO, LVIS and Pascal VOC through TFDS, COCO JSON and VOC XML of one's own.

Training images go through large-scale jitter (Ghiasi et al., arXiv 2012.07177) and flips, and
copy-paste if asked for; evaluation images are made as large as fits and padded right and below.
``original_size`` in a batch, height and width, leads back from there: a box in shares of the padded
image, times ``image_size`` over ``min(image_size / original_size)``, is in the original's pixels.

COCO: Lin et al., arXiv 1405.0312; LVIS: Gupta et al., arXiv 1908.03195; VOC: Everingham et al.,
https://doi.org/10.1007/s11263-009-0275-4.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scenax.common.contracts import DatasetInfo
from scenax.data import _registry, pipeline
from scenax.data.caching import Mapped
from scenax.data.datasets import _folders
from scenax.data.examples import Example, Source, Transform
from scenax.data.sources import tfds as tfds_source
from scenax.data.sources.coco_json import CocoJson
from scenax.data.sources.voc_xml import VocXml
from scenax.data.transforms import geometry, image, mixing, targets

_SPLITS = {
    "coco/2017": {"train": "train[:99%]", "validation": "train[99%:]", "test": "validation"},
    "lvis": {"train": "train[:99%]", "validation": "train[99%:]", "test": "validation"},
    "voc/2007": {"train": "train", "validation": "validation", "test": "test"},
    "voc/2012": {"train": "train", "validation": "validation"},
}
"""Papers report on COCO's and LVIS's validation split, which is ``test`` here."""


def _benchmark(
    reading: pipeline.Reading, *, name: str, image_size: int = 640, max_objects: int = 100
) -> pipeline.PipelineDataset:
    """Returns a benchmark with ``inputs`` ``[size, size, 3]``, and ``label`` for detection.

    Args:
      reading: how it is read.
      name: of the benchmark.
      image_size: side of the padded images in pixels.
      max_objects: how many objects of an image have a place; the largest stay.

    Raises:
      FileNotFoundError: if the data are not prepared; the message says how to.
    """
    builder = tfds_source.open_prepared(name, data_dir=reading.data_dir)
    features: Any = builder.info.features
    encoded: list[str | tuple[str, str]] = ["image"]
    if "segmentation" in features["objects"].feature:
        encoded.append(("objects", "segmentation"))  # LVIS has a mask for each, of the whole image.
    sources = {
        split: Mapped(tfds_source.open_lazily(builder, part, encoded=encoded), _adapted)
        for split, part in _SPLITS[name].items()
    }
    names = tuple(features["objects"].feature["label"].names)
    return _dataset(reading, name, sources, names, image_size, max_objects)


def _adapted(example: Example, rng: np.random.Generator) -> Example:
    """An example of TFDS's as ours; its objects are lists, their boxes yxyx in shares."""
    objects = example["objects"]
    named = example.get("image/filename", b"").decode() or str(example.get("image/id", ""))
    height, width = image.encoded_size(example["image"], name=named)
    top, left, bottom, right = np.array(objects["bbox"], np.float32).reshape(-1, 4).T
    boxes = np.stack([left * width, top * height, right * width, bottom * height], axis=-1)
    sides = boxes[:, 2:] - boxes[:, :2]
    return {
        "image": example["image"],
        "name": named,
        "image_id": np.int64(example.get("image/id", -1)),
        "boxes": boxes.astype(np.float32),
        "classes": np.array(objects["label"], np.int32),
        "is_crowd": np.array(objects.get("is_crowd", [False] * len(boxes)), np.bool_),
        "area": np.array(objects.get("area", sides.prod(axis=1)), np.float32),
    }


@_registry.register("coco_json")
def coco_json(
    reading: pipeline.Reading,
    *,
    splits: Mapping[str, Sequence[str]] | None = None,
    image_size: int = 640,
    max_objects: int = 100,
    with_masks: bool = False,
    copy_paste: bool = False,
) -> pipeline.PipelineDataset:
    """Returns images with a COCO annotation file, as ``coco/2017`` and, if asked for, with masks.

    Args:
      reading: how it is read; ``data_dir`` is where the files are.
      splits: folder of images and annotation file of every split, in ``data_dir``; COCO 2017's
        own if not given, ``{"train": ("train2017", "annotations/instances_train2017.json"),
        "test": ("val2017", "annotations/instances_val2017.json")}``.
      image_size: side of the padded images in pixels.
      max_objects: how many objects of an image have a place; the largest stay.
      with_masks: whether ``label`` has ``masks``, ``[m, h, w]``.
      copy_paste: whether objects are pasted between training images, which takes masks.

    Raises:
      FileNotFoundError: if a file or folder is missing.
      ValueError: if the annotations contradict themselves; the message names the first.
    """
    root = _folders.required(reading, "coco_json")
    places = splits or {
        "train": ("train2017", "annotations/instances_train2017.json"),
        "test": ("val2017", "annotations/instances_val2017.json"),
    }
    sources = {
        split: CocoJson(root / folder, root / file, with_masks=with_masks or copy_paste)
        for split, (folder, file) in places.items()
    }
    _folders.show(sources)
    names = next(iter(sources.values())).label_names
    return _dataset(
        reading, "coco_json", sources, names, image_size, max_objects, copy_paste=copy_paste
    )


@_registry.register("voc_xml")
def voc_xml(
    reading: pipeline.Reading,
    *,
    splits: Mapping[str, str] | None = None,
    image_size: int = 640,
    max_objects: int = 100,
) -> pipeline.PipelineDataset:
    """Returns images with Pascal VOC's XML annotations.

    Args:
      reading: how it is read; ``data_dir`` has JPEGImages, Annotations and ImageSets.
      splits: lists of ImageSets/Main by split; ``{"train": "train", "validation": "val"}`` if not
        given.
      image_size: side of the padded images in pixels.
      max_objects: how many objects of an image have a place; the largest stay.

    Raises:
      FileNotFoundError: if a file or folder is missing.
      ValueError: if an annotation cannot be understood; the message names it.
    """
    root = _folders.required(reading, "voc_xml")
    lists = splits or {"train": "train", "validation": "val"}
    sources = {split: VocXml(root, name) for split, name in lists.items()}
    _folders.show(sources)
    names = next(iter(sources.values())).label_names
    return _dataset(reading, "voc_xml", sources, names, image_size, max_objects)


def _dataset(
    reading: pipeline.Reading,
    name: str,
    sources: Mapping[str, Source],
    label_names: Sequence[str],
    image_size: int,
    max_objects: int,
    *,
    copy_paste: bool = False,
) -> pipeline.PipelineDataset:
    if min(image_size, max_objects) < 1:
        raise ValueError(
            f"image_size and max_objects must be at least 1, got {image_size} and {max_objects}."
        )
    train: list[Transform] = [
        geometry.LargeScaleJitter(image_size, image_size),
        geometry.RandomFlip(),
    ]
    info = DatasetInfo(
        name=name,
        input_shape=(image_size, image_size, 3),
        input_dtype="float32",
        num_classes=len(label_names),
        label_names=tuple(label_names),
        num_examples={split: len(source) for split, source in sources.items()},
    )
    return pipeline.PipelineDataset(
        reading,
        info,
        sources,
        decode=image.DecodeImage(),
        train_transforms=train,
        pair_transform=mixing.CopyPaste() if copy_paste else None,
        eval_transforms=[geometry.ResizeInto(image_size, image_size)],
        finish=[
            targets.DetectionTargets(max_objects),
            targets.Keep(("inputs", "label", "image_id", "original_size")),
        ],
    )


for _name in _SPLITS:
    _registry.register(_name)(functools.partial(_benchmark, name=_name))
