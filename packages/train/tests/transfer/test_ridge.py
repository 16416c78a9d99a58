import dataclasses

import numpy as np
import pytest

from scenax.train.transfer.features import Features
from scenax.train.transfer.ridge import PENALTIES, fit_ridge, ridge


def solved(train, num_classes, penalty):
    """Weights and bias by the normal equations, with the bias as a feature of value 100."""
    x = train.features.astype(np.float64)
    mean, std = x.mean(0), x.std(0) + 1e-5
    x = np.concatenate([(x - mean) / std, np.full((len(x), 1), 100.0)], axis=1)
    y = np.where(train.labels[:, None] == np.arange(num_classes), 1.0, -1.0)
    w = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
    return mean, std, w[:-1], 100.0 * w[-1]


@pytest.mark.parametrize("width", [12, 220], ids=["covariance", "kernel"])
def test_it_solves_the_normal_equations(make_splits, width):
    splits = make_splits(width)
    path = fit_ridge(splits.train, splits.num_classes)
    found = ridge(splits)
    for place in range(0, len(PENALTIES), 6):
        penalty = PENALTIES[place]
        mean, std, weights, bias = solved(splits.train, splits.num_classes, penalty)
        # The equations themselves lose digits where the penalty is small beside 100^2 n.
        np.testing.assert_allclose(path.weights(penalty), weights, rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(path.bias(penalty), bias, rtol=1e-9)
        for part, accuracies in (
            (splits.validation, found.validation),
            (splits.test, found.test),
        ):
            scores = (part.features.astype(np.float64) - mean) / std @ weights + bias
            assert accuracies[0, place] == (scores.argmax(1) == part.labels).mean()
    assert found.test_top_1 > 0.7
    assert len({*found.validation[0].tolist()}) > 2  # The penalty matters here.


def test_both_ways_are_one(make_splits):
    splits = make_splits(30, counts=(30, 60, 80))
    wide = fit_ridge(splits.train, splits.num_classes)
    fewer = Features(splits.train.features[:29], splits.train.labels[:29])
    assert wide.left.shape == (30, 30)
    assert fit_ridge(fewer, splits.num_classes).left.shape == (30, 29)


def test_a_feature_that_is_always_the_same_does_nothing(make_splits):
    splits = make_splits(12)

    def widened(part):
        constant = np.full((len(part), 1), 1e4, np.float32)
        return Features(np.concatenate([part.features, constant], axis=1), part.labels)

    wider = dataclasses.replace(
        splits,
        train=widened(splits.train),
        validation=widened(splits.validation),
        test=widened(splits.test),
    )
    np.testing.assert_array_equal(ridge(wider).test, ridge(splits).test)


def test_a_class_without_examples_is_never_guessed(make_splits):
    splits = make_splits(12)
    more = dataclasses.replace(splits, num_classes=6)
    np.testing.assert_array_equal(ridge(more).test, ridge(splits).test)


@pytest.mark.parametrize("penalties", [(), (1.0, 0.0), (-1.0,)])
def test_penalties_that_are_none_are_named(make_splits, penalties):
    with pytest.raises(ValueError, match="penalties have to be positive"):
        ridge(make_splits(3), penalties=penalties)
