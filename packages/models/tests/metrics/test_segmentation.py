import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from sklearn import metrics as sklearn_metrics

from scenax.models.metrics.segmentation import (
    boundary_intersections_and_unions,
    confusion_matrix,
    correct_and_counts,
    intersections_and_unions,
    per_class_iou,
)

jitted = jax.jit(confusion_matrix, static_argnums=3)


def case(seed, classes=5, shape=(3, 8, 9)):
    rng = np.random.default_rng(seed)
    predictions = rng.integers(0, classes, size=shape)
    targets = np.where(rng.random(shape) < 0.5, predictions, rng.integers(0, classes, size=shape))
    weights = rng.choice([0.0, 0.25, 1.0], size=shape).astype(np.float32)
    return predictions.astype(np.int32), targets.astype(np.int32), weights


@pytest.mark.parametrize("shape", [(50,), (4, 30), (3, 8, 9)])
def test_confusion_matrix_against_scikit_learn(shape):
    predictions, targets, weights = case(0, shape=shape)
    got = jitted(jnp.asarray(predictions), jnp.asarray(targets), jnp.asarray(weights), 5)
    wanted = sklearn_metrics.confusion_matrix(
        targets.ravel(), predictions.ravel(), sample_weight=weights.ravel(), labels=range(5)
    )
    assert got.dtype == jnp.float32
    np.testing.assert_array_equal(got, wanted)  # rows are true; weights are exact in float32


def test_iou_and_accuracy_against_scikit_learn():
    predictions, targets, _ = case(1)
    arrays = jnp.asarray(predictions), jnp.asarray(targets), jnp.ones(targets.shape)
    matrix = jitted(*arrays, 5)
    intersections, unions = jax.jit(intersections_and_unions)(matrix)
    wanted = sklearn_metrics.jaccard_score(targets.ravel(), predictions.ravel(), average=None)
    np.testing.assert_allclose(intersections / unions, wanted, atol=1e-7)
    np.testing.assert_allclose(per_class_iou(np.asarray(matrix)), wanted, atol=1e-15)
    correct, counts = jax.jit(correct_and_counts)(matrix)
    wanted = sklearn_metrics.recall_score(targets.ravel(), predictions.ravel(), average=None)
    np.testing.assert_allclose(correct / counts, wanted, atol=1e-7)


@pytest.mark.parametrize("ignore", [255, -1, 5])
@pytest.mark.parametrize("dtype", [np.int32, np.int16])
def test_ignored_pixels_do_not_count(ignore, dtype):
    predictions, targets, weights = case(2)
    targets[0] = ignore
    arrays = jnp.asarray(predictions), jnp.asarray(targets.astype(dtype)), jnp.asarray(weights)
    got = jitted(*arrays, 5)
    wanted = jitted(*(a[1:] for a in arrays), 5)
    np.testing.assert_array_equal(got, wanted)
    assert got.sum() == weights[1:].sum()


def test_bytes_as_labels():
    labels = np.asarray([[0, 1, 255]], np.uint8)
    got = jitted(jnp.asarray(labels), jnp.asarray(labels), jnp.ones((1, 3)), 2)
    np.testing.assert_array_equal(got, np.eye(2))


def test_counts_beyond_what_float32_counts_by_ones():
    # 2^24 pixels of one class per image: one float32 counter would stop at the first image.
    pixels = jnp.zeros((2, 2**24), jnp.int32)
    got = jitted(pixels, pixels, jnp.ones(pixels.shape), 1)
    assert got.item() == 2.0**25


def test_nothing_counts():
    predictions, targets, weights = case(3)
    masked = jnp.asarray(predictions), jnp.asarray(targets), jnp.asarray(0 * weights)
    empty = jnp.zeros((0, 4), jnp.int32), jnp.zeros((0, 4), jnp.int32), jnp.zeros((0, 4))
    for arrays in (masked, empty):
        matrix = jitted(*arrays, 5)
        np.testing.assert_array_equal(matrix, np.zeros((5, 5)))
        for pair in (intersections_and_unions(matrix), correct_and_counts(matrix)):
            np.testing.assert_array_equal(pair, np.zeros((2, 5)))
        assert np.isnan(per_class_iou(np.asarray(matrix))).all()


