"""Writes what other implementations compute for boxes, for tests to compare with.

``python make_boxes.py PEER...``, by hand, where the peer is installed; each writes its own entries
of ``boxes.npz`` and leaves the others. The inputs are made by the functions here, from seeds, in
the tests too; only outputs are stored.

- ``torchvision`` 0.28 with torch 2.13, in float64: overlaps of boxes, RoIAlign on the map. RoIAlign
  off the map is not taken: where its compiled operators do not load torchvision goes its way in
  plain torch, which lacks the rule that samples far outside are 0.
- ``onnxruntime`` 1.32 with onnx 1.23, in float64: RoIAlign, off the map too.
- ``tensorflow`` 2.21, in float32: non-maximum suppression, which torchvision has only compiled.
"""

import pathlib
import sys

import numpy as np

FILE = pathlib.Path(__file__).parent / "boxes.npz"
ROI_SIZE = (3, 4)
ROI_RATIOS = (1, 2, 3)
ROIS_ON_MAP = (0, 3, 4)
NMS_THRESHOLDS = (0.1, 0.3, 0.5, 0.7)
SOFT_SIGMAS = (0.1, 0.5, 1.0)
SOFT_THRESHOLD = 0.05


def box_pairs():
    """Two times 36 xyxy boxes [36 4]: apart, overlapping, contained, and four that are the same."""
    rng = np.random.default_rng(1)
    corner, side = rng.uniform(0, 50, (2, 36, 2)), rng.uniform(1, 60, (2, 36, 2))
    a, b = np.concatenate([corner, corner + side], axis=-1)
    b[:4] = a[:4]
    b[4:8, 2:] = b[4:8, :2] + 0.25 * (a[4:8, 2:] - a[4:8, :2])
    return a, b


def detections():
    """Boxes in clusters [60 4], scores with ties [60], classes [60], in float32."""
    rng = np.random.default_rng(2)
    centers = rng.uniform(0, 100, (8, 2))[rng.integers(0, 8, 60)] + rng.normal(0, 4, (60, 2))
    half = rng.uniform(5, 15, (60, 2))
    boxes = np.concatenate([centers - half, centers + half], axis=-1).astype(np.float32)
    scores = (rng.integers(1, 40, 60) / 40).astype(np.float32)
    return boxes, scores, rng.integers(0, 3, 60).astype(np.int32)


def feature_maps():
    """Feature maps [2 9 11 3] and xyxy boxes [2 6 4]: inside, across borders, empty, outside."""
    rng = np.random.default_rng(3)
    boxes = rng.uniform(0, 5, (2, 6, 4)) + np.array([0.0, 0.0, 4.0, 3.0])
    boxes[:, 1] = [-3.5, -2.0, 4.0, 5.0]
    boxes[:, 2] = [7.0, 6.0, 14.5, 12.0]
    boxes[:, 3] = [4.0, 3.0, 4.0, 3.0]
    boxes[:, 4] = [0.0, 0.0, 11.0, 9.0]
    boxes[:, 5] = [20.0, 20.0, 30.0, 30.0]
    return rng.normal(size=(2, 9, 11, 3)), boxes


def declare_operators():
    """Lets torchvision's wheel import without CUDA, whose libraries its own operators need."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    declare_operators.library = library  # Declared for as long as it lives.


def torchvision():
    """Overlaps and RoIAlign."""
    try:
        from torchvision import ops
    except RuntimeError:
        declare_operators()
        from torchvision import ops
    import torch

    a, b = (torch.from_numpy(boxes) for boxes in box_pairs())
    out = {
        "iou": ops.box_iou(a, b),
        "giou": ops.generalized_box_iou(a, b),
        "diou": ops.distance_box_iou(a, b, eps=0.0),
        "ciou": ops.complete_box_iou(a[8:], b[8:], eps=0.0),  # 0 / 0 where two are the same
    }
    features, boxes = feature_maps()
    features = torch.from_numpy(features.transpose(0, 3, 1, 2).copy())
    rois = [torch.from_numpy(each) for each in boxes[:, ROIS_ON_MAP]]
    for ratio in ROI_RATIOS:
        pooled = ops.roi_align(features, rois, ROI_SIZE, sampling_ratio=ratio, aligned=True)
        pooled = pooled.permute(0, 2, 3, 1).reshape(2, len(ROIS_ON_MAP), *ROI_SIZE, 3)
        out[f"roi_{ratio}_torchvision"] = pooled
    return {key: value.numpy() for key, value in out.items()}


def onnxruntime():
    """RoIAlign."""
    import onnx
    import onnxruntime as ort
    from onnx import helper

    features, boxes = feature_maps()
    feed = {
        "features": features.transpose(0, 3, 1, 2).copy(),
        "rois": boxes.reshape(12, 4),
        "images": np.repeat(np.arange(2), 6),
    }
    kinds = dict(zip(feed, ("DOUBLE", "DOUBLE", "INT64"), strict=True))
    out = {}
    for ratio in ROI_RATIOS:
        node = helper.make_node(
            "RoiAlign",
            list(feed),
            ["pooled"],
            output_height=ROI_SIZE[0],
            output_width=ROI_SIZE[1],
            sampling_ratio=ratio,
            coordinate_transformation_mode="half_pixel",
        )

        def value(name, kind, shape=None):
            return helper.make_tensor_value_info(name, getattr(onnx.TensorProto, kind), shape)

        inputs = [value(name, kind, feed[name].shape) for name, kind in kinds.items()]
        graph = helper.make_graph([node], "g", inputs, [value("pooled", "DOUBLE")])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=10)
        (pooled,) = ort.InferenceSession(model.SerializeToString()).run(None, feed)
        out[f"roi_{ratio}"] = pooled.transpose(0, 2, 3, 1).reshape(2, 6, *ROI_SIZE, 3)
    return out


def tensorflow():
    """What non-maximum suppression keeps, in its order."""
    import tensorflow as tf

    boxes, scores, classes = detections()
    boxes = boxes[:, [1, 0, 3, 2]]
    out = {}
    for threshold in NMS_THRESHOLDS:
        keep = tf.image.non_max_suppression(boxes, scores, 60, iou_threshold=threshold)
        out[f"nms_{threshold}"] = keep.numpy()
        kept = []
        for one in range(3):
            own = np.flatnonzero(classes == one)
            keep = tf.image.non_max_suppression(boxes[own], scores[own], 60, threshold)
            kept.extend(own[keep.numpy()].tolist())
        out[f"class_nms_{threshold}"] = np.array(sorted(kept, key=lambda i: (-scores[i], i)))
    for sigma in SOFT_SIGMAS:
        # Its Gaussian has a factor of one half before the square, the paper's has not.
        keep, decayed = tf.image.non_max_suppression_with_scores(
            boxes,
            scores,
            60,
            iou_threshold=1.0,
            score_threshold=SOFT_THRESHOLD,
            soft_nms_sigma=sigma / 2,
        )
        out[f"soft_{sigma}"], out[f"soft_{sigma}_scores"] = keep.numpy(), decayed.numpy()
    return out


PEERS = (torchvision, onnxruntime, tensorflow)

if __name__ == "__main__":
    arrays = dict(np.load(FILE)) if FILE.exists() else {}
    for peer in sys.argv[1:]:
        arrays |= {f.__name__: f for f in PEERS}[peer]()
    np.savez_compressed(FILE, **{key: arrays[key] for key in sorted(arrays)})
