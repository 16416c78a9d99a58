"""Writes what the PoolFormer of transformers 5.23 computes: ``python make_poolformer.py``.

Run by hand where transformers and torch are installed. Its code is the authors', whose head norms
the map and then pools, where timm pools and then norms. ``poolformer_authors.npz`` has the logits
in float64 with the weights that ``seeded.py`` gives to timm's names for them, and their shapes.
"""

import json
import pathlib
import re
import runpy

import numpy as np

FOLDER = pathlib.Path(__file__).parent
SEEDED = runpy.run_path(str(FOLDER / "seeded.py"))
DEPTHS, DIMS, SIZE = (1, 2, 1, 1), (16, 24, 32, 40), (59, 51)


def timm_name(key: str) -> str:
    """Returns timm's name for a parameter of transformers' PoolFormer."""
    key = key.removeprefix("poolformer.encoder.")
    key = re.sub(r"^patch_embeddings\.0\.projection", "stem.conv", key)
    key = re.sub(r"^patch_embeddings\.(\d)\.projection", r"stages.\1.downsample.conv", key)
    key = re.sub(r"^block\.(\d)\.(\d)\.", r"stages.\1.blocks.\2.", key)
    key = re.sub(r"layer_scale_(\d)", r"layer_scale\1.scale", key)
    key = key.replace("before_norm", "norm1").replace("after_norm", "norm2")
    key = key.replace("output.conv1", "mlp.fc1").replace("output.conv2", "mlp.fc2")
    return re.sub("^norm", "head.norm", key).replace("classifier", "head.fc")


def main() -> None:
    """Writes the file."""
    make = runpy.run_path(str(FOLDER / "make.py"))
    make["declare_operators"]()
    import torch
    from transformers import PoolFormerConfig, PoolFormerForImageClassification

    config = PoolFormerConfig(depths=list(DEPTHS), hidden_sizes=list(DIMS), num_labels=7)
    model = PoolFormerForImageClassification(config).double().eval()
    shapes = {}
    for key, value in model.state_dict().items():
        name = timm_name(key)
        shapes[name] = tuple(value.shape)
        value.copy_(torch.from_numpy(SEEDED["weight"](name, shapes[name])))
    images = torch.from_numpy(SEEDED["images"]((2, *SIZE, 3)).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        logits = model(images).logits.numpy()
    text = json.dumps(shapes, separators=(",", ":")).encode()
    np.savez_compressed(
        FOLDER / "poolformer_authors.npz", shapes=np.frombuffer(text, np.uint8), logits=logits
    )


if __name__ == "__main__":
    main()
