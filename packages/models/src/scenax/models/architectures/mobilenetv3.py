"""MobileNetV3.

Howard et al., "Searching for MobileNetV3" (arXiv 1905.02244). Names with ``tf`` have the authors'
weights, and their padding and epsilon; ``minimal`` ones are the authors' too, without what some
accelerators cannot do: no squeeze-and-excitation, no hard swish, no 5x5 convolutions. The sizes
``rw`` and ``150d`` are timm's. Checked against timm 1.0.31: logits, features, feature maps and
parameter counts. timm's tables of multiply-adds count norms: 0.23 billion for
``mobilenetv3_large_100``, where convolutions and layers are 0.217, as in the paper (0.219).

Running averages are in the collection ``"batch_stats"``. Letters in shapes: b batch, h w image or
map, c d channels, k classes.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from scenax.models.architectures._architecture import Architecture, Level, remat_block
from scenax.models.layers.conv import Conv
from scenax.models.layers.drop_path import DropPath
from scenax.models.layers.global_pool import global_pool

BLOCKS = ("ds", "ir", "cn")
ACTIVATIONS = {"relu": nn.relu, "hard_swish": nn.hard_swish}
PAD_TYPES = ("", "same")


class Row(NamedTuple):
    """Some equal blocks: a row of the paper's tables."""

    block: str
    """``"ds"``: a depthwise and a pointwise convolution; ``"ir"``: the inverted residual block;
    ``"cn"``: one convolution. As in timm's strings."""
    repeats: int
    kernel: int
    stride: int
    """Of a stage's first block; the others have 1."""
    expand: float
    """Width inside of a block relative to its input's."""
    channels: int
    se_ratio: float
    """Width of a squeeze-and-excitation relative to the width inside; 0 for none."""
    act_layer: str


RE, HS = ACTIVATIONS
Stage = tuple[Row, ...]
LARGE: tuple[Stage, ...] = (  # Table 1, by size of the map
    (Row("ds", 1, 3, 1, 1, 16, 0, RE),),
    (Row("ir", 1, 3, 2, 4, 24, 0, RE), Row("ir", 1, 3, 1, 3, 24, 0, RE)),
    (Row("ir", 3, 5, 2, 3, 40, 1 / 4, RE),),
    (
        Row("ir", 1, 3, 2, 6, 80, 0, HS),
        Row("ir", 1, 3, 1, 2.5, 80, 0, HS),
        Row("ir", 2, 3, 1, 2.3, 80, 0, HS),
    ),
    (Row("ir", 2, 3, 1, 6, 112, 1 / 4, HS),),
    (Row("ir", 3, 5, 2, 6, 160, 1 / 4, HS),),
    (Row("cn", 1, 1, 1, 1, 960, 0, HS),),
)
SMALL: tuple[Stage, ...] = (  # Table 2
    (Row("ds", 1, 3, 2, 1, 16, 1 / 4, RE),),
    (Row("ir", 1, 3, 2, 4.5, 24, 0, RE), Row("ir", 1, 3, 1, 3.67, 24, 0, RE)),
    (Row("ir", 1, 5, 2, 4, 40, 1 / 4, HS), Row("ir", 2, 5, 1, 6, 40, 1 / 4, HS)),
    (Row("ir", 2, 5, 1, 3, 48, 1 / 4, HS),),
    (Row("ir", 3, 5, 2, 6, 96, 1 / 4, HS),),
    (Row("cn", 1, 1, 1, 1, 576, 0, HS),),
)


