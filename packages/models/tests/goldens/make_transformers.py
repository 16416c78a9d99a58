"""Writes what transformers 5.23 computes where timm computes otherwise with the same weights.

``python make_transformers.py``, by hand, where transformers and torch are installed.
``transformers.npz`` has logits in float64 with the weights that ``seeded.py`` gives to timm's names
for them, and these names' shapes.

- ``poolformer``: the code is the authors', whose head norms the map and then pools, where timm
  pools and then norms.
- ``vit``: norms have an epsilon of 1e-12, where timm's have 1e-6. It shows in small numbers, so
  patches and positions are a thousandth of what ``seeded.py`` says.
"""

import json
import pathlib
import re
import runpy

import numpy as np

FOLDER = pathlib.Path(__file__).parent
SEEDED = runpy.run_path(str(FOLDER / "seeded.py"))
THIRDS = {"query": 0, "key": 1, "value": 2}
SMALL = ("patch_embed.", "cls_token", "pos_embed")
RENAMED = {
    "poolformer": (
        (r"^poolformer\.encoder\.", ""),
        (r"^patch_embeddings\.0\.projection", "stem.conv"),
        (r"^patch_embeddings\.(\d)\.projection", r"stages.\1.downsample.conv"),
        (r"^block\.(\d)\.(\d)\.", r"stages.\1.blocks.\2."),
        (r"layer_scale_(\d)", r"layer_scale\1.scale"),
        (r"before_norm", "norm1"),
        (r"after_norm", "norm2"),
        (r"output\.conv(\d)", r"mlp.fc\1"),
        (r"^norm", "head.norm"),
        (r"^poolformer\.norm", "head.norm"),
        (r"^classifier", "head.fc"),
    ),
    "vit": (
        (r"^vit\.", ""),
        (r"^embeddings\.cls_token", "cls_token"),
        (r"^embeddings\.position_embeddings", "pos_embed"),
        (r"^embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
        (r"^(?:encoder\.layer|layers)\.(\d)\.", r"blocks.\1."),
        (r"attention\.attention\.|attention\.(?=[qkv]_proj)", "attn."),
        (r"attention\.(?:output\.dense|o_proj)", "attn.proj"),
        (r"layernorm_before", "norm1"),
        (r"layernorm_after", "norm2"),
        (r"(?:intermediate\.dense|mlp\.fc1)", "mlp.fc1"),
        (r"(?<=\d\.)output\.dense", "mlp.fc2"),
        (r"^layernorm", "norm"),
        (r"^classifier", "head"),
    ),
}


def seed(family: str, model) -> dict[str, tuple[int, ...]]:
    """Gives a model the weights of timm's names for them; returns these names' shapes."""
    import torch

    shapes = {}
    for key, value in model.state_dict().items():
        name = key
        for pattern, target in RENAMED[family]:
            name = re.sub(pattern, target, name)
        shape, part = tuple(value.shape), slice(None)
        if found := re.search(r"attn\.(?:(query|key|value)|([qkv])_proj)\.", name):
            third = "qkv".index(found[2]) if found[2] else THIRDS[found[1]]
            name = name.replace(found[0], "attn.qkv.")
            part, shape = (
                slice(third * shape[0], (third + 1) * shape[0]),
                (3 * shape[0], *shape[1:]),
            )
        shapes[name] = shape
        scale = 1e-3 if family == "vit" and name.startswith(SMALL) else 1.0
        value.copy_(torch.from_numpy(scale * SEEDED["weight"](name, shape)[part]))
    return shapes


def main() -> None:
    """Writes the file."""
    make = runpy.run_path(str(FOLDER / "make.py"))
    make["declare_operators"]()
    import torch
    from transformers import (
        PoolFormerConfig,
        PoolFormerForImageClassification,
        ViTConfig,
        ViTForImageClassification,
    )

    poolformer = PoolFormerConfig(depths=[1, 2, 1, 1], hidden_sizes=[16, 24, 32, 40], num_labels=7)
    vit = ViTConfig(
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=256,
        image_size=32,
        patch_size=8,
        num_labels=7,
    )
    models = {
        "poolformer": (PoolFormerForImageClassification(poolformer), (59, 51)),
        "vit": (ViTForImageClassification(vit), (32, 32)),
    }
    arrays, shapes = {}, {}
    for family, (model, size) in models.items():
        model = model.double().eval()
        shapes[family] = seed(family, model)
        images = SEEDED["images"]((2, *size, 3)).transpose(0, 3, 1, 2).copy()
        with torch.no_grad():
            arrays[family] = model(torch.from_numpy(images)).logits.numpy()
    text = json.dumps(shapes, separators=(",", ":")).encode()
    np.savez_compressed(FOLDER / "transformers.npz", shapes=np.frombuffer(text, np.uint8), **arrays)


if __name__ == "__main__":
    main()
