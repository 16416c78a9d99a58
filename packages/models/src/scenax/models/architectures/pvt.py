"""The first Pyramid Vision Transformer: patches merge from stage to stage.

Wang et al., "Pyramid Vision Transformer: A Versatile Backbone for Dense Prediction without
Convolutions" (arXiv 2102.12122). Keys and values are of a map made smaller by a convolution.
Checked against the authors' release, which timm does not have: logits, features and feature maps
with equal weights, and parameter counts. transformers' has an epsilon of 1e-6 in all norms, where
the authors' norms of patches and of the smaller maps have 1e-5: ``norm_eps`` chooses.

Letters in shapes: b batch, h w map, c channels, n tokens (in the last stage a class token, then
positions row by row), e channels of a head, k classes.
"""

import dataclasses
import functools
import math
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
from scenax.models.layers.layer_norm import LayerNorm


@dataclasses.dataclass(frozen=True)
class Size:
    """What differs between the variants, by stage and under the authors' names."""

    depths: tuple[int, ...]
    embed_dims: tuple[int, ...] = (64, 128, 320, 512)
    num_heads: tuple[int, ...] = (1, 2, 5, 8)
    sr_ratios: tuple[int, ...] = (8, 4, 2, 1)
    """How many times fewer rows and columns the map of keys and values has."""
    mlp_ratios: tuple[float, ...] = (8, 8, 4, 4)
    norm_eps: float = 1e-5
    """Epsilon of the norms of patches and of smaller maps; 1e-6 in transformers."""

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
    "pvt_tiny",
    {
        "img_size": 32,
        "depths": (2, 1),
        "embed_dims": (64, 128),
        "num_heads": (1, 2),
        "sr_ratios": (4, 1),
        "mlp_ratios": (4, 4),
    },
)
VARIANTS = {  # 2102.12122, table 1
    "pvt_tiny": Size((2, 2, 2, 2)),
    "pvt_small": Size((3, 4, 6, 3)),
    "pvt_medium": Size((3, 4, 18, 3)),
    "pvt_large": Size((3, 8, 27, 3)),
}

# The authors cut their normal off at 2, which is 100 standard deviations: not at all.
_normal = nn.initializers.normal(0.02)
_dense = functools.partial(nn.Dense, kernel_init=_normal)


def _norm(x: Array, epsilon: float, dtype: Any, name: str) -> Array:
    return LayerNorm(epsilon, dtype, name=name)(x)


def build(name: str, *, features_only: bool = False, **options: Any) -> "Pvt":
    """Returns a variant; see ``scenax.models.create_model``."""
    return Pvt.of_size(VARIANTS[name], features_only=features_only, **options)


class Pvt(Architecture, kw_only=True):
    """Four stages of patches with positions and blocks, a class token in the last, one layer on it.

    Raises:
      ValueError: if stages differ in number, if the strides do not divide the image, or if there is
        no such pool.
    """

    size: Size
    img_size: tuple[int, int]
    global_pool: str = "token"

    def __post_init__(self) -> None:
        """Checks what a user chose."""
        stride = 2 << len(self.size.depths)
        check_patches("PVT", stride, self.img_size, "choose another img_size")
        super().__post_init__()

    @property
    def pools(self) -> tuple[str, ...]:
        """The class token, or all tokens of the last stage."""
        return ("token", "")

    @property
    def levels(self) -> list[Level]:
        """The output of every stage, before the last norm."""
        return [(c, 4 << i, f"block{i + 1}") for i, c in enumerate(self.size.embed_dims)]

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b k"] | Float[Array, "b n k"] | list[Float[Array, "b _ _ _"]]:
        """Returns logits, features if ``num_classes`` is 0, or maps if ``out_indices`` is set.

        Args:
          x: images, ``[b, *img_size, in_chans]``.
          train: whether to drop; needs the random stream ``"dropout"`` if a rate is not 0.

        Returns:
          ``[b, k]``, or ``[b, c]`` without a head; ``[b, n, ...]`` if ``global_pool`` is ``""``.
          Maps are ``[b, h / stride, w / stride, c]``.

        Raises:
          ValueError: if the images are of another shape.
        """
        self.check_images(x.shape)
        size, dtype, batch = self.size, self.dtype, x.shape[0]
        make_block = remat_block(Block, self.remat, static_argnums=(2, 3))
        past, total, maps = 0, sum(size.depths), []
        tokens = jnp.zeros((batch, 0, size.embed_dims[-1]), dtype)
        for i in range(self.depth_needed):
            width, last = size.embed_dims[i], i == len(size.depths) - 1
            x = PatchEmbed(size, i, dtype, name=f"patch_embed{i + 1}")(x)
            sides = x.shape[1:3]
            tokens = x.reshape(batch, -1, width)
            if last:
                token = self.param("cls_token", _normal, (1, 1, width)).astype(dtype)
                tokens = jnp.concatenate([jnp.tile(token, (batch, 1, 1)), tokens], axis=1)
            shape = (1, tokens.shape[1], width)
            tokens = tokens + self.param(f"pos_embed{i + 1}", _normal, shape).astype(dtype)
            for j in range(size.depths[i]):
                rate, name = self.drop_path_of(past + j, total), f"block{i + 1}_{j}"
                tokens = make_block(size, i, rate, dtype, name=name)(tokens, sides, train)
            past += size.depths[i]
            x = tokens[:, int(last) :].reshape(batch, *sides, width)
            maps.append(x)
        if self.out_indices is not None:
            return [maps[i] for i in self.out_indices]
        x = _norm(tokens, 1e-6, dtype, "norm")
        x = x[:, 0] if self.global_pool == "token" else x
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return _dense(self.num_classes, dtype=dtype, name="head")(x) if self.num_classes else x


