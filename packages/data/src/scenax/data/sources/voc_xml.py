"""Boxes of objects in Pascal VOC's XML.

Source: Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 2010, and its
development kit, whose pixels count from 1 and whose boxes include their last. Checked against
files written by hand in the layout of VOC2012.

An XML file may define shorthands (entities) that expand to gigabytes or read other files. They can
only stand in a DOCTYPE, which VOC does not have, so that a file with one is refused.
"""

import os
import re
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from scenax.common import boxes as box_formats
from scenax.common.registry import did_you_mean
from scenax.data.examples import Example
from scenax.data.reports import Report
from scenax.data.sources import _files

_WANTED = "VOC's layout: folders JPEGImages, Annotations and, for splits, ImageSets/Main"
_VOC = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
)
_SIDES = ("xmin", "ymin", "xmax", "ymax")


class VocXml:
    """Images with the objects in their XML files.

    Examples have ``image`` (the file's bytes), ``boxes``, ``classes``, ``is_crowd`` (never),
    ``is_difficult``, ``area`` (of the box), ``image_id`` (the position) and ``name``. Pixel 1 of
    VOC is from 0 to 1 here. What was repaired in the annotations is in ``report``.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str | None = None,
        *,
        class_names: Sequence[str] | None = None,
    ) -> None:
        """Reads the annotations and lists the images; none is opened.

        Args:
          root: the folder with JPEGImages and Annotations, such as VOCdevkit/VOC2012.
          split: a file in ImageSets/Main, such as "train" or "val"; all annotations if not given.
          class_names: the classes in the order of their labels. Else they are VOC's 20 if no
            annotation has others, whatever the split, or the names in all annotations, sorted.

        Raises:
          FileNotFoundError: if there is no such folder or split, or a file is missing.
          ValueError: if there are no annotations, or one is not VOC's or has an unknown class.
        """
        self.report = Report()
        path = _files.existing_folder(root, _WANTED)
        images = _files.Folder(path / "JPEGImages", f"the images in {_WANTED}", self.report)
        xml = _files.Folder(path / "Annotations", f"the annotations in {_WANTED}", self.report)
        written = _files.by_name(xml.only(_XML), _files.stem)
        chosen = sorted(written)
        if split is not None:
            chosen = _listed(path / "ImageSets" / "Main", split, written)
        # Classes must not depend on the split, or those of train and val would differ.
        wanted = chosen if class_names is not None else sorted(written)
        read = {stem: _read(written[stem]) for stem in wanted}
        self.label_names = _classes(read, class_names, xml)
        found = _images([read[stem] for stem in chosen], chosen, images)
        for name in {file.name for file in images.only(_files.IMAGES)} - {f.name for f in found}:
            if _files.stem(name) not in written:
                self.report.add("image without an annotation, left out", name)
        pairs = sorted(zip(found, chosen, strict=True))
        self._files, chosen = [file for file, _ in pairs], [stem for _, stem in pairs]
        annotations = [read[stem] for stem in chosen]

        ids = {name: i for i, name in enumerate(self.label_names)}
        rows = [row for row, each in enumerate(annotations) for _ in each.names]
        for stem, each in zip(chosen, annotations, strict=True):
            if not each.size:
                self.report.add("no size of the image, boxes clipped at 0 only", f"{stem}.xml")
        self._sizes = [each.size for each in annotations]
        sizes = np.array([size or (np.inf, np.inf) for size in self._sizes], np.float64)[rows]
        corners = [box for each in annotations for box in each.boxes]
        boxes, kept = _files.repair_boxes(
            np.array(corners, np.float64).reshape(-1, 4) - [1, 1, 0, 0],
            sizes[:, 0],
            sizes[:, 1],
            lambda i: f"{chosen[rows[i]]}.xml, box {corners[i]}",
            self.report,
        )
        self._boxes = boxes[kept]
        classes = [ids[name] for each in annotations for name in each.names]
        self._classes = np.array(classes, np.int32)[kept]
        difficult = [is_so for each in annotations for is_so in each.is_difficult]
        self._is_difficult = np.array(difficult, np.bool_)[kept]
        self._starts = np.searchsorted(np.array(rows)[kept], np.arange(len(chosen) + 1))

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Example:
        index = range(len(self))[index]
        own = slice(self._starts[index], self._starts[index + 1])
        file, encoded = self._files[index], self._files[index].read()
        size = self._sizes[index]
        if size is not None:
            _files.check_size(file, encoded, size, "its annotation")
        return {
            "image": encoded,
            "boxes": self._boxes[own],
            "classes": self._classes[own],
            "is_crowd": np.zeros(len(self._boxes[own]), np.bool_),
            "is_difficult": self._is_difficult[own],
            "area": box_formats.area(self._boxes[own]),
            "image_id": np.int64(index),
            "name": file.name,
        }


_XML = _files.Kind("annotation", frozenset({".xml"}))


class _Annotation(NamedTuple):
    """What one file says; boxes as written, the size (height, width) or None."""

    path: str
    filename: str | None
    size: tuple[int, int] | None
    names: list[str]
    boxes: list[list[float]]
    is_difficult: list[bool]


def _read(file: _files.File) -> _Annotation:
    root = _parsed(file)
    objects = root.findall("object")
    size = [_number(root.find("size"), side, file.path, 0.0) for side in ("height", "width")]
    return _Annotation(
        file.path,
        root.findtext("filename"),
        (int(size[0]), int(size[1])) if min(size) >= 1 else None,
        [_files.composed((each.findtext("name") or "").strip()) for each in objects],
        [[_number(each.find("bndbox"), s, file.path) for s in _SIDES] for each in objects],
        [_number(each, "difficult", file.path, 0.0) != 0 for each in objects],
    )


def _parsed(file: _files.File) -> ElementTree.Element:
    def refuse(*_: object) -> None:
        raise ValueError(
            f"{file.path} has a DOCTYPE, which can make a file expand without end or read others, "
            "and which VOC's files do not have. Delete it from the file."
        )

    tree = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = tree.start
    parser.EndElementHandler = tree.end
    parser.CharacterDataHandler = tree.data
    with open(file.path, "rb") as opened:
        encoded = opened.read()
    try:
        parser.Parse(encoded, True)  # noqa: FBT003  (it takes no names)
    except (expat.ExpatError, LookupError) as error:
        raise ValueError(
            f"{file.path} is not XML: {error}. Is it cut off? Copy it anew, or delete it."
        ) from error
    root = tree.close()
    if root.tag != "annotation":
        raise ValueError(
            f"{file.path} is a <{root.tag}>, but VOC's files are an <annotation>. Is it of another "
            "format?"
        )
    return root


def _number(
    parent: ElementTree.Element | None, tag: str, path: str, missing: float | None = None
) -> float:
    text = None if parent is None else parent.findtext(tag)
    if text is None and missing is not None:
        return missing
    try:
        return float(text or "")
    except ValueError:
        raise ValueError(
            f"{path}: <{tag}> is {text!r}, but a number is wanted. Every <object> needs a <bndbox> "
            "with xmin, ymin, xmax and ymax in pixels."
        ) from None


def _listed(folder: os.PathLike[str], split: str, written: dict[str, _files.File]) -> list[str]:
    """Returns the annotations that a split's file names."""
    files = _files.Folder(folder, f"the splits in {_WANTED}", Report())
    lists = {_files.stem(file.name): file for file in files.files if file.name.endswith(".txt")}
    if split not in lists:
        raise FileNotFoundError(
            f"{files.root} has no {split}.txt. {did_you_mean(split, lists)} Give one of them as "
            "split, or none for all annotations."
        )
    with open(lists[split].path, encoding="utf-8-sig") as opened:
        lines = [_files.composed(line.strip()) for line in opened if line.strip()]
    # The lists of one class say after each name whether it has the class: " 1", " 0" or "-1".
    stems = [line if line in written else re.sub(r"\s+(-1|0|1)$", "", line) for line in lines]
    missing = [stem for stem in stems if stem not in written]
    if missing or not stems:
        raise FileNotFoundError(
            f"{lists[split].path} names {len(stems)} images, of which {len(missing)} have no "
            f"annotation: {_files.some(missing)}. Wanted are names without ending, whose "
            "annotation is Annotations/<name>.xml."
        )
    return sorted(set(stems))


