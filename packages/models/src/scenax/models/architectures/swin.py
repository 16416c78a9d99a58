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
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.core import FrozenDict
from jaxtyping import Array, Float

from scenax.models import _options
from scenax.models.layers.drop_path import DropPath
from scenax.models.layers.global_pool import check_pool, global_pool
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


@dataclasses.dataclass(frozen=True)
class Variant:
    """A name in the zoo: a size, an image size, and timm's default weights for them."""

    size: Size
    img_size: int = 224
    tag: str = "ms_in22k_ft_in1k"
    crop_pct: float = 0.9


TINY = Size(96, (2, 2, 6, 2), (3, 6, 12, 24))  # 2103.14030, section 3.3
SMALL = Size(96, (2, 2, 18, 2), (3, 6, 12, 24))
BASE = Size(128, (2, 2, 18, 2), (4, 8, 16, 32))
LARGE = Size(192, (2, 2, 18, 2), (6, 12, 24, 48))
S3_TINY = Size(96, (2, 2, 6, 2), (3, 6, 12, 24), (7, 7, 14, 7))  # 2111.14725
S3_SMALL = Size(96, (2, 2, 18, 2), (3, 6, 12, 24), (14, 14, 14, 7))
S3_BASE = Size(96, (2, 2, 30, 2), (3, 6, 12, 24), (7, 7, 14, 7))
BASE_12 = dataclasses.replace(BASE, window_size=12)
LARGE_12 = dataclasses.replace(LARGE, window_size=12)

VARIANTS = {
    "swin_tiny_patch4_window7_224": Variant(TINY, tag="ms_in1k"),
    "swin_small_patch4_window7_224": Variant(SMALL),
    "swin_base_patch4_window7_224": Variant(BASE),
    "swin_base_patch4_window12_384": Variant(BASE_12, 384, crop_pct=1.0),
    "swin_large_patch4_window7_224": Variant(LARGE),
    "swin_large_patch4_window12_384": Variant(LARGE_12, 384, crop_pct=1.0),
    "swin_s3_tiny_224": Variant(S3_TINY, tag="ms_in1k"),
    "swin_s3_small_224": Variant(S3_SMALL, tag="ms_in1k"),
    "swin_s3_base_224": Variant(S3_BASE, tag="ms_in1k"),
}

PATCH = 4

# timm cuts its normal off at 2, which is 100 standard deviations: not at all.
_dense = functools.partial(nn.Dense, kernel_init=nn.initializers.normal(0.02))


def _norm(x: Array, dtype: Any, name: str) -> Array:
    # In float32, with the exact variance: flax's default subtracts two large numbers.
    norm = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=name)
    return norm(x.astype(jnp.float32)).astype(dtype)


