"""Moving digits: short videos of a handwritten digit, whose label is how it moves.

A digit of scikit-learn (``digits`` has their source) goes left, right, up or down, turns clockwise
or counter-clockwise, grows or shrinks; which digit it is says nothing. No single frame says
anything either: place, angle and logarithm of the size lie on circles (what leaves the picture
comes in on the other side, and the largest size is followed by the smallest), each starts anywhere
on its circle, and the label only says which of them goes on, and in which direction. So in every
frame, whatever the label, all are uniform and independent.

There are 1,600 videos for training, 200 for validation and 400 for testing, as many of every label.
A video of a split shows only digits of that split of ``digits``, and is a function of its split and
number alone. It has ``video`` ``[t h, w, 1]``, its frames on top of one another as one picture,
which needs nothing but a PNG decoder; ``label``; and ``sources``, the digit's row in scikit-learn's
arrays.

Checked: classifiers of single frames guess, one of the motion between frames is right. Letters:
t time, h w frame.
"""

import dataclasses
import math
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from scenax.common.contracts import DatasetInfo
from scenax.data import _registry, pipeline
from scenax.data.datasets.digits import encode_png, source_digits
from scenax.data.examples import Example
from scenax.data.sources import tfds as tfds_source
from scenax.data.transforms.image import decode_image
from scenax.data.transforms.targets import Keep

_SEED = 72
_NUM_EXAMPLES = {"train": 1600, "validation": 200, "test": 400}
_FRAMES, _SIZE = 16, 32
_MOTIONS = ("left", "right", "up", "down", "clockwise", "counter-clockwise", "grow", "shrink")
_WAYS = ((0, -1), (0, 1), (1, -1), (1, 1), (2, 1), (2, -1), (3, 1), (3, -1))
"""Of every motion, the circle it goes on, of x, y, angle and octave, and the direction."""
_CIRCLES = np.array([_SIZE, _SIZE, math.tau, 1.0])
"""How long the circles are; x and y are in pixels, the angle in radians."""
_SPEEDS = np.array([(0.8, 2.0), (0.8, 2.0), (0.08, 0.2), (0.03, 0.06)])
"""The slowest and the fastest way along every circle in a frame."""
_SMALLEST = 12.0
"""Of the digits' sizes, in pixels; the largest is an octave above."""


class MovingDigits(tfds.core.GeneratorBasedBuilder):
    """Videos of handwritten digits that move in one of eight ways."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "16 frames of 32x32 pixels, eight ways to move."}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=__doc__,
            homepage="https://doi.org/10.24432/C50P49",
            features=tfds.features.FeaturesDict(
                {
                    # Not TFDS's Video, which imports TensorFlow.
                    "video": tfds.features.Image(
                        shape=(_FRAMES * _SIZE, _SIZE, 1), encoding_format="png"
                    ),
                    "label": tfds.features.ClassLabel(names=list(_MOTIONS)),
                    "sources": tfds.features.Tensor(shape=(1,), dtype=np.int32),
                }
            ),
            supervised_keys=("video", "label"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        return {split: self._generate_examples(split) for split in _NUM_EXAMPLES}

    def _generate_examples(self, split: str):
        digits = source_digits(split)
        for index in range(_NUM_EXAMPLES[split]):
            rng = np.random.default_rng([_SEED, list(_NUM_EXAMPLES).index(split), index])
            label = index % len(_MOTIONS)
            which = rng.integers(len(digits.rows))
            states = _states(label, rng)
            video = np.stack([_frame(digits.pixels[which], *state) for state in states])
            yield (
                f"{index:05d}",
                {
                    "video": encode_png(video.reshape(-1, _SIZE)),
                    "label": label,
                    "sources": digits.rows[which : which + 1].astype(np.int32),
                },
            )


def _states(label: int, rng: np.random.Generator) -> np.ndarray:
    """x, y, angle and octave in every frame, ``[t, 4]``, each on its circle."""
    circle, forwards = _WAYS[label]
    steps = np.zeros(4)
    steps[circle] = forwards * rng.uniform(*_SPEEDS[circle])
    return (rng.random(4) * _CIRCLES + np.arange(_FRAMES)[:, None] * steps) % _CIRCLES


def _frame(
    pixels: np.ndarray, x: float, y: float, angle: float, octave: float
) -> UInt8[np.ndarray, "h w"]:
    """A digit about (x, y), turned clockwise, ``2**octave`` times as large as the smallest."""
    # Of every pixel, how far it is from (x, y) the shorter way around, then turned back.
    right, down = ((np.arange(_SIZE) - place + _SIZE / 2) % _SIZE - _SIZE / 2 for place in (x, y))
    cos, sin = math.cos(angle), math.sin(angle)
    across = cos * right[None, :] + sin * down[:, None]
    along = cos * down[:, None] - sin * right[None, :]
    scale = 8 / (_SMALLEST * 2**octave)
    ink = _bilinear(pixels / 16, along * scale + 3.5, across * scale + 3.5)
    # A stroke with edges, not the blur of 8x8 pixels.
    return np.round(255 * np.clip((ink - 0.5) * 2.5 + 0.5, 0, 1)).astype(np.uint8)


def _bilinear(pixels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The values at places between pixels, 0 outside."""
    padded = np.pad(pixels, 1)
    last = padded.shape[0] - 2
    rows, columns = np.clip(rows + 1, 0, last + 0.999), np.clip(columns + 1, 0, last + 0.999)
    top, left = rows.astype(int), columns.astype(int)
    low, far = rows - top, columns - left
    upper = padded[top, left] * (1 - far) + padded[top, left + 1] * far
    lower = padded[top + 1, left] * (1 - far) + padded[top + 1, left + 1] * far
    return upper * (1 - low) + lower * low


@dataclasses.dataclass(frozen=True)
class _Decode:
    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        frames = decode_image(example["video"], channels=1).reshape(_FRAMES, _SIZE, _SIZE, 1)
        return {"inputs": frames, "label": np.int32(example["label"])}


@_registry.register("moving_digits")
def moving_digits(reading: pipeline.Reading) -> pipeline.PipelineDataset:
    """Returns videos, ``inputs`` float32 in [-1, 1], ``[t, h, w, 1]``, and ``label`` int32.

    Args:
      reading: how they are read.
    """
    builder = tfds_source.prepare("moving_digits", data_dir=reading.data_dir)
    sources = {
        split: tfds_source.open_lazily(builder, split, encoded=["video"]) for split in _NUM_EXAMPLES
    }
    info = DatasetInfo(
        name="moving_digits",
        input_shape=(_FRAMES, _SIZE, _SIZE, 1),
        input_dtype="float32",
        num_classes=len(_MOTIONS),
        label_names=_MOTIONS,
        num_examples={split: len(source) for split, source in sources.items()},
    )
    return pipeline.PipelineDataset(
        reading,
        info,
        sources,
        decode=_Decode(),
        finish=[Keep()],
    )
