"""Writes a folder of images as a few large files, once, so that training reads them fast.

The result is a TFDS dataset in ArrayRecord files: ``get_dataset("image_folder", data_dir=...)``
reads it in the place of the folder, and so does ``tfds.builder_from_directory``. Every image is
decoded once, so a broken one is met here and not in the middle of training.

A file is written under another name and renamed when it is whole, with its SHA-256 beside it; who
starts again goes on from the files that are there, whose checksum is right, and whose images are as
they were. ``SHA256SUMS`` lists
them all, as ``sha256sum --check`` reads it.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

import tensorflow_datasets as tfds
from array_record.python.array_record_module import (
    ArrayRecordWriter,  # pyright: ignore[reportAttributeAccessIssue]  (compiled)
)
from etils import epath
from tensorflow_datasets.core.dataset_info import DatasetIdentity
from tqdm import tqdm

from scenax.data.reports import Report, UnreadableError
from scenax.data.sources import class_folder
from scenax.data.sources.image_folder import ImageFolder
from scenax.data.transforms.image import decode_image

_NAME, _VERSION = "image_folder", "1.0.0"


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What was written."""

    folder: pathlib.Path
    counts: Mapping[str, int]
    """Images by split."""
    report: Report
    """What was wrong with images that were left out."""


def prepare_image_folder(
    data_dir: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    images_per_file: int = 1000,
    num_threads: int | None = None,
    unreadable: Literal["raise", "skip"] = "raise",
) -> Prepared:
    """Writes the images of a folder, by split, into ``out``.

    Args:
      data_dir: as ``image_folder`` reads it.
      out: the new folder, or one where this was started before with the same images.
      images_per_file: how many images a file has at most.
      num_threads: how many files are written at a time; one a core if not given.
      unreadable: whether an image that cannot be decoded is an error, or left out and reported.

    Raises:
      FileNotFoundError: if there is no such folder.
      UnreadableError: if an image cannot be decoded and ``unreadable`` is ``"raise"``.
      ValueError: if the folder is laid out otherwise, or ``out`` has other images.
    """
    if images_per_file < 1:
        raise ValueError(f"images_per_file must be at least 1, got {images_per_file}.")
    folder = pathlib.Path(out).expanduser()
    parts = class_folder.splits(ImageFolder, data_dir)
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=list(parts["train"].label_names)),
            "name": tfds.features.Text(),
        }
    )
    _claim(folder, parts, images_per_file)
    report = Report()
    jobs = [
        _File(folder, split, source, number, -(-len(source) // images_per_file), images_per_file)
        for split, source in parts.items()
        for number in range(-(-len(source) // images_per_file))
    ]
    total = sum(len(source) for source in parts.values())
    with (
        tqdm(total=total, unit=" images", desc=_NAME) as bar,
        concurrent.futures.ThreadPoolExecutor(num_threads or os.cpu_count()) as pool,
    ):
        futures = [pool.submit(job.write, features, unreadable, bar) for job in jobs]
        try:
            written = [future.result() for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for record in written:
        for reason in record["left_out"]:
            report.add("unreadable, left out", reason)
    lengths: dict[str, list[int]] = {split: [] for split in parts}
    for job, record in zip(jobs, written, strict=True):
        lengths[job.split].append(record["count"])
    sums = [f"{r['sha256']}  {job.path.name}\n" for job, r in zip(jobs, written, strict=True)]
    _replace(folder / "SHA256SUMS", "".join(sums).encode())
    _write_metadata(folder, features, lengths)
    return Prepared(folder, {split: sum(counts) for split, counts in lengths.items()}, report)


@dataclasses.dataclass(frozen=True)
class _File:
    """One of the files of a split."""

    folder: pathlib.Path
    split: str
    source: ImageFolder
    number: int
    files: int
    images: int

    @property
    def path(self) -> pathlib.Path:
        name = f"{_NAME}-{self.split}.array_record-{self.number:05d}-of-{self.files:05d}"
        return self.folder / name

    @property
    def _indices(self) -> range:
        first = self.number * self.images
        return range(first, min(first + self.images, len(self.source)))

    def write(
        self, features: tfds.features.FeaturesDict, unreadable: str, bar: "tqdm[Any]"
    ) -> dict[str, Any]:
        """Returns what is known of the file, which is written unless it is there already."""
        beside = self.path.with_name(self.path.name + ".json")
        images = self.source.fingerprint(self._indices)
        if beside.exists() and self.path.exists():
            known = json.loads(beside.read_text())
            sound = known["images"] == images and known["sha256"] == _sha256(self.path)
            if sound and known["left_out"] and unreadable == "raise":
                raise UnreadableError(known["left_out"][0])
            if sound:
                bar.update(len(self._indices))
                return known
        temporary = self.path.with_name(self.path.name + ".tmp")
        writer = ArrayRecordWriter(str(temporary), "group_size:1")
        count, left_out = 0, []
        for index in self._indices:
            try:
                example = self.source[index]
                decode_image(example["image"], name=example["name"])
            except UnreadableError as error:
                if unreadable == "raise":
                    writer.close()
                    raise
                left_out.append(str(error))
            else:
                writer.write(features.serialize_example(features.encode_example(example)))
                count += 1
            bar.update()
        writer.close()
        known = {
            "sha256": _sha256(temporary),
            "images": images,
            "count": count,
            "left_out": left_out,
        }
        os.replace(temporary, self.path)
        _replace(beside, json.dumps(known).encode())
        return known


def _claim(folder: pathlib.Path, parts: Mapping[str, ImageFolder], images_per_file: int) -> None:
    """Sees to it that files that are there already are of the same images.

    Raises:
      ValueError: if they are not.
    """
    digest = hashlib.sha256(str(images_per_file).encode())
    for split, source in parts.items():
        names = [source.files[index].name for index in range(len(source))]
        digest.update(json.dumps([split, source.label_names, names]).encode())
    content = digest.hexdigest().encode()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "contents.sha256"
    if path.exists() and path.read_bytes() != content:
        raise ValueError(
            f"{folder} holds what was prepared of other images, or in files of another size. "
            "Choose another folder with --out, or empty it."
        )
    if not path.exists():
        others = sorted(p.name for p in folder.iterdir() if p.suffix != ".tmp")
        if others:
            raise ValueError(
                f"{folder} is not empty: it holds {', '.join(others[:3])}. Choose another folder."
            )
    _replace(path, content)


def _write_metadata(
    folder: pathlib.Path, features: tfds.features.FeaturesDict, lengths: Mapping[str, list[int]]
) -> None:
    """Makes the files a dataset of TFDS's."""
    root = epath.Path(folder)
    infos = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=counts,
            num_bytes=0,
            filename_template=tfds.core.ShardedFileTemplate(
                data_dir=root,
                dataset_name=_NAME,
                split=split,
                filetype_suffix="array_record",
            ),
        )
        for split, counts in lengths.items()
    ]
    identity = DatasetIdentity(
        name=_NAME,
        version=tfds.core.Version(_VERSION),
        data_dir=str(folder),
        module_name=__name__,
    )
    info = tfds.core.DatasetInfo(
        builder=identity, features=features, description="Images by class."
    )
    info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
    info.set_splits(tfds.core.SplitDict(infos))
    info.write_to_directory(folder)


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _replace(path: pathlib.Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
