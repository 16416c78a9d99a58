"""Sound, and sound with pictures: folders of recordings, and TFRecord files in DMVR's layout.

Sound is given as a log-mel spectrogram of 128 bands every 10 ms, as in "Attention bottlenecks for
multimodal fusion" (arXiv 2107.00135). DMVR (https://github.com/google-deepmind/dmvr) stores a video
as a SequenceExample with its frames as JPEGs (``image/encoded``), its sound as numbers
(``WAVEFORM/feature/floats``) and its classes (``clip/label/index``); Kinetics, AudioSet, VGGSound
and Epic-Kitchens are commonly stored so.
"""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from scenax.common.contracts import DatasetInfo
from scenax.data import _registry, pipeline
from scenax.data.datasets import _folders
from scenax.data.examples import Example, Source, Transform
from scenax.data.reports import UnreadableError
from scenax.data.sources import class_folder
from scenax.data.sources.audio_folder import AudioFolder
from scenax.data.sources.tfrecord import RecordFile, Records
from scenax.data.transforms import audio, geometry, targets, video

_SAMPLE_RATE = 16_000
_LOG_MEL = audio.LogMel(128, shape="hamming")


@_registry.register("audio_folder")
def audio_folder(
    reading: pipeline.Reading, *, seconds: float = 8.0, sample_rate: int = _SAMPLE_RATE
) -> pipeline.PipelineDataset:
    """Returns a folder of recordings by class; ``inputs`` are log-mel spectrograms ``[t, 128, 1]``.

    ``data_dir`` has folders named train, val and test, each with a folder for every class; or one
    for every class, which are divided as those of ``image_folder`` are. Needs PyAV, the extra
    ``scenax-data[media]``.

    Args:
      reading: how it is read.
      seconds: of a recording that are used: at random in training, in the middle in evaluation.
      sample_rate: in Hz, to which recordings are resampled.

    Raises:
      FileNotFoundError: if there is no such folder.
      ValueError: if it is laid out otherwise.
    """
    parts = class_folder.splits(AudioFolder, _folders.required(reading, "audio_folder"))
    _folders.show(parts)
    names = parts["train"].label_names
    if sample_rate < 2 * _LOG_MEL.upper_hz:
        raise ValueError(
            f"The spectrogram reaches to {_LOG_MEL.upper_hz:.0f} Hz, so sample_rate must be at "
            f"least {2 * _LOG_MEL.upper_hz:.0f}, got {sample_rate}."
        )
    samples = round(seconds * sample_rate)
    window, hop = (round(s * sample_rate) for s in (_LOG_MEL.window_seconds, _LOG_MEL.hop_seconds))
    frames = 1 + (samples - window) // hop
    if frames < 1:
        raise ValueError(f"seconds must be at least {_LOG_MEL.window_seconds}, got {seconds}.")
    info = DatasetInfo(
        name="audio_folder",
        input_shape=(frames, _LOG_MEL.mel_bins, 1),
        input_dtype="float32",
        num_classes=len(names),
        label_names=names,
        num_examples={split: len(part) for split, part in parts.items()},
    )
    return pipeline.PipelineDataset(
        reading,
        info,
        parts,
        decode=audio.DecodeAudio(sample_rate),
        train_transforms=[audio.RandomWindow(samples), _LOG_MEL],
        eval_transforms=[audio.CentralWindow(samples), _LOG_MEL],
        finish=[targets.Keep()],
    )


class DmvrRecords:
    """Examples of TFRecord files in DMVR's layout, with ``frames``, ``waveform`` and ``labels``."""

    def __init__(self, files: Sequence[pathlib.Path]) -> None:
        """Lists the records of the files."""
        self._records = Records([RecordFile(path) for path in files])
        self._paths = files

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int, /) -> Example:
        # Only this layout needs TensorFlow, for the definition of its messages.
        from google.protobuf.message import DecodeError
        from tensorflow.core.example.example_pb2 import SequenceExample

        message = SequenceExample()
        try:
            message.ParseFromString(self._records[index])
        except DecodeError as error:
            raise UnreadableError(
                f"Record {index} of {self._paths[0].parent} is no SequenceExample."
            ) from error
        lists, context = message.feature_lists.feature_list, message.context.feature
        example: Example = {
            "name": f"record {index}",
            "labels": np.array(context["clip/label/index"].int64_list.value, np.int32),
            "sample_rate": _SAMPLE_RATE,
        }
        if "image/encoded" in lists:
            steps = lists["image/encoded"].feature
            example["frames"] = [step.bytes_list.value[0] for step in steps]
        if "WAVEFORM/feature/floats" in lists:
            steps = lists["WAVEFORM/feature/floats"].feature
            parts = [np.array(step.float_list.value, np.float32) for step in steps]
            example["waveform"] = np.concatenate(parts)
        return example


