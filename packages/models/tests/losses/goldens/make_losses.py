"""Writes ``losses.npz``: what torch, torchvision and transformers say of seeded inputs.

``python make_losses.py``, by hand, where torch 2.13.0, torchvision 0.28.0 and transformers 5.23.0
are installed. The tests make the same inputs with ``inputs`` and compare.
"""

import pathlib
import runpy

import numpy as np

FOLDER = pathlib.Path(__file__).parent


def inputs() -> dict[str, np.ndarray]:
    """Everything in float64, from one seed."""
    rng = np.random.default_rng(0)

    def some_boxes(*shape):
        """xyxy, as shares of an image."""
        corner, size = rng.uniform(0, 0.6, (*shape, 2)), rng.uniform(0.05, 0.4, (*shape, 2))
        return np.concatenate([corner, corner + size], axis=-1)

    labels = rng.integers(0, 5, (3, 6, 7))
    labels[rng.uniform(size=labels.shape) < 0.3] = 255
    mask = np.array([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1], [0] * 6, [1, 0, 0, 0, 0, 0]])
    grid = np.stack(np.meshgrid(np.arange(0.1, 1, 0.2), np.arange(0.1, 1, 0.2)), -1).reshape(-1, 2)
    anchors = np.concatenate([np.tile(grid, (3, 1)), np.repeat([0.15, 0.3, 0.5], 25)[:, None]], 1)
    anchors = np.stack([anchors[:, i] + s * anchors[:, 2] / 2 for s in (-1, 1) for i in (0, 1)], 1)
    return {
        "logits": rng.normal(size=(8, 5)) * 3,
        "teacher": rng.normal(size=(8, 5)) * 2,
        "multi_hot": rng.integers(0, 2, (8, 5)).astype(float),
        "pixels": rng.normal(size=(3, 6, 7, 5)) * 2,
        "pixel_labels": labels,
        "class_weights": rng.uniform(0.2, 2, 5),
        "boxes": some_boxes(40),
        "others": some_boxes(40),
        "image_embeddings": rng.normal(size=(6, 9)) / 3,
        "text_embeddings": rng.normal(size=(6, 9)) / 3,
        "set_logits": rng.normal(size=(4, 9, 6)),
        "set_boxes": np.concatenate(
            [rng.uniform(0.2, 0.8, (4, 9, 2)), rng.uniform(0.05, 0.4, (4, 9, 2))], axis=-1
        ),
        "target_boxes": some_boxes(4, 6),
        "target_classes": rng.integers(0, 5, (4, 6)),
        "target_mask": mask,
        "anchors": anchors,
        "anchor_logits": rng.normal(size=(4, 75, 5)) - 2,
        "anchor_deltas": rng.normal(size=(4, 75, 4)) / 2,
    }


