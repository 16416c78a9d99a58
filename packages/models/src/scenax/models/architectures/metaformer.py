"""MetaFormer: one frame for token mixers, and PoolFormer, ConvFormer and CAFormer in it.

Yu et al., "MetaFormer Is Actually What You Need for Vision" (arXiv 2111.11418: PoolFormer) and
"MetaFormer Baselines for Vision" (arXiv 2210.13452: the others). Checked against timm 1.0.31:
logits, features and feature maps with equal weights, parameter counts, and ``default_cfg``; with
``head_norm="group"`` against the PoolFormer of transformers 5.23, which computes what the authors'
code does; and hybrids of mixers against the parameter counts of the first paper's table 5.

Letters in shapes: b batch, h w map, c channels, n tokens (positions row by row), k classes.
"""

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from scenax.models.architectures._architecture import Architecture, Level, remat_block
from scenax.models.architectures._token_mixers import HEAD_DIM, TOKEN_MIXERS, StarRelu
from scenax.models.layers.conv import Conv
from scenax.models.layers.drop_path import DropPath
from scenax.models.layers.global_pool import global_pool
from scenax.models.layers.layer_norm import LayerNorm


@dataclasses.dataclass(frozen=True)
class Size:
    """Widths, depths and mixers by stage, and in which paper's way a block is made."""

    depths: tuple[int, ...]
    dims: tuple[int, ...]
    token_mixers: str | tuple[str, ...] = "pooling"
    """A key of ``TOKEN_MIXERS``: ``"identity"``, ``"pooling"``, ``"attention"``, ``"sep_conv"`` or
    ``"spatial_mlp"`` (whose weights depend on the image's size); or one for each stage."""
    paper: str = "2210.13452"
    """``"2111.11418"``: GELU, biases, layer scale, no norm between stages; ``"2210.13452"``:
    StarReLU, no biases, scaled residuals in the last two stages, norms between stages."""
    norm: str = "layer"
    """``"layer"``, over the channels; or ``"group"``, over the whole map."""
    layer_scale: float = 1e-5
    """Initial scale of the branches of 2111.11418."""
    mlp_head: bool = False
    """Whether the head is an MLP, and not one linear layer."""

    @property
    def mixers(self) -> tuple[str, ...]:
        """The mixer of each stage."""
        if isinstance(self.token_mixers, str):
            return (self.token_mixers,) * len(self.depths)
        return self.token_mixers


PAPERS = ("2111.11418", "2210.13452")
NORMS = ("layer", "group")
HEAD_NORMS = ("pooled_layer", "group")

S = (64, 128, 320, 512)
M = (96, 192, 384, 768)
M_2 = (96, 192, 384, 576)  # 2210.13452, table 1
B = (128, 256, 512, 768)
CONV = "sep_conv"
CONV_ATTENTION = ("sep_conv", "sep_conv", "attention", "attention")


def _pool(depths: tuple[int, ...], dims: tuple[int, ...], layer_scale: float) -> Size:
    return Size(depths, dims, paper="2111.11418", norm="group", layer_scale=layer_scale)


REPRESENTATIVE = ("poolformer_s12", {"depths": (1, 1, 1, 1), "dims": (32, 64, 96, 96)})
VARIANTS = {
    "poolformer_s12": _pool((2, 2, 6, 2), S, 1e-5),  # 2111.11418, table 1
    "poolformer_s24": _pool((4, 4, 12, 4), S, 1e-5),
    "poolformer_s36": _pool((6, 6, 18, 6), S, 1e-6),
    "poolformer_m36": _pool((6, 6, 18, 6), M, 1e-6),
    "poolformer_m48": _pool((8, 8, 24, 8), M, 1e-6),
    "poolformerv2_s12": Size((2, 2, 6, 2), S, norm="group"),  # 2210.13452
    "poolformerv2_s24": Size((4, 4, 12, 4), S, norm="group"),
    "poolformerv2_s36": Size((6, 6, 18, 6), S, norm="group"),
    "poolformerv2_m36": Size((6, 6, 18, 6), M, norm="group"),
    "poolformerv2_m48": Size((8, 8, 24, 8), M, norm="group"),
    "convformer_s18": Size((3, 3, 9, 3), S, CONV, mlp_head=True),  # 2210.13452, table 1
    "convformer_s36": Size((3, 12, 18, 3), S, CONV, mlp_head=True),
    "convformer_m36": Size((3, 12, 18, 3), M_2, CONV, mlp_head=True),
    "convformer_b36": Size((3, 12, 18, 3), B, CONV, mlp_head=True),
    "caformer_s18": Size((3, 3, 9, 3), S, CONV_ATTENTION, mlp_head=True),
    "caformer_s36": Size((3, 12, 18, 3), S, CONV_ATTENTION, mlp_head=True),
    "caformer_m36": Size((3, 12, 18, 3), M_2, CONV_ATTENTION, mlp_head=True),
    "caformer_b36": Size((3, 12, 18, 3), B, CONV_ATTENTION, mlp_head=True),
}

