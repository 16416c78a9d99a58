"""Masks: areas, boxes, overlaps and boundaries, and COCO's run lengths and polygons.

``area``, ``bounding_boxes``, ``pairwise_iou`` and ``boundary`` take numpy arrays and jax arrays,
from one formula: each gives arrays of its own kind, and all can be traced and mapped. A pixel is
in a mask or not; x grows to the right and y downwards.

``to_rle``, ``from_rle`` and ``from_polygons`` speak the format of COCO's annotations, in numpy.
Annotations come from outside, and COCO's C code believes them: a wrong count may write beyond the
mask. So everything is checked here first, and what is wrong raises ValueError. ``to_rle`` and
``from_polygons`` need faster-coco-eval, the extra ``scenax-common[coco]``.

Sources: Boundary IoU, arXiv 2103.16562; COCO, arXiv 1405.0312, and its mask API. Checked against
loops over pixels, scipy 1.17 (``boundary``), pycocotools 2.0.11 (run lengths, polygons, boxes,
areas, overlaps) and shapely 2.2 (areas of polygons). Letters in shapes: b leading axes, n and m
masks, h w image.
"""

import math
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

ArrayT = TypeVar("ArrayT", jax.Array, np.ndarray)

# COCO's C code counts pixels in 32 bits, with a sign in places. As booleans they are 2 GiB.
_MAX_PIXELS = 2**31 - 1
# In pixels. The C code samples a polygon's outline five times per pixel, 16 bytes each.
_MAX_OUTLINE = 2**21


def area(masks: Bool[ArrayT, "*b h w"]) -> Int[ArrayT, "*b"]:
    """Returns the numbers of pixels in masks."""
    xp = _namespace(masks)
    return xp.asarray(xp.sum(masks, axis=(-2, -1)))


def bounding_boxes(masks: Bool[ArrayT, "*b h w"]) -> Float[ArrayT, "*b 4"]:
    """Returns the smallest boxes that hold masks: xyxy in pixels, in float32.

    Corners lie between pixels, so that x2 and y2 are one more than the last column and row: a mask
    of one pixel has sides of 1. The box of an empty mask is all zeros.
    """
    xp = _namespace(masks)
    x1, x2 = _extent(masks.any(axis=-2))
    y1, y2 = _extent(masks.any(axis=-1))
    return xp.stack([x1, y1, x2, y2], axis=-1)


def pairwise_iou(a: Bool[ArrayT, "n h w"], b: Bool[ArrayT, "m h w"]) -> Float[ArrayT, "n m"]:
    """Returns intersection over union of every mask of ``a`` with every one of ``b``, in [0, 1].

    It is in float32, and 0 where both are empty. One matrix product counts the pixels, exactly in
    masks of up to 2^24 of them (4096 x 4096). An accelerator that multiplies in fewer bits does
    not change that: zeros and ones need one.
    """
    xp = _namespace(a, b)
    pixels = a.shape[1] * a.shape[2]
    flat_a, flat_b = (m.reshape(m.shape[0], pixels).astype(np.float32) for m in (a, b))
    intersection = flat_a @ flat_b.T
    union = xp.sum(flat_a, axis=1)[:, None] + xp.sum(flat_b, axis=1)[None, :] - intersection
    # A union has no pixel or at least one, so that this only replaces 0 by 1.
    return intersection / xp.maximum(union, 1)


def boundary(
    masks: Bool[ArrayT, "*b h w"], *, dilation_ratio: float = 0.02
) -> Bool[ArrayT, "*b h w"]:
    """Returns the inner boundaries of masks, which Boundary IoU compares (arXiv 2103.16562).

    A pixel of a mask is in its boundary if a pixel outside of the mask is at most d columns and d
    rows away, with d = ``dilation_ratio`` diagonals of the image, rounded, and at least 1. What is
    beyond the image counts as outside of the mask.

    Args:
      masks: of one size.
      dilation_ratio: in diagonals of the image; 0.02 in the paper.

    Raises:
      ValueError: if ``dilation_ratio`` is negative or not finite.
    """
    if not 0 <= dilation_ratio < math.inf:
        raise ValueError(
            f"dilation_ratio is {dilation_ratio}, but it is a share of the image's diagonal: give "
            "a finite number of at least 0, such as 0.02."
        )
    h, w = masks.shape[-2:]
    # From the longer side on, nothing is left of any mask and a larger d changes nothing.
    d = min(max(1, round(dilation_ratio * math.hypot(h, w))), max(1, h, w))
    # The paper erodes d times by a square of 3x3, which is once by one of 2d + 1, and a square
    # erodes rows and columns one after the other.
    inner = _erode_rows(masks, d)
    inner = _erode_rows(inner.swapaxes(-2, -1), d).swapaxes(-2, -1)
    return masks & ~inner


