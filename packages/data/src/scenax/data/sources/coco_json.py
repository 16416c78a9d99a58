"""COCO's annotations in JSON: boxes and masks of objects, and panoptic segments.

Sources: COCO, arXiv 1405.0312, its data format, https://cocodataset.org/#format-data; panoptic
segmentation, arXiv 1801.00868; LVIS, arXiv 1908.03195, whose files name images by ``coco_url``.
Checked against files written by hand, and masks against polygons whose pixels are known.
"""

import itertools
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int32

from scenax.common import boxes as box_formats
from scenax.common import masks
from scenax.data.examples import Example
from scenax.data.reports import Report, UnreadableError
from scenax.data.sources import _files

_Entry = Mapping[str, Any]


class CocoJson:
    """Images with the objects that a file of COCO's instances format says.

    Examples have ``image`` (the file's bytes), ``boxes``, ``classes``, ``is_crowd``, ``area``,
    ``image_id``, ``name`` and, where asked for, ``masks``. Classes count from 0 in the order of
    COCO's ids; class ``c`` is ``category_ids[c]`` there. Images come in the order of their names,
    those without objects too. What was repaired in the annotations is in ``report``.
    """

    def __init__(
        self,
        images_dir: str | os.PathLike[str],
        annotations_file: str | os.PathLike[str],
        *,
        with_masks: bool = False,
    ) -> None:
        """Reads the annotations and lists the images; none is opened.

        Args:
          images_dir: the folder that the annotations' file names start from.
          annotations_file: the JSON, such as instances_val2017.json.
          with_masks: whether examples have the objects' masks. Polygons need the extra
            ``scenax-common[coco]``.

        Raises:
          FileNotFoundError: if there is no such file or folder, or an image is missing.
          ValueError: if the file is not of this format or contradicts itself.
        """
        self.report = Report()
        coco = _open(images_dir, annotations_file, self.report)
        self.category_ids, self.label_names = coco.category_ids, coco.label_names
        self._files, self._images, self._path = coco.files, coco.images, coco.path
        annotations = coco.annotations
        rows = _looked_up(annotations, "annotation", "image_id", coco.image_ids, coco.path)
        classes = _looked_up(annotations, "annotation", "category_id", coco.category_ids, coco.path)
        heights, widths = (
            np.array([image[side] for image in coco.images]) for side in ("height", "width")
        )
        boxes, kept = _files.repair_boxes(
            box_formats.xywh_to_xyxy(_boxes(annotations, coco.path)),
            heights[rows],
            widths[rows],
            lambda i: (
                f"{coco.files[rows[i]].name}, annotation {annotations[i].get('id', f'no. {i}')}"
            ),
            self.report,
        )
        chosen = np.flatnonzero(kept)
        chosen = chosen[np.argsort(rows[chosen], kind="stable")]
        self._starts = np.searchsorted(rows[chosen], np.arange(len(coco.images) + 1))
        self._boxes, self._classes = boxes[chosen], classes[chosen]
        crowd = [bool(a.get("iscrowd", 0)) for a in annotations]
        self._is_crowd = np.array(crowd, np.bool_)[chosen]
        areas = (a.get("area") for a in annotations)
        area = np.array([a if _is_number(a) else np.nan for a in areas], np.float32)[chosen]
        self._area = np.where(np.isnan(area), box_formats.area(self._boxes), area)
        self._objects = [annotations[i] for i in chosen] if with_masks else None

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Example:
        index = range(len(self))[index]
        own = slice(self._starts[index], self._starts[index + 1])
        encoded = self._files[index].read()
        h, w = self._images[index]["height"], self._images[index]["width"]
        _files.check_size(self._files[index], encoded, (h, w), str(self._path))
        example = {
            "image": encoded,
            "boxes": self._boxes[own],
            "classes": self._classes[own],
            "is_crowd": self._is_crowd[own],
            "area": self._area[own],
            "image_id": np.int64(self._images[index]["id"]),
            "name": self._files[index].name,
        }
        if self._objects is None:
            return example
        found = [self._mask(each, h, w) for each in self._objects[own]]
        return example | {"masks": np.stack(found) if found else np.zeros((0, h, w), np.bool_)}

    def _mask(self, annotation: _Entry, h: int, w: int) -> Bool[np.ndarray, "h w"]:
        where = f"{self._path}, {_named('annotation', annotation)}"
        drawn = annotation.get("segmentation")
        try:
            if isinstance(drawn, Mapping):
                mask = masks.from_rle([drawn])[0]
            elif isinstance(drawn, Sequence) and not isinstance(drawn, str):
                # COCO itself has a few of two corners, and they hold no pixel.
                polygons = [polygon for polygon in drawn if len(polygon) >= 6]
                if not polygons or len(polygons) < len(drawn):
                    self.report.add("polygon of fewer than 3 corners, left out", where)
                mask = masks.from_polygons(polygons, h, w)
            else:
                raise ValueError('it has no "segmentation". Open the file without with_masks')
        except (TypeError, ValueError) as error:
            raise UnreadableError(f"The mask of {where} cannot be read: {error}.") from error
        if mask.shape != (h, w):
            raise UnreadableError(
                f"The mask of {where} is of {mask.shape[0]} x {mask.shape[1]} pixels (height x "
                f"width), but its image of {h} x {w}."
            )
        return mask


