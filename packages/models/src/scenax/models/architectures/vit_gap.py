"""Vision Transformers without a class token: the mean of the patches (GAP), registers, SigLIP.

Zhai et al., "Scaling Vision Transformers" (arXiv 2106.04560) pool patches by attention of one
learned query (MAP); so does the image encoder of Zhai et al., "Sigmoid Loss for Language Image
Pre-Training" (SigLIP, arXiv 2303.15343; its second version Tschannen et al., arXiv 2502.14786).
Registers are from Darcet et al., "Vision Transformers Need Registers" (arXiv 2309.16588); sizes
``so150m`` and ``so400m`` from or after Alabdulmohsin et al., "Getting ViT in Shape" (arXiv
2305.13035); weights of ``vit_huge_patch14_gap_224`` and the like from Assran et al. (I-JEPA, arXiv
2301.08243); the others are timm's. Checked against timm 1.0.31: logits, features and feature maps
with equal weights, and parameter counts.

Letters in shapes: b batch, h w image, c channels, n tokens (registers, then the patches row by
row), d width, k classes.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

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
}


@dataclasses.dataclass(frozen=True)
class Size:
    """What differs between these transformers, under timm's names."""

    embed_dim: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4.0
    patch_size: int = 16
    reg_tokens: int = 0
    """Learned tokens that take part in attention, and are not pooled."""
    no_embed_class: bool = False
    """Whether registers are without positions."""
    init_values: float = 0.0
    """Where the scales of the branches start; 0 for no scales."""
    qkv_bias: bool = True
    fc_norm: bool = True
    """Whether the last norm is of what a mean or maximum pooled, and not of the tokens."""
    act_layer: str = "gelu"
    """``"gelu"``, the exact one, or ``"gelu_tanh"``."""

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


def _sized(size: Size, **fields: Any) -> Size:
    return dataclasses.replace(size, **fields)


WEE = Size(256, 14, 4, 5.0, 16, 1, no_embed_class=True, init_values=1e-5)
LITTLE = Size(320, 14, 5, 5.6, 16, 1, no_embed_class=True, init_values=1e-5)
MEDIUM = Size(512, 12, 8, init_values=1e-6, qkv_bias=False, fc_norm=False)
MEDIUM_REG = Size(512, 12, 8, 4.0, 16, 4, no_embed_class=True, init_values=1e-5)
BETWIXT_REG = _sized(MEDIUM_REG, embed_dim=640, num_heads=10)
SO150M = Size(896, 18, 14, 2.572, 16, 4, fc_norm=False)
SO150M2 = Size(832, 21, 13, 34 / 13, 16, 1, init_values=1e-5, qkv_bias=False)
BASE = Size(768, 12, 12)
BASE_16 = Size(768, 12, 16, fc_norm=False)
HUGE = Size(1280, 32, 16, fc_norm=False)
GIANT = Size(1408, 40, 16, 48 / 11, fc_norm=False)
SIGLIP_BASE = Size(768, 12, 12, fc_norm=False)  # 2303.15343
SIGLIP_LARGE = Size(1024, 24, 16, fc_norm=False)
SO400M = Size(1152, 27, 16, 3.7362, fc_norm=False)  # 2305.13035
SO400M_14 = _sized(SO400M, patch_size=14)
GIANTOPT = Size(1536, 40, 16, fc_norm=False, act_layer="gelu_tanh")  # 2502.14786
TANH: Mapping[str, Any] = {"act_layer": "gelu_tanh"}

