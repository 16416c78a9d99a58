"""MLP-Mixer, ResMLP and gMLP: tokens mixed by linear layers over their positions.

Tolstikhin et al., "MLP-Mixer: An all-MLP Architecture for Vision" (arXiv 2105.01601); Touvron et
al., "ResMLP: Feedforward networks for image classification with data-efficient training" (arXiv
2105.03404); Liu et al., "Pay Attention to MLPs" (arXiv 2105.08050). gMixer is timm's Mixer with the
gated MLPs of Shazeer, "GLU Variants Improve Transformer" (arXiv 2002.05202). Checked against timm
1.0.31: logits, features and feature maps with equal weights, parameter counts, and ``default_cfg``.

Letters in shapes: b batch, h w image, c channels, n tokens (the patches row by row), d width,
k classes.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from scenax.models.architectures._architecture import Isotropic, Level, check_patches
from scenax.models.layers.conv import Conv
from scenax.models.layers.drop_path import DropPath
from scenax.models.layers.layer_norm import LayerNorm


@dataclasses.dataclass(frozen=True)
class Size:
    """What sets a network's cost per token, under timm's names where it has one."""

    embed_dim: int
    num_blocks: int
    block: str = "mixer"
    """``"mixer"``, ``"gmixer"`` (with gated MLPs), ``"resmlp"`` or ``"gmlp"``."""
    mlp_ratio: float = 4.0
    """Hidden width of the MLP over the channels, in widths."""
    token_ratio: float = 0.5
    """Hidden width of the mixers' MLP over the tokens, in widths."""
    layer_scale: float = 1e-4
    """Initial scale of ResMLP's branches."""
    patch_size: int = 16


SMALL = Size(512, 8)  # 2105.01601, table 1
BASE = Size(768, 12)  # 2105.01601, table 1
LARGE = Size(1024, 24)  # 2105.01601, table 1
GMIXER = Size(384, 12, "gmixer", token_ratio=1.0)  # timm's
GMIXER_24 = dataclasses.replace(GMIXER, num_blocks=24)
RES = Size(384, 12, "resmlp")  # 2105.03404, table 1
RES_24 = dataclasses.replace(RES, num_blocks=24, layer_scale=1e-5)
RES_36 = dataclasses.replace(RES, num_blocks=36, layer_scale=1e-6)
RES_BIG = dataclasses.replace(RES, embed_dim=768, num_blocks=24, layer_scale=1e-6, patch_size=8)
GMLP = Size(128, 30, "gmlp", mlp_ratio=6.0)  # 2105.08050, table 1

REPRESENTATIVE = (
    "mixer_s16_224",
    {"img_size": 32, "patch_size": 8, "embed_dim": 192, "num_blocks": 2},
)
VARIANTS = {
    "mixer_s16_224": SMALL,
    "mixer_s32_224": dataclasses.replace(SMALL, patch_size=32),
    "mixer_b32_224": dataclasses.replace(BASE, patch_size=32),
    "mixer_b16_224": BASE,
    "mixer_l32_224": dataclasses.replace(LARGE, patch_size=32),
    "mixer_l16_224": LARGE,
    "gmixer_12_224": GMIXER,
    "gmixer_24_224": GMIXER_24,
    "resmlp_12_224": RES,
    "resmlp_24_224": RES_24,
    "resmlp_36_224": RES_36,
    "resmlp_big_24_224": RES_BIG,
    "gmlp_ti16_224": GMLP,
    "gmlp_s16_224": dataclasses.replace(GMLP, embed_dim=256),
    "gmlp_b16_224": dataclasses.replace(GMLP, embed_dim=512),
}

BLOCKS = ("mixer", "gmixer", "resmlp", "gmlp")

_dense = functools.partial(nn.Dense, kernel_init=nn.initializers.xavier_uniform())


def _norm(x: Array, dtype: Any, name: str, epsilon: float = 1e-6) -> Array:
    return LayerNorm(epsilon, dtype, name=name)(x)


def build(name: str, *, features_only: bool = False, **options: Any) -> "MlpMixer":
    """Returns a variant; see ``scenax.models.create_model``."""
    return MlpMixer.of_size(VARIANTS[name], features_only=features_only, **options)