def main() -> None:
    """Writes the file."""
    import torch

    make = runpy.run_path(
        str(FOLDER.parents[1] / "goldens" / "make.py")
    )  # Kept: the operators live as long as it does.
    make["declare_operators"]()
    import torch.nn.functional as F
    import torchvision
    from torchvision.models.detection import _utils, retinanet

    x = {name: torch.from_numpy(value) for name, value in inputs().items()}
    one, two = x["boxes"], x["others"]
    pixels, labels = x["pixels"].permute(0, 3, 1, 2), x["pixel_labels"]
    out = {
        "sigmoid": F.binary_cross_entropy_with_logits(
            x["logits"], x["multi_hot"], reduction="none"
        ).sum(1),
        "focal": torchvision.ops.sigmoid_focal_loss(x["logits"], x["multi_hot"], 0.25, 2.0).sum(1),
        "pixel": F.cross_entropy(pixels, labels, ignore_index=255, reduction="none"),
        "pixel_weighted": F.cross_entropy(
            pixels, labels, x["class_weights"], ignore_index=255, reduction="none"
        ),
        "pixel_smooth": F.cross_entropy(
            pixels,
            labels,
            x["class_weights"],
            ignore_index=255,
            reduction="none",
            label_smoothing=0.2,
        ),
        "l1": F.l1_loss(one, two, reduction="none").sum(1),
        "smooth_l1": F.smooth_l1_loss(one, two, reduction="none", beta=0.11).sum(1),
        "huber": F.huber_loss(one, two, reduction="none", delta=0.11).sum(1),
        "giou": torchvision.ops.generalized_box_iou_loss(one, two, eps=0),
        "diou": torchvision.ops.distance_box_iou_loss(one, two, eps=0),
        "ciou": torchvision.ops.complete_box_iou_loss(one, two, eps=0),
        "soft_distillation": F.kl_div(
            (x["logits"] / 3).log_softmax(1),
            (x["teacher"] / 3).log_softmax(1),
            reduction="none",
            log_target=True,
        ).sum(1)
        * 9,
        "hard_distillation": F.cross_entropy(x["logits"], x["teacher"].argmax(1), reduction="none"),
    }
    similarities = 7 * x["image_embeddings"] @ x["text_embeddings"].T
    pairs = torch.arange(6)
    out["clip"] = (
        F.cross_entropy(similarities, pairs, reduction="none")
        + F.cross_entropy(similarities.T, pairs, reduction="none")
    ) / 2
    out |= set_losses(x)

    # RetinaNet's own criterion on its own matcher and coder.
    matcher = _utils.Matcher(0.5, 0.4, allow_low_quality_matches=True)
    classes = retinanet.RetinaNetClassificationHead(8, 3, 5)
    offsets = retinanet.RetinaNetRegressionHead(8, 3)
    matches, targets = [], []
    for boxes, ids, mask in zip(
        x["target_boxes"], x["target_classes"], x["target_mask"] > 0, strict=True
    ):
        targets.append({"boxes": boxes[mask], "labels": ids[mask]})
        if mask.any():
            matches.append(matcher(torchvision.ops.box_iou(boxes[mask], x["anchors"])))
        else:
            matches.append(torch.full((len(x["anchors"]),), -1))
    heads = {"cls_logits": x["anchor_logits"], "bbox_regression": x["anchor_deltas"]}
    anchors = [x["anchors"]] * 4
    out["retinanet_class"] = classes.compute_loss(targets, heads, matches)
    out["retinanet_box"] = offsets.compute_loss(targets, heads, anchors, matches)
    np.savez_compressed(FOLDER / "losses.npz", **{k: v.detach().numpy() for k, v in out.items()})


def set_losses(x):
    """DETR's terms and Deformable DETR's by the code of transformers."""
    import torch
    from transformers.loss import loss_deformable_detr, loss_for_object_detection
    from transformers.loss.loss_deformable_detr import DeformableDetrImageLoss
    from transformers.loss.loss_for_object_detection import HungarianMatcher, ImageLoss

    center = torch.cat(
        [
            (x["target_boxes"][..., :2] + x["target_boxes"][..., 2:]) / 2,
            x["target_boxes"][..., 2:] - x["target_boxes"][..., :2],
        ],
        dim=-1,
    )
    targets = [
        {"class_labels": ids[mask], "boxes": boxes[mask]}
        for ids, boxes, mask in zip(x["target_classes"], center, x["target_mask"] > 0, strict=True)
    ]
    out = {}
    costs = {"class_cost": 1, "bbox_cost": 5, "giou_cost": 2}
    detr = ImageLoss(
        matcher=HungarianMatcher(**costs),
        num_classes=5,
        eos_coef=0.1,
        losses=["labels", "boxes", "cardinality"],
    ).double()
    terms = detr({"logits": x["set_logits"], "pred_boxes": x["set_boxes"]}, targets)
    out |= {f"detr_{name.removeprefix('loss_')}": terms[name] for name in DETR_TERMS}
    matcher = loss_deformable_detr.DeformableDetrHungarianMatcher(**{**costs, "class_cost": 2})
    deformable = DeformableDetrImageLoss(
        matcher=matcher,
        num_classes=5,
        focal_alpha=0.25,
        losses=["labels", "boxes", "cardinality"],
    ).double()
    terms = deformable({"logits": x["set_logits"][..., :5], "pred_boxes": x["set_boxes"]}, targets)
    out |= {f"deformable_{name.removeprefix('loss_')}": terms[name] for name in DETR_TERMS}
    assert loss_for_object_detection
    return out


DETR_TERMS = ("loss_ce", "loss_bbox", "loss_giou")

if __name__ == "__main__":
    main()
