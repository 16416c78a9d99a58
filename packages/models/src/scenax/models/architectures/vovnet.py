"""VoVNet: a block's layers follow one another, and are concatenated once, at its end.

Lee et al., "An Energy and GPU-Computation Efficient Backbone Network for Real-Time Object
Detection" (arXiv 1904.09730: one-shot aggregation); Lee and Park, "CenterMask" (arXiv 1911.06667:
V2, names with ``ese``, with shortcuts and effective squeeze-and-excitation); ``eca`` is Wang et
al., "ECA-Net" (arXiv 1910.03151). Checked against timm 1.0.31: logits, features and feature maps
with equal weights, also where pools overhang the border, and parameter counts.

Running averages are in the collection ``"batch_stats"``. Letters in shapes: b batch, h w image or
map, c d channels, k classes.
"""

import dataclasses
import functools
import math
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from scenax.models.architectures._architecture import Architecture, Level, remat_block
from scenax.models.layers.conv import Conv
from scenax.models.layers.drop_path import DropPath
from scenax.models.layers.global_pool import global_pool


@dataclasses.dataclass(frozen=True)
class Size:
    """What differs between the variants, under timm's names."""

    block_per_stage: tuple[int, ...]
    layer_per_block: int = 5
    stem_chs: tuple[int, ...] = (64, 64, 128)
    stage_conv_chs: tuple[int, ...] = (128, 160, 192, 224)
    """Channels of each layer of a stage's blocks."""
    stage_out_chs: tuple[int, ...] = (256, 512, 768, 1024)
    residual: bool = True
    """Whether blocks have shortcuts, but for the first of a stage."""
    depthwise: bool = False
    """Whether 3x3 convolutions are of each channel, with a 1x1 one behind."""
    attn: str = "ese"
    """What weighs the channels of a stage's last block: ``"ese"``, ``"eca"``, or ``""``."""

    def __post_init__(self) -> None:
        """Checks what a user chose."""
        if self.attn not in ("ese", "eca", ""):
            raise ValueError(f"attn has to be 'ese', 'eca' or '', got {self.attn!r}.")


SLIM: dict[str, Any] = {"stage_conv_chs": (64, 80, 96, 112), "stage_out_chs": (112, 256, 384, 512)}
THIN: dict[str, Any] = {"stem_chs": (64, 64, 64), "depthwise": True}

REPRESENTATIVE = (
    "ese_vovnet19b_slim_dw",
    {
        "block_per_stage": (1, 1),
        "layer_per_block": 2,
        "stem_chs": (32, 32, 32),
        "stage_conv_chs": (32, 40),
        "stage_out_chs": (64, 96),
    },
)
VARIANTS = {
    "ese_vovnet19b_slim_dw": Size((1, 1, 1, 1), 3, **SLIM, **THIN),  # 1911.06667
    "ese_vovnet19b_dw": Size((1, 1, 1, 1), 3, **THIN),
    "ese_vovnet19b_slim": Size((1, 1, 1, 1), 3, **SLIM),
    "ese_vovnet39b": Size((1, 1, 2, 2)),
    "eca_vovnet39b": Size((1, 1, 2, 2), attn="eca"),
    "ese_vovnet57b": Size((1, 1, 4, 3)),
    "ese_vovnet99b": Size((1, 3, 9, 3)),
    "vovnet39a": Size((1, 1, 2, 2), residual=False, attn=""),  # 1904.09730, table 1
    "vovnet57a": Size((1, 1, 4, 3), residual=False, attn=""),
}


def build(name: str, *, features_only: bool = False, **options: Any) -> "VovNet":
    """Returns a variant; see ``scenax.models.create_model``."""
    return VovNet.of_size(VARIANTS[name], features_only=features_only, **options)


class VovNet(Architecture, kw_only=True):
    """A stem of stride 4, stages of blocks with pools between, a pool, and one linear layer.

    Raises:
      ValueError: if there is no such pool.
    """

    size: Size

    @property
    def levels(self) -> list[Level]:
        """The map after two of the stem's three layers, and the output of every stage."""
        stages = enumerate(self.size.stage_out_chs)
        first = (self.size.stem_chs[1], 2, "stem.1")
        return [first, *((c, 4 << i, f"stages.{i}") for i, c in stages)]

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b ..."] | list[Float[Array, "b rows cols d"]]:
        """Returns logits, features if ``num_classes`` is 0, or maps if ``out_indices`` is set.

        Args:
          x: images of any size, ``[b, h, w, in_chans]``.
          train: whether to normalise by the batch (``"batch_stats"`` has to be mutable then), and
            to drop (with the random stream ``"dropout"``, if a rate is not 0).

        Returns:
          ``[b, k]``, or ``[b, d]`` without a head; ``[b, h, w, ...]`` if ``global_pool`` is ``""``.
          Maps are ``[b, h, w, d]``.

        Raises:
          ValueError: if the images have another number of channels.
        """
        self.check_images(x.shape)
        size, dtype = self.size, self.dtype
        make = Separable if size.depthwise else ConvNormAct
        x = ConvNormAct(size.stem_chs[0], 3, 2, dtype, name="stem_0")(x, train=train)
        x = make(size.stem_chs[1], 3, 1, dtype, name="stem_1")(x, train=train)
        maps, done, total = [x], 0, sum(size.block_per_stage)
        if self.depth_needed > 1:
            x = make(size.stem_chs[2], 3, 2, dtype, name="stem_2")(x, train=train)
        for i in range(self.depth_needed - 1):
            rates = tuple(
                self.drop_path_of(done + j, total) for j in range(size.block_per_stage[i])
            )
            done += size.block_per_stage[i]
            x = _pool(x) if i else x
            x = Stage(size, i, rates, self.remat, dtype, name=f"stages_{i}")(x, train=train)
            maps.append(x)
        if self.out_indices is not None:
            return [maps[i] for i in self.out_indices]
        x = global_pool(x, self.global_pool)
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return Head(self.num_classes, dtype, name="head")(x) if self.num_classes else x


