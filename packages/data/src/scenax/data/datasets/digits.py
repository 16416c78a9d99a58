"""Digits: 1,797 handwritten digits of 8x8 pixels, which ship inside scikit-learn.

They are the test part of the "Optical Recognition of Handwritten Digits" set of the UCI Machine
Learning Repository (Alpaydin and Kaynak, 1998, https://doi.org/10.24432/C50P49, CC BY 4.0): 43
people wrote them, and 4x4 blocks of 32x32 bitmaps were counted, so a pixel is from 0 to 16.
"""

import hashlib
import io
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from scenax.common.contracts import DatasetInfo
from scenax.data import _registry, pipeline
from scenax.data.sources import tfds as tfds_source
from scenax.data.transforms import image as image_transforms

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
        from sklearn import datasets  # Only preparing needs it.

        rows, labels = datasets.load_digits(return_X_y=True)
        for index, (row, label) in enumerate(zip(rows, labels, strict=True)):
            pixels = row.reshape(8, 8)
            if split_of(pixels) == split:
                # From 0..16 to the 0..255 of an image; rounding loses nothing.
                scaled = np.round(pixels * (255 / 16)).astype(np.uint8)
                png = io.BytesIO()
                Image.fromarray(scaled).save(png, format="png")
                png.seek(0)
                yield f"{index:04d}", {"image": png, "label": int(label)}


def _in_memory(source: pipeline.Source) -> pipeline.ArraySource:
    """A split's few examples decoded: ``inputs`` in [-1, 1], and ``label``."""
    examples = [source[index] for index in range(len(source))]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(e["image"]))) for e in examples])
    return pipeline.ArraySource(
        {
            "inputs": pixels[..., None].astype(np.float32) / np.float32(127.5) - 1,
            "label": np.array([e["label"] for e in examples], np.int32),
        }
    )


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
def digits(reading: pipeline.Reading, *, augment: str = "none") -> pipeline.PipelineDataset:
    """Returns the digits with ``inputs`` float32 in [-1, 1], ``[8, 8, 1]``, and ``label`` int32.

    Args:
      reading: how they are read.
      augment: ``"affine"`` turns, scales and shifts training images a little at random,
        ``"none"`` leaves them as they are.

    Raises:
      ValueError: if ``augment`` is another word.
    """
    if augment not in ("none", "affine"):
        raise ValueError(f"augment must be 'none' or 'affine', got {augment!r}.")
    builder = tfds_source.prepare("digits", data_dir=reading.data_dir)
    sources = {
        split: _in_memory(tfds_source.open_lazily(builder, split, encoded=["image"]))
        for split in _SPLITS
    }
    info = DatasetInfo(
        name="digits",
        input_shape=(8, 8, 1),
        input_dtype="float32",
        num_classes=10,
        label_names=tuple("0123456789"),
        num_examples={split: len(source) for split, source in sources.items()},
    )
    transform = image_transforms.RandomAffine(fill=-1.0) if augment == "affine" else None
    return pipeline.PipelineDataset(reading, info, sources, train_transform=transform)
