"""DeiT, distilled DeiT, and DeiT III.

Touvron et al., "Training data-efficient image transformers & distillation through attention" (arXiv
2012.12877): the original ViT, and one with a second token that learns from a teacher; "DeiT III:
Revenge of the ViT" (arXiv 2204.07118): scaled branches, and positions for patches only. Checked
against timm 1.0.31: logits, features and feature maps with equal weights, and parameter counts.

Letters in shapes: b batch, h w image, c channels, n tokens (class token, maybe the distillation
token, then the patches row by row), d width, k classes.
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
    """What differs between the papers' models, under timm's names."""

    embed_dim: int
    depth: int
    num_heads: int
    patch_size: int = 16
    distilled: bool = False
    """Whether there is a distillation token, with a head of its own."""
    no_embed_class: bool = False
    """Whether positions are for patches only."""
    init_values: float = 0.0
    """Where the scales of the branches start; 0 for no scales."""

    def __post_init__(self) -> None:
        """Checks what a user chose."""
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"embed_dim has to be a multiple of num_heads, got {self.embed_dim} and "
                f"{self.num_heads}."
            )


TINY = Size(192, 12, 3)  # 2012.12877, table 1
SMALL = Size(384, 12, 6)
BASE = Size(768, 12, 12)
SMALL_3 = Size(384, 12, 6, no_embed_class=True, init_values=1e-6)  # 2204.07118
MEDIUM_3 = dataclasses.replace(SMALL_3, embed_dim=512, num_heads=8)
BASE_3 = dataclasses.replace(SMALL_3, embed_dim=768, num_heads=12)
LARGE_3 = dataclasses.replace(SMALL_3, embed_dim=1024, depth=24, num_heads=16)
HUGE_3 = dataclasses.replace(LARGE_3, embed_dim=1280, depth=32, patch_size=14)

REPRESENTATIVE = ("deit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "depth": 2})
VARIANTS = {
    "deit_tiny_patch16_224": TINY,
    "deit_small_patch16_224": SMALL,
    "deit_base_patch16_224": BASE,
    "deit_base_patch16_384": BASE,
    "deit_tiny_distilled_patch16_224": dataclasses.replace(TINY, distilled=True),
    "deit_small_distilled_patch16_224": dataclasses.replace(SMALL, distilled=True),
    "deit_base_distilled_patch16_224": dataclasses.replace(BASE, distilled=True),
    "deit_base_distilled_patch16_384": dataclasses.replace(BASE, distilled=True),
    "deit3_small_patch16_224": SMALL_3,
    "deit3_small_patch16_384": SMALL_3,
    "deit3_medium_patch16_224": MEDIUM_3,
    "deit3_base_patch16_224": BASE_3,
    "deit3_base_patch16_384": BASE_3,
    "deit3_large_patch16_224": LARGE_3,
    "deit3_large_patch16_384": LARGE_3,
    "deit3_huge_patch14_224": HUGE_3,
}

# timm cuts its normal off at 2, which is 100 standard deviations: not at all.
_normal = nn.initializers.normal(0.02)
_dense = functools.partial(nn.Dense, kernel_init=_normal)


def _norm(x: Array, dtype: Any, name: str) -> Array:
    return LayerNorm(1e-6, dtype, name=name)(x)


def build(name: str, *, features_only: bool = False, **options: Any) -> "Deit":
    """Returns a variant; see ``scenax.models.create_model``."""
    return Deit.of_size(VARIANTS[name], features_only=features_only, **options)


class Deit(Isotropic, kw_only=True):
    """Patches, a class token, maybe a distillation token; pre-norm blocks; one or two heads.

    Raises:
      ValueError: if the patch does not divide the image, or if there is no such pool.
    """

    default_maps: ClassVar = 3

    size: Size
    img_size: tuple[int, int]
    global_pool: str = "token"
    distilled_training: bool = False
    """Whether a distilled model returns both heads' logits in training, and not their mean."""

    def __post_init__(self) -> None:
        """Checks what a user chose."""
        check_patches("DeiT", self.size.patch_size, self.img_size)
        if self.distilled_training and not (self.size.distilled and self.num_classes):
            raise ValueError(
                "distilled_training=True needs a model with two heads: a name with _distilled_, "
                "and num_classes above 0."
            )
        super().__post_init__()

    @property
    def pools(self) -> tuple[str, ...]:
        """A distilled model has two heads on two tokens, and no other pool."""
        return ("token",) if self.size.distilled else ("token", "avg", "max", "avgmax", "")

    @property
    def levels(self) -> list[Level]:
        """The output of every block, before any norm."""
        size = self.size
        return [(size.embed_dim, size.patch_size, f"blocks.{i}") for i in range(size.depth)]

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool
    ) -> (
        Float[Array, "b k"]
        | Float[Array, "b n k"]
        | tuple[Float[Array, "b k"], Float[Array, "b k"]]
        | list[Float[Array, "b rows cols d"]]
    ):
        """Returns logits, features if ``num_classes`` is 0, or maps if ``out_indices`` is set.

        Args:
          x: images, ``[b, *img_size, in_chans]``.
          train: whether to drop; needs the random stream ``"dropout"`` if a rate is not 0.

        Returns:
          ``[b, k]``, or ``[b, d]`` without a head; ``[b, n, ...]`` if ``global_pool`` is ``""``.
          Two heads' mean, or with ``distilled_training`` in training both, the class token's
          first. Maps are ``[b, h / patch, w / patch, d]``, before any norm.

        Raises:
          ValueError: if the images are of another shape.
        """
        self.check_images(x.shape)
        size, batch, dtype = self.size, x.shape[0], self.dtype
        rows, cols = (side // size.patch_size for side in self.img_size)
        x = PatchEmbed(size, dtype, name="patch_embed")(x)

        names = {"cls_token": 1e-6, **({"dist_token": 0.02} if size.distilled else {})}
        tokens = [
            self.param(name, nn.initializers.normal(std), (1, 1, size.embed_dim))
            for name, std in names.items()
        ]
        tokens = [jnp.tile(token.astype(dtype), (batch, 1, 1)) for token in tokens]
        count = rows * cols + (0 if size.no_embed_class else len(tokens))
        positions = self.param("pos_embed", _normal, (1, count, size.embed_dim)).astype(dtype)
        if size.no_embed_class:
            x = jnp.concatenate([*tokens, x + positions], axis=1)
        else:
            x = jnp.concatenate([*tokens, x], axis=1) + positions

        rates = [self.drop_path_of(i, size.depth) for i in range(self.depth_needed)]
        outputs = self.apply_blocks(Block, rates, x, train, size=size, dtype=dtype)
        x = outputs[-1]
        if self.out_indices is not None:
            maps = (outputs[i][:, len(tokens) :] for i in self.out_indices)
            return [map_.reshape(batch, rows, cols, size.embed_dim) for map_ in maps]

        if self.global_pool in ("token", ""):
            x = _norm(x, dtype, "norm")
        else:
            mean, largest = x[:, len(tokens) :].mean(axis=1), x[:, len(tokens) :].max(axis=1)
            pooled = {"avg": mean, "max": largest, "avgmax": 0.5 * (mean + largest)}
            x = _norm(pooled[self.global_pool], dtype, "fc_norm")
        head = functools.partial(_dense, self.num_classes, dtype=dtype)
        drop = nn.Dropout(self.drop_rate, deterministic=not train)
        if size.distilled:
            both = drop(x[:, 0]), drop(x[:, 1])
            if self.num_classes:
                both = head(name="head")(both[0]), head(name="head_dist")(both[1])
            return both if train and self.distilled_training else (both[0] + both[1]) / 2
        x = drop(x[:, 0] if self.global_pool == "token" else x)
        return head(name="head")(x) if self.num_classes else x


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
    """Attention, then an MLP, each normed before, maybe scaled, and added."""

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
        y = LayerScale(size.init_values, dtype, name="ls1")(y) if size.init_values else y
        x = x + drop_path(y, train=train)
        y = Mlp(dtype, name="mlp")(_norm(x, dtype, "norm2"))
        y = LayerScale(size.init_values, dtype, name="ls2")(y) if size.init_values else y
        return x + drop_path(y, train=train)


class LayerScale(nn.Module):
    """A learned factor of each channel (arXiv 2103.17239)."""

    start: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Returns the scaled tokens."""
        gamma = self.param("gamma", nn.initializers.constant(self.start), (x.shape[-1],))
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
    """Two layers, four times as wide between them, with the exact GELU."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Applies to each token alone."""
        hidden = _dense(4 * x.shape[-1], dtype=self.dtype, name="fc1")(x)
        y = nn.gelu(hidden, approximate=False)
        return _dense(x.shape[-1], dtype=self.dtype, name="fc2")(y)
