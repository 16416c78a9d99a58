"""The Swin Transformer: attention in windows that shift from block to block.

Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows" (arXiv
2103.14030); the windows of ``swin_s3_*`` from Chen et al., "Searching the Search Space of Vision
Transformer" (arXiv 2111.14725). Checked against timm 1.0.31: logits, features and feature maps with
equal weights, also where windows do not divide the map, parameter counts, and ``default_cfg``.

Letters in shapes: b batch, h w map, c channels, m windows of all images, n tokens of a window (row
by row), k classes.
"""

import dataclasses
import functools
from typing import Any

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
    window_size: int | tuple[int, ...] = 7
    """Side of a window, or one for each stage; a map that is smaller is one window."""
    mlp_ratio: float = 4.0


TINY = Size(96, (2, 2, 6, 2), (3, 6, 12, 24))  # 2103.14030, section 3.3
SMALL = Size(96, (2, 2, 18, 2), (3, 6, 12, 24))
BASE = Size(128, (2, 2, 18, 2), (4, 8, 16, 32))
LARGE = Size(192, (2, 2, 18, 2), (6, 12, 24, 48))
S3_TINY = Size(96, (2, 2, 6, 2), (3, 6, 12, 24), (7, 7, 14, 7))  # 2111.14725
S3_SMALL = Size(96, (2, 2, 18, 2), (3, 6, 12, 24), (14, 14, 14, 7))
S3_BASE = Size(96, (2, 2, 30, 2), (3, 6, 12, 24), (7, 7, 14, 7))
BASE_12 = dataclasses.replace(BASE, window_size=12)
LARGE_12 = dataclasses.replace(LARGE, window_size=12)

REPRESENTATIVE = (
    "swin_tiny_patch4_window7_224",
    {"img_size": 32, "embed_dim": 96, "depths": (2, 1), "num_heads": (3, 6), "window_size": 4},
)
VARIANTS = {
    "swin_tiny_patch4_window7_224": TINY,
    "swin_small_patch4_window7_224": SMALL,
    "swin_base_patch4_window7_224": BASE,
    "swin_base_patch4_window12_384": BASE_12,
    "swin_large_patch4_window7_224": LARGE,
    "swin_large_patch4_window12_384": LARGE_12,
    "swin_s3_tiny_224": S3_TINY,
    "swin_s3_small_224": S3_SMALL,
    "swin_s3_base_224": S3_BASE,
}

PATCH = 4

# timm cuts its normal off at 2, which is 100 standard deviations: not at all.
_dense = functools.partial(nn.Dense, kernel_init=nn.initializers.normal(0.02))


def _norm(x: Array, dtype: Any, name: str) -> Array:
    return LayerNorm(1e-5, dtype, name=name)(x)


def build(name: str, *, features_only: bool = False, **options: Any) -> "SwinTransformer":
    """Returns a variant; see ``scenax.models.create_model``."""
    return SwinTransformer.of_size(VARIANTS[name], features_only=features_only, **options)


class SwinTransformer(Architecture, kw_only=True):
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
        check_patches("Swin", PATCH, self.img_size, "choose another img_size")
        windows = size.num_heads if isinstance(size.window_size, int) else size.window_size
        if not len(size.depths) == len(size.num_heads) == len(windows):
            raise ValueError(
                "depths, num_heads and window_size need one entry for each stage, got "
                f"{size.depths}, {size.num_heads} and {size.window_size}."
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
    """Half the height and width: four neighbours side by side, normed, at twice the width."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b rows cols d"]:
        """Returns the smaller map; an odd side gets a row or column of zeros."""
        batch, height, width, chans = x.shape
        x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
        rows, cols = -(-height // 2), -(-width // 2)
        # The neighbours column by column: (0, 0), (1, 0), (0, 1), (1, 1).
        x = x.reshape(batch, rows, 2, cols, 2, chans).transpose(0, 1, 3, 4, 2, 5)
        x = _norm(x.reshape(batch, rows, cols, 4 * chans), self.dtype, "norm")
        return _dense(2 * chans, use_bias=False, dtype=self.dtype, name="reduction")(x)


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
        chosen, heads = self.size.window_size, self.size.num_heads[self.index]
        side = chosen if isinstance(chosen, int) else chosen[self.index]
        make_block = remat_block(Block, self.remat)
        for j, rate in enumerate(self.rates):
            block = functools.partial(make_block, heads, side, side // 2 if j % 2 else 0)
            x = block(self.size.mlp_ratio, rate, self.dtype, name=f"blocks_{j}")(x, train)
        return x


class Block(nn.Module):
    """Equation 3 of the paper: attention in windows, then an MLP, each normed before and added."""

    heads: int
    side: int
    shift: int
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

        y = jnp.roll(_norm(x, self.dtype, "norm1"), (-shift[0], -shift[1]), axis=(1, 2))
        y = jnp.pad(y, ((0, 0), (0, padding[0]), (0, padding[1]), (0, 0)))
        mask = shift_mask(padded, window, shift) if any(shift) else None
        attention = Attention(self.heads, window, self.dtype, name="attn")
        y = join_windows(attention(split_windows(y, window), mask), batch, padded, window)
        y = jnp.roll(y[:, : sides[0], : sides[1]], shift, axis=(1, 2))
        x = x + drop_path(y, train=train)
        y = _norm(x, self.dtype, "norm2")
        return x + drop_path(Mlp(self.mlp_ratio, self.dtype, name="mlp")(y), train=train)


class Attention(nn.Module):
    """Multi-head self-attention in each window, with a bias for each relative position."""

    heads: int
    window: tuple[int, ...]
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "m n c"], mask: Float[np.ndarray, "windows n n"] | None
    ) -> Float[Array, "m n c"]:
        """Returns each head's mean of the values, concatenated and projected."""
        count, tokens, width = x.shape
        qkv = _dense(3 * width, dtype=self.dtype, name="qkv")(x)
        q, k, v = qkv.reshape(count, tokens, 3, self.heads, -1).transpose(2, 0, 3, 1, 4)
        q = q * q.shape[-1] ** -0.5
        logits = jnp.einsum("mhqe,mhke->mhqk", q, k, preferred_element_type=jnp.float32)

        rows, cols = self.window
        shape = ((2 * rows - 1) * (2 * cols - 1), self.heads)
        normal = nn.initializers.normal(0.02)
        table = self.param("relative_position_bias_table", normal, shape)
        logits = logits + table[relative_positions(rows, cols)].transpose(2, 0, 1)[None]
        if mask is not None:
            logits = logits.reshape(-1, len(mask), *logits.shape[1:]) + mask[None, :, None]
            logits = logits.reshape(count, self.heads, tokens, tokens)
        y = jnp.einsum("mhqk,mhke->mhqe", nn.softmax(logits).astype(v.dtype), v)
        return _dense(width, dtype=self.dtype, name="proj")(y.swapaxes(1, 2).reshape(x.shape))


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
