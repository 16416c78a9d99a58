"""Digit tones: a handwritten digit and a tone, which only together say what the label is.

The tone has one of ten pitches, a whole tone apart, and the label is (digit + tone) modulo 10, the
tones counted from the lowest. Every hundred examples have every digit with every tone once, so
that each alone tells nothing of the label, exactly, and both together tell all.

There are 2,000 examples for training, 200 for validation and 500 for testing. One of a split has a
digit of that split of ``digits`` (which has their source), and is a function of its split and
number alone. It has ``image`` ``[8, 8, 1]``; ``waveform`` ``[samples]``, half a second at 8 kHz, 16
bits, a sine of any phase and loudness, a little out of tune, in noise; ``sample_rate``; ``label``;
``digit`` and ``tone``, of which it is made; and ``sources``, the digit's row in scikit-learn's
arrays.

Checked: how often labels come with digits and with tones, and pitches by Fourier transforms.
"""

import dataclasses
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from scenax.common.contracts import DatasetInfo
from scenax.data import _registry, pipeline
from scenax.data.datasets.digits import encode_png, source_digits
from scenax.data.examples import Example
from scenax.data.sources import tfds as tfds_source
from scenax.data.transforms.image import decode_image
from scenax.data.transforms.targets import Keep

SAMPLE_RATE = 8000
_SEED = 73
_NUM_EXAMPLES = {"train": 2000, "validation": 200, "test": 500}
_SAMPLES = SAMPLE_RATE // 2
_LOWEST = 440.0


class DigitTones(tfds.core.GeneratorBasedBuilder):
    """Handwritten digits with tones; the label is the sum of both, modulo 10."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "Ten digits of 8x8 pixels, ten pitches of half a second."}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=__doc__,
            homepage="https://doi.org/10.24432/C50P49",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    # Not TFDS's Audio, which imports TensorFlow.
                    "waveform": tfds.features.Tensor(
                        shape=(_SAMPLES,), dtype=np.int16, encoding="bytes"
                    ),
                    "sample_rate": tfds.features.Scalar(dtype=np.int32),
                    "label": tfds.features.ClassLabel(num_classes=10),
                    "digit": tfds.features.ClassLabel(num_classes=10),
                    "tone": tfds.features.ClassLabel(num_classes=10),
                    "sources": tfds.features.Tensor(shape=(1,), dtype=np.int32),
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        return {split: self._generate_examples(split) for split in _NUM_EXAMPLES}

    def _generate_examples(self, split: str):
        digits = source_digits(split)
        for index in range(_NUM_EXAMPLES[split]):
            rng = np.random.default_rng([_SEED, list(_NUM_EXAMPLES).index(split), index])
            digit, tone = index % 10, index // 10 % 10
            which = rng.choice(np.flatnonzero(digits.labels == digit))
            pixels = np.round(digits.pixels[which] * (255 / 16)).astype(np.uint8)
            yield (
                f"{index:05d}",
                {
                    "image": encode_png(pixels),
                    "waveform": _waveform(tone, rng),
                    "sample_rate": SAMPLE_RATE,
                    "label": (digit + tone) % 10,
                    "digit": digit,
                    "tone": tone,
                    "sources": digits.rows[[which]].astype(np.int32),
                },
            )


def _waveform(tone: int, rng: np.random.Generator) -> np.ndarray:
    """A sine, up to a tenth of the way to the next pitch out of tune, 13 dB or more above noise."""
    pitch = _LOWEST * 2 ** ((tone + rng.uniform(-0.1, 0.1)) / 6)
    turns = pitch * np.arange(_SAMPLES) / SAMPLE_RATE + rng.random()
    loudness = rng.uniform(0.2, 0.8)
    sound = loudness * np.sin(2 * np.pi * turns) + rng.normal(0, 0.03, _SAMPLES)
    return np.clip(np.round(sound * 2**15), -(2**15), 2**15 - 1).astype(np.int16)


@dataclasses.dataclass(frozen=True)
class _Decode:
    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        return {
            "inputs": decode_image(example["image"], channels=1),
            "waveform": example["waveform"].astype(np.float32) / np.float32(2**15),
            "sample_rate": np.int32(example["sample_rate"]),
            "label": np.int32(example["label"]),
        }


@dataclasses.dataclass(frozen=True)
class _Together:
    """Makes ``inputs`` a mapping of picture and sound."""

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        inputs = {"image": example["inputs"], "waveform": example["waveform"]}
        return example | {"inputs": inputs}


@_registry.register("digit_tones")
def digit_tones(reading: pipeline.Reading) -> pipeline.PipelineDataset:
    """Returns pairs whose ``inputs`` are a mapping, and ``label`` int32.

    ``inputs`` has ``image`` float32 in [-1, 1], ``[8, 8, 1]``, whose shape is the ``input_shape``
    of the ``meta_data``, and ``waveform`` float32 in [-1, 1), ``[4000]``, at ``SAMPLE_RATE``.

    Args:
      reading: how they are read.
    """
    builder = tfds_source.prepare("digit_tones", data_dir=reading.data_dir)
    sources = {
        split: tfds_source.open_lazily(builder, split, encoded=["image"]) for split in _NUM_EXAMPLES
    }
    info = DatasetInfo(
        name="digit_tones",
        input_shape=(8, 8, 1),
        input_dtype="float32",
        num_classes=10,
        label_names=tuple("0123456789"),
        num_examples={split: len(source) for split, source in sources.items()},
    )
    return pipeline.PipelineDataset(
        reading,
        info,
        sources,
        decode=_Decode(),
        finish=[_Together(), Keep()],
    )
