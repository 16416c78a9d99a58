"""A class for every pixel: Cityscapes through TFDS, ADE20K and mask folders of one's own, panoptic.

Evaluation images are made as large as fits and padded right and below. Training images are scaled
by a random factor from 0.5 to 2 of that, cropped and flipped, as most papers have done since
DeepLab (arXiv 1706.05587). Padding and void pixels have weight 0.

Cityscapes: Cordts et al., arXiv 1604.01685; ADE20K: Zhou et al., arXiv 1608.05442; panoptic
segmentation: Kirillov et al., arXiv 1801.00868.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scenax.common.contracts import DatasetInfo
from scenax.data import _registry, pipeline
from scenax.data.caching import Mapped
from scenax.data.datasets import _folders
from scenax.data.examples import Example, Source, Transform
from scenax.data.sources import tfds as tfds_source
from scenax.data.sources.coco_json import CocoPanoptic
from scenax.data.sources.mask_folder import MaskFolder
from scenax.data.transforms import geometry, image, targets

IGNORE = 255
_CITYSCAPES = {
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "pole": 17,
    "traffic light": 19,
    "traffic sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}
"""The 19 classes that are evaluated, with their ids in the label images (cityscapesScripts)."""
_ADE20K_CLASSES = 150
_LAYOUT = {
    "train": ("images/train", "masks/train"),
    "validation": ("images/val", "masks/val"),
    "test": ("images/test", "masks/test"),
}


@_registry.register("cityscapes")
def cityscapes(
    reading: pipeline.Reading, *, image_size: tuple[int, int] = (512, 1024)
) -> pipeline.PipelineDataset:
    """Returns Cityscapes, 19 classes, as TFDS prepared it.

    Args:
      reading: how it is read.
      image_size: height and width of crops and of evaluation images, in pixels.

    Raises:
      FileNotFoundError: if the data are not prepared; the message says how to.
    """
    name = "cityscapes/semantic_segmentation"
    builder = tfds_source.open_prepared(name, data_dir=reading.data_dir)
    class_of = np.full(256, IGNORE, np.uint8)
    class_of[list(_CITYSCAPES.values())] = np.arange(len(_CITYSCAPES))

    def adapted(example: Example, rng: np.random.Generator) -> Example:
        ids = image.decode_image(example["segmentation_label"], channels=1)[..., 0]
        return {
            "image": example["image_left"],
            "segmentation": class_of[ids],
            "name": example["image_id"].decode(),
        }

    encoded = ["image_left", "segmentation_label"]
    # Papers report on the validation split; the test split's labels are kept by the organisers.
    parts = {"train": "train[:98%]", "validation": "train[98%:]", "test": "validation"}
    sources = {
        split: Mapped(tfds_source.open_lazily(builder, part, encoded=encoded), adapted)
        for split, part in parts.items()
    }
    return _dataset(reading, name, sources, tuple(_CITYSCAPES), image_size)


@_registry.register("ade20k")
def ade20k(
    reading: pipeline.Reading, *, image_size: tuple[int, int] = (512, 512)
) -> pipeline.PipelineDataset:
    """Returns ADE20K's 150 classes from the benchmark's own folder, ADEChallengeData2016.

    Args:
      reading: how it is read; ``data_dir`` is ADEChallengeData2016, with images, annotations and
        objectInfo150.txt (http://sceneparsing.csail.mit.edu).
      image_size: height and width of crops and of evaluation images, in pixels.

    Raises:
      FileNotFoundError: if the folder has another layout.
    """
    root = _folders.required(reading, "ade20k")

    def adapted(example: Example, rng: np.random.Generator) -> Example:
        # 0 is what has no class; the classes are 1 to 150.
        shifted = example["segmentation"] - 1
        return example | {"segmentation": np.where(shifted < 0, IGNORE, shifted)}

    names = _ade20k_names(root / "objectInfo150.txt")
    folders = {
        split: MaskFolder(root / "images" / part, root / "annotations" / part, ignore=0)
        for split, part in {"train": "training", "test": "validation"}.items()
    }
    _folders.show(folders)
    sources = {split: Mapped(folder, adapted) for split, folder in folders.items()}
    return _dataset(reading, "ade20k", sources, names, image_size)


def _ade20k_names(path: Any) -> tuple[str, ...]:
    """The classes' names: the last column, of which the first synonym."""
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no {path}, which names the classes. Give the folder ADEChallengeData2016 "
            "with --data_dir or data_dir=."
        )
    rows = path.read_text().splitlines()[1:]
    names = tuple(row.split("\t")[-1].split(",")[0].strip() for row in rows if row.strip())
    if len(names) != _ADE20K_CLASSES:
        raise ValueError(f"{path} names {len(names)} classes, and the benchmark has 150.")
    return names


