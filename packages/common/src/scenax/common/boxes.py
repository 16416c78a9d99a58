"""Boxes: formats, areas and overlaps, in numpy and in jax from one formula.

A function's name says the format: ``xyxy`` are two corners (x1, y1, x2, y2), ``yxyx`` the same
with y first, ``xywh`` the first corner and the size, ``cxcywh`` the centre and the size,
``cxcywha`` that and an angle. x grows to the right and y downwards; corners lie between pixels, so
a box of one pixel has sides of 1. Numpy arrays give numpy arrays of the same precision, jax arrays
give jax arrays, and everything can be traced, mapped and differentiated. Gradients are finite for
identical, disjoint, touching and empty boxes too.

A box of xyxy whose second corner is not beyond its first has an area of 0. No quotient has an
epsilon: overlaps do not depend on the unit that boxes are measured in, and where a denominator is 0
the quotient is 0 by definition.

Sources: GIoU, arXiv 1902.09630; DIoU and CIoU, arXiv 1911.08287. Checked against loops in plain
python, torchvision 0.28 (``iou``, ``giou``, ``diou``, ``ciou``), shapely (``pairwise_rotated_iou``)
and finite differences. Letters in shapes: b leading axes, n and m boxes.
"""

import math
from types import ModuleType
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, ScalarLike

ArrayT = TypeVar("ArrayT", jax.Array, np.ndarray)


def cxcywh_to_xyxy(boxes: Float[ArrayT, "*b 4"]) -> Float[ArrayT, "*b 4"]:
    """Returns the two corners of boxes given by centre and size."""
    xp = _namespace(boxes)
    center, half = boxes[..., :2], boxes[..., 2:] / 2
    return xp.concatenate([center - half, center + half], axis=-1)


def xyxy_to_cxcywh(boxes: Float[ArrayT, "*b 4"]) -> Float[ArrayT, "*b 4"]:
    """Returns centre and size of boxes given by two corners."""
    xp = _namespace(boxes)
    low, high = boxes[..., :2], boxes[..., 2:]
    return xp.concatenate([(low + high) / 2, high - low], axis=-1)


def xywh_to_xyxy(boxes: Float[ArrayT, "*b 4"]) -> Float[ArrayT, "*b 4"]:
    """Returns the two corners of boxes given by first corner and size, as COCO writes them."""
    xp = _namespace(boxes)
    return xp.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def xyxy_to_xywh(boxes: Float[ArrayT, "*b 4"]) -> Float[ArrayT, "*b 4"]:
    """Returns first corner and size of boxes given by two corners."""
    xp = _namespace(boxes)
    return xp.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def yxyx_to_xyxy(boxes: Float[ArrayT, "*b 4"]) -> Float[ArrayT, "*b 4"]:
    """Returns corners with x first of corners with y first, as TensorFlow writes them."""
    xp = _namespace(boxes)
    return xp.stack([boxes[..., i] for i in (1, 0, 3, 2)], axis=-1)


def xyxy_to_yxyx(boxes: Float[ArrayT, "*b 4"]) -> Float[ArrayT, "*b 4"]:
    """Returns corners with y first of corners with x first."""
    return yxyx_to_xyxy(boxes)


def to_normalized(
    boxes: Float[ArrayT, "*b 4"], height: ScalarLike, width: ScalarLike
) -> Float[ArrayT, "*b 4"]:
    """Returns xyxy boxes as shares of an image, from pixels.

    Args:
      boxes: in pixels.
      height: of the image in pixels, above 0.
      width: of the image in pixels, above 0. Images of several sizes go through ``jax.vmap``.
    """
    return boxes / _far_corners(boxes, height, width)


def to_absolute(
    boxes: Float[ArrayT, "*b 4"], height: ScalarLike, width: ScalarLike
) -> Float[ArrayT, "*b 4"]:
    """Returns xyxy boxes in pixels, from shares of an image of ``height`` x ``width`` pixels."""
    return boxes * _far_corners(boxes, height, width)


def clip(
    boxes: Float[ArrayT, "*b 4"], height: ScalarLike, width: ScalarLike
) -> Float[ArrayT, "*b 4"]:
    """Returns xyxy boxes cut at an image's border: x in [0, width], y in [0, height].

    A box that lies outside comes back on the border, with an area of 0.
    """
    xp = _namespace(boxes)
    return xp.minimum(xp.maximum(boxes, 0), _far_corners(boxes, height, width))


