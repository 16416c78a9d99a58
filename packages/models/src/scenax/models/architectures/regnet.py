"""RegNetX and RegNetY.

Radosavovic et al., "Designing Network Design Spaces" (arXiv 2003.13678): the widths of all blocks
follow from four numbers, and RegNetY adds squeeze-and-excitation (arXiv 1709.01507). Sizes from 640
on are from Goyal et al., "Self-supervised Pretraining of Visual Features in the Wild" (SEER, arXiv
2103.01988); weights tagged ``swag`` from Singh et al. (arXiv 2201.08371). Checked against timm
1.0.31: logits, features, feature maps, parameter counts, and ``default_cfg``.

Running averages are in the collection ``"batch_stats"``. Letters in shapes: b batch, h w image or
map, c d channels, k classes.
"""

import collections
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
    """The numbers of section 3.3, under timm's names."""

    depth: int
    """Blocks of all stages together."""
    w0: int
    """Width of the first block."""
    wa: float
    """How much wider each next block would be."""
    wm: float
    """How much wider each next stage is, to which the blocks' widths are rounded."""
    group_size: int
    """Channels of each group of the 3x3 convolutions."""
    se_ratio: float = 0.0
    """Width of a squeeze-and-excitation relative to its block's input; 0 for none."""
    group_min_ratio: float = 0.0
    """If not 0, widths are rounded to whole groups up rather than below this part, as torchvision's
    are."""
    stem_width: int = 32

    @property
    def stages(self) -> list[tuple[int, int]]:
        """Width and number of blocks of each stage (equations 2 to 4)."""
        blocks = []
        for i in range(self.depth):
            power = round(math.log(1 + i * self.wa / self.w0) / math.log(self.wm))
            blocks.append(round(self.w0 * self.wm**power / 8) * 8)
        counts = sorted(collections.Counter(blocks).items())
        return [(self._whole_groups(width), count) for width, count in counts]

    def groups(self, width: int) -> int:
        """Returns the number of groups of a stage of a width."""
        return width // min(self.group_size, width)

    def _whole_groups(self, width: int) -> int:
        group = min(self.group_size, width)
        if not self.group_min_ratio:
            return round(width / group) * group
        rounded = max(group, int(width + group / 2) // group * group)
        return rounded + group if rounded < self.group_min_ratio * width else rounded


X4 = Size(22, 24, 24.48, 2.54, 16)
Y8 = Size(14, 56, 38.84, 2.4, 16, 0.25)
Y80 = Size(17, 192, 76.82, 2.19, 56, 0.25)

REPRESENTATIVE = ("regnety_002", {"depth": 4, "group_size": 24})
VARIANTS = {  # The names are multiply-adds in units of 100 million.
    "regnetx_002": Size(13, 24, 36.44, 2.49, 8),
    "regnetx_004": X4,
    "regnetx_004_tv": dataclasses.replace(X4, group_min_ratio=0.9),
    "regnetx_006": Size(16, 48, 36.97, 2.24, 24),
    "regnetx_008": Size(16, 56, 35.73, 2.28, 16),
    "regnetx_016": Size(18, 80, 34.01, 2.25, 24),
    "regnetx_032": Size(25, 88, 26.31, 2.25, 48),
    "regnetx_040": Size(23, 96, 38.65, 2.43, 40),
    "regnetx_064": Size(17, 184, 60.83, 2.07, 56),
    "regnetx_080": Size(23, 80, 49.56, 2.88, 120),
    "regnetx_120": Size(19, 168, 73.36, 2.37, 112),
    "regnetx_160": Size(22, 216, 55.59, 2.1, 128),
    "regnetx_320": Size(23, 320, 69.86, 2.0, 168),
    "regnety_002": Size(13, 24, 36.44, 2.49, 8, 0.25),
    "regnety_004": Size(16, 48, 27.89, 2.09, 8, 0.25),
    "regnety_006": Size(15, 48, 32.54, 2.32, 16, 0.25),
    "regnety_008": Y8,
    "regnety_008_tv": dataclasses.replace(Y8, group_min_ratio=0.9),
    "regnety_016": Size(27, 48, 20.71, 2.65, 24, 0.25),
    "regnety_032": Size(21, 80, 42.63, 2.66, 24, 0.25),
    "regnety_040": Size(22, 96, 31.41, 2.24, 64, 0.25),
    "regnety_064": Size(25, 112, 33.22, 2.27, 72, 0.25),
    "regnety_080": Y80,
    "regnety_080_tv": dataclasses.replace(Y80, group_min_ratio=0.9),
    "regnety_120": Size(19, 168, 73.36, 2.37, 112, 0.25),
    "regnety_160": Size(18, 200, 106.23, 2.48, 112, 0.25),
    "regnety_320": Size(20, 232, 115.89, 2.53, 232, 0.25),
    "regnety_640": Size(20, 352, 147.48, 2.4, 328, 0.25),
    "regnety_1280": Size(27, 456, 160.83, 2.52, 264, 0.25),
    "regnety_2560": Size(27, 640, 230.83, 2.53, 373, 0.25),
}


def build(name: str, *, features_only: bool = False, **options: Any) -> "RegNet":
    """Returns a variant; see ``scenax.models.create_model``."""
    return RegNet.of_size(VARIANTS[name], features_only=features_only, **options)


class RegNet(Architecture, kw_only=True):
    """A stem and stages of stride 2 each, a global pool, and one linear layer.

    Raises:
      ValueError: if there is no such pool.
    """

    size: Size

    @property
    def levels(self) -> list[Level]:
        """The map of the stem, and the output of every stage."""
        widths = [self.size.stem_width, *(width for width, _ in self.size.stages)]
        return [(c, 2 << i, f"s{i}" if i else "stem") for i, c in enumerate(widths)]

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
        x = nn.relu(ConvNorm(size.stem_width, 3, 2, dtype=dtype, name="stem")(x, train=train))
        maps = [x]
        for i in range(self.depth_needed - 1):
            stage = Stage(size, i, self.drop_path_rate, self.remat, dtype, name=f"s{i + 1}")
            x = stage(x, train=train)
            maps.append(x)
        if self.out_indices is not None:
            return [maps[i] for i in self.out_indices]
        head = Head(self.num_classes, self.global_pool, self.drop_rate, dtype, name="head")
        return head(x, train=train)


class Stage(nn.Module):
    """Blocks of one width, of which the first halves the sides."""

    size: Size
    index: int
    drop_path_rate: float
    remat: bool | str
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b hh ww d"]:
        """Returns the map after the stage."""
        size = self.size
        width, depth = size.stages[self.index]
        before = sum(count for _, count in size.stages[: self.index])
        make_block = remat_block(Block, self.remat)
        for i in range(depth):
            drop_path = self.drop_path_rate * (before + i) / max(size.depth - 1, 1)
            stride, name = 1 if i else 2, f"b{i + 1}"
            x = make_block(size, width, stride, drop_path, self.dtype, name=name)(x, train)
        return x


class Block(nn.Module):
    """1x1, grouped 3x3, maybe squeeze-and-excitation, and 1x1, beside a shortcut."""

    size: Size
    width: int
    stride: int
    drop_path: float
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        train: bool,  # noqa: FBT001 (nn.remat would trace it as a keyword argument)
    ) -> Float[Array, "b hh ww d"]:
        """Returns the map after the block."""
        width, stride, groups = self.width, self.stride, self.size.groups(self.width)
        layer = functools.partial(ConvNorm, width, dtype=self.dtype)
        y = nn.relu(layer(1, name="conv1")(x, train=train))
        y = nn.relu(layer(3, stride, groups, name="conv2")(y, train=train))
        if self.size.se_ratio:
            hidden = round(x.shape[-1] * self.size.se_ratio)
            y = SqueezeExcite(hidden, self.dtype, name="se")(y)
        y = layer(1, scale=0.0, name="conv3")(y, train=train)
        if stride > 1 or x.shape[-1] != width:
            x = layer(1, stride, name="downsample")(x, train=train)
        return nn.relu(x + DropPath(self.drop_path)(y, train=train))


