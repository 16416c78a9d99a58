"""Boxes as offsets from anchors, in numpy and in jax from one formula.

The coding of R-CNN (arXiv 1311.2524, appendix C): the offset of the centre in sizes of the anchor,
and the logarithm of how much larger the box is. It does not depend on the unit. Checked against
torchvision. Letters in shapes: ``*b`` any axes.
"""

import math
from typing import TypeVar

import jax
import numpy as np
from jaxtyping import Float

from scenax.common import boxes

ArrayT = TypeVar("ArrayT", jax.Array, np.ndarray)

_LARGEST = math.log(1000 / 16)
"""Of a logarithm of a size, as in Detectron: no box grows to infinity early in training."""


def to_deltas(
    corners: Float[ArrayT, "*#b 4"], anchors: Float[ArrayT, "*#b 4"]
) -> Float[ArrayT, "*b 4"]:
    """Returns (dx, dy, dw, dh) of xyxy boxes from xyxy anchors; both need sides above 0."""
    xp = corners.__array_namespace__()
    box, anchor = boxes.xyxy_to_cxcywh(corners), boxes.xyxy_to_cxcywh(anchors)
    offset = (box[..., :2] - anchor[..., :2]) / anchor[..., 2:]
    return xp.concatenate([offset, xp.log(box[..., 2:] / anchor[..., 2:])], axis=-1)


def from_deltas(
    deltas: Float[ArrayT, "*#b 4"], anchors: Float[ArrayT, "*#b 4"]
) -> Float[ArrayT, "*b 4"]:
    """Returns the xyxy boxes at these offsets from xyxy anchors, at most 62.5 times as large."""
    xp = deltas.__array_namespace__()
    anchor = boxes.xyxy_to_cxcywh(anchors)
    center = deltas[..., :2] * anchor[..., 2:] + anchor[..., :2]
    size = xp.exp(xp.minimum(deltas[..., 2:], _LARGEST)) * anchor[..., 2:]
    return boxes.cxcywh_to_xyxy(xp.concatenate([center, size], axis=-1))
