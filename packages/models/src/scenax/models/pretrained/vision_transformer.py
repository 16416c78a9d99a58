"""Checkpoints of Google's repositories ``vision_transformer``, ``big_vision`` and ``big_transfer``.

ViT and its hybrids (arXiv 2010.11929), all of AugReg (arXiv 2106.10270), MLP-Mixer (arXiv
2105.01601), ViTs that pool by attention (arXiv 2106.04560), the image towers of LiT (arXiv
2111.07991) and SigLIP (arXiv 2303.15343, 2502.14786), and BiT (arXiv 1912.11370). They are
published as ``.npz``; only names and shapes matter here. Checked against logits of the authors'
code, and, but for the mixers, against what timm 1.0.31 reads of the same files.

The authors' GELU is approximated by tanh, which is an option of the model and not of its weights:
``act_layer="gelu_tanh"`` where it has one. As in timm, a layer ``pre_logits`` is left out, and the
head behind it, as in ViT's first release for ImageNet-21k, cannot be kept. For other images,
arrays change as timm changes those of a state dict, by bicubic interpolation; its reader of
``.npz`` has a bilinear one.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from scenax.models.pretrained.stored import Stored

_MARK = re.compile(
    r"((?:opt/target/|params/)?(?:img/|resnet/)?)"
    r"(?:Transformer/encoder_norm/scale|pre_head_layer_norm/scale"
    r"|root_block/(?:conv_root|standardized_conv2d)/kernel)"
)
"""What is in front of an image model's names, and an array that shows that it is one."""

STACK = "Transformer/encoderblock/"
"""In front of the arrays of all blocks, stacked, of a model that scans its blocks."""


def _from_0(match: re.Match[str]) -> str:
    return f"stages/{int(match[1]) - 1}/blocks/{int(match[2]) - 1}/"


NAMES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    # ViT. Modules are counted by kind in Linen, and all together before it.
    (r"^embedding/", "patch_embed/proj/"),
    (r"^cls$", "cls_token"),
    (r"^(Transformer/(posembed_input/)?)?pos_embedding$", "pos_embed"),
    (r"^Transformer/encoder_norm/", "norm/"),
    (r"^Transformer/encoderblock_(\d+)/", r"blocks/\1/"),
    (r"^MAPHead_0/probe$", "attn_pool/latent"),
    (r"^MAPHead_0/LayerNorm_0/", "attn_pool/norm/"),
    (r"^MAPHead_0/MultiHeadDotProductAttention_0/query/", "attn_pool/q/"),
    (r"^MAPHead_0/MultiHeadDotProductAttention_0/(key|value)/", "attn_pool/kv/"),
    (r"^MAPHead_0/(MultiHeadDotProductAttention_0/)?", "attn_pool/"),
    (r"/LayerNorm_0/", "/norm1/"),
    (r"/LayerNorm_[12]/", "/norm2/"),
    (r"/MultiHeadDotProductAttention_[01]/", "/attn/"),
    (r"/(query|key|value)/", "/qkv/"),
    (r"/out/", "/proj/"),
    (r"/MlpBlock_[03]/", "/mlp/"),
    (r"/Dense_0/", "/fc1/"),
    (r"/Dense_1/", "/fc2/"),
    # MLP-Mixer.
    (r"^stem/", "stem/proj/"),
    (r"^MixerBlock_(\d+)/", r"blocks/\1/"),
    (r"/(token|channel)_mixing/", r"/mlp_\1s/"),
    (r"^pre_head_layer_norm/", "norm/"),
    # ResNets: in front of a ViT, BiT as published, and BiT in big_vision.
    (r"/standardized_conv2d(_\d+)?/", "/"),
    (r"^block(\d+)/unit(\d+)/", _from_0),
    (r"/(conv_proj|a/proj)/", "/downsample/conv/"),
    (r"/gn_proj/", "/downsample/norm/"),
    (r"/gn([123])/", r"/norm\1/"),
    *((f"/{letter}/group_norm/", f"/norm{i}/") for i, letter in enumerate("abc", 1)),
    *((f"/{letter}/", f"/conv{i}/") for i, letter in enumerate("abc", 1)),
    (r"^root_block/(conv_root/)?", "stem/conv/"),
    (r"^(group_norm|norm-pre-head)/", "norm/"),
    (r"^head/conv2d/", "head/"),
    # Arrays.
    (r"/(kernel|scale|gamma)$", "/weight"),
    (r"/beta$", "/bias"),
    (r"/", "."),
)
"""From the authors' names to timm's, one after the other. Arrays that end up with one name are
concatenated."""


