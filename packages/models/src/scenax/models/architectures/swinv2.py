"""Swin Transformer V2: cosine attention in shifted windows, of positions that are not in a table.

Liu et al., "Swin Transformer V2: Scaling Up Capacity and Resolution" (arXiv 2111.09883). Checked
against timm 1.0.31: logits, features and feature maps with equal weights, also where windows do not
divide the map or differ from those of pre-training, parameter counts, and ``default_cfg``.

Letters in shapes: b batch, h w map, c channels, m windows of all images, n tokens of a window (row
by row), k classes.
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

from scenax.models.architectures._architecture import (
    Architecture,
    Level,
    check_patches,
    remat_block,
)
from scenax.models.layers.conv import Conv
from scenax.models.layers.drop_path import DropPath
from scenax.models.layers.global_pool import global_pool
from scenax.models.layers.layer_norm import LayerNorm
from scenax.models.layers.windows import (
    join_windows,
    relative_positions,
    shift_mask,
    split_windows,
)


@dataclasses.dataclass(frozen=True)
class Size:
    """What sets a Swin Transformer's cost, under timm's names."""

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_size: int | tuple[int, ...] = 8
    """Side of a window, or one for each stage; a map that is smaller is one window."""
    pretrained_window_sizes: int | tuple[int, ...] = 0
    """Side of the windows that the weights were first trained for; 0 for the same."""
    mlp_ratio: float = 4.0


TINY = Size(96, (2, 2, 6, 2), (3, 6, 12, 24))  # 2111.09883, section 3.5
SMALL = Size(96, (2, 2, 18, 2), (3, 6, 12, 24))
BASE = Size(128, (2, 2, 18, 2), (4, 8, 16, 32))
LARGE = Size(192, (2, 2, 18, 2), (6, 12, 24, 48))


def _windows(size: Size, side: int, pretrained: int | tuple[int, ...] = 0) -> Size:
    return dataclasses.replace(size, window_size=side, pretrained_window_sizes=pretrained)


AT_192 = (12, 12, 12, 6)  # Where images are 192 pixels wide, the last map is one window of 6.

REPRESENTATIVE = (
    "swinv2_tiny_window8_256",
    {
        "img_size": 32,
        "embed_dim": 96,
        "depths": (2, 1),
        "num_heads": (3, 6),
        "window_size": 4,
        "pretrained_window_sizes": 0,
    },
)
VARIANTS = {
    "swinv2_tiny_window8_256": TINY,
    "swinv2_tiny_window16_256": _windows(TINY, 16),
    "swinv2_small_window8_256": SMALL,
    "swinv2_small_window16_256": _windows(SMALL, 16),
    "swinv2_base_window8_256": BASE,
    "swinv2_base_window12_192": _windows(BASE, 12),
    "swinv2_base_window16_256": _windows(BASE, 16),
    "swinv2_base_window12to16_192to256": _windows(BASE, 16, AT_192),
    "swinv2_base_window12to24_192to384": _windows(BASE, 24, AT_192),
    "swinv2_large_window12_192": _windows(LARGE, 12),
    "swinv2_large_window12to16_192to256": _windows(LARGE, 16, AT_192),
    "swinv2_large_window12to24_192to384": _windows(LARGE, 24, AT_192),
}

PATCH = 4
MAX_SCALE = 100.0  # Of the cosines: a temperature of 0.01.

# timm cuts its normal off at 2, which is 100 standard deviations: not at all.
_dense = functools.partial(nn.Dense, kernel_init=nn.initializers.normal(0.02))


def _norm(x: Array, dtype: Any, name: str, start: float = 1.0) -> Array:
    return LayerNorm(1e-5, dtype, start=start, name=name)(x)


def build(name: str, *, features_only: bool = False, **options: Any) -> "SwinTransformerV2":
    """Returns a variant; see ``scenax.models.create_model``."""
    return SwinTransformerV2.of_size(VARIANTS[name], features_only=features_only, **options)


class SwinTransformerV2(Architecture, kw_only=True):
    """Patches of 4 x 4 pixels, four stages of blocks, a norm, pooling and one linear layer.

    Raises:
      ValueError: if the image does not divide into patches or the width into heads, if stages
        differ in number, or if there is no such pool.
    """

    size: Size
    img_size: tuple[int, int]
    drop_path_rate: float = 0.1

    def __post_init__(self) -> None:
        """Checks what a user chose."""
        size = self.size
        check_patches("Swin V2", PATCH, self.img_size, "choose another img_size")
        for field in ("num_heads", "window_size", "pretrained_window_sizes"):
            value = getattr(size, field)
            if not isinstance(value, int) and len(value) != len(size.depths):
                raise ValueError(
                    f"{field} needs one entry for each stage, of which depths={size.depths} has "
                    f"{len(size.depths)}; got {value}."
                )
        for i, heads in enumerate(size.num_heads):
            if size.embed_dim * 2**i % heads:
                raise ValueError(
                    f"{heads} heads cannot share stage {i}'s {size.embed_dim * 2**i} channels. "
                    "Choose another embed_dim or num_heads."
                )
        super().__post_init__()

    @property
    def levels(self) -> list[Level]:
        """The output of every stage, before the last norm."""
        width, stages = self.size.embed_dim, len(self.size.depths)
        return [(width << i, PATCH << i, f"layers.{i}") for i in range(stages)]

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b k"] | Float[Array, "b rows cols k"] | list[Float[Array, "b _ _ _"]]:
        """Returns logits, features if ``num_classes`` is 0, or maps if ``out_indices`` is set.

        Args:
          x: images, ``[b, *img_size, in_chans]``.
          train: whether to drop; needs the random stream ``"dropout"`` if a rate is not 0.

        Returns:
          ``[b, k]``, or ``[b, c]`` without a head; ``[b, h / 32, w / 32, ...]`` if ``global_pool``
          is ``""``. Maps are ``[b, h / stride, w / stride, c]``, before the last norm.

        Raises:
          ValueError: if the images are of another shape.
        """
        self.check_images(x.shape)
        size, past, total = self.size, 0, sum(self.size.depths)
        x = PatchEmbed(size.embed_dim, self.dtype, name="patch_embed")(x)
        maps = []
        for i in range(self.depth_needed):
            rates = tuple(self.drop_path_of(past + j, total) for j in range(size.depths[i]))
            past += size.depths[i]
            x = Stage(size, i, rates, self.dtype, remat=self.remat, name=f"layers_{i}")(x, train)
            if self.out_indices is not None and i in self.out_indices:
                maps.append(x)
        if self.out_indices is not None:
            return maps
        x = global_pool(_norm(x, self.dtype, "norm"), self.global_pool)
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return Head(self.num_classes, self.dtype, name="head")(x) if self.num_classes else x


class Head(nn.Module):
    """The classifier, named as timm names it."""

    num_classes: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b ... c"]) -> Float[Array, "b ... k"]:
        """Returns logits."""
        return _dense(self.num_classes, dtype=self.dtype, name="fc")(x)


class PatchEmbed(nn.Module):
    """Cuts the image into patches, projects each, and norms."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b rows cols d"]:
        """Returns the map of patches."""
        patch = (PATCH, PATCH)
        project = functools.partial(Conv, padding="VALID", dtype=self.dtype, name="proj")
        return _norm(project(self.width, patch, strides=patch)(x), self.dtype, "norm")