class Head(nn.Module):
    """The classifier, named as timm names it."""

    num_classes: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b ... c"]) -> Float[Array, "b ... k"]:
        """Returns logits."""
        return nn.Dense(self.num_classes, dtype=self.dtype, name="fc")(x)


class Stage(nn.Module):
    """Blocks of one width."""

    size: Size
    index: int
    rates: tuple[float, ...]
    remat: bool | str
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w d"]:
        """Returns the map after the stage."""
        make_block = remat_block(Block, self.remat)
        for j, rate in enumerate(self.rates):
            last = j == len(self.rates) - 1
            block = functools.partial(make_block, self.size, self.index, rate, self.dtype)
            block = block(first=not j, last=last, name=f"blocks_{j}")
            x = block(x, train)
        return x


class Block(nn.Module):
    """One-shot aggregation: the input and every layer's output side by side, then 1x1."""

    size: Size
    index: int
    drop_path: float
    dtype: Any
    first: bool
    last: bool

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        train: bool,  # noqa: FBT001 (nn.remat would trace it as a keyword argument)
    ) -> Float[Array, "b h w d"]:
        """Returns the map after the block."""
        size, dtype = self.size, self.dtype
        middle, out = size.stage_conv_chs[self.index], size.stage_out_chs[self.index]
        outputs, y = [x], x
        if size.depthwise and x.shape[-1] != middle:
            y = ConvNormAct(middle, 1, 1, dtype, name="conv_reduction")(y, train=train)
        make = Separable if size.depthwise else ConvNormAct
        for i in range(size.layer_per_block):
            y = make(middle, 3, 1, dtype, name=f"conv_mid_{i}")(y, train=train)
            outputs.append(y)
        y = jnp.concatenate(outputs, axis=-1)
        y = ConvNormAct(out, 1, 1, dtype, name="conv_concat")(y, train=train)
        if size.attn and self.last:
            y = (EffectiveSe if size.attn == "ese" else Eca)(dtype, name="attn")(y)
        y = DropPath(self.drop_path)(y, train=train)
        return x + y if size.residual and not self.first else y


class ConvNormAct(nn.Module):
    """A convolution, padded equally on all sides as torch does, batch norm and ReLU."""

    features: int
    kernel: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b hh ww d"]:
        """Returns the map, of a ``stride``-th of the sides."""
        y = _conv(x, self.features, self.kernel, self.stride, dtype=self.dtype, name="conv")
        return _norm_relu(y, train=train, dtype=self.dtype)


class Separable(nn.Module):
    """A 3x3 convolution of each channel, a 1x1 one, batch norm and ReLU."""

    features: int
    kernel: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b hh ww d"]:
        """Returns the map, of a ``stride``-th of the sides."""
        width, fields = x.shape[-1], {"dtype": self.dtype}
        y = _conv(x, width, self.kernel, self.stride, width, name="conv_dw", **fields)
        y = _conv(y, self.features, 1, 1, name="conv_pw", **fields)
        return _norm_relu(y, train=train, dtype=self.dtype)


class EffectiveSe(nn.Module):
    """Squeeze-and-excitation with one layer (1911.06667, section 3.2)."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns the map, each channel scaled by a number that depends on all channels' means."""
        y = x.mean(axis=(1, 2), keepdims=True)
        y = _conv(y, x.shape[-1], 1, 1, dtype=self.dtype, name="fc", use_bias=True)
        return x * nn.hard_sigmoid(y)


class Eca(nn.Module):
    """Scales each channel by a number that depends on its neighbours' means."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns the scaled map."""
        nearest = int(abs(math.log2(x.shape[-1]) + 1) / 2)  # 1910.03151, equation 12
        size = max(nearest if nearest % 2 else nearest + 1, 3)
        conv = nn.Conv(1, (size,), padding=size // 2, use_bias=False, dtype=self.dtype, name="conv")
        y = conv(x.mean(axis=(1, 2))[:, :, None])
        return x * nn.sigmoid(y).reshape(x.shape[0], 1, 1, -1)


def _pool(x: Float[Array, "b h w c"]) -> Float[Array, "b hh ww c"]:
    # Windows may overhang the last row and column (torch's ceil_mode), and see what is there.
    rows, cols = (max(0, -(-(side - 3) // 2) * 2 + 3 - side) for side in x.shape[1:3])
    behind: Any = ((0, rows), (0, cols))
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding=behind)


def _conv(
    x: Array, features: int, kernel: int, stride: int, groups: int = 1, **fields: Any
) -> Array:
    conv = Conv(
        features,
        (kernel, kernel),
        strides=stride,
        padding=kernel // 2,
        feature_group_count=groups,
        kernel_init=nn.initializers.variance_scaling(2.0 * groups, "fan_out", "normal"),
        **{"use_bias": False, **fields},
    )
    return conv(x)


def _norm_relu(x: Array, *, train: bool, dtype: Any) -> Array:
    norm = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, name="bn")
    return nn.relu(norm(x.astype(jnp.float32))).astype(dtype)
