"""Digit strings: pictures of one to five handwritten digits in a row, to be transcribed.

The digits of scikit-learn (``digits`` has their source), each enlarged to a size of its own, at
uneven distances and heights, on paper or blackboard of any brightness, with noise.

There are 2,000 pictures for training, 250 for validation and 500 for testing, as many of every
length. One of a split shows only digits of that split of ``digits``, and is a function of its split
and number alone. It has ``image`` ``[16, 64, 1]``; ``text``, the digits from left to right;
``cells``, xyxy in pixels of the squares they were enlarged to; and ``sources``, their rows in
scikit-learn's arrays.

Tokens: 0 is padding, 1 is the end, and d + 2 is the digit d.

Checked: pictures composed again with Pillow.
"""

import dataclasses
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from scenax.common.contracts import DatasetInfo
from scenax.data import _registry, pipeline
from scenax.data.datasets.digits import encode_png, enlarge, source_digits
from scenax.data.examples import Example
from scenax.data.sources import tfds as tfds_source
from scenax.data.transforms.image import decode_image
from scenax.data.transforms.targets import Keep, Tokens

MAX_LENGTH = 5
_SEED = 74
_NUM_EXAMPLES = {"train": 2000, "validation": 250, "test": 500}
_HEIGHT, _WIDTH = 16, 64
_NAMES = ("<pad>", "<end>", *"0123456789")


class DigitStrings(tfds.core.GeneratorBasedBuilder):
    """Pictures of rows of handwritten digits, with what they say."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "One to five digits in 16x64 pixels."}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=__doc__,
            homepage="https://doi.org/10.24432/C50P49",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(_HEIGHT, _WIDTH, 1), encoding_format="png"),
                    "text": tfds.features.Text(),
                    "cells": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
                    "sources": tfds.features.Tensor(shape=(None,), dtype=np.int32),
                }
            ),
            supervised_keys=("image", "text"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        return {split: self._generate_examples(split) for split in _NUM_EXAMPLES}

    def _generate_examples(self, split: str):
        digits = source_digits(split)
        for index in range(_NUM_EXAMPLES[split]):
            rng = np.random.default_rng([_SEED, list(_NUM_EXAMPLES).index(split), index])
            chosen = rng.integers(len(digits.rows), size=1 + index % MAX_LENGTH)
            cells = _cells(len(chosen), rng)
            yield (
                f"{index:05d}",
                {
                    "image": encode_png(_write(digits.pixels[chosen], cells, rng)),
                    "text": "".join(map(str, digits.labels[chosen])),
                    "cells": cells.astype(np.float32),
                    "sources": digits.rows[chosen].astype(np.int32),
                },
            )


def _cells(length: int, rng: np.random.Generator) -> np.ndarray:
    """Boxes of digits from left to right, in the picture, without overlap: xyxy ``[length, 4]``."""
    while True:
        heights = rng.integers(10, _HEIGHT, size=length, endpoint=True)
        widths = np.minimum(heights, rng.integers(9, 12, size=length, endpoint=True))
        gaps = rng.integers(0, 5, size=length)
        gaps[0] = 0
        room = _WIDTH - gaps.sum() - widths.sum()
        if room >= 0:
            break
    left = rng.integers(room, endpoint=True) + np.cumsum(gaps + widths) - widths
    top = rng.integers(_HEIGHT - heights, endpoint=True)
    return np.stack([left, top, left + widths, top + heights], axis=1)


def _write(pixels: np.ndarray, cells: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    ink = np.zeros((_HEIGHT, _WIDTH))
    for digit, (left, top, right, bottom) in zip(pixels, cells, strict=True):
        enlarged = enlarge(digit.astype(np.int64) * 255, int(bottom - top), int(right - left))
        ink[top:bottom, left:right] = enlarged / (16 * 255)
    ground = rng.uniform(0, 0.35)
    contrast = rng.uniform(0.5, 0.65)
    picture = ground + contrast * ink + rng.normal(0, 0.03, ink.shape)
    if rng.random() < 0.5:
        picture = 1 - picture
    return np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class _Decode:
    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        text = example["text"].decode()
        return {"inputs": decode_image(example["image"], channels=1), "text": text}


@_registry.register("digit_strings")
def digit_strings(reading: pipeline.Reading) -> pipeline.PipelineDataset:
    """Returns pictures with ``inputs`` float32 in [-1, 1], ``[16, 64, 1]``, and their tokens.

    ``label`` is int32 ``[6]``: the digits, the end, then padding; ``label_weights`` float32 ``[6]``
    is 1 for digits and the end, and 0 for padding.

    Args:
      reading: how they are read.
    """
    builder = tfds_source.prepare("digit_strings", data_dir=reading.data_dir)
    sources = {
        split: tfds_source.open_lazily(builder, split, encoded=["image"]) for split in _NUM_EXAMPLES
    }
    info = DatasetInfo(
        name="digit_strings",
        input_shape=(_HEIGHT, _WIDTH, 1),
        input_dtype="float32",
        num_classes=len(_NAMES),
        label_names=_NAMES,
        num_examples={split: len(source) for split, source in sources.items()},
    )
    return pipeline.PipelineDataset(
        reading,
        info,
        sources,
        decode=_Decode(),
        finish=[Tokens(_NAMES, MAX_LENGTH + 1), Keep(("inputs", "label", "label_weights"))],
    )
