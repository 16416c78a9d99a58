"""Many to one: which target each anchor answers for, by how much they overlap.

The rule of RetinaNet and Faster R-CNN (arXiv 1708.02002, section 4.1; arXiv 1506.01497, section
3.1.2). Checked against torchvision. Letters in shapes: b batch, a anchors, m targets.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

BACKGROUND = -1
BETWEEN = -2


def by_overlap(
    iou: Float[Array, "b a m"], mask: Bool[Array, "b m"], *, low: float, high: float
) -> Int[Array, "b a"]:
    """Returns the target of each anchor, -1 for background, or -2 for what is neither.

    An anchor answers for the target that it overlaps most, from an IoU of ``high`` on; below
    ``low`` it is background. So that no target is left alone, the anchors that overlap a target
    most answer for something in any case: for the target that they themselves overlap most. Unlike
    in torchvision, this takes some overlap.

    Args:
      iou: of anchors with targets.
      mask: which targets are real.
      low: up to where anchors are background.
      high: from where on they are not, at least ``low``.

    Raises:
      ValueError: if ``low`` is above ``high``.
    """
    if low > high:
        raise ValueError(f"low has to be at most high, got {low} and {high}.")
    b, anchors, targets = iou.shape
    if not targets:
        return jnp.full((b, anchors), BACKGROUND, jnp.int32)
    iou = jnp.where(mask[:, None], jax.lax.stop_gradient(iou), -1.0)
    best = jnp.argmax(iou, axis=2).astype(jnp.int32)
    overlap = jnp.max(iou, axis=2)
    nearest = jnp.max(iou, axis=1, keepdims=True)
    is_nearest = jnp.any((iou == nearest) & (nearest > 0), axis=2)
    kind = jnp.where(overlap < low, BACKGROUND, BETWEEN).astype(jnp.int32)
    return jnp.where((overlap >= high) | is_nearest, best, kind)
