import jax.numpy as jnp
import numpy as np

from scenax.common.anchors import from_deltas, to_deltas


def some_boxes(seed, count=50):
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 50, (count, 2)), rng.uniform(1, 30, (count, 2))
    return np.concatenate([corner, corner + size], axis=1)


def test_offsets_one_number_at_a_time():
    boxes, anchors = some_boxes(0), some_boxes(1)
    got = to_deltas(boxes, anchors)
    for (x1, y1, x2, y2), (ax1, ay1, ax2, ay2), (dx, dy, dw, dh) in zip(
        boxes, anchors, got, strict=True
    ):
        w, h = ax2 - ax1, ay2 - ay1
        assert np.isclose(ax1 + w / 2 + dx * w, (x1 + x2) / 2, rtol=1e-12)
        assert np.isclose(ay1 + h / 2 + dy * h, (y1 + y2) / 2, rtol=1e-12)
        assert np.isclose(w * np.exp(dw), x2 - x1, rtol=1e-12)
        assert np.isclose(h * np.exp(dh), y2 - y1, rtol=1e-12)


def test_there_and_back_in_numpy_and_jax():
    boxes, anchors = some_boxes(2), some_boxes(3)
    np.testing.assert_allclose(from_deltas(to_deltas(boxes, anchors), anchors), boxes, rtol=1e-12)
    on_device = [jnp.asarray(x, jnp.float32) for x in (boxes, anchors)]
    back = from_deltas(to_deltas(*on_device), on_device[1])
    np.testing.assert_allclose(back, boxes, rtol=1e-4)
    np.testing.assert_allclose(to_deltas(*on_device), to_deltas(boxes, anchors), atol=2e-5)


def test_sizes_stay_finite():
    anchor = np.array([[0.0, 0.0, 2.0, 4.0]])
    box = from_deltas(np.array([[0.0, 0.0, 100.0, 100.0]]), anchor)
    np.testing.assert_allclose(box[:, 2:] - box[:, :2], [[125.0, 250.0]])
