"""State dicts as authors publish them, under the names that timm gives their arrays.

The image towers of OpenAI's CLIP and of OpenCLIP, DINOv2's release, Swin Transformers' release,
paths of variables as Orbax has them here, and Google's of ``vision_transformer.py``. Nothing is
read: arrays are renamed, and changed when they are asked for. Each was compared with what timm
1.0.31 makes of the same arrays.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from scenax.models.pretrained import vision_transformer
from scenax.models.pretrained.stored import Stored
from scenax.models.pretrained.timm import name_of

Arrays = dict[str, Stored]

CLIP = (
    (r"^visual\.", ""),
    (r"^conv1\.", "patch_embed.proj."),
    (r"^transformer\.resblocks\.", "blocks."),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
    (r"\.ln_(\d)\.", r".norm\1."),
    (r"\.in_proj_", ".qkv."),
    (r"\.out_proj\.", ".proj."),
    (r"\.c_fc\.", ".fc1."),
    (r"\.c_proj\.", ".fc2."),
)
TRUNK = "visual.trunk."
"""In front of timm's own names, in OpenCLIP's models with image towers of timm's."""
DINOV2 = (
    (r"^register_tokens$", "reg_token"),
    (r"\.mlp\.w12\.", ".mlp.fc1."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
)


def in_timm_layout(
    arrays: Mapping[str, Stored], wanted: Mapping[str, Any], classifier: str = "head"
) -> Arrays:
    """Returns a state dict under timm's names, with timm's order of axes.

    A layout that is not known is taken to be timm's.

    Args:
      arrays: of a file, by name.
      wanted: the model's variables, by path.
      classifier: timm's name of the model's last layer.
    """
    if 2 * sum(path in arrays for path in wanted) > len(wanted):
        places = {path: name_of(path, array.ndim) for path, array in arrays.items()}
        return {name: arrays[path].transpose(axes) for path, (name, axes) in places.items()}
    if (prefix := vision_transformer.prefix_of(arrays)) is not None:
        return vision_transformer.state_dict(arrays, prefix, classifier)
    if "visual.class_embedding" in arrays:
        return _clip(arrays, classifier)
    if any(name.startswith(TRUNK) for name in arrays):
        return _trunk(arrays, classifier)
    if "mask_token" in arrays:
        return _dinov2(arrays)
    if "layers.0.downsample.reduction.weight" in arrays and not any(
        path.startswith("params/layers_0/downsample/") for path in wanted
    ):
        return _swin(arrays)
    return dict(arrays)


def _clip(arrays: Mapping[str, Stored], classifier: str) -> Arrays:
    found = {}
    for name, array in arrays.items():
        if name == "visual.class_embedding":
            found["cls_token"] = _with_axes(array, 2)
        elif name == "visual.positional_embedding":
            found["pos_embed"] = _with_axes(array, 1)
        elif name == "visual.proj":
            found |= _classifier(array.transpose((1, 0)), classifier)
        elif name.startswith("visual."):  # The rest is of the text.
            found[_renamed(name, CLIP)] = array
    return found


def _trunk(arrays: Mapping[str, Stored], classifier: str) -> Arrays:
    found = {n.removeprefix(TRUNK): each for n, each in arrays.items() if n.startswith(TRUNK)}
    for name in ("visual.head.proj.weight", "visual.head.mlp.fc2.weight"):
        if name in arrays:
            found |= _classifier(arrays[name], classifier)
    for leaf in ("weight", "bias"):
        if (name := f"visual.head.mlp.fc1.{leaf}") in arrays:
            found[f"head.pre_logits.fc.{leaf}"] = arrays[name]
    return found


def _dinov2(arrays: Mapping[str, Stored]) -> Arrays:
    found = {_renamed(name, DINOV2): each for name, each in arrays.items() if name != "mask_token"}
    if (
        "reg_token" in found
    ):  # timm gives positions to patches alone; the class token keeps its own.
        token, positions = found["cls_token"], found["pos_embed"]
        count, width = positions.shape[1:]

        def moved() -> np.ndarray:
            return np.asarray(token) + positions[slice(None), slice(1), slice(None)]

        def patches() -> np.ndarray:
            return positions[slice(None), slice(1, None), slice(None)]

        found["cls_token"] = Stored.computed(token.shape, token.dtype, moved)
        found["pos_embed"] = Stored.computed((1, count - 1, width), positions.dtype, patches)
    return found


def _swin(arrays: Mapping[str, Stored]) -> Arrays:
    """The release merges patches at the end of a stage, timm at the start of the next."""

    def renamed(name: str) -> str:
        name = re.sub(
            r"^layers\.(\d+)\.downsample\.",
            lambda match: f"layers.{int(match[1]) + 1}.downsample.",
            name,
        )
        return re.sub(r"^head\.", "head.fc.", name)

    return {renamed(name): array for name, array in arrays.items()}


def _classifier(weight: Stored, name: str) -> Arrays:
    """A projection without a bias, as a layer with one of zeros."""
    width = weight.shape[0]
    bias = Stored.computed((width,), weight.dtype, lambda: np.zeros(width, weight.dtype))
    return {f"{name}.weight": weight, f"{name}.bias": bias}


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _with_axes(array: Stored, count: int) -> Stored:
    shape = (*(1,) * count, *array.shape)
    return Stored.computed(shape, array.dtype, lambda: np.asarray(array).reshape(shape))
