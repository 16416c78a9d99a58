"""Files by class: the folders directly below one are the classes, files below them the examples.

Files are given as they are, undecoded. Checked against folders written by hand.
"""

import abc
import copy
import hashlib
import math
import os
import pathlib
from collections.abc import Sequence
from typing import ClassVar, TypeVar

import numpy as np

from scenax.data.examples import Example
from scenax.data.reports import Report
from scenax.data.sources import _files

_SPLITS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


class ClassFolder(abc.ABC):
    """Files of one kind, with ``label`` and ``name`` (relative to the folder).

    What is odd about the files is in ``report``.
    """

    kind: ClassVar[_files.Kind]
    wanted: ClassVar[str]
    """What the folder should look like, for errors."""

    def __init__(
        self, root: str | os.PathLike[str], *, class_names: Sequence[str] | None = None
    ) -> None:
        """Lists the files of ``root``; none is opened.

        Args:
          root: the folder of the classes' folders.
          class_names: the classes in the order of their labels; else the folders, sorted.

        Raises:
          FileNotFoundError: if there is no such folder.
          ValueError: if it holds no files of the kind, some outside of the classes' folders, or a
            folder with some that is not among ``class_names``.
        """
        self.report = Report()
        folder = _files.Folder(root, self.wanted, self.report)
        self.root = folder.root
        self._files, self._labels, self.label_names = _files.by_class(
            folder, self.kind, class_names
        )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int, /) -> Example:
        file = self._files[index]
        return {**self._content(file), "label": self._labels[index], "name": file.name}

    @property
    def files(self) -> Sequence[_files.File]:
        """The files, in order."""
        return self._files

    def fingerprint(self, indices: Sequence[int]) -> str:
        """Returns a hash of some files' names and sizes, and of their labels."""
        digest = hashlib.sha256()
        for index in indices:
            file = self._files[index]
            line = f"{file.name} {file.size} {self._labels[index]}"
            digest.update(line.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    @abc.abstractmethod
    def _content(self, file: _files.File) -> Example:
        """What an example has of its file."""

    def _part(self: "FolderT", name: str, chosen: Sequence[int]) -> "FolderT":
        part = copy.copy(self)
        part._files = [self._files[i] for i in chosen]
        part._labels = self._labels[list(chosen)]
        for label in sorted(set(self._labels.tolist()) - set(part._labels.tolist())):
            noun = self.kind.noun
            self.report.add(f"class without {noun}s in {name}", self.label_names[label])
        return part


FolderT = TypeVar("FolderT", bound=ClassFolder)


def splits(
    source: type[FolderT],
    root: str | os.PathLike[str],
    *,
    fractions: Sequence[float] | None = None,
) -> dict[str, FolderT]:
    """Returns the files of a folder by split: train, and what there is of validation and test.

    If its folders are named train, val (or valid, or validation) and test, these are the splits,
    and the classes are those of train. Else its folders are the classes, and a hash of its name
    decides the split of every file: it keeps its split when others come or go, and on another
    machine, but is drawn anew when renamed. The parts then share one report, and one that nothing
    fell into is left out.

    Args:
      source: ``ImageFolder``, ``VideoFolder`` or ``AudioFolder``.
      root: the folder.
      fractions: of train, validation and test where a hash decides, each to be met on average
        only; 0.8, 0.1 and 0.1 if not given.

    Raises:
      FileNotFoundError: if there is no such folder.
      ValueError: if it mixes splits and other folders, or has no train or two of one split; if
        fractions are given but not needed, negative, or do not add up to 1; if nothing fell into
        train; or if a ``source`` cannot be made of a part.
    """
    path = _files.existing_folder(root, source.wanted)
    folders = _files.subfolders(path)
    named = [folder for folder in folders if folder.name.casefold() in _SPLITS]
    others = [folder.name for folder in folders if folder not in named]
    # A class may be called train, next to car and bus; two such names are no accident.
    if not named or (others and len(named) == 1):
        return _divided(source, path, fractions or (0.8, 0.1, 0.1))
    if others:
        raise ValueError(
            f"{path} has the splits {_files.some([f.name for f in named])} and beside them the "
            f"folders {_files.some(others)}. Move these into the splits, or elsewhere."
        )
    if fractions is not None:
        raise ValueError(
            f"{path} has the splits {_files.some([f.name for f in named])}, so that fractions "
            "have no meaning. Leave them out."
        )
    return _by_folder(source, path, named)


def _by_folder(
    source: type[FolderT], root: pathlib.Path, folders: Sequence[pathlib.Path]
) -> dict[str, FolderT]:
    paths: dict[str, pathlib.Path] = {}
    for folder in folders:
        split = _SPLITS[folder.name.casefold()]
        if split in paths:
            raise ValueError(
                f"{root} has {paths[split].name!r} and {folder.name!r}, which are both the {split} "
                "split. Keep one."
            )
        paths[split] = folder
    if "train" not in paths:
        raise ValueError(
            f"{root} has only {_files.some([f.name for f in folders])}. Name the folder of what "
            "to learn from 'train'."
        )
    beside = [_files.composed(path.name) for path in root.iterdir() if path.is_file()]
    loose = sorted(name for name in beside if _files.extension(name) in source.kind.extensions)
    if loose:
        raise ValueError(
            f"{root} holds {source.kind.noun}s beside its splits: {_files.some(loose)}. Move each "
            "into the folder of its class in a split."
        )
    train = source(paths["train"])
    for name in beside:
        train.report.add("beside the splits, left out", name)
    rest = {
        split: source(paths[split], class_names=train.label_names)
        for split in ("validation", "test")
        if split in paths
    }
    return {"train": train} | rest


def _divided(
    source: type[FolderT], root: pathlib.Path, fractions: Sequence[float]
) -> dict[str, FolderT]:
    if len(fractions) != 3 or min(fractions) < 0 or not math.isclose(math.fsum(fractions), 1):
        raise ValueError(
            "fractions are of train, validation and test: three numbers of at least 0 that add up "
            f"to 1, such as (0.8, 0.1, 0.1); got {fractions}."
        )
    whole = source(root)
    draws = np.array([_draw(file.name) for file in whole._files])
    bounds = np.cumsum(fractions)[:2]
    split_of = np.searchsorted(bounds, draws, side="right")
    parts = {}
    for i, split in enumerate(("train", "validation", "test")):
        chosen = np.flatnonzero(split_of == i).tolist()
        if chosen:
            parts[split] = whole._part(split, chosen)
        elif fractions[i]:
            whole.report.add("split that nothing fell into, left out", split)
    if "train" not in parts:
        raise ValueError(
            f"None of the {len(whole)} files in {root} fell into train. Add some, give other "
            "fractions, or make folders train and val, each with the classes' folders."
        )
    return parts


def _draw(name: str) -> float:
    """Returns a number in [0, 1) that is a function of the name alone."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    # 53 bits, so that it is exact and never rounds up to 1.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
