import jax.numpy as jnp
import numpy as np
import pytest

from scenax.models.losses.sequence import token_cross_entropy

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_against_the_definition(smoothing):
    logits, targets = RNG.normal(size=(2, 3, 5)) * 4, RNG.integers(0, 5, (2, 3))
    wanted = np.zeros((2, 3))
    for at in np.ndindex(2, 3):
        log_p = logits[at] - np.log(np.exp(logits[at]).sum())
        wanted[at] = -(1 - smoothing) * log_p[targets[at]] - smoothing * log_p.sum() / 5
    got = token_cross_entropy(
        jnp.asarray(logits, jnp.float32), jnp.asarray(targets), label_smoothing=smoothing
    )
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