class MlpMixer(Isotropic, kw_only=True):
    """Patches, equal blocks at one width, a norm, their mean and one linear layer.

    Raises:
      ValueError: if the patch does not divide the image, or if there is no such pool or block.
    """

    default_maps: ClassVar = 3

    size: Size
    img_size: tuple[int, int]
    drop_path_rate: float = 0.0
    """Stochastic depth, equal in all blocks, as timm has it."""

    def __post_init__(self) -> None:
        """Checks what a user chose."""
        check_patches("Mixer", self.size.patch_size, self.img_size)
        if self.size.block not in BLOCKS:
            raise ValueError(f"block has to be one of {BLOCKS}, got {self.size.block!r}.")
        super().__post_init__()

    @property
    def pools(self) -> tuple[str, ...]:
        """Ways to make one vector of the map or tokens."""
        return ("avg", "")

    @property
    def levels(self) -> list[Level]:
        """The output of every block, before the last norm."""
        size = self.size
        return [(size.embed_dim, size.patch_size, f"blocks.{i}") for i in range(size.num_blocks)]

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b k"] | Float[Array, "b n k"] | list[Float[Array, "b rows cols d"]]:
        """Returns logits, features if ``num_classes`` is 0, or maps if ``out_indices`` is set.

        Args:
          x: images, ``[b, *img_size, in_chans]``.
          train: whether to drop; needs the random stream ``"dropout"`` if a rate is not 0.

        Returns:
          ``[b, k]``, or ``[b, d]`` without a head; ``[b, n, ...]`` if ``global_pool`` is ``""``.
          Maps are ``[b, h / patch, w / patch, d]``, before the last norm, as timm's are.

        Raises:
          ValueError: if the images are of another shape.
        """
        self.check_images(x.shape)
        size = self.size
        rows, cols = (side // size.patch_size for side in self.img_size)

        x = PatchEmbed(size.embed_dim, size.patch_size, self.dtype, name="stem")(x)
        kind = {"resmlp": ResBlock, "gmlp": GatingBlock}.get(size.block, MixerBlock)
        rates = [self.drop_path_rate] * self.depth_needed
        outputs = self.apply_blocks(kind, rates, x, train, size=size, dtype=self.dtype)
        x = outputs[-1]
        if self.out_indices is not None:
            shape = (x.shape[0], rows, cols, size.embed_dim)
            return [outputs[i].reshape(shape) for i in self.out_indices]

        affine = size.block == "resmlp"
        x = Affine(self.dtype, name="norm")(x) if affine else _norm(x, self.dtype, "norm")
        x = x.mean(axis=1) if self.global_pool == "avg" else x
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        # timm starts the head at zeros, whose first gradient stops there.
        head = functools.partial(nn.Dense, kernel_init=nn.initializers.normal(0.02), name="head")
        return head(self.num_classes, dtype=self.dtype)(x) if self.num_classes else x


class PatchEmbed(nn.Module):
    """Cuts the image into patches and projects each: a convolution whose stride is its size."""

    width: int
    patch_size: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b n d"]:
        """Returns the patches' tokens, row by row."""
        patch = (self.patch_size, self.patch_size)
        project = functools.partial(Conv, padding="VALID", dtype=self.dtype, name="proj")
        x = project(self.width, patch, strides=patch)(x)
        return x.reshape(x.shape[0], -1, self.width)


class MixerBlock(nn.Module):
    """Equation 1 of the Mixer paper: an MLP over tokens, then one over channels."""

    size: Size
    drop_path: float | Float[Array, ""]
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        train: bool,  # noqa: FBT001 (nn.remat would trace it as a keyword argument)
    ) -> Float[Array, "b n d"]:
        """Returns the tokens after the block."""
        drop_path = DropPath(self.drop_path)
        make_mlp = GluMlp if self.size.block == "gmixer" else Mlp
        hidden = int(x.shape[-1] * self.size.token_ratio)
        y = _norm(x, self.dtype, "norm1").swapaxes(1, 2)
        y = make_mlp(hidden, self.dtype, name="mlp_tokens")(y).swapaxes(1, 2)
        x = x + drop_path(y, train=train)
        hidden = int(x.shape[-1] * self.size.mlp_ratio)
        y = make_mlp(hidden, self.dtype, name="mlp_channels")(_norm(x, self.dtype, "norm2"))
        return x + drop_path(y, train=train)


