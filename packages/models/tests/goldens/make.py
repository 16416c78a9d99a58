"""Writes what another implementation computes and says, for tests to compare with.

``python make.py [FAMILY...] [--release FILE]``, by hand, where timm 1.0.31 and torch are installed.
A family's ``<family>.json`` is written by hand: the reference, the tolerance in standard deviations
of the output, the multiply-adds in published tables, and cases, each a model's name with options
and an image size; ``small`` are further options for the conformance tests alone. Beside it this
writes

- ``<family>.npz``: by case, the outputs in float64 with the weights of ``seeded.py``, rounded to
  float32: logits, features before the classifier, and a sketch of every feature map; and the names
  and shapes of the state dict;
- ``<family>.facts.json``: versions, and by name of the zoo parameter counts and timm's own words.

A family that timm does not have is made from its authors' file, ``--release``; see ``authors.py``.
"""

import argparse
import functools
import json
import math
import pathlib
import runpy
import sys
from collections.abc import Callable
from typing import Any

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


def seeded_model(create, name, options, seed=0):
    """A model in float64 with the weights of ``seeded.py``; other buffers stay."""
    import torch

    model = create(name, **options).double().eval()
    learned = {key for key, _ in model.named_parameters()}
    state = model.state_dict()
    for key, value in state.items():
        if key in learned or key.endswith(("running_mean", "running_var")):
            value.copy_(torch.from_numpy(SEEDED["weight"](key, tuple(value.shape), seed)))
    return model


def outputs_of(create, case):
    """The arrays of a case, and its state dict's shapes."""
    import torch

    options = {k: tuple(v) if isinstance(v, list) else v for k, v in case["options"].items()}
    model = seeded_model(create, case["model"], options)
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


def facts_of(create, name):
    """What a model says of itself, and how many parameters it has; no arrays are made."""
    import timm
    import torch

    # Authors' files look at values when they are made.
    with torch.device("meta" if create is timm.create_model else "cpu"):
        model = create(name)
        headless = create(name, num_classes=0)

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


def creator(family: str, what: dict[str, Any], release: pathlib.Path | None) -> Callable[..., Any]:
    """Returns what makes a family's models in torch.

    Raises:
      SystemExit: if the authors' file is needed, and was not given.
    """
    import timm

    if "authors" not in what:
        return timm.create_model
    if release is None:
        raise SystemExit(f"{family} needs --release, the file of {what['authors']}.")
    make = runpy.run_path(str(FOLDER / "authors.py"))["create_model"]
    return functools.partial(make, family, release)


def main() -> None:
    """Writes the files of some families, or of all that timm has."""
    parser = argparse.ArgumentParser()
    parser.add_argument("families", nargs="*")
    parser.add_argument("--release", type=pathlib.Path)
    flags = parser.parse_args()
    declare_operators()
    import timm
    import torch

    names = runpy.run_path(str(CATALOG))["families"]()
    lists = sorted(path.stem for path in FOLDER.glob("*.json") if "." not in path.stem)
    wanted = {family: json.loads((FOLDER / f"{family}.json").read_text()) for family in lists}
    if not flags.families:
        wanted = {family: what for family, what in wanted.items() if "authors" not in what}
    for family in flags.families or wanted:
        what = wanted[family]
        create = creator(family, what, flags.release)
        arrays, shapes = {}, {}
        for case, options in what["cases"].items():
            found, shapes[case] = outputs_of(create, options)
            arrays |= {f"{case}/{key}": value for key, value in found.items()}
            sys.stdout.write(f"{family}: {case}\n")
        text = json.dumps(shapes, separators=(",", ":")).encode()
        np.savez_compressed(
            FOLDER / f"{family}.npz", shapes=np.frombuffer(text, np.uint8), **arrays
        )
        mine = [name for name, module in names.items() if module.rsplit(".", 1)[-1] == family]
        compact = json.JSONEncoder(separators=(",", ":")).encode
        lines = ",\n".join(f"{json.dumps(n)}: {compact(facts_of(create, n))}" for n in mine)
        made_from = f'"timm": "{timm.__version__}", "torch": "{torch.__version__}", "seed": 0'
        (FOLDER / f"{family}.facts.json").write_text(f'{{{made_from},\n"models": {{\n{lines}}}}}\n')


if __name__ == "__main__":
    main()