def _classes(
    read: dict[str, _Annotation], class_names: Sequence[str] | None, xml: _files.Folder
) -> tuple[str, ...]:
    found: dict[str, str] = {}
    for annotation in read.values():
        for name in annotation.names:
            found.setdefault(name, annotation.path)
    if class_names is None:
        label_names = tuple(_VOC.split())
        return label_names if found.keys() <= set(label_names) else tuple(sorted(found))
    label_names = _files.class_order(class_names)
    for name in sorted(found.keys() - set(label_names)):
        raise ValueError(
            f"{found[name]} has an object of the class {name!r}, which is not among class_names. "
            f"{did_you_mean(name, label_names)}"
        )
    for name in set(label_names) - found.keys():
        xml.report.add("class without objects", name)
    return label_names


def _images(
    annotations: Sequence[_Annotation], stems: Sequence[str], folder: _files.Folder
) -> list[_files.File]:
    """Returns the image of every annotation: the one of the same name, or else the one it names."""
    images = folder.only(_files.IMAGES)
    by_name, by_stem = _files.by_name(images, str), _files.by_name(images, _files.stem)
    found, missing = [], []
    for stem, annotation in zip(stems, annotations, strict=True):
        named = ""
        if annotation.filename and annotation.filename.strip():
            named = _files.inside(annotation.filename.strip(), annotation.path)
        file = by_stem.get(stem) or by_name.get(named)
        if file is None:
            missing.append(stem)
        else:
            found.append(file)
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(stems)} annotations have no image in {folder.root}, neither "
            f"of the same name nor of their <filename>: {_files.some(missing)}."
        )
    return found
