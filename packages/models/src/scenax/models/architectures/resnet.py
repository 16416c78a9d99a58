"""ResNet and what grew from it by changing numbers: ResNeXt, Wide and SE-ResNet, ResNet-RS.

He et al., "Deep Residual Learning for Image Recognition" (arXiv 1512.03385), with the stride in the
3x3 convolution; stems and average-pooled shortcuts of the variants C, D, S and T from He et al.,
"Bag of Tricks" (arXiv 1812.01187) and timm; Xie et al., "Aggregated Residual Transformations"
(ResNeXt, arXiv 1611.05431); Zagoruyko and Komodakis, "Wide Residual Networks" (arXiv 1605.07146);
Hu et al., "Squeeze-and-Excitation Networks" (arXiv 1709.01507); Bello et al., "Revisiting ResNets"
(ResNet-RS, arXiv 2103.07579); default weights, among others, from Wightman et al., "ResNet strikes
back" (arXiv 2110.00476). Checked against timm 1.0.31: logits, features and feature maps with equal
weights, parameter counts, and ``default_cfg``.

Running averages are in the collection ``"batch_stats"``. Letters in shapes: b batch, h w image or
map, c channels, k classes.
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
from scenax.models.layers.global_pool import global_pool

EXPANSION = {"basic": 1, "bottleneck": 4}  # A block's output to the width of its stage.
STEMS = ("", "deep", "deep_tiered")


@dataclasses.dataclass(frozen=True)
class Size:
    """What differs between ResNets, under timm's names."""

    layers: Sequence[int]
    """Blocks of each stage."""
    block: str | Sequence[str] = "bottleneck"
    """``"basic"`` or ``"bottleneck"``, or one of these for each stage."""
    channels: Sequence[int] = (64, 128, 256, 512)
    """Width of each stage; a bottleneck's output is four times as wide."""
    cardinality: int = 1
    """Groups of the 3x3 convolution in a bottleneck."""
    base_width: int = 64
    """Channels of each such group where the stage's width is 64."""
    stem_width: int = 64
    stem_type: str = ""
    """``""``: one 7x7 convolution; ``"deep"``: three 3x3 ones; ``"deep_tiered"``: growing ones."""
    replace_stem_pool: bool = False
    """Whether a 3x3 convolution stands for the stem's max pool."""
    avg_down: bool = False
    """Whether shortcuts are averaged and then convolved, not convolved with a stride."""
    rd_ratio: float = 0.0
    """Width of a squeeze-and-excitation relative to its block's; 0 for none."""

    def __post_init__(self) -> None:
        """Makes lists hashable, and checks what a user chose."""
        block = (self.block,) * len(self.layers) if isinstance(self.block, str) else self.block
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "block", tuple(block))
        object.__setattr__(self, "channels", tuple(self.channels))
        if not set(self.block) <= set(EXPANSION) or self.stem_type not in STEMS:
            got = f"got {self.block} and {self.stem_type!r}"
            raise ValueError(f"Blocks are {(*EXPANSION,)} and stem types {STEMS}, {got}.")
        lengths = tuple(map(len, (self.layers, self.block, self.channels)))
        if len(set(lengths)) > 1:
            raise ValueError(
                "layers, block and channels are of each stage; they are of "
                f"{lengths[0]}, {lengths[1]} and {lengths[2]}. Give block='basic' or 'bottleneck' "
                "for all stages."
            )
        if "basic" in self.block and (self.cardinality, self.base_width) != (1, 64):
            raise ValueError("Only block='bottleneck' can have other cardinality or base_width.")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the stem's output and of each stage's."""
        outputs = (EXPANSION[b] * c for b, c in zip(self.block, self.channels, strict=True))
        return (2 * self.stem_width if self.stem_type else 64, *outputs)


L10 = L14 = (1, 1, 1, 1)  # timm's own, as is 26
L18 = L26 = (2, 2, 2, 2)  # 1512.03385, table 1, as are 34 to 152
L34 = L50 = (3, 4, 6, 3)
L101 = (3, 4, 23, 3)
L152 = (3, 8, 36, 3)
L200 = (3, 24, 36, 3)  # 1603.05027
L269 = (3, 30, 48, 8)
Numbers = dict[str, Any]
C: Numbers = {"stem_type": "deep", "stem_width": 32}
D: Numbers = {**C, "avg_down": True}
T: Numbers = {**D, "stem_type": "deep_tiered"}
SE: Numbers = {"rd_ratio": 1 / 16}
RS: Numbers = {**D, "rd_ratio": 1 / 4, "replace_stem_pool": True}
X4: Numbers = {"cardinality": 32, "base_width": 4}
X8: Numbers = {"cardinality": 32, "base_width": 8}
X16: Numbers = {"cardinality": 32, "base_width": 16}
X32: Numbers = {"cardinality": 32, "base_width": 32}
X64: Numbers = {"cardinality": 64, "base_width": 4}
MIXED = ("basic", "basic", "bottleneck", "basic")
TEST = Size(L10, MIXED, (32, 48, 48, 96), **{**D, "stem_width": 16})  # timm's, for tests

REPRESENTATIVE = (
    "resnet18",
    {"layers": (1, 1, 1, 1), "channels": (32, 64, 64, 64), "stem_width": 32},
)
VARIANTS = {
    "test_resnet": TEST,
    "resnet10t": Size(L10, "basic", **T),
    "resnet14t": Size(L14, **T),
    "resnet18": Size(L18, "basic"),
    "resnet18d": Size(L18, "basic", **D),
    "resnet26": Size(L26),
    "resnet26d": Size(L26, **D),
    "resnet26t": Size(L26, **T),
    "resnet34": Size(L34, "basic"),
    "resnet34d": Size(L34, "basic", **D),
    "resnet50": Size(L50),
    "resnet50c": Size(L50, **C),
    "resnet50d": Size(L50, **D),
    "resnet50s": Size(L50, stem_type="deep"),
    "resnet50t": Size(L50, **T),
    "resnet101": Size(L101),
    "resnet101c": Size(L101, **C),
    "resnet101d": Size(L101, **D),
    "resnet101s": Size(L101, stem_type="deep"),
    "resnet152": Size(L152),
    "resnet152c": Size(L152, **C),
    "resnet152d": Size(L152, **D),
    "resnet152s": Size(L152, stem_type="deep"),
    "resnet200": Size(L200),
    "resnet200d": Size(L200, **D),
    "wide_resnet50_2": Size(L50, base_width=128),
    "wide_resnet101_2": Size(L101, base_width=128),
    "resnext50_32x4d": Size(L50, **X4),
    "resnext50d_32x4d": Size(L50, **X4, **D),
    "resnext101_32x4d": Size(L101, **X4),
    "resnext101_32x8d": Size(L101, **X8),
    "resnext101_32x16d": Size(L101, **X16),
    "resnext101_32x32d": Size(L101, **X32),
    "resnext101_64x4d": Size(L101, **X64),
    "seresnet18": Size(L18, "basic", **SE),
    "seresnet34": Size(L34, "basic", **SE),
    "seresnet50": Size(L50, **SE),
    "seresnet50t": Size(L50, **T, **SE),
    "seresnet101": Size(L101, **SE),
    "seresnet152": Size(L152, **SE),
    "seresnet152d": Size(L152, **D, **SE),
    "seresnet200d": Size(L200, **D, **SE),
    "seresnet269d": Size(L269, **D, **SE),
    "seresnext26d_32x4d": Size(L26, **X4, **D, **SE),
    "seresnext26t_32x4d": Size(L26, **X4, **T, **SE),
    "seresnext50_32x4d": Size(L50, **X4, **SE),
    "seresnext101_32x4d": Size(L101, **X4, **SE),
    "seresnext101_32x8d": Size(L101, **X8, **SE),
    "seresnext101_64x4d": Size(L101, **X64, **SE),
    "seresnext101d_32x8d": Size(L101, **X8, **D, **SE),
    "resnetrs50": Size(L50, **RS),  # 2103.07579, as all of RS
    "resnetrs101": Size(L101, **RS),
    "resnetrs152": Size(L152, **RS),
    "resnetrs200": Size(L200, **RS),
    "resnetrs270": Size((4, 29, 53, 4), **RS),
    "resnetrs350": Size((4, 36, 72, 4), **RS),
    "resnetrs420": Size((4, 44, 87, 4), **RS),
}


def build(name: str, *, features_only: bool = False, **options: Any) -> "ResNet":
    """Returns a variant; see ``scenax.models.create_model``."""
    return ResNet.of_size(VARIANTS[name], features_only=features_only, **options)


class ResNet(Architecture, kw_only=True):
    """A stem of stride 4, stages of residual blocks, a global pool, and one linear layer.

    Raises:
      ValueError: if there is no such pool, block or stem.
    """

    size: Size

    @property
    def levels(self) -> list[Level]:
        """The stem's map in front of its pool, and the output of every stage."""
        widths = self.size.widths
        return [(c, 2 << i, f"layer{i}" if i else "act1") for i, c in enumerate(widths)]

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
          ``[b, k]``, or ``[b, c]`` without a head; ``[b, h, w, ...]`` if ``global_pool`` is ``""``.
          Maps are ``[b, h, w, c]``.

        Raises:
          ValueError: if the images have another number of channels.
        """
        self.check_images(x.shape)
        size, last = self.size, self.depth_needed - 1
        x = _stem(x, size, self.dtype, train=train)
        maps = [x]
        x = _stem_pool(x, size, self.dtype, train=train) if last else x

        make_block = remat_block(Block, self.remat)
        done, total = 0, sum(size.layers)
        for stage in range(last):
            for i in range(size.layers[stage]):
                drop_path = self.drop_path_of(done, total)
                stride, name = 2 if stage and not i else 1, f"layer{stage + 1}_{i}"
                x = make_block(size, stage, stride, drop_path, self.dtype, name=name)(x, train)
                done += 1
            maps.append(x)
        if self.out_indices is not None:
            return [maps[i] for i in self.out_indices]

        x = global_pool(x, self.global_pool)
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        if not self.num_classes:
            return x
        uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        return nn.Dense(self.num_classes, kernel_init=uniform, dtype=self.dtype, name="fc")(x)


class Block(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3 and 1x1 ones, beside a shortcut."""

    size: Size
    stage: int
    stride: int
    drop_path: float
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        train: bool,  # noqa: FBT001 (nn.remat would trace it as a keyword argument)
    ) -> Float[Array, "b rows cols d"]:
        """Returns the map after the block."""
        size, dtype, stride = self.size, self.dtype, self.stride
        planes, out = size.channels[self.stage], size.widths[self.stage + 1]
        norm = functools.partial(_norm, train=train, dtype=dtype)
        last = functools.partial(norm, scale_init=nn.initializers.zeros)
        if size.block[self.stage] == "basic":
            y = nn.relu(norm(_conv(x, planes, 3, stride, dtype=dtype, name="conv1"), name="bn1"))
            y = last(_conv(y, out, 3, dtype=dtype, name="conv2"), name="bn2")
        else:
            width, groups = planes * size.base_width // 64 * size.cardinality, size.cardinality
            y = nn.relu(norm(_conv(x, width, 1, dtype=dtype, name="conv1"), name="bn1"))
            y = _conv(y, width, 3, stride, groups, dtype=dtype, name="conv2")
            y = _conv(nn.relu(norm(y, name="bn2")), out, 1, dtype=dtype, name="conv3")
            y = last(y, name="bn3")
        if size.rd_ratio:
            y = SqueezeExcite(size.rd_ratio, dtype, name="se")(y)

        if stride > 1 or x.shape[-1] != out:
            first = int(size.avg_down)  # timm counts the pool.
            if size.avg_down and stride > 1:
                x, stride = _halve(x), 1
            x = _conv(x, out, 1, stride, dtype=dtype, name=f"downsample_{first}")
            x = norm(x, name=f"downsample_{first + 1}")
        return nn.relu(x + DropPath(self.drop_path)(y, train=train))


