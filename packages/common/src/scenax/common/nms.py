"""Non-maximum suppression with a fixed number of outputs, so that it compiles and maps over images.

Each step takes the best box that is left and looks at all n boxes against it: the time is that of
n overlaps per output, the memory that of n boxes. Of equal scores the lower index comes first. A
score of NaN or of minus infinity is never kept, so that either can mark padding. Outputs beyond
those that are kept are not valid and have index 0, which may always be gathered.

Sources: the greedy rule as in torchvision and TensorFlow; soft NMS, arXiv 1704.04503, with its
Gaussian. Checked against loops in plain python and TensorFlow 2.21. Letters in shapes: n boxes,
k outputs.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, ScalarLike

from scenax.common import boxes as boxes_lib


def nms(
    boxes: Float[Array, "n 4"],
    scores: Float[Array, " n"],
    *,
    iou_threshold: ScalarLike,
    max_outputs: int,
) -> tuple[Int[Array, " k"], Bool[Array, " k"]]:
    """Returns the indices of boxes that no better box overlaps, best first, and which are valid.

    Args:
      boxes: xyxy, in any unit.
      scores: higher is better, any finite number.
      iou_threshold: in [0, 1]. A kept box suppresses those whose IoU with it is above this; a box
        without area neither suppresses nor is suppressed.
      max_outputs: the number ``k`` of outputs, at least 1; it may be more than ``n``.

    Raises:
      ValueError: if ``max_outputs`` is below 1.
    """
    one_class = jnp.zeros(scores.shape, jnp.int32)
    return nms_per_class(
        boxes, scores, one_class, iou_threshold=iou_threshold, max_outputs=max_outputs
    )


def nms_per_class(
    boxes: Float[Array, "n 4"],
    scores: Float[Array, " n"],
    classes: Int[Array, " n"],
    *,
    iou_threshold: ScalarLike,
    max_outputs: int,
) -> tuple[Int[Array, " k"], Bool[Array, " k"]]:
    """Returns what ``nms`` does, where a box suppresses only boxes of its own class.

    Classes are compared, and boxes stay where they are: moving each class to a place of its own
    costs the overlaps precision.

    Args:
      boxes: xyxy, in any unit.
      scores: higher is better, any finite number.
      classes: any integers. The ``k`` best boxes over all classes are returned.
      iou_threshold: see ``nms``.
      max_outputs: see ``nms``.

    Raises:
      ValueError: if ``max_outputs`` is below 1.
    """
    _check_outputs(max_outputs)
    if not len(scores):  # There is no best of nothing.
        return jnp.zeros(max_outputs, jnp.int32), jnp.zeros(max_outputs, bool)

    def step(left: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        best, valid = _best(scores, left)
        overlap = boxes_lib.iou(boxes, boxes[best])
        suppressed = (overlap > iou_threshold) & (classes == classes[best])
        return (left & ~suppressed).at[best].set(False), (best, valid)

    _, outputs = jax.lax.scan(step, _may_be_kept(scores), None, length=max_outputs)
    return outputs


def soft_nms(
    boxes: Float[Array, "n 4"],
    scores: Float[Array, " n"],
    *,
    sigma: ScalarLike,
    score_threshold: ScalarLike,
    max_outputs: int,
) -> tuple[Int[Array, " k"], Float[Array, " k"], Bool[Array, " k"]]:
    """Returns indices and scores of boxes, where overlap lowers a score instead of ending it.

    Whenever a box is kept, the scores of those that are left are multiplied by
    ``exp(-iou**2 / sigma)``. The second output are scores after that, 0 where not valid, best
    first; the third says which outputs are valid.

    Args:
      boxes: xyxy, in any unit.
      scores: at least 0; higher is better.
      sigma: above 0. The paper takes 0.5. TensorFlow's ``soft_nms_sigma`` is half of it.
      score_threshold: a box is kept while its lowered score is at least this; 0.001 in the
        paper.
      max_outputs: the number ``k`` of outputs, at least 1; it may be more than ``n``.

    Raises:
      ValueError: if ``max_outputs`` is below 1.
    """
    _check_outputs(max_outputs)
    if not len(scores):
        nothing = jnp.zeros(max_outputs, jnp.int32), jnp.zeros(max_outputs, scores.dtype)
        return *nothing, jnp.zeros(max_outputs, bool)

    def step(
        state: tuple[Array, Array], _: None
    ) -> tuple[tuple[Array, Array], tuple[Array, Array, Array]]:
        scores, left = state
        best, valid = _best(scores, left & (scores >= score_threshold))
        score = jnp.where(valid, scores[best], 0)
        overlap = boxes_lib.iou(boxes, boxes[best])
        lowered = jnp.where(valid, scores * jnp.exp(-(overlap**2) / sigma), scores)
        return (lowered, left.at[best].set(False)), (best, score, valid)

    left = _may_be_kept(scores)
    # Whatever multiplies a score that is not finite would not be finite either, gradients included.
    _, outputs = jax.lax.scan(step, (jnp.where(left, scores, 0), left), None, length=max_outputs)
    return outputs


def _check_outputs(max_outputs: int) -> None:
    if max_outputs < 1:
        raise ValueError(
            f"max_outputs is the number of boxes to return, at least 1; got {max_outputs}."
        )


def _may_be_kept(scores: Array) -> Array:
    return scores > -jnp.inf  # False for NaN too.


def _best(scores: Array, left: Array) -> tuple[Array, Array]:
    """Returns the index of the best score among those left, 0 if none is, and whether one is."""
    valid = left.any()
    best = jnp.argmax(jnp.where(left, scores, -jnp.inf))
    return jnp.where(valid, best, 0).astype(jnp.int32), valid