class CocoPanoptic:
    """Images with the segments that COCO's panoptic JSON and PNG files say.

    Examples have ``image`` (the file's bytes), ``segments`` (ids by pixel, 0 where there is none),
    ``segment_ids``, ``segment_classes``, ``is_crowd`` (by segment), ``image_id`` and ``name``.
    Classes are as in ``CocoJson``; ``is_thing`` tells which of them have objects that count.
    """

    def __init__(
        self,
        images_dir: str | os.PathLike[str],
        panoptic_dir: str | os.PathLike[str],
        annotations_file: str | os.PathLike[str],
    ) -> None:
        """Reads the annotations and lists the files; none is opened.

        Args:
          images_dir: the folder that the annotations' names of images start from.
          panoptic_dir: the same for the PNG files with the segments.
          annotations_file: the JSON, such as panoptic_val2017.json.

        Raises:
          FileNotFoundError: if there is no such file or folder, or an image or PNG is missing.
          ValueError: if the file is not of this format or contradicts itself.
        """
        self.report = Report()
        coco = _open(images_dir, annotations_file, self.report)
        self.category_ids, self.label_names = coco.category_ids, coco.label_names
        self.is_thing = coco.is_thing
        self._files, self._images = coco.files, coco.images
        rows = _looked_up(coco.annotations, "annotation", "image_id", coco.image_ids, coco.path)
        if len(set(rows)) < len(rows) or len(rows) < len(coco.images):
            raise ValueError(
                f"{coco.path} has {len(rows)} annotations for {len(set(rows))} of its "
                f"{len(coco.images)} images, but a panoptic file has one for each."
            )
        by_row = [coco.annotations[i] for i in np.argsort(rows)]
        self._maps = _found(panoptic_dir, by_row, "PNG files of segments", coco.path, self.report)
        self._segments = []
        for annotation in by_row:
            infos = annotation.get("segments_info")
            if not isinstance(infos, list) or not all(
                isinstance(info, dict) and isinstance(info.get("id"), int) for info in infos
            ):
                raise ValueError(
                    f"{coco.path}: {_named('annotation', annotation)} needs a list "
                    "segments_info, each with an id. Is this a panoptic file?"
                )
            classes = _looked_up(infos, "segment", "category_id", coco.category_ids, coco.path)
            ids = np.array([info["id"] for info in infos], np.int32)
            crowd = np.array([bool(info.get("iscrowd", 0)) for info in infos], np.bool_)
            self._segments.append((ids, classes, crowd))

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Example:
        index = range(len(self))[index]
        png, image = self._maps[index], self._images[index]
        ids, classes, crowd = self._segments[index]
        drawing = _files.decoded(png)
        if drawing.mode not in ("RGB", "RGBA"):
            raise UnreadableError(
                f"{png.path} is of Pillow's mode {drawing.mode}, but segments are written as "
                "colours: id = R + 256 G + 256^2 B."
            )
        colours = np.asarray(drawing)[:, :, :3]
        encoded = self._files[index].read()
        _files.check_size(self._files[index], encoded, colours.shape[:2], png.path)
        segments = colours.astype(np.int32) @ np.array([1, 256, 256**2], np.int32)
        drawn = np.unique(segments)
        unknown = np.setdiff1d(drawn, np.append(ids, 0))
        if len(unknown):
            raise UnreadableError(
                f"{png.path} has pixels of the segments {_files.some(unknown.tolist())}, which "
                "segments_info does not have."
            )
        for each in np.setdiff1d(ids, drawn):
            self.report.add("segment without pixels", f"{png.name}, segment {each}")
        return {
            "image": encoded,
            "segments": segments,
            "segment_ids": ids,
            "segment_classes": classes,
            "is_crowd": crowd,
            "image_id": np.int64(image["id"]),
            "name": self._files[index].name,
        }


class _Coco(NamedTuple):
    """What both formats have; images and their files in the order of names."""

    path: pathlib.Path
    images: list[_Entry]
    files: list[_files.File]
    annotations: list[_Entry]
    image_ids: list[int]
    category_ids: tuple[int, ...]
    label_names: tuple[str, ...]
    is_thing: tuple[bool, ...]


def _open(
    images_dir: str | os.PathLike[str], annotations_file: str | os.PathLike[str], report: Report
) -> _Coco:
    path = pathlib.Path(annotations_file).expanduser().absolute()
    content = _read(path)
    categories = sorted(_with_ids(content["categories"], "category", path), key=lambda c: c["id"])
    images = _with_ids(content["images"], "image", path)
    for image in images:
        sides = image.get("height"), image.get("width")
        if not all(isinstance(side, int) and side > 0 for side in sides):
            raise ValueError(
                f"{path}: image {image['id']} has height {sides[0]!r} and width {sides[1]!r}, but "
                "each is a whole number of pixels of at least 1."
            )
    files = _found(images_dir, images, "images", path, report)
    order = sorted(range(len(images)), key=lambda i: (files[i].name, images[i]["id"]))
    for before, after in itertools.pairwise(order):
        if files[before] == files[after]:
            report.add("file of several images", files[after].name)
    return _Coco(
        path,
        [images[i] for i in order],
        [files[i] for i in order],
        content["annotations"],
        [images[i]["id"] for i in order],
        tuple(category["id"] for category in categories),
        tuple(str(category.get("name", category["id"])) for category in categories),
        tuple(bool(category.get("isthing", 1)) for category in categories),
    )