# timm cuts its normal off at 2, which is 100 standard deviations: not at all.
_dense = functools.partial(nn.Dense, kernel_init=nn.initializers.normal(0.02))
_conv = functools.partial(Conv, kernel_init=nn.initializers.normal(0.02))


def build(name: str, *, features_only: bool = False, **options: Any) -> "MetaFormer":
    """Returns a variant; see ``scenax.models.create_model``."""
    return MetaFormer.of_size(VARIANTS[name], features_only=features_only, **options)


class MetaFormer(Architecture, kw_only=True):
    """A stem and four stages of blocks, each halving the map; pooling, a norm and a head.

    Raises:
      ValueError: if stages differ in number, or if there is no such mixer, paper, norm or pool.
    """

    size: Size
    head_norm: str = "pooled_layer"
    """``"pooled_layer"``: a layer norm of what was pooled, as in timm; ``"group"``: of PoolFormer's
    authors, a group norm of the map, which is pooled then. The same weights give other outputs."""

    def __post_init__(self) -> None:
        """Checks what a user chose."""
        size = self.size
        if not len(size.depths) == len(size.dims) == len(size.mixers):
            raise ValueError(
                "depths, dims and token_mixers need one entry for each stage, got "
                f"{size.depths}, {size.dims} and {size.token_mixers}."
            )
        chosen = {f"token_mixers[{i}]": (m, tuple(TOKEN_MIXERS)) for i, m in enumerate(size.mixers)}
        chosen |= {"paper": (size.paper, PAPERS), "norm": (size.norm, NORMS)}
        chosen |= {"head_norm": (self.head_norm, HEAD_NORMS)}
        for option, (value, known) in chosen.items():
            if value not in known:
                raise ValueError(f"{option} has to be one of {known}, got {value!r}.")
        for width, mixer in zip(size.dims, size.mixers, strict=True):
            if mixer == "attention" and width % HEAD_DIM:
                raise ValueError(f"Attention needs dims that divide by {HEAD_DIM}, got {width}.")
        super().__post_init__()

    @property
    def pools(self) -> tuple[str, ...]:
        """Ways to make one vector of the map or tokens."""
        return ("avg", "max", "avgmax", "")

    @property
    def levels(self) -> list[Level]:
        """The output of every stage."""
        return [(c, 4 << i, f"stages.{i}") for i, c in enumerate(self.size.dims)]

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b k"] | Float[Array, "b rows cols k"] | list[Float[Array, "b _ _ _"]]:
        """Returns logits, features if ``num_classes`` is 0, or maps if ``out_indices`` is set.

        Args:
          x: images, ``[b, h, w, in_chans]``.
          train: whether to drop; needs the random stream ``"dropout"`` if a rate is not 0.

        Returns:
          ``[b, k]``, or ``[b, c]`` without a head; ``[b, h / 32, w / 32, ...]`` if ``global_pool``
          is ``""``. Maps are ``[b, h / stride, w / stride, c]``.
        """
        self.check_images(x.shape)
        size, past, total = self.size, 0, sum(self.size.depths)
        x = Downsample(size.dims[0], 7, 4, 2, size.paper, self.dtype, name="stem")(x)
        maps = []
        for i in range(self.depth_needed):
            rates = tuple(self.drop_path_of(past + j, total) for j in range(size.depths[i]))
            past += size.depths[i]
            x = Stage(size, i, rates, self.dtype, remat=self.remat, name=f"stages_{i}")(x, train)
            if self.out_indices is not None and i in self.out_indices:
                maps.append(x)
        if self.out_indices is not None:
            return maps
        head = functools.partial(Head, self.num_classes, self.global_pool, self.head_norm)
        drop = nn.Dropout(self.drop_rate, deterministic=not train)
        return head(size.mlp_head, self.dtype, name="head")(x, drop)


class Downsample(nn.Module):
    """A convolution with a stride; the second paper norms after the stem, and before the others."""

    width: int
    kernel: int
    stride: int
    padding: int
    paper: str
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b rows cols d"]:
        """Returns the smaller map."""
        normed = self.paper == "2210.13452"
        if normed and self.stride == 2:
            x = _norm(x, "layer", self.paper, self.dtype, "norm")
        sides, strides = (self.kernel, self.kernel), (self.stride, self.stride)
        x = _conv(self.width, sides, strides, self.padding, dtype=self.dtype, name="conv")(x)
        return (
            _norm(x, "layer", self.paper, self.dtype, "norm") if normed and self.stride == 4 else x
        )


