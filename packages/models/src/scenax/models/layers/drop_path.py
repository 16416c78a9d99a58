"""Stochastic depth.

Huang et al., "Deep Networks with Stochastic Depth" (arXiv 1603.09382), in timm's form: survivors
are scaled up in training, so that nothing is left to do in evaluation.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float


class DropPath(nn.Module):
    """Sets a residual branch to zero for some examples of the batch, and scales it for the others.

    Raises:
      ValueError: if the rate is not in 0..1.
    """

    rate: float | Float[Array, ""]
    """Probability that an example's branch is dropped. As an array, as ``jax.lax.scan`` over blocks
    has it, it cannot be checked, and has to be below 1."""

    def __post_init__(self) -> None:
        """Checks the rate."""
        if not isinstance(self.rate, jax.Array) and not 0 <= self.rate <= 1:
            raise ValueError(f"A drop path rate is a probability from 0 to 1, got {self.rate}.")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, "b ..."], *, train: bool) -> Float[Array, "b ..."]:
        """Returns ``x / (1 - rate)`` or 0 for each example; ``x`` itself outside of training."""
        known = not isinstance(self.rate, jax.Array)
        if not train or (known and self.rate == 0):
            return x
        if known and self.rate == 1:
            return jnp.zeros_like(x)
        shape, kept = (x.shape[0],) + (1,) * (x.ndim - 1), 1 - self.rate
        keep = jax.random.bernoulli(self.make_rng("dropout"), kept, shape)
        return jnp.where(keep, x / jnp.asarray(kept, x.dtype), jnp.zeros_like(x))
