"""From a feature map to one vector: timm's ways to pool."""

import jax.numpy as jnp
from jaxtyping import Array, Float

POOLS = ("avg", "max", "avgmax", "catavgmax", "")


def check_pool(pool: str, allowed: tuple[str, ...] = POOLS) -> None:
    """Checks the name of a pool.

    Raises:
      ValueError: if it is none of those allowed.
    """
    if pool not in allowed:
        raise ValueError(f"global_pool has to be one of {allowed}, got {pool!r}.")


def global_pool(x: Float[Array, "b h w c"], pool: str) -> Float[Array, "b ..."]:
    """Returns ``[b, c]``: ``[b, 2 * c]`` for ``"catavgmax"``, and ``x`` itself for ``""``.

    Args:
      x: the map.
      pool: ``"avg"``, ``"max"``, ``"avgmax"`` (their mean), ``"catavgmax"`` (both, the mean first),
        or ``""``.
    """
    if not pool:
        return x
    if pool == "avg":
        return x.mean(axis=(1, 2))
    if pool == "max":
        return x.max(axis=(1, 2))
    mean, largest = x.mean(axis=(1, 2)), x.max(axis=(1, 2))
    return 0.5 * (mean + largest) if pool == "avgmax" else jnp.concatenate([mean, largest], axis=-1)
