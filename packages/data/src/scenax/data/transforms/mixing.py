"""What makes new examples of two: mixup, CutMix and copy-paste.

Mixup (Zhang et al., arXiv 1710.09412) and CutMix (Yun et al., arXiv 1905.04899) work on whole
batches where these are, on the accelerator; hand one to ``train.step.make_train_step``. Copy-paste
(Ghiasi et al., arXiv 2012.07177) works on two examples of the pipeline, before they are padded.

Checked against the papers' formulas in numpy. Letters: b batch, h w image, c channels, k classes.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from scenax.common.contracts import Batch
from scenax.common.masks import bounding_boxes
from scenax.data.examples import Example
from scenax.data.transforms import geometry


@dataclasses.dataclass(frozen=True)
class Mixup:
    """Blends every example of a batch with another, by shares from Beta(alpha, alpha).

    x = s x_i + (1 - s) x_j and y = s y_i + (1 - s) y_j, with a share s for each example, or one for
    the whole batch. Example i is blended with example -i, counted from the end, as timm does it.
    """

    alpha: float = 0.2
    per_example: bool = True

    def __post_init__(self) -> None:
        _check_alpha("Mixup", self.alpha)

    def __call__(self, batch: Batch, key: Key[Array, ""]) -> dict[str, Any]:
        """Returns the batch with ``inputs`` ``[b, h, w, c]`` and ``label`` ``[b, k]`` blended.

        Raises:
          TypeError: if labels are class ids, which cannot be blended.
        """
        share = _shares(key, self.alpha, batch, per_example=self.per_example)
        share = _own_where_alone(share, batch)
        return {
            **batch,
            "inputs": _blend(batch["inputs"], share),
            "label": _blend(_soft_label("Mixup", batch), share),
        }


@dataclasses.dataclass(frozen=True)
class CutMix:
    """Pastes a rectangle of one example into another; labels are blended by its area.

    A share s is drawn from Beta(alpha, alpha); the rectangle has the image's aspect ratio, the area
    1 - s, and a uniformly drawn centre. Where it reaches over the border it is cut off, and the
    label goes by what is left.
    """

    alpha: float = 1.0
    per_example: bool = True

    def __post_init__(self) -> None:
        _check_alpha("CutMix", self.alpha)

    def __call__(self, batch: Batch, key: Key[Array, ""]) -> dict[str, Any]:
        """Returns the batch with ``inputs`` ``[b, h, w, c]`` and ``label`` ``[b, k]`` mixed.

        Raises:
          TypeError: if labels are class ids, which cannot be blended.
        """
        share_key, row_key, column_key = jax.random.split(key, 3)
        share = _shares(share_key, self.alpha, batch, per_example=self.per_example)
        height, width = batch["inputs"].shape[-3:-1]
        side = jnp.sqrt(1 - share)
        rows = _interval(row_key, side, height)
        columns = _interval(column_key, side, width)
        inside = rows[:, :, None] & columns[:, None, :] & ~_alone(batch)[:, None, None]
        kept = 1 - inside.mean(axis=(1, 2), dtype=jnp.float32)
        # Clips [b, t, h, w, c]: the same rectangle in every frame.
        frames = (1,) * (batch["inputs"].ndim - 4)
        inside = inside.reshape(len(inside), *frames, height, width, 1)
        return {
            **batch,
            "inputs": jnp.where(inside, batch["inputs"][::-1], batch["inputs"]),
            "label": _blend(_soft_label("CutMix", batch), kept),
        }


@dataclasses.dataclass(frozen=True)
class MixupOrCutMix:
    """Either of the two, drawn anew for every batch: CutMix with ``cutmix_probability``."""

    mixup: Mixup = dataclasses.field(default_factory=lambda: Mixup(0.8))
    cutmix: CutMix = dataclasses.field(default_factory=CutMix)
    cutmix_probability: float = 0.5

    def __call__(self, batch: Batch, key: Key[Array, ""]) -> dict[str, Any]:
        """Returns the batch mixed in one of the two ways."""
        choice_key, key = jax.random.split(key)
        cut = jax.random.uniform(choice_key) < self.cutmix_probability
        return jax.lax.cond(cut, self.cutmix, self.mixup, dict(batch), key)


def _check_alpha(name: str, alpha: float) -> None:
    if not alpha > 0:
        raise ValueError(f"{name} needs alpha above 0, got {alpha}. Leave it out for none.")


def _shares(
    key: Key[Array, ""], alpha: float, batch: Batch, *, per_example: bool
) -> Float[Array, " b"]:
    count = len(batch["inputs"])
    return jnp.broadcast_to(
        jax.random.beta(key, alpha, alpha, (count if per_example else 1,), jnp.float32), (count,)
    )


def _alone(batch: Batch) -> jax.Array:
    """Where an example or its partner is padding: nothing is mixed there."""
    mask = jnp.asarray(batch.get("batch_mask", jnp.ones(len(batch["inputs"]))))
    return (mask == 0) | (mask[::-1] == 0)


def _own_where_alone(share: Float[Array, " b"], batch: Batch) -> Float[Array, " b"]:
    return jnp.where(_alone(batch), jnp.float32(1), share)


def _blend(values: jax.Array, share: Float[Array, " b"]) -> jax.Array:
    own = share.reshape(-1, *(1,) * (values.ndim - 1)).astype(values.dtype)
    return own * values + (1 - own) * values[::-1]


def _soft_label(name: str, batch: Batch) -> jax.Array:
    label = jnp.asarray(batch["label"])
    if not jnp.issubdtype(label.dtype, jnp.floating):
        raise TypeError(
            f"{name} needs one-hot labels, got {label.dtype}{list(label.shape)}. Ask the dataset "
            "for them with one_hot=True, or use transforms.targets.OneHot."
        )
    return label


def _interval(key: Key[Array, ""], side: Float[Array, " b"], size: int) -> jax.Array:
    """``[b, size]``: the pixels within a random centre plus or minus half of ``side * size``."""
    half = (side * size / 2).astype(jnp.int32)[:, None]
    centre = jax.random.randint(key, (len(side), 1), 0, size)
    pixels = jnp.arange(size)[None]
    return (pixels >= centre - half) & (pixels < centre + half)


@dataclasses.dataclass(frozen=True)
class CopyPaste:
    """Pastes a random half of each image's objects into the other image of a pair.

    Both need ``masks``, and images of one size: put it after large-scale jitter. Objects are moved
    nowhere, as in the paper. What is pasted hides what is there: masks lose the hidden part, boxes
    shrink with them, and an object is taken out when less than ``min_visible`` of its mask is left.
    """

    min_visible: float = 0.1

    def __call__(
        self, first: Example, second: Example, rng: np.random.Generator
    ) -> tuple[Example, Example]:
        """Returns the two examples, each with objects of the other.

        Raises:
          KeyError: if an example has no masks.
          ValueError: if the images are not of one size.
        """
        for example in (first, second):
            geometry.require(example, "masks", "Copy-paste")
        if first["inputs"].shape != second["inputs"].shape:
            raise ValueError(
                f"Copy-paste needs images of one size, got {first['inputs'].shape} and "
                f"{second['inputs'].shape}. Put it after LargeScaleJitter or another crop."
            )
        pasted = [
            geometry.keep_objects(each, _countable(each) & (rng.random(_count(each)) < 0.5))
            for each in (second, first)
        ]
        return self._paste(first, pasted[0]), self._paste(second, pasted[1])

    def _paste(self, example: Example, other: Example) -> Example:
        """``example`` with all objects of ``other`` over it."""
        hidden = other["masks"].any(axis=0)
        inputs = np.where(hidden[..., None], other["inputs"], example["inputs"])
        before = example["masks"].sum(axis=(1, 2))
        masks = example["masks"] & ~hidden
        after = masks.sum(axis=(1, 2))
        touched = after < before
        boxes = np.where(touched[:, None], bounding_boxes(masks), example["boxes"])
        shown = example | {"masks": masks, "boxes": boxes.astype(np.float32)}
        if "area" in shown:
            shown["area"] = np.where(touched, after, shown["area"]).astype(np.float32)
        shown = geometry.keep_objects(shown, after >= np.maximum(1, self.min_visible * before))
        joint = {
            name: np.concatenate([shown[name], other[name]])
            for name in geometry.OBJECTS
            if name in shown and name in other
        }
        return shown | joint | {"inputs": inputs}


def _count(example: Mapping[str, Any]) -> int:
    return len(example["boxes"])


def _countable(example: Mapping[str, Any]) -> np.ndarray:
    """Objects that are not crowds: a crowd is a region, not a thing to paste."""
    return ~np.asarray(example.get("is_crowd", np.zeros(_count(example), bool)))
