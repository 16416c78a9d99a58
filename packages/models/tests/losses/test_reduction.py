import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scenax.models.losses.reduction import masked_mean, masked_sums


def test_without_a_mask_every_example_counts():
    values = jnp.array([1.0, 2.0, 6.0])
    assert [float(x) for x in masked_sums(values, {})] == [9, 3]
    assert float(masked_mean(values, {})) == 3


def test_padding_does_not_count_whatever_it_holds():
    values = jnp.array([1.0, jnp.nan, 6.0, jnp.inf])
    batch = {"batch_mask": jnp.array([1.0, 0.0, 1.0, 0.0])}
    assert [float(x) for x in masked_sums(values, batch)] == [7, 2]
    assert float(masked_mean(values, {"batch_mask": jnp.array([1, 0, 1, 0])})) == 3.5
    assert float(masked_mean(values, {"batch_mask": np.array([True, False, True, False])})) == 3.5


def test_a_batch_of_padding_is_zero_and_so_is_its_gradient():
    batch = {"batch_mask": jnp.zeros(3)}
    assert float(masked_mean(jnp.array([1.0, 2.0, 3.0]), batch)) == 0
    gradient = jax.grad(lambda values: masked_mean(values, batch))(jnp.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(gradient, [0, 0, 0])


def test_sums_are_float32():
    total, count = masked_sums(jnp.full((4096,), 1.0078125, jnp.bfloat16), {})
    assert (total.dtype, count.dtype) == (jnp.float32, jnp.float32)
    assert float(total) == 4128


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(-100, 100, width=32), st.booleans()), min_size=8, max_size=8))
def test_the_mean_is_over_the_real_examples(rows):
    values, mask = (np.array(column) for column in zip(*rows, strict=True))
    real = [value for value, is_real in rows if is_real]
    got = masked_mean(jnp.asarray(values, jnp.float32), {"batch_mask": jnp.asarray(mask)})
    np.testing.assert_allclose(got, np.mean(real) if real else 0, atol=1e-4)
