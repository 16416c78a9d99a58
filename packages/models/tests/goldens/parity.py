"""Every architecture against timm, side by side: ``nox -s parity``, or ``-- --all`` for every name.

Weights are those of ``seeded.py`` for ``--seed``, images of the published size. timm computes in
float64, we in float32 with products of the highest precision. Prints name, parameters, the largest
difference in standard deviations of timm's logits, and seconds; fails if one is above the tolerance
of its family's file, or if timm's ``default_cfg`` is another. By default one name for every type of
block: those of the files' cases. Families that timm does not have are left out.
"""

import argparse
import json
import pathlib
import runpy
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

import scenax.models
from scenax.common import tree
from scenax.models import _catalog
from scenax.models.pretrained.timm import from_timm

FOLDER = pathlib.Path(__file__).parent
MAKE = runpy.run_path(str(FOLDER / "make.py"))
CFG_KEYS = (
    "architecture",
    "input_size",
    "fixed_input_size",
    "interpolation",
    "crop_pct",
    "crop_mode",
    "mean",
    "std",
    "pool_size",
    "first_conv",
    "classifier",
    "license",
)


def difference(name: str, seed: int) -> tuple[int, float]:
    """Returns the number of parameters, and the largest difference of the logits."""
    import timm
    import torch

    ours = scenax.models.create_model(name, num_classes=10)
    theirs = MAKE["seeded_model"](timm.create_model, name, {"num_classes": 10}, seed)
    channels, *size = ours.default_cfg["input_size"]
    images = MAKE["SEEDED"]["images"]((2, *size, channels), seed)
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    told = {key: theirs.default_cfg.get(key) for key in CFG_KEYS}
    if told != (said := {key: ours.default_cfg[key] for key in CFG_KEYS}):
        raise ValueError(f"{name}: timm's default_cfg is {told}, ours {said}.")
    # The largest have 1.8 billion parameters: no array is held twice in float64.
    state = {key: value.numpy() for key, value in theirs.float().state_dict().items()}
    del theirs
    variables = from_timm(state, ours, images.shape[1:])
    got = jax.jit(lambda v, x: ours.apply(v, x, train=False))(
        variables, jnp.asarray(images, jnp.float32)
    )
    return tree.parameter_count(variables["params"]), np.abs(got - wanted).max() / wanted.std()


def main() -> int:
    """Compares and prints; returns the number of names that differ too much."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help="wildcards, as for list_models")
    parser.add_argument("--all", action="store_true", help="every name")
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    jax.config.update("jax_default_matmul_precision", "highest")
    MAKE["declare_operators"]()

    families = {name: module.rsplit(".", 1)[-1] for name, module in _catalog.families().items()}
    lists = [path for path in sorted(FOLDER.glob("*.json")) if "." not in path.stem]
    files = {path.stem: json.loads(path.read_text()) for path in lists}
    files = {family: what for family, what in files.items() if "authors" not in what}
    if flags.names or flags.all:
        names = [n for n in scenax.models.list_models(flags.names) if families[n] in files]
    else:
        names = sorted({c["model"] for file in files.values() for c in file["cases"].values()})
    failures = 0
    sys.stdout.write(f"{'name':40} {'parameters':>13} {'difference':>11} {'seconds':>8}\n")
    for name in names:
        began = time.monotonic()
        parameters, worst = difference(name, flags.seed)
        bad = not worst <= files[families[name]]["tolerance"]
        failures += bad
        seconds = time.monotonic() - began
        mark = "  TOO LARGE" if bad else ""
        sys.stdout.write(f"{name:40} {parameters:13,} {worst:11.1e} {seconds:8.1f}{mark}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(names)} names, {failures} that differ too much.\n")
    return failures


if __name__ == "__main__":
    sys.exit(min(main(), 1))