def _read(path: pathlib.Path) -> dict[str, list[_Entry]]:
    wanted = 'wanted is COCO\'s, an object with the lists "images", "annotations", "categories"'
    if not path.is_file():
        near = path if path.is_dir() else path.parent
        found = sorted(file.name for file in near.glob("*.json"))
        raise FileNotFoundError(
            f"There is no file {path}; {wanted}. In {near}: {_files.some(found) or 'no JSON'}."
        )
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); {wanted}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, but {wanted}.")
    for key in ("images", "annotations", "categories"):
        entries = content.get(key)
        if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
            raise ValueError(
                f"{path} has no list of objects {key!r}; it has {_files.some(list(content))}, but "
                f"{wanted}."
            )
    if not content["images"]:
        raise ValueError(f"{path} has no images: its list is empty.")
    return content


def _with_ids(entries: list[_Entry], noun: str, path: pathlib.Path) -> list[_Entry]:
    seen = set()
    for i, entry in enumerate(entries):
        number = entry.get("id")
        if not isinstance(number, int):
            raise ValueError(
                f"{path}: {noun} {i}, counted from 0, has the id {number!r}, but ids are whole "
                "numbers."
            )
        if number in seen:
            raise ValueError(f"{path} has more than one {noun} with id {number}. Ids are unique.")
        seen.add(number)
    return entries


def _found(
    folder_path: str | os.PathLike[str],
    entries: Sequence[_Entry],
    what: str,
    path: pathlib.Path,
    report: Report,
) -> list[_files.File]:
    """Returns the files that entries name; the folder's other files are reported."""
    folder = _files.Folder(folder_path, f"the folder of {what} that {path.name} names", report)
    there = _files.by_name(folder.files, str)
    names = [_file_name(entry, path) for entry in entries]
    missing = sorted(set(names) - set(there))
    if missing:
        last = missing[0].rsplit("/")[-1]
        near = [name for name in there if name.rsplit("/")[-1] == last]
        hint = f"It has {near[0]!r}: give the folder that the names start from." if near else ""
        raise FileNotFoundError(
            f"{path} names {len(set(names))} files, of which {len(missing)} are not in "
            f"{folder.root}: {_files.some(missing)}. Found there: {folder.summary()}. {hint}"
        )
    for name in set(there) - set(names):
        report.add(f"not in {path.name}, left out", name)
    files = [there[name] for name in names]
    _files.report_empty(files, report)
    return files


def _file_name(entry: _Entry, path: pathlib.Path) -> str:
    name = entry.get("file_name")
    if name is None and isinstance(entry.get("coco_url"), str):
        # LVIS draws from several folders: ".../train2017/000000000009.jpg".
        name = "/".join(entry["coco_url"].rsplit("/", 2)[1:])
    return _files.inside(name, f"{path}, {_named('image', entry)},")


def _named(noun: str, entry: _Entry) -> str:
    return f"{noun} {entry['id']}" if "id" in entry else f"{noun} of image {entry.get('image_id')}"


def _looked_up(
    entries: Sequence[_Entry], noun: str, key: str, ids: Sequence[int], path: pathlib.Path
) -> Int32[np.ndarray, " n"]:
    """Returns the positions in ``ids`` of what entries have under ``key``."""
    position = {number: i for i, number in enumerate(ids)}
    try:
        return np.array([position[entry[key]] for entry in entries], np.int32)
    except (KeyError, TypeError):
        values = [(entry, entry.get(key)) for entry in entries]
        wrong, value = next(
            (e, v) for e, v in values if not isinstance(v, int) or v not in position
        )
        raise ValueError(
            f"{path}: {_named(noun, wrong)} has the {key} {value!r}, which is not among the "
            f"{len(ids)} ids there are: {_files.some(sorted(ids))}. Correct it, or add the entry."
        ) from None


def _boxes(annotations: Sequence[_Entry], path: pathlib.Path) -> Float64[np.ndarray, "n 4"]:
    try:
        found = np.array([entry["bbox"] for entry in annotations], np.float64)
    except (KeyError, TypeError, ValueError, OverflowError):
        found = np.array(np.nan)
    if found.shape == (len(annotations), 4) or not annotations:
        return found.reshape(-1, 4)
    wrong = next((a for a in annotations if not _is_box(a.get("bbox"))), annotations[0])
    raise ValueError(
        f"{path}: {_named('annotation', wrong)} has the bbox {wrong.get('bbox')!r}, but wanted are "
        "four numbers, [x, y, width, height] in pixels."
    )


def _is_box(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
