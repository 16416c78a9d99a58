"""The classifiers beside scikit-learn's, on the pixels of digits."""

import io

import numpy as np
import pytest
from rich.console import Console
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier

import scenax.data
from scenax.train.transfer.features import Features, Splits

from ..train import train
from .conftest import smoke

PENALTIES = (0.01, 1.0, 100.0, 10_000.0)
KS = (1, 5, 50)


@pytest.fixture(scope="module")
def splits(data_dir):
    dataset = scenax.data.get_dataset("digits", batch_size=2000, data_dir=str(data_dir))
    parts = {}
    for split in ("train", "validation", "test"):
        (batch,) = dataset.once(split)
        real = batch["batch_mask"] > 0
        pixels = batch["inputs"][real].reshape(real.sum(), -1)
        parts[split] = Features(pixels, batch["label"][real])
    return Splits(**parts, num_classes=10)


@pytest.fixture(scope="module")
def results(splits):
    config = smoke(
        ridge__penalties=PENALTIES,
        nearest_neighbors__ks=KS,
        linear_probe__epochs=50,
        methods=("ridge", "nearest_neighbors", "linear_probe"),
    )
    return {r.method: r.sweep for r in train(config, splits, Console(file=io.StringIO()))}


def standardized(splits):
    """Training and test pixels; those that never change stay so, in the test split too."""
    train = splits.train.features.astype(np.float64)
    mean, std = train.mean(0), train.std(0) + 1e-5
    return (train - mean) / std, (splits.test.features - mean) / std


def test_ridge_is_scikit_learns(splits, results):
    x, questions = standardized(splits)
    y = np.where(splits.train.labels[:, None] == np.arange(10), 1.0, -1.0)
    for place, penalty in enumerate(PENALTIES):
        guesses = Ridge(alpha=penalty, solver="svd").fit(x, y).predict(questions).argmax(1)
        expected = (guesses == splits.test.labels).mean()
        # Its bias is not penalized, which is all the difference, and small for 1,255 examples.
        assert results["ridge"].test[0, place] == pytest.approx(expected, abs=0.003)


def test_nearest_neighbors_are_scikit_learns(splits, results):
    for place, k in enumerate(KS):
        votes = KNeighborsClassifier(
            k, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07)
        )
        votes.fit(splits.train.features, splits.train.labels)
        expected = votes.score(splits.test.features, splits.test.labels)
        assert results["nearest_neighbors"].test[0, place] == pytest.approx(expected, abs=0.003)


def test_the_linear_probe_is_as_good_as_logistic_regression(splits, results):
    x, questions = standardized(splits)
    best = LogisticRegression(max_iter=1000).fit(x, splits.train.labels)
    expected = best.score(questions, splits.test.labels)
    assert results["linear_probe"].test_top_1 == pytest.approx(expected, abs=0.015)
    assert results["linear_probe"].test_top_1 > 0.93