def to_rle(masks: Bool[np.ndarray, "n h w"]) -> list[dict[str, Any]]:
    """Returns masks as COCO's compressed run lengths.

    Returns:
      For each mask ``{"size": [h, w], "counts": bytes}``. JSON wants ``counts.decode()``.

    Raises:
      ImportError: if faster-coco-eval is not installed.
      ValueError: if masks have no pixels, or all of them together 2^31 or more.
    """
    if not len(masks):
        return []
    _check_size("to_rle", *masks.shape)
    columns = np.asfortranarray(masks.transpose(1, 2, 0), dtype=np.uint8)
    return _coco_mask().encode(columns)


def from_rle(rles: Sequence[Mapping[str, Any]]) -> Bool[np.ndarray, "n h w"]:
    """Returns masks from COCO's run lengths, compressed or not.

    Args:
      rles: masks of one size, each ``{"size": [h, w], "counts": counts}``. The counts are COCO's
        compressed bytes or text, or a list of the lengths themselves: column after column, in turn
        outside of and in the mask, the first outside. Forms may be mixed.

    Returns:
      The masks; of shape ``[0 0 0]`` for no run lengths, whose size nobody knows.

    Raises:
      ValueError: if a part is missing or of another type; if sizes differ, are not positive, or
        are 2^31 pixels or more all together; if compressed counts are malformed; if lengths are
        negative or do not add up to the size.
    """
    # The library could decode what has been checked. But checking compressed counts takes their
    # lengths, from which the mask is one line, and then nothing from outside reaches C code.
    if not rles:
        return np.zeros((0, 0, 0), np.bool_)
    h, w = _size(rles[0], "rles[0]")
    _check_size("rles[0]", len(rles), h, w)
    masks = np.empty((len(rles), h, w), np.bool_)
    for i, rle in enumerate(rles):
        where = f"rles[{i}]"
        if _size(rle, where) != (h, w):
            raise ValueError(
                f"{where} is of size {_short(rle['size'])}, but rles[0] of {[h, w]}. Decode masks "
                "of different sizes one at a time."
            )
        runs = _runs(rle["counts"], where, h * w)
        bits = np.repeat(np.arange(runs.size) % 2 == 1, runs)
        masks[i] = bits.reshape(w, h).T
    return masks


def from_polygons(
    polygons: Sequence[Sequence[float]], height: int, width: int
) -> Bool[np.ndarray, "h w"]:
    """Returns the mask of an object, the union of its polygons, by COCO's rasterisation.

    Args:
      polygons: each ``[x1, y1, x2, y2, ...]`` in pixels, closed by itself. Corners may lie outside
        of the image; crossings within one polygon follow the even-odd rule. None is an empty mask.
      height: of the image in pixels.
      width: of the image in pixels.

    Raises:
      ImportError: if faster-coco-eval is not installed.
      ValueError: if a polygon has fewer than 3 points, an odd number of coordinates, one that is
        not a finite number, or an outline of more than 2^21 pixels; if the image's sides are not
        positive, or it has 2^31 pixels or more.
    """
    _check_size("The image", 1, height, width)
    mask = np.zeros((height, width), np.bool_)
    points = [_points(polygon, f"polygons[{i}]") for i, polygon in enumerate(polygons)]
    coco_mask = _coco_mask()
    for each in points:
        mask |= from_rle(coco_mask.frPyObjects([each], height, width))[0]
    return mask


def _extent(line: Any) -> tuple[Any, Any]:
    """Returns the first position that holds, and one more than the last; zeros if none does."""
    xp = _namespace(line)
    n = line.shape[-1]
    ahead = xp.broadcast_to(xp.arange(1, n + 1, dtype=np.float32), line.shape)
    zero = xp.zeros_like(ahead)
    # Maxima start from 0, so that a line may have no position.
    end = xp.max(xp.where(line, ahead, zero), axis=-1, initial=0)
    start = n - xp.max(xp.where(line, n + 1 - ahead, zero), axis=-1, initial=0)
    return xp.where(end > 0, start, xp.zeros_like(start)), end


def _erode_rows(masks: Any, d: int) -> Any:
    """Returns where all of the 2d + 1 pixels of a row about a pixel are in the mask."""
    xp = _namespace(masks)
    n, window = masks.shape[-1], 2 * d + 1
    # One more in front, so that differences of sums are sums of windows.
    padded = xp.pad(masks, [(0, 0)] * (masks.ndim - 1) + [(d + 1, d)])
    sums = xp.cumsum(padded, axis=-1, dtype=np.int32)
    return sums[..., window:] - sums[..., :n] == window


def _check_size(where: str, n: int, h: int, w: int) -> None:
    if h < 1 or w < 1:
        raise ValueError(f"{where}: the size is {h}x{w}, but a mask has at least one pixel.")
    if n * h * w > _MAX_PIXELS:
        raise ValueError(
            f"{where}: the size is {h}x{w}, in {n} masks {n * h * w} pixels, but at most "
            f"{_MAX_PIXELS} fit. Convert fewer at once, or check where the size comes from."
        )


