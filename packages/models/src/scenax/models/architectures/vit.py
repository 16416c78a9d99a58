"""The Vision Transformer with a class token, CLIP's image encoder included.

Dosovitskiy et al., "An Image is Worth 16x16 Words" (arXiv 2010.11929); sizes tiny and small and
the default weights from Steiner et al., "How to train your ViT?" (arXiv 2106.10270); giant and
gigantic from Zhai et al., "Scaling Vision Transformers" (arXiv 2106.04560); weights tagged
``dino`` from Caron et al. (arXiv 2104.14294). ``clip`` is the image encoder of Radford et al.,
"Learning Transferable Visual Models From Natural Language Supervision" (arXiv 2103.00020), with
OpenCLIP's sizes, Cherti et al. (arXiv 2212.07143). Checked against timm 1.0.31: logits, features,
feature maps and attention maps with equal weights, and parameter counts.

Letters in shapes: b batch, h w image, c channels, n tokens (one class token, then the patches row
by row), d width, k classes.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from scenax.models.architectures._architecture import Isotropic, Level, check_patches
from scenax.models.layers.conv import Conv
from scenax.models.layers.drop_path import DropPath
from scenax.models.layers.layer_norm import LayerNorm

ACTIVATIONS = {
    "gelu": functools.partial(nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(nn.gelu, approximate=True),
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),
}


@dataclasses.dataclass(frozen=True)
class Size:
    """The numbers that set a ViT's cost, under timm's names."""

    embed_dim: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4.0
    patch_size: int = 16
    pre_norm: bool = False
    """Whether tokens are normed in front of the first block; patches have no bias then."""
    norm_eps: float = 1e-6
    """Epsilon of all norms; transformers' ViT has 1e-12."""
    act_layer: str = "gelu"
    """``"gelu"``: the exact one, as timm's; ``"gelu_tanh"``: of the paper's own release, as
    approximated there; ``"quick_gelu"``: of OpenAI's CLIP."""

    def __post_init__(self) -> None:
        """Checks what a user chose."""
        if self.act_layer not in ACTIVATIONS:
            raise ValueError(
                f"act_layer has to be one of {(*ACTIVATIONS,)}, got {self.act_layer!r}."
            )
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"embed_dim has to be a multiple of num_heads, got {self.embed_dim} and "
                f"{self.num_heads}."
            )


TEST = Size(64, 6, 2, 3.0)  # timm's, for tests
TINY = Size(192, 12, 3)  # 2106.10270
SMALL = Size(384, 12, 6)  # 2106.10270
BASE = Size(768, 12, 12)  # 2010.11929, table 1
LARGE = Size(1024, 24, 16)  # 2010.11929, table 1
HUGE = Size(1280, 32, 16)  # 2010.11929, table 1
XSMALL = Size(256, 10, 4)  # OpenCLIP's, as are the next three
MEDIUM = Size(512, 12, 8)
BETWIXT = Size(640, 12, 10)
PLUS = Size(896, 12, 14)
GIANT = Size(1408, 40, 16, 48 / 11)  # 2106.04560
GIGANTIC = Size(1664, 48, 16, 64 / 13)  # 2106.04560


def _patch(size: Size, patch_size: int) -> Size:
    return dataclasses.replace(size, patch_size=patch_size)


def _clip(size: Size, patch_size: int, act_layer: str = "gelu") -> Size:
    return dataclasses.replace(
        size, patch_size=patch_size, pre_norm=True, norm_eps=1e-5, act_layer=act_layer
    )