def test_absent_classes_are_nan_and_only_predicted_ones_0():
    # Class 0: 2 of 3; class 1 is predicted and never true; class 2 is neither.
    predictions, targets = jnp.asarray([[0, 0, 1]]), jnp.asarray([[0, 0, 0]])
    matrix = confusion_matrix(predictions, targets, jnp.ones((1, 3)), 3)
    np.testing.assert_allclose(per_class_iou(np.asarray(matrix)), [2 / 3, 0.0, np.nan])
    intersections, unions = intersections_and_unions(matrix)
    np.testing.assert_array_equal(intersections, [2, 0, 0])
    np.testing.assert_array_equal(unions, [3, 1, 0])


def inner_boundary(mask):
    """The part of a mask that erosion takes away, as arXiv 2103.16562 writes it; cells outside the
    image are outside the mask."""
    distance = max(1, round(0.02 * np.hypot(*mask.shape)))
    inside = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=distance)
    return mask & ~inside


def blobs(seed, shape=(3, 60, 80), classes=4):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), (0, 5, 5))
    return np.digitize(noise, np.quantile(noise, np.arange(1, classes) / classes)).astype(np.int32)


def test_boundary_iou_against_erosion_in_scipy():
    targets = blobs(0)
    predictions = np.roll(targets, (1, 2), axis=(1, 2))
    targets[0, :20] = 255
    weights = np.asarray([1.0, 0.5, 0.0], np.float32)
    got = jax.jit(boundary_intersections_and_unions, static_argnums=3)(
        jnp.asarray(predictions), jnp.asarray(targets), jnp.asarray(weights), 5
    )
    wanted = np.zeros((2, 5))
    for image, truth, weight in zip(predictions, targets, weights, strict=True):
        for c in range(5):
            found = inner_boundary((image == c) & (truth != 255))
            true = inner_boundary(truth == c)
            wanted[:, c] += weight * (found & true).sum(), weight * (found | true).sum()
    np.testing.assert_array_equal(got, wanted)
    quotients = wanted[0, :4] / wanted[1, :4]
    assert (quotients > 0.1).all()
    assert (quotients < 0.9).all()
    assert wanted[1, 4] == 0


def test_boundary_of_a_square():
    # Image 100x100: 2% of the diagonal are 3 pixels. The frame of a 20x20 square has 400 - 14^2.
    square = np.zeros((1, 100, 100), np.int32)
    square[0, 40:60, 40:60] = 1
    intersections, unions = boundary_intersections_and_unions(
        jnp.asarray(square), jnp.asarray(square), jnp.ones(1), 2
    )
    assert intersections[1] == unions[1] == 400 - 14**2
    np.testing.assert_array_equal(intersections, unions)


def test_a_perfect_prediction_is_perfect_beside_ignored_pixels():
    predictions = blobs(1)
    targets = np.where(blobs(2) == 0, -1, predictions)
    intersections, unions = boundary_intersections_and_unions(
        jnp.asarray(predictions), jnp.asarray(targets), jnp.ones(3), 4
    )
    np.testing.assert_array_equal(intersections, unions)
    assert (np.asarray(unions) > 0).all()


def test_boundaries_of_nothing():
    labels = jnp.zeros((2, 8, 8), jnp.int32)
    got = boundary_intersections_and_unions(labels, labels, jnp.zeros(2), 3)
    np.testing.assert_array_equal(got, np.zeros((2, 3)))
    got = boundary_intersections_and_unions(labels, labels - 1, jnp.ones(2), 3)
    np.testing.assert_array_equal(got, np.zeros((2, 3)))
