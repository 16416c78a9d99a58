"""Panoptic quality, which judges the segments of things and of stuff alike.

From "Panoptic Segmentation" (arXiv 1801.00868, section 4), with the treatment of void and of
crowds of its reference program, panopticapi. Checked against that program on its sample images.
Letters in shapes: h w image, k classes.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import final

import numpy as np
from jaxtyping import Integer

from scenax.models.metrics.accumulator import Accumulator


@final
class PanopticQuality(Accumulator):
    """PQ, and its factors SQ (quality of what was segmented) and RQ (of what was recognised).

    A predicted segment matches the true one of its class with which its intersection over union is
    above 0.5, of which there is one at most. Void pixels of the truth are taken out of predicted
    segments. A predicted segment that matches nothing is not held against the model if more than
    half of it is void or in a crowd of its class; crowds are never missed.
    """

    def __init__(
        self, class_ids: Iterable[int], thing_classes: Iterable[int], *, void_id: int = 0
    ) -> None:
        """Starts empty.

        Args:
          class_ids: all classes, with gaps or without.
          thing_classes: those of them that are things; the others are stuff.
          void_id: the id, in both maps, of pixels that belong to no segment.

        Raises:
          ValueError: if there is no class, or a thing is none of the classes.
        """
        self._class_ids = sorted({int(c) for c in class_ids})
        things = {int(c) for c in thing_classes}
        if not self._class_ids or not things <= set(self._class_ids):
            raise ValueError(
                f"class_ids has to name every class, things included, got {self._class_ids} and "
                f"the things {sorted(things)}."
            )
        self._index = {c: i for i, c in enumerate(self._class_ids)}
        self._is_thing = np.array([c in things for c in self._class_ids])
        self._void_id = void_id
        self.clear()

    def add(
        self,
        predicted_segments: Integer[np.ndarray, "h w"],
        predicted_classes: Mapping[int, int],
        target_segments: Integer[np.ndarray, "h w"],
        target_classes: Mapping[int, int],
        *,
        crowds: Collection[int] = (),
    ) -> None:
        """Adds one image.

        Args:
          predicted_segments: the id of each pixel's segment, or ``void_id``.
          predicted_classes: the class of each id that occurs there.
          target_segments: likewise.
          target_classes: likewise; a segment of which no pixel is left counts as missed.
          crowds: ids of true segments that stand for several things. Of several crowds of one
            class the last in ``target_classes`` counts, as in panopticapi.

        Raises:
          ValueError: if a map has an id without a class, a class is not one of ``class_ids``, a
            predicted id has no pixel, or a crowd is no true segment.
        """
        self._check("predicted", predicted_segments, predicted_classes)
        self._check("target", target_segments, target_classes)
        absent = set(predicted_classes) - set(np.unique(predicted_segments).tolist())
        strangers = set(crowds) - set(target_classes)
        if absent or strangers:
            raise ValueError(
                f"Predicted segments {sorted(absent)} have a class and no pixel, and crowds "
                f"{sorted(strangers)} are no true segments. Leave them out."
            )
        predicted_ids, columns = np.unique(predicted_segments, return_inverse=True)
        # True segments without pixels have a row as well, and so has void.
        target_ids = np.union1d(target_segments, [self._void_id, *target_classes]).astype(np.int64)
        rows = np.searchsorted(target_ids, target_segments)
        shape = (len(target_ids), len(predicted_ids))
        flat = rows.ravel() * shape[1] + columns.ravel()
        overlaps = np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape)
        row = {i: n for n, i in enumerate(target_ids.tolist())}
        column = {i: n for n, i in enumerate(predicted_ids.tolist())}
        self._count(
            overlaps,
            row[self._void_id],
            {column[i]: self._index[c] for i, c in predicted_classes.items()},
            {row[i]: self._index[c] for i, c in target_classes.items()},
            {row[i] for i in crowds},
        )

    def _check(self, side: str, segments: np.ndarray, classes: Mapping[int, int]) -> None:
        nameless = set(np.unique(segments).tolist()) - {self._void_id, *classes}
        unknown = set(classes.values()) - set(self._class_ids)
        if nameless or unknown or self._void_id in classes:
            raise ValueError(
                f"The {side} segments {sorted(nameless)[:5]} have no class, or the classes "
                f"{sorted(unknown)[:5]} are not in class_ids, or void ({self._void_id}) has a "
                "class. Give the class of every other id in the map."
            )

    def _count(
        self,
        overlaps: np.ndarray,
        void: int,
        predicted: Mapping[int, int],
        target: Mapping[int, int],
        crowds: Collection[int],
    ) -> None:
        """Counts an image's matches and misses from the overlap of every pair of segments."""
        target_areas, predicted_areas = overlaps.sum(1), overlaps.sum(0)
        unions = target_areas[:, None] + predicted_areas[None, :] - overlaps - overlaps[void]
        candidates = zip(*np.nonzero(2 * overlaps > unions), strict=True)
        matched_rows, matched_columns = set(), set()
        for r, c in ((int(r), int(c)) for r, c in candidates):
            if r in target and r not in crowds and target[r] == predicted.get(c):
                self._hits[target[r]] += 1
                self._ious[target[r]] += overlaps[r, c] / unions[r, c]
                matched_rows.add(r)
                matched_columns.add(c)
        for r in target.keys() - matched_rows - set(crowds):
            self._misses[target[r]] += 1
        crowd_of = {target[r]: r for r in target if r in crowds}
        for c in predicted.keys() - matched_columns:
            ignored = overlaps[void, c]
            if predicted[c] in crowd_of:
                ignored += overlaps[crowd_of[predicted[c]], c]
            if 2 * ignored <= predicted_areas[c]:
                self._inventions[predicted[c]] += 1

    def compute(self) -> dict[str, float]:
        """Returns ``PQ``, ``SQ`` and ``RQ``, the same with ``_things``, and with ``_stuff``.

        Each is from 0 to 1 and the mean over the classes that occur in truth or predictions, NaN if
        none of the group does.

        Raises:
          ValueError: if no segment was added.
        """
        values, seen = self._per_class()
        if not seen.any():
            raise ValueError("No segments were added. Call add with every image first.")
        groups = {"": seen, "_things": seen & self._is_thing, "_stuff": seen & ~self._is_thing}
        return {
            f"{name}{suffix}": float(figures[group].mean()) if group.any() else np.nan
            for suffix, group in groups.items()
            for name, figures in values.items()
        }

    def per_class(self) -> dict[int, dict[str, float]]:
        """Returns ``PQ``, ``SQ`` and ``RQ`` by class id, NaN for a class that occurs nowhere."""
        values, seen = self._per_class()
        return {
            c: {name: float(v[i]) if seen[i] else np.nan for name, v in values.items()}
            for c, i in self._index.items()
        }

    def _per_class(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        weight = self._hits + 0.5 * self._inventions + 0.5 * self._misses
        seen = weight > 0
        # Without hits the segmentation has no quality, and panopticapi says 0.
        values = {
            "PQ": self._ious / np.where(seen, weight, 1),
            "SQ": self._ious / np.maximum(self._hits, 1),
            "RQ": self._hits / np.where(seen, weight, 1),
        }
        return values, seen

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns sums by class; see ``Accumulator``."""
        return {
            "ious": self._ious,
            "hits": self._hits,
            "inventions": self._inventions,
            "misses": self._misses,
        }

    def add_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Adds what ``to_arrays`` returned; see ``Accumulator``.

        Raises:
          ValueError: if it came from another number of classes.
        """
        if len(arrays["ious"]) != len(self._class_ids):
            raise ValueError(
                f"Sums of {len(arrays['ious'])} classes cannot be added to sums of "
                f"{len(self._class_ids)}. Use the same class_ids on both sides."
            )
        self._ious = self._ious + arrays["ious"]
        self._hits = self._hits + arrays["hits"]
        self._inventions = self._inventions + arrays["inventions"]
        self._misses = self._misses + arrays["misses"]

    def clear(self) -> None:
        """Forgets all that was added."""
        classes = len(self._class_ids)
        self._ious = np.zeros(classes)
        self._hits = np.zeros(classes, np.int64)
        self._inventions = np.zeros(classes, np.int64)
        self._misses = np.zeros(classes, np.int64)
