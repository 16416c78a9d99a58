"""ResNet V2, with norms in front of convolutions, and Big Transfer (BiT).

He et al., "Identity Mappings in Deep Residual Networks" (arXiv 1603.05027), with the stride in the
3x3 convolution, and with timm's D and T stems and average-pooled shortcuts from He et al., "Bag of
Tricks" (arXiv 1812.01187). ``bit``: Kolesnikov et al., "Big Transfer" (arXiv 1912.11370), with
group norm and the standardised weights of Qiao et al., "Micro-Batch Training with Batch-Channel
Normalization and Weight Standardization" (arXiv 1903.10520); its distilled weights are from Beyer
et al., "Knowledge distillation: A good teacher is patient and consistent" (arXiv 2106.05237).
Checked against timm 1.0.31: logits, features and feature maps with equal weights, parameter counts,
and ``default_cfg``. timm's tables of multiply-adds count group norms, and those of weights: 4.23
billion for ``resnetv2_50x1_bit``, where convolutions are 4.09.

Running averages of batch norms are in the collection ``"batch_stats"``. Letters in shapes: b batch,
h w image or map, c d channels, k classes.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from scenax.models.architectures._architecture import Architecture, Level, remat_block
from scenax.models.layers.conv import Conv, convolve
from scenax.models.layers.drop_path import DropPath
from scenax.models.layers.global_pool import global_pool

STEMS = ("", "fixed", "deep", "tiered")
NORMS = ("batchnorm", "groupnorm")
GROUPS = 32


@dataclasses.dataclass(frozen=True)
class Size:
    """What differs between these ResNets, under timm's names."""

    layers: Sequence[int]
    """Blocks of each stage."""
    channels: Sequence[int] = (256, 512, 1024, 2048)
    """Of each stage's output."""
    width_factor: int = 1
    """All channels are so many times as many."""
    stem_chs: int = 64
    stem_type: str = ""
    """``""``: one 7x7 convolution; ``"fixed"``: the same, and zeros around the map in front of the
    max pool, as BiT has them; ``"deep"``: three 3x3 convolutions; ``"tiered"``: growing ones."""
    avg_down: bool = False
    """Whether shortcuts are averaged and then convolved, not convolved with a stride."""
    basic: bool = False
    """Whether blocks are two 3x3 convolutions, not 1x1, 3x3 and 1x1 ones."""
    bottle_ratio: float = 0.25
    """Channels inside of a block to those of its output."""
    norm_layer: str = "batchnorm"
    std_conv: bool = False
    """Whether the weights of convolutions are standardised."""

    def __post_init__(self) -> None:
        """Makes lists hashable, and checks what a user chose."""
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "channels", tuple(self.channels))
        if len(self.layers) != len(self.channels):
            raise ValueError(
                "layers and channels need one entry for each stage, got "
                f"{self.layers} and {self.channels}."
            )
        for field, known in (("stem_type", STEMS), ("norm_layer", NORMS)):
            if (got := getattr(self, field)) not in known:
                raise ValueError(f"{field} has to be one of {known}, got {got!r}.")
        normed = {*self.widths, *map(self.inside, self.widths[1:]), *self.stem_widths[:-1]}
        odd = sorted(width for width in normed if width % GROUPS)
        if self.norm_layer == "groupnorm" and odd:
            raise ValueError(f"Group norms need a multiple of {GROUPS} channels, got {odd}.")

    @property
    def stem_widths(self) -> tuple[int, ...]:
        """Channels of the stem's convolutions."""
        out = _to_eights(self.stem_chs * self.width_factor)
        if self.stem_type in ("", "fixed"):
            return (out,)
        return (3 * out // 8 if self.stem_type == "tiered" else out // 2, out // 2, out)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the stem's output and of each stage's."""
        return (self.stem_widths[-1], *(_to_eights(c * self.width_factor) for c in self.channels))

    def inside(self, width: int) -> int:
        """Returns the channels inside of a block with so many outside."""
        return _to_eights(width * self.bottle_ratio)


def _to_eights(width: float) -> int:
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded


L18 = (2, 2, 2, 2)
L34 = L50 = (3, 4, 6, 3)
L101 = (3, 4, 23, 3)
L152 = (3, 8, 36, 3)
Numbers = dict[str, Any]
BASIC: Numbers = {"channels": (64, 128, 256, 512), "basic": True, "bottle_ratio": 1.0}
D: Numbers = {"stem_type": "deep", "avg_down": True}
T: Numbers = {"stem_type": "tiered", "avg_down": True}
BIT: Numbers = {"stem_type": "fixed", "norm_layer": "groupnorm", "std_conv": True}

REPRESENTATIVE = ("resnetv2_18", {"layers": (1, 1), "channels": (128, 128)})
VARIANTS = {
    "resnetv2_18": Size(L18, **BASIC),
    "resnetv2_18d": Size(L18, **BASIC, **D),
    "resnetv2_34": Size(L34, **BASIC),
    "resnetv2_34d": Size(L34, **BASIC, **D),
    "resnetv2_50": Size(L50),
    "resnetv2_50d": Size(L50, **D),
    "resnetv2_50d_gn": Size(L50, **D, norm_layer="groupnorm"),
    "resnetv2_50t": Size(L50, **T),
    "resnetv2_101": Size(L101),
    "resnetv2_101d": Size(L101, **D),
    "resnetv2_152": Size(L152),
    "resnetv2_152d": Size(L152, **D),
    "resnetv2_50x1_bit": Size(L50, **BIT),  # 1912.11370, section 3.1, as are the next
    "resnetv2_50x3_bit": Size(L50, **BIT, width_factor=3),
    "resnetv2_101x1_bit": Size(L101, **BIT),
    "resnetv2_101x3_bit": Size(L101, **BIT, width_factor=3),
    "resnetv2_152x2_bit": Size(L152, **BIT, width_factor=2),
    "resnetv2_152x4_bit": Size(L152, **BIT, width_factor=4),
}


def build(name: str, *, features_only: bool = False, **options: Any) -> "ResNetV2":
    """Returns a variant; see ``scenax.models.create_model``."""
    return ResNetV2.of_size(VARIANTS[name], features_only=features_only, **options)


class ResNetV2(Architecture, kw_only=True):
    """A stem of stride 4, stages of residual blocks, a norm, a global pool, and a 1x1 convolution.

    Raises:
      ValueError: if there is no such pool, stem or norm.
    """

    size: Size

    @property
    def levels(self) -> list[Level]:
        """The stem's map in front of its pool, and the output of every stage, before any norm."""
        stem = "stem.conv" if len(self.size.stem_widths) == 1 else "stem.conv3"
        return [
            (width, 2 << i, f"stages.{i - 1}" if i else stem)
            for i, width in enumerate(self.size.widths)
        ]

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b ..."] | list[Float[Array, "b rows cols d"]]:
        """Returns logits, features if ``num_classes`` is 0, or maps if ``out_indices`` is set.

        Args:
          x: images of any size, ``[b, h, w, in_chans]``.
          train: whether batch norms normalise by the batch (``"batch_stats"`` has to be mutable
            then), and whether to drop (with the random stream ``"dropout"``, if a rate is not 0).

        Returns:
          ``[b, k]``, or ``[b, d]`` without a head; ``[b, h, w, ...]`` if ``global_pool`` is ``""``.
          Maps are ``[b, h, w, d]``, before any norm, as timm's are.

        Raises:
          ValueError: if the images have another number of channels.
        """
        self.check_images(x.shape)
        size, dtype, past, total = self.size, self.dtype, 0, sum(self.size.layers)
        x = Stem(size, dtype, name="stem")(x, train=train)
        maps = [x]
        for i in range(self.depth_needed - 1):
            if i == 0:
                x = _stem_pool(x, size.stem_type)
            rates = tuple(self.drop_path_of(past + j, total) for j in range(size.layers[i]))
            past += size.layers[i]
            x = Stage(size, i, rates, self.remat, dtype, name=f"stages_{i}")(x, train=train)
            maps.append(x)
        if self.out_indices is not None:
            return [maps[i] for i in self.out_indices]
        x = _norm_relu(x, size, dtype, "norm", train=train)
        head = Head(self.num_classes, self.global_pool, self.drop_rate, dtype, name="head")
        return head(x, train=train)


class Stem(nn.Module):
    """One convolution or three, the first with stride 2; no norm comes after the last."""

    size: Size
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b hh ww d"]:
        """Returns the map in front of the pool."""
        conv = functools.partial(_conv, size=self.size, dtype=self.dtype)
        norm = functools.partial(_norm_relu, size=self.size, dtype=self.dtype, train=train)
        widths = self.size.stem_widths
        if len(widths) == 1:
            return conv(x, widths[0], 7, 2, name="conv")
        x = conv(x, widths[0], 3, 2, name="conv1")
        x = conv(norm(x, name="norm1"), widths[1], 3, name="conv2")
        return conv(norm(x, name="norm2"), widths[2], 3, name="conv3")


class Stage(nn.Module):
    """Blocks of one width, of which the first halves the sides, except in the first stage."""

    size: Size
    index: int
    rates: tuple[float, ...]
    remat: bool | str
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b hh ww d"]:
        """Returns the map after the stage."""
        width = self.size.widths[self.index + 1]
        make_block = remat_block(Block, self.remat)
        for j, rate in enumerate(self.rates):
            stride, project = 2 if self.index and not j else 1, not j
            block = functools.partial(make_block, self.size, width, stride, project, rate)
            x = block(self.dtype, name=f"blocks_{j}")(x, train)
        return x


class Block(nn.Module):
    """Two or three convolutions, each with a norm and a ReLU in front, beside a shortcut."""

    size: Size
    width: int
    stride: int
    project: bool
    """Whether the block is the first of its stage, whose shortcut is a convolution."""
    drop_path: float
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        train: bool,  # noqa: FBT001 (nn.remat would trace it as a keyword argument)
    ) -> Float[Array, "b hh ww d"]:
        """Returns the map after the block."""
        size, inside = self.size, self.size.inside(self.width)
        conv = functools.partial(_conv, size=size, dtype=self.dtype)
        norm = functools.partial(_norm_relu, size=size, dtype=self.dtype, train=train)
        y = norm(x, name="norm1")
        # A basic block's shortcut is a convolution only if it has to be.
        if self.project and not (size.basic and self.stride == 1 and x.shape[-1] == self.width):
            x = Downsample(size, self.width, self.stride, self.dtype, name="downsample")(y)
        if size.basic:
            y = conv(y, inside, 3, self.stride, name="conv1")
            y = conv(norm(y, name="norm2"), self.width, 3, name="conv2")
        else:
            y = conv(y, inside, 1, name="conv1")
            y = conv(norm(y, name="norm2"), inside, 3, self.stride, name="conv2")
            y = conv(norm(y, name="norm3"), self.width, 1, name="conv3")
        return x + DropPath(self.drop_path)(y, train=train)


