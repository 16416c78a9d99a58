"""ConvNeXt and ConvNeXt V2.

Liu et al., "A ConvNet for the 2020s" (arXiv 2201.03545); Woo et al., "ConvNeXt V2" (arXiv
2301.00808), whose blocks have a global response norm in place of the layer scale. Sizes atto to
nano of the first, and the variants ``ols`` (overlapping stem), ``hnf`` (head norm first), ``rms``
and ``mlp`` are timm's. Weights tagged ``clip`` are from Cherti et al. (arXiv 2212.07143). Checked
against timm 1.0.31: logits, features, feature maps, parameter counts, and ``default_cfg``.

Letters in shapes: b batch, h w image or map, c d channels, k classes.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from scenax.models.architectures._architecture import Architecture, Level, remat_block
from scenax.models.layers.conv import Conv
from scenax.models.layers.drop_path import DropPath
from scenax.models.layers.global_pool import POOLS, global_pool
from scenax.models.layers.layer_norm import LayerNorm

STEMS = ("patch", "overlap", "overlap_tiered")
NORMS = ("layernorm", "rmsnorm")
_gelu = functools.partial(nn.gelu, approximate=False)
ACTIVATIONS = {"gelu": _gelu, "gelu_tanh": nn.gelu, "silu": nn.silu}


@dataclasses.dataclass(frozen=True)
class Size:
    """What differs between ConvNeXts, under timm's names."""

    depths: Sequence[int]
    """Blocks of each stage."""
    dims: Sequence[int]
    """Channels of each stage."""
    kernel_sizes: int | Sequence[int] = 7
    """Of the depthwise convolution, for all stages or for each."""
    stem_type: str = "patch"
    """``"patch"``: one convolution of size and stride 4; others: two overlapping ones."""
    norm_layer: str = "layernorm"
    norm_eps: float = 1e-6
    act_layer: str = "gelu"
    ls_init_value: float = 1e-6
    """Where the scales of the branches start; 0 for no scales."""
    use_grn: bool = False
    """Whether a global response norm stands in the MLP."""
    conv_mlp: bool = False
    """Whether checkpoints hold the MLP's layers as 1x1 convolutions."""
    head_norm_first: bool = False
    """Whether the last norm comes before the pool."""
    head_hidden_size: int = 0
    """Width of a layer in front of the classifier; 0 for none."""

    def __post_init__(self) -> None:
        """Makes lists hashable, and checks what a user chose."""
        for field in ("depths", "dims", "kernel_sizes"):
            value = getattr(self, field)
            object.__setattr__(self, field, value if isinstance(value, int) else tuple(value))
        names = {"stem_type": STEMS, "norm_layer": NORMS, "act_layer": (*ACTIVATIONS,)}
        for field, known in names.items():
            if (got := getattr(self, field)) not in known:
                raise ValueError(f"{field} has to be one of {known}, got {got!r}.")
        if self.head_norm_first and self.head_hidden_size:
            raise ValueError("There is no head_hidden_size with head_norm_first=True.")


Fields = dict[str, Any]
TEST = Size((1, 2, 4, 2), (24, 32, 48, 64), norm_eps=1e-5, act_layer="gelu_tanh")  # timm's
TEST2 = Size((1, 1, 1, 1), (32, 64, 96, 128), norm_eps=1e-5, act_layer="gelu_tanh")
TEST3 = Size((1, 1, 1, 1), (32, 64, 96, 128), (7, 5, 5, 3), norm_eps=1e-5, act_layer="silu")
ATTO: Fields = {"depths": (2, 2, 6, 2), "dims": (40, 80, 160, 320)}  # 2301.00808, as are the next
FEMTO: Fields = {"depths": (2, 2, 6, 2), "dims": (48, 96, 192, 384)}
PICO: Fields = {"depths": (2, 2, 6, 2), "dims": (64, 128, 256, 512)}
NANO: Fields = {"depths": (2, 2, 8, 2), "dims": (80, 160, 320, 640)}
TINY: Fields = {"depths": (3, 3, 9, 3), "dims": (96, 192, 384, 768)}  # 2201.03545
SMALL: Fields = {"depths": (3, 3, 27, 3), "dims": (96, 192, 384, 768)}
BASE: Fields = {"depths": (3, 3, 27, 3), "dims": (128, 256, 512, 1024)}
LARGE: Fields = {"depths": (3, 3, 27, 3), "dims": (192, 384, 768, 1536)}
XLARGE: Fields = {"depths": (3, 3, 27, 3), "dims": (256, 512, 1024, 2048)}
HUGE: Fields = {"depths": (3, 3, 27, 3), "dims": (352, 704, 1408, 2816)}  # 2301.00808
XXLARGE: Fields = {"depths": (3, 4, 30, 3), "dims": (384, 768, 1536, 3072), "norm_eps": 1e-5}
CONV: Fields = {"conv_mlp": True}
OVERLAP: Fields = {"conv_mlp": True, "stem_type": "overlap"}
TIERED: Fields = {"conv_mlp": True, "stem_type": "overlap_tiered"}
V2: Fields = {"use_grn": True, "ls_init_value": 0.0}

