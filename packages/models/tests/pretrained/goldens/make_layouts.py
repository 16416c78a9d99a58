"""Writes what timm makes of state dicts with their authors' names, as checksums of its arrays.

``python make_layouts.py``, by hand, where timm 1.0.31 and torch are installed. ``layouts.json``
has, by case, a model and its options, the names and shapes of the authors' state dict, and the
CRC-32 of each array that timm loads into the model, by timm's name. Arrays are those of
``seeded.py`` for the authors' names, in float32.
"""

import json
import pathlib
import re
import runpy
import sys
import zlib

import numpy as np

FOLDER = pathlib.Path(__file__).parent
MAKE = runpy.run_path(str(FOLDER.parents[1] / "goldens" / "make.py"))

SMALL = {"embed_dim": 16, "depth": 2, "num_heads": 2, "img_size": 28}
MODELS = {
    "clip": ("vit_xsmall_patch16_clip_224", {**SMALL, "img_size": 32, "num_classes": 6}),
    "trunk": ("test_vit", {**SMALL, "img_size": 32, "num_classes": 6}),
    "trunk_mlp": ("test_convnext", {"head_hidden_size": 8, "num_classes": 6}),
    "dinov2": ("vit_small_patch14_dinov2", SMALL),
    "dinov2_registers": ("vit_small_patch14_reg4_dinov2", SMALL),
    "dinov2_gated": ("vit_giant_patch14_dinov2", {**SMALL, "mlp_ratio": 4.0}),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"embed_dim": 8, "depths": [1, 1, 1], "num_heads": [1, 1, 2], "img_size": 56}
        | {"num_classes": 6},
    ),
}
NAMES = {  # From timm's to the authors'.
    "clip": (
        (r"^patch_embed\.proj", "conv1"),
        (r"^cls_token$", "class_embedding"),
        (r"^pos_embed$", "positional_embedding"),
        (r"^blocks", "transformer.resblocks"),
        (r"^norm_pre", "ln_pre"),
        (r"^norm\.", "ln_post."),
        (r"\.norm(\d)", r".ln_\1"),
        (r"\.qkv\.", ".in_proj_"),
        (r"attn\.proj", "attn.out_proj"),
        (r"fc1", "c_fc"),
        (r"fc2", "c_proj"),
        (r"^head\.weight$", "proj"),
        (r"^", "visual."),
    ),
    "trunk": ((r"^head\.weight", "head.proj.weight"), (r"^(?!head)", "trunk."), (r"^", "visual.")),
    "trunk_mlp": (
        (r"^head\.fc\.weight", "visual.head.mlp.fc2.weight"),
        (r"^head\.pre_logits\.fc", "visual.head.mlp.fc1"),
        (r"^(?!visual)", "visual.trunk."),
    ),
    "dinov2": (),
    "dinov2_registers": ((r"^reg_token$", "register_tokens"),),
    "dinov2_gated": ((r"mlp\.fc1", "mlp.w12"), (r"mlp\.fc2", "mlp.w3")),
    "swin": (
        (r"^layers\.1\.downsample", "layers.0.downsample"),
        (r"^layers\.2\.downsample", "layers.1.downsample"),
        (r"^head\.fc", "head"),
    ),
}
CHANGED = {  # Shapes that are others with the authors.
    "visual.class_embedding": lambda shape: shape[2:],
    "visual.positional_embedding": lambda shape: shape[1:],
    "visual.proj": lambda shape: shape[::-1],
}


def case(name):
    """A case of ``layouts.json``."""
    import timm
    import torch
    from timm.models import convnext, swin_transformer, vision_transformer

    filters = {"trunk_mlp": convnext, "swin": swin_transformer}
    filter_fn = filters.get(name, vision_transformer).checkpoint_filter_fn
    model, options = MODELS[name]
    timms = timm.create_model(model, **options)
    shapes = {}
    for key, value in timms.state_dict().items():
        for pattern, replacement in NAMES[name]:
            key = re.sub(pattern, replacement, key)
        shapes[key] = CHANGED.get(key, tuple)(tuple(value.shape))
    if "clip" in name or "trunk" in name:
        shapes.pop("visual.head.bias", None)
        shapes.pop("visual.trunk.head.fc.bias", None)
        shapes["transformer.resblocks.0.attn.in_proj_weight"] = (6, 2)  # Of the text.
    if "dinov2" in name:
        shapes["mask_token"] = (1, 16)
    if name == "dinov2_registers":
        _, count, width = shapes["pos_embed"]
        shapes["pos_embed"] = (1, count + 1, width)
    state = {
        key: torch.from_numpy(MAKE["SEEDED"]["weight"](key, shape).astype(np.float32))
        for key, shape in shapes.items()
    }
    timms.load_state_dict(filter_fn(state, timms))
    checksums = {
        key: zlib.crc32(value.contiguous().numpy().tobytes())
        for key, value in timms.state_dict().items()
    }
    return {"model": model, "options": options, "shapes": shapes, "checksums": checksums}


def main():
    """Writes ``layouts.json``."""
    MAKE["declare_operators"]()
    cases = []
    for name in MODELS:
        cases.append(f"{json.dumps(name)}: {json.dumps(case(name), separators=(',', ':'))}")
        sys.stdout.write(f"{name}\n")
    (FOLDER / "layouts.json").write_text("{\n" + ",\n".join(cases) + "\n}\n")


if __name__ == "__main__":
    main()
