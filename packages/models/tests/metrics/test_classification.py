import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, recall_score

from scenax.models.metrics.classification import (
    calibration_bins,
    expected_calibration_error,
    multilabel_top_1_correct,
    per_class_correct,
    top_k_correct,
)


@pytest.mark.parametrize("top", [1, 2, 5, 7])
def test_against_sorting_in_numpy(top):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 7)).astype(np.float32)
    labels = rng.integers(0, 7, size=50)
    wanted = [float(y in np.argsort(-row)[:top]) for row, y in zip(logits, labels, strict=True)]
    got = top_k_correct(jnp.asarray(logits), jnp.asarray(labels), top=top)
    np.testing.assert_array_equal(got, wanted)
    one_hot = jnp.asarray(np.eye(7, dtype=np.float32)[labels])
    np.testing.assert_array_equal(top_k_correct(jnp.asarray(logits), one_hot, top=top), wanted)


def test_a_flat_prediction_is_not_right_for_everyone():
    got = top_k_correct(jnp.zeros((4, 4), jnp.bfloat16), jnp.arange(4))
    np.testing.assert_array_equal(got, [1, 0, 0, 0])
    assert got.dtype == jnp.float32


@pytest.mark.parametrize("top", [0, 5])
def test_more_than_the_classes(top):
    with pytest.raises(ValueError, match=f"from 1 to the 4 classes, got {top}"):
        top_k_correct(jnp.zeros((4, 4)), jnp.arange(4), top=top)


def case(seed, examples=200, classes=7):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(examples, classes)).astype(np.float32)
    labels = rng.integers(0, classes, size=examples)
    weights = rng.choice([0.0, 0.25, 0.5, 1.0], size=examples).astype(np.float32)
    return logits, labels, weights


def test_per_class_accuracy_is_scikit_learns_balanced_accuracy():
    logits, labels, _ = case(0)
    correct, counts = jax.jit(per_class_correct)(
        jnp.asarray(logits), jnp.asarray(labels), jnp.ones(200)
    )
    predicted = logits.argmax(-1)
    np.testing.assert_allclose(
        correct / counts, recall_score(labels, predicted, average=None), atol=1e-7
    )
    np.testing.assert_allclose(
        np.mean(correct / counts), balanced_accuracy_score(labels, predicted), atol=1e-7
    )


def test_fractional_weights_are_not_truncated():
    # An accuracy that casts weighted hits to integers, as the original Scenic's did, is 0 here.
    logits = jnp.asarray([[2.0, 1.0], [2.0, 1.0], [2.0, 1.0]])
    correct, counts = per_class_correct(logits, jnp.asarray([0, 0, 1]), jnp.asarray([0.5, 0.25, 1]))
    np.testing.assert_array_equal(correct, [0.75, 0.0])
    np.testing.assert_array_equal(counts, [0.75, 1.0])


def test_per_class_weights_against_numpy():
    logits, labels, weights = case(1)
    labels[:20] = -1  # counts nowhere, and certainly not for the last class
    labels[20:30] = 7
    one_hot = np.eye(9, dtype=np.float32)[labels][:, :7]
    got = per_class_correct(jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(weights))
    hit = logits.argmax(-1) == labels
    wanted = np.array([[weights[(labels == c) & hit].sum() for c in range(7)]])
    np.testing.assert_array_equal(got[0], wanted[0])
    np.testing.assert_array_equal(got[1], [weights[labels == c].sum() for c in range(7)])
    real = (labels >= 0) & (labels < 7)
    again = per_class_correct(
        jnp.asarray(logits[real]), jnp.asarray(one_hot[real]), jnp.asarray(weights[real])
    )
    np.testing.assert_array_equal(again, got)


def test_padding_does_not_count_even_if_it_is_nan():
    logits = jnp.full((3, 4), jnp.nan)
    correct, counts = per_class_correct(logits, jnp.zeros(3, jnp.int32), jnp.zeros(3))
    np.testing.assert_array_equal(correct, np.zeros(4))
    np.testing.assert_array_equal(counts, np.zeros(4))
    sums = calibration_bins(logits, jnp.zeros(3, jnp.int32), jnp.zeros(3))
    np.testing.assert_array_equal(sums, np.zeros((3, 15)))


def test_an_empty_batch_and_a_single_class():
    correct, counts = per_class_correct(jnp.zeros((0, 3)), jnp.zeros(0, jnp.int32), jnp.zeros(0))
    np.testing.assert_array_equal(correct, np.zeros(3))
    np.testing.assert_array_equal(counts, np.zeros(3))
    correct, counts = per_class_correct(jnp.zeros((5, 1)), jnp.zeros(5, jnp.int32), jnp.ones(5))
    assert correct.tolist() == counts.tolist() == [5.0]
    sums = calibration_bins(jnp.zeros((5, 1)), jnp.zeros(5, jnp.int32), jnp.ones(5), bins=3)
    np.testing.assert_array_equal(sums, [[0, 0, 5]] * 3)
    assert expected_calibration_error(sums) == 0.0


def test_multilabel_top_1():
    rng = np.random.default_rng(2)
    logits = rng.integers(0, 4, size=(100, 6)).astype(np.float32)  # many ties
    labels = rng.random((100, 6)) < 0.3
    labels[0] = False
    wanted = [float(y[list(row).index(max(row))]) for row, y in zip(logits, labels, strict=True)]
    got = jax.jit(multilabel_top_1_correct)(jnp.asarray(logits), jnp.asarray(labels, jnp.int32))
    np.testing.assert_array_equal(got, wanted)
    assert got[0] == 0.0
    assert 0.0 < np.mean(wanted) < 1.0
    assert multilabel_top_1_correct(jnp.zeros((0, 6)), jnp.zeros((0, 6))).shape == (0,)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_against_numpy_in_float64(bins):
    logits, labels, weights = case(3)
    logits = 3 * logits
    sums = jax.jit(calibration_bins, static_argnames="bins")(
        jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(weights), bins=bins
    )
    exponentials = np.exp(logits.astype(np.float64))
    confidence = (exponentials / exponentials.sum(-1, keepdims=True)).max(-1)
    hit = (logits.argmax(-1) == labels).astype(np.float64)
    wanted = 0.0
    for low in np.arange(bins) / bins:
        inside = (confidence > low) & (confidence <= low + 1 / bins)
        if weight := weights[inside].sum():
            accuracy = np.average(hit[inside], weights=weights[inside])
            mean = np.average(confidence[inside], weights=weights[inside])
            wanted += weight / weights.sum() * abs(accuracy - mean)
    assert expected_calibration_error(sums) == pytest.approx(wanted, abs=1e-6)
    assert wanted > 0.1


def test_calibration_of_hand_made_bins():
    # Half sure and always wrong; certain and always right: (1 * 0.5 + 3 * 0) / 4.
    logits = jnp.asarray([[0.0, 0.0], [100.0, -100.0], [100.0, -100.0], [1e4, -1e4]])
    sums = calibration_bins(logits, jnp.asarray([1, 0, 0, 0]), jnp.ones(4), bins=2)
    np.testing.assert_array_equal(sums, [[1, 3], [0.5, 3], [0, 3]])
    assert expected_calibration_error(np.asarray(sums)) == 0.125


def test_calibration_errors():
    with pytest.raises(ValueError, match="at least one bin, got 0"):
        calibration_bins(jnp.zeros((2, 2)), jnp.zeros(2, jnp.int32), jnp.ones(2), bins=0)
    with pytest.raises(ValueError, match="of no examples is not defined"):
        expected_calibration_error(jnp.zeros((3, 15)))
