"""Digits: 1,797 handwritten digits of 8x8 pixels, which ship inside scikit-learn.

They are the test part of the "Optical Recognition of Handwritten Digits" set of the UCI Machine
Learning Repository (Alpaydin and Kaynak, 1998, https://doi.org/10.24432/C50P49, CC BY 4.0): 43
people wrote them, and 4x4 blocks of 32x32 bitmaps were counted, so a pixel is from 0 to 16.

The datasets that are composed of these digits start from ``source_digits`` and ``enlarge``.
"""

import functools
import hashlib
import io
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Integer
from PIL import Image

from scenax.common.contracts import DatasetInfo
from scenax.data import _registry, pipeline
from scenax.data.examples import ArraySource, Source
from scenax.data.sources import tfds as tfds_source
from scenax.data.transforms import geometry
from scenax.data.transforms.targets import OneHot

_SPLITS = {"train": 0.7, "validation": 0.1, "test": 0.2}


class Digits(tfds.core.GeneratorBasedBuilder):
    """The handwritten digits of scikit-learn, in splits that never overlap.

    An image's split is decided by a hash of its pixels, so equal images are in one split.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {
        "1.0.0": "70 % training, 10 % validation, 20 % test, by a hash of the pixels."
    }

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=__doc__,
            homepage="https://doi.org/10.24432/C50P49",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        return {split: self._generate_examples(split) for split in _SPLITS}

    def _generate_examples(self, split: str):
        for row, pixels, label in zip(*source_digits(split), strict=True):
            # From 0..16 to the 0..255 of an image; rounding loses nothing.
            scaled = np.round(pixels * (255 / 16)).astype(np.uint8)
            yield f"{row:04d}", {"image": encode_png(scaled), "label": int(label)}


def _in_memory(source: Source, classes: Sequence[int], image_size: int) -> ArraySource:
    """A split's few examples decoded: ``inputs`` in [-1, 1], and ``label``, a place in classes."""
    examples = [source[index] for index in range(len(source))]
    examples = [example for example in examples if example["label"] in classes]
    pixels = [np.asarray(Image.open(io.BytesIO(example["image"]))) for example in examples]
    pixels = np.stack([enlarge(each, image_size, image_size) for each in pixels])
    return ArraySource(
        {
            "inputs": pixels[..., None].astype(np.float32) / np.float32(127.5) - 1,
            "label": np.array([classes.index(e["label"]) for e in examples], np.int32),
        }
    )


class SourceDigits(NamedTuple):
    """Some of scikit-learn's digits."""

    rows: np.ndarray
    """Where they are in scikit-learn's arrays, ``[n]``."""
    pixels: np.ndarray
    """Counts from 0 to 16, ``[n, 8, 8]``, uint8."""
    labels: np.ndarray
    """Which digits they are, ``[n]``."""


@functools.cache
def source_digits(split: str) -> SourceDigits:
    """Returns the digits of a split, for datasets composed of them to draw from."""
    from sklearn import datasets  # Only preparing needs it.

    flat, labels = datasets.load_digits(return_X_y=True)
    pixels = flat.reshape(-1, 8, 8).astype(np.uint8)
    rows = np.array([row for row, image in enumerate(pixels) if split_of(image) == split])
    return SourceDigits(rows, pixels[rows], labels[rows])


def enlarge(
    pixels: Integer[np.ndarray, "h w"], height: int, width: int
) -> Integer[np.ndarray, "{height} {width}"]:
    """Returns non-negative whole numbers resized bilinearly, as Pillow and PyTorch place pixels.

    It calculates in whole numbers and rounds once, halves up, so the result is the same everywhere.

    >>> enlarge(np.array([[0, 8]]), 1, 4)
    array([[0, 2, 6, 8]])
    """
    down, across = _bilinear(pixels.shape[0], height), _bilinear(pixels.shape[1], width)
    scale = 4 * height * width
    return (2 * (down @ pixels.astype(np.int64) @ across.T) + scale) // (2 * scale)


@functools.cache
def _bilinear(size: int, new_size: int) -> Integer[np.ndarray, "{new_size} {size}"]:
    """What every new pixel takes of every old one, in parts of ``2 * new_size``."""
    unit = 2 * new_size
    places = (2 * np.arange(new_size) + 1) * size - new_size
    before, share = np.divmod(np.clip(places, 0, (size - 1) * unit), unit)
    weights = np.zeros((new_size, size), np.int64)
    rows = np.arange(new_size)
    np.add.at(weights, (rows, before), unit - share)
    np.add.at(weights, (rows, np.minimum(before + 1, size - 1)), share)
    return weights


def encode_png(pixels: np.ndarray) -> io.BytesIO:
    """Returns a picture of 8 bits as TFDS's ``Image`` takes it."""
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, format="png")
    png.seek(0)
    return png


def split_of(pixels: np.ndarray) -> str:
    """Returns the split that an image of 8x8 counts from 0 to 16 belongs to."""
    digest = hashlib.sha256(pixels.astype(np.uint8).tobytes()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    for split, share in _SPLITS.items():
        position -= share
        if position < 0:
            return split
    return "test"  # The shares sum to 1 up to rounding.


@_registry.register("digits")
def digits(
    reading: pipeline.Reading,
    *,
    augment: str = "none",
    one_hot: bool = False,
    classes: Sequence[int] = tuple(range(10)),
    image_size: int = 8,
) -> pipeline.PipelineDataset:
    """Returns the digits with ``inputs`` float32 in [-1, 1], ``[s, s, 1]``, and ``label`` int32.

    Args:
      reading: how they are read.
      augment: ``"affine"`` turns, scales and shifts training images a little at random,
        ``"none"`` leaves them as they are.
      one_hot: whether ``label`` is float32 ``[k]``, in every split, which mixup and CutMix need.
      classes: which digits there are; labels are places in it.
      image_size: side ``s`` of the images in pixels, to which they are enlarged bilinearly.

    Raises:
      ValueError: if ``augment`` is another word, a class is no digit or there twice, or images
        would be smaller.
    """
    if augment not in ("none", "affine"):
        raise ValueError(f"augment must be 'none' or 'affine', got {augment!r}.")
    if not classes or len(set(classes)) < len(classes) or not set(classes) <= set(range(10)):
        raise ValueError(f"classes must be different digits from 0 to 9, got {classes}.")
    if image_size < 8:
        raise ValueError(f"image_size must be at least 8, got {image_size}.")
    builder = tfds_source.prepare("digits", data_dir=reading.data_dir)
    sources = {
        split: _in_memory(
            tfds_source.open_lazily(builder, split, encoded=["image"]), list(classes), image_size
        )
        for split in _SPLITS
    }
    info = DatasetInfo(
        name="digits",
        input_shape=(image_size, image_size, 1),
        input_dtype="float32",
        num_classes=len(classes),
        label_names=tuple(map(str, classes)),
        num_examples={split: len(source) for split, source in sources.items()},
        targets="one_hot" if one_hot else "class_id",
    )
    transforms = [geometry.RandomAffine(fill=-1.0)] if augment == "affine" else []
    finish = [OneHot(len(classes))] if one_hot else []
    return pipeline.PipelineDataset(
        reading, info, sources, train_transforms=transforms, finish=finish
    )