class Downsample(nn.Module):
    """A shortcut's 1x1 convolution, with a stride or after an average pool."""

    size: Size
    width: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b hh ww d"]:
        """Returns the map of the block's output shape."""
        stride = self.stride
        if self.size.avg_down and stride > 1:
            x, stride = _halve(x), 1
        return _conv(x, self.width, 1, stride, size=self.size, dtype=self.dtype, name="conv")


class StdConv(nn.Module):
    """A convolution without bias, of weights that are standardised."""

    features: int
    kernel_size: tuple[int, int]
    strides: int
    padding: int
    kernel_init: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b hh ww d"]:
        """Returns the map, of a ``strides``-th of the sides."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = standardize(self.param("kernel", self.kernel_init, shape)).astype(self.dtype)
        return convolve(x.astype(self.dtype), kernel, self.strides, self.padding)


def standardize(kernel: Float[Array, "h w c d"]) -> Float[Array, "h w c d"]:
    """Returns the weights of each output with a mean of 0 and, but for 1e-8, a variance of 1."""
    centred = kernel - kernel.mean(axis=(0, 1, 2), keepdims=True)
    variance = jnp.square(centred).mean(axis=(0, 1, 2), keepdims=True)
    return centred * jax.lax.rsqrt(variance + 1e-8)


class Head(nn.Module):
    """Pool and a linear layer, which checkpoints hold as a 1x1 convolution."""

    num_classes: int
    global_pool: str
    drop_rate: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w d"], *, train: bool) -> Float[Array, "b ..."]:
        """Returns logits, or features if there are no classes."""
        x = global_pool(x, self.global_pool)
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        if not self.num_classes:
            return x
        init = nn.initializers.normal(0.01)
        fc = Conv(self.num_classes, (1, 1), kernel_init=init, dtype=self.dtype, name="fc")
        return fc(x) if x.ndim == 4 else fc(x[:, None, None])[:, 0, 0]


def _conv(
    x: Array, features: int, kernel: int, stride: int = 1, *, size: Size, dtype: Any, name: str
) -> Array:
    make = StdConv if size.std_conv else functools.partial(Conv, use_bias=False)
    conv = make(
        features,
        (kernel, kernel),
        strides=stride,
        padding=kernel // 2,  # As torch does, equally on all sides.
        kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
        dtype=dtype,
        name=name,
    )
    return conv(x)


def _stem_pool(x: Array, stem_type: str) -> Array:
    around: Any = ((0, 0), (1, 1), (1, 1), (0, 0))  # flax's annotation knows names only.
    if stem_type == "fixed":  # Zeros are larger than what is negative.
        return nn.max_pool(jnp.pad(x, around), (3, 3), strides=(2, 2))
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding=around[1:3])


def _halve(x: Array) -> Array:
    # At an odd border, the mean of what there is.
    odd: Any = tuple((0, side % 2) for side in x.shape[1:3])
    y = nn.avg_pool(x.astype(jnp.float32), (2, 2), (2, 2), odd, count_include_pad=False)
    return y.astype(x.dtype)


def _norm_relu(x: Array, size: Size, dtype: Any, name: str, *, train: bool) -> Array:
    if size.norm_layer == "groupnorm":  # With the exact variance, not the difference of two.
        norm = nn.GroupNorm(GROUPS, epsilon=1e-5, use_fast_variance=False, name=name)
    else:
        norm = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, name=name)
    return nn.relu(norm(x.astype(jnp.float32))).astype(dtype)
