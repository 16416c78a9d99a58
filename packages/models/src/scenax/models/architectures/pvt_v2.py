"""The second Pyramid Vision Transformer: overlapping patches, and depthwise convolutions in MLPs.

Wang et al., "PVT v2: Improved Baselines with Pyramid Vision Transformer" (arXiv 2106.13797). Keys
and values are of a map made smaller by a convolution, or (``li``, for linear) of one averaged to
7 x 7. Checked against timm 1.0.31: logits, features and feature maps with equal weights, also where
maps do not divide, and parameter counts.

Letters in shapes: b batch, h w map, c channels, n positions (row by row), e channels of a head, k
classes.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from scenax.models.architectures._architecture import Architecture, Level, remat_block
from scenax.models.layers.conv import Conv
from scenax.models.layers.drop_path import DropPath
from scenax.models.layers.global_pool import global_pool
from scenax.models.layers.layer_norm import LayerNorm


@dataclasses.dataclass(frozen=True)
class Size:
    """What differs between the variants, by stage and under timm's names."""

    depths: tuple[int, ...]
    embed_dims: tuple[int, ...] = (64, 128, 320, 512)
    num_heads: tuple[int, ...] = (1, 2, 5, 8)
    sr_ratios: tuple[int, ...] = (8, 4, 2, 1)
    """How many times fewer rows and columns the map of keys and values has."""
    mlp_ratios: tuple[float, ...] = (8, 8, 4, 4)
    linear: bool = False
    """Whether that map is averaged to 7 x 7 instead; MLPs have a ReLU more then."""

    def __post_init__(self) -> None:
        """Checks what a user chose."""
        parts = (self.embed_dims, self.num_heads, self.sr_ratios, self.mlp_ratios)
        if any(len(part) != len(self.depths) for part in parts):
            raise ValueError(
                "depths, embed_dims, num_heads, sr_ratios and mlp_ratios need one entry for each "
                f"stage, got {self.depths}, {', '.join(map(str, parts))}."
            )
        for width, heads in zip(self.embed_dims, self.num_heads, strict=True):
            if width % heads:
                raise ValueError(f"{heads} heads cannot share {width} channels of a stage.")


REPRESENTATIVE = (
    "pvt_v2_b0",
    {
        "depths": (1, 1),
        "embed_dims": (32, 64),
        "num_heads": (1, 2),
        "sr_ratios": (2, 1),
        "mlp_ratios": (4, 4),
    },
)
VARIANTS = {  # 2106.13797, table 1
    "pvt_v2_b0": Size((2, 2, 2, 2), (32, 64, 160, 256)),
    "pvt_v2_b1": Size((2, 2, 2, 2)),
    "pvt_v2_b2": Size((3, 4, 6, 3)),
    "pvt_v2_b2_li": Size((3, 4, 6, 3), linear=True),
    "pvt_v2_b3": Size((3, 4, 18, 3)),
    "pvt_v2_b4": Size((3, 8, 27, 3)),
    "pvt_v2_b5": Size((3, 6, 40, 3), mlp_ratios=(4, 4, 4, 4)),
}

POOLED = 7
"""Sides of the averaged map."""

# timm cuts its normal off at 2, which is 100 standard deviations: not at all.
_dense = functools.partial(nn.Dense, kernel_init=nn.initializers.normal(0.02))


def _norm(x: Array, epsilon: float, dtype: Any, name: str) -> Array:
    return LayerNorm(epsilon, dtype, name=name)(x)


def _conv(x: Array, width: int, kernel: int, stride: int, **fields: Any) -> Array:
    groups = fields.get("feature_group_count", 1)
    std = math.sqrt(2 * groups / (kernel * kernel * width))
    conv = Conv(
        width,
        (kernel, kernel),
        strides=stride,
        kernel_init=nn.initializers.normal(std),
        **fields,
    )
    return conv(x)


def build(name: str, *, features_only: bool = False, **options: Any) -> "PvtV2":
    """Returns a variant; see ``scenax.models.create_model``."""
    return PvtV2.of_size(VARIANTS[name], features_only=features_only, **options)


class PvtV2(Architecture, kw_only=True):
    """Overlapping patches, four stages of blocks with a norm each, pooling and one linear layer.

    Raises:
      ValueError: if stages differ in number, or if there is no such pool.
    """

    size: Size

    @property
    def pools(self) -> tuple[str, ...]:
        """The mean, or the map."""
        return ("avg", "")

    @property
    def levels(self) -> list[Level]:
        """The normed output of every stage."""
        return [(c, 4 << i, f"stages.{i}") for i, c in enumerate(self.size.embed_dims)]

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b k"] | Float[Array, "b rows cols k"] | list[Float[Array, "b _ _ _"]]:
        """Returns logits, features if ``num_classes`` is 0, or maps if ``out_indices`` is set.

        Args:
          x: images, ``[b, h, w, in_chans]``, of at least 32 x 32.
          train: whether to drop; needs the random stream ``"dropout"`` if a rate is not 0.

        Returns:
          ``[b, k]``, or ``[b, c]`` without a head; ``[b, h / 32, w / 32, ...]`` if ``global_pool``
          is ``""``. Maps are ``[b, h / stride, w / stride, c]``.

        Raises:
          ValueError: if the images have another number of channels.
        """
        self.check_images(x.shape)
        size, past, total = self.size, 0, sum(self.size.depths)
        x = PatchEmbed(size.embed_dims[0], 7, 4, self.dtype, name="patch_embed")(x)
        maps = []
        for i in range(self.depth_needed):
            rates = tuple(self.drop_path_of(past + j, total) for j in range(size.depths[i]))
            past += size.depths[i]
            x = Stage(size, i, rates, self.dtype, remat=self.remat, name=f"stages_{i}")(x, train)
            maps.append(x)
        if self.out_indices is not None:
            return [maps[i] for i in self.out_indices]
        x = global_pool(x, self.global_pool)
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        head = functools.partial(_dense, self.num_classes, dtype=self.dtype, name="head")
        return head()(x) if self.num_classes else x