@_registry.register("dmvr")
def dmvr(
    reading: pipeline.Reading,
    *,
    num_classes: int,
    splits: Mapping[str, str] | None = None,
    frames: int = 32,
    stride: int = 2,
    image_size: int = 224,
    seconds: float = 8.0,
    multi_label: bool = False,
) -> pipeline.PipelineDataset:
    """Returns audio-visual clips of DMVR's TFRecord files.

    ``inputs`` is a mapping: ``image`` ``[t, size, size, 3]`` and ``spectrogram`` ``[s, 128, 1]``.
    The clip and the sound are drawn apart from one another, as in the paper; what a file lacks is
    an error.

    Args:
      reading: how it is read; ``data_dir`` is where the files are.
      num_classes: how many classes there are.
      splits: the files of every split as wildcards; ``{"train": "train*", "validation": "val*",
        "test": "test*"}``, as far as there are any, if not given.
      frames: of a clip.
      stride: every how many frames of the video one is taken.
      image_size: side of the frames in pixels.
      seconds: of sound, at 16 kHz.
      multi_label: whether a clip has any number of classes: ``label`` is then multi-hot, and else
        the first class.

    Raises:
      FileNotFoundError: if there are no such files.
    """
    root = _folders.required(reading, "dmvr")
    patterns = splits or {"train": "train*", "validation": "val*", "test": "test*"}
    found = {split: _record_files(root, pattern) for split, pattern in patterns.items()}
    if not found.get("train") or (splits and not all(found.values())):
        raise FileNotFoundError(
            f"{root} has no TFRecord files for {', '.join(s for s in found if not found[s])}; the "
            f"wildcards are {dict(patterns)}. Give others with splits=."
        )
    sources: dict[str, Source] = {
        split: DmvrRecords(files) for split, files in found.items() if files
    }

    def labelled(example: Example, rng: np.random.Generator) -> Example:
        classes = example["labels"]
        lacking = {
            "image/encoded": "frames" not in example,
            "WAVEFORM/feature/floats": "waveform" not in example,
            "clip/label/index": not len(classes) and not multi_label,
        }
        for feature, lacks in lacking.items():
            if lacks:
                raise UnreadableError(f"{example['name']} has no {feature}.")
        if len(classes) and not 0 <= classes.min() <= classes.max() < num_classes:
            raise UnreadableError(
                f"{example['name']} has the classes {classes.tolist()}, of {num_classes}."
            )
        if not multi_label:
            return example | {"label": example["labels"][0]}
        label = np.zeros(num_classes, np.float32)
        label[example["labels"]] = 1
        return example | {"label": label}

    def heard(example: Example, rng: np.random.Generator) -> Example:
        # The frames are yet to be decoded, so inputs are the sound's.
        return {"spectrogram": example["inputs"]} | {k: example[k] for k in ("frames", "label")}

    def joined(example: Example, rng: np.random.Generator) -> Example:
        both = {"image": example["inputs"], "spectrogram": example["spectrogram"]}
        return example | {"inputs": both}

    samples = round(seconds * _SAMPLE_RATE)
    train: list[Transform] = [
        labelled,
        audio.RandomWindow(samples),
        _LOG_MEL,
        heard,
        video.SampleClip(frames, stride),
        geometry.RandomResizedCrop(image_size),
        geometry.RandomFlip(),
    ]
    evaluation: list[Transform] = [
        labelled,
        audio.CentralWindow(samples),
        _LOG_MEL,
        heard,
        video.CentralClip(frames, stride),
        geometry.ResizeSmallerSide(round(image_size * 8 / 7)),
        geometry.CentralCrop(image_size),
    ]
    info = DatasetInfo(
        name="dmvr",
        input_shape=(frames, image_size, image_size, 3),
        input_dtype="float32",
        num_classes=num_classes,
        label_names=tuple(map(str, range(num_classes))),
        num_examples={split: len(source) for split, source in sources.items()},
        targets="multi_hot" if multi_label else "class_id",
    )
    return pipeline.PipelineDataset(
        reading,
        info,
        sources,
        train_transforms=train,
        eval_transforms=evaluation,
        finish=[joined, targets.Keep()],
    )


def _record_files(root: pathlib.Path, pattern: str) -> list[pathlib.Path]:
    """Files of that name that hold records, and not the places beside them."""
    return sorted(p for p in root.glob(pattern) if p.is_file() and p.suffix != ".npy")
