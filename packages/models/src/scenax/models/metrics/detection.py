"""Average precision and recall of detections, as COCO defines them.

The matching is that of the library faster-coco-eval, which gives pycocotools' figures ("Microsoft
COCO: Common Objects in Context", arXiv 1405.0312, and cocodataset.org/#detection-eval). Checked
against pycocotools, and against the figures that COCO publishes for its example results. Letters
in shapes: n boxes, h w image, k classes.
"""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, final

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped

from scenax.common import masks as masks_lib
from scenax.models.metrics.accumulator import Accumulator

Masks: TypeAlias = Sequence[Mapping[str, Any]] | Bool[np.ndarray, "n h w"]
"""A mask for each box: bits, or COCO's compressed runs ``{"size": [h, w], "counts": ...}``."""

_NAMES = (
    *("AP", "AP_50", "AP_75", "AP_small", "AP_medium", "AP_large"),
    *("AR_max_1", "AR_max_10", "AR_max_100", "AR_small", "AR_medium", "AR_large"),
)


@final
class CocoEvaluator(Accumulator):
    """COCO's twelve figures for boxes or for masks.

    Every image needs its targets, ``add_targets`` with arrays of length 0 if it has none; what is
    predicted there are false positives. An image without predictions has missed its targets.

    Needs ``faster-coco-eval``, which ``pip install "scenax-models[coco]"`` brings.
    """

    def __init__(
        self, class_ids: Iterable[int], *, iou_type: Literal["bbox", "segm"] = "bbox"
    ) -> None:
        """Starts empty.

        Args:
          class_ids: the classes that count, with gaps or without; ``range(80)`` for 80 of them.
          iou_type: whether boxes or masks are compared.

        Raises:
          ImportError: if faster-coco-eval is not installed.
          ValueError: if there is no class, or the type is another.
        """
        if iou_type not in ("bbox", "segm"):
            raise ValueError(f"iou_type has to be 'bbox' or 'segm', got {iou_type!r}.")
        self._class_ids = sorted({int(c) for c in class_ids})
        if not self._class_ids:
            raise ValueError("class_ids is empty. Give at least one class.")
        self._iou_type = iou_type
        self._library = _library()
        self.clear()

    def add_predictions(
        self,
        image_id: int | np.integer,
        boxes: Float[np.ndarray, "n 4"],
        scores: Float[np.ndarray, " n"],
        classes: Integer[np.ndarray, " n"],
        *,
        masks: Masks | None = None,
    ) -> None:
        """Adds all that is predicted for one image, in any order.

        Args:
          image_id: that of ``add_targets``.
          boxes: absolute ``x0 y0 x1 y1``, in the units in which the targets' are.
          scores: any scores, higher is likelier. Of the boxes of a class in an image those with
            the 100 highest count.
          classes: their ids; boxes of a class that is not in ``class_ids`` are ignored, as
            pycocotools does.
          masks: one for each box if masks are compared, which then replace the boxes.

        Raises:
          ValueError: if the image already has predictions; for a box or score that is not finite
            or a box of negative size; if masks are needed and missing.
        """
        if not np.isfinite(scores.astype(np.float64)).all():
            raise ValueError(f"Scores of image {image_id} are not finite.")
        fields = self._fields(image_id, boxes, classes, masks)
        fields["scores"] = scores.astype(np.float64)
        self._predictions.add(int(image_id), fields)

    def add_targets(
        self,
        image_id: int | np.integer,
        boxes: Float[np.ndarray, "n 4"],
        classes: Integer[np.ndarray, " n"],
        *,
        is_crowd: Shaped[np.ndarray, " n"] | None = None,
        areas: Shaped[np.ndarray, " n"] | None = None,
        masks: Masks | None = None,
    ) -> None:
        """Adds all that is true of one image.

        Args:
          image_id: any number, different for each image.
          boxes: absolute ``x0 y0 x1 y1``.
          classes: their ids.
          is_crowd: not 0 for boxes that stand for several objects: any number of predictions may
            lie there, and count neither as right nor as wrong. None by default.
          areas: in square pixels, which say what is small (below 32^2), medium, and large (from
            96^2). By default those of the masks or, without masks, of the boxes; COCO's own
            figures for boxes use the areas of the masks, which its annotations name ``area``.
          masks: one for each box if masks are compared.

        Raises:
          ValueError: as for ``add_predictions``, and for a class that is not in ``class_ids``.
        """
        unknown = np.setdiff1d(classes, self._class_ids)
        if unknown.size:
            raise ValueError(
                f"Targets of image {image_id} have classes {unknown.tolist()}, which are not in "
                "class_ids. Leave them out, or name them there."
            )
        fields = self._fields(image_id, boxes, classes, masks)
        if areas is not None:
            fields["areas"] = areas.astype(np.float64)
        crowd = np.zeros(len(boxes)) if is_crowd is None else is_crowd
        fields["is_crowd"] = (crowd != 0).astype(np.int64)
        self._targets.add(int(image_id), fields)

    def compute(self) -> dict[str, float]:
        """Returns the twelve figures, under the names that Scenic gives them.

        These are ``AP``, the mean over classes and over the thresholds of intersection over union
        from 0.5 to 0.95; ``AP_50`` and ``AP_75`` at one threshold; ``AP_small``, ``AP_medium`` and
        ``AP_large`` by area; ``AR_max_1``, ``AR_max_10`` and ``AR_max_100``, the recall with so
        many predictions per class and image; ``AR_small``, ``AR_medium`` and ``AR_large``. A
        figure is NaN where nothing is true that it could be taken of, where COCO says -1.

        Raises:
          ValueError: if no targets were added, or those of an image with predictions were not.
        """
        evaluation = self._evaluate()
        evaluation.summarize()
        figures = (float(value) for value in evaluation.stats[:12])
        return {n: v if v > -1 else np.nan for n, v in zip(_NAMES, figures, strict=True)}

    def per_class_ap(self) -> dict[int, float]:
        """Returns each class's ``AP`` by its id, NaN for a class of which nothing is true.

        Raises:
          ValueError: as ``compute``.
        """
        # Thresholds, recalls, classes, areas (of which the first is all), numbers of predictions.
        precision = self._evaluate().eval["precision"][:, :, :, 0, -1]
        by_class = zip(self._class_ids, np.moveaxis(precision, 2, 0), strict=True)
        return {c: float(p[p > -1].mean()) if (p > -1).any() else np.nan for c, p in by_class}

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns all images' predictions and targets, one after another; see ``Accumulator``."""
        sides = {"predictions": self._predictions, "targets": self._targets}
        return {f"{s}/{n}": a for s, images in sides.items() for n, a in images.to_arrays().items()}

    def add_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Adds what ``to_arrays`` returned; see ``Accumulator``.

        Raises:
          ValueError: for an image that is here already.
        """
        for side, images in (("predictions", self._predictions), ("targets", self._targets)):
            prefix = f"{side}/"
            images.add_arrays(
                {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
            )

    def clear(self) -> None:
        """Forgets all that was added."""
        self._predictions = _Images("predictions")
        self._targets = _Images("targets")

    def _fields(
        self,
        image_id: int | np.integer,
        boxes: np.ndarray,
        classes: np.ndarray,
        masks: Masks | None,
    ) -> dict[str, np.ndarray]:
        boxes = boxes.astype(np.float64)
        sizes = boxes[:, 2:] - boxes[:, :2]
        if not (np.isfinite(boxes).all() and (sizes >= 0).all()):
            raise ValueError(
                f"A box of image {image_id} is not finite or has a negative size. Boxes have to be "
                "absolute x0 y0 x1 y1; common.boxes converts other forms."
            )
        fields = {
            "boxes": np.concatenate([boxes[:, :2], sizes], axis=1),
            "classes": classes.astype(np.int64),
            "areas": sizes[:, 0] * sizes[:, 1],
        }
        if self._iou_type == "bbox":
            return fields
        if masks is None or len(masks) != len(boxes):
            raise ValueError(
                f"Masks are compared, and image {image_id} has {len(boxes)} boxes and "
                f"{'no' if masks is None else len(masks)} masks. Give one for each box."
            )
        return fields | _runs(masks)

    def _evaluate(self) -> Any:
        ids = sorted(self._targets.images)
        if not ids:
            raise ValueError("No targets were added. Call add_targets for every image first.")
        if missing := sorted(self._predictions.images.keys() - self._targets.images.keys()):
            raise ValueError(
                f"{len(missing)} images have predictions and no targets: {missing[:5]} first. Call "
                "add_targets for every image, with arrays of length 0 where there is nothing."
            )
        images = [{"id": i} | self._image_size(i) for i in ids]
        common = {"images": images, "categories": [{"id": c} for c in self._class_ids]}
        coco = [
            self._library.COCO({**common, "annotations": side.annotations(ids)})
            for side in (self._targets, self._predictions)
        ]
        evaluation = self._library.COCOeval_faster(
            *coco, iouType=self._iou_type, print_function=_say_nothing, rle_iou_max_workers=1
        )
        evaluation.evaluate()
        evaluation.accumulate()
        return evaluation

    def _image_size(self, image_id: int) -> dict[str, int]:
        """Returns the size that the masks of an image have, if it has any."""
        sides = (self._predictions.images, self._targets.images)
        sizes = {
            (int(height), int(width))
            for side in sides
            for height, width in side.get(image_id, {}).get("run_sizes", ())
        }
        if len(sizes) > 1:
            raise ValueError(
                f"Masks of image {image_id} differ in size: {sorted(sizes)}. Resize predictions to "
                "the size of the targets."
            )
        return dict(zip(("height", "width"), *sizes, strict=True)) if sizes else {}


class _Images:
    """One side, predictions or targets: the arrays of each image, of which the first axis is n."""

    def __init__(self, side: str) -> None:
        self._side = side
        self.images: dict[int, dict[str, np.ndarray]] = {}

    def add(self, image_id: int, fields: dict[str, np.ndarray]) -> None:
        if image_id in self.images:
            raise ValueError(
                f"Image {image_id} has {self._side} already. Add each image once: leave out the "
                "repetitions that pad batches, where batch_mask is 0."
            )
        self.images[image_id] = fields

    def annotations(self, ids: list[int]) -> list[dict[str, Any]]:
        """Returns a dictionary for each box, in the form of COCO's files."""
        result = []
        for image_id in ids:
            fields = self.images.get(image_id)
            if fields is None:
                continue
            columns = {
                "bbox": fields["boxes"].tolist(),
                "category_id": fields["classes"].tolist(),
                "area": fields["areas"].tolist(),
            }
            if "scores" in fields:
                columns["score"] = fields["scores"].tolist()
            if "is_crowd" in fields:
                columns["iscrowd"] = fields["is_crowd"].tolist()
            if "run_bytes" in fields:
                columns["segmentation"] = _segmentations(fields)
            for values in zip(*columns.values(), strict=True):
                # The library takes 0 for "matched with nothing".
                identity = {"id": len(result) + 1, "image_id": image_id}
                result.append(identity | dict(zip(columns, values, strict=True)))
        return result

    def to_arrays(self) -> dict[str, np.ndarray]:
        if not self.images:
            return {}
        every = list(self.images.values())
        arrays = {name: np.concatenate([f[name] for f in every]) for name in every[0]}
        arrays["image_ids"] = np.array(list(self.images), np.int64)
        arrays["lengths"] = np.array([len(f["boxes"]) for f in every], np.int64)
        return arrays

    def add_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        if not arrays:
            return
        fields = dict(arrays)
        ids, ends = fields.pop("image_ids"), np.cumsum(fields.pop("lengths"))
        cuts = {name: np.split(array, ends[:-1]) for name, array in fields.items()}
        if "run_bytes" in fields:
            byte_ends = np.cumsum([int(lengths.sum()) for lengths in cuts["run_lengths"]])
            cuts["run_bytes"] = np.split(fields["run_bytes"], byte_ends[:-1])
        for index, image_id in enumerate(ids.tolist()):
            self.add(image_id, {name: parts[index] for name, parts in cuts.items()})