REPRESENTATIVE = (
    "vit_wee_patch16_reg1_gap_256",
    {"img_size": 32, "patch_size": 8, "embed_dim": 192, "depth": 2, "num_heads": 3},
)
VARIANTS = {
    "vit_wee_patch16_reg1_gap_256": WEE,
    "vit_little_patch16_reg1_gap_256": LITTLE,
    "vit_little_patch16_reg4_gap_256": _sized(LITTLE, reg_tokens=4),
    "vit_medium_patch16_gap_240": MEDIUM,
    "vit_medium_patch16_gap_256": MEDIUM,
    "vit_medium_patch16_gap_384": MEDIUM,
    "vit_medium_patch16_reg1_gap_256": _sized(MEDIUM_REG, reg_tokens=1),
    "vit_medium_patch16_reg4_gap_256": MEDIUM_REG,
    "vit_mediumd_patch16_reg4_gap_256": _sized(MEDIUM_REG, depth=20),
    "vit_mediumd_patch16_reg4_gap_384": _sized(MEDIUM_REG, depth=20),
    "vit_betwixt_patch16_gap_256": _sized(MEDIUM, embed_dim=640, num_heads=10),
    "vit_betwixt_patch16_reg1_gap_256": _sized(BETWIXT_REG, reg_tokens=1),
    "vit_betwixt_patch16_reg4_gap_256": BETWIXT_REG,
    "vit_betwixt_patch16_reg4_gap_384": BETWIXT_REG,
    "vit_base_patch16_gap_224": BASE_16,
    "vit_base_patch16_reg4_gap_256": _sized(BASE, reg_tokens=4, no_embed_class=True),
    "vit_so150m_patch16_reg4_map_256": SO150M,
    "vit_so150m_patch16_reg4_gap_256": SO150M,
    "vit_so150m_patch16_reg4_gap_384": SO150M,
    "vit_so150m2_patch16_reg1_gap_256": SO150M2,
    "vit_so150m2_patch16_reg1_gap_384": SO150M2,
    "vit_so150m2_patch16_reg1_gap_448": SO150M2,
    "vit_huge_patch14_gap_224": _sized(HUGE, patch_size=14),
    "vit_huge_patch16_gap_448": HUGE,
    "vit_giant_patch16_gap_224": GIANT,
    "vit_base_patch32_siglip_256": _sized(SIGLIP_BASE, patch_size=32, **TANH),
    "vit_base_patch32_siglip_gap_256": _sized(SIGLIP_BASE, patch_size=32, **TANH),
    "vit_base_patch16_siglip_224": SIGLIP_BASE,
    "vit_base_patch16_siglip_gap_224": SIGLIP_BASE,
    "vit_base_patch16_siglip_256": SIGLIP_BASE,
    "vit_base_patch16_siglip_gap_256": SIGLIP_BASE,
    "vit_base_patch16_siglip_384": SIGLIP_BASE,
    "vit_base_patch16_siglip_gap_384": SIGLIP_BASE,
    "vit_base_patch16_siglip_512": SIGLIP_BASE,
    "vit_base_patch16_siglip_gap_512": SIGLIP_BASE,
    "vit_large_patch16_siglip_256": SIGLIP_LARGE,
    "vit_large_patch16_siglip_gap_256": SIGLIP_LARGE,
    "vit_large_patch16_siglip_384": SIGLIP_LARGE,
    "vit_large_patch16_siglip_gap_384": SIGLIP_LARGE,
    "vit_large_patch16_siglip_512": _sized(SIGLIP_LARGE, **TANH),
    "vit_large_patch16_siglip_gap_512": _sized(SIGLIP_LARGE, **TANH),
    "vit_so400m_patch14_siglip_224": SO400M_14,
    "vit_so400m_patch14_siglip_gap_224": SO400M_14,
    "vit_so400m_patch14_siglip_378": SO400M_14,
    "vit_so400m_patch14_siglip_gap_378": SO400M_14,
    "vit_so400m_patch14_siglip_384": SO400M_14,
    "vit_so400m_patch14_siglip_gap_384": SO400M_14,
    "vit_so400m_patch14_siglip_gap_448": SO400M_14,
    "vit_so400m_patch14_siglip_gap_896": SO400M_14,
    "vit_so400m_patch16_siglip_256": _sized(SO400M, **TANH),
    "vit_so400m_patch16_siglip_gap_256": _sized(SO400M, **TANH),
    "vit_so400m_patch16_siglip_384": _sized(SO400M, **TANH),
    "vit_so400m_patch16_siglip_gap_384": _sized(SO400M, **TANH),
    "vit_so400m_patch16_siglip_512": _sized(SO400M, **TANH),
    "vit_so400m_patch16_siglip_gap_512": _sized(SO400M, **TANH),
    "vit_giantopt_patch16_siglip_256": GIANTOPT,
    "vit_giantopt_patch16_siglip_gap_256": GIANTOPT,
    "vit_giantopt_patch16_siglip_384": GIANTOPT,
    "vit_giantopt_patch16_siglip_gap_384": GIANTOPT,
}

# timm cuts its normal off at 2, which is 100 standard deviations: not at all.
_normal = nn.initializers.normal(0.02)
_dense = functools.partial(nn.Dense, kernel_init=_normal)


def _norm(x: Array, dtype: Any, name: str) -> Array:
    return LayerNorm(1e-6, dtype, name=name)(x)


def build(name: str, *, features_only: bool = False, **options: Any) -> "PooledTransformer":
    """Returns a variant; see ``scenax.models.create_model``. Its name says how it pools."""
    options.setdefault("global_pool", "avg" if "_gap_" in name else "map")
    return PooledTransformer.of_size(VARIANTS[name], features_only=features_only, **options)