REPRESENTATIVE = ("convnext_atto", {"depths": (1, 1), "dims": (40, 80), "kernel_sizes": 7})
VARIANTS = {
    "test_convnext2": TEST2,
    "test_convnext": TEST,
    "test_convnext3": TEST3,
    "convnext_atto": Size(**ATTO, **CONV),
    "convnext_atto_ols": Size(**ATTO, **TIERED),
    "convnext_atto_rms": Size(**ATTO, **CONV, norm_layer="rmsnorm"),
    "convnext_femto": Size(**FEMTO, **CONV),
    "convnext_femto_ols": Size(**FEMTO, **TIERED),
    "convnext_pico": Size(**PICO, **CONV),
    "convnext_pico_ols": Size(**PICO, **TIERED),
    "convnext_nano": Size(**NANO, **CONV),
    "convnext_nano_ols": Size(**NANO, **OVERLAP),
    "convnext_tiny": Size(**TINY),
    "convnext_tiny_hnf": Size(**TINY, **CONV, head_norm_first=True),
    "convnext_small": Size(**SMALL),
    "convnext_base": Size(**BASE),
    "convnext_large": Size(**LARGE),
    "convnext_large_mlp": Size(**LARGE, head_hidden_size=1536),
    "convnext_xlarge": Size(**XLARGE),
    "convnext_xxlarge": Size(**XXLARGE),
    "convnextv2_atto": Size(**ATTO, **CONV, **V2),
    "convnextv2_femto": Size(**FEMTO, **CONV, **V2),
    "convnextv2_pico": Size(**PICO, **CONV, **V2),
    "convnextv2_nano": Size(**NANO, **CONV, **V2),
    "convnextv2_tiny": Size(**TINY, **V2),
    "convnextv2_small": Size(**SMALL, **V2),
    "convnextv2_base": Size(**BASE, **V2),
    "convnextv2_large": Size(**LARGE, **V2),
    "convnextv2_huge": Size(**HUGE, **V2),
}

# timm cuts its normal off at 2, which is 100 standard deviations: not at all.
_conv = functools.partial(Conv, kernel_init=nn.initializers.normal(0.02))
_dense = functools.partial(nn.Dense, kernel_init=nn.initializers.normal(0.02))


def build(name: str, *, features_only: bool = False, **options: Any) -> "ConvNeXt":
    """Returns a variant; see ``scenax.models.create_model``."""
    return ConvNeXt.of_size(VARIANTS[name], features_only=features_only, **options)


class ConvNeXt(Architecture, kw_only=True):
    """A stem of stride 4, stages of depthwise and pointwise layers, pool, norm and a linear layer.

    Raises:
      ValueError: if there is no such pool, stem, norm or activation.
    """

    size: Size

    @property
    def pools(self) -> tuple[str, ...]:
        """Ways to pool; a norm that comes after the pool knows the channels of one map only."""
        return POOLS if self.size.head_norm_first else ("avg", "max", "avgmax", "")

    @property
    def levels(self) -> list[Level]:
        """The output of every stage, before any norm."""
        return [(c, 4 << i, f"stages.{i}") for i, c in enumerate(self.size.dims)]

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b ..."] | list[Float[Array, "b rows cols d"]]:
        """Returns logits, features if ``num_classes`` is 0, or maps if ``out_indices`` is set.

        Args:
          x: images, ``[b, h, w, in_chans]``, of at least 32 x 32.
          train: whether to drop; needs the random stream ``"dropout"`` if a rate is not 0.

        Returns:
          ``[b, k]``, or ``[b, d]`` without a head; ``[b, h, w, ...]`` if ``global_pool`` is ``""``.
          Maps are ``[b, h, w, d]``, before any norm, as timm's are.

        Raises:
          ValueError: if the images have another number of channels.
        """
        self.check_images(x.shape)
        size, dtype = self.size, self.dtype
        x = _stem(x, size, dtype)
        maps = []
        for i in range(self.depth_needed):
            stage = Stage(size, i, self.drop_path_rate, self.remat, dtype, name=f"stages_{i}")
            x = stage(x, train=train)
            maps.append(x)
        if self.out_indices is not None:
            return [maps[i] for i in self.out_indices]
        if size.head_norm_first:
            x = _norm(x, size, dtype, "norm_pre")
        head = Head(size, self.num_classes, self.global_pool, self.drop_rate, dtype, name="head")
        return head(x, train=train)


