"""What all architectures have in common: timm's options, and what a model says of itself.

Blocks are not shared: each family's file reads from top to bottom without another.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jaxtyping import Array, Float

from scenax.common.registry import did_you_mean
from scenax.models.layers.conv import CONVOLVED
from scenax.models.layers.global_pool import POOLS

Level = tuple[int, int, str]
"""Channels, stride, and timm's module name of a feature map."""

Family = TypeVar("Family", bound="Architecture")
Block = TypeVar("Block", bound=nn.Module)

REMAT_POLICIES: Mapping[str, Callable[..., Any]] = {
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        jax.checkpoint_policies.save_only_these_names(CONVOLVED),
    ),
}
"""What is kept of the inside of a block, by the policy's name."""


class Architecture(nn.Module, kw_only=True):
    """An image model of the zoo. Abstract: a family says what is computed, and lists its levels.

    Raises:
      ValueError: if an option cannot be; subclasses check theirs, then call this.
    """

    default_maps: ClassVar[int | None] = None
    """How many of the last feature maps are returned if no indices are asked for; None for all."""
    residual: ClassVar[bool] = True
    """Whether there are branches that stochastic depth can drop."""

    size: Any
    in_chans: int = 3
    num_classes: int = 1000
    """Width of the head's output; 0 for no head."""
    global_pool: str = "avg"
    """How a map or tokens become one vector: see the family's ``pools``; ``""`` for not at all."""
    out_indices: tuple[int, ...] | None = None
    """Levels whose maps are returned instead of logits; what comes after them does not exist."""
    drop_rate: float = 0.0
    """Dropout in front of the head."""
    drop_path_rate: float = 0.0
    """Stochastic depth of the last block; it grows linearly from 0 at the first."""
    dtype: Any = jnp.float32
    """Of the computation; parameters are float32, and so are norms and the softmax."""
    remat: bool | str = False
    """What of each block to compute again in the backward pass instead of keeping it: ``False``
    nothing; ``True`` or ``"full"`` everything; ``"dots"`` all but products with weights."""
    default_cfg: FrozenDict[str, Any] = FrozenDict()
    """What timm's ``default_cfg`` says of the weights, their input and the names of layers."""

    def __post_init__(self) -> None:
        """Checks what a user chose."""
        if self.in_chans < 1:
            raise ValueError(
                f"in_chans={self.in_chans}: images need at least one channel. Leave in_chans out "
                "for 3, or say how many channels your images have."
            )
        if self.num_classes < 0:
            raise ValueError(
                f"num_classes={self.num_classes}: the head needs a width of at least 1; 0 leaves "
                "it out, for features."
            )
        if self.global_pool not in self.pools:
            raise ValueError(
                f"global_pool has to be one of {self.pools}, got {self.global_pool!r}."
            )
        for option in ("drop_rate", "drop_path_rate"):
            if not 0 <= (rate := getattr(self, option)) < 1:
                raise ValueError(f"{option} is a probability below 1, got {rate}.")
        if self.drop_path_rate and not self.residual:
            raise ValueError(
                f"{type(self).__name__} has no residual branches for drop_path_rate="
                f"{self.drop_path_rate} to drop. Leave it out."
            )
        if self.remat not in (False, True, *REMAT_POLICIES):
            raise ValueError(
                f"remat is False, True, or the name of a policy, got {self.remat!r}. "
                f"{did_you_mean(str(self.remat), REMAT_POLICIES)}"
            )
        super().__post_init__()

    @classmethod
    def of_size(
        cls: type[Family],
        size: Any,
        *,
        default_cfg: Mapping[str, Any],
        features_only: bool = False,
        out_indices: int | Sequence[int] | None = None,
        **options: Any,
    ) -> Family:
        """Returns a model of a size, with timm's defaults for what is left out.

        Args:
          size: a dataclass of numbers.
          default_cfg: what is known of the weights.
          features_only: whether to return feature maps instead of logits.
          out_indices: of the maps, negative ones from the end, or how many of the last ones.
          **options: fields of the class, and of ``size``, which replace its own.

        Raises:
          ValueError: if an option cannot be.
        """
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
        replaced = {f.name for f in dataclasses.fields(size)} & set(options)
        size = dataclasses.replace(size, **{name: options.pop(name) for name in replaced})
        options.setdefault("num_classes", default_cfg["num_classes"])
        if "img_size" in {field.name for field in dataclasses.fields(cls)}:
            options["img_size"] = pair(options.get("img_size", default_cfg["input_size"][1:]))
        model = cls(size=size, default_cfg=FrozenDict(default_cfg), **options)
        if features_only:
            wanted = _indices(len(model.levels), out_indices, model.default_maps)
            return model.clone(out_indices=wanted)
        if out_indices is not None:
            raise ValueError(f"out_indices={out_indices} needs features_only=True as well.")
        return model

    @property
    def pools(self) -> tuple[str, ...]:
        """Values of ``global_pool`` that the family has."""
        return POOLS

    @property
    def levels(self) -> Sequence[Level]:
        """All feature maps that there are, first to last."""
        raise NotImplementedError

    @property
    def num_features(self) -> int:
        """Channels of the last map, which are those of the features in front of the pool."""
        return self.levels[-1][0]

    @property
    def head_hidden_size(self) -> int:
        """Width of the features that the classifier sees, for all pools but ``"catavgmax"``."""
        return self.num_features

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """Channels, stride and timm's module name of each feature map that can be had, or is."""
        levels = self.levels
        indices = range(len(levels)) if self.out_indices is None else self.out_indices
        return [
            dict(zip(("num_chs", "reduction", "module"), levels[i], strict=True)) for i in indices
        ]

    @property
    def depth_needed(self) -> int:
        """How many levels have to be computed."""
        return len(self.levels) if self.out_indices is None else max(self.out_indices) + 1

    def drop_path_of(self, block: int, blocks: int) -> float:
        """Returns the rate of stochastic depth of a block of so many."""
        return self.drop_path_rate * block / max(blocks - 1, 1)

    def check_images(self, got: Sequence[int]) -> None:
        """Checks the shape of a batch of images, all of it if the model has an ``img_size``.

        Raises:
          ValueError: if it is another.
        """
        chans, height_and_width = self.in_chans, getattr(self, "img_size", None)
        family = type(self).__name__
        if height_and_width is not None and tuple(got[1:]) != (*height_and_width, chans):
            raise ValueError(
                f"This {family} was made for images of "
                f"{'x'.join(map(str, (*height_and_width, chans)))}, got "
                f"{'x'.join(map(str, got[1:]))}. Resize in the input pipeline, or create the model "
                f"with img_size={tuple(got[1:-1])}, in_chans={got[-1]}."
            )
        if got[-1] != chans:
            raise ValueError(
                f"This {family} was made for images of {chans} channels, got {got[-1]}. Images "
                f"are [b, h, w, c]; for others create the model with in_chans={got[-1]}."
            )


