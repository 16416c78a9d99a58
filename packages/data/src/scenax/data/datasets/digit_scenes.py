"""Digit scenes: pictures of several handwritten digits, for detection and segmentation.

The digits of scikit-learn (``digits`` has their source), each enlarged, coloured and put onto a
background of soft colours and noise; later ones hide parts of earlier ones. A scene of a split is
composed only of digits of that split of ``digits``, and is a function of its configuration, split
and number alone. There are 2,000 scenes for training, 250 for validation and 500 for testing, and
half as many crowded ones.

A scene has ``image`` ``[h, w, 3]`` and ``image_id``; a map ``instances`` ``[h, w]``, 0 for the
background and i + 1 for what is visible of the i-th digit; and for every digit, in the order in
which they were put down: ``classes``; ``boxes``, xyxy in pixels, tight around what is visible (the
right and the bottom edge are exclusive); ``area``, its visible pixels; ``cells``, xyxy of what its
8x8 pixels were enlarged to, hidden parts included; and ``sources``, its row in scikit-learn's
arrays.

Checked against scipy's ``find_objects``, and composed again with Pillow. Letters: h w image,
n digits of a scene, m most digits of a scene.
"""

import colorsys
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from scenax.common.contracts import DatasetInfo
from scenax.common.registry import did_you_mean
from scenax.data import _registry, pipeline
from scenax.data.datasets.digits import encode_png, enlarge, source_digits
from scenax.data.examples import Example, Transform
from scenax.data.sources import tfds as tfds_source
from scenax.data.transforms.image import decode_image
from scenax.data.transforms.targets import (
    DetectionTargets,
    Keep,
    PanopticTargets,
    SegmentationTargets,
)

_SEED = 71
_SPLITS = ("train", "validation", "test")
BACKGROUND = 10
"""The class of what is no digit, in semantic and panoptic maps."""


@dataclasses.dataclass(eq=False, kw_only=True)
class DigitScenesConfig(tfds.core.BuilderConfig):
    """What the scenes are like. Give other numbers another ``name``: prepared data go by it."""

    image_size: int = 64
    """Side of the picture, in pixels."""
    max_digits: int = 6
    """The most digits of a scene; it has any number from the fewest to this."""
    min_digits: int = 1
    """The fewest, less only where there is no room."""
    digit_sizes: tuple[int, int] = (10, 28)
    """The smallest and the largest height of a digit's cell; its width is from 3/4 of it, or 8."""
    max_overlap: float = 0.2
    """The share of a digit's pixels that later digits may hide, 0.75 at most."""
    noise: float = 5.0
    """Standard deviation of the noise of every pixel, of 255."""
    num_examples: Mapping[str, int] = dataclasses.field(
        default_factory=lambda: {"train": 2000, "validation": 250, "test": 500}
    )
    """By split, of ``train``, ``validation`` and ``test``."""

    def __post_init__(self) -> None:
        smallest, largest = self.digit_sizes
        if not 8 <= smallest <= largest <= self.image_size:
            raise ValueError(
                "Digits have 8x8 pixels and are not made smaller, so it needs 8 <= smallest <= "
                f"largest <= image_size={self.image_size}, got digit_sizes={self.digit_sizes}."
            )
        if not 1 <= self.min_digits <= self.max_digits <= 255:
            raise ValueError(
                "It needs 1 <= min_digits <= max_digits <= 255, got "
                f"min_digits={self.min_digits} and max_digits={self.max_digits}."
            )
        if not 0 <= self.max_overlap <= 0.75:
            raise ValueError(f"max_overlap must be from 0 to 0.75, got {self.max_overlap}.")
        if not set(self.num_examples) <= set(_SPLITS):
            raise ValueError(
                f"num_examples is by split, of {', '.join(_SPLITS)}, got "
                f"{', '.join(map(repr, self.num_examples))}."
            )


