"""What the builders of all families have in common: timm's ``default_cfg`` and its options."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from flax.core import FrozenDict

Size = TypeVar("Size")

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)
"""Mean and standard deviation for images scaled to -1..1."""


def default_cfg(
    name: str, *, tag: str, img_size: tuple[int, int], **fields: Any
) -> FrozenDict[str, Any]:
    """Returns what timm's ``model.default_cfg`` says of a model's input, head and weights.

    Args:
      name: of the architecture.
      tag: of its default weights; ``"untrained"`` if there are none.
      img_size: height and width that the weights are made for.
      **fields: entries other than timm's usual ones.
    """
    return FrozenDict(
        {
            "architecture": name,
            "tag": tag,
            "hf_hub_id": None if tag == "untrained" else f"timm/{name}.{tag}",
            "input_size": (3, *img_size),
            "fixed_input_size": False,
            "interpolation": "bicubic",
            "crop_pct": 0.875,
            "crop_mode": "center",
            "mean": IMAGENET_MEAN,
            "std": IMAGENET_STD,
            "num_classes": 1000,
            "pool_size": None,
            "first_conv": None,
            "classifier": None,
            **fields,
        }
    )


def resized(size: Size, fields: Mapping[str, Any]) -> tuple[Size, dict[str, Any]]:
    """Returns a variant's size with the numbers that ``fields`` replaces, and the other fields.

    Args:
      size: a dataclass.
      fields: options by name, among them maybe fields of ``size``.
    """
    known = cast(Any, size)
    names = {field.name for field in dataclasses.fields(known)}
    changed = {name: value for name, value in fields.items() if name in names}
    rest = {name: value for name, value in fields.items() if name not in names}
    return dataclasses.replace(known, **changed), rest


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """Returns height and width from ``size`` or ``(height, width)``."""
    height, width = (value, value) if isinstance(value, int) else value
    return height, width


def feature_indices(
    count: int, *, features_only: bool, out_indices: int | Sequence[int] | None, default: int
) -> tuple[int, ...] | None:
    """Returns which of a model's feature maps to return, in order, or None for logits.

    Args:
      count: how many maps there are.
      features_only: whether maps are asked for at all.
      out_indices: their indices, negative ones from the end, or how many of the last ones.
      default: how many of the last ones if ``out_indices`` is None.

    Raises:
      ValueError: if an index is out of range, or without ``features_only``.
    """
    if not features_only:
        if out_indices is not None:
            raise ValueError(f"out_indices={out_indices} needs features_only=True as well.")
        return None
    out_indices = default if out_indices is None else out_indices
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


def check_images(family: str, got: Sequence[int], wanted: tuple[int, int, int]) -> None:
    """Checks the shape of a batch of images where a model can take only one.

    Args:
      family: the model, for the message.
      got: the batch's shape.
      wanted: height, width and channels.

    Raises:
      ValueError: if they differ.
    """
    if tuple(got[1:]) != wanted:
        raise ValueError(
            f"This {family} was made for images of {'x'.join(map(str, wanted))}, got "
            f"{'x'.join(map(str, got[1:]))}. Resize in the input pipeline, or create the model "
            f"with img_size={tuple(got[1:-1])}, in_chans={got[-1]}."
        )


def check_channels(family: str, got: int, wanted: int) -> None:
    """Checks the channels of a batch of images where a model can take any height and width.

    Args:
      family: the model, for the message.
      got: the batch's channels.
      wanted: the model's.

    Raises:
      ValueError: if they differ.
    """
    if got != wanted:
        raise ValueError(
            f"This {family} was made for images of {wanted} channels, got {got}. Images are "
            f"[b, h, w, c]; for others create the model with in_chans={got}."
        )