REPRESENTATIVE = ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "depth": 2})
VARIANTS = {
    "test_vit": TEST,
    "vit_tiny_patch16_224": TINY,
    "vit_tiny_patch16_384": TINY,
    "vit_small_patch32_224": _patch(SMALL, 32),
    "vit_small_patch32_384": _patch(SMALL, 32),
    "vit_small_patch16_224": SMALL,
    "vit_small_patch16_384": SMALL,
    "vit_small_patch8_224": _patch(SMALL, 8),
    "vit_base_patch32_224": _patch(BASE, 32),
    "vit_base_patch32_384": _patch(BASE, 32),
    "vit_base_patch16_224": BASE,
    "vit_base_patch16_384": BASE,
    "vit_base_patch8_224": _patch(BASE, 8),
    "vit_large_patch32_224": _patch(LARGE, 32),
    "vit_large_patch32_384": _patch(LARGE, 32),
    "vit_large_patch16_224": LARGE,
    "vit_large_patch16_384": LARGE,
    "vit_large_patch14_224": _patch(LARGE, 14),
    "vit_huge_patch14_224": _patch(HUGE, 14),
    "vit_giant_patch14_224": _patch(GIANT, 14),
    "vit_gigantic_patch14_224": _patch(GIGANTIC, 14),
    "vit_xsmall_patch16_clip_224": _clip(XSMALL, 16),
    "vit_medium_patch32_clip_224": _clip(MEDIUM, 32),
    "vit_medium_patch16_clip_224": _clip(MEDIUM, 16),
    "vit_betwixt_patch32_clip_224": _clip(BETWIXT, 32),
    "vit_base_patch32_clip_224": _clip(BASE, 32),
    "vit_base_patch32_clip_256": _clip(BASE, 32),
    "vit_base_patch32_clip_384": _clip(BASE, 32),
    "vit_base_patch32_clip_448": _clip(BASE, 32),
    "vit_base_patch32_clip_quickgelu_224": _clip(BASE, 32, "quick_gelu"),
    "vit_base_patch16_clip_224": _clip(BASE, 16),
    "vit_base_patch16_clip_384": _clip(BASE, 16),
    "vit_base_patch16_clip_quickgelu_224": _clip(BASE, 16, "quick_gelu"),
    "vit_base_patch16_plus_clip_240": _clip(PLUS, 16),
    "vit_large_patch14_clip_224": _clip(LARGE, 14),
    "vit_large_patch14_clip_336": _clip(LARGE, 14),
    "vit_large_patch14_clip_quickgelu_224": _clip(LARGE, 14, "quick_gelu"),
    "vit_large_patch14_clip_quickgelu_336": _clip(LARGE, 14, "quick_gelu"),
    "vit_huge_patch14_clip_224": _clip(HUGE, 14),
    "vit_huge_patch14_clip_336": _clip(HUGE, 14),
    "vit_huge_patch14_clip_378": _clip(HUGE, 14),
    "vit_huge_patch14_clip_quickgelu_224": _clip(HUGE, 14, "quick_gelu"),
    "vit_huge_patch14_clip_quickgelu_378": _clip(HUGE, 14, "quick_gelu"),
    "vit_giant_patch14_clip_224": _clip(GIANT, 14),
    "vit_gigantic_patch14_clip_224": _clip(GIGANTIC, 14),
    "vit_gigantic_patch14_clip_378": _clip(GIGANTIC, 14),
    "vit_gigantic_patch14_clip_quickgelu_224": _clip(GIGANTIC, 14, "quick_gelu"),
}

# timm cuts its normal off at 2, which is 100 standard deviations: not at all.
_dense = functools.partial(nn.Dense, kernel_init=nn.initializers.normal(0.02))


def _norm(x: Array, size: Size, dtype: Any, name: str) -> Array:
    return LayerNorm(size.norm_eps, dtype, name=name)(x)


def build(name: str, *, features_only: bool = False, **options: Any) -> "VisionTransformer":
    """Returns a variant; see ``scenax.models.create_model``."""
    return VisionTransformer.of_size(VARIANTS[name], features_only=features_only, **options)


class VisionTransformer(Isotropic, kw_only=True):
    """Patches, a class token and learned positions; pre-norm blocks; one linear layer on top.

    The final norm is ``norm``, over the tokens, for the pools ``"token"`` and ``""``, and
    ``fc_norm``, after pooling, for the others.

    Raises:
      ValueError: if the patch does not divide the image, or if there is no such pool.
    """

    default_maps: ClassVar = 3

    size: Size
    img_size: tuple[int, int]
    global_pool: str = "token"
    """``"token"``, ``"avg"``, ``"max"``, ``"avgmax"`` (their mean), or ``""`` for all tokens."""

    def __post_init__(self) -> None:
        """Checks what a user chose."""
        check_patches("ViT", self.size.patch_size, self.img_size)
        super().__post_init__()

    @property
    def pools(self) -> tuple[str, ...]:
        """Ways to make one vector of the map or tokens."""
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
          Maps are ``[b, h / patch, w / patch, d]``, before any norm, as timm's are.

        Raises:
          ValueError: if the images are of another shape.
        """
        self.check_images(x.shape)
        size, batch = self.size, x.shape[0]
        rows, cols = (side // size.patch_size for side in self.img_size)

        x = PatchEmbed(size, self.dtype, name="patch_embed")(x)
        token = self.param("cls_token", nn.initializers.normal(1e-6), (1, 1, size.embed_dim))
        x = jnp.concatenate([jnp.tile(token, (batch, 1, 1)).astype(x.dtype), x], axis=1)
        shape = (1, 1 + rows * cols, size.embed_dim)
        x = x + self.param("pos_embed", nn.initializers.normal(0.02), shape).astype(x.dtype)
        x = _norm(x, size, self.dtype, "norm_pre") if size.pre_norm else x

        rates = [self.drop_path_of(i, size.depth) for i in range(self.depth_needed)]
        outputs = self.apply_blocks(Block, rates, x, train, size=size, dtype=self.dtype)
        x = outputs[-1]
        if self.out_indices is not None:
            maps = (outputs[i][:, 1:] for i in self.out_indices)
            return [map_.reshape(batch, rows, cols, size.embed_dim) for map_ in maps]

        if self.global_pool in ("token", ""):
            x = _norm(x, self.size, self.dtype, "norm")
            x = x[:, 0] if self.global_pool == "token" else x
        else:
            mean, largest = x[:, 1:].mean(axis=1), x[:, 1:].max(axis=1)
            pooled = {"avg": mean, "max": largest, "avgmax": 0.5 * (mean + largest)}
            x = _norm(pooled[self.global_pool], size, self.dtype, "fc_norm")
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return _dense(self.num_classes, dtype=self.dtype, name="head")(x) if self.num_classes else x


class PatchEmbed(nn.Module):
    """Cuts the image into patches and projects each: a convolution whose stride is its size."""

    size: Size
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b n d"]:
        """Returns the patches' tokens, row by row."""
        size, patch = self.size, (self.size.patch_size,) * 2
        bound = (size.patch_size**2 * x.shape[-1]) ** -0.5

        # As torch initialises a convolution, its bias included.
        def uniform(key: Array, shape: Sequence[int], dtype: Any) -> Array:
            return jax.random.uniform(key, shape, dtype, -bound, bound)

        project = Conv(
            size.embed_dim,
            patch,
            strides=patch,
            padding="VALID",
            use_bias=not size.pre_norm,
            kernel_init=uniform,
            bias_init=uniform,
            dtype=self.dtype,
            name="proj",
        )
        return project(x).reshape(x.shape[0], -1, size.embed_dim)


