"""How labels are counted and drawn on pages of examples, by what they hold.

Which kind a label is follows from its shape and type, as ``transforms.targets`` describes them.
Letters: h w image, m places for objects, k classes.
"""

import collections
import itertools
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import scipy

from scenax.common.contracts import DatasetInfo
from scenax.data import _drawing
from scenax.data.examples import Example

_MOST_CLASSES = 40
"""The most classes of which every one has a bar."""
_OPACITY = 0.55
_IGNORED = (128, 128, 128, 230)
_EDGE = (255, 255, 255, 200)
_SIZES = (0, 2, 4, 8, 16, 32, 64, 100)
"""Edges of the histogram of boxes: √area in percent of the image's."""


def class_name(info: DatasetInfo, number: int) -> str:
    """Returns the name of a class, also of a number that is none."""
    if not 0 <= number < info.num_classes:
        return f"{number} (no class)"
    return str(info.label_names[number]) if number < len(info.label_names) else str(number)


@runtime_checkable
class View(Protocol):
    """How one kind of label is counted and drawn."""

    @property
    def layers(self) -> Sequence[str]:
        """What lies over the pictures and can be hidden."""
        ...

    def count(self, example: Example) -> None: ...

    def panels(self) -> list[tuple[str, str]]:
        """Charts of what was counted, with their titles."""
        ...

    def classes(self, example: Example) -> list[int]:
        """The classes in an example, as often as they are there."""
        ...

    def caption(self, example: Example) -> str:
        """The label as text, not escaped."""
        ...

    def overlay(self, example: Example, size: tuple[int, int]) -> str:
        """HTML over a picture of ``size``, width and height."""
        ...


def view_of(example: Example, info: DatasetInfo) -> View:
    """Returns how labels like this example's are counted and drawn."""
    label = example.get("label")
    if isinstance(label, Mapping):
        if {"boxes", "classes", "mask"} <= label.keys():
            return _Objects(info, has_masks="masks" in label)
        return _Segments(info) if {"segments", "classes"} <= label.keys() else Nothing()
    if label is None:
        return Nothing()
    whole = np.issubdtype(label.dtype, np.integer)
    vector = label.shape == (info.num_classes,)
    if vector and (not whole or info.targets == "multi_hot"):
        return _Classes(info)
    kinds = {0: _Classes, 1: _Text, 2: _Pixels}
    return kinds[label.ndim](info) if whole and label.ndim in kinds else Nothing()


class Nothing:
    """No label, or one of no known kind: its numbers if they are few."""

    layers = ()

    def count(self, example: Example) -> None: ...

    def panels(self) -> list[tuple[str, str]]:
        return []

    def classes(self, example: Example) -> list[int]:
        return []

    def caption(self, example: Example) -> str:
        label = example.get("label")
        if label is None or isinstance(label, Mapping):
            return ""
        return np.array2string(label, precision=4) if label.size <= 8 else ""

    def overlay(self, example: Example, size: tuple[int, int]) -> str:
        return ""


class _Classes:
    """A class, shares of classes, or any number of them."""

    layers = ()

    def __init__(self, info: DatasetInfo) -> None:
        self._info = info
        self._count: dict[int, float] = collections.defaultdict(float)

    def _shares(self, example: Example) -> dict[int, float]:
        label = example["label"]
        if label.ndim == 0:
            return {int(label): 1.0}
        return {int(number): float(label[number]) for number in np.flatnonzero(label)}

    def count(self, example: Example) -> None:
        for number, share in self._shares(example).items():
            self._count[number] += share

    def panels(self) -> list[tuple[str, str]]:
        return [("Examples per class", _bars(self._info, self._count))]

    def classes(self, example: Example) -> list[int]:
        return list(self._shares(example))

    def caption(self, example: Example) -> str:
        shares = self._shares(example)
        if self._info.targets == "multi_hot" or len(shares) < 2:
            return ", ".join(class_name(self._info, number) for number in shares) or "none"
        ranked = sorted(shares.items(), key=lambda item: -item[1])
        most = [(number, share) for number, share in ranked if share >= 0.01][:4]
        named = [f"{class_name(self._info, number)} {share:.0%}" for number, share in most]
        rest = 1 - sum(share for _, share in most)
        return ", ".join([*named, f"others {rest:.0%}"] if rest >= 0.005 else named)

    def overlay(self, example: Example, size: tuple[int, int]) -> str:
        return ""