class PatchEmbed(nn.Module):
    """A convolution whose stride is below its kernel's side, and a norm."""

    width: int
    kernel: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b rows cols d"]:
        """Returns the smaller map."""
        padding = self.kernel // 2  # On all sides, as torch.
        fields: dict[str, Any] = {"padding": padding, "dtype": self.dtype, "name": "proj"}
        x = _conv(x, self.width, self.kernel, self.stride, **fields)
        return _norm(x, 1e-5, self.dtype, "norm")


class Stage(nn.Module):
    """Blocks at one width, and a norm; all but the first stage halve the map before."""

    size: Size
    index: int
    rates: tuple[float, ...]
    dtype: Any
    remat: bool | str = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        train: bool,  # noqa: FBT001 (as of blocks)
    ) -> Float[Array, "b rows cols d"]:
        """Returns the map after the stage."""
        if self.index:
            width = self.size.embed_dims[self.index]
            x = PatchEmbed(width, 3, 2, self.dtype, name="downsample")(x)
        make_block = remat_block(Block, self.remat)
        for j, rate in enumerate(self.rates):
            x = make_block(self.size, self.index, rate, self.dtype, name=f"blocks_{j}")(x, train)
        return _norm(x, 1e-6, self.dtype, "norm")


class Block(nn.Module):
    """Attention to a smaller map, then an MLP, each normed before and added."""

    size: Size
    index: int
    drop_path: float
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        train: bool,  # noqa: FBT001 (nn.remat would trace it as a keyword argument)
    ) -> Float[Array, "b h w c"]:
        """Returns the map after the block."""
        dtype, drop_path = self.dtype, DropPath(self.drop_path)
        attention = Attention(self.size, self.index, dtype, name="attn")
        x = x + drop_path(attention(_norm(x, 1e-6, dtype, "norm1")), train=train)
        mlp = Mlp(self.size, self.index, dtype, name="mlp")
        return x + drop_path(mlp(_norm(x, 1e-6, dtype, "norm2")), train=train)


class Attention(nn.Module):
    """Multi-head attention of all positions to those of a smaller map (section 3.2)."""

    size: Size
    index: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns each head's mean of the values, concatenated and projected."""
        (batch, rows, cols, width), size = x.shape, self.size
        heads, ratio = size.num_heads[self.index], size.sr_ratios[self.index]
        dense = functools.partial(_dense, dtype=self.dtype)
        fields: dict[str, Any] = {"padding": "VALID", "dtype": self.dtype, "name": "sr"}
        q = dense(width, name="q")(x).reshape(batch, rows * cols, heads, -1)
        if size.linear:
            y = _conv(_average(x), width, 1, 1, **fields)
            x = nn.gelu(_norm(y, 1e-5, self.dtype, "norm"), approximate=False)
        elif ratio > 1:
            x = _norm(_conv(x, width, ratio, ratio, **fields), 1e-5, self.dtype, "norm")
        kv = dense(2 * width, name="kv")(x).reshape(batch, -1, 2, heads, width // heads)
        q, k, v = q * q.shape[-1] ** -0.5, kv[:, :, 0], kv[:, :, 1]
        logits = jnp.einsum("bqhe,bkhe->bhqk", q, k, preferred_element_type=jnp.float32)
        y = jnp.einsum("bhqk,bkhe->bqhe", nn.softmax(logits).astype(v.dtype), v)
        return dense(width, name="proj")(y.reshape(batch, rows, cols, width))


class Mlp(nn.Module):
    """Two layers, with a 3 x 3 convolution of each channel and the exact GELU between them."""

    size: Size
    index: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns the map."""
        hidden = int(x.shape[-1] * self.size.mlp_ratios[self.index])
        y = _dense(hidden, dtype=self.dtype, name="fc1")(x)
        y = nn.relu(y) if self.size.linear else y
        fields: dict[str, Any] = {"padding": 1, "feature_group_count": hidden}
        y = _conv(y, hidden, 3, 1, dtype=self.dtype, name="dwconv", **fields)
        y = nn.gelu(y, approximate=False)
        return _dense(x.shape[-1], dtype=self.dtype, name="fc2")(y)


def _average(x: Float[Array, "b h w c"]) -> Float[Array, "b 7 7 c"]:
    """Returns means over windows that cover the map evenly, overlapping where they have to."""
    rows, cols = (jnp.asarray(_windows(side), x.dtype) for side in x.shape[1:3])
    exact = jax.lax.Precision.HIGHEST
    return jnp.einsum("rh,cw,bhwd->brcd", rows, cols, x, precision=exact)


@functools.cache
def _windows(side: int) -> Float[np.ndarray, "7 side"]:
    at, i = np.arange(side), np.arange(POOLED)[:, None]
    inside = (at >= i * side // POOLED) & (at < -(-(i + 1) * side // POOLED))
    return inside / inside.sum(axis=1, keepdims=True)
