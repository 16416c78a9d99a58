"""DINOv2's Vision Transformers, with and without registers.

Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision" (arXiv 2304.07193);
registers from Darcet et al., "Vision Transformers Need Registers" (arXiv 2309.16588). Against the
original ViT: scales on all branches, a gated MLP in the giant, and positions for 518 pixels.
Checked against timm 1.0.31: logits, features and feature maps with equal weights, and parameter
counts.

Letters in shapes: b batch, h w image, c channels, n tokens (class token, registers, then the
patches row by row), d width, k classes.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from scenax.models.architectures._architecture import Isotropic, Level, check_patches
from scenax.models.layers.conv import Conv
from scenax.models.layers.drop_path import DropPath
from scenax.models.layers.layer_norm import LayerNorm


@dataclasses.dataclass(frozen=True)
class Size:
    """The numbers of table 17 of the first paper, under timm's names."""

    embed_dim: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4.0
    swiglu: bool = False
    """Whether one half of the MLP's hidden units, through a SiLU, gates the other."""
    reg_tokens: int = 0
    """Learned tokens beside the class token; positions are for patches only then."""
    patch_size: int = 14

    def __post_init__(self) -> None:
        """Checks what a user chose."""
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"embed_dim has to be a multiple of num_heads, got {self.embed_dim} and "
                f"{self.num_heads}."
            )


SMALL = Size(384, 12, 6)
BASE = Size(768, 12, 12)
LARGE = Size(1024, 24, 16)
GIANT = Size(1536, 40, 24, 16 / 3, swiglu=True)

REPRESENTATIVE = (
    "vit_small_patch14_dinov2",
    {"img_size": 32, "patch_size": 8, "embed_dim": 192, "depth": 2, "num_heads": 3},
)
VARIANTS = {
    "vit_small_patch14_dinov2": SMALL,
    "vit_base_patch14_dinov2": BASE,
    "vit_large_patch14_dinov2": LARGE,
    "vit_giant_patch14_dinov2": GIANT,
    "vit_small_patch14_reg4_dinov2": dataclasses.replace(SMALL, reg_tokens=4),
    "vit_base_patch14_reg4_dinov2": dataclasses.replace(BASE, reg_tokens=4),
    "vit_large_patch14_reg4_dinov2": dataclasses.replace(LARGE, reg_tokens=4),
    "vit_giant_patch14_reg4_dinov2": dataclasses.replace(GIANT, reg_tokens=4),
}

# timm cuts its normal off at 2, which is 100 standard deviations: not at all.
_normal = nn.initializers.normal(0.02)
_dense = functools.partial(nn.Dense, kernel_init=_normal)


def _norm(x: Array, dtype: Any, name: str) -> Array:
    return LayerNorm(1e-6, dtype, name=name)(x)


def build(name: str, *, features_only: bool = False, **options: Any) -> "Dinov2":
    """Returns a variant; see ``scenax.models.create_model``."""
    return Dinov2.of_size(VARIANTS[name], features_only=features_only, **options)


