import contextlib
import importlib
import io
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from scenax.models.metrics.detection import CocoEvaluator

GOLDENS = Path(__file__).parent / "goldens"
NAMES = [
    "AP",
    "AP_50",
    "AP_75",
    "AP_small",
    "AP_medium",
    "AP_large",
    "AR_max_1",
    "AR_max_10",
    "AR_max_100",
    "AR_small",
    "AR_medium",
    "AR_large",
]


def by_pycocotools(images, class_ids, kind="bbox"):
    """Returns the twelve figures and each class's AP; images are keyword arguments of add_*."""
    truth = {
        "images": [{"id": i, "height": 60, "width": 80} for i in images],
        "categories": [{"id": c} for c in class_ids],
        "annotations": [],
    }
    results = []
    for image_id, (targets, predictions) in images.items():
        for n, box in enumerate(targets["boxes"]):
            x, y, w, h = box[0], box[1], box[2] - box[0], box[3] - box[1]
            annotation = {
                "id": len(truth["annotations"]) + 1,
                "image_id": image_id,
                "bbox": [x, y, w, h],
                "category_id": int(targets["classes"][n]),
                "iscrowd": int(targets["is_crowd"][n]),
                "area": float(targets["areas"][n]),
            }
            if kind == "segm":
                bits = np.asfortranarray(targets["masks"][n].astype(np.uint8))
                annotation["segmentation"] = coco_mask.encode(bits)
            truth["annotations"].append(annotation)
        for n, box in enumerate(predictions["boxes"]):
            x, y, w, h = box[0], box[1], box[2] - box[0], box[3] - box[1]
            result = {
                "image_id": image_id,
                "category_id": int(predictions["classes"][n]),
                "score": float(predictions["scores"][n]),
            }
            if kind == "segm":
                bits = np.asfortranarray(predictions["masks"][n].astype(np.uint8))
                result["segmentation"] = coco_mask.encode(bits)
            else:
                result["bbox"] = [x, y, w, h]
            results.append(result)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = [v if v > -1 else np.nan for v in evaluation.stats]
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    per_class = {
        c: p[p > -1].mean() if (p > -1).any() else np.nan
        for c, p in zip(sorted(class_ids), np.moveaxis(precision, 2, 0), strict=True)
    }
    return dict(zip(NAMES, figures, strict=True)), per_class


def close(got, wanted, tolerance=1e-12):
    assert list(got) == list(wanted)
    np.testing.assert_allclose(list(got.values()), list(wanted.values()), rtol=0, atol=tolerance)


def random_images(seed, class_ids, *, images=12, most=150, side=400, masks=False):
    """Targets, and predictions that are near them, elsewhere, doubled or tied in score."""
    rng = np.random.default_rng(seed)
    result = {}
    for image_id in rng.permutation(1000)[:images].tolist():
        n = int(rng.integers(0, 8))
        corner = rng.uniform(0, 0.7 * side, size=(n, 2))
        size = side * np.exp(rng.uniform(np.log(0.02), np.log(0.6), size=(n, 2)))
        boxes = np.concatenate([corner, np.minimum(corner + size, side)], axis=1)
        classes = rng.choice(class_ids, size=n)
        m = int(rng.integers(0, most))
        source = rng.integers(0, max(n, 1), size=m)
        near = boxes[source] if n else np.tile([0.0, 0.0, 9.0, 9.0], (m, 1))
        noise = side / 400 * rng.choice([0.5, 5.0, 60.0], size=(m, 1))
        found = near + noise * rng.normal(size=(m, 4))
        found = np.concatenate([found[:, :2], np.maximum(found[:, :2] + 1, found[:, 2:])], axis=1)
        guess = rng.choice(class_ids, size=m)
        guess = np.where(rng.random(m) < 0.7, classes[source], guess) if n else guess
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        targets = {
            "boxes": boxes,
            "classes": classes,
            "is_crowd": rng.random(n) < 0.2,
            "areas": areas * rng.uniform(0.5, 1, size=n),
        }
        scores = np.round(rng.random(m), 1)
        predictions = {"boxes": found, "classes": guess, "scores": scores}
        if masks:
            for sides in (targets, predictions):
                sides["masks"] = draw(sides["boxes"], 60, 80, rng)
            targets["areas"] = targets["masks"].sum((1, 2)).astype(np.float64)
        result[image_id] = targets, predictions
    return result


