"""Every format of weights against its reference loader: ``nox -s formats``, or with names.

A name of every family that timm has, the first of its file's cases, with the weights of
``seeded.py`` for ``--seed`` and 10 classes. timm computes in float64 with these weights in float32,
we in float32 with products of the highest precision. Prints three tables, as Markdown:

- by format, the largest difference of the logits after ``load_pretrained``, in standard deviations
  of timm's;
- what timm reads of a folder of ``save_pretrained``: whether its state dict is the same bit by bit,
  and how much its logits differ; and with other options than the weights', the largest difference
  to the arrays that timm makes of the same file, in standard deviations of each, without heads that
  start fresh;
- files with the authors' names, small ones: the difference to the authors' logits, which
  ``pretrained/goldens/vision_transformer.npz`` has, and to those of timm after its own reader.

Fails if a difference is above the tolerance of its family's file, or only one of the two refuses.
"""

import argparse
import json
import pathlib
import runpy
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from safetensors.numpy import save_file

import scenax.models
from scenax.models import _catalog
from scenax.models.pretrained.timm import to_timm

FOLDER = pathlib.Path(__file__).parent
MAKE = runpy.run_path(str(FOLDER / "make.py"))
FORMATS = ("timm's folder", ".safetensors", "two shards", ".npz", ".pth", "our folder", "Orbax")
CLASSES = {"num_classes": 10}
OTHERS = {"7 classes": {"num_classes": 7}, "gray": {"in_chans": 1}, "4 channels": {"in_chans": 4}}
SIZES = (160, 168, 192)
"""Other sizes of images: the first is taken that is not the weights' and that patches fit into."""
FAMILIES = {"hybrid": "vit_hybrid", "stem": "vit_hybrid", "mixer": "mlp_mixer", "bit": "resnetv2"}
"""Of the cases with the authors' names; the others have the least tolerance."""
REFUSED = "both refuse"


def written(theirs, state, folder):
    """Writes a state dict in the formats that others write; returns their paths."""
    import timm
    import torch

    timm.models.save_for_hf(theirs, folder / "timm", safe_serialization=True)
    save_file(state, folder / "x.safetensors")
    shards = {name: f"{i % 2}.safetensors" for i, name in enumerate(sorted(state))}
    for shard in sorted(set(shards.values())):
        save_file({n: a for n, a in state.items() if shards[n] == shard}, folder / shard)
    index = folder / "x.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    np.savez(folder / "x.npz", **state)
    torch.save(theirs.state_dict(), folder / "x.pth")
    return folder / "timm", folder / "x.safetensors", index, folder / "x.npz", folder / "x.pth"


def written_by_us(model, variables, folder):
    """Writes variables in our own formats; returns their paths."""
    scenax.models.save_pretrained(model, variables, folder / "ours")
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((folder / "orbax").absolute(), variables)
    return folder / "ours", folder / "orbax"


def logits_of(theirs, images):
    """timm's logits in float64."""
    import torch

    batch = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).double()
    with torch.no_grad():
        return theirs.double().eval()(batch).numpy()


def adapted(name, options, folder):
    """The largest difference of arrays to timm's with other options, in standard deviations."""
    import timm

    cfg = scenax.models.create_model(name).default_cfg
    # What the config in our folder says, too.
    overlay = {**CLASSES, "input_size": cfg["input_size"], "custom_load": False}
    overlay["file"] = str(folder / "x.safetensors")
    try:
        theirs = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay=overlay, **{**CLASSES, **options}
        )
        wanted = {key: value.numpy() for key, value in theirs.state_dict().items()}
    except RuntimeError:
        wanted = None
    ours = scenax.models.create_model(name, **{**CLASSES, **options})
    try:
        got = to_timm(scenax.models.load_pretrained(ours, folder / "ours"), ours)
    except ValueError:
        got = None
    if got is None and wanted is None:
        return REFUSED
    if got is None or wanted is None or got.keys() != wanted.keys():
        return np.inf
    heads = cfg["classifier"] if "num_classes" in options else ()
    heads = (heads,) if isinstance(heads, str) else heads
    kept = [key for key in wanted if key.rpartition(".")[0] not in heads]
    differences = [np.abs(got[k] - wanted[k]).max() / (wanted[k].std() or 1) for k in kept]
    return np.max(differences)


