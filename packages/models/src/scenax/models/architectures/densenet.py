"""DenseNet: every layer sees the outputs of all layers before it in its block.

Huang et al., "Densely Connected Convolutional Networks" (arXiv 1608.06993); ``264d`` and
``densenetblur121d`` have timm's stem of three 3x3 convolutions, the latter with the blurred pooling
of Zhang, "Making Convolutional Networks Shift-Invariant Again" (arXiv 1904.11486). Checked against
timm 1.0.31: logits, features and feature maps with equal weights, and parameter counts.

Running averages are in the collection ``"batch_stats"``. There is no residual branch, and so no
stochastic depth. Letters in shapes: b batch, h w image or map, c d channels, k classes.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from scenax.models.architectures._architecture import Architecture, Level, remat_block
from scenax.models.layers.conv import Conv, convolve
from scenax.models.layers.global_pool import global_pool


@dataclasses.dataclass(frozen=True)
class Size:
    """What differs between the variants, under timm's names."""

    growth_rate: int
    """Channels that each layer adds."""
    block_config: tuple[int, ...]
    """Layers of each block."""
    stem_type: str = ""
    """``""``: one 7x7 convolution; ``"deep"``: three 3x3 ones."""
    blur: bool = False
    """Whether the stem's pool is a maximum everywhere, blurred, and then halved."""

    def __post_init__(self) -> None:
        """Checks what a user chose."""
        if self.stem_type not in ("", "deep"):
            raise ValueError(f"stem_type has to be '' or 'deep', got {self.stem_type!r}.")

    @property
    def widths(self) -> list[int]:
        """Channels of the stem's output and of each block's; transitions halve them between."""
        widths, width = [2 * self.growth_rate], 2 * self.growth_rate
        for layers in self.block_config:
            widths.append(width + layers * self.growth_rate)
            width = widths[-1] // 2
        return widths


REPRESENTATIVE = ("densenet121", {"block_config": (2, 2)})
VARIANTS = {  # 1608.06993, table 1
    "densenet121": Size(32, (6, 12, 24, 16)),
    "densenetblur121d": Size(32, (6, 12, 24, 16), "deep", blur=True),
    "densenet169": Size(32, (6, 12, 32, 32)),
    "densenet201": Size(32, (6, 12, 48, 32)),
    "densenet161": Size(48, (6, 12, 36, 24)),
    "densenet264d": Size(48, (6, 12, 64, 48), "deep"),
}

BOTTLENECK = 4
"""Growth rates that a layer's 1x1 convolution makes."""


def build(name: str, *, features_only: bool = False, **options: Any) -> "DenseNet":
    """Returns a variant; see ``scenax.models.create_model``."""
    return DenseNet.of_size(VARIANTS[name], features_only=features_only, **options)


class DenseNet(Architecture, kw_only=True):
    """A stem of stride 4, dense blocks with halving transitions, a pool, and one linear layer.

    Raises:
      ValueError: if there is no such pool or stem, or a rate of stochastic depth.
    """

    residual: ClassVar = False

    size: Size

    @property
    def levels(self) -> list[Level]:
        """The stem's map, the outputs of all blocks but the last, and that one's, normed."""
        widths = self.size.widths
        last = len(widths) - 1
        names = ["norm2" if self.size.stem_type else "norm0"]
        names += [f"denseblock{i}" for i in range(1, last)] + ["norm5"]
        levels = enumerate(zip(widths, names, strict=True))
        return [(c, 2 << i, f"features.{name}") for i, (c, name) in levels]

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
        features = Features(self.size, self.depth_needed, self.remat, self.dtype, name="features")
        maps = features(x, train=train)
        if self.out_indices is not None:
            return [maps[i] for i in self.out_indices]
        x = global_pool(maps[-1], self.global_pool)
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        if not self.num_classes:
            return x
        uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        head = nn.Dense(self.num_classes, kernel_init=uniform, dtype=self.dtype, name="classifier")
        return head(x)