class SqueezeExcite(nn.Module):
    """Scales each channel by a number that depends on all channels' means."""

    rd_ratio: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns the scaled map."""
        width = max(8, int(x.shape[-1] * self.rd_ratio + 4) // 8 * 8)
        y = x.mean(axis=(1, 2), keepdims=True)
        y = nn.relu(_conv(y, width, 1, dtype=self.dtype, name="fc1", use_bias=True))
        return x * nn.sigmoid(_conv(y, x.shape[-1], 1, dtype=self.dtype, name="fc2", use_bias=True))


def _stem(x: Array, size: Size, dtype: Any, *, train: bool) -> Array:
    norm = functools.partial(_norm, train=train, dtype=dtype)
    if size.stem_type:
        first = 3 * (size.stem_width // 4) if size.stem_type == "deep_tiered" else size.stem_width
        x = nn.relu(norm(_conv(x, first, 3, 2, dtype=dtype, name="conv1_0"), name="conv1_1"))
        x = _conv(x, size.stem_width, 3, dtype=dtype, name="conv1_3")
        x = _conv(nn.relu(norm(x, name="conv1_4")), size.widths[0], 3, dtype=dtype, name="conv1_6")
    else:
        x = _conv(x, size.widths[0], 7, 2, dtype=dtype, name="conv1")
    return nn.relu(norm(x, name="bn1"))


def _stem_pool(x: Array, size: Size, dtype: Any, *, train: bool) -> Array:
    if not size.replace_stem_pool:
        around: Any = ((1, 1), (1, 1))  # flax's annotation knows names only.
        return nn.max_pool(x, (3, 3), strides=(2, 2), padding=around)
    x = _conv(x, size.widths[0], 3, 2, dtype=dtype, name="maxpool_0")
    return nn.relu(_norm(x, train=train, dtype=dtype, name="maxpool_1"))


def _halve(x: Array) -> Array:
    # At an odd border, the mean of what there is.
    odd: Any = tuple((0, side % 2) for side in x.shape[1:3])
    y = nn.avg_pool(x.astype(jnp.float32), (2, 2), (2, 2), odd, count_include_pad=False)
    return y.astype(x.dtype)


def _conv(
    x: Array, features: int, kernel: int, stride: int = 1, groups: int = 1, **fields: Any
) -> Array:
    # Padded as torch does, equally on all sides.
    conv = Conv(
        features,
        (kernel, kernel),
        strides=stride,
        padding=kernel // 2,
        feature_group_count=groups,
        kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
        **{"use_bias": False, **fields},
    )
    return conv(x)


def _norm(x: Array, *, train: bool, dtype: Any, name: str, **fields: Any) -> Array:
    norm = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, name=name, **fields)
    return norm(x.astype(jnp.float32)).astype(dtype)