def build(
    name: str,
    *,
    img_size: int | Sequence[int] | None = None,
    num_classes: int | None = None,
    features_only: bool = False,
    out_indices: int | Sequence[int] | None = None,
    **fields: Any,
) -> "SwinTransformer":
    """Returns a variant; see ``scenax.models.create_model``.

    Args:
      name: a key of ``VARIANTS``.
      img_size: height and width, or one number; it counts for weights where it is below a window.
      num_classes: width of the head; 0 for none.
      features_only: whether to return feature maps instead of logits.
      out_indices: which stages' maps, or how many of the last stages; by default all.
      **fields: others of ``SwinTransformer`` and ``Size``.
    """
    variant = VARIANTS[name]
    size, fields = _options.resized(variant.size, fields)
    stages = len(size.depths)
    return SwinTransformer(
        size=size,
        img_size=_options.pair(variant.img_size if img_size is None else img_size),
        num_classes=1000 if num_classes is None else num_classes,
        out_indices=_options.feature_indices(
            stages, features_only=features_only, out_indices=out_indices, default=stages
        ),
        default_cfg=_options.default_cfg(
            name,
            tag=variant.tag,
            img_size=_options.pair(variant.img_size),
            fixed_input_size=True,
            pool_size=_options.pair(variant.img_size // 32),
            crop_pct=variant.crop_pct,
            first_conv="patch_embed.proj",
            classifier="head.fc",
        ),
        **fields,
    )


class SwinTransformer(nn.Module):
    """Patches of 4 x 4 pixels, four stages of blocks, a norm, pooling and one linear layer.

    Raises:
      ValueError: if the image does not divide into patches or the width into heads, if stages
        differ in number, or if there is no such pool.
    """

    size: Size
    img_size: tuple[int, int]
    in_chans: int = 3
    num_classes: int = 1000
    """Width of the head's output; 0 for no head."""
    global_pool: str = "avg"
    """``"avg"``, ``"max"``, ``"avgmax"`` (their mean), ``"catavgmax"``, or ``""`` for the map."""
    out_indices: tuple[int, ...] | None = None
    """Stages whose outputs are returned instead of logits; later stages do not exist then."""
    drop_rate: float = 0.0
    """Dropout in front of the head."""
    drop_path_rate: float = 0.1
    """Stochastic depth of the last block; it grows linearly from 0 at the first."""
    dtype: Any = jnp.float32
    """Of the computation; parameters are float32, and so are norms and the softmax."""
    remat: bool = False
    """Whether to compute each block again in the backward pass instead of keeping it."""
    default_cfg: FrozenDict[str, Any] = FrozenDict()

    def __post_init__(self) -> None:
        """Checks what a user chose."""
        size, (height, width) = self.size, self.img_size
        if height % PATCH or width % PATCH:
            raise ValueError(
                f"Swin needs an image whose sides divide by {PATCH}, got {height}x{width}. Resize "
                "or pad in the input pipeline."
            )
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
        check_pool(self.global_pool)
        super().__post_init__()

    @property
    def num_features(self) -> int:
        """Width of the last stage."""
        return self.size.embed_dim * 2 ** (len(self.size.depths) - 1)

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """Channels, stride and timm's module name of each feature map that can be had, or is."""
        indices = range(len(self.size.depths)) if self.out_indices is None else self.out_indices
        width = self.size.embed_dim
        return [
            {"num_chs": width * 2**i, "reduction": PATCH * 2**i, "module": f"layers.{i}"}
            for i in indices
        ]

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
        _options.check_images("Swin", x.shape, (*self.img_size, self.in_chans))
        size, past = self.size, 0
        x = PatchEmbed(size.embed_dim, self.dtype, name="patch_embed")(x)
        maps = []
        for i in range(len(size.depths) if self.out_indices is None else max(self.out_indices) + 1):
            last = max(sum(size.depths) - 1, 1)
            rates = tuple(self.drop_path_rate * (past + j) / last for j in range(size.depths[i]))
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
        project = functools.partial(nn.Conv, padding="VALID", dtype=self.dtype, name="proj")
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
    remat: bool = False

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
        make_block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
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
        q, k, v = jnp.moveaxis(qkv.reshape(count, tokens, 3, self.heads, -1), 2, 0)
        q = q * q.shape[-1] ** -0.5
        logits = jnp.einsum("mqhe,mkhe->mhqk", q, k, preferred_element_type=jnp.float32)

        rows, cols = self.window
        shape = ((2 * rows - 1) * (2 * cols - 1), self.heads)
        normal = nn.initializers.normal(0.02)
        table = self.param("relative_position_bias_table", normal, shape)
        logits = logits + table[relative_positions(rows, cols)].transpose(2, 0, 1)[None]
        if mask is not None:
            logits = logits.reshape(-1, len(mask), *logits.shape[1:]) + mask[None, :, None]
            logits = logits.reshape(count, self.heads, tokens, tokens)
        y = jnp.einsum("mhqk,mkhe->mqhe", nn.softmax(logits).astype(v.dtype), v)
        return _dense(width, dtype=self.dtype, name="proj")(y.reshape(x.shape))


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