class Features(nn.Module):
    """Everything in front of the pool, as timm groups it."""

    size: Size
    levels: int
    remat: bool | str
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool
    ) -> list[Float[Array, "b rows cols d"]]:
        """Returns the first maps."""
        size, conv = self.size, functools.partial(_conv, dtype=self.dtype)
        norm = functools.partial(_norm_relu, train=train, dtype=self.dtype)
        if size.stem_type:
            growth = size.growth_rate
            x = norm(conv(x, growth, 3, 2, name="conv0"), name="norm0")
            x = norm(conv(x, growth, 3, name="conv1"), name="norm1")
            x = norm(conv(x, size.widths[0], 3, name="conv2"), name="norm2")
        else:
            x = norm(conv(x, size.widths[0], 7, 2, name="conv0"), name="norm0")
        maps = [x]
        make_layer = remat_block(Layer, self.remat)
        for i in range(1, self.levels):
            if i == 1:
                x = _blurred_pool(x) if size.blur else _max_pool(x, 2)
            else:
                x = Transition(self.dtype, name=f"transition{i - 1}")(x, train=train)
            block = Block(size, i - 1, make_layer, self.dtype, name=f"denseblock{i}")
            x = block(x, train=train)
            last = i == len(size.block_config)
            maps.append(norm(x, name="norm5") if last else x)
        return maps


class Block(nn.Module):
    """Layers on one map size, the input and all of whose outputs are concatenated."""

    size: Size
    index: int
    make_layer: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w d"]:
        """Returns the map after the block."""
        for i in range(self.size.block_config[self.index]):
            layer = self.make_layer(self.size.growth_rate, self.dtype, name=f"denselayer{i + 1}")
            x = jnp.concatenate([x, layer(x, train)], axis=-1)
        return x


class Layer(nn.Module):
    """A 1x1 and a 3x3 convolution, each after a norm and ReLU."""

    growth_rate: int
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        train: bool,  # noqa: FBT001 (nn.remat would trace it as a keyword argument)
    ) -> Float[Array, "b h w d"]:
        """Returns the channels that the layer adds."""
        norm = functools.partial(_norm_relu, train=train, dtype=self.dtype)
        conv = functools.partial(_conv, dtype=self.dtype)
        x = conv(norm(x, name="norm1"), BOTTLENECK * self.growth_rate, 1, name="conv1")
        return conv(norm(x, name="norm2"), self.growth_rate, 3, name="conv2")


class Transition(nn.Module):
    """Half the channels, rows and columns."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b hh ww d"]:
        """Returns the smaller map; an odd last row or column is left out."""
        width = x.shape[-1] // 2
        x = _norm_relu(x, train=train, dtype=self.dtype, name="norm")
        x = _conv(x, width, 1, dtype=self.dtype, name="conv")
        batch, rows, cols = x.shape[0], x.shape[1] // 2, x.shape[2] // 2
        x = x[:, : 2 * rows, : 2 * cols].reshape(batch, rows, 2, cols, 2, width)
        return x.mean(axis=(2, 4))


def _max_pool(x: Array, stride: int) -> Array:
    around: Any = ((1, 1), (1, 1))  # flax's annotation knows names only.
    return nn.max_pool(x, (3, 3), strides=(stride, stride), padding=around)


def _blurred_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b hh ww c"]:
    x = jnp.pad(_max_pool(x, 1), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    taps = np.outer([1, 2, 1], [1, 2, 1]) / 16
    kernel = jnp.asarray(np.repeat(taps[:, :, None, None], x.shape[-1], axis=3), x.dtype)
    return convolve(x, kernel, 2, "VALID", x.shape[-1])


def _conv(x: Array, features: int, kernel: int, stride: int = 1, **fields: Any) -> Array:
    # Padded as torch does, equally on all sides.
    conv = Conv(
        features,
        (kernel, kernel),
        strides=stride,
        padding=kernel // 2,
        use_bias=False,
        kernel_init=nn.initializers.he_normal(),
        **fields,
    )
    return conv(x)


def _norm_relu(x: Array, *, train: bool, dtype: Any, name: str) -> Array:
    norm = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, name=name)
    return nn.relu(norm(x.astype(jnp.float32))).astype(dtype)
