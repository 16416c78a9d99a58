"""Writes what timm computes and says, for tests to compare with: ``python make.py [FAMILY...]``.

Run by hand where timm 1.0.31 and torch are installed. A family's ``<family>.json`` is written by
hand: the reference, the tolerance in standard deviations of the output, the multiply-adds in timm's
tables, and cases, each a model's name with options and an image size. Beside it this writes

- ``<family>.npz``: by case, the outputs in float64 with the weights of ``seeded.py``, rounded to
  float32: logits, features before the classifier, and a sketch of every feature map; and the names
  and shapes of the state dict;
- ``<family>.facts.json``: versions, and by name of the zoo parameter counts and timm's own words.
"""

import json
import math
import pathlib
import runpy
import sys

import numpy as np

FOLDER = pathlib.Path(__file__).parent
SEEDED = runpy.run_path(str(FOLDER / "seeded.py"))
CATALOG = FOLDER.parents[1] / "src" / "scenax" / "models" / "_catalog.py"


def declare_operators() -> None:
    """Lets torchvision's wheel import without CUDA, whose libraries its own operators need."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    declare_operators.library = library  # Declared for as long as it lives.


def seeded_model(name, options, seed=0):
    """A timm model in float64 with the weights of ``seeded.py``; other buffers stay."""
    import timm
    import torch

    model = timm.create_model(name, **options).double().eval()
    learned = {key for key, _ in model.named_parameters()}
    state = model.state_dict()
    for key, value in state.items():
        if key in learned or key.endswith(("running_mean", "running_var")):
            value.copy_(torch.from_numpy(SEEDED["weight"](key, tuple(value.shape), seed)))
    return model


def outputs_of(case):
    """The arrays of a case, and its state dict's shapes."""
    import torch

    options = {k: tuple(v) if isinstance(v, list) else v for k, v in case["options"].items()}
    model = seeded_model(case["model"], options)
    height, width = case["size"]
    shape = (2, height, width, options.get("in_chans", 3))
    images = torch.from_numpy(SEEDED["images"](shape).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        tokens = model.forward_features(images)
        arrays = {
            "logits": model(images),
            "features": model.forward_head(tokens, pre_logits=True),
        }
        if case.get("maps", True):
            _, maps = model.forward_intermediates(images, output_fmt="NCHW")
            for i, one in enumerate(maps):
                nhwc = one.permute(0, 2, 3, 1).numpy()
                arrays[f"map{i}"] = torch.from_numpy(SEEDED["sketch"](nhwc))
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    return {key: value.numpy().astype(np.float32) for key, value in arrays.items()}, shapes


def facts_of(name):
    """What timm says of a name, and how many parameters it has; no arrays are made."""
    import timm
    import torch

    with torch.device("meta"):
        model = timm.create_model(name)
        headless = timm.create_model(name, num_classes=0)

    def count(model):
        return sum(math.prod(value.shape) for value in model.parameters())

    return {
        "parameters": count(model),
        "parameters_headless": count(headless),
        "num_features": model.num_features,
        "head_hidden_size": model.head_hidden_size,
        "feature_info": [
            [level[key] for key in ("num_chs", "reduction", "module")]
            for level in model.feature_info
        ],
    }


def main(families: list[str]) -> None:
    """Writes the files of some families, or of all that have a list of cases."""
    declare_operators()
    import timm
    import torch

    names = runpy.run_path(str(CATALOG))["families"]()
    lists = sorted(path.stem for path in FOLDER.glob("*.json") if "." not in path.stem)
    for family in families or lists:
        cases = json.loads((FOLDER / f"{family}.json").read_text())["cases"]
        arrays, shapes = {}, {}
        for case, what in cases.items():
            found, shapes[case] = outputs_of(what)
            arrays |= {f"{case}/{key}": value for key, value in found.items()}
            sys.stdout.write(f"{family}: {case}\n")
        text = json.dumps(shapes, separators=(",", ":")).encode()
        np.savez_compressed(
            FOLDER / f"{family}.npz", shapes=np.frombuffer(text, np.uint8), **arrays
        )
        mine = [name for name, module in names.items() if module.rsplit(".", 1)[-1] == family]
        compact = json.JSONEncoder(separators=(",", ":")).encode
        lines = ",\n".join(f"{json.dumps(name)}: {compact(facts_of(name))}" for name in mine)
        (FOLDER / f"{family}.facts.json").write_text(
            f'{{"timm": "{timm.__version__}", "torch": "{torch.__version__}", "seed": 0,\n'
            f'"models": {{\n{lines}}}}}\n'
        )


if __name__ == "__main__":
    main(sys.argv[1:])