def _minimal(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    return tuple(
        tuple(r._replace(kernel=min(r.kernel, 3), se_ratio=0, act_layer=RE) for r in stage)
        for stage in stages
    )


@dataclasses.dataclass(frozen=True)
class Size:
    """What differs between MobileNets, under timm's names."""

    stages: Sequence[Sequence[Sequence[Any]]]
    """Each a list of ``Row``, before scaling."""
    num_features: int
    """Width of the layer between the pool and the classifier."""
    channel_multiplier: float = 1.0
    """How much wider than the table, up to the pool."""
    depth_multiplier: float = 1.0
    """How many more blocks than in the table."""
    stem_size: int = 16
    """Channels of the stem, which is scaled by 0.75 or more, but not by less."""
    act_layer: str = HS
    """Of the stem and of the layer after the pool."""
    pad_type: str = ""
    """``""``: equally on all sides, as torch; ``"same"``: the rest at the end, as TensorFlow."""
    bn_eps: float = 1e-5
    bn_momentum: float = 0.1
    """Part of a batch in the running averages."""
    rw: bool = False
    """Whether the layer after the pool has no bias, the first block no shortcut, and a squeeze the
    block's activation and any width: not always ReLU, and a multiple of 8."""

    def __post_init__(self) -> None:
        """Makes lists hashable, and checks what a user chose."""
        stages = tuple(tuple(Row(*row) for row in stage) for stage in self.stages)
        object.__setattr__(self, "stages", stages)
        rows = [row for stage in stages for row in stage]
        if not {row.block for row in rows} <= {*BLOCKS}:
            raise ValueError(f"Blocks are {BLOCKS}, got {[row.block for row in rows]}.")
        if got := {self.act_layer, *(row.act_layer for row in rows)} - {*ACTIVATIONS}:
            raise ValueError(f"act_layer has to be one of {(*ACTIVATIONS,)}, got {sorted(got)}.")
        if self.pad_type not in PAD_TYPES:
            raise ValueError(f"pad_type has to be one of {PAD_TYPES}, got {self.pad_type!r}.")

    @property
    def stem(self) -> int:
        """Channels of the stem."""
        return self.stem_size if self.channel_multiplier < 0.75 else self.wide(self.stem_size)

    @property
    def blocks(self) -> list[list[Row]]:
        """The scaled blocks of each stage, a row for each."""
        stages = []
        for stage in self.stages:
            rows = [Row(*row) for row in stage]
            blocks = [
                row._replace(channels=self.wide(row.channels))
                for row, repeats in zip(rows, self._deep(rows), strict=True)
                for _ in range(repeats)
            ]
            stages.append([blocks[0], *(block._replace(stride=1) for block in blocks[1:])])
        return stages

    def wide(self, channels: int) -> int:
        """Returns a scaled width."""
        return _round(channels * self.channel_multiplier)

    def _deep(self, rows: Sequence[Row]) -> list[int]:
        # A stage's blocks are scaled up together, and its last rows get theirs first.
        before = sum(row.repeats for row in rows)
        after = math.ceil(before * self.depth_multiplier)
        repeats = []
        for row in reversed(rows):
            repeats.append(max(1, round(row.repeats / before * after)))
            before, after = before - row.repeats, after - repeats[-1]
        return repeats[::-1]


def _round(width: float) -> int:
    # To a multiple of 8, but not down by more than a tenth.
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded


Numbers = dict[str, Any]
TF: Numbers = {"pad_type": "same", "bn_eps": 1e-3}
MINIMAL: Numbers = {**TF, "act_layer": RE}

REPRESENTATIVE = (
    "mobilenetv3_small_100",
    {
        "stages": (
            (("ds", 1, 3, 2, 1, 16, 0.25, "relu"),),
            (("ir", 1, 3, 2, 4, 24, 0, "relu"),),
            (("ir", 1, 5, 1, 4, 40, 0.25, "hard_swish"),),
        ),
        "channel_multiplier": 1.0,
        "depth_multiplier": 1.0,
        "num_features": 128,
    },
)
VARIANTS = {
    "mobilenetv3_small_050": Size(SMALL, 1024, 0.5),
    "mobilenetv3_small_075": Size(SMALL, 1024, 0.75),
    "mobilenetv3_small_100": Size(SMALL, 1024),
    "mobilenetv3_large_075": Size(LARGE, 1280, 0.75),
    "mobilenetv3_large_100": Size(LARGE, 1280),
    "mobilenetv3_large_150d": Size(LARGE, 1280, 1.5, 1.2),
    "mobilenetv3_rw": Size(LARGE, 1280, bn_eps=1e-3, rw=True),
    "tf_mobilenetv3_small_075": Size(SMALL, 1024, 0.75, **TF),
    "tf_mobilenetv3_small_100": Size(SMALL, 1024, **TF),
    "tf_mobilenetv3_small_minimal_100": Size(_minimal(SMALL), 1024, **MINIMAL),
    "tf_mobilenetv3_large_075": Size(LARGE, 1280, 0.75, **TF),
    "tf_mobilenetv3_large_100": Size(LARGE, 1280, **TF),
    "tf_mobilenetv3_large_minimal_100": Size(_minimal(LARGE), 1280, **MINIMAL),
}


def build(name: str, *, features_only: bool = False, **options: Any) -> "MobileNetV3":
    """Returns a variant; see ``scenax.models.create_model``."""
    return MobileNetV3.of_size(VARIANTS[name], features_only=features_only, **options)


class MobileNetV3(Architecture, kw_only=True):
    """A stem of stride 2, stages of blocks, a global pool, a hidden layer, and a linear one.

    Raises:
      ValueError: if there is no such pool, block, activation or padding.
    """

    size: Size

    @property
    def levels(self) -> list[Level]:
        """Every output, of the stem or a stage, after which the sides are halved, and the last."""
        stages = self.size.blocks
        found: list[Level] = []
        for i in self._ends:
            stride = 2 * math.prod(stage[0].stride for stage in stages[: i + 1])
            if i < 0:
                found.append((self.size.stem, stride, "bn1"))
            else:
                found.append((stages[i][-1].channels, stride, f"blocks.{i}"))
        return found

    @property
    def head_hidden_size(self) -> int:
        """Width of the layer after the pool."""
        return self.size.num_features

    @property
    def _ends(self) -> list[int]:
        # Of the stages; the stem is -1.
        stages = self.size.blocks
        return [i - 1 for i, stage in enumerate(stages) if stage[0].stride > 1] + [len(stages) - 1]

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
          ``[b, k]``, or ``[b, head_hidden_size]`` without a classifier; ``[b, h, w, ...]`` if
          ``global_pool`` is ``""``. Maps are ``[b, h, w, d]``.

        Raises:
          ValueError: if the images have another number of channels.
        """
        self.check_images(x.shape)
        size, dtype, stages = self.size, self.dtype, self.size.blocks
        act = ACTIVATIONS[size.act_layer]
        x = _conv(x, size.stem, 3, 2, size=size, dtype=dtype, name="conv_stem")
        x = act(_norm(x, size=size, train=train, dtype=dtype, name="bn1"))

        maps = [x] if -1 in self._ends else []
        make_block = remat_block(Block, self.remat)
        # As in the authors' code, the whole rate is that of a block after the last.
        done, total = 0, sum(map(len, stages)) + 1
        for i, stage in enumerate(stages[: self._ends[self.depth_needed - 1] + 1]):
            for j, row in enumerate(stage):
                drop_path = self.drop_path_of(done, total)
                x = make_block(size, row, drop_path, dtype, name=f"blocks_{i}_{j}")(x, train)
                done += 1
            maps += [x] if i in self._ends else []
        if self.out_indices is not None:
            return [maps[i] for i in self.out_indices]

        x = global_pool(x, self.global_pool)
        pooled = x.ndim == 2
        x = x[:, None, None] if pooled else x
        bias, hidden = not size.rw, size.num_features
        x = act(_conv(x, hidden, 1, size=size, dtype=dtype, use_bias=bias, name="conv_head"))
        x = x[:, 0, 0] if pooled else x
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        if not self.num_classes:
            return x
        init = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")
        return nn.Dense(self.num_classes, kernel_init=init, dtype=dtype, name="classifier")(x)


class Block(nn.Module):
    """A row's kind of block, with a shortcut where it keeps the map's shape."""

    size: Size
    row: Row
    drop_path: float
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        train: bool,  # noqa: FBT001 (nn.remat would trace it as a keyword argument)
    ) -> Float[Array, "b hh ww d"]:
        """Returns the map after the block."""
        size, row, width, out = self.size, self.row, x.shape[-1], self.row.channels
        kernel, stride, act = row.kernel, row.stride, ACTIVATIONS[row.act_layer]
        conv = functools.partial(_conv, size=size, dtype=self.dtype)
        norm = functools.partial(_norm, size=size, train=train, dtype=self.dtype)
        if row.block == "cn":
            return act(norm(conv(x, out, kernel, stride, name="conv"), name="bn1"))

        inner = _round(width * row.expand) if row.block == "ir" else width
        squeeze = inner * row.se_ratio
        squeeze = round(squeeze) if size.rw or not squeeze else _round(squeeze)
        squeeze_act = act if size.rw else nn.relu
        excite = SqueezeExcite(squeeze, squeeze_act, self.dtype, name="se") if squeeze else None
        y = x
        if row.block == "ir":
            y = act(norm(conv(y, inner, 1, name="conv_pw"), name="bn1"))
        first = 2 if row.block == "ir" else 1
        y = conv(y, inner, kernel, stride, groups=inner, name="conv_dw")
        y = act(norm(y, name=f"bn{first}"))
        y = excite(y) if excite else y
        y = conv(y, out, 1, name="conv_pwl" if row.block == "ir" else "conv_pw")
        y = norm(y, name=f"bn{first + 1}")
        if stride > 1 or width != out or (size.rw and row.block == "ds"):
            return y
        return x + DropPath(self.drop_path)(y, train=train)


class SqueezeExcite(nn.Module):
    """Scales each channel by a number that depends on all channels' means."""

    hidden: int
    act: Callable[[Array], Array]
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns the scaled map."""
        init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        layer = functools.partial(Conv, kernel_size=(1, 1), kernel_init=init, dtype=self.dtype)
        y = layer(self.hidden, name="conv_reduce")(x.mean(axis=(1, 2), keepdims=True))
        y = layer(x.shape[-1], name="conv_expand")(self.act(y))
        return x * nn.hard_sigmoid(y)


def _conv(
    x: Array,
    features: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    *,
    size: Size,
    **fields: Any,
) -> Array:
    conv = Conv(
        features,
        (kernel, kernel),
        strides=stride,
        padding="SAME" if size.pad_type == "same" else kernel // 2,
        feature_group_count=groups,
        kernel_init=nn.initializers.variance_scaling(2.0 * groups, "fan_out", "normal"),
        **{"use_bias": False, **fields},
    )
    return conv(x)


def _norm(x: Array, *, size: Size, train: bool, dtype: Any, name: str) -> Array:
    momentum = 1 - size.bn_momentum  # Part of the past: flax's word for it.
    norm = nn.BatchNorm(not train, momentum=momentum, epsilon=size.bn_eps, name=name)
    return norm(x.astype(jnp.float32)).astype(dtype)
