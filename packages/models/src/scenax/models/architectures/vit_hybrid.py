"""Hybrids: a Vision Transformer on the map of a ResNet, whose weights are standardised.

Dosovitskiy et al., "An Image is Worth 16x16 Words" (arXiv 2010.11929, section 3.1), sizes and
weights from Steiner et al., "How to train your ViT?" (arXiv 2106.10270). The ResNet is that of
Kolesnikov et al., "Big Transfer" (arXiv 1912.11370), with norms behind the convolutions, cut off
before its pool; weight standardisation from Qiao et al. (arXiv 1903.10520). Checked against timm
1.0.31: logits, features and feature maps with equal weights, and parameter counts. timm's tables of
multiply-adds count norms, those of weights as well: 3.56 billion for ``vit_small_r26_s32_224``,
where products and convolutions are 3.46.

Letters in shapes: b batch, h w image or map, c channels, n tokens (class token, then the positions
of the map row by row), d width, k classes.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from scenax.models.architectures._architecture import Isotropic, Level, check_patches, remat_block
from scenax.models.layers.conv import Conv, convolve
from scenax.models.layers.drop_path import DropPath
from scenax.models.layers.layer_norm import LayerNorm


@dataclasses.dataclass(frozen=True)
class Size:
    """A ResNet's and a transformer's sizes, under timm's names."""

    embed_dim: int
    depth: int
    num_heads: int
    layers: tuple[int, ...] = ()
    """Blocks of the ResNet's stages; none leaves its stem."""
    channels: tuple[int, ...] = (256, 512, 1024, 2048)
    """Output channels of its stages."""
    patch_size: int = 1
    """Positions of its map, in a row, that make a token."""

    def __post_init__(self) -> None:
        """Checks what a user chose."""
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"embed_dim has to be a multiple of num_heads, got {self.embed_dim} and "
                f"{self.num_heads}."
            )

    @property
    def stride(self) -> int:
        """Pixels, in a row, that make a token."""
        return self.patch_size * (2 << max(len(self.layers), 1))


TINY = Size(192, 12, 3, patch_size=8)
SMALL = Size(384, 12, 6, (2, 2, 2, 2))
BASE_26 = Size(768, 12, 12, (2, 2, 2, 2))
BASE_50 = Size(768, 12, 12, (3, 4, 9))  # The last two stages in one, as in 2010.11929.
LARGE = Size(1024, 24, 16, (3, 4, 6, 3))

REPRESENTATIVE = (
    "vit_tiny_r_s16_p8_224",
    {"img_size": 32, "layers": (1,), "channels": (128,), "patch_size": 2, "depth": 2},
)
VARIANTS = {
    "vit_tiny_r_s16_p8_224": TINY,
    "vit_tiny_r_s16_p8_384": TINY,
    "vit_small_r26_s32_224": SMALL,
    "vit_small_r26_s32_384": SMALL,
    "vit_base_r26_s32_224": BASE_26,
    "vit_base_r50_s16_224": BASE_50,
    "vit_base_r50_s16_384": BASE_50,
    "vit_large_r50_s32_224": LARGE,
    "vit_large_r50_s32_384": LARGE,
}

# timm cuts its normal off at 2, which is 100 standard deviations: not at all.
_normal = nn.initializers.normal(0.02)
_dense = functools.partial(nn.Dense, kernel_init=_normal)


def build(name: str, *, features_only: bool = False, **options: Any) -> "HybridTransformer":
    """Returns a variant; see ``scenax.models.create_model``."""
    return HybridTransformer.of_size(VARIANTS[name], features_only=features_only, **options)


