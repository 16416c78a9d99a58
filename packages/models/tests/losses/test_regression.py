import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics

from scenax.models.losses import regression

RNG = np.random.default_rng(0)
PREDICTIONS, TARGETS = RNG.normal(size=(2, 6, 3)).astype(np.float32) * 2


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (regression.squared_error, metrics.mean_squared_error),
        (regression.absolute_error, metrics.mean_absolute_error),
    ],
)
def test_equals_scikit_learn(ours, theirs):
    got = ours(jnp.asarray(PREDICTIONS), jnp.asarray(TARGETS))
    wanted = [theirs(t, p) for t, p in zip(TARGETS, PREDICTIONS, strict=True)]
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_huber_by_hand():
    far = np.abs(PREDICTIONS - TARGETS).astype(float)
    wanted = np.where(far <= 0.5, far**2 / 2, 0.5 * (far - 0.25)).mean(1)
    got = regression.huber(jnp.asarray(PREDICTIONS), jnp.asarray(TARGETS), delta=0.5)
    np.testing.assert_allclose(got, wanted, rtol=1e-6)