class Stage(nn.Module):
    """Blocks at one width; before them the map is halved if the width changes."""

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
        width = self.size.dims[self.index]
        if x.shape[-1] != width:
            x = Downsample(width, 3, 2, 1, self.size.paper, self.dtype, name="downsample")(x)
        make_block = remat_block(Block, self.remat)
        for j, rate in enumerate(self.rates):
            x = make_block(self.size, self.index, rate, self.dtype, name=f"blocks_{j}")(x, train)
        return x


class Block(nn.Module):
    """Equations 2 and 3 of the first paper: a token mixer, then an MLP of each position."""

    size: Size
    index: int
    drop_path: float
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        train: bool,  # noqa: FBT001 (nn.remat would trace it as a keyword argument)
    ) -> Float[Array, "b h w c"]:
        """Returns the map after the block."""
        size, mixer = self.size, self.size.mixers[self.index]
        first = size.paper == "2111.11418"
        drop_path = DropPath(self.drop_path)
        # As in timm: linear layers after attention, 1 x 1 convolutions after the others.
        parts = {
            "1": TOKEN_MIXERS[mixer](self.dtype, name="token_mixer"),
            "2": Mlp(mixer != "attention", size.paper, self.dtype, name="mlp"),
        }
        for part, branch in parts.items():
            y = branch(_norm(x, size.norm, size.paper, self.dtype, f"norm{part}"))
            if first:
                y = Scale(size.layer_scale, self.dtype, name=f"layer_scale{part}")(y)
            if not first and self.index >= 2:
                x = Scale(1.0, self.dtype, name=f"res_scale{part}")(x)
            x = x + drop_path(y, train=train)
        return x


class Mlp(nn.Module):
    """Two layers of each position, four times as wide between them."""

    conv: bool
    paper: str
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns the map."""
        first = self.paper == "2111.11418"
        make: Any = functools.partial(_conv, kernel_size=(1, 1)) if self.conv else _dense
        layer = functools.partial(make, use_bias=first, dtype=self.dtype)
        y = layer(4 * x.shape[-1], name="fc1")(x)
        y = nn.gelu(y, approximate=False) if first else StarRelu(self.dtype, name="act")(y)
        return layer(x.shape[-1], name="fc2")(y)


class Scale(nn.Module):
    """A learned factor of each channel."""

    start: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns the scaled map."""
        scale = self.param("scale", nn.initializers.constant(self.start), (x.shape[-1],))
        return x * scale.astype(self.dtype).reshape(1, 1, 1, -1)


class Head(nn.Module):
    """A norm, pooling and the classifier."""

    num_classes: int
    pool: str
    norm: str
    mlp: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], drop: nn.Dropout) -> Float[Array, "b ... k"]:
        """Returns logits, or features if there are no classes."""
        if self.norm == "group":
            x = global_pool(_norm(x, "group", PAPERS[0], self.dtype, "norm"), self.pool)
        else:
            x = LayerNorm(1e-6, self.dtype, name="norm")(global_pool(x, self.pool))
        if self.num_classes and self.mlp:
            return MlpClassifier(self.num_classes, self.dtype, name="fc")(x, drop)
        x = drop(x)
        return _dense(self.num_classes, dtype=self.dtype, name="fc")(x) if self.num_classes else x


class MlpClassifier(nn.Module):
    """A squared ReLU and a norm between two layers."""

    num_classes: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b ... c"], drop: nn.Dropout) -> Float[Array, "b ... k"]:
        """Returns logits."""
        y = jnp.square(nn.relu(_dense(4 * x.shape[-1], dtype=self.dtype, name="fc1")(x)))
        y = drop(LayerNorm(1e-6, self.dtype, name="norm")(y))
        return _dense(self.num_classes, dtype=self.dtype, name="fc2")(y)


def _norm(x: Array, kind: str, paper: str, dtype: Any, name: str) -> Array:
    # In float32, with the exact variance: flax's default subtracts two large numbers.
    first = paper == "2111.11418"
    options: Any = {"epsilon": 1e-5 if first else 1e-6, "use_bias": first, "name": name}
    kinds = {"group": functools.partial(nn.GroupNorm, num_groups=1), "layer": nn.LayerNorm}
    norm = kinds[kind](use_fast_variance=False, **options)
    return norm(x.astype(jnp.float32)).astype(dtype)