def _size(rle: Mapping[str, Any], where: str) -> tuple[int, int]:
    if "size" not in rle or "counts" not in rle:
        raise ValueError(f'{where} has the keys {list(rle)}, but needs "size" and "counts".')
    size = np.asarray(rle["size"])
    if size.shape != (2,) or size.dtype.kind not in "iu":
        raise ValueError(
            f"{where}: size is {_short(rle['size'])}, but wanted are two whole numbers, "
            "[height, width]."
        )
    return int(size[0]), int(size[1])


def _runs(counts: Any, where: str, pixels: int) -> np.ndarray:
    """Returns lengths in int64 that add up to ``pixels``."""
    if isinstance(counts, str):
        # Any other character becomes bytes above 127, which the code does not have either.
        counts = counts.encode("utf-8", "surrogatepass")
    runs = _decompress(counts, where) if isinstance(counts, bytes) else np.asarray(counts)
    if runs.ndim != 1 or runs.dtype.kind not in "iu":
        raise ValueError(
            f"{where}: counts are {_short(counts)}, but wanted are bytes, text or a list of whole "
            "numbers."
        )
    # Each by itself first, so that the sum cannot overflow.
    wrong = runs[(runs < 0) | (runs > pixels)]
    if wrong.size:
        raise ValueError(
            f"{where}: counts have a run of {wrong[0]} pixels, but the mask has {pixels}. The "
            "annotation is damaged, or its size is another image's."
        )
    if runs.sum() != pixels:
        raise ValueError(
            f"{where}: counts add up to {runs.sum()} pixels, but the mask has {pixels}. The "
            "annotation is damaged, or its size is another image's."
        )
    return runs.astype(np.int64)


def _decompress(counts: bytes, where: str) -> np.ndarray:
    """Returns the lengths that COCO's compressed counts say, in int64.

    A character less 48 is 6 bits: 5 of a number, the lowest first, and 0x20 if more follow. The
    highest bit of the last 5 is the sign. From the fourth number on, numbers are differences to
    the length two before, which was of the same kind.
    """
    codes = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if not codes.size:
        return codes
    outside = np.flatnonzero((codes < 0) | (codes > 63))
    if outside.size:
        raise ValueError(
            f"{where}: the byte {outside[0]} of compressed counts is {counts[outside[0]]}, but "
            "COCO's code has 48 to 111 only. The annotation is damaged, or not compressed counts."
        )
    if codes[-1] & 0x20:
        raise ValueError(
            f"{where}: compressed counts end within a number, in {_short(counts[-8:])}. The "
            "annotation has been cut off."
        )
    ends = np.flatnonzero(codes < 0x20)
    lengths = np.diff(ends, prepend=-1)
    if lengths.max() > 7:
        raise ValueError(
            f"{where}: compressed counts have a number of {lengths.max()} characters, but 7 hold "
            "each of 32 bits. The annotation is damaged."
        )
    starts = ends - lengths + 1
    place = np.arange(codes.size) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 0x1F) << 5 * place, starts)
    runs -= (codes[ends] >> 4) << 5 * lengths
    for first in (1, 2):
        runs[first::2] = np.cumsum(runs[first::2])
    return runs


def _points(polygon: Sequence[float], where: str) -> list[float]:
    """Returns a polygon's coordinates if the C code may see them."""
    values = np.asarray(polygon)
    if values.ndim != 1 or values.size < 6 or values.size % 2:
        raise ValueError(
            f"{where} is {_short(polygon)}, but wanted is a flat list of 3 points or more, "
            "[x1, y1, x2, y2, x3, y3, ...]."
        )
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise ValueError(
            f"{where} is {_short(polygon)}, but every coordinate must be a finite number."
        )
    corners = values.astype(np.float64).reshape(-1, 2)
    # The coordinates first, so that their differences cannot overflow.
    length = abs(corners).max()
    if length <= _MAX_OUTLINE:
        length = abs(corners - np.roll(corners, 1, axis=0)).max(axis=1).sum()
    if length > _MAX_OUTLINE:
        raise ValueError(
            f"{where} reaches over {length:g} pixels, but at most {_MAX_OUTLINE} are allowed. Are "
            "its coordinates in pixels?"
        )
    return corners.ravel().tolist()


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _coco_mask() -> Any:
    try:
        from faster_coco_eval import mask
    except ImportError as error:
        raise ImportError(
            "COCO's run lengths and polygons need the library faster-coco-eval, which is not "
            'installed: pip install "scenax-common[coco]".'
        ) from error
    return mask


def _namespace(*arrays: Any) -> ModuleType:
    """Returns jax.numpy if one of the arrays is jax's, or a tracer, and else numpy."""
    return jnp if any(isinstance(array, jax.Array) for array in arrays) else np