class _Text:
    """Tokens, of which those without weight are left out, and 1 is the end."""

    layers = ()

    def __init__(self, info: DatasetInfo) -> None:
        self._info = info
        self._count: collections.Counter[int] = collections.Counter()
        self._lengths: list[int] = []

    def count(self, example: Example) -> None:
        tokens = self.classes(example)
        self._count.update(tokens)
        self._lengths.append(len(tokens))

    def panels(self) -> list[tuple[str, str]]:
        return [
            ("Tokens", _bars(self._info, self._count, first=2)),
            ("Tokens per text", _histogram(self._lengths)),
        ]

    def classes(self, example: Example) -> list[int]:
        label = example["label"]
        counts = example.get("label_weights", np.ones(label.shape)) > 0
        return [int(token) for token in label[counts] if token > 1]

    def caption(self, example: Example) -> str:
        names = [class_name(self._info, token) for token in self.classes(example)]
        return ("" if all(len(name) == 1 for name in names) else " ").join(names)

    def overlay(self, example: Example, size: tuple[int, int]) -> str:
        return ""


class _Objects:
    """Boxes of objects with their classes, and masks if there are any; no padding, no crowds."""

    def __init__(self, info: DatasetInfo, *, has_masks: bool) -> None:
        self.layers = ("boxes", "masks", "names") if has_masks else ("boxes", "names")
        self._info = info
        self._count: collections.Counter[int] = collections.Counter()
        self._numbers: list[int] = []
        self._sides: list[float] = []

    def count(self, example: Example) -> None:
        classes = self.classes(example)
        self._count.update(classes)
        self._numbers.append(len(classes))
        boxes = example["label"]["boxes"][self._real(example)]
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        self._sides += (100 * np.sqrt(np.maximum(areas, 0))).tolist()

    def panels(self) -> list[tuple[str, str]]:
        counts = np.histogram(self._sides, bins=_SIZES)[0].tolist()
        labels = [f"{low}-{high}" for low, high in itertools.pairwise(_SIZES)]
        sizes = _drawing.columns(labels, counts)
        return [
            ("Objects per class", _bars(self._info, self._count, colored=True)),
            ("Objects per image", _histogram(self._numbers)),
            ("Side of boxes, % of the image's", sizes),
        ]

    def classes(self, example: Example) -> list[int]:
        return example["label"]["classes"][self._real(example)].tolist()

    def caption(self, example: Example) -> str:
        names = [class_name(self._info, number) for number in self.classes(example)]
        objects = "1 object" if len(names) == 1 else f"{len(names)} objects"
        return f"{objects}: {', '.join(names)}" if names else "no objects"

    def overlay(self, example: Example, size: tuple[int, int]) -> str:
        label, real = example["label"], self._real(example)
        classes = self.classes(example)
        colors = [_drawing.class_color(number) for number in classes]
        names = [class_name(self._info, number) for number in classes]
        boxes = label["boxes"][real]
        drawn = ""
        if "masks" in label:
            masks = label["masks"][real].astype(bool)
            regions = list(zip(masks, colors, strict=True))
            drawn += _drawing.overlay(
                "masks", _drawing.painted(regions, _OPACITY, label["masks"].shape[1:])
            )
        pixels = boxes.astype(np.float64) * (size * 2)
        titles = [
            f"{name}, {x1 - x0:.0f} x {y1 - y0:.0f} pixels"
            for name, (x0, y0, x1, y1) in zip(names, pixels, strict=True)
        ]
        drawn += _drawing.boxes(pixels, colors, titles, size)
        for name, color, box in zip(names, colors, boxes.tolist(), strict=True):
            drawn += _drawing.box_tag(name, color, box)
        return drawn

    def _real(self, example: Example) -> np.ndarray:
        return example["label"]["mask"] > 0


class _Pixels:
    """A class for every pixel."""

    layers = ("classes",)

    def __init__(self, info: DatasetInfo) -> None:
        self._info = info
        self._count: collections.Counter[int] = collections.Counter()
        self._ignored = 0

    def count(self, example: Example) -> None:
        counts = self._counts(example)
        numbers, pixels = np.unique(example["label"][counts], return_counts=True)
        self._count.update(dict(zip(numbers.tolist(), pixels.tolist(), strict=True)))
        self._ignored += int(np.count_nonzero(~counts))

    def panels(self) -> list[tuple[str, str]]:
        total = self._ignored + self._count.total()
        bars = _bars(self._info, self._count, colored=True, shares_only=True)
        if self._ignored:
            share = percent(self._ignored, total)
            bars += f'<p class="note">{share} of all pixels are ignored (hatched).</p>'
        return [("Pixels per class", bars)]

    def classes(self, example: Example) -> list[int]:
        return np.unique(example["label"][self._counts(example)]).tolist()

    def caption(self, example: Example) -> str:
        return (
            ", ".join(class_name(self._info, number) for number in self.classes(example))
            or "ignored"
        )

    def overlay(self, example: Example, size: tuple[int, int]) -> str:
        label, counts = example["label"], self._counts(example)
        regions = [
            ((label == number) & counts, _drawing.class_color(number))
            for number in self.classes(example)
        ]
        colors = _drawing.painted(regions, _OPACITY, label.shape)
        colors[_drawing.hatch(~counts)] = _IGNORED
        return _drawing.overlay("classes", colors)

    def _counts(self, example: Example) -> np.ndarray:
        return example.get("label_weights", np.ones(example["label"].shape)) > 0