class PatchEmbed(nn.Module):
    """Cuts a map into patches, 4 x 4 at first and 2 x 2 later; projects and norms each."""

    size: Size
    index: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b rows cols d"]:
        """Returns the map of patches."""
        width, patch = self.size.embed_dims[self.index], (2, 2) if self.index else (4, 4)
        project = functools.partial(Conv, padding="VALID", dtype=self.dtype, name="proj")
        return _norm(project(width, patch, patch)(x), self.size.norm_eps, self.dtype, "norm")


class Block(nn.Module):
    """Attention to a smaller map, then an MLP, each normed before and added."""

    size: Size
    index: int
    drop_path: float
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n c"],
        sides: tuple[int, ...],
        train: bool,  # noqa: FBT001 (nn.remat would trace it as a keyword argument)
    ) -> Float[Array, "b n c"]:
        """Returns the tokens after the block; ``sides`` are those of the map they make."""
        dtype, drop_path = self.dtype, DropPath(self.drop_path)
        attention = Attention(self.size, self.index, dtype, name="attn")
        x = x + drop_path(attention(_norm(x, 1e-6, dtype, "norm1"), sides), train=train)
        hidden = int(x.shape[-1] * self.size.mlp_ratios[self.index])
        mlp = Mlp(hidden, dtype, name="mlp")
        return x + drop_path(mlp(_norm(x, 1e-6, dtype, "norm2")), train=train)


class Attention(nn.Module):
    """Multi-head attention of all tokens to those of a smaller map (section 3.3)."""

    size: Size
    index: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"], sides: tuple[int, ...]) -> Float[Array, "b n c"]:
        """Returns each head's mean of the values, concatenated and projected."""
        (batch, _, width), heads = x.shape, self.size.num_heads[self.index]
        ratio, dense = self.size.sr_ratios[self.index], functools.partial(_dense, dtype=self.dtype)
        q = dense(width, name="q")(x).reshape(batch, -1, heads, width // heads)
        if ratio > 1:
            y = x.reshape(batch, *sides, width)
            bound = math.sqrt(1 / (3 * ratio * ratio * width))
            init = nn.initializers.normal(bound)
            conv = functools.partial(Conv, padding="VALID", kernel_init=init, name="sr")
            y = conv(width, (ratio, ratio), (ratio, ratio), dtype=self.dtype)(y)
            x = _norm(y.reshape(batch, -1, width), self.size.norm_eps, self.dtype, "norm")
        kv = dense(2 * width, name="kv")(x).reshape(batch, -1, 2, heads, width // heads)
        q, k, v = q * q.shape[-1] ** -0.5, kv[:, :, 0], kv[:, :, 1]
        logits = jnp.einsum("bqhe,bkhe->bhqk", q, k, preferred_element_type=jnp.float32)
        y = jnp.einsum("bhqk,bkhe->bqhe", nn.softmax(logits).astype(v.dtype), v)
        return dense(width, name="proj")(y.reshape(batch, -1, width))


class Mlp(nn.Module):
    """Two layers with the exact GELU between them."""

    hidden: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        """Applies to each token alone."""
        y = nn.gelu(_dense(self.hidden, dtype=self.dtype, name="fc1")(x), approximate=False)
        return _dense(x.shape[-1], dtype=self.dtype, name="fc2")(y)
