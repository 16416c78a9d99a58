"""Losses of predicted boxes, per box.

Distances are summed over a box's four numbers, in whatever format these are; overlaps are of xyxy
boxes. Checked against torch and torchvision. Letters in shapes: ``*b`` any axes, of
which either may have 1.
"""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from scenax.common import boxes


def l1(predictions: Float[Array, "*#b 4"], targets: Float[Array, "*#b 4"]) -> Float[Array, "*b"]:
    """Returns the sum of the absolute differences."""
    return jnp.sum(jnp.abs(_difference(predictions, targets)), axis=-1)


def smooth_l1(
    predictions: Float[Array, "*#b 4"], targets: Float[Array, "*#b 4"], *, beta: float = 1.0
) -> Float[Array, "*b"]:
    """Returns the sum of the smooth L1 distances (arXiv 1504.08083): Huber's, over ``beta``.

    Args:
      predictions: four numbers of each box.
      targets: of the same.
      beta: up to where squares are taken; 0 for ``l1``.
    """
    if beta == 0:
        return l1(predictions, targets)
    return huber(predictions, targets, delta=beta) / beta


def huber(
    predictions: Float[Array, "*#b 4"], targets: Float[Array, "*#b 4"], *, delta: float = 1.0
) -> Float[Array, "*b"]:
    """Returns the sum of Huber's losses: half the square up to ``delta``, then lines."""
    difference = _difference(predictions, targets)
    return jnp.sum(optax.huber_loss(difference, delta=delta), axis=-1)


def iou(predictions: Float[Array, "*#b 4"], targets: Float[Array, "*#b 4"]) -> Float[Array, "*b"]:
    """Returns 1 - IoU of xyxy boxes, from 0 to 1. Boxes that do not meet have no gradient."""
    return 1 - boxes.iou(*_float32(predictions, targets))


def giou(predictions: Float[Array, "*#b 4"], targets: Float[Array, "*#b 4"]) -> Float[Array, "*b"]:
    """Returns 1 - GIoU of xyxy boxes (arXiv 1902.09630), from 0 to 2."""
    return 1 - boxes.giou(*_float32(predictions, targets))


def diou(predictions: Float[Array, "*#b 4"], targets: Float[Array, "*#b 4"]) -> Float[Array, "*b"]:
    """Returns 1 - DIoU of xyxy boxes (arXiv 1911.08287): IoU and the distance of the centres."""
    return 1 - boxes.diou(*_float32(predictions, targets))


def ciou(predictions: Float[Array, "*#b 4"], targets: Float[Array, "*#b 4"]) -> Float[Array, "*b"]:
    """Returns 1 - CIoU of xyxy boxes (arXiv 1911.08287): DIoU, and the aspect ratios too."""
    return 1 - boxes.ciou(*_float32(predictions, targets))


def _float32(
    predictions: Float[Array, "*#b 4"], targets: Float[Array, "*#b 4"]
) -> tuple[Float[Array, "*#b 4"], Float[Array, "*#b 4"]]:
    return predictions.astype(jnp.float32), targets.astype(jnp.float32)


def _difference(
    predictions: Float[Array, "*#b 4"], targets: Float[Array, "*#b 4"]
) -> Float[Array, "*b 4"]:
    predictions, targets = _float32(predictions, targets)
    return predictions - targets