def draw(boxes, height, width, rng):
    y, x = np.mgrid[:height, :width][:, None]
    x0, y0, x1, y1 = boxes.T[:, :, None, None]
    inside = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    return inside & (rng.random(inside.shape) < 0.95)


def filled(images, class_ids, **settings):
    evaluator = CocoEvaluator(class_ids, **settings)
    for image_id, (targets, predictions) in images.items():
        evaluator.add_targets(image_id, **targets)
        evaluator.add_predictions(image_id, **predictions)
    return evaluator


CLASSES = [3, 7, 90, 91]  # with gaps, as COCO's


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("classes", [CLASSES, [1]])
def test_boxes_against_pycocotools(seed, classes):
    most = 300 if len(classes) == 1 else 150  # more than 100 of one class in an image
    images = random_images(seed, classes, most=most)
    evaluator = filled(images, classes)
    figures, per_class = by_pycocotools(images, classes)
    close(evaluator.compute(), figures)
    close(evaluator.per_class_ap(), per_class)
    assert 0.05 < figures["AP"] < 0.9
    assert len(set(figures.values())) > 8


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("encoded", [False, True])
def test_masks_against_pycocotools(seed, encoded):
    images = random_images(seed, CLASSES, most=40, side=60, masks=True)
    figures, per_class = by_pycocotools(images, CLASSES, "segm")
    for sides in images.values():
        for side in sides if encoded else ():
            bits = np.asfortranarray(side["masks"].transpose(1, 2, 0).astype(np.uint8))
            side["masks"] = coco_mask.encode(bits)
    evaluator = filled(images, CLASSES, iou_type="segm")
    close(evaluator.compute(), figures)
    close(evaluator.per_class_ap(), per_class)
    assert 0.05 < figures["AP"] < 0.9
    # Areas are those of the masks where none are given.
    again = CocoEvaluator(CLASSES, iou_type="segm")
    for image_id, (targets, predictions) in images.items():
        again.add_targets(image_id, **{n: a for n, a in targets.items() if n != "areas"})
        again.add_predictions(image_id, **predictions)
    close(again.compute(), figures)


def golden(group, image_id):
    with np.load(GOLDENS / "metrics_coco.npz") as file:
        arrays = {n.removeprefix(group): a for n, a in file.items() if n.startswith(group)}
    chosen = arrays["image_id"] == image_id
    result = {"classes": arrays["category_id"][chosen].astype(np.int64)}
    for ours, theirs in {"scores": "score", "areas": "area", "is_crowd": "iscrowd"}.items():
        if theirs in arrays:
            result[ours] = arrays[theirs][chosen]
    if "box" in arrays:
        x, y, w, h = arrays["box"][chosen].T / 100
        result["boxes"] = np.stack([x, y, x + w, y + h], axis=1)
    else:
        result["boxes"] = np.zeros((int(chosen.sum()), 4))
        parts = np.split(arrays["bytes"], np.cumsum(arrays["lengths"])[:-1])
        rows = np.flatnonzero(chosen)
        result["masks"] = [
            {"size": arrays["sizes"][r].tolist(), "counts": parts[r].tobytes()} for r in rows
        ]
    return result


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_cocos_own_example(kind):
    """Detections that COCO ships, on its 100 images; of the masks, those of the first 20."""
    facts = json.loads((GOLDENS / "metrics_coco.json").read_text())[kind]
    with np.load(GOLDENS / "metrics_coco.npz") as file:
        image_ids, class_ids = file["image_ids"], file["class_ids"]
    groups = {"bbox": ("targets/", "predictions/"), "segm": ("target_masks/", "predicted_masks/")}
    evaluator = CocoEvaluator(class_ids.tolist(), iou_type=kind)
    for image_id in image_ids[: facts["images"]]:
        evaluator.add_targets(image_id, **golden(groups[kind][0], image_id))
        evaluator.add_predictions(image_id, **golden(groups[kind][1], image_id))
    figures = evaluator.compute()
    if kind == "bbox":
        rounded = [float(f"{v:.3f}") for v in figures.values()]
        assert rounded == facts["published"]
        assert rounded[0] == 0.505
    else:
        close(figures, dict(zip(NAMES, facts["pycocotools"], strict=True)))


