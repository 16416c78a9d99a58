"""Weights for other images than they were trained for, changed as timm changes them.

Other channels, other sizes of images and of patches. The bicubic filter is that of torch with
antialiasing (a = -0.5); patches are resized by the pseudo-inverse of Beyer et al., "FlexiViT"
(arXiv 2212.08013), tables of relative positions as in BEiT's release (Bao et al., arXiv 2106.08254)
with timm's linear interpolation. Each was checked against timm 1.0.31 doing the same to the same
arrays, which have torch's layout here: ``o`` outputs, ``i`` inputs, ``h w`` a kernel or grid; ``n``
tokens, ``d`` width.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def adapt_input_conv(
    weight: Float[np.ndarray, "o i h w"], in_chans: int
) -> Float[np.ndarray, "o j h w"]:
    """Returns the filters of a first convolution for images of another number of channels.

    For one channel the filters are summed; for others they are repeated, and scaled so that an
    image whose channels are all alike gives what it gave.
    """
    channels = weight.shape[1]
    if in_chans == channels:
        return weight
    filters = weight.astype(np.float32)
    if in_chans == 1:
        filters = filters.sum(axis=1, keepdims=True)
    else:
        filters = np.tile(filters, (1, math.ceil(in_chans / channels), 1, 1))[:, :in_chans]
        filters = filters * np.float32(channels / in_chans)
    return filters.astype(weight.dtype)


def resample_abs_pos_embed(
    positions: Float[np.ndarray, "1 n d"],
    new_size: Sequence[int],
    *,
    old_size: Sequence[int] | None = None,
    num_prefix_tokens: int = 1,
) -> Float[np.ndarray, "1 m d"]:
    """Returns position embeddings for another grid of patches.

    Args:
      positions: of the tokens in front, then of the patches row by row.
      new_size: rows and columns that are wanted.
      old_size: rows and columns that there are; None for a square.
      num_prefix_tokens: how many tokens in front have positions, which stay as they are.

    Raises:
      ValueError: if the patches do not make such a grid.
    """
    rows, cols = old_size or (math.isqrt(positions.shape[1] - num_prefix_tokens),) * 2
    if rows * cols + num_prefix_tokens != positions.shape[1]:
        raise ValueError(
            f"{positions.shape[1]} positions, {num_prefix_tokens} of them of tokens in front, are "
            f"no grid of {rows} x {cols}. Say old_size, its rows and columns."
        )
    if (rows, cols) == tuple(new_size):
        return positions
    prefix, grid = positions[:, :num_prefix_tokens], positions[0, num_prefix_tokens:]
    down, right = resize_matrix(rows, new_size[0]), resize_matrix(cols, new_size[1])
    grid = np.einsum("Rr,Cc,rcd->RCd", down, right, grid.reshape(rows, cols, -1), optimize=True)
    grid = grid.reshape(1, -1, positions.shape[2]).astype(positions.dtype)
    return np.concatenate([prefix, grid], axis=1)


def resample_patch_embed(
    weight: Float[np.ndarray, "o i h w"], new_size: Sequence[int]
) -> Float[np.ndarray, "o i rows cols"]:
    """Returns the projection of patches of another size.

    Of all projections, that which on patches resized from the old size to the new gives most nearly
    what the old one gave (equation 3 of FlexiViT).
    """
    if weight.shape[2:] == tuple(new_size):
        return weight
    down, right = (
        np.linalg.pinv(resize_matrix(old, new))
        for old, new in zip(weight.shape[2:], new_size, strict=True)
    )
    resampled = np.einsum("oihw,hR,wC->oiRC", weight.astype(np.float64), down, right, optimize=True)
    return resampled.astype(weight.dtype)


def resize_rel_pos_bias_table(
    table: Float[np.ndarray, "n heads"],
    new_window: Sequence[int],
    *,
    old_window: Sequence[int] | None = None,
) -> Float[np.ndarray, "m heads"]:
    """Returns biases of relative positions for windows of another size.

    Old positions are taken to lie the wider apart the farther they are, in a geometric progression,
    so that they cover the new window and are densest near zero; between them it is linear.

    Args:
      table: by position, row by row.
      new_window: rows and columns of the windows that are wanted.
      old_window: rows and columns of those that there are; None for square ones, or, if the table
        cannot be of square ones, for the new.

    Raises:
      ValueError: if the table is of no such window.
    """
    wanted = [2 * side - 1 for side in new_window]
    side = math.isqrt(len(table))
    if old_window is not None:
        sides = [2 * side - 1 for side in old_window]
    else:
        sides = [side, side] if side * side == len(table) else wanted
    if math.prod(sides) != len(table):
        raise ValueError(
            f"A table of {len(table)} relative positions is not of square windows. Say old_window, "
            "their rows and columns."
        )
    if sides == wanted:
        return table
    down, right = (_spread(old, new) for old, new in zip(sides, wanted, strict=True))
    grid = table.astype(np.float64).reshape(*sides, -1)
    grid = np.einsum("Rr,Cc,rch->RCh", down, right, grid, optimize=True)
    return grid.reshape(-1, table.shape[1]).astype(table.dtype)


@functools.cache
def resize_matrix(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Returns the weights of an antialiased bicubic resize along one axis; rows sum to 1."""
    scale = old / new
    centers = (np.arange(new) + 0.5) * scale - 0.5
    x = np.abs(centers[:, None] - np.arange(old)) / max(scale, 1.0)
    # Keys' kernel (1981), equation 15, with a = -1/2.
    weights = np.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2)
    weights = np.where(x < 2, weights, 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def _spread(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Returns the weights of linear interpolation between positions farther and farther apart."""
    low, high, ratio = 1.01, 1.5, 1.01
    while high - low > 1e-6:  # The ratio at which the old positions reach as far as the new.
        ratio = (low + high) / 2
        reach = (1 - ratio ** (old // 2)) / (1 - ratio)
        low, high = (low, ratio) if reach > new // 2 else (ratio, high)
    # BEiT's code starts at 1 and adds the powers from the first on.
    right = np.cumsum([1.0, *(ratio**power for power in range(1, old // 2))])[: old // 2]
    at = np.concatenate([-right[::-1], [0.0], right])
    positions = np.arange(new) - new // 2
    return np.stack([np.interp(positions, at, row) for row in np.eye(old)], axis=1)