def area(boxes: Float[ArrayT, "*b 4"]) -> Float[ArrayT, "*b"]:
    """Returns the areas of xyxy boxes in squared units, 0 where a side is negative."""
    xp = _namespace(boxes)
    sides = xp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return xp.asarray(sides[..., 0] * sides[..., 1])


def iou(a: Float[ArrayT, "*#b 4"], b: Float[ArrayT, "*#b 4"]) -> Float[ArrayT, "*b"]:
    """Returns intersection over union of xyxy boxes, elementwise, in [0, 1].

    Where both have no area it is 0, identical or not.
    """
    intersection, union = _overlap(*_broadcast(a, b))
    return _quotient(intersection, union)


def giou(a: Float[ArrayT, "*#b 4"], b: Float[ArrayT, "*#b 4"]) -> Float[ArrayT, "*b"]:
    """Returns the generalised IoU of xyxy boxes, elementwise, in [-1, 1] (arXiv 1902.09630).

    It is the IoU less the share of the enclosing box that neither covers. Where both have no area
    it is -1, or 0 if the enclosing box has none either: identical points, points on one side.
    """
    a, b = _broadcast(a, b)
    xp = _namespace(a)
    intersection, union = _overlap(a, b)
    sides = _enclosing_sides(a, b)
    enclosing = sides[..., 0] * sides[..., 1]
    # The enclosing box holds the union; a difference below 0 is rounding.
    unused = xp.maximum(enclosing - union, 0)
    return xp.asarray(_quotient(intersection, union) - _quotient(unused, enclosing))


def diou(a: Float[ArrayT, "*#b 4"], b: Float[ArrayT, "*#b 4"]) -> Float[ArrayT, "*b"]:
    """Returns the distance IoU of xyxy boxes, elementwise, in [-1, 1] (arXiv 1911.08287).

    It is the IoU less the squared distance of the centres in squared diagonals of the enclosing
    box. Where both have no area only the distance is left; it is 0 for identical boxes.
    """
    a, b = _broadcast(a, b)
    xp = _namespace(a)
    return xp.asarray(_quotient(*_overlap(a, b)) - _center_distance(a, b))


def ciou(a: Float[ArrayT, "*#b 4"], b: Float[ArrayT, "*#b 4"]) -> Float[ArrayT, "*b"]:
    """Returns the complete IoU of xyxy boxes, elementwise, in [-1.5, 1] (arXiv 1911.08287).

    It is the distance IoU less ``alpha * v``, where ``v`` in [0, 1] compares the angles of the two
    diagonals and ``alpha = v / (1 - iou + v)`` counts as a constant in the gradient. The diagonal
    of a box without height is horizontal, of one without width vertical, and that of a point
    counts as vertical. Where both have no area the IoU is 0 and the two penalties stay.
    """
    a, b = _broadcast(a, b)
    xp = _namespace(a)
    overlap = _quotient(*_overlap(a, b))
    v = (2 / math.pi * (_diagonal_angle(a) - _diagonal_angle(b))) ** 2
    alpha = _constant(_quotient(v, 1 - overlap + v))
    return xp.asarray(overlap - _center_distance(a, b) - alpha * v)


def pairwise_iou(a: Float[ArrayT, "*b n 4"], b: Float[ArrayT, "*b m 4"]) -> Float[ArrayT, "*b n m"]:
    """Returns the ``iou`` of every xyxy box of ``a`` with every one of ``b``."""
    return iou(a[..., :, None, :], b[..., None, :, :])


def pairwise_giou(
    a: Float[ArrayT, "*b n 4"], b: Float[ArrayT, "*b m 4"]
) -> Float[ArrayT, "*b n m"]:
    """Returns the ``giou`` of every xyxy box of ``a`` with every one of ``b``."""
    return giou(a[..., :, None, :], b[..., None, :, :])


