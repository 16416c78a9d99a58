"""Makes the goldens of the metrics: published examples, and figures of reference programs.

Run as ``python make_metrics.py coco COCOAPI FASTER_COCO_EVAL`` with
checkouts (working or bare) of ``cocodataset/cocoapi`` and ``MiXaiLL76/faster_coco_eval``, in an
environment with pycocotools, and as ``... panoptic PANOPTICAPI`` with one of
``cocodataset/panopticapi``, in an environment with numpy and pillow.
"""

import contextlib
import copy
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
SEGM_IMAGES = 20  # the masks of all hundred images would not stay small


def show(repository, path):
    return subprocess.check_output(["git", "-C", repository, "show", f"HEAD:{path}"])


def runs(segmentations):
    counts = [s["counts"] for s in segmentations]
    counts = [c.encode() if isinstance(c, str) else c for c in counts]
    return {
        "sizes": np.array([s["size"] for s in segmentations], np.int16),
        "lengths": np.array([len(c) for c in counts], np.int32),
        "bytes": np.frombuffer(b"".join(counts), np.uint8),
    }


def columns(annotations, names):
    dtypes = {"image_id": np.int32, "category_id": np.int8, "iscrowd": bool}
    return {n: np.array([a[n] for a in annotations], dtypes.get(n, np.float64)) for n in names}


def hundredths(boxes):
    """Returns COCO's boxes, which have two decimals, as integers without loss."""
    whole = np.round(np.array(boxes) * 100).astype(np.int32)
    # A handful of annotations has more decimals, which move no printed digit.
    assert np.abs(whole / 100 - boxes).max() < 0.006
    return whole


def pycocotools_figures(truth, results, kind):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(results)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()


def published(text, kind):
    block = text.split(f"type={kind}\n")[1].split("-----")[0]
    return [float(line.rsplit("=", 1)[1]) for line in block.splitlines() if "maxDets" in line]


def coco(cocoapi, faster):
    from pycocotools import mask

    truth = json.loads(show(faster, "tests/dataset/cocoapi/instances_val2014_100.json"))
    boxes = json.loads(show(cocoapi, "results/instances_val2014_fakebbox100_results.json"))
    masks = json.loads(show(cocoapi, "results/instances_val2014_fakesegm100_results.json"))
    text = show(cocoapi, "results/val2014_fake_eval_res.txt").decode()
    sizes = {i["id"]: (i["height"], i["width"]) for i in truth["images"]}
    few = sorted(sizes)[:SEGM_IMAGES]
    for annotation in truth["annotations"]:
        size, outline = sizes[annotation["image_id"]], annotation["segmentation"]
        outline = mask.frPyObjects(outline, *size)
        annotation["segmentation"] = mask.merge(outline) if isinstance(outline, list) else outline

    some_truth = truth | {"images": [i for i in truth["images"] if i["id"] in few]}
    some_truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in few]
    some_masks = [m for m in masks if m["image_id"] in few]
    groups = {
        "targets": columns(truth["annotations"], ["image_id", "category_id", "iscrowd", "area"])
        | {"box": hundredths([a["bbox"] for a in truth["annotations"]])},
        "predictions": columns(boxes, ["image_id", "category_id", "score"])
        | {"box": hundredths([d["bbox"] for d in boxes])},
        "target_masks": columns(
            some_truth["annotations"], ["image_id", "category_id", "iscrowd", "area"]
        )
        | runs([a["segmentation"] for a in some_truth["annotations"]]),
        "predicted_masks": columns(some_masks, ["image_id", "category_id", "score"])
        | runs([m["segmentation"] for m in some_masks]),
    }
    arrays = {f"{g}/{n}": a for g, values in groups.items() for n, a in values.items()}
    arrays["image_ids"] = np.array(sorted(sizes), np.int32)
    arrays["class_ids"] = np.array([c["id"] for c in truth["categories"]], np.int8)
    np.savez_compressed(HERE / "metrics_coco.npz", **arrays)
    whole = pycocotools_figures(truth, masks, "segm")
    np.testing.assert_allclose(whole, published(text, "segm"), atol=0.0005)
    figures = {
        "bbox": {"images": len(sizes), "published": published(text, "bbox")},
        "segm": {
            "images": len(few),
            "pycocotools": pycocotools_figures(some_truth, some_masks, "segm"),
        },
    }
    (HERE / "metrics_coco.json").write_text(json.dumps(figures, indent=1) + "\n")


