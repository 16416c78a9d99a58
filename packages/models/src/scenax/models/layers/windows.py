"""Windows of a feature map, and what attention in them needs to know of positions.

Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows" (arXiv
2103.14030), in timm's order of positions.

Letters in shapes: b batch, h w map, c channels, m windows of all maps, n tokens of a window (row by
row).
"""

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Float, Int


def split_windows(x: Float[Array, "b h w c"], window: Sequence[int]) -> Float[Array, "m n c"]:
    """Returns the windows of a map that they divide, image by image and row by row."""
    (batch, height, width, chans), (rows, cols) = x.shape, window
    x = x.reshape(batch, height // rows, rows, width // cols, cols, chans)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, rows * cols, chans)


def join_windows(
    x: Float[Array, "m n c"], batch: int, sides: Sequence[int], window: Sequence[int]
) -> Float[Array, "b h w c"]:
    """Returns the map of ``split_windows``."""
    (height, width), (rows, cols) = sides, window
    x = x.reshape(batch, height // rows, width // cols, rows, cols, x.shape[-1])
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height, width, -1)


@functools.cache
def relative_positions(rows: int, cols: int) -> Int[np.ndarray, "n n"]:
    """Returns for each query and key of a window the row of the table of relative positions."""
    row, col = (each.reshape(-1) for each in np.mgrid[:rows, :cols])
    down = row[:, None] - row[None] + rows - 1
    right = col[:, None] - col[None] + cols - 1
    return down * (2 * cols - 1) + right


@functools.cache
def shift_mask(
    sides: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...]
) -> Float[np.ndarray, "windows n n"]:
    """Returns -100 where a shifted window holds query and key from opposite ends of the map."""
    regions = []
    for side, extent, step in zip(sides, window, shift, strict=True):
        at = np.arange(side)
        regions.append((at >= side - extent).astype(int) + (at >= side - step) if step else 0 * at)
    region = regions[0][:, None] * 3 + regions[1][None]
    (height, width), (rows, cols) = sides, window
    region = region.reshape(height // rows, rows, width // cols, cols).transpose(0, 2, 1, 3)
    region = region.reshape(-1, rows * cols)
    return np.where(region[:, :, None] != region[:, None], -100, 0).astype(np.float32)
