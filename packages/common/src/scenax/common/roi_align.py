"""RoIAlign: a grid of features from each box (arXiv 1703.06870).

As in torchvision with ``aligned=True``: the centre of the first pixel is at 0.5, samples between
centres are interpolated, samples up to one pixel outside the map take its border, those farther
out are 0. Only the pixels around the samples are read, so that the cost does not grow with the
map. Checked against torchvision 0.28 (boxes on the map), ONNX Runtime 1.32 (those off it too) and
a loop in numpy.

Letters in shapes: b batch, h w feature map, c channels, n boxes, oh ow output grid.
"""

import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def roi_align(
    features: Float[Array, "b h w c"],
    boxes: Float[Array, "b n 4"],
    *,
    output_size: int | tuple[int, int],
    sampling_ratio: int = 2,
) -> Float[Array, "b n oh ow c"]:
    """Returns the mean of interpolated samples in every cell of a grid over every box.

    Interpolation is in the precision of ``boxes`` and at least float32, the result in that of
    ``features``. It can be differentiated by the features, and by the boxes as well, as bilinear
    samples by their place. The result for a box that is a point is that point everywhere.

    Args:
      features: one map per image.
      boxes: xyxy in pixels of the feature map: those of the image divided by the stride.
      output_size: cells ``(oh, ow)`` of the grid; one number for both.
      sampling_ratio: samples per side of a cell, at least 1. Torchvision's choice by the box's
        size, 0 there, has no fixed shape and is not offered.

    Raises:
      ValueError: if a size or the ratio is below 1.
    """
    rows, columns = (output_size,) * 2 if isinstance(output_size, int) else output_size
    if min(rows, columns, sampling_ratio) < 1:
        raise ValueError(
            "RoIAlign needs an output size and a sampling ratio of at least 1, "
            f"got {rows}x{columns} and {sampling_ratio}."
        )
    precision = boxes.dtype if boxes.dtype.itemsize >= 4 else jnp.float32
    boxes = boxes.astype(precision)
    height, width = features.shape[1:3]
    ys, y_weights = _taps(boxes[..., 1], boxes[..., 3], rows, sampling_ratio, height)
    xs, x_weights = _taps(boxes[..., 0], boxes[..., 2], columns, sampling_ratio, width)
    images = jnp.arange(features.shape[0])[:, None, None, None]

    # Each term reads one pixel per cell; the compiler sums them without keeping any.
    total = jnp.zeros((*boxes.shape[:2], rows, columns, features.shape[3]), precision)
    for i, j in itertools.product(range(2 * sampling_ratio), repeat=2):
        pixels = features[images, ys[..., i, :, None], xs[..., j, None, :]].astype(precision)
        weights = y_weights[..., i, :, None] * x_weights[..., j, None, :]
        total = total + weights[..., None] * pixels
    return total.astype(features.dtype)


def _taps(low: Array, high: Array, cells: int, ratio: int, size: int) -> tuple[Array, Array]:
    """Returns the pixels that each cell reads along one axis, and their weights.

    Bilinear samples on a grid are linear ones along y times linear ones along x, so that the two
    axes need not know of each other.

    Args:
      low: ``[b n]``, of the boxes along the axis.
      high: ``[b n]``.
      cells: of the output along the axis.
      ratio: samples per cell.
      size: pixels along the axis.

    Returns:
      Indices and weights, both ``[b n 2 * ratio cells]``; a cell's weights sum to 1 where all its
      samples are on the map.
    """
    sample = (jnp.arange(cells, dtype=low.dtype)[None, :] * ratio) + jnp.arange(
        ratio, dtype=low.dtype
    )[:, None]
    share = ((sample + 0.5) / (cells * ratio))[None, None]
    low, high = low[..., None, None], high[..., None, None]
    place = low + share * (high - low) - 0.5
    outside = (place < -1) | (place > size)
    place = jnp.clip(place, 0, size - 1)
    # Not beyond the last pixel but one, so that the last has a neighbour (itself if it is alone).
    first = jnp.clip(jnp.floor(jax.lax.stop_gradient(place)), 0, max(size - 2, 0))
    second_weight = jnp.where(outside, 0, place - first) / ratio
    first_weight = jnp.where(outside, 0, 1 - (place - first)) / ratio
    index = first.astype(jnp.int32)
    indices = jnp.concatenate([index, jnp.minimum(index + 1, size - 1)], axis=-2)
    return indices, jnp.concatenate([first_weight, second_weight], axis=-2)
