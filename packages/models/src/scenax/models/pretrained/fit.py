"""Which arrays of a timm state dict have to change for a model's images, and how.

Decided as timm 1.0.31 decides it, which knows the image size of the weights from their
``default_cfg``, and takes it to be square where that cannot be.
"""

import math
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import numpy as np

from scenax.models.pretrained.adapt import (
    adapt_input_conv,
    resample_abs_pos_embed,
    resample_patch_embed,
    resize_rel_pos_bias_table,
)
from scenax.models.pretrained.stored import Stored
from scenax.models.pretrained.timm import name_of

PATCHES = "patch_embed.proj.weight"
TABLE = "relative_position_bias_table"

Change = Callable[[], np.ndarray] | None
Grid = tuple[int, int]


def fitted(
    arrays: Mapping[str, Stored], model: Any, wanted: Mapping[str, Any], cfg: Mapping[str, Any]
) -> dict[str, Stored]:
    """Returns a timm state dict whose arrays fit a model's images, where timm would make them fit.

    What is changed is computed when it is read. An array that timm would not change stays as it is,
    whatever its shape.

    Args:
      arrays: by timm's name.
      model: of the zoo.
      wanted: its variables' shapes by path.
      cfg: of the weights, as timm's ``default_cfg``; ``input_size`` and ``first_conv`` matter.
    """
    shapes = {}
    for path, leaf in wanted.items():
        name, axes = name_of(path, len(leaf.shape))
        shapes[name] = tuple(leaf.shape[i] for i in axes)
    first = cfg.get("first_conv") or ()
    convs = {f"{name}.weight" for name in ((first,) if isinstance(first, str) else first)}
    found = {}
    for name, array in arrays.items():
        shape, change = shapes.get(name), None
        if shape is not None and len(shape) == array.ndim:
            if array.ndim == 4:
                change = _filters(name, array, shape, convs)
            elif name == "pos_embed":
                change = _positions(array, shape, model, _grid(model, arrays, cfg))
            elif name.endswith(TABLE):
                change = _table(name, array, model, cfg)
        found[name] = Stored.computed(shape, array.dtype, change) if shape and change else array
    return found


def _filters(name: str, array: Stored, shape: Sequence[int], convs: Container[str]) -> Change:
    others = array.shape[1] != shape[1] and name not in convs
    if array.shape[0] != shape[0] or others or (array.shape[2:] != shape[2:] and name != PATCHES):
        return None
    if array.shape == shape:
        return None
    return lambda: adapt_input_conv(resample_patch_embed(np.asarray(array), shape[2:]), shape[1])


def _grid(
    model: Any, arrays: Mapping[str, Stored], cfg: Mapping[str, Any]
) -> tuple[Grid, Grid | None] | None:
    """Returns rows and columns of the model's patches, and of those of the weights if known."""
    if getattr(model, "img_size", None) is None:
        return None
    stride = model.levels[0][1]
    new = (model.img_size[0] // stride, model.img_size[1] // stride)
    patches, image = arrays.get(PATCHES), cfg.get("input_size")
    if patches is None or patches.ndim != 4 or image is None:
        return new, None
    # A token's stride in pixels is its kernel, times what comes before it in a hybrid.
    before = stride // getattr(model.size, "patch_size", stride)
    rows, cols = (
        pixels // (before * kernel)
        for pixels, kernel in zip(image[1:], patches.shape[2:], strict=True)
    )
    return new, (rows, cols)


def _positions(
    array: Stored,
    shape: Sequence[int],
    model: Any,
    grids: tuple[Grid, Grid | None] | None,
) -> Change:
    if grids is None or array.shape[2] != shape[2]:
        return None
    new, old = grids
    prefix = shape[1] - math.prod(new)
    count = array.shape[1] - prefix
    if old is None or math.prod(old) != count:
        if math.isqrt(max(count, 0)) ** 2 != count:
            return None
        old = (math.isqrt(count),) * 2
    if array.shape[1] == shape[1] and old == new:
        return None
    return lambda: resample_abs_pos_embed(
        np.asarray(array), new, old_size=old, num_prefix_tokens=prefix
    )


def _table(name: str, array: Stored, model: Any, cfg: Mapping[str, Any]) -> Change:
    """A stage's windows are as large as its map where the map is smaller."""
    stage = int(name.split(".")[1])
    chosen, stride = model.size.window_size, model.levels[stage][1]
    side = chosen if isinstance(chosen, int) else chosen[stage]

    def window(image: Sequence[int]) -> Grid:
        return min(side, -(-image[0] // stride)), min(side, -(-image[1] // stride))

    def count(window: Sequence[int]) -> int:
        return math.prod(2 * side - 1 for side in window)

    new, old = window(model.img_size), window(cfg.get("input_size", (0, 0, 0))[1:])
    known = count(old) == array.shape[0]
    square = math.isqrt(array.shape[0]) ** 2 == array.shape[0]
    if not known and not square:
        return None
    if new == (old if known else ((math.isqrt(array.shape[0]) + 1) // 2,) * 2):
        return None
    return lambda: resize_rel_pos_bias_table(
        np.asarray(array), new, old_window=old if known else None
    )
