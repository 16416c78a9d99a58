import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scenax.common.nms import nms, nms_per_class, soft_nms

GOLDENS = pathlib.Path(__file__).parent / "goldens"
MAKE = runpy.run_path(str(GOLDENS / "make_boxes.py"))
TENSORFLOW = np.load(GOLDENS / "boxes.npz")
BOXES, SCORES, CLASSES = MAKE["detections"]()

NMS = jax.jit(nms, static_argnames="max_outputs")
PER_CLASS = jax.jit(nms_per_class, static_argnames="max_outputs")
SOFT = jax.jit(soft_nms, static_argnames="max_outputs")


def overlap(a, b):
    """IoU of two boxes of positive area, in float64."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = a.tolist(), b.tolist()
    inter = max(0, min(ax2, bx2) - max(ax1, bx1)) * max(0, min(ay2, by2) - max(ay1, by1))
    return inter / ((ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - inter)


def greedy(boxes, scores, classes, threshold):
    """The rule in two loops."""
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        rivals = [j for j in kept if classes[i] == classes[j]]
        if all(overlap(boxes[i], boxes[j]) <= threshold for j in rivals):
            kept.append(i)
    return kept


def soft_greedy(boxes, scores, sigma, threshold):
    """The paper's algorithm 1 with equation 3."""
    scores, left, kept = dict(enumerate(scores.tolist())), set(range(len(boxes))), []
    while left and max(scores[i] for i in left) >= threshold:
        best = max(left, key=lambda i: (scores[i], -i))
        left.remove(best)
        kept.append((best, scores[best]))
        for i in left:
            scores[i] *= np.exp(-(overlap(boxes[best], boxes[i]) ** 2) / sigma)
    return kept


def random_detections(seed, n=40):
    rng = np.random.default_rng(seed)
    corner, side = rng.uniform(0, 10, (n, 2)), rng.uniform(1, 8, (n, 2))
    boxes = np.concatenate([corner, corner + side], -1).astype(np.float32)
    scores = (rng.integers(1, 15, n) / 15).astype(np.float32)
    return boxes, scores, rng.integers(-1, 3, n).astype(np.int32)


def kept(outputs):
    """The valid indices; what is not valid comes last and is 0."""
    indices, valid = np.asarray(outputs[0]), np.asarray(outputs[-1])
    assert not valid[valid.sum() :].any() and not indices[valid.sum() :].any()
    return indices[valid].tolist()


@pytest.mark.parametrize("threshold", MAKE["NMS_THRESHOLDS"])
def test_against_tensorflow(threshold):
    options = {"iou_threshold": threshold, "max_outputs": 60}
    wanted = TENSORFLOW[f"nms_{threshold}"].tolist()
    assert 5 < len(wanted) < 60
    assert kept(NMS(BOXES, SCORES, **options)) == wanted
    wanted = TENSORFLOW[f"class_nms_{threshold}"].tolist()
    assert kept(PER_CLASS(BOXES, SCORES, CLASSES, **options)) == wanted


@pytest.mark.parametrize("sigma", MAKE["SOFT_SIGMAS"])
def test_soft_against_tensorflow(sigma):
    options = {"sigma": sigma, "score_threshold": MAKE["SOFT_THRESHOLD"], "max_outputs": 60}
    outputs = SOFT(BOXES, SCORES, **options)
    wanted = TENSORFLOW[f"soft_{sigma}"].tolist()
    assert 5 < len(wanted) < 60
    assert kept(outputs) == wanted
    scores = np.pad(TENSORFLOW[f"soft_{sigma}_scores"], (0, 60 - len(wanted)))
    np.testing.assert_allclose(outputs[1], scores, rtol=2e-6)


@pytest.mark.parametrize("seed", range(6))
def test_against_loops(seed):
    boxes, scores, classes = random_detections(seed)
    options = {"iou_threshold": 0.3, "max_outputs": 40}
    assert kept(NMS(boxes, scores, **options)) == greedy(boxes, scores, 0 * classes, 0.3)
    assert kept(PER_CLASS(boxes, scores, classes, **options)) == greedy(boxes, scores, classes, 0.3)
    wanted = soft_greedy(boxes, scores, 0.3, 0.02)
    indices, lowered, valid = SOFT(boxes, scores, sigma=0.3, score_threshold=0.02, max_outputs=40)
    assert kept((indices, valid)) == [i for i, _ in wanted]
    np.testing.assert_allclose(lowered[: len(wanted)], [score for _, score in wanted], rtol=1e-5)


def test_fewer_and_more_outputs():
    everything = kept(NMS(BOXES, SCORES, iou_threshold=0.5, max_outputs=60))
    assert kept(NMS(BOXES, SCORES, iou_threshold=0.5, max_outputs=7)) == everything[:7]
    indices, valid = NMS(BOXES, SCORES, iou_threshold=0.5, max_outputs=75)
    assert indices.shape == valid.shape == (75,)
    assert indices.dtype == jnp.int32 and valid.dtype == bool
    assert kept((indices, valid)) == everything