def test_images_without_detections_count():
    # The original Scenic took only images with detections for evaluated, and reported 0.591.
    targets = {
        "boxes": np.asarray([[10.0, 10.0, 50.0, 50.0], [60.0, 60.0, 90.0, 90.0]]),
        "classes": np.asarray([1, 1]),
        "is_crowd": np.zeros(2),
        "areas": np.asarray([1600.0, 900.0]),
    }
    found = {
        "boxes": np.asarray([[10.0, 10.0, 50.0, 50.0]]),
        "classes": np.asarray([1]),
        "scores": np.asarray([0.9]),
    }
    nothing = {"boxes": np.zeros((0, 4)), "classes": np.zeros(0, int), "scores": np.zeros(0)}
    images = {1: (targets, found), 2: (targets, nothing)}
    wanted, _ = by_pycocotools(images, [1])
    close(filled(images, [1]).compute(), wanted)
    without = CocoEvaluator([1])  # add_predictions is not even called for the second image
    without.add_targets(1, **targets)
    without.add_targets(2, **targets)
    without.add_predictions(1, **found)
    close(without.compute(), wanted)
    only_first, _ = by_pycocotools({1: images[1]}, [1])
    # One of four is found, all right: precision 1 at the recalls 0 to 0.25 of 101, of two to 0.5.
    assert wanted["AP"] == pytest.approx(26 / 101)
    assert only_first["AP"] == pytest.approx(51 / 101)


def test_images_without_targets_have_false_positives():
    box = np.asarray([[10.0, 10.0, 50.0, 50.0]])
    one = {"boxes": box, "classes": np.asarray([1])}
    none = {"boxes": np.zeros((0, 4)), "classes": np.zeros(0, int)}
    evaluator = CocoEvaluator([1])
    evaluator.add_targets(1, **one)
    evaluator.add_predictions(1, **one, scores=np.asarray([0.5]))
    assert evaluator.compute()["AP"] == pytest.approx(1)
    evaluator.add_targets(2, **none)
    evaluator.add_predictions(2, **one, scores=np.asarray([0.6]))
    assert evaluator.compute()["AP"] == pytest.approx(0.5)  # the first of two is wrong


def test_nothing_found_and_nothing_there():
    box = np.asarray([[10.0, 10.0, 50.0, 50.0]])
    evaluator = CocoEvaluator([1, 2])
    with pytest.raises(ValueError, match="No targets were added"):
        evaluator.compute()
    evaluator.add_targets(1, np.zeros((0, 4)), np.zeros(0, int))
    assert all(np.isnan(v) for v in evaluator.compute().values())
    evaluator.add_targets(2, box, np.asarray([1]))
    figures = evaluator.compute()
    assert figures["AP"] == figures["AP_medium"] == figures["AR_max_100"] == 0
    assert np.isnan(figures["AP_small"])
    per_class = evaluator.per_class_ap()
    assert per_class[1] == 0
    assert np.isnan(per_class[2])


