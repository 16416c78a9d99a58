"""The matching of least cost, by scipy on the host.

Quicker than ``hungarian`` on CPUs where problems are large, and a round trip to the host on
accelerators, which also have to wait for it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from scenax.models.matchers._costs import Cost, Indices, Mask, finite, pairs


def hungarian_host(cost: Cost, mask: Mask | None = None) -> Indices:
    """Returns the matching of least cost; see ``matchers`` for the arguments."""
    b, n, m = cost.shape
    real = jnp.ones((b, m), bool) if mask is None else mask
    partner = jax.pure_callback(
        _partners,
        jax.ShapeDtypeStruct((b, min(n, m)), jnp.int32),
        finite(cost, mask),
        real,
        vmap_method="sequential",
    )
    return pairs(partner, m) if n < m else pairs(partner, n)[:, ::-1]


def _partners(cost: jax.Array, real: jax.Array) -> np.ndarray:
    """Of every target, or of every prediction if these are fewer; -1 for those without."""
    b, n, m = cost.shape
    partner = np.full((b, min(n, m)), -1, np.int32)
    for one, costs, is_real in zip(partner, np.asarray(cost), np.asarray(real), strict=True):
        targets = np.flatnonzero(is_real)
        predictions, chosen = linear_sum_assignment(costs[:, targets])
        if n < m:
            one[predictions] = targets[chosen]
        else:
            one[targets[chosen]] = predictions
    return partner
