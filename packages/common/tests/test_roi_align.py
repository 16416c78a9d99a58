import math
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scenax.common.roi_align import roi_align

GOLDENS = pathlib.Path(__file__).parent / "goldens"
MAKE = runpy.run_path(str(GOLDENS / "make_boxes.py"))
GOLDEN = np.load(GOLDENS / "boxes.npz")
FEATURES, BOXES = MAKE["feature_maps"]()
ALIGN = jax.jit(roi_align, static_argnames=("output_size", "sampling_ratio"))


def sample(image, y, x):
    """A bilinear sample of [h w c] at a place measured between centres of pixels."""
    height, width, channels = image.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros(channels)
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    rows = np.maximum(0, 1 - abs(y - np.arange(height)))
    columns = np.maximum(0, 1 - abs(x - np.arange(width)))
    return (rows[:, None, None] * columns[None, :, None] * image).sum((0, 1))


def by_hand(image, box, rows, columns, ratio):
    """The mean over samples in each cell, in float64."""
    x1, y1, x2, y2 = box
    out = np.zeros((rows, columns, image.shape[-1]))
    for row in range(rows):
        for column in range(columns):
            for i in range(ratio):
                for j in range(ratio):
                    y = y1 + (y2 - y1) * (row + (i + 0.5) / ratio) / rows - 0.5
                    x = x1 + (x2 - x1) * (column + (j + 0.5) / ratio) / columns - 0.5
                    out[row, column] += sample(image, y, x) / ratio**2
    return out


@pytest.mark.parametrize("ratio", MAKE["ROI_RATIOS"])
def test_against_torchvision_and_onnxruntime(ratio):
    wanted = GOLDEN[f"roi_{ratio}"]
    assert np.abs(wanted[:, 1]).max() > 0.1 and not wanted[:, 5].any()
    options = {"output_size": MAKE["ROI_SIZE"], "sampling_ratio": ratio}
    with jax.enable_x64(True):
        got = ALIGN(jnp.asarray(FEATURES), jnp.asarray(BOXES), **options)
        assert got.dtype == jnp.float64
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-14)
    on_map = np.asarray(got)[:, MAKE["ROIS_ON_MAP"]]
    np.testing.assert_allclose(on_map, GOLDEN[f"roi_{ratio}_torchvision"], rtol=0, atol=1e-14)
    got = ALIGN(jnp.asarray(FEATURES, jnp.float32), jnp.asarray(BOXES, jnp.float32), **options)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, wanted, rtol=0, atol=3e-6)


@pytest.mark.parametrize("shape", [(5, 6), (1, 6), (5, 1), (1, 1)])
def test_against_a_loop(shape):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, *shape, 2))
    boxes = np.concatenate([rng.uniform(-3, 4, (2, 5, 2)), rng.uniform(2, 9, (2, 5, 2))], -1)
    # A box from corner to corner puts samples just on the border of what counts.
    boxes[0, 0] = [-0.75, -0.75, shape[1] + 0.75, shape[0] + 0.75]
    got = ALIGN(
        jnp.asarray(features, jnp.float32),
        jnp.asarray(boxes, jnp.float32),
        output_size=(3, 2),
    )
    wanted = [
        [by_hand(image, box, 3, 2, 2) for box in own]
        for image, own in zip(features, boxes, strict=True)
    ]
    np.testing.assert_allclose(got, wanted, atol=2e-5)


def test_samples_on_the_very_border_count():
    # One sample at exactly -1 and one at exactly the width take the border's value.
    features = jnp.arange(1.0, 5.0).reshape(1, 1, 4, 1)
    boxes = jnp.array([[[-0.5, 0.5, -0.5, 0.5], [4.5, 0.5, 4.5, 0.5], [-0.625, 0.5, -0.625, 0.5]]])
    got = roi_align(features, boxes, output_size=1, sampling_ratio=1)
    np.testing.assert_array_equal(got.ravel(), [1, 4, 0])