class ConvNorm(nn.Module):
    """A convolution, padded equally on all sides as torch does, and a batch norm."""

    features: int
    kernel: int
    stride: int = 1
    groups: int = 1
    scale: float = 1.0
    """Where the norm's scales start; 0 for the last of a branch."""
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b hh ww d"]:
        """Returns the map, of a ``stride``-th of the sides."""
        conv = Conv(
            self.features,
            (self.kernel, self.kernel),
            strides=self.stride,
            padding=self.kernel // 2,
            feature_group_count=self.groups,
            use_bias=False,
            kernel_init=nn.initializers.variance_scaling(2.0 * self.groups, "fan_out", "normal"),
            dtype=self.dtype,
            name="conv",
        )
        start = nn.initializers.constant(self.scale)
        norm = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, scale_init=start, name="bn")
        return norm(conv(x).astype(jnp.float32)).astype(self.dtype)


class SqueezeExcite(nn.Module):
    """Scales each channel by a number that depends on all channels' means."""

    hidden: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns the scaled map."""
        init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        layer = functools.partial(Conv, kernel_size=(1, 1), kernel_init=init, dtype=self.dtype)
        y = nn.relu(layer(self.hidden, name="fc1")(x.mean(axis=(1, 2), keepdims=True)))
        return x * nn.sigmoid(layer(x.shape[-1], name="fc2")(y))


class Head(nn.Module):
    """Pool and a linear layer."""

    num_classes: int
    global_pool: str
    drop_rate: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b ..."]:
        """Returns logits, or features if there are no classes."""
        x = global_pool(x, self.global_pool)
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        if not self.num_classes:
            return x
        init = nn.initializers.normal(0.01)
        return nn.Dense(self.num_classes, kernel_init=init, dtype=self.dtype, name="fc")(x)