def _runs(given: Masks) -> dict[str, np.ndarray]:
    """Returns masks as arrays of their runs. Runs that are given are checked by being read."""
    bits = given if isinstance(given, np.ndarray) else masks_lib.from_rle(list(given))
    runs = masks_lib.to_rle(bits)
    counts = [run["counts"] for run in runs]
    return {
        "areas": masks_lib.area(bits).astype(np.float64),
        "run_sizes": np.array([run["size"] for run in runs], np.int64).reshape(-1, 2),
        "run_lengths": np.array([len(c) for c in counts], np.int64),
        "run_bytes": np.frombuffer(b"".join(counts), np.uint8),
    }


def _segmentations(fields: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    parts = np.split(fields["run_bytes"], np.cumsum(fields["run_lengths"])[:-1])
    sizes = fields["run_sizes"].tolist()
    # With no mask there is still one part, which is empty.
    return [{"size": s, "counts": p.tobytes()} for s, p in zip(sizes, parts, strict=False)]


def _library() -> Any:
    try:
        return importlib.import_module("faster_coco_eval")
    except ImportError as error:
        raise ImportError(
            "CocoEvaluator needs the library faster-coco-eval, which is not installed: "
            'pip install "scenax-models[coco]".'
        ) from error


def _say_nothing(*_: Any) -> None:
    """Takes the library's progress reports."""