class Isotropic(Architecture, kw_only=True):
    """An architecture whose blocks are alike and of one width, such as a ViT. Abstract."""

    scan_blocks: bool = False
    """Whether to compile one block and run it over the stacked parameters of all, so that the time
    to compile does not grow with depth. Variables and outputs are as without; what is dropped in
    training has other random keys. The stacks are copies of the blocks' parameters, and in training
    of their gradients; feature maps are kept of all blocks up to the last one wanted. While
    intermediates are captured, blocks run one by one."""

    @nn.nowrap
    def apply_blocks(
        self,
        kind: type[nn.Module],
        rates: Sequence[float],
        x: Float[Array, "b n d"],
        train: bool,  # noqa: FBT001 (as of blocks)
        **fields: Any,
    ) -> list[Float[Array, "b n d"]]:
        """Returns the output of every block if maps are wanted, and else of the last alone.

        Args:
          kind: the class of the blocks, which are called with tokens and ``train``.
          rates: stochastic depth of each block, its field ``drop_path``.
          x: the tokens.
          train: whether to drop.
          **fields: the other fields of ``kind``.
        """
        keep = self.out_indices is not None
        names = [f"blocks_{i}" for i in range(len(rates))]
        params = self.variables.get("params", {})
        # What is not there yet, Flax makes or misses block by block.
        ready = all(name in params for name in names)
        if not self.scan_blocks or not ready or self.is_mutable_collection("intermediates"):
            make_block, outputs = remat_block(kind, self.remat), []
            for name, rate in zip(names, rates, strict=True):
                x = make_block(**fields, drop_path=rate, name=name)(x, train)
                outputs = [*outputs, x] if keep else [x]
            return outputs

        noise = None
        if train and any(rates):
            keys = jax.random.split(self.make_rng("dropout"), len(rates))
            noise = jnp.asarray(rates, jnp.float32), {"dropout": keys}

        def block(x: Array, inputs: Any) -> tuple[Array, Array | None]:
            params, noise = inputs
            rate, rngs = noise or (0.0, None)
            one = kind(**fields, drop_path=rate, parent=None)
            y: Any = one.apply({"params": params}, x, train, rngs=rngs)
            return y, y if keep else None

        if self.remat:  # XLA cannot merge the second forward pass with the first across loops.
            block = jax.checkpoint(block, prevent_cse=False, policy=_policy(self.remat))
        stacks = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(params[name] for name in names))
        x, outputs = jax.lax.scan(block, x, (stacks, noise))
        return [x] if outputs is None else list(outputs)


