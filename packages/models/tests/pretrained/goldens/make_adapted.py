"""Writes the arrays that timm changes when a model's options are not those of its weights.

``python make_adapted.py``, by hand, where timm 1.0.31 and torch are installed. A case of
``adapted.json`` is a model's name, options that are shared, and those of source and target. The
source has the weights of ``seeded.py``; its state dict is loaded into the target as timm loads
published weights. ``adapted.npz`` has, by case, the arrays that come out as others than they were,
in float32, and the names and shapes of both models' state dicts; a head that starts fresh has no
array.
"""

import json
import pathlib
import runpy
import sys

import numpy as np

FOLDER = pathlib.Path(__file__).parent
MAKE = runpy.run_path(str(FOLDER.parents[1] / "goldens" / "make.py"))


def adapted(case):
    """The changed arrays of a case, and the shapes of both state dicts."""
    import timm
    import torch

    def options(which):
        given = {**case["shared"], **case[which]}
        return {key: tuple(v) if isinstance(v, list) else v for key, v in given.items()}

    source = timm.create_model(case["model"], **options("source")).eval()
    state = source.state_dict()
    learned = {key for key, _ in source.named_parameters()}
    for key, value in state.items():
        if key in learned or key.endswith(("running_mean", "running_var")):
            value.copy_(torch.from_numpy(MAKE["SEEDED"]["weight"](key, tuple(value.shape))))
    size = options("source").get("img_size", source.pretrained_cfg["input_size"][1:])
    overlay = {
        "state_dict": {key: value.clone() for key, value in state.items()},
        "input_size": (options("source").get("in_chans", 3), *size),
        "num_classes": source.num_classes,
    }
    target = timm.create_model(
        case["model"], pretrained=True, pretrained_cfg_overlay=overlay, **options("target")
    )
    heads = target.pretrained_cfg["classifier"]
    heads = (heads,) if isinstance(heads, str) else heads
    changed = {}
    for key, value in target.state_dict().items():
        fresh = source.num_classes != target.num_classes and key.rpartition(".")[0] in heads
        if not fresh and not (key in state and torch.equal(value, state[key])):
            changed[key] = value.numpy()
    shapes = [
        {key: tuple(value.shape) for key, value in model.state_dict().items()}
        for model in (source, target)
    ]
    return changed, shapes


def main():
    """Writes ``adapted.npz``."""
    MAKE["declare_operators"]()
    arrays, shapes = {}, {}
    for name, case in json.loads((FOLDER / "adapted.json").read_text()).items():
        changed, shapes[name] = adapted(case)
        arrays |= {f"{name}/{key}": value for key, value in changed.items()}
        sys.stdout.write(f"{name}: {', '.join(changed) or 'nothing changes'}\n")
    text = json.dumps(shapes, separators=(",", ":")).encode()
    np.savez_compressed(FOLDER / "adapted.npz", shapes=np.frombuffer(text, np.uint8), **arrays)


if __name__ == "__main__":
    main()
