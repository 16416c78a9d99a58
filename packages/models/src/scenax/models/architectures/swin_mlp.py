"""Swin-MLP: a Swin Transformer whose windows are mixed by a linear layer in place of attention.

Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows" (arXiv
2103.14030), in the variant of the authors' release, whose appendix A3.4 calls it Swin-Mixer. Heads
are groups of channels with a layer of their own. Shifted windows see zeros beyond the map, where
Swin's see the map's other end. Checked against the authors' release, which timm does not have:
logits, features and feature maps with equal weights, and parameter counts.

Letters in shapes: b batch, h w map, c channels, m windows of all images, n positions of a window
(row by row), e channels of a head, k classes.
"""

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
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
from scenax.models.layers.windows import join_windows, split_windows


@dataclasses.dataclass(frozen=True)
class Size:
    """What differs between the variants, under the authors' names."""

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_size: int = 8
    """Side of a window; a map that is no larger is one window."""
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        """Checks what a user chose."""
        if len(self.depths) != len(self.num_heads):
            raise ValueError(
                "depths and num_heads need one entry for each stage, got "
                f"{self.depths} and {self.num_heads}."
            )
        for i, heads in enumerate(self.num_heads):
            if (width := self.embed_dim << i) % heads:
                raise ValueError(f"{heads} heads cannot share stage {i}'s {width} channels.")


REPRESENTATIVE = (
    "swin_mlp_tiny_c24_patch4_window8_256",
    {"img_size": 32, "embed_dim": 48, "depths": (2, 1), "num_heads": (2, 4), "window_size": 4},
)
VARIANTS = {  # The names tell the channels of a head.
    "swin_mlp_tiny_c24_patch4_window8_256": Size(96, (2, 2, 6, 2), (4, 8, 16, 32)),
    "swin_mlp_tiny_c12_patch4_window8_256": Size(96, (2, 2, 6, 2), (8, 16, 32, 64)),
    "swin_mlp_tiny_c6_patch4_window8_256": Size(96, (2, 2, 6, 2), (16, 32, 64, 128)),
    "swin_mlp_base_patch4_window7_224": Size(128, (2, 2, 18, 2), (4, 8, 16, 32), 7),
}

PATCH = 4

# The authors cut their normal off at 2, which is 100 standard deviations: not at all.
_dense = functools.partial(nn.Dense, kernel_init=nn.initializers.normal(0.02))


def build(name: str, *, features_only: bool = False, **options: Any) -> "SwinMlp":
    """Returns a variant; see ``scenax.models.create_model``."""
    return SwinMlp.of_size(VARIANTS[name], features_only=features_only, **options)


class SwinMlp(Architecture, kw_only=True):
    """Patches of 4 x 4 pixels, stages of blocks, a norm, pooling and one linear layer.

    Raises:
      ValueError: if patches or windows do not divide the image, or if there is no such pool.
    """

    size: Size
    img_size: tuple[int, int]
    drop_path_rate: float = 0.1

    def __post_init__(self) -> None:
        """Checks what a user chose."""
        stride, window = PATCH << (len(self.size.depths) - 1), self.size.window_size
        check_patches("Swin-MLP", stride, self.img_size, "choose another img_size")
        for i in range(len(self.size.depths)):
            sides = [side // (PATCH << i) for side in self.img_size]
            if min(sides) <= window:
                window = min(sides)
            if any(side % window for side in sides):
                height, width = self.img_size
                raise ValueError(
                    f"Windows of {window} do not divide the map of {sides[0]}x{sides[1]} that "
                    f"stage {i} has of an image of {height}x{width}. Choose another img_size, such "
                    f"as a multiple of {stride * self.size.window_size}, or another window_size."
                )
        super().__post_init__()

    @property
    def levels(self) -> list[Level]:
        """The output of every stage, before it is halved and before the last norm."""
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
          is ``""``. Maps are ``[b, h / stride, w / stride, c]``.

        Raises:
          ValueError: if the images are of another shape.
        """
        self.check_images(x.shape)
        size, dtype, past, total = self.size, self.dtype, 0, sum(self.size.depths)
        x = PatchEmbed(size.embed_dim, dtype, name="patch_embed")(x)
        maps = []
        for i in range(self.depth_needed):
            rates = tuple(self.drop_path_of(past + j, total) for j in range(size.depths[i]))
            past += size.depths[i]
            halve = i + 1 < self.depth_needed
            stage = Stage(size, i, rates, self.remat, dtype, name=f"layers_{i}")
            y, x = stage(x, halve, train)
            maps.append(y)
        if self.out_indices is not None:
            return [maps[i] for i in self.out_indices]
        x = global_pool(LayerNorm(1e-5, dtype, name="norm")(x), self.global_pool)
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return _dense(self.num_classes, dtype=dtype, name="head")(x) if self.num_classes else x


class PatchEmbed(nn.Module):
    """Cuts the image into patches, projects each, and norms."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b rows cols d"]:
        """Returns the map of patches."""
        patch = (PATCH, PATCH)
        project = functools.partial(Conv, padding="VALID", dtype=self.dtype, name="proj")
        return LayerNorm(1e-5, self.dtype, name="norm")(project(self.width, patch, patch)(x))