class Block(nn.Module):
    """Equations 2 and 3 of the paper: attention, then an MLP, each normed before and added."""

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
        drop_path = DropPath(self.drop_path)
        y = _norm(x, self.size, self.dtype, "norm1")
        x = x + drop_path(Attention(self.size.num_heads, self.dtype, name="attn")(y), train=train)
        y = _norm(x, self.size, self.dtype, "norm2")
        return x + drop_path(Mlp(self.size, self.dtype, name="mlp")(y), train=train)


class Attention(nn.Module):
    """Multi-head self-attention (appendix A of the paper)."""

    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Returns each head's mean of the values, concatenated and projected."""
        q, k, v = _split_heads(_dense(3 * x.shape[-1], dtype=self.dtype, name="qkv")(x), self.heads)
        weights = _attention_weights(q, k).astype(v.dtype)
        mixed = jnp.einsum("bhqk,bhke->bhqe", weights, v).swapaxes(1, 2).reshape(x.shape)
        return _dense(x.shape[-1], dtype=self.dtype, name="proj")(mixed)


class Mlp(nn.Module):
    """Two layers with a GELU between them."""

    size: Size
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Applies to each token alone."""
        width = int(x.shape[-1] * self.size.mlp_ratio)
        y = ACTIVATIONS[self.size.act_layer](_dense(width, dtype=self.dtype, name="fc1")(x))
        return _dense(x.shape[-1], dtype=self.dtype, name="fc2")(y)


def attention_maps(
    model: VisionTransformer, variables: Mapping[str, Any], images: Float[Array, "b h w c"]
) -> Float[Array, "b depth heads n n"]:
    """Returns how much each token (rows) attends to each token (columns); rows sum to 1.

    Token 0 is the class token: ``maps[:, -1, :, 0, 1:]`` is what the class token sees of the
    patches in the last block.

    Args:
      model: any ViT.
      variables: its variables.
      images: as for the model, ``[b, *img_size, in_chans]``.
    """
    _, state = model.apply(
        variables,
        images,
        train=False,
        mutable=["intermediates"],
        capture_intermediates=lambda module, _: module.name == "qkv",
    )
    blocks: Any = state["intermediates"]
    maps = []
    for i in range(len(blocks)):
        (qkv,) = blocks[f"blocks_{i}"]["attn"]["qkv"]["__call__"]
        q, k, _ = _split_heads(qkv, model.size.num_heads)
        maps.append(_attention_weights(q, k))
    return jnp.stack(maps, axis=1)


def _split_heads(qkv: Float[Array, "b n c"], heads: int) -> Float[Array, "3 b heads n e"]:
    return qkv.reshape(*qkv.shape[:2], 3, heads, -1).transpose(2, 0, 3, 1, 4)


def _attention_weights(
    q: Float[Array, "b heads n e"], k: Float[Array, "b heads n e"]
) -> Float[Array, "b heads n n"]:
    q = q * q.shape[-1] ** -0.5
    logits = jnp.einsum("bhqe,bhke->bhqk", q, k, preferred_element_type=jnp.float32)
    return nn.softmax(logits)