def test_other_classes_of_predictions_are_ignored():
    images = random_images(7, CLASSES)
    evaluator = CocoEvaluator([3, 7])
    for image_id, (targets, predictions) in images.items():
        kept = np.isin(targets["classes"], [3, 7])
        evaluator.add_targets(image_id, **{n: a[kept] for n, a in targets.items()})
        evaluator.add_predictions(image_id, **predictions)
    _, per_class = by_pycocotools(images, CLASSES)
    close(evaluator.per_class_ap(), {c: per_class[c] for c in (3, 7)})


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_merging_is_adding(kind):
    images = random_images(5, CLASSES, most=40, side=60, masks=kind == "segm")
    half = dict(list(images.items())[:5])
    rest = {i: sides for i, sides in images.items() if i not in half}
    one, other = filled(half, CLASSES, iou_type=kind), filled(rest, CLASSES, iou_type=kind)
    other.add_targets(1001, np.zeros((0, 4)), np.zeros(0, int), masks=[])
    one.merge(other)
    one.merge(CocoEvaluator(CLASSES, iou_type=kind))
    np.testing.assert_equal(one.compute(), filled(images, CLASSES, iou_type=kind).compute())
    assert all(a.dtype != object for a in one.to_arrays().values())
    with pytest.raises(ValueError, match="has predictions already"):
        one.merge(other)
    one.clear()
    assert one.to_arrays() == {}


@pytest.mark.parametrize("side", ["targets", "predictions"])
def test_an_image_added_twice(side):
    evaluator = CocoEvaluator([1])
    arrays = {"boxes": np.zeros((0, 4)), "classes": np.zeros(0, int)}
    add = evaluator.add_targets
    if side == "predictions":
        add, arrays = evaluator.add_predictions, arrays | {"scores": np.zeros(0)}
    add(42, **arrays)
    with pytest.raises(ValueError, match=f"Image 42 has {side} already.*batch_mask"):
        add(42, **arrays)


def test_predictions_without_targets():
    evaluator = CocoEvaluator([1])
    evaluator.add_targets(1, np.zeros((0, 4)), np.zeros(0, int))
    for image_id in range(1, 9):
        evaluator.add_predictions(image_id, np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    with pytest.raises(ValueError, match=r"^7 images .* no targets: \[2, 3, 4, 5, 6\] first"):
        evaluator.compute()


def test_wrong_input():
    box, one = np.asarray([[1.0, 2.0, 3.0, 4.0]]), np.asarray([1])
    evaluator = CocoEvaluator([1])
    with pytest.raises(ValueError, match=r"Targets of image 5 have classes \[2\]"):
        evaluator.add_targets(5, box, np.asarray([2]))
    with pytest.raises(ValueError, match="image 5 is not finite or has a negative size"):
        evaluator.add_targets(5, box[:, ::-1], one)
    with pytest.raises(ValueError, match="image 5 is not finite or has a negative size"):
        evaluator.add_predictions(5, box * np.nan, np.ones(1), one)
    with pytest.raises(ValueError, match="Scores of image 5 are not finite"):
        evaluator.add_predictions(5, box, np.asarray([np.nan]), one)
    masks = CocoEvaluator([1], iou_type="segm")
    with pytest.raises(ValueError, match="1 boxes and no masks"):
        masks.add_targets(5, box, one)
    masks.add_targets(5, box, one, masks=np.ones((1, 4, 5), bool))
    masks.add_predictions(5, box, np.ones(1), one, masks=np.ones((1, 5, 4), bool))
    with pytest.raises(ValueError, match=r"image 5 differ in size: \[\(4, 5\), \(5, 4\)\]"):
        masks.compute()
    with pytest.raises(ValueError, match="class_ids is empty"):
        CocoEvaluator([])


def test_it_is_quiet(capfd, caplog):
    with caplog.at_level(logging.DEBUG):
        evaluator = filled(random_images(0, CLASSES, images=3), CLASSES)
        evaluator.compute()
        evaluator.per_class_ap()
    assert capfd.readouterr() == ("", "")
    assert [r for r in caplog.records if r.levelno > logging.DEBUG] == []


def test_without_the_library(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r'pip install "scenax-models\[coco\]"'):
        CocoEvaluator([1])


@pytest.mark.parametrize("counts", [b"\x00", "9" * 50, [-1, 5], b"03"])
def test_runs_that_are_no_masks_are_refused(counts):
    """They may come from anyone, and the library's C code would believe them."""
    evaluator = CocoEvaluator([1], iou_type="segm")
    boxes, classes = np.array([[0.0, 0, 2, 2]]), np.array([1])
    with pytest.raises(ValueError, match="counts"):
        evaluator.add_targets(7, boxes, classes, masks=[{"size": [2, 2], "counts": counts}])