def pairwise_rotated_iou(a: Float[ArrayT, "n 5"], b: Float[ArrayT, "m 5"]) -> Float[ArrayT, "n m"]:
    """Returns intersection over union of every cxcywha box of ``a`` with every one of ``b``.

    The angle is in radians, any number, and turns a box about its centre from the x axis towards
    the y axis: clockwise as pictures are shown. (Detectron2 counts degrees the other way.) A side
    below 0 counts as 0; where both boxes have no area the IoU is 0. The intersection is exact.
    """
    xp = _namespace(a, b)
    shape = (a.shape[0], b.shape[0], 5)
    a, b = xp.broadcast_to(a[:, None], shape), xp.broadcast_to(b[None], shape)
    sides_a, sides_b = xp.maximum(a[..., 2:4], 0), xp.maximum(b[..., 2:4], 0)
    area_a, area_b = sides_a[..., 0] * sides_a[..., 1], sides_b[..., 0] * sides_b[..., 1]
    x, y = _corners_in_frame(a, sides_a, b)
    intersection = _area_in_rectangle(x, y, sides_b / 2)
    intersection = xp.maximum(xp.minimum(intersection, xp.minimum(area_a, area_b)), 0)
    return _quotient(intersection, area_a + area_b - intersection)


def _corners_in_frame(a: Any, sides: Any, frame: Any) -> tuple[Any, Any]:
    """Returns x and y, ``[n m 4]``, of the corners of boxes in the frames of others.

    Positions and angles are subtracted before anything else, so that far from the origin, and for
    boxes turned alike, nothing is lost.
    """
    xp = _namespace(a)
    shift = a[..., :2] - frame[..., :2]
    cos, sin = xp.cos(frame[..., 4]), xp.sin(frame[..., 4])
    center_x = cos * shift[..., 0] + sin * shift[..., 1]
    center_y = cos * shift[..., 1] - sin * shift[..., 0]
    turn = a[..., 4] - frame[..., 4]
    cos, sin = xp.cos(turn), xp.sin(turn)
    u, v = sides[..., 0] / 2, sides[..., 1] / 2
    corners = [(-u, -v), (u, -v), (u, v), (-u, v)]
    x = xp.stack([center_x + cos * p - sin * q for p, q in corners], axis=-1)
    y = xp.stack([center_y + sin * p + cos * q for p, q in corners], axis=-1)
    return x, y


def _area_in_rectangle(x: Any, y: Any, half: Any) -> Any:
    """Returns the area of polygons within rectangles about the origin.

    By Green's theorem it is the integral, against x along the polygon, of how far y reaches into
    the rectangle: 0 below it, its height above it, and no step counts beside it. Each edge gives a
    piecewise linear integrand. All of it is continuous in the corners, so that rounding cannot
    decide whether an edge lies in or out, as it would where edges coincide.

    Args:
      x: ``[n m k]``, of the corners, in the direction from x to y.
      y: ``[n m k]``.
      half: ``[n m 2]``, half the width and half the height of each rectangle.
    """
    xp = _namespace(x)
    half_x = xp.broadcast_to(half[..., :1], x.shape)
    half_y = xp.broadcast_to(half[..., 1:], x.shape)
    next_x, next_y = xp.roll(x, -1, axis=-1), xp.roll(y, -1, axis=-1)

    # The part of each edge that is above, within or below the rectangle, but not beside it.
    start_x, end_x = _clamp(x, half_x), _clamp(next_x, half_x)
    run = _slope_denominator(x, next_x, half_x)
    rise = next_y - y
    start_y = y + (start_x - x) / run * rise
    end_y = next_y - (next_x - end_x) / run * rise

    # Along it, y clamped to the rectangle is linear between where y enters and where y leaves.
    rise = end_y - start_y
    denominator = _slope_denominator(start_y, end_y, half_y)
    first = xp.minimum(xp.maximum((-half_y - start_y) / denominator, 0), 1)
    second = xp.minimum(xp.maximum((half_y - start_y) / denominator, 0), 1)
    times = (xp.zeros_like(x), xp.minimum(first, second), xp.maximum(first, second))
    times = (*times, xp.ones_like(x))
    heights = [_clamp(start_y + t * rise, half_y) + half_y for t in times]
    mean = sum(
        (t1 - t0) * (h0 + h1) / 2
        for t0, t1, h0, h1 in zip(times, times[1:], heights, heights[1:], strict=False)
    )
    return xp.sum((start_x - end_x) * mean, axis=-1)


