import jax.numpy as jnp
import numpy as np
import pytest

from scenax.models.layers.global_pool import check_pool, global_pool

MAP = jnp.asarray([[[[1.0, 8.0], [3.0, 0.0]]]])


@pytest.mark.parametrize(
    ("pool", "wanted"),
    [
        ("avg", [[2, 4]]),
        ("max", [[3, 8]]),
        ("avgmax", [[2.5, 6]]),
        ("catavgmax", [[2, 4, 3, 8]]),
        ("", MAP),
    ],
)
def test_pools_by_hand(pool, wanted):
    np.testing.assert_array_equal(global_pool(MAP, pool), wanted)


def test_an_unknown_pool_is_refused():
    check_pool("catavgmax")
    with pytest.raises(ValueError, match=r"one of \('avg', ''\), got 'max'"):
        check_pool("max", ("avg", ""))