def test_boxes_of_one_pixel_read_that_pixel():
    y, x = np.mgrid[:9, :11]
    boxes = np.stack([x, y, x + 1, y + 1], -1).reshape(1, -1, 4)
    got = roi_align(
        jnp.asarray(FEATURES[:1], jnp.float32),
        jnp.asarray(boxes, jnp.float32),
        output_size=1,
        sampling_ratio=1,
    )
    np.testing.assert_allclose(got.reshape(9, 11, 3), FEATURES[0], rtol=1e-6)


def test_bfloat16_features():
    features = jnp.asarray(FEATURES, jnp.bfloat16)
    boxes = jnp.asarray(BOXES, jnp.float32)
    got = ALIGN(features, boxes, output_size=3)
    assert got.dtype == jnp.bfloat16
    wanted = ALIGN(features.astype(jnp.float32), boxes, output_size=3)
    np.testing.assert_array_equal(got, wanted.astype(jnp.bfloat16))


def test_the_gradient_of_the_features_is_the_transpose():
    # The result is linear in the features: each pixel's gradient is its share, found by probing.
    features, boxes = jnp.zeros((1, 4, 5, 1)), jnp.asarray(BOXES[:1, :3] / 3, jnp.float32)
    weights = np.random.default_rng(1).normal(size=(1, 3, 2, 2, 1)).astype(np.float32)

    def total(features):
        return (ALIGN(features, boxes, output_size=2) * weights).sum()

    wanted = np.zeros((4, 5))
    for row in range(4):
        for column in range(5):
            probe = np.zeros((4, 5, 1))
            probe[row, column] = 1
            pooled = np.stack([by_hand(probe, box, 2, 2, 2) for box in np.asarray(boxes[0])])
            wanted[row, column] = (pooled * weights[0]).sum()
    np.testing.assert_allclose(jax.grad(total)(features)[0, ..., 0], wanted, atol=1e-6)


def test_the_gradient_of_the_boxes():
    image, box = FEATURES[0, :5, :6], np.array([1.3, 0.8, 4.1, 3.9])

    def by_differences(step=1e-6):
        for i in range(4):
            nudge = step * np.eye(4)[i]
            above, below = (by_hand(image, box + s * nudge, 2, 3, 2).sum() for s in (1, -1))
            yield (above - below) / (2 * step)

    with jax.enable_x64(True):
        got = jax.grad(
            lambda box: ALIGN(jnp.asarray(image)[None], box[None, None], output_size=(2, 3)).sum()
        )(jnp.asarray(box))
    np.testing.assert_allclose(got, list(by_differences()), atol=1e-7)


def test_gradients_are_finite_for_degenerate_boxes():
    features, boxes = jnp.asarray(FEATURES, jnp.float32), jnp.asarray(BOXES, jnp.float32)
    gradients = jax.grad(lambda *both: ALIGN(*both, output_size=2).sum(), argnums=(0, 1))(
        features, boxes
    )
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert not gradients[1][:, 5].any()  # Outside of the map, wherever exactly.


def test_no_boxes():
    got = roi_align(jnp.zeros((2, 4, 4, 3)), jnp.zeros((2, 0, 4)), output_size=7)
    assert got.shape == (2, 0, 7, 7, 3)


def test_the_cost_does_not_grow_with_the_map():
    def operations(side):
        features = jax.ShapeDtypeStruct((1, side, side, 8), jnp.float32)
        boxes = jax.ShapeDtypeStruct((1, 16, 4), jnp.float32)
        analysis = ALIGN.lower(features, boxes, output_size=7).compile().cost_analysis()
        return analysis["flops"]

    assert math.isclose(operations(16), operations(256), rel_tol=0.01)


@pytest.mark.parametrize(
    ("size", "ratio", "message"),
    [(0, 2, "got 0x0 and 2"), ((7, 0), 2, "got 7x0 and 2"), (7, 0, "got 7x7 and 0")],
)
def test_wrong_sizes(size, ratio, message):
    features, boxes = jnp.zeros((1, 4, 4, 3)), jnp.zeros((1, 2, 4))
    with pytest.raises(ValueError, match=message):
        roi_align(features, boxes, output_size=size, sampling_ratio=ratio)