class PooledTransformer(Isotropic, kw_only=True):
    """Patches and registers with learned positions; pre-norm blocks; pooling; one linear layer.

    Raises:
      ValueError: if the patch does not divide the image, or if there is no such pool.
    """

    default_maps: ClassVar = 3

    size: Size
    img_size: tuple[int, int]

    def __post_init__(self) -> None:
        """Checks what a user chose."""
        # SigLIP's so400m with 384 pixels has 27 patches of 14 a side: the last 6 are not looked at.
        _, *published = self.default_cfg.get("input_size") or (0,)
        if list(self.img_size) != published:
            check_patches("ViT", self.size.patch_size, self.img_size)
        super().__post_init__()

    @property
    def pools(self) -> tuple[str, ...]:
        """``"map"``: attention of one query to the patches; ``""``: all tokens, unpooled."""
        return ("avg", "max", "avgmax", "map", "")

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

        registers = size.reg_tokens
        count = rows * cols + (0 if size.no_embed_class else registers)
        positions = self.param("pos_embed", _normal, (1, count, size.embed_dim)).astype(dtype)
        if size.no_embed_class:
            x = x + positions
        if registers:
            start = nn.initializers.normal(1e-6)
            tokens = self.param("reg_token", start, (1, registers, size.embed_dim)).astype(dtype)
            x = jnp.concatenate([jnp.tile(tokens, (batch, 1, 1)), x], axis=1)
        if not size.no_embed_class:
            x = x + positions

        rates = [self.drop_path_of(i, size.depth) for i in range(self.depth_needed)]
        outputs = self.apply_blocks(Block, rates, x, train, size=size, dtype=dtype)
        x = outputs[-1]
        if self.out_indices is not None:
            maps = (outputs[i][:, registers:] for i in self.out_indices)
            return [map_.reshape(batch, rows, cols, size.embed_dim) for map_ in maps]

        norm_last = size.fc_norm and self.global_pool in ("avg", "max", "avgmax")
        x = x if norm_last else _norm(x, dtype, "norm")
        if self.global_pool == "map":
            x = AttentionPool(size, dtype, name="attn_pool")(x[:, registers:])
        elif self.global_pool:
            mean, largest = x[:, registers:].mean(axis=1), x[:, registers:].max(axis=1)
            pooled = {"avg": mean, "max": largest, "avgmax": 0.5 * (mean + largest)}
            x = pooled[self.global_pool]
        x = _norm(x, dtype, "fc_norm") if norm_last else x
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
        y = Attention(size, dtype, name="attn")(_norm(x, dtype, "norm1"))
        y = LayerScale(size.init_values, dtype, name="ls1")(y) if size.init_values else y
        x = x + drop_path(y, train=train)
        y = Mlp(size, dtype, name="mlp")(_norm(x, dtype, "norm2"))
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

    size: Size
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Returns each head's mean of the values, concatenated and projected."""
        width, dense = x.shape[-1], functools.partial(_dense, dtype=self.dtype)
        qkv = dense(3 * width, use_bias=self.size.qkv_bias, name="qkv")(x)
        q, k, v = qkv.reshape(*x.shape[:2], 3, self.size.num_heads, -1).transpose(2, 0, 3, 1, 4)
        return dense(width, name="proj")(_attend(q, k, v))


class Mlp(nn.Module):
    """Two layers with a GELU between them."""

    size: Size
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Applies to each token alone."""
        hidden, dense = (
            int(x.shape[-1] * self.size.mlp_ratio),
            functools.partial(_dense, dtype=self.dtype),
        )
        y = ACTIVATIONS[self.size.act_layer](dense(hidden, name="fc1")(x))
        return dense(x.shape[-1], name="fc2")(y)


class AttentionPool(nn.Module):
    """Attention of one learned query to all patches, and an MLP (2106.04560, section 3.2)."""

    size: Size
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b d"]:
        """Returns one vector."""
        (batch, count, width), heads = x.shape, self.size.num_heads
        dense = functools.partial(_dense, dtype=self.dtype)
        start = nn.initializers.normal(width**-0.5)
        latent = self.param("latent", start, (1, 1, width)).astype(self.dtype)
        q = dense(width, name="q")(jnp.tile(latent, (batch, 1, 1))).reshape(batch, heads, 1, -1)
        kv = dense(2 * width, name="kv")(x).reshape(batch, count, 2, heads, -1)
        k, v = kv.transpose(2, 0, 3, 1, 4)
        y = dense(width, name="proj")(_attend(q, k, v))
        y = y + Mlp(self.size, self.dtype, name="mlp")(_norm(y, self.dtype, "norm"))
        return y[:, 0]


def _attend(
    q: Float[Array, "b heads m e"], k: Float[Array, "b heads n e"], v: Float[Array, "b heads n e"]
) -> Float[Array, "b m d"]:
    q = q * q.shape[-1] ** -0.5
    logits = jnp.einsum("bhqe,bhke->bhqk", q, k, preferred_element_type=jnp.float32)
    mixed = jnp.einsum("bhqk,bhke->bhqe", nn.softmax(logits).astype(v.dtype), v)
    mixed = mixed.swapaxes(1, 2)
    return mixed.reshape(*mixed.shape[:2], -1)