def prefix_of(names: Iterable[str]) -> str | None:
    """Returns what is in front of an image model's names, or None if they are of another layout."""
    return next((found[1] for found in map(_MARK.fullmatch, names) if found), None)


def state_dict(arrays: Mapping[str, Stored], prefix: str, classifier: str) -> dict[str, Stored]:
    """Returns a checkpoint under timm's names, with timm's order of axes.

    Args:
      arrays: by the authors' name; those without the prefix, such as a text tower's or an
        optimizer's, are left out.
      prefix: of ``prefix_of``.
      classifier: timm's name of the model's last layer.
    """
    own = {n.removeprefix(prefix): array for n, array in arrays.items() if n.startswith(prefix)}
    own = _one_by_one(own)
    if "norm-pre-head/scale" in own and "head/kernel" in own:  # timm's is a 1x1 convolution.
        kernel = own["head/kernel"]
        own["head/kernel"] = _reshaped(kernel, (1, 1, *kernel.shape))
    if "cls" in own and "pos_embedding" in own:
        own["pos_embedding"] = _with_class(own["pos_embedding"])
    names = [*NAMES[:-1], (r"^head/", f"{classifier}/"), NAMES[-1]]
    if "embedding/kernel" in own:
        backbone = "patch_embed/backbone/"
        stem = f"{backbone}stem/" if "block1/unit1/conv1/kernel" in own else backbone
        names = [(r"^conv_root/", f"{stem}conv/"), (r"^gn_root/", f"{stem}norm/"), *names]
        names.insert(-1, (r"^stages/", f"{backbone}stages/"))
    parts: dict[str, list[Stored]] = {}
    for name in sorted(own, key=lambda name: ("/value/" in name, "/key/" in name)):
        renamed = name
        for pattern, replacement in names:
            renamed = re.sub(pattern, replacement, renamed)
        parts.setdefault(renamed, []).append(_transposed(name, own[name]))
    return {name: each[0] if len(each) == 1 else _joined(each) for name, each in parts.items()}


def _one_by_one(arrays: Mapping[str, Stored]) -> dict[str, Stored]:
    """Takes stacked blocks apart."""
    found = {}
    for name, array in arrays.items():
        if not name.startswith(STACK) or not array.ndim:
            found[name] = array
            continue
        for i in range(array.shape[0]):
            block = f"Transformer/encoderblock_{i}/{name.removeprefix(STACK)}"
            found[block] = _entry(array, i)
    return found


def _entry(stack: Stored, i: int) -> Stored:
    def read(index: tuple[slice, ...]) -> np.ndarray:
        return stack[slice(i, i + 1), *index][0]

    return Stored(stack.shape[1:], stack.dtype, read)


def _transposed(name: str, array: Stored) -> Stored:
    """Returns an array with its axes as torch has them, and heads in one axis with their width."""
    *_, module, leaf = ("", *name.split("/"))
    if leaf in ("bias", "scale"):  # Of [heads, width], or [1, 1, 1, channels].
        return _reshaped(array, (math.prod(array.shape),))
    if leaf != "kernel" or array.ndim not in (2, 3, 4):
        return array
    if array.ndim == 4:
        return array.transpose((3, 2, 0, 1))
    if array.ndim == 3:
        inputs = array.shape[: 2 if module == "out" else 1]
        outputs = array.shape[len(inputs) :]
        array = _reshaped(array, (math.prod(inputs), math.prod(outputs)))
    return array.transpose((1, 0))


def _with_class(positions: Stored) -> Stored:
    """Returns positions of the class token and of the patches; those of patches alone get a zero.

    ``big_vision`` adds positions before it adds the token, and did it the other way round before.
    """
    shape = positions.shape
    if len(shape) != 3 or math.isqrt(shape[1]) ** 2 != shape[1]:
        return positions

    def padded() -> np.ndarray:
        return np.pad(np.asarray(positions), ((0, 0), (1, 0), (0, 0)))

    return Stored.computed((shape[0], shape[1] + 1, shape[2]), positions.dtype, padded)


def _joined(arrays: Sequence[Stored]) -> Stored:
    shape = (sum(array.shape[0] for array in arrays), *arrays[0].shape[1:])
    return Stored.computed(
        shape, arrays[0].dtype, lambda: np.concatenate([*map(np.asarray, arrays)])
    )


def _reshaped(array: Stored, shape: tuple[int, ...]) -> Stored:
    if array.shape == shape:
        return array
    return Stored.computed(shape, array.dtype, lambda: np.asarray(array).reshape(shape))
