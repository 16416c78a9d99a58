"""Token mixers of MetaFormer: what lets one position of a map see others.

Each is called with the map after a norm and returns what is added to the map before it. From Yu et
al., "MetaFormer Is Actually What You Need for Vision" (arXiv 2111.11418) and "MetaFormer Baselines
for Vision" (arXiv 2210.13452); ``metaformer.py`` says what they were checked against.

Letters in shapes: b batch, h w map, c channels.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from scenax.models.layers.conv import Conv

HEAD_DIM = 32
"""Channels of a head of attention."""

# timm cuts its normal off at 2, which is 100 standard deviations: not at all.
_dense = functools.partial(nn.Dense, kernel_init=nn.initializers.normal(0.02), use_bias=False)
_conv = functools.partial(Conv, kernel_init=nn.initializers.normal(0.02), use_bias=False)


class Identity(nn.Module):
    """No mixing."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns the map."""
        return x


class Pooling(nn.Module):
    """The mean of 3 x 3 positions, less the one in the middle, as a residual adds it again."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns the differences; at a border the mean is over what lies inside the map."""
        # nn.avg_pool divides by float32 whatever it is given.
        total = nn.pooling.pool(x, 0.0, jax.lax.add, (3, 3), (1, 1), ((1, 1), (1, 1)))
        inside = [3 - (at == 0) - (at == len(at) - 1) for at in map(np.arange, x.shape[1:3])]
        return total * jnp.asarray(1 / np.outer(*inside), x.dtype)[None, :, :, None] - x


class Attention(nn.Module):
    """Multi-head self-attention over all positions, without biases."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns each head's mean of the values, concatenated and projected."""
        batch, rows, cols, width = x.shape
        dense = functools.partial(_dense, dtype=self.dtype)
        qkv = dense(3 * width, name="qkv")(x).reshape(batch, rows * cols, 3, -1, HEAD_DIM)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)
        q = q * HEAD_DIM**-0.5
        logits = jnp.einsum("bhqe,bhke->bhqk", q, k, preferred_element_type=jnp.float32)
        y = jnp.einsum("bhqk,bhke->bhqe", nn.softmax(logits).astype(v.dtype), v)
        return dense(width, name="proj")(y.swapaxes(1, 2).reshape(x.shape))


class SepConv(nn.Module):
    """Twice the channels, a 7 x 7 convolution of each, and back (arXiv 1801.04381)."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns the mixed map."""
        conv = functools.partial(_conv, dtype=self.dtype)
        wide = 2 * x.shape[-1]
        y = StarRelu(self.dtype, name="act1")(conv(wide, (1, 1), name="pwconv1")(x))
        y = conv(wide, (7, 7), padding=3, feature_group_count=wide, name="dwconv")(y)
        return conv(x.shape[-1], (1, 1), name="pwconv2")(y)


class SpatialMlp(nn.Module):
    """One linear layer over the positions, equal for all channels; it fits one map size only.

    Raises:
      ValueError: if the map is not of the size that the weights were made for.
    """

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns the mixed map."""
        batch, rows, cols, width = x.shape
        tokens = x.reshape(batch, rows * cols, width).swapaxes(1, 2)
        if self.has_variable("params", "fc"):
            known = self.get_variable("params", "fc")["kernel"].shape[0]
            if known != rows * cols:
                raise ValueError(
                    f"This spatial_mlp mixes {known} positions, got {rows}x{cols}. Resize images "
                    "in the input pipeline to the size that the model was initialised with."
                )
        y = _dense(rows * cols, dtype=self.dtype, name="fc")(tokens)
        return y.swapaxes(1, 2).reshape(x.shape)


class StarRelu(nn.Module):
    """A squared ReLU, scaled and shifted: equation 5 of the second paper, both numbers learned."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Applies to each number alone."""
        scale = self.param("scale", nn.initializers.ones, (1,)).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (1,)).astype(self.dtype)
        return scale[0] * jnp.square(nn.relu(x)) + bias[0]


TOKEN_MIXERS = {
    "identity": Identity,
    "pooling": Pooling,
    "attention": Attention,
    "sep_conv": SepConv,
    "spatial_mlp": SpatialMlp,
}