class PatchMerging(nn.Module):
    """Half the height and width: four neighbours side by side, normed, at twice the width."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b rows cols d"]:
        """Returns the smaller map."""
        batch, rows, cols, chans = x.shape[0], x.shape[1] // 2, x.shape[2] // 2, x.shape[3]
        # The neighbours column by column: (0, 0), (1, 0), (0, 1), (1, 1).
        x = x.reshape(batch, rows, 2, cols, 2, chans).transpose(0, 1, 3, 4, 2, 5)
        x = LayerNorm(1e-5, self.dtype, name="norm")(x.reshape(batch, rows, cols, 4 * chans))
        return _dense(2 * chans, use_bias=False, dtype=self.dtype, name="reduction")(x)


class Stage(nn.Module):
    """Blocks at one width, every second with shifted windows; then the map is halved."""

    size: Size
    index: int
    rates: tuple[float, ...]
    remat: bool | str
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        halve: bool,  # noqa: FBT001
        train: bool,  # noqa: FBT001
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b rows cols d"]]:
        """Returns the map after the blocks, and what the next stage gets."""
        heads, window = self.size.num_heads[self.index], self.size.window_size
        shift, side = window // 2, min(x.shape[1:3])
        if side <= window:  # One window, which has nowhere to shift to.
            window, shift = side, 0
        make_block = remat_block(Block, self.remat)
        for j, rate in enumerate(self.rates):
            block = functools.partial(make_block, heads, window, shift if j % 2 else 0)
            x = block(self.size.mlp_ratio, rate, self.dtype, name=f"blocks_{j}")(x, train)
        return x, PatchMerging(self.dtype, name="downsample")(x) if halve else x


class Block(nn.Module):
    """A linear layer over the positions of each window, then an MLP; each normed before, added."""

    heads: int
    window: int
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
        (batch, rows, cols, width), shift = x.shape, self.shift
        window, drop_path = (self.window, self.window), DropPath(self.drop_path)
        before = self.window - shift if shift else 0
        around = (before, shift)  # One window more in each direction, or none.
        y = LayerNorm(1e-5, self.dtype, name="norm1")(x)
        y = jnp.pad(y, ((0, 0), around, around, (0, 0)))
        sides = y.shape[1:3]
        y = split_windows(y, window)
        y = SpatialMlp(self.heads, self.dtype, name="spatial_mlp")(y)
        y = join_windows(y, batch, sides, window)
        y = y[:, before : before + rows, before : before + cols]
        x = x + drop_path(y, train=train)
        y = LayerNorm(1e-5, self.dtype, name="norm2")(x)
        hidden = int(width * self.mlp_ratio)
        return x + drop_path(Mlp(hidden, self.dtype, name="mlp")(y), train=train)


class SpatialMlp(nn.Module):
    """One linear layer over the positions of a window for each head."""

    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "m n c"]) -> Float[Array, "m n c"]:
        """Returns the mixed windows."""
        count, heads = x.shape[1], self.heads
        # The authors' convolution in groups has this kernel: 1, positions, heads' positions.
        kernel = self.param("kernel", nn.initializers.normal(0.02), (1, count, heads * count))
        bias = self.param("bias", nn.initializers.zeros, (heads * count,))
        kernel = kernel.astype(self.dtype).reshape(count, heads, count)
        bias = bias.astype(self.dtype).reshape(heads, count).T.reshape(1, count, heads, 1)
        y = jnp.einsum("mnhe,nhi->mihe", x.reshape(len(x), count, heads, -1), kernel)
        return (y + bias).reshape(x.shape)


class Mlp(nn.Module):
    """Two layers with the exact GELU between them."""

    hidden: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Applies to each position alone."""
        y = nn.gelu(_dense(self.hidden, dtype=self.dtype, name="fc1")(x), approximate=False)
        return _dense(x.shape[-1], dtype=self.dtype, name="fc2")(y)
