import numpy as np

from scenax.train.transfer.standardize import Standardizer


def test_it_is_the_formula_in_float64():
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(9000, 3)) * [1, 5, 0] + [1e4, -3, 7]).astype(np.float32)
    exact = features.astype(np.float64)
    found = Standardizer.fit(features)(features)
    expected = (exact - exact.mean(0)) / (exact.std(0) + 1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    assert found.dtype == np.float64
