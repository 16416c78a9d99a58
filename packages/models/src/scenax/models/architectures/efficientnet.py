"""EfficientNet and EfficientNetV2: one base architecture made wider and deeper by two numbers.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (arXiv
1905.11946), and "EfficientNetV2: Smaller Models and Faster Training" (arXiv 2104.00298); B8 is from
Xie et al., "Adversarial Examples Improve Image Recognition" (AdvProp, arXiv 1911.09665), L2 from
Xie et al., "Self-training with Noisy Student" (arXiv 1911.04252). Names with ``tf`` have the
authors' weights, and their padding and epsilon; those with ``rw`` are timm's. Checked against timm
1.0.31: logits, features, feature maps, parameter counts, and ``default_cfg``. timm's multiply-adds
count two more for every number that a batch norm scales, which is 3.5 % of B0; the paper's do not.

Running averages are in the collection ``"batch_stats"``. Letters in shapes: b batch, h w image or
map, c d channels, k classes.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from scenax.models.architectures._architecture import Architecture, Level, remat_block
from scenax.models.layers.conv import Conv
from scenax.models.layers.drop_path import DropPath
from scenax.models.layers.global_pool import global_pool

PAD_TYPES = ("", "same")


class Stage(NamedTuple):
    """A row of the papers' tables."""

    block: str
    """``"cn"``: a convolution; ``"ds"``: a depthwise and a pointwise one; ``"ir"``: the inverted
    residual block MBConv; ``"er"``: Fused-MBConv. As in timm's strings."""
    repeats: int
    kernel: int
    stride: int
    """Of the first block; the others have 1."""
    expand: int
    """Width inside of a block relative to its input's."""
    channels: int
    se_ratio: float = 0.0
    """Width of a squeeze-and-excitation relative to its block's input; 0 for none."""


Rows = tuple[tuple[Any, ...], ...]
B: Rows = (  # 1905.11946, table 1
    ("ds", 1, 3, 1, 1, 16, 0.25),
    ("ir", 2, 3, 2, 6, 24, 0.25),
    ("ir", 2, 5, 2, 6, 40, 0.25),
    ("ir", 3, 3, 2, 6, 80, 0.25),
    ("ir", 3, 5, 1, 6, 112, 0.25),
    ("ir", 4, 5, 2, 6, 192, 0.25),
    ("ir", 1, 3, 1, 6, 320, 0.25),
)
V2_B: Rows = (  # The authors' code for 2104.00298
    ("cn", 1, 3, 1, 1, 16),
    ("er", 2, 3, 2, 4, 32),
    ("er", 2, 3, 2, 4, 48),
    ("ir", 3, 3, 2, 4, 96, 0.25),
    ("ir", 5, 3, 1, 6, 112, 0.25),
    ("ir", 8, 3, 2, 6, 192, 0.25),
)
V2_S: Rows = (  # 2104.00298, table 4, without its last stage of 1792 channels, as the code
    ("cn", 2, 3, 1, 1, 24),
    ("er", 4, 3, 2, 4, 48),
    ("er", 4, 3, 2, 4, 64),
    ("ir", 6, 3, 2, 4, 128, 0.25),
    ("ir", 9, 3, 1, 6, 160, 0.25),
    ("ir", 15, 3, 2, 6, 256, 0.25),
)
V2_RW: Rows = (("er", 2, 3, 1, 1, 24), *V2_S[1:5], ("ir", 15, 3, 2, 6, 272, 0.25))  # Table 4 itself
V2_M: Rows = (  # The code, as L and XL
    ("cn", 3, 3, 1, 1, 24),
    ("er", 5, 3, 2, 4, 48),
    ("er", 5, 3, 2, 4, 80),
    ("ir", 7, 3, 2, 4, 160, 0.25),
    ("ir", 14, 3, 1, 6, 176, 0.25),
    ("ir", 18, 3, 2, 6, 304, 0.25),
    ("ir", 5, 3, 1, 6, 512, 0.25),
)
V2_L: Rows = (
    ("cn", 4, 3, 1, 1, 32),
    ("er", 7, 3, 2, 4, 64),
    ("er", 7, 3, 2, 4, 96),
    ("ir", 10, 3, 2, 4, 192, 0.25),
    ("ir", 19, 3, 1, 6, 224, 0.25),
    ("ir", 25, 3, 2, 6, 384, 0.25),
    ("ir", 7, 3, 1, 6, 640, 0.25),
)
V2_XL: Rows = (
    ("cn", 4, 3, 1, 1, 32),
    ("er", 8, 3, 2, 4, 64),
    ("er", 8, 3, 2, 4, 96),
    ("ir", 16, 3, 2, 4, 192, 0.25),
    ("ir", 24, 3, 1, 6, 256, 0.25),
    ("ir", 32, 3, 2, 6, 512, 0.25),
    ("ir", 8, 3, 1, 6, 640, 0.25),
)
TEST: Rows = (  # timm's
    ("cn", 1, 3, 1, 1, 16),
    ("er", 1, 3, 2, 4, 24),
    ("er", 1, 3, 2, 4, 32),
    ("ir", 1, 3, 2, 4, 48, 0.25),
    ("ir", 1, 3, 2, 4, 64, 0.25),
)