class _Segments:
    """Segments with their classes, numbered from 1."""

    layers = ("segments", "names")

    def __init__(self, info: DatasetInfo) -> None:
        self._info = info
        self._count: collections.Counter[int] = collections.Counter()
        self._pixels: collections.Counter[int] = collections.Counter()
        self._numbers: list[int] = []

    def count(self, example: Example) -> None:
        classes = self.classes(example)
        self._count.update(classes)
        self._numbers.append(len(classes))
        for region, number in self._regions(example):
            self._pixels[number] += int(np.count_nonzero(region))

    def panels(self) -> list[tuple[str, str]]:
        pixels = _bars(self._info, self._pixels, colored=True, shares_only=True)
        return [
            ("Segments per class", _bars(self._info, self._count, colored=True)),
            ("Pixels per class", pixels),
            ("Segments per image", _histogram(self._numbers)),
        ]

    def classes(self, example: Example) -> list[int]:
        return [number for number in example["label"]["classes"].tolist() if number >= 0]

    def caption(self, example: Example) -> str:
        names = [class_name(self._info, number) for number in self.classes(example)]
        return f"{'1 segment' if len(names) == 1 else f'{len(names)} segments'}: {', '.join(names)}"

    def overlay(self, example: Example, size: tuple[int, int]) -> str:
        segments = example["label"]["segments"]
        regions = [(r, _drawing.class_color(number)) for r, number in self._regions(example)]
        colors = _drawing.painted(regions, _OPACITY, segments.shape)
        colors[_drawing.hatch(segments == 0)] = _IGNORED
        # Other neighbours are told apart by their colours.
        classes = np.append(-1, example["label"]["classes"])[segments]
        colors[_drawing.edges(segments) & ~_drawing.edges(classes)] = _EDGE
        drawn = _drawing.overlay("segments", colors)
        for region, number in self._regions(example):
            if region.any():
                # Where it is widest: the middle may be outside the segment.
                depth = np.asarray(scipy.ndimage.distance_transform_edt(np.pad(region, 1)))
                y, x = np.unravel_index(np.argmax(depth), depth.shape)
                height, width = segments.shape
                place = ((x - 0.5) / width, (y - 0.5) / height)
                drawn += _drawing.centred_tag(class_name(self._info, number), *place)
        return drawn

    def _regions(self, example: Example) -> list[tuple[np.ndarray, int]]:
        segments = example["label"]["segments"]
        return [
            (segments == place, number)
            for place, number in enumerate(example["label"]["classes"].tolist(), start=1)
            if number >= 0
        ]


def _bars(
    info: DatasetInfo,
    count: Mapping[int, float],
    *,
    colored: bool = False,
    shares_only: bool = False,
    first: int = 0,
) -> str:
    """A bar for every class from ``first`` on, or for the most frequent if there are many."""
    numbers = sorted({*range(first, info.num_classes), *count})
    note = ""
    if len(numbers) > _MOST_CLASSES:
        ranked = sorted(numbers, key=lambda number: (-count.get(number, 0), number))
        numbers, others = ranked[:_MOST_CLASSES], ranked[_MOST_CLASSES:]
        absent = sum(not count.get(number, 0) for number in others)
        note = (
            f"The {len(numbers)} most frequent. Of the other {len(others):,}, none has more than "
            f"{count.get(others[0], 0):,g}, and {absent:,} have none."
        )
    total = sum(count.values())
    rows = []
    for number in numbers:
        value = count.get(number, 0)
        share = percent(value, total)
        text = share if shares_only else f"{round(value, 1):,g} ({share})"
        rows.append((class_name(info, number), float(value), text))
    colors = [_drawing.class_color(number) for number in numbers] if colored else ()
    bars = _drawing.bars(rows, colors)
    return f'{bars}<p class="note">{note}</p>' if note else bars


def _histogram(values: Sequence[int]) -> str:
    """How often every number comes, or every range of numbers if they are many."""
    low, high = min(values, default=0), max(values, default=0)
    width = -(-(high - low + 1) // 12)
    starts = range(low, high + 1, width)
    counts = collections.Counter((value - low) // width for value in values)
    labels = [str(s) if width == 1 else f"{s}-{s + width - 1}" for s in starts]
    return _drawing.columns(labels, [counts[place] for place in range(len(starts))])


def percent(part: float, whole: float) -> str:
    """Returns a share as text."""
    return f"{part / whole if whole else 0:.1%}"