class PatchMerging(nn.Module):
    """Half the height and width: four neighbours side by side, at twice the width, then normed."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b rows cols d"]:
        """Returns the smaller map; an odd side gets a row or column of zeros."""
        batch, height, width, chans = x.shape
        x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
        rows, cols = -(-height // 2), -(-width // 2)
        # The neighbours column by column: (0, 0), (1, 0), (0, 1), (1, 1).
        x = x.reshape(batch, rows, 2, cols, 2, chans).transpose(0, 1, 3, 4, 2, 5)
        x = x.reshape(batch, rows, cols, 4 * chans)
        x = _dense(2 * chans, use_bias=False, dtype=self.dtype, name="reduction")(x)
        return _norm(x, self.dtype, "norm")


class Stage(nn.Module):
    """Blocks at one width, every second with shifted windows; all but the first stage merge."""

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
            x = PatchMerging(self.dtype, name="downsample")(x)
        size, heads = self.size, self.size.num_heads[self.index]
        side, pretrained = (
            value if isinstance(value, int) else value[self.index]
            for value in (size.window_size, size.pretrained_window_sizes)
        )
        make_block = remat_block(Block, self.remat)
        for j, rate in enumerate(self.rates):
            block = functools.partial(make_block, heads, side, side // 2 if j % 2 else 0)
            block = block(pretrained, size.mlp_ratio, rate, self.dtype, name=f"blocks_{j}")
            x = block(x, train)
        return x


class Block(nn.Module):
    """Figure 1 of the paper: attention in windows, then an MLP, each normed after and added."""

    heads: int
    side: int
    shift: int
    pretrained: int
    mlp_ratio: float
    drop_path: float
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        train: bool,  # noqa: FBT001 (nn.remat would trace it as a keyword argument)
    ) -> Float[Array, "b h w c"]:
        """Returns the map after the block."""
        batch, sides = x.shape[0], x.shape[1:3]
        drop_path = DropPath(self.drop_path)
        window = tuple(min(self.side, side) for side in sides)
        # What is one window high or wide has nowhere to shift to.
        shift = tuple(self.shift if side > self.side else 0 for side in sides)
        padding = tuple(-side % extent for side, extent in zip(sides, window, strict=True))
        padded = tuple(side + more for side, more in zip(sides, padding, strict=True))

        y = jnp.roll(x, (-shift[0], -shift[1]), axis=(1, 2))
        y = jnp.pad(y, ((0, 0), (0, padding[0]), (0, padding[1]), (0, 0)))
        mask = shift_mask(padded, window, shift) if any(shift) else None
        attention = Attention(self.heads, window, self.pretrained, self.dtype, name="attn")
        y = join_windows(attention(split_windows(y, window), mask), batch, padded, window)
        y = jnp.roll(y[:, : sides[0], : sides[1]], shift, axis=(1, 2))
        # A new block adds nothing: the scales of its norms start at zero.
        x = x + drop_path(_norm(y, self.dtype, "norm1", start=0.0), train=train)
        y = Mlp(self.mlp_ratio, self.dtype, name="mlp")(x)
        return x + drop_path(_norm(y, self.dtype, "norm2", start=0.0), train=train)


class Attention(nn.Module):
    """Equation 2 of the paper in each window: cosines, scaled, and a bias for each position."""

    heads: int
    window: tuple[int, ...]
    pretrained: int
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "m n c"], mask: Float[np.ndarray, "windows n n"] | None
    ) -> Float[Array, "m n c"]:
        """Returns each head's mean of the values, concatenated and projected."""
        count, tokens, width = x.shape
        qkv = _dense(3 * width, use_bias=False, dtype=self.dtype, name="qkv")(x)
        zeros = nn.initializers.zeros
        q_bias, v_bias = (self.param(name, zeros, (width,)) for name in ("q_bias", "v_bias"))
        bias = jnp.concatenate([q_bias, jnp.zeros_like(q_bias), v_bias])  # The keys have none.
        qkv = qkv + bias.astype(qkv.dtype).reshape(1, 1, -1)
        q, k, v = qkv.reshape(count, tokens, 3, self.heads, -1).transpose(2, 0, 3, 1, 4)
        start = nn.initializers.constant(math.log(10))
        scale = self.param("logit_scale", start, (self.heads, 1, 1))
        scale = jnp.exp(jnp.minimum(scale, math.log(MAX_SCALE))).reshape(1, -1, 1, 1)
        q, k = (_unit(q) * scale).astype(x.dtype), _unit(k).astype(x.dtype)
        logits = jnp.einsum("mhqe,mhke->mhqk", q, k, preferred_element_type=jnp.float32)

        rows, cols = self.window
        positions = jnp.asarray(log_positions(rows, cols, self.pretrained))
        table = nn.relu(_dense(512, dtype=self.dtype, name="cpb_mlp_0")(positions))
        table = _dense(self.heads, use_bias=False, dtype=self.dtype, name="cpb_mlp_2")(table)
        table = 16 * nn.sigmoid(table.astype(jnp.float32))
        logits = logits + table[relative_positions(rows, cols)].transpose(2, 0, 1)[None]
        if mask is not None:
            logits = logits.reshape(-1, len(mask), *logits.shape[1:]) + mask[None, :, None]
            logits = logits.reshape(count, self.heads, tokens, tokens)
        y = jnp.einsum("mhqk,mhke->mhqe", nn.softmax(logits).astype(v.dtype), v)
        return _dense(width, dtype=self.dtype, name="proj")(y.swapaxes(1, 2).reshape(x.shape))


@functools.cache
def log_positions(rows: int, cols: int, pretrained: int = 0) -> Float[np.ndarray, "n 2"]:
    """Returns equation 4 of the paper for a window, in the order of ``relative_positions``.

    A distance of the whole window, or of the one of pre-training, is 8 before and
    ``log2(1 + 8) / 3`` after the logarithm.
    """
    far = [max((pretrained or side) - 1, 1) for side in (rows, cols)]
    grid = np.moveaxis(np.mgrid[1 - rows : rows, 1 - cols : cols], 0, -1).reshape(-1, 2)
    grid = 8 * grid / np.asarray(far)
    return (np.sign(grid) * np.log2(1 + np.abs(grid)) / 3).astype(np.float32)


def _unit(x: Float[Array, "m heads n e"]) -> Float[Array, "m heads n e"]:
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(axis=-1, keepdims=True), 1e-24))


class Mlp(nn.Module):
    """Two layers with the exact GELU between them."""

    ratio: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Applies to each position alone."""
        hidden = int(x.shape[-1] * self.ratio)
        y = nn.gelu(_dense(hidden, dtype=self.dtype, name="fc1")(x), approximate=False)
        return _dense(x.shape[-1], dtype=self.dtype, name="fc2")(y)