class HybridTransformer(Isotropic, kw_only=True):
    """A ResNet's map as tokens, a class token and learned positions; pre-norm blocks; one layer.

    The final norm is ``norm``, over the tokens, for the pools ``"token"`` and ``""``, and
    ``fc_norm``, after pooling the others, for the others.

    Raises:
      ValueError: if the stride does not divide the image, or if there is no such pool.
    """

    default_maps: ClassVar = 3

    size: Size
    img_size: tuple[int, int]
    global_pool: str = "token"

    def __post_init__(self) -> None:
        """Checks what a user chose."""
        check_patches("Hybrid ViT", self.size.stride, self.img_size, "choose another img_size")
        super().__post_init__()

    @property
    def pools(self) -> tuple[str, ...]:
        """The class token, pools of the other tokens, or all tokens."""
        return ("token", "avg", "max", "avgmax", "")

    @property
    def levels(self) -> list[Level]:
        """The output of every block of the transformer, before any norm."""
        size = self.size
        return [(size.embed_dim, size.stride, f"blocks.{i}") for i in range(size.depth)]

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
          Maps are ``[b, h / stride, w / stride, d]``, before any norm.

        Raises:
          ValueError: if the images are of another shape.
        """
        self.check_images(x.shape)
        size, batch, dtype = self.size, x.shape[0], self.dtype
        x = HybridEmbed(size, self.remat, dtype, name="patch_embed")(x)
        rows, cols = x.shape[1:3]
        token = self.param("cls_token", nn.initializers.normal(1e-6), (1, 1, size.embed_dim))
        tokens = [jnp.tile(token.astype(dtype), (batch, 1, 1)), x.reshape(batch, rows * cols, -1)]
        shape = (1, 1 + rows * cols, size.embed_dim)
        positions = self.param("pos_embed", _normal, shape).astype(dtype)
        x = jnp.concatenate(tokens, axis=1) + positions

        rates = [self.drop_path_of(i, size.depth) for i in range(self.depth_needed)]
        outputs = self.apply_blocks(Block, rates, x, train, heads=size.num_heads, dtype=dtype)
        x = outputs[-1]
        if self.out_indices is not None:
            maps = (outputs[i][:, 1:] for i in self.out_indices)
            return [map_.reshape(batch, rows, cols, size.embed_dim) for map_ in maps]

        if self.global_pool in ("token", ""):
            x = LayerNorm(1e-6, dtype, name="norm")(x)
            x = x[:, 0] if self.global_pool == "token" else x
        else:
            mean, largest = x[:, 1:].mean(axis=1), x[:, 1:].max(axis=1)
            pooled = {"avg": mean, "max": largest, "avgmax": 0.5 * (mean + largest)}
            x = LayerNorm(1e-6, dtype, name="fc_norm")(pooled[self.global_pool])
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return _dense(self.num_classes, dtype=dtype, name="head")(x) if self.num_classes else x


class HybridEmbed(nn.Module):
    """A ResNet without its pool, and a projection of patches of its map."""

    size: Size
    remat: bool | str
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b rows cols d"]:
        """Returns the map of tokens."""
        size, patch = self.size, (self.size.patch_size, self.size.patch_size)
        backbone = ResNet if size.layers else Stem
        fields: dict[str, Any] = {"dtype": self.dtype, "name": "backbone"}
        if size.layers:
            fields |= {"size": size, "remat": self.remat}
        x = backbone(**fields)(x)
        project = functools.partial(Conv, padding="VALID", dtype=self.dtype, name="proj")
        return project(size.embed_dim, patch, patch)(x)


class Stem(nn.Module):
    """A 7x7 convolution and a pool, of stride 2 each."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b rows cols d"]:
        """Returns the map."""
        x = StdConv(64, 7, 2, self.dtype, name="conv")(x)
        x = nn.relu(_group_norm(x, self.dtype, "norm"))
        return nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")


class ResNet(nn.Module):
    """A stem and stages of blocks."""

    size: Size
    remat: bool | str
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b rows cols d"]:
        """Returns the last stage's map."""
        x = Stem(self.dtype, name="stem")(x)
        for i in range(len(self.size.layers)):
            x = Stage(self.size, i, self.remat, self.dtype, name=f"stages_{i}")(x)
        return x


class Stage(nn.Module):
    """Blocks of one width; all but the first stage halve the map."""

    size: Size
    index: int
    remat: bool | str
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b rows cols d"]:
        """Returns the map after the stage."""
        make_block = remat_block(Bottleneck, self.remat, static_argnums=())
        for j in range(self.size.layers[self.index]):
            width, stride = self.size.channels[self.index], 1 if j or not self.index else 2
            block = make_block(width, stride, self.dtype, first=not j, name=f"blocks_{j}")
            x = block(x)
        return x


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with norms behind, beside a shortcut."""

    width: int
    stride: int
    dtype: Any
    first: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b rows cols d"]:
        """Returns the map after the block."""
        inner, dtype = self.width // 4, self.dtype
        y = StdConv(inner, 1, 1, dtype, name="conv1")(x)
        y = nn.relu(_group_norm(y, dtype, "norm1"))
        y = StdConv(inner, 3, self.stride, dtype, name="conv2")(y)
        y = nn.relu(_group_norm(y, dtype, "norm2"))
        y = StdConv(self.width, 1, 1, dtype, name="conv3")(y)
        y = _group_norm(y, dtype, "norm3")
        if self.first:
            x = Shortcut(self.width, self.stride, dtype, name="downsample")(x)
        return nn.relu(x + y)


class Shortcut(nn.Module):
    """A 1x1 convolution and a norm."""

    width: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b rows cols d"]:
        """Returns the map, of a ``stride``-th of the sides."""
        x = StdConv(self.width, 1, self.stride, self.dtype, name="conv")(x)
        return _group_norm(x, self.dtype, "norm")


class StdConv(nn.Module):
    """A convolution with weights of mean 0 and variance 1 for each output, padded as TensorFlow."""

    features: int
    kernel_size: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b rows cols d"]:
        """Returns the map, of a ``stride``-th of the sides."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        kernel = kernel - kernel.mean(axis=(0, 1, 2), keepdims=True)
        variance = jnp.square(kernel).mean(axis=(0, 1, 2), keepdims=True)
        kernel = (kernel * jax.lax.rsqrt(variance + 1e-8)).astype(self.dtype)
        return convolve(x.astype(self.dtype), kernel, self.stride)


def _group_norm(x: Array, dtype: Any, name: str) -> Array:
    norm = nn.GroupNorm(num_groups=32, epsilon=1e-5, use_fast_variance=False, name=name)
    return norm(x.astype(jnp.float32)).astype(dtype)


class Block(nn.Module):
    """Attention, then an MLP, each normed before and added."""

    heads: int
    drop_path: float | Float[Array, ""]
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        train: bool,  # noqa: FBT001 (nn.remat would trace it as a keyword argument)
    ) -> Float[Array, "b n d"]:
        """Returns the tokens after the block."""
        dtype, drop_path = self.dtype, DropPath(self.drop_path)
        y = LayerNorm(1e-6, dtype, name="norm1")(x)
        x = x + drop_path(Attention(self.heads, dtype, name="attn")(y), train=train)
        y = LayerNorm(1e-6, dtype, name="norm2")(x)
        return x + drop_path(Mlp(dtype, name="mlp")(y), train=train)


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
