"""Layer norm in float32, with the exact variance, and a derivative in closed form.

Ba et al., "Layer Normalization" (arXiv 1607.06450). Flax's own takes the variance as a difference
of two large numbers, or else has a derivative of many passes, which XLA for CPUs computes again in
every block that comes after: a ViT-S/16 trains twice as fast with this one.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float


class LayerNorm(nn.Module):
    """Gives the last axis a mean of 0 and a variance of 1, then scales and shifts each channel.

    The parameters are ``scale`` and, unless left out, ``bias``, as in ``flax.linen.LayerNorm``.
    """

    epsilon: float
    """Added to the variance."""
    dtype: Any = jnp.float32
    """Of the output; everything is computed in float32."""
    use_bias: bool = True
    start: float = 1.0
    """Where the scales start; 0 closes a residual branch at first."""

    @nn.compact
    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... c"]:
        """Returns the normed array."""
        shape = (1,) * (x.ndim - 1) + (x.shape[-1],)
        y = _standardize(x.astype(jnp.float32), self.epsilon)
        scale = self.param("scale", nn.initializers.constant(self.start), shape[-1:])
        y = y * scale.reshape(shape)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, shape[-1:]).reshape(shape)
        return y.astype(self.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _standardize(x: Float[Array, "... c"], epsilon: float) -> Float[Array, "... c"]:
    return _parts(x, epsilon)[0]


@_standardize.defjvp
def _standardize_jvp(
    epsilon: float, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    y, inverse = _parts(x, epsilon)
    along = jnp.mean(y * dx, axis=-1, keepdims=True)
    return y, inverse * (dx - jnp.mean(dx, axis=-1, keepdims=True) - y * along)


def _parts(x: Float[Array, "... c"], epsilon: float) -> tuple[Array, Array]:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(variance + epsilon)
    return centred * inverse, inverse