def perturbed(segments, classes, rng):
    """Returns a prediction: the truth shifted, with segments dropped, merged, split, renamed."""
    segments = np.roll(segments, rng.integers(-4, 5, size=2), axis=(0, 1))
    result, named = np.zeros_like(segments), {}
    names = np.array(sorted(set(classes.values())))
    for one in np.unique(segments[segments > 0]).tolist():
        name, inside = classes[one], segments == one
        fate = rng.random()
        if fate < 0.1:
            continue
        same = [i for i, c in named.items() if c == name]
        if fate < 0.2 and same:
            result[inside] = same[0]
            continue
        if fate < 0.35:
            name = int(rng.choice(names))
        named[new := len(named) + 1] = name
        result[inside] = new
        if 0.35 <= fate < 0.5:
            columns = np.flatnonzero(inside.any(0))
            cut = columns[int(rng.uniform(0.2, 0.8) * len(columns))]
            other = inside & (np.arange(inside.shape[1])[None, :] > cut)
            if other.any() and not other[inside].all():
                named[new + 1] = name
                result[other] = new + 1
    # Some of what is void in the truth is given to a segment of which nothing else is.
    void = (segments == 0) & (result == 0)
    void[:, : void.shape[1] // 2] = False
    if void.any():
        named[new := len(named) + 1] = int(rng.choice(names))
        result[void] = new
    return result, named


def write_panoptic(folder, name, images, categories, annotations):
    from PIL import Image

    (folder / name).mkdir()
    for image_id, segments in images.items():
        colours = np.stack([segments, np.zeros_like(segments), np.zeros_like(segments)], axis=-1)
        Image.fromarray(colours.astype(np.uint8)).save(folder / name / f"{image_id}.png")
    content = {"categories": categories, "annotations": annotations}
    (folder / f"{name}.json").write_text(json.dumps(content))
    return str(folder / f"{name}.json")


def panoptic(panopticapi):
    from PIL import Image

    truth = json.loads(show(panopticapi, "sample_data/panoptic_examples.json"))
    arrays, figures, images, annotations = {}, {"images": {}, "predictions": []}, {}, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = subprocess.check_output(["git", "-C", panopticapi, "archive", "HEAD"])
        subprocess.run(["tar", "x", "-C", name], input=archive, check=True)
        sys.path.insert(0, name)
        from panopticapi.evaluation import pq_compute

        for annotation in truth["annotations"]:
            file = folder / "sample_data/panoptic_examples" / annotation["file_name"]
            colours = np.array(Image.open(file), np.int64)[::2, ::2]
            ids = colours @ [1, 256, 256**2]
            image_id, segments, infos = annotation["image_id"], np.zeros(ids.shape, np.uint8), []
            for info in annotation["segments_info"]:
                inside = ids == info["id"]
                if inside.any():
                    segments[inside] = len(infos) + 1
                    infos.append(info | {"id": len(infos) + 1, "area": int(inside.sum())})
            images[image_id] = arrays[f"target/{image_id}"] = segments
            annotations.append(
                {"image_id": image_id, "file_name": f"{image_id}.png", "segments_info": infos}
            )
            figures["images"][image_id] = {
                "classes": {i["id"]: i["category_id"] for i in infos},
                "crowds": [i["id"] for i in infos if i["iscrowd"]],
            }
        true_file = write_panoptic(folder, "true", images, truth["categories"], annotations)
        for seed in range(3):
            rng, predictions, named, found = np.random.default_rng(seed), {}, {}, []
            for image_id, segments in images.items():
                classes = figures["images"][image_id]["classes"]
                predictions[image_id], named[image_id] = perturbed(segments, classes, rng)
                arrays[f"predicted_{seed}/{image_id}"] = predictions[image_id]
                infos = [{"id": i, "category_id": c} for i, c in named[image_id].items()]
                found.append(
                    {"image_id": image_id, "file_name": f"{image_id}.png", "segments_info": infos}
                )
            file = write_panoptic(folder, f"found_{seed}", predictions, truth["categories"], found)
            with contextlib.redirect_stdout(io.StringIO()):
                results = pq_compute(true_file, file)
            present = {c for i in figures["images"].values() for c in i["classes"].values()}
            results["per_class"] = {c: v for c, v in results["per_class"].items() if c in present}
            figures["predictions"].append({"classes": named, "panopticapi": results})
    figures["things"] = [c["id"] for c in truth["categories"] if c["isthing"]]
    figures["stuff"] = [c["id"] for c in truth["categories"] if not c["isthing"]]
    np.savez_compressed(HERE / "metrics_panoptic.npz", **arrays)
    (HERE / "metrics_panoptic.json").write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    {"coco": coco, "panoptic": panoptic}[sys.argv[1]](*sys.argv[2:])