@dataclasses.dataclass(frozen=True)
class Size:
    """What differs between EfficientNets, under timm's names."""

    stages: Sequence[Sequence[Any]]
    """A ``Stage`` each, before scaling."""
    channel_multiplier: float = 1.0
    """How much wider than the table (the papers' w)."""
    depth_multiplier: float | Sequence[float] = 1.0
    """How many more blocks than in the table (the papers' d), of all stages or of each."""
    stem_size: int = 32
    num_features: int = 1280
    """Width of the last 1x1 convolution, before scaling."""
    round_limit: float = 0.9
    """The part of a width below which rounding to a multiple of 8 may not fall."""
    pad_type: str = ""
    """``""``: equally on all sides, as torch; ``"same"``: the rest at the end, as TensorFlow."""
    bn_eps: float = 1e-5
    bn_momentum: float = 0.1
    """Part of a batch in the running averages."""

    def __post_init__(self) -> None:
        """Makes lists hashable, and checks what a user chose."""
        object.__setattr__(self, "stages", tuple(Stage(*stage) for stage in self.stages))
        if not isinstance(self.depth_multiplier, float | int):
            object.__setattr__(self, "depth_multiplier", tuple(self.depth_multiplier))
            if len(self.depth_multiplier) != len(self.stages):
                raise ValueError(
                    f"depth_multiplier is one number or one for each of {len(self.stages)} stages, "
                    f"got {self.depth_multiplier}."
                )
        if got := {stage[0] for stage in self.stages} - {"cn", "ds", "ir", "er"}:
            raise ValueError(f"Blocks are 'cn', 'ds', 'ir' and 'er', got {sorted(got)}.")
        if self.pad_type not in PAD_TYPES:
            raise ValueError(f"pad_type has to be one of {PAD_TYPES}, got {self.pad_type!r}.")

    @property
    def scaled(self) -> list[Stage]:
        """The stages with the numbers of blocks and channels that they have."""
        deeper, stages = self.depth_multiplier, [Stage(*stage) for stage in self.stages]
        by_stage = [deeper] * len(stages) if isinstance(deeper, float | int) else deeper
        return [
            stage._replace(
                repeats=math.ceil(stage.repeats * depth), channels=self.wide(stage.channels)
            )
            for stage, depth in zip(stages, by_stage, strict=True)
        ]

    def wide(self, channels: int) -> int:
        """Returns a scaled width: the next multiple of 8, and not far below."""
        width = channels * self.channel_multiplier
        rounded = max(8, int(width + 4) // 8 * 8)
        return rounded + 8 if rounded < self.round_limit * width else rounded


Numbers = dict[str, Any]
B0: Numbers = {"channel_multiplier": 1.0, "depth_multiplier": 1.0}
B1: Numbers = {"channel_multiplier": 1.0, "depth_multiplier": 1.1}
B2: Numbers = {"channel_multiplier": 1.1, "depth_multiplier": 1.2}
B3: Numbers = {"channel_multiplier": 1.2, "depth_multiplier": 1.4}
B4: Numbers = {"channel_multiplier": 1.4, "depth_multiplier": 1.8}
B5: Numbers = {"channel_multiplier": 1.6, "depth_multiplier": 2.2}
B6: Numbers = {"channel_multiplier": 1.8, "depth_multiplier": 2.6}
B7: Numbers = {"channel_multiplier": 2.0, "depth_multiplier": 3.1}
B8: Numbers = {"channel_multiplier": 2.2, "depth_multiplier": 3.6}
L2: Numbers = {"channel_multiplier": 4.3, "depth_multiplier": 5.3}
RW_T: Numbers = {"channel_multiplier": 0.8, "depth_multiplier": 0.9, "stem_size": 24}
RW_S: Numbers = {"num_features": 1792, "stem_size": 24}
RW_M: Numbers = {**RW_S, "channel_multiplier": 1.2, "depth_multiplier": (1.2,) * 4 + (1.6,) * 2}
TF: Numbers = {"pad_type": "same", "bn_eps": 1e-3}
TF_B: Numbers = {**TF, "round_limit": 0.0}

REPRESENTATIVE = (
    "efficientnet_b0",
    {
        "stages": (
            ("ds", 1, 3, 1, 1, 16, 0.25),
            ("ir", 1, 3, 2, 6, 24, 0.25),
            ("ir", 1, 5, 2, 6, 40, 0.25),
        ),
        "channel_multiplier": 1.0,
        "depth_multiplier": 1.0,
        "num_features": 160,
    },
)
VARIANTS = {
    "test_efficientnet": Size(TEST, stem_size=24, num_features=256, round_limit=0.0),
    "efficientnet_b0": Size(B, **B0),
    "efficientnet_b1": Size(B, **B1),
    "efficientnet_b2": Size(B, **B2),
    "efficientnet_b3": Size(B, **B3),
    "efficientnet_b4": Size(B, **B4),
    "efficientnet_b5": Size(B, **B5),
    "efficientnet_b6": Size(B, **B6),
    "efficientnet_b7": Size(B, **B7),
    "efficientnet_b8": Size(B, **B8),
    "efficientnet_l2": Size(B, **L2),
    "efficientnetv2_rw_t": Size(V2_S, **RW_T),
    "efficientnetv2_rw_s": Size(V2_RW, **RW_S),
    "efficientnetv2_rw_m": Size(V2_RW, **RW_M),
    "efficientnetv2_s": Size(V2_S, stem_size=24),
    "efficientnetv2_m": Size(V2_M, stem_size=24),
    "efficientnetv2_l": Size(V2_L),
    "efficientnetv2_xl": Size(V2_XL),
    "tf_efficientnet_b0": Size(B, **B0, **TF),
    "tf_efficientnet_b1": Size(B, **B1, **TF),
    "tf_efficientnet_b2": Size(B, **B2, **TF),
    "tf_efficientnet_b3": Size(B, **B3, **TF),
    "tf_efficientnet_b4": Size(B, **B4, **TF),
    "tf_efficientnet_b5": Size(B, **B5, **TF),
    "tf_efficientnet_b6": Size(B, **B6, **TF),
    "tf_efficientnet_b7": Size(B, **B7, **TF),
    "tf_efficientnet_b8": Size(B, **B8, **TF),
    "tf_efficientnet_l2": Size(B, **L2, **TF),
    "tf_efficientnetv2_b0": Size(V2_B, **B0, **TF_B),
    "tf_efficientnetv2_b1": Size(V2_B, **B1, **TF_B),
    "tf_efficientnetv2_b2": Size(V2_B, **B2, **TF_B),
    "tf_efficientnetv2_b3": Size(V2_B, **B3, **TF_B),
    "tf_efficientnetv2_s": Size(V2_S, stem_size=24, **TF),
    "tf_efficientnetv2_m": Size(V2_M, stem_size=24, **TF),
    "tf_efficientnetv2_l": Size(V2_L, **TF),
    "tf_efficientnetv2_xl": Size(V2_XL, **TF),
}


def build(name: str, *, features_only: bool = False, **options: Any) -> "EfficientNet":
    """Returns a variant; see ``scenax.models.create_model``."""
    return EfficientNet.of_size(VARIANTS[name], features_only=features_only, **options)


class EfficientNet(Architecture, kw_only=True):
    """A stem of stride 2, stages of blocks, a 1x1 convolution, a global pool, and a linear layer.

    Raises:
      ValueError: if there is no such pool, block or padding.
    """

    size: Size

    @property
    def levels(self) -> list[Level]:
        """The output of every stage after which the sides are halved, and of the last."""
        stages = self.size.scaled
        strides = [2 * math.prod(s.stride for s in stages[: i + 1]) for i in range(len(stages))]
        return [(stages[i].channels, strides[i], f"blocks.{i}") for i in self._ends]

    @property
    def num_features(self) -> int:
        """Channels of the map in front of the pool, which comes after the last level's."""
        return self.size.wide(self.size.num_features)

    @property
    def _ends(self) -> list[int]:
        stages = self.size.scaled
        return [i for i, s in enumerate(stages[1:]) if s.stride > 1] + [len(stages) - 1]

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
          Maps are ``[b, h, w, d]``, without the 1x1 convolution.

        Raises:
          ValueError: if the images have another number of channels.
        """
        self.check_images(x.shape)
        size, dtype, stages = self.size, self.dtype, self.size.scaled
        norm = functools.partial(_norm, size=size, train=train, dtype=dtype)
        x = _conv(x, size.wide(size.stem_size), 3, 2, size=size, dtype=dtype, name="conv_stem")
        x = nn.silu(norm(x, name="bn1"))

        make_block = remat_block(Block, self.remat)
        # As in the authors' code, the whole rate is that of a block after the last.
        done, total = 0, sum(stage.repeats for stage in stages) + 1
        maps = []
        for i, stage in enumerate(stages[: self._ends[self.depth_needed - 1] + 1]):
            for j in range(stage.repeats):
                stride, drop_path = 1 if j else stage.stride, self.drop_path_of(done, total)
                block = make_block(size, stage, stride, drop_path, dtype, name=f"blocks_{i}_{j}")
                x = block(x, train)
                done += 1
            maps += [x] if i in self._ends else []
        if self.out_indices is not None:
            return [maps[i] for i in self.out_indices]

        x = _conv(x, self.num_features, 1, size=size, dtype=dtype, name="conv_head")
        x = global_pool(nn.silu(norm(x, name="bn2")), self.global_pool)
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        if not self.num_classes:
            return x
        init = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")
        return nn.Dense(self.num_classes, kernel_init=init, dtype=dtype, name="classifier")(x)


class Block(nn.Module):
    """A stage's kind of block, with a shortcut where it keeps the map's shape."""

    size: Size
    stage: Stage
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
        stage, stride, kernel, out = self.stage, self.stride, self.stage.kernel, self.stage.channels
        width, inner = x.shape[-1], x.shape[-1] * stage.expand
        conv = functools.partial(_conv, size=self.size, dtype=self.dtype)
        norm = functools.partial(_norm, size=self.size, train=train, dtype=self.dtype)
        squeeze = round(width * stage.se_ratio)
        excite = SqueezeExcite(squeeze, self.dtype, name="se") if squeeze else lambda y: y

        if stage.block == "cn":
            y = nn.silu(norm(conv(x, out, kernel, stride, name="conv"), name="bn1"))
        elif stage.block == "ds":
            y = conv(x, width, kernel, stride, groups=width, name="conv_dw")
            y = excite(nn.silu(norm(y, name="bn1")))
            y = norm(conv(y, out, 1, name="conv_pw"), name="bn2")
        elif stage.block == "ir":
            y = nn.silu(norm(conv(x, inner, 1, name="conv_pw"), name="bn1"))
            y = conv(y, inner, kernel, stride, groups=inner, name="conv_dw")
            y = excite(nn.silu(norm(y, name="bn2")))
            y = norm(conv(y, out, 1, name="conv_pwl"), name="bn3")
        else:
            y = conv(x, inner, kernel, stride, name="conv_exp")
            y = excite(nn.silu(norm(y, name="bn1")))
            y = norm(conv(y, out, 1, name="conv_pwl"), name="bn2")
        if stride > 1 or width != out:
            return y
        return x + DropPath(self.drop_path)(y, train=train)


class SqueezeExcite(nn.Module):
    """Scales each channel by a number that depends on all channels' means."""

    hidden: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns the scaled map."""
        init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        layer = functools.partial(Conv, kernel_size=(1, 1), kernel_init=init, dtype=self.dtype)
        y = layer(self.hidden, name="conv_reduce")(x.mean(axis=(1, 2), keepdims=True))
        return x * nn.sigmoid(layer(x.shape[-1], name="conv_expand")(nn.silu(y)))


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
        use_bias=False,
        kernel_init=nn.initializers.variance_scaling(2.0 * groups, "fan_out", "normal"),
        **fields,
    )
    return conv(x)


def _norm(x: Array, *, size: Size, train: bool, dtype: Any, name: str) -> Array:
    momentum = 1 - size.bn_momentum  # Part of the past: flax's word for it.
    norm = nn.BatchNorm(not train, momentum=momentum, epsilon=size.bn_eps, name=name)
    return norm(x.astype(jnp.float32)).astype(dtype)
