"""Classes of videos: UCF101 through TFDS, and folders of one's own, laid out by class.

Training takes a random clip, an inception crop of it, and flips; evaluation the central clip and
crop, or several views (as ViViT, arXiv 2103.15691, does: 4 clips of 3 crops). Kinetics and others
that are distributed as files are folders by class: use ``video_folder``.

UCF101: Soomro et al., arXiv 1212.0402.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from scenax.common.contracts import DatasetInfo
from scenax.data import _registry, pipeline
from scenax.data.caching import Mapped
from scenax.data.datasets import _folders
from scenax.data.examples import Example, Source, Transform
from scenax.data.sources import class_folder
from scenax.data.sources import tfds as tfds_source
from scenax.data.sources.video_folder import VideoFolder
from scenax.data.transforms import geometry, targets, video


@_registry.register("ucf101")
def ucf101(
    reading: pipeline.Reading,
    *,
    frames: int = 16,
    stride: int = 2,
    image_size: int = 224,
    views: tuple[int, int] = (1, 1),
) -> pipeline.PipelineDataset:
    """Returns UCF101, the first of its three divisions, with ``inputs`` ``[t, size, size, 3]``.

    Args:
      reading: how it is read.
      frames: of a clip.
      stride: every how many frames of the video one is taken.
      image_size: side of the frames in pixels.
      views: clips and crops of a video in evaluation. More than one each give ``inputs``
        ``[clips * crops, t, size, size, 3]``.

    Raises:
      FileNotFoundError: if the data are not prepared; the message says how to.
      ValueError: if an option is out of its range.
    """
    builder = tfds_source.open_prepared("ucf101", data_dir=reading.data_dir)
    features: Any = builder.info.features

    def adapted(example: Example, rng: np.random.Generator) -> Example:
        return {"frames": list(example["video"]), "label": np.int32(example["label"])}

    parts = {"train": "train[:95%]", "validation": "train[95%:]", "test": "test"}
    sources = {
        split: Mapped(tfds_source.open_lazily(builder, part, encoded=["video"]), adapted)
        for split, part in parts.items()
    }
    names = tuple(features["label"].names)
    return _dataset(reading, "ucf101", sources, names, (frames, stride, image_size), views)


@_registry.register("video_folder")
def video_folder(
    reading: pipeline.Reading,
    *,
    frames: int = 16,
    stride: int = 2,
    image_size: int = 224,
    views: tuple[int, int] = (1, 1),
) -> pipeline.PipelineDataset:
    """Returns a folder of videos by class with ``inputs`` ``[t, size, size, 3]``.

    ``data_dir`` has folders named train, val and test, each with a folder for every class; or one
    for every class, which are divided as those of ``image_folder`` are. Needs PyAV, the extra
    ``scenax-data[media]``.

    Args:
      reading: how it is read.
      frames: of a clip.
      stride: every how many frames of the video one is taken.
      image_size: side of the frames in pixels.
      views: clips and crops of a video in evaluation. More than one each give ``inputs``
        ``[clips * crops, t, size, size, 3]``.

    Raises:
      FileNotFoundError: if there is no such folder.
      ValueError: if it is laid out otherwise, or an option is out of its range.
    """
    parts = class_folder.splits(VideoFolder, _folders.required(reading, "video_folder"))
    _folders.show(parts)
    names = parts["train"].label_names
    return _dataset(reading, "video_folder", parts, names, (frames, stride, image_size), views)


def _dataset(
    reading: pipeline.Reading,
    name: str,
    sources: Mapping[str, Source],
    label_names: tuple[str, ...],
    clip: tuple[int, int, int],
    views: tuple[int, int],
) -> pipeline.PipelineDataset:
    frames, stride, size = clip
    if min(*clip, *views) < 1:
        raise ValueError(
            f"frames, stride, image_size and views must be at least 1, got {frames}, {stride}, "
            f"{size} and {views}."
        )
    train: list[Transform] = [
        video.SampleClip(frames, stride),
        geometry.RandomResizedCrop(size),
        geometry.RandomFlip(),
    ]
    evaluation: list[Transform] = [
        video.CentralClip(frames, stride),
        geometry.ResizeSmallerSide(round(size * 8 / 7)),
        geometry.CentralCrop(size),
    ]
    if views != (1, 1):
        evaluation = [video.Views(frames, stride, *views, size)]
    info = DatasetInfo(
        name=name,
        input_shape=(frames, size, size, 3),
        input_dtype="float32",
        num_classes=len(label_names),
        label_names=label_names,
        num_examples={split: len(source) for split, source in sources.items()},
    )
    return pipeline.PipelineDataset(
        reading,
        info,
        sources,
        train_transforms=train,
        eval_transforms=evaluation,
        finish=[targets.Keep()],
    )