class Dinov2(Isotropic, kw_only=True):
    """Patches, a class token, maybe registers, and learned positions; scaled pre-norm blocks.

    The final norm is ``norm``, over the tokens, for the pools ``"token"`` and ``""``, and
    ``fc_norm``, after pooling the patches, for the others.

    Raises:
      ValueError: if the patch does not divide the image, or if there is no such pool.
    """

    default_maps: ClassVar = 3

    size: Size
    img_size: tuple[int, int]
    global_pool: str = "token"

    def __post_init__(self) -> None:
        """Checks what a user chose."""
        check_patches("DINOv2", self.size.patch_size, self.img_size)
        super().__post_init__()

    @property
    def pools(self) -> tuple[str, ...]:
        """The class token, pools of the patches, or all tokens."""
        return ("token", "avg", "max", "avgmax", "")

    @property
    def levels(self) -> list[Level]:
        """The output of every block, before any norm."""
        size = self.size
        return [(size.embed_dim, size.patch_size, f"blocks.{i}") for i in range(size.depth)]

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b k"] | Float[Array, "b n k"] | list[Float[Array, "b rows cols d"]]:
        """Returns logits, features if ``num_classes`` is 0, or maps if ``out_indices`` is set.

        Args:
          x: images, ``[b, *img_size, in_chans]``.
          train: whether to drop; needs the random stream ``"dropout"`` if a rate is not 0.

        Returns:
          ``[b, k]``, or ``[b, d]`` without a head; ``[b, n, ...]`` if ``global_pool`` is ``""``.
          Maps are ``[b, h / patch, w / patch, d]``, before any norm.

        Raises:
          ValueError: if the images are of another shape.
        """
        self.check_images(x.shape)
        size, batch, dtype = self.size, x.shape[0], self.dtype
        rows, cols = (side // size.patch_size for side in self.img_size)
        x = PatchEmbed(size, dtype, name="patch_embed")(x)

        def tokens(name: str, count: int) -> Array:
            start = nn.initializers.normal(1e-6)
            learned = self.param(name, start, (1, count, size.embed_dim)).astype(dtype)
            return jnp.tile(learned, (batch, 1, 1))

        before, positioned = 1 + size.reg_tokens, rows * cols + (not size.reg_tokens)
        shape = (1, positioned, size.embed_dim)
        positions = self.param("pos_embed", _normal, shape).astype(dtype)
        if size.reg_tokens:
            both = [tokens("cls_token", 1), tokens("reg_token", size.reg_tokens)]
            x = jnp.concatenate([*both, x + positions], axis=1)
        else:
            x = jnp.concatenate([tokens("cls_token", 1), x], axis=1) + positions

        rates = [self.drop_path_of(i, size.depth) for i in range(self.depth_needed)]
        outputs = self.apply_blocks(Block, rates, x, train, size=size, dtype=dtype)
        x = outputs[-1]
        if self.out_indices is not None:
            maps = (outputs[i][:, before:] for i in self.out_indices)
            return [map_.reshape(batch, rows, cols, size.embed_dim) for map_ in maps]

        if self.global_pool in ("token", ""):
            x = _norm(x, dtype, "norm")
            x = x[:, 0] if self.global_pool == "token" else x
        else:
            mean, largest = x[:, before:].mean(axis=1), x[:, before:].max(axis=1)
            pooled = {"avg": mean, "max": largest, "avgmax": 0.5 * (mean + largest)}
            x = _norm(pooled[self.global_pool], dtype, "fc_norm")
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return _dense(self.num_classes, dtype=dtype, name="head")(x) if self.num_classes else x


class PatchEmbed(nn.Module):
    """Cuts the image into patches and projects each: a convolution whose stride is its size."""

    size: Size
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b n d"]:
        """Returns the patches' tokens, row by row."""
        width, patch = self.size.embed_dim, (self.size.patch_size,) * 2
        project = functools.partial(Conv, padding="VALID", dtype=self.dtype, name="proj")
        return project(width, patch, strides=patch)(x).reshape(x.shape[0], -1, width)


class Block(nn.Module):
    """Attention, then an MLP, each normed before, scaled and added."""

    size: Size
    drop_path: float | Float[Array, ""]
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        train: bool,  # noqa: FBT001 (nn.remat would trace it as a keyword argument)
    ) -> Float[Array, "b n d"]:
        """Returns the tokens after the block."""
        size, dtype, drop_path = self.size, self.dtype, DropPath(self.drop_path)
        y = Attention(size.num_heads, dtype, name="attn")(_norm(x, dtype, "norm1"))
        x = x + drop_path(LayerScale(dtype, name="ls1")(y), train=train)
        make_mlp = SwiGlu if size.swiglu else Mlp
        y = make_mlp(int(x.shape[-1] * size.mlp_ratio), dtype, name="mlp")(_norm(x, dtype, "norm2"))
        return x + drop_path(LayerScale(dtype, name="ls2")(y), train=train)


class LayerScale(nn.Module):
    """A learned factor of each channel (arXiv 2103.17239)."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Returns the scaled tokens."""
        gamma = self.param("gamma", nn.initializers.constant(1e-5), (x.shape[-1],))
        return x * gamma.astype(self.dtype).reshape(1, 1, -1)


class Attention(nn.Module):
    """Multi-head self-attention."""

    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Returns each head's mean of the values, concatenated and projected."""
        qkv = _dense(3 * x.shape[-1], dtype=self.dtype, name="qkv")(x)
        q, k, v = qkv.reshape(*x.shape[:2], 3, self.heads, -1).transpose(2, 0, 3, 1, 4)
        q = q * q.shape[-1] ** -0.5
        logits = jnp.einsum("bhqe,bhke->bhqk", q, k, preferred_element_type=jnp.float32)
        mixed = jnp.einsum("bhqk,bhke->bhqe", nn.softmax(logits).astype(v.dtype), v)
        return _dense(x.shape[-1], dtype=self.dtype, name="proj")(
            mixed.swapaxes(1, 2).reshape(x.shape)
        )


class Mlp(nn.Module):
    """Two layers with the exact GELU between them."""

    hidden: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Applies to each token alone."""
        y = nn.gelu(_dense(self.hidden, dtype=self.dtype, name="fc1")(x), approximate=False)
        return _dense(x.shape[-1], dtype=self.dtype, name="fc2")(y)


class SwiGlu(nn.Module):
    """A gated MLP (arXiv 2002.05202): the first half of the hidden units gates the second."""

    hidden: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Applies to each token alone."""
        gate, y = jnp.split(_dense(self.hidden, dtype=self.dtype, name="fc1")(x), 2, axis=-1)
        return _dense(x.shape[-1], dtype=self.dtype, name="fc2")(nn.silu(gate) * y)
