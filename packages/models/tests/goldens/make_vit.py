"""Writes ``vit.npz`` and ``vit.json``: what timm computes and says of its Vision Transformers.

Run by hand where timm 1.0.31 and torch are installed, ``python make_vit.py``. Tests read the files
and ``seeded``, ``CASES`` and ``input_shape``, so this imports timm only when it is run.
"""

import json
import math
import pathlib
import re
import zlib

import numpy as np

FOLDER = pathlib.Path(__file__).parent

TINY = {"img_size": 32, "patch_size": 8, "num_classes": 7}
CASES = {
    "default": {},
    "token": TINY,
    "avg": {**TINY, "global_pool": "avg"},
    "max": {**TINY, "global_pool": "max"},
    "avgmax": {**TINY, "global_pool": "avgmax"},
    "all": {**TINY, "global_pool": ""},
    "features": {**TINY, "num_classes": 0},
    "features_avg": {**TINY, "num_classes": 0, "global_pool": "avg"},
    "tokens": {**TINY, "num_classes": 0, "global_pool": ""},
    "grey": {"img_size": (24, 32), "patch_size": 8, "in_chans": 1, "num_classes": 7},
    "maps": {"img_size": 32, "patch_size": 8, "features_only": True},
    "maps_picked": {
        "img_size": (16, 24),
        "patch_size": 8,
        "in_chans": 1,
        "features_only": True,
        "out_indices": (1, -2),
    },
    "maps_last_two": {
        "img_size": 16,
        "patch_size": 8,
        "features_only": True,
        "out_indices": 2,
    },
}
"""Options of ``test_vit``."""


def seeded(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the array of a name, the same everywhere, of a size that keeps signals alive."""
    noise = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    if key == "images":
        value = noise
    elif len(shape) == 1:
        value = 0.1 * noise + (1.0 if key.endswith("weight") else 0.0)
    elif len(shape) == 3:
        value = 0.5 * noise
    else:
        value = noise / math.sqrt(math.prod(shape[1:]))
    return value.astype(np.float32)


def input_shape(options: dict) -> tuple[int, int, int, int]:
    """Returns the shape of the images of a case, NHWC."""
    size = options.get("img_size", 160)
    height, width = (size, size) if isinstance(size, int) else size
    return (2, height, width, options.get("in_chans", 3))


def main() -> None:
    import timm
    import torch

    def make(options):
        model = timm.create_model("test_vit", **options).eval()
        state = {
            name: torch.from_numpy(seeded(name.removeprefix("model."), tuple(value.shape)))
            for name, value in model.state_dict().items()
        }
        model.load_state_dict(state)
        images = seeded("images", input_shape(options)).transpose(0, 3, 1, 2).copy()
        return model, torch.from_numpy(images)

    arrays, shapes = {}, {}
    with torch.no_grad():
        for case, options in CASES.items():
            model, images = make(options)
            shapes[case] = {
                name.removeprefix("model."): tuple(value.shape)
                for name, value in model.state_dict().items()
            }
            outputs = model(images)
            if isinstance(outputs, list):
                for i, one in enumerate(outputs):
                    arrays[f"{case}/{i}"] = one.permute(0, 2, 3, 1).numpy()
            else:
                arrays[case] = outputs.numpy()

        model, images = make(TINY)
        qkv = {}
        for i, block in enumerate(model.blocks):
            block.attn.qkv.register_forward_hook(lambda *call, i=i: qkv.update({i: call[2]}))
        model(images)
        maps = []
        for i in range(len(model.blocks)):
            q, k, _ = qkv[i].reshape(2, 17, 3, 2, 32).permute(2, 0, 3, 1, 4)
            maps.append((q @ k.transpose(-2, -1) / 32**0.5).softmax(dim=-1))
        arrays["attention"] = torch.stack(maps, dim=1).numpy()
    np.savez_compressed(FOLDER / "vit.npz", **arrays)

    table = {}
    plain = re.compile(r"test_vit|vit_[a-z]+_patch\d+_\d+")
    for name in filter(plain.fullmatch, timm.list_models(["vit_*", "test_vit"])):
        with torch.device("meta"):
            model = timm.create_model(name)
            with_head = timm.create_model(name, num_classes=1000)
        keys = [  # the entries of timm's that are facts of the model
            "architecture",
            "tag",
            "hf_hub_id",
            "input_size",
            "fixed_input_size",
            "interpolation",
            "crop_pct",
            "crop_mode",
            "mean",
            "std",
            "num_classes",
            "pool_size",
            "first_conv",
            "classifier",
        ]
        table[name] = {
            "parameters": sum(value.numel() for value in model.parameters()),
            "parameters_1000": sum(value.numel() for value in with_head.parameters()),
            "num_features": model.num_features,
            "feature_info": model.feature_info[-1],
            "default_cfg": {key: model.default_cfg.get(key) for key in keys},
        }
    lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in table.items()]
    shape_lines = [f"{json.dumps(case)}: {json.dumps(entry)}" for case, entry in shapes.items()]
    comma = ",\n"
    (FOLDER / "vit.json").write_text(
        f'{{"timm": "{timm.__version__}",\n"models": {{\n{comma.join(lines)}}},\n'
        f'"shapes": {{\n{comma.join(shape_lines)}}}}}\n'
    )


if __name__ == "__main__":
    main()