def compared(name, seed, folder):
    """The differences by format, what timm reads of ours, and the differences by option."""
    import timm
    import torch

    ours = scenax.models.create_model(name, **CLASSES)
    theirs = MAKE["seeded_model"](timm.create_model, name, CLASSES, seed).float()
    state = {key: value.numpy().copy() for key, value in theirs.state_dict().items()}
    channels, *size = ours.default_cfg["input_size"]
    images = MAKE["SEEDED"]["images"]((2, *size, channels), seed).astype(np.float32)
    paths = written(theirs, state, folder)
    wanted = logits_of(theirs, images)
    forward = jax.jit(lambda v, x: ours.apply(v, x, train=False))

    paths += written_by_us(ours, scenax.models.load_pretrained(ours, paths[0]), folder)
    differences = []
    for path in paths:
        got = forward(scenax.models.load_pretrained(ours, path), jnp.asarray(images))
        differences.append(np.abs(got - wanted).max() / wanted.std())

    back = timm.create_model(f"local-dir:{folder / 'ours'}", pretrained=True)
    read = back.state_dict()
    same = read.keys() == state.keys() and all(
        torch.equal(value, torch.from_numpy(state[key])) for key, value in read.items()
    )
    there = np.abs(logits_of(back, images) - wanted).max() / wanted.std()

    others = dict(OTHERS)
    if getattr(ours, "img_size", None) is not None:
        stride = ours.levels[0][1]
        other = next(each for each in SIZES if each not in size and not each % stride)
        others["image size"] = {"img_size": other}
    changed = [adapted(name, options, folder) for options in others.values()]
    return differences, (same, there), changed


def authors(folder):
    """By case, its name, the difference to the authors' logits, and to timm's if it reads them."""
    goldens = FOLDER.parent / "pretrained" / "goldens"
    make = runpy.run_path(str(goldens / "make_vision_transformer.py"))
    arrays = np.load(goldens / "vision_transformer.npz")
    shapes = json.loads(arrays["facts"].tobytes())["shapes"]
    images = make["images"]()

    def difference(case, weights, wanted, **other):
        name, options = make["MODELS"][case]
        model = scenax.models.create_model(name, **{**options, **other})
        np.savez(folder / f"{case}.npz", **weights)
        variables = scenax.models.load_pretrained(model, folder / f"{case}.npz")
        got = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)
        return np.abs(got - wanted).max() / wanted.std()

    for case, (name, options) in make["MODELS"].items():
        weights = make["weights"]({key: tuple(shape) for key, shape in shapes[case].items()})
        to_authors = difference(case, weights, arrays[f"{case}/logits"])
        to_timm = None
        if case in make["TIMMS"]:
            theirs, weights = make["timms_model"](case), make["published"](case, weights)
            np.savez(folder / "timm.npz", **weights)
            theirs.load_pretrained(str(folder / "timm.npz"))
            exact = {"act_layer": "gelu"} if "act_layer" in options else {}
            to_timm = difference(case, weights, logits_of(theirs, images), **exact)
        yield case, name, to_authors, to_timm


def cell(value, tolerance):
    """A difference as text, and whether it is too large."""
    if value is None or isinstance(value, str):
        return value or "-", False
    bad = not value <= tolerance
    return f"{value:.1e} TOO LARGE" if bad else f"{value:.1e}" if value else "0", bad


def row(*cells):
    """Writes a line of a table."""
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


def main() -> int:
    """Compares and prints; returns the number of differences that are too large."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help="wildcards, as for list_models")
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    jax.config.update("jax_default_matmul_precision", "highest")
    MAKE["declare_operators"]()

    families = {name: module.rsplit(".", 1)[-1] for name, module in _catalog.families().items()}
    lists = [path for path in sorted(FOLDER.glob("*.json")) if "." not in path.stem]
    files = {path.stem: json.loads(path.read_text()) for path in lists}
    files = {family: what for family, what in files.items() if "authors" not in what}
    if flags.names:
        names = [n for n in scenax.models.list_models(flags.names) if families[n] in files]
    else:
        names = [next(iter(file["cases"].values()))["model"] for file in files.values()]
    failures, second = 0, []
    row("family", "name", *FORMATS, "seconds")
    row(*["---"] * (3 + len(FORMATS)))
    for name in names:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            formats, (same, there), changed = compared(name, flags.seed, pathlib.Path(folder))
        tolerance = files[families[name]]["tolerance"]
        cells = [cell(value, tolerance) for value in formats]
        changed += [None] * (len(OTHERS) + 1 - len(changed))
        more = [cell(there, 0.0), *(cell(value, tolerance) for value in changed)]
        failures += sum(bad for _, bad in cells + more) + (not same)
        seconds = f"{time.monotonic() - began:.0f}"
        row(families[name], name, *(text for text, _ in cells), seconds)
        arrays = "same" if same else "OTHERS"
        second.append((families[name], name, arrays, *(text for text, _ in more)))
    sys.stdout.write("\n")
    row("family", "name", "arrays in timm", "its logits", *OTHERS, "image size")
    row(*["---"] * (5 + len(OTHERS)))
    for cells in second:
        row(*cells)
    if not flags.names:
        sys.stdout.write("\n")
        row("case", "name", "the authors' logits", "timm's")
        row(*["---"] * 4)
        with tempfile.TemporaryDirectory() as folder:
            for case, name, *found in authors(pathlib.Path(folder)):
                tolerance = files[FAMILIES.get(case, "vit")]["tolerance"]
                cells = [cell(value, tolerance) for value in found]
                failures += sum(bad for _, bad in cells)
                row(case, name, *(text for text, _ in cells))
    sys.stdout.write(f"\n{len(names)} names, {failures} differences that are too large.\n")
    return failures


if __name__ == "__main__":
    sys.exit(min(main(), 1))