def _slope_denominator(start: Any, end: Any, half: Any) -> Any:
    """Returns ``end - start``, and 1 where it is no more than rounding.

    There the edge is parallel to a side, what is divided is 0 or does not matter, and the quotient
    and its gradient would be infinite.
    """
    xp = _namespace(start)
    difference = end - start
    size = abs(start) + abs(end) + half
    parallel = abs(difference) <= xp.finfo(start.dtype).eps * size
    return xp.where(parallel, xp.ones_like(start), difference)


def _clamp(values: Any, half: Any) -> Any:
    xp = _namespace(values)
    return xp.minimum(xp.maximum(values, -half), half)


def _overlap(a: Any, b: Any) -> tuple[Any, Any]:
    """Returns the areas of intersection and union."""
    xp = _namespace(a)
    low = xp.maximum(a[..., :2], b[..., :2])
    high = xp.minimum(a[..., 2:], b[..., 2:])
    intersection = area(xp.concatenate([low, high], axis=-1))
    return intersection, area(a) + area(b) - intersection


def _enclosing_sides(a: Any, b: Any) -> Any:
    xp = _namespace(a)
    low = xp.minimum(a[..., :2], b[..., :2])
    high = xp.maximum(a[..., 2:], b[..., 2:])
    return xp.maximum(high - low, 0)


def _center_distance(a: Any, b: Any) -> Any:
    """Returns the squared distance of the centres in squared diagonals of the enclosing box."""
    xp = _namespace(a)
    shift = ((a[..., :2] - b[..., :2]) + (a[..., 2:] - b[..., 2:])) / 2
    sides = _enclosing_sides(a, b)
    return _quotient(xp.sum(shift**2, axis=-1), xp.sum(sides**2, axis=-1))


def _diagonal_angle(boxes: Any) -> Any:
    """Returns the angle between the diagonal and the vertical, in [0, pi / 2]."""
    xp = _namespace(boxes)
    sides = xp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    width, height = sides[..., 0], sides[..., 1]
    # A point has no diagonal, and the arc tangent no gradient at (0, 0) nor close to it. Its value
    # does not depend on the scale, so that this may be a constant.
    height = xp.where((width == 0) & (height == 0), xp.ones_like(height), height)
    per_side = _constant(1 / xp.maximum(width, height))
    return xp.arctan2(width * per_side, height * per_side)


def _quotient(numerator: Any, denominator: Any) -> Any:
    """Returns the quotient, and the numerator where the denominator is 0.

    Wherever that happens here the numerator is 0 too. Dividing first and choosing afterwards would
    give a gradient of NaN.
    """
    xp = _namespace(denominator)
    denominator = xp.where(denominator == 0, xp.ones_like(denominator), denominator)
    if xp is np:
        return np.asarray(numerator / denominator)
    return _divide(numerator, denominator)


@jax.custom_jvp
def _divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """Returns a quotient without the square of its denominator in its gradient.

    In float32 the square of the area of a box is 0 from sides of 1e-12 on.
    """
    return numerator / denominator


@_divide.defjvp
def _(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Any, Any]:
    _, denominator = primals
    quotient = _divide(*primals)
    return quotient, _divide(tangents[0] - quotient * tangents[1], denominator)


def _constant(values: Any) -> Any:
    """Returns the values without a gradient."""
    return jax.lax.stop_gradient(values) if isinstance(values, jax.Array) else values


def _broadcast(a: Any, b: Any) -> tuple[Any, Any]:
    """Returns both in their common shape, which ranks that differ would not get by themselves."""
    a, b = _namespace(a, b).broadcast_arrays(a, b)
    return a, b


def _far_corners(boxes: Any, height: Any, width: Any) -> Any:
    """Returns (width, height, width, height) in the boxes' shape and precision."""
    xp = _namespace(boxes, height, width)
    sides = [xp.asarray(side, dtype=boxes.dtype) for side in (width, height, width, height)]
    return xp.broadcast_to(xp.stack(sides), boxes.shape)


def _namespace(*arrays: Any) -> ModuleType:
    """Returns jax.numpy if one of the arrays is jax's, or a tracer, and else numpy."""
    return jnp if any(isinstance(array, jax.Array) for array in arrays) else np