def test_all_overlap():
    boxes, scores = jnp.tile(jnp.array([[0.0, 0, 2, 2]]), (5, 1)), jnp.array([1.0, 3, 2, 3, 0])
    assert kept(nms(boxes, scores, iou_threshold=0.9, max_outputs=5)) == [1]
    # The threshold itself does not suppress.
    assert kept(nms(boxes, scores, iou_threshold=1.0, max_outputs=5)) == [1, 3, 2, 0, 4]
    classes = jnp.array([7, 7, -1, 3, 3])
    assert kept(nms_per_class(boxes, scores, classes, iou_threshold=0.9, max_outputs=5)) == [
        1,
        3,
        2,
    ]
    got = soft_nms(boxes, scores, sigma=0.5, score_threshold=0.1, max_outputs=5)
    # exp(-2) per kept box: 3, then 3, 2 and 1 times it, then times its square and so on.
    assert kept(got) == [1, 3]
    np.testing.assert_allclose(got[1], [3, 3 * np.exp(-2), 0, 0, 0], rtol=1e-6)


def test_far_from_the_origin_classes_keep_their_precision():
    # In float32 the unit in the last place is 1/16 here. Moved apart by class, boxes
    # of class 900 would have no area, and not suppress one another.
    box = np.array([[0, 0, 1, 1], [0.5, 0, 1.5, 1]], np.float32) + np.float32(2**20 - 8)
    boxes = jnp.asarray(np.concatenate([box, box]))
    got = nms_per_class(
        boxes,
        jnp.array([4.0, 3, 2, 1]),
        jnp.array([0, 0, 900, 900]),
        iou_threshold=0.3,
        max_outputs=4,
    )
    assert kept(got) == [0, 2]


def test_nothing():
    boxes, scores = jnp.zeros((0, 4)), jnp.zeros(0)
    for got in (
        nms(boxes, scores, iou_threshold=0.5, max_outputs=3),
        nms_per_class(boxes, scores, jnp.zeros(0, int), iou_threshold=0.5, max_outputs=3),
        soft_nms(boxes, scores, sigma=0.5, score_threshold=0.0, max_outputs=3),
    ):
        assert kept(got) == [] and got[0].shape == got[-1].shape == (3,)


def test_nan_and_minus_infinity_are_never_kept():
    boxes = jnp.asarray(BOXES[:6])
    scores = jnp.array([jnp.nan, 0.5, -jnp.inf, 0.25, jnp.nan, 1.0])
    assert kept(nms(boxes, scores, iou_threshold=1.0, max_outputs=6)) == [5, 1, 3]
    got = soft_nms(boxes, scores, sigma=1e6, score_threshold=0.0, max_outputs=6)
    assert kept(got) == [5, 1, 3]
    np.testing.assert_allclose(got[1], [1, 0.5, 0.25, 0, 0, 0], rtol=1e-5)
    nothing = nms(boxes, jnp.full(6, jnp.nan), iou_threshold=1.0, max_outputs=6)
    assert kept(nothing) == []


def test_boxes_without_area_do_not_suppress():
    boxes = jnp.array([[1.0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 2, 2]])
    scores = jnp.array([3.0, 2, 1])
    assert kept(nms(boxes, scores, iou_threshold=0.0, max_outputs=3)) == [0, 1, 2]


def test_over_a_batch():
    images = [random_detections(seed) for seed in range(3)]
    boxes, scores, classes = (jnp.stack(each) for each in zip(*images, strict=True))

    @jax.jit
    @jax.vmap
    def detect(boxes, scores, classes):
        return nms_per_class(boxes, scores, classes, iou_threshold=0.4, max_outputs=40)

    got = zip(*detect(boxes, scores, classes), strict=True)
    assert [kept(each) for each in got] == [greedy(*image, 0.4) for image in images]


def test_the_gradient_of_soft_scores():
    boxes, scores = jnp.array([[0.0, 0, 2, 2], [1, 0, 3, 2]]), jnp.array([1.0, 0.5])

    def second(boxes, scores):
        return soft_nms(boxes, scores, sigma=0.5, score_threshold=0.0, max_outputs=3)[1][1]

    by_boxes, by_scores = jax.grad(second, argnums=(0, 1))(boxes, scores)
    # Moving the right side of the first box adds to the intersection of 2, not to the union of 6.
    factor = np.exp(-2 / 9)
    np.testing.assert_allclose(by_scores, [0, factor], rtol=1e-6)
    wanted = 0.5 * factor * (-2 / 0.5) * (1 / 3) * (2 / 6)
    np.testing.assert_allclose(by_boxes[0, 2], wanted, rtol=1e-5)


@pytest.mark.parametrize("outputs", [0, -1])
def test_wrong_numbers_of_outputs(outputs):
    boxes, scores = jnp.asarray(BOXES), jnp.asarray(SCORES)
    with pytest.raises(ValueError, match=f"at least 1; got {outputs}"):
        nms(boxes, scores, iou_threshold=0.5, max_outputs=outputs)
    with pytest.raises(ValueError, match="at least 1"):
        soft_nms(boxes, scores, sigma=0.5, score_threshold=0.0, max_outputs=outputs)


def test_memory_grows_with_the_boxes_not_with_their_square():
    n = 20_000
    shapes = jax.ShapeDtypeStruct((n, 4), jnp.float32), jax.ShapeDtypeStruct((n,), jnp.float32)
    compiled = NMS.lower(*shapes, iou_threshold=0.5, max_outputs=100).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 200 * n