class Stage(nn.Module):
    """Halves the sides, except in the first stage, then blocks."""

    size: Size
    index: int
    drop_path_rate: float
    remat: bool | str
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b hh ww d"]:
        """Returns the map after the stage."""
        size, i = self.size, self.index
        kernel = size.kernel_sizes if isinstance(size.kernel_sizes, int) else size.kernel_sizes[i]
        if i:
            x = _norm(x, size, self.dtype, "downsample_0")
            x = _conv(size.dims[i], (2, 2), 2, "VALID", dtype=self.dtype, name="downsample_1")(x)
        make_block = remat_block(Block, self.remat)
        for j in range(size.depths[i]):
            part = (sum(size.depths[:i]) + j) / max(sum(size.depths) - 1, 1)
            drop_path = self.drop_path_rate * part
            x = make_block(size, kernel, drop_path, self.dtype, name=f"blocks_{j}")(x, train)
        return x


class Block(nn.Module):
    """A depthwise convolution and an MLP for each place, added as one branch."""

    size: Size
    kernel: int
    drop_path: float
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w d"],
        train: bool,  # noqa: FBT001 (nn.remat would trace it as a keyword argument)
    ) -> Float[Array, "b h w d"]:
        """Returns the map after the block."""
        size, width, kernel = self.size, x.shape[-1], self.kernel
        conv = functools.partial(_conv, feature_group_count=width, dtype=self.dtype)
        y = conv(width, (kernel, kernel), padding=kernel // 2, name="conv_dw")(x)
        y = Mlp(size, self.dtype, name="mlp")(_norm(y, size, self.dtype, "norm"))
        if size.ls_init_value:
            start = nn.initializers.constant(size.ls_init_value)
            y = y * self.param("gamma", start, (width,)).astype(y.dtype).reshape(1, 1, 1, -1)
        return x + DropPath(self.drop_path)(y, train=train)


class Mlp(nn.Module):
    """Two layers for each place of the map, the inner one four times as wide."""

    size: Size
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w d"]) -> Float[Array, "b h w d"]:
        """Applies to each place alone, except for a global response norm."""
        width = x.shape[-1]
        make = functools.partial(_conv, kernel_size=(1, 1)) if self.size.conv_mlp else _dense
        layer = functools.partial(make, dtype=self.dtype)
        y = ACTIVATIONS[self.size.act_layer](layer(4 * width, name="fc1")(x))
        if self.size.use_grn:
            y = GlobalResponseNorm(self.dtype, name="grn")(y)
        return layer(width, name="fc2")(y)


class GlobalResponseNorm(nn.Module):
    """Scales channels by their norm over the map relative to the others' (2301.00808, eq. 3)."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns the map with its scaled self added; nothing is added at first."""
        scale = self.param("scale", nn.initializers.zeros, (x.shape[-1],)).reshape(1, 1, 1, -1)
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],)).reshape(1, 1, 1, -1)
        y = x.astype(jnp.float32)
        # The bound is below any norm of use, and gives a channel of zeros a gradient of zero.
        norm = jnp.sqrt(jnp.maximum(jnp.square(y).sum(axis=(1, 2), keepdims=True), 1e-30))
        relative = norm / (norm.mean(axis=-1, keepdims=True) + 1e-6)
        return (y + bias + scale * y * relative).astype(self.dtype)


class Head(nn.Module):
    """Pool, norm unless that was first, maybe a hidden layer, and a linear one."""

    size: Size
    num_classes: int
    global_pool: str
    drop_rate: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w d"], *, train: bool) -> Float[Array, "b ..."]:
        """Returns logits, or features if there are no classes."""
        x = global_pool(x, self.global_pool)
        if not self.size.head_norm_first:
            x = _norm(x, self.size, self.dtype, "norm")
        if self.size.head_hidden_size:
            x = Hidden(self.size.head_hidden_size, self.dtype, name="pre_logits")(x)
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return _dense(self.num_classes, dtype=self.dtype, name="fc")(x) if self.num_classes else x


class Hidden(nn.Module):
    """The head's hidden layer."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b ... d"]) -> Float[Array, "b ... e"]:
        """Applies to each place alone."""
        return _gelu(_dense(self.width, dtype=self.dtype, name="fc")(x))


def _stem(x: Array, size: Size, dtype: Any) -> Array:
    width = size.dims[0]
    if size.stem_type == "patch":
        x = _conv(width, (4, 4), 4, "VALID", dtype=dtype, name="stem_0")(x)
        return _norm(x, size, dtype, "stem_1")
    half = max(8, (width // 2 + 4) // 8 * 8)  # To a multiple of 8.
    first = half if size.stem_type == "overlap_tiered" else width
    x = _conv(first, (3, 3), 2, 1, dtype=dtype, name="stem_0")(x)
    x = _conv(width, (3, 3), 2, 1, dtype=dtype, name="stem_1")(x)
    return _norm(x, size, dtype, "stem_2")


def _norm(x: Array, size: Size, dtype: Any, name: str) -> Array:
    if size.norm_layer == "rmsnorm":
        return nn.RMSNorm(size.norm_eps, name=name)(x.astype(jnp.float32)).astype(dtype)
    return LayerNorm(size.norm_eps, dtype, name=name)(x)