def remat_block(
    kind: type[Block],
    remat: bool | str,  # noqa: FBT001 (or a policy's name)
    static_argnums: Sequence[int] = (2,),
) -> type[Block]:
    """Returns a class of blocks of which the backward pass computes again what ``remat`` says.

    Args:
      kind: the class of the blocks.
      remat: as of ``Architecture``.
      static_argnums: arguments of a block that are no arrays, counted with ``self`` as 0.
    """
    if not remat:
        return kind
    return nn.remat(kind, static_argnums=tuple(static_argnums), policy=_policy(remat))


def _policy(remat: bool | str) -> Callable[..., Any]:  # noqa: FBT001 (or a policy's name)
    return REMAT_POLICIES["full" if remat is True else str(remat)]


def check_patches(
    family: str, patch: int, img_size: Sequence[int], cure: str = "choose another patch size"
) -> None:
    """Checks that patches divide an image.

    Raises:
      ValueError: if they do not.
    """
    height, width = img_size
    if patch < 1 or height < 1 or width < 1 or height % patch or width % patch:
        raise ValueError(
            f"{family}/{patch} needs an image whose sides divide by {patch}, got {height}x{width}. "
            f"Resize or pad in the input pipeline, or {cure}."
        )


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """Returns height and width from ``size`` or ``(height, width)``."""
    height, width = (value, value) if isinstance(value, int) else value
    return height, width


def _indices(
    count: int, out_indices: int | Sequence[int] | None, default: int | None
) -> tuple[int, ...]:
    out_indices = min(default or count, count) if out_indices is None else out_indices
    if isinstance(out_indices, int):
        wanted = range(count - out_indices, count)
        valid = 0 < out_indices <= count
    else:
        wanted = [index + count if index < 0 else index for index in out_indices]
        valid = bool(wanted) and all(0 <= index < count for index in wanted)
    if not valid:
        raise ValueError(
            f"out_indices={out_indices} is out of range. There are {count} feature maps: use "
            f"indices from 0 to {count - 1} (or -{count} to -1), or the number of the last maps."
        )
    return tuple(sorted(set(wanted)))
