"""Features that can be told apart, but not all of them."""

import numpy as np
import pytest

from scenax.train.transfer.features import Features, Splits


def draw_features(rng, count, centres, noise=1.5):
    """``count`` examples around the centres of the classes, which differ in number."""
    shares = np.arange(1, len(centres) + 1)
    labels = rng.choice(len(centres), count, p=shares / shares.sum())
    offset = np.linspace(-20, 20, centres.shape[1])  # Features are not centred by themselves.
    features = centres[labels] + noise * rng.normal(size=(count, centres.shape[1])) + offset
    return Features(features.astype(np.float32), labels.astype(np.int32))


@pytest.fixture
def make_splits():
    """A function that makes three splits of a width."""

    def make(width, counts=(200, 60, 80), num_classes=4, seed=0):
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(num_classes, width))
        return Splits(*(draw_features(rng, n, centres) for n in counts), num_classes)

    return make
