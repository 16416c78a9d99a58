"""A fully connected network: the smallest thing that learns.

Scenic's baseline of the same name (arXiv 2110.11403, "Scenic: A JAX Library for Computer Vision
Research and Beyond"), with its default hidden sizes. Checked against the same network in numpy.

Letters in shapes: b batch, k classes.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class Size:
    """Widths of the hidden layers."""

    hid_sizes: tuple[int, ...]


REPRESENTATIVE = ("fully_connected", {})
VARIANTS = {"fully_connected": Size((20, 10))}


def build(
    name: str,
    *,
    default_cfg: Mapping[str, Any],
    hid_sizes: int | Sequence[int] | None = None,
    features_only: bool = False,
    **fields: Any,
) -> "FullyConnected":
    """Returns the network; see ``scenax.models.create_model``. ``fields`` are the module's.

    Raises:
      ValueError: if feature maps are asked for.
    """
    if features_only:
        raise ValueError(
            f"{name} has no feature maps: leave features_only out, or choose a backbone."
        )
    hid_sizes = VARIANTS[name].hid_sizes if hid_sizes is None else hid_sizes
    return FullyConnected(
        hid_sizes=(hid_sizes,) if isinstance(hid_sizes, int) else tuple(hid_sizes),
        default_cfg=FrozenDict(default_cfg),
        **fields,
    )


class FullyConnected(nn.Module):
    """Flattens an example, then hidden layers with ReLU, then one linear layer."""

    hid_sizes: tuple[int, ...]
    """Widths of the hidden layers; none gives a linear classifier."""
    num_classes: int = 1000
    """Width of the head's output; 0 for no head."""
    drop_rate: float = 0.0
    """Dropout in front of the head."""
    dtype: Any = jnp.float32
    """Of the computation; parameters are float32."""
    default_cfg: FrozenDict[str, Any] = FrozenDict()

    @property
    def num_features(self) -> int:
        """Width of the features.

        Raises:
          ValueError: if there is no hidden layer, since the features are the input then.
        """
        if not self.hid_sizes:
            raise ValueError("Without hidden layers the features are the input, of any width.")
        return self.hid_sizes[-1]

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """Empty, since there are no feature maps."""
        return []

    @nn.compact
    def __call__(self, x: Float[Array, "b ..."], *, train: bool) -> Float[Array, "b k"]:
        """Returns logits, or features if ``num_classes`` is 0.

        Args:
          x: examples of any shape, ``[b, ...]``.
          train: whether to drop; needs the random stream ``"dropout"`` if the rate is not 0.
        """
        x = x.reshape(x.shape[0], -1).astype(self.dtype)
        for i, width in enumerate(self.hid_sizes):
            x = nn.relu(nn.Dense(width, dtype=self.dtype, name=f"fc_{i}")(x))
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return (
            nn.Dense(self.num_classes, dtype=self.dtype, name="head")(x) if self.num_classes else x
        )