@_registry.register("mask_folder")
def mask_folder(
    reading: pipeline.Reading,
    *,
    class_names: Sequence[str],
    splits: Mapping[str, Sequence[str]] | None = None,
    colors: Sequence[Sequence[int]] | Mapping[tuple[int, int, int], int] | None = None,
    ignore: int = IGNORE,
    suffixes: tuple[str, str] = ("", ""),
    image_size: tuple[int, int] = (512, 512),
) -> pipeline.PipelineDataset:
    """Returns images with maps of their pixels' classes, paired by name.

    Args:
      reading: how it is read; ``data_dir`` is where the files are.
      class_names: the classes in the order of their ids.
      splits: folder of images and folder of maps of every split, in ``data_dir``; those of
        ``images/train`` with ``masks/train``, and of ``val`` and ``test``, that are there if not
        given.
      colors: (r, g, b) of the classes in the order of their ids, or ids by (r, g, b), for maps that
        are pictures.
      ignore: the id of pixels that do not count.
      suffixes: what images' and maps' names end in before the extension.
      image_size: height and width of crops and of evaluation images, in pixels.

    Raises:
      FileNotFoundError: if a folder is missing.
      ValueError: if images and maps do not pair up; the message names some.
    """
    root = _folders.required(reading, "mask_folder")
    there = {split: pair for split, pair in _LAYOUT.items() if (root / pair[0]).is_dir()}
    places = splits or {"train": _LAYOUT["train"], **there}

    def adapted(example: Example, rng: np.random.Generator) -> Example:
        ids = example["segmentation"]
        return example | {"segmentation": np.where(ids == ignore, IGNORE, ids)}

    palette: Any = colors  # Lists, too, as a configuration has them.
    if colors is not None and not isinstance(colors, Mapping):
        palette = [(int(r), int(g), int(b)) for r, g, b in colors]
    folders = {
        split: MaskFolder(
            root / images,
            root / masks,
            class_names=class_names,
            colors=palette,
            ignore=ignore,
            image_suffix=suffixes[0],
            mask_suffix=suffixes[1],
        )
        for split, (images, masks) in places.items()
    }
    _folders.show(folders)
    sources = {split: Mapped(folder, adapted) for split, folder in folders.items()}
    return _dataset(reading, "mask_folder", sources, class_names, image_size)


def _dataset(
    reading: pipeline.Reading,
    name: str,
    sources: Mapping[str, Source],
    label_names: Sequence[str],
    image_size: Sequence[int],
    finish: Sequence[Transform] = (
        targets.SegmentationTargets(IGNORE),
        targets.Keep(("inputs", "label", "label_weights")),
    ),
) -> pipeline.PipelineDataset:
    height, width = image_size
    if min(height, width) < 1:
        raise ValueError(f"image_size is height and width in pixels, got {tuple(image_size)}.")
    info = DatasetInfo(
        name=name,
        input_shape=(height, width, 3),
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
        train_transforms=[
            geometry.LargeScaleJitter(height, width, scale=(0.5, 2.0)),
            geometry.RandomFlip(),
        ],
        eval_transforms=[geometry.ResizeInto(height, width)],
        finish=finish,
    )


@_registry.register("coco_panoptic")
def coco_panoptic(
    reading: pipeline.Reading,
    *,
    splits: Mapping[str, Sequence[str]] | None = None,
    image_size: tuple[int, int] = (640, 640),
    max_segments: int = 100,
) -> pipeline.PipelineDataset:
    """Returns images with panoptic segments in COCO's format.

    Args:
      reading: how it is read; ``data_dir`` is where the files are.
      splits: folder of images, folder of PNG files and annotation file of every split, in
        ``data_dir``; COCO 2017's own if not given.
      image_size: height and width of crops and of evaluation images, in pixels.
      max_segments: how many segments of an image have a place.

    Raises:
      FileNotFoundError: if a file or folder is missing.
      ValueError: if the annotations contradict themselves; the message names the first.
    """
    root = _folders.required(reading, "coco_panoptic")
    places = splits or {
        split: (f"{part}2017", f"panoptic_{part}2017", f"annotations/panoptic_{part}2017.json")
        for split, part in {"train": "train", "test": "val"}.items()
    }
    sources = {
        split: CocoPanoptic(root / images, root / maps, root / file)
        for split, (images, maps, file) in places.items()
    }
    _folders.show(sources)
    names = next(iter(sources.values())).label_names
    finish = [targets.PanopticTargets(max_segments), targets.Keep()]
    return _dataset(reading, "coco_panoptic", sources, names, image_size, finish)


@_registry.register("coco/2017_panoptic")
def coco_2017_panoptic(
    reading: pipeline.Reading,
    *,
    image_size: tuple[int, int] = (640, 640),
    max_segments: int = 100,
) -> pipeline.PipelineDataset:
    """Returns COCO's panoptic segments as TFDS prepared them.

    Args:
      reading: how it is read.
      image_size: height and width of crops and of evaluation images, in pixels.
      max_segments: how many segments of an image have a place.

    Raises:
      FileNotFoundError: if the data are not prepared; the message says how to.
    """
    name = "coco/2017_panoptic"
    builder = tfds_source.open_prepared(name, data_dir=reading.data_dir)
    features: Any = builder.info.features
    parts = {"train": "train[:99%]", "validation": "train[99%:]", "test": "validation"}
    encoded = ["image", "panoptic_image"]
    sources = {
        split: Mapped(tfds_source.open_lazily(builder, part, encoded=encoded), _panoptic_adapted)
        for split, part in parts.items()
    }
    names = tuple(features["panoptic_objects"].feature["label"].names)
    finish = [targets.PanopticTargets(max_segments), targets.Keep()]
    return _dataset(reading, name, sources, names, image_size, finish)


def _panoptic_adapted(example: Example, rng: np.random.Generator) -> Example:
    objects = example["panoptic_objects"]
    rgb = image.decode_image(example["panoptic_image"]).astype(np.int32)
    return {
        "image": example["image"],
        "name": example["image/filename"].decode(),
        "segments": rgb[..., 0] + 256 * rgb[..., 1] + 256**2 * rgb[..., 2],
        "segment_ids": np.array(objects["id"], np.int32),
        "segment_classes": np.array(objects["label"], np.int32),
    }