class DigitScenes(tfds.core.GeneratorBasedBuilder):
    """Scenes of handwritten digits with boxes, instance, semantic and panoptic maps.

    For scenes of your own, append a ``DigitScenesConfig`` to ``BUILDER_CONFIGS`` and ask for it by
    its name; or give it to ``tfds.builder`` as ``config``.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "Scenes of up to 6 digits, and crowded ones of up to 20."}
    BUILDER_CONFIGS: ClassVar = [
        DigitScenesConfig(name="default", description="Up to 6 digits in 64x64 pixels."),
        DigitScenesConfig(
            name="crowded",
            description="Up to 20 digits in 96x96 pixels, up to half of one hidden.",
            image_size=96,
            max_digits=20,
            min_digits=8,
            digit_sizes=(12, 32),
            max_overlap=0.5,
            num_examples={"train": 1000, "validation": 125, "test": 250},
        ),
    ]
    builder_config: DigitScenesConfig  # pyright: ignore[reportIncompatibleMethodOverride]

    @classmethod
    def get_builder_config(cls, name: str, version: Any = None) -> DigitScenesConfig | None:
        """Returns the configuration of a name; TFDS itself forgets those appended late."""
        del version
        return next((c for c in cls.BUILDER_CONFIGS if c.name == name), None)

    def _info(self) -> tfds.core.DatasetInfo:
        size = self.builder_config.image_size
        each = functools.partial(tfds.features.Tensor, dtype=np.float32)
        return self.dataset_info_from_configs(
            description=__doc__,
            homepage="https://doi.org/10.24432/C50P49",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
                    "image_id": tfds.features.Scalar(dtype=np.int64),
                    "instances": tfds.features.Image(
                        shape=(size, size, 1), encoding_format="png", use_colormap=True
                    ),
                    "boxes": each(shape=(None, 4)),
                    "classes": tfds.features.Sequence(tfds.features.ClassLabel(num_classes=10)),
                    "area": each(shape=(None,)),
                    "cells": each(shape=(None, 4)),
                    "sources": tfds.features.Tensor(shape=(None,), dtype=np.int32),
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        return {split: self._generate_examples(split) for split in self.builder_config.num_examples}

    def _generate_examples(self, split: str):
        config = self.builder_config
        for index in range(config.num_examples[split]):
            rng = np.random.default_rng([_SEED, _SPLITS.index(split), index])
            scene = compose(config, split, rng)
            pictures = {name: encode_png(scene[name]) for name in ("image", "instances")}
            yield f"{index:05d}", scene | pictures | {"image_id": index}


def compose(
    config: DigitScenesConfig, split: str, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Returns a scene of a split's digits, its pictures not encoded."""
    digits = source_digits(split)
    size = config.image_size
    hue = rng.random()
    picture = _background(size, hue, rng)
    instances = np.zeros((size, size), np.uint8)
    whole: list[int] = []  # Of every digit its pixels, whether hidden or not.
    cells, chosen = [], []
    wanted = rng.integers(config.min_digits, config.max_digits, endpoint=True)
    for _ in range(10 * config.max_digits):
        height = int(rng.integers(*config.digit_sizes, endpoint=True))
        width = int(rng.integers(max(8, -(-3 * height // 4)), height, endpoint=True))
        top, left = rng.integers(size - height + 1), rng.integers(size - width + 1)
        which = rng.integers(len(digits.rows))
        opacity = _opacity(digits.pixels[which], height, width)
        cell = np.s_[top : top + height, left : left + width]
        after = instances.copy()
        after[cell][opacity >= 0.5] = len(whole) + 1
        visible = np.bincount(after.ravel(), minlength=len(whole) + 2)[1:-1]
        if np.any(visible < (1 - config.max_overlap) * np.array(whole)):
            continue
        instances = after
        whole.append(int(np.count_nonzero(opacity >= 0.5)))
        cells.append((left, top, left + width, top + height))
        chosen.append(which)
        # By the golden ratio, so that no two digits of a scene have the same colour.
        colour = _rgb(hue + 0.618 * len(whole), rng.uniform(0.3, 0.8), 1.0)
        _paint(picture, cell, opacity, colour)
        if len(whole) == wanted:
            break
    picture += rng.normal(0, config.noise, picture.shape)
    return {
        "image": np.clip(np.round(picture), 0, 255).astype(np.uint8),
        "instances": instances,
        "boxes": _boxes(instances, len(whole)),
        "classes": digits.labels[chosen],
        "area": np.bincount(instances.ravel())[1:].astype(np.float32),
        "cells": np.array(cells, np.float32),
        "sources": digits.rows[chosen].astype(np.int32),
    }


def _opacity(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """How much of every pixel is ink, from 0 to 1: a stroke with edges, not the blur of 8x8."""
    ink = enlarge(pixels.astype(np.int64) * 255, height, width) / (16 * 255)
    return np.clip((ink - 0.5) * 3 + 0.5, 0, 1)


def _background(size: int, hue: float, rng: np.random.Generator) -> np.ndarray:
    """Clouds between two dark colours, ``[h, w, 3]``."""
    clouds = sum(
        enlarge(rng.integers(0, 2**16, (cells, cells)), size, size) / 2**16 / 2**octave
        for octave, cells in enumerate((2, 4, 8))
    )
    clouds = np.asarray(clouds)[..., None] / 1.75
    dark = _rgb(hue, 0.7, 0.10)
    light = _rgb(hue + rng.uniform(-0.15, 0.15), 0.5, 0.5)
    return dark + clouds * (light - dark)


def _paint(picture: np.ndarray, cell: Any, opacity: np.ndarray, colour: np.ndarray) -> None:
    """Puts a digit down, upon its shadow, which lies a pixel lower and further right."""
    rows, columns = cell
    below = picture[rows.start + 1 : rows.stop + 1, columns.start + 1 : columns.stop + 1]
    below *= 1 - 0.6 * opacity[: len(below), : below.shape[1], None]
    picture[cell] += opacity[..., None] * (colour - picture[cell])


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    return 255 * np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))


def _boxes(instances: np.ndarray, count: int) -> np.ndarray:
    boxes = np.zeros((count, 4), np.float32)
    for i in range(count):
        y, x = np.nonzero(instances == i + 1)
        boxes[i] = x.min(), y.min(), x.max() + 1, y.max() + 1
    return boxes


@dataclasses.dataclass(frozen=True)
class _Decode:
    """Decodes a scene, and adds what the map of its instances says in other ways."""

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        instances = decode_image(example["instances"], channels=1)[..., 0].astype(np.int32)
        classes = np.array(example["classes"], np.int32)
        ids = np.arange(1, len(classes) + 2, dtype=np.int32)  # The background is a segment, too.
        return {
            "inputs": decode_image(example["image"]),
            "image_id": example["image_id"],
            "boxes": example["boxes"],
            "classes": classes,
            "area": example["area"],
            "masks": instances == ids[:-1, None, None],
            "segmentation": np.append(np.int32(BACKGROUND), classes)[instances],
            "segments": np.where(instances == 0, ids[-1], instances),
            "segment_ids": ids,
            "segment_classes": np.append(classes, np.int32(BACKGROUND)),
        }


@dataclasses.dataclass(frozen=True)
class _Presence:
    """Makes ``label`` float32 ``[10]``, 1 for every digit that is there."""

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        return example | {"label": np.isin(np.arange(10), example["classes"]).astype(np.float32)}


@_registry.register("digit_scenes")
def digit_scenes(
    reading: pipeline.Reading, *, task: str = "detection", config: str = "default"
) -> pipeline.PipelineDataset:
    """Returns scenes with ``inputs`` float32 in [-1, 1], ``[h, w, 3]``, and a task's ``label``.

    - ``"detection"``: ``boxes`` float32 ``[m, 4]``, xyxy as shares of the image; ``classes`` int32
      ``[m]``; ``mask`` float32 ``[m]``, 1 for digits and 0 for padding; ``is_crowd`` bool ``[m]``,
      never true.
    - ``"instance"``: the same, and ``masks`` bool ``[m, h, w]``, what is visible of every digit.
    - ``"semantic"``: int32 ``[h, w]``, the digit, or 10 for the background. ``label_weights``
      are 1.
    - ``"panoptic"``: ``segments`` int32 ``[h, w]``, from 1 without a gap, the background last; and
      ``classes`` int32 ``[m + 1]``, whose entry i is the class of segment i + 1: the digit, 10 for
      the background, and -1 for padding.
    - ``"classification"``: float32 ``[10]``, 1 for every digit in the scene (``multi_hot``).

    Args:
      reading: how they are read.
      task: one of these.
      config: the name of one of ``DigitScenes.BUILDER_CONFIGS``, to which you can append.

    Raises:
      ValueError: if there is no such task or configuration.
    """
    chosen = DigitScenes.get_builder_config(config)
    if chosen is None:
        names = [each.name for each in DigitScenes.BUILDER_CONFIGS]
        raise ValueError(f"There is no config {config!r}. {did_you_mean(config, names)}")
    for_detection = DetectionTargets(chosen.max_digits)
    targets: dict[str, list[Transform]] = {
        "detection": [Keep(("inputs", "boxes", "classes")), for_detection],
        "instance": [for_detection],
        "semantic": [SegmentationTargets()],
        "panoptic": [PanopticTargets(chosen.max_digits + 1)],
        "classification": [_Presence()],
    }
    if task not in targets:
        raise ValueError(f"There is no task {task!r}. {did_you_mean(task, targets)}")
    kept = ("inputs", "label", "label_weights") if task == "semantic" else ("inputs", "label")

    builder = tfds_source.prepare(f"digit_scenes/{config}", data_dir=reading.data_dir)
    sources = {
        split: tfds_source.open_lazily(builder, split, encoded=["image", "instances"])
        for split in chosen.num_examples
    }
    digits = tuple("0123456789")
    names = (*digits, "background") if task in ("semantic", "panoptic") else digits
    info = DatasetInfo(
        name="digit_scenes",
        input_shape=(chosen.image_size, chosen.image_size, 3),
        input_dtype="float32",
        num_classes=len(names),
        label_names=names,
        num_examples={split: len(source) for split, source in sources.items()},
        targets="multi_hot" if task == "classification" else "class_id",
    )
    return pipeline.PipelineDataset(
        reading,
        info,
        sources,
        decode=_Decode(),
        finish=[*targets[task], Keep(kept)],
    )