class ResBlock(nn.Module):
    """Equations 2 and 3 of the ResMLP paper: no norm, and one linear layer over tokens."""

    size: Size
    drop_path: float | Float[Array, ""]
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        train: bool,  # noqa: FBT001 (nn.remat would trace it as a keyword argument)
    ) -> Float[Array, "b n d"]:
        """Returns the tokens after the block."""
        drop_path = DropPath(self.drop_path)
        start, width = nn.initializers.constant(self.size.layer_scale), x.shape[-1]
        scale1, scale2 = (
            self.param(name, start, (width,)).astype(self.dtype).reshape(1, 1, width)
            for name in ("ls1", "ls2")
        )
        y = Affine(self.dtype, name="norm1")(x).swapaxes(1, 2)
        y = _dense(y.shape[-1], dtype=self.dtype, name="linear_tokens")(y).swapaxes(1, 2)
        x = x + drop_path(scale1 * y, train=train)
        hidden = int(x.shape[-1] * self.size.mlp_ratio)
        y = Affine(self.dtype, name="norm2")(x)
        y = Mlp(hidden, self.dtype, name="mlp_channels")(y)
        return x + drop_path(scale2 * y, train=train)


class GatingBlock(nn.Module):
    """Figure 1 of the gMLP paper: one MLP, in which half of the channels gate the other half."""

    size: Size
    drop_path: float | Float[Array, ""]
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        train: bool,  # noqa: FBT001 (nn.remat would trace it as a keyword argument)
    ) -> Float[Array, "b n d"]:
        """Returns the tokens after the block."""
        hidden = int(x.shape[-1] * self.size.mlp_ratio)
        y = _norm(x, self.dtype, "norm")
        y = SpatialGatingMlp(hidden, self.dtype, name="mlp_channels")(y)
        return x + DropPath(self.drop_path)(y, train=train)


class Affine(nn.Module):
    """A scale and a shift of each channel, equation 1 of the ResMLP paper."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Applies to each token alone."""
        shape = (1, 1, x.shape[-1])
        alpha = self.param("alpha", nn.initializers.ones, shape).astype(self.dtype)
        beta = self.param("beta", nn.initializers.zeros, shape).astype(self.dtype)
        return alpha * x + beta


class Mlp(nn.Module):
    """Two layers over the last axis, with the exact GELU between them."""

    hidden: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b m d"]) -> Float[Array, "b m d"]:
        """Applies to each row alone."""
        y = nn.gelu(_dense(self.hidden, dtype=self.dtype, name="fc1")(x), approximate=False)
        return _dense(x.shape[-1], dtype=self.dtype, name="fc2")(y)


class GluMlp(nn.Module):
    """As ``Mlp``, but the second half of the hidden units gates the first, through a SiLU."""

    hidden: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b m d"]) -> Float[Array, "b m d"]:
        """Applies to each row alone."""
        y, gate = jnp.split(_dense(self.hidden, dtype=self.dtype, name="fc1")(x), 2, axis=-1)
        return _dense(x.shape[-1], dtype=self.dtype, name="fc2")(y * nn.silu(gate))


class SpatialGatingMlp(nn.Module):
    """As ``Mlp``, but a linear layer over the tokens makes half of the hidden units a gate."""

    hidden: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Returns the tokens, each with a view of all."""
        y = nn.gelu(_dense(self.hidden, dtype=self.dtype, name="fc1")(x), approximate=False)
        y, gate = jnp.split(y, 2, axis=-1)
        y = y * SpatialGate(self.dtype, name="gate")(gate)
        return _dense(x.shape[-1], dtype=self.dtype, name="fc2")(y)


class SpatialGate(nn.Module):
    """A norm and a linear layer over the tokens that starts as a gate of ones."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Returns the gate."""
        project = nn.Dense(
            x.shape[1],
            kernel_init=nn.initializers.normal(1e-6),
            bias_init=nn.initializers.ones,
            dtype=self.dtype,
            name="proj",
        )
        return project(_norm(x, self.dtype, "norm", 1e-5).swapaxes(1, 2)).swapaxes(1, 2)
