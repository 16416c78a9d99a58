import ml_dtypes
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from scenax.models.metrics.ranking import AUROC, AveragePrecision

BOTH = [AveragePrecision, AUROC]


def case(kind, seed=0, examples=300, classes=6):
    rng = np.random.default_rng(seed)
    targets = rng.random((examples, classes)) < np.linspace(0.02, 0.8, classes)
    targets[0], targets[1] = True, False
    scores = rng.normal(size=(examples, classes)) + targets
    if kind == "ties":
        scores = np.round(scores)
    elif kind == "huge":
        scores = np.where(rng.random(scores.shape) < 0.3, scores, 1e4 * np.sign(scores))
    elif kind == "all equal":
        scores = np.zeros_like(scores)
    return scores.astype(np.float32), targets


def filled(metric, *batches):
    accumulator = metric()
    for batch in batches:
        accumulator.add(*batch)
    return accumulator


@pytest.mark.parametrize("kind", ["distinct", "ties", "huge", "all equal"])
@pytest.mark.parametrize(
    ("metric", "reference", "name"),
    [
        (AveragePrecision, average_precision_score, "average_precision"),
        (AUROC, roc_auc_score, "auroc"),
    ],
)
def test_against_scikit_learn(metric, reference, name, kind):
    scores, targets = case(kind)
    accumulator = filled(metric, (scores[:100], targets[:100]), (scores[100:], targets[100:]))
    wanted = reference(targets.astype(int), scores, average=None)
    np.testing.assert_allclose(accumulator.per_class(), wanted, rtol=0, atol=1e-13)
    assert accumulator.compute() == {name: pytest.approx(wanted.mean(), abs=1e-13)}


def test_hand_made_ranking():
    # From the top: right, wrong, right. AP = 1/2 * 1 + 1/2 * 2/3; one of two pairs is in order.
    scores, targets = np.float32([[3], [2], [1]]), np.asarray([[1], [0], [1]])
    assert filled(AveragePrecision, (scores, targets)).compute() == {
        "average_precision": pytest.approx(5 / 6)
    }
    assert filled(AUROC, (scores, targets)).compute() == {"auroc": 0.5}


def test_the_order_of_tied_examples_does_not_matter():
    scores, targets = case("ties", seed=1)
    for metric in BOTH:
        there = filled(metric, (scores, targets)).per_class()
        back = filled(metric, (scores[::-1], targets[::-1])).per_class()
        np.testing.assert_array_equal(there, back)


def test_classes_without_a_value_are_left_out():
    scores, targets = case("distinct", seed=2)
    targets[:, 0], targets[:, 1] = False, True
    precision = filled(AveragePrecision, (scores, targets))
    assert np.isnan(precision.per_class()).tolist() == [True] + [False] * 5
    wanted = average_precision_score(targets[:, 1:].astype(int), scores[:, 1:])
    assert precision.compute()["average_precision"] == pytest.approx(wanted, abs=1e-13)
    area = filled(AUROC, (scores, targets))
    assert np.isnan(area.per_class()).tolist() == [True, True] + [False] * 4
    wanted = roc_auc_score(targets[:, 2:].astype(int), scores[:, 2:])
    assert area.compute()["auroc"] == pytest.approx(wanted, abs=1e-13)


@pytest.mark.parametrize("metric", BOTH)
def test_padding_does_not_count_even_if_it_is_nan(metric):
    scores, targets = case("distinct", seed=3)
    padded = np.concatenate([scores, np.full((2, 6), np.nan, np.float32)])
    labels = np.concatenate([targets, np.ones((2, 6), bool)])
    mask = np.append(np.ones(300, np.float32), [0, 0])
    got = filled(metric, (padded, labels, mask)).per_class()
    np.testing.assert_array_equal(got, filled(metric, (scores, targets)).per_class())


@pytest.mark.parametrize("metric", BOTH)
def test_merging_is_adding(metric):
    scores, targets = case("ties", seed=4)
    one = filled(metric, (scores[:10], targets[:10]))
    one.merge(metric())
    one.merge(filled(metric, (scores[10:], targets[10:])))
    np.testing.assert_array_equal(one.per_class(), filled(metric, (scores, targets)).per_class())
    one.clear()
    assert one.to_arrays() == {}


def test_low_and_high_precision():
    scores, targets = case("distinct", seed=5)
    low = scores.astype(ml_dtypes.bfloat16)
    wanted = roc_auc_score(targets.astype(int), low.astype(np.float32), average=None)
    np.testing.assert_allclose(filled(AUROC, (low, targets)).per_class(), wanted, atol=1e-13)
    close = np.float64([[1.0], [1.0 + 1e-12]])  # equal in float32
    assert filled(AUROC, (close, np.asarray([[0], [1]]))).compute() == {"auroc": 1.0}


@pytest.mark.parametrize("metric", BOTH)
def test_nothing_to_compute(metric):
    with pytest.raises(ValueError, match="No scores were added"):
        metric().compute()
    scores, targets = case("distinct")
    with pytest.raises(ValueError, match=r"No class has .*positives"):
        filled(metric, (scores, targets, np.zeros(300))).compute()
    with pytest.raises(ValueError, match=r"No class has .*positives"):
        filled(metric, (scores, np.zeros_like(targets))).compute()


@pytest.mark.parametrize("metric", BOTH)
def test_errors_of_adding(metric):
    scores, targets = case("distinct")
    with pytest.raises(ValueError, match="Scores hold NaN"):
        metric().add(np.where(targets, np.nan, scores).astype(np.float32), targets)
    with pytest.raises(ValueError, match="0 or 1"):
        metric().add(scores, 2 * targets.astype(int))
    with pytest.raises(ValueError, match="5 classes came after scores of 6"):
        filled(metric, (scores, targets), (scores[:, :5], targets[:, :5]))
