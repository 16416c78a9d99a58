"""A model's variables as the files that timm, and the Hugging Face Hub, know."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from flax import linen as nn
from safetensors.numpy import save_file

from scenax.models import _registry
from scenax.models.pretrained.timm import input_shape_of, to_timm

WEIGHTS, CONFIG = "model.safetensors", "config.json"

KEPT = (
    "tag",
    "fixed_input_size",
    "interpolation",
    "crop_pct",
    "crop_mode",
    "mean",
    "std",
    "first_conv",
    "classifier",
    "license",
)
"""What of ``default_cfg`` holds for any weights of an architecture."""


def save_pretrained(
    model: nn.Module,
    variables: Mapping[str, Any],
    folder: str | pathlib.Path,
    *,
    label_names: Sequence[str] = (),
) -> None:
    """Writes variables to a folder in timm's layout: ``model.safetensors`` and ``config.json``.

    ``load_pretrained(model, folder)`` reads them, and so does timm 1.0 or later, with the options
    that the model was made with: ``timm.create_model("local-dir:FOLDER", pretrained=True)``. The
    same two files make a repository of the Hugging Face Hub, ``"hf-hub:OWNER/NAME"`` to both.

    >>> import tempfile, jax, jax.numpy as jnp
    >>> from scenax.models import create_model
    >>> model = create_model("test_vit", num_classes=10, img_size=32)
    >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pretrained(model, variables, folder)
    ...     json.loads(pathlib.Path(folder, "config.json").read_text())["num_classes"]
    10

    Args:
      model: of the zoo.
      variables: all of them, as of ``model.init``; of any dtype, which is kept.
      folder: made if it is not there; the two files are replaced.
      label_names: what the classes are called, which timm keeps there too.

    Raises:
      ValueError: if the variables are not the model's, the model is not of the zoo, or there are
        not as many names as classes.
      OSError: if the files cannot be written.
    """
    config = config_of(model)
    if label_names:
        if len(label_names) != config["num_classes"]:
            raise ValueError(
                f"There are {len(label_names)} label_names for {config['num_classes']} classes."
            )
        config["label_names"] = list(label_names)
    state = to_timm(variables, model)
    folder = pathlib.Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    # Never half a file: each is written beside its place, and then takes it.
    unfinished = folder / f".{WEIGHTS}.unfinished"
    save_file(state, unfinished, metadata={"format": "pt"})
    os.replace(unfinished, folder / WEIGHTS)
    unfinished = folder / f".{CONFIG}.unfinished"
    unfinished.write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    os.replace(unfinished, folder / CONFIG)


def config_of(model: nn.Module) -> dict[str, Any]:
    """Returns what timm's ``config.json`` says of a model.

    Raises:
      ValueError: if the model is not of the zoo.
    """
    given: Any = model
    cfg = getattr(given, "default_cfg", None) or {}
    if "architecture" not in cfg:
        raise ValueError(
            f"This {type(model).__name__} is not of the zoo, and timm does not know it. "
            "scenax.models.pretrained.timm.to_timm gives its arrays, for safetensors.numpy."
        )
    input_size = cfg["input_size"]
    if (shape := input_shape_of(model)) is not None:
        input_size = (shape[2], *shape[:2])
    pretrained = {key: cfg[key] for key in KEPT if cfg.get(key) is not None}
    pretrained |= {"input_size": input_size, "num_classes": given.num_classes, "custom_load": False}
    if len(cfg["mean"]) != input_size[0]:  # As timm makes do with images of other channels.
        for key in ("mean", "std"):
            pretrained[key] = (sum(cfg[key]) / len(cfg[key]),) * input_size[0]
    if input_size == cfg["input_size"]:
        sizes = ("test_input_size", "test_crop_pct", "pool_size")
        pretrained |= {key: cfg[key] for key in sizes if cfg.get(key) is not None}
    return {
        "architecture": cfg["architecture"],
        "num_classes": given.num_classes,
        "num_features": given.num_features,
        **({"global_pool": given.global_pool} if getattr(given, "global_pool", "") else {}),
        "model_args": _options(given, cfg["architecture"]),
        "pretrained_cfg": pretrained,
    }


def _options(model: Any, architecture: str) -> dict[str, Any]:
    """Returns the options that make this model of its architecture, where they are not defaults."""
    default: Any = _registry.create_model(architecture)
    options = {
        name: getattr(model, name)
        for name in ("in_chans", "img_size", "global_pool")
        if hasattr(model, name) and getattr(model, name) != getattr(default, name)
    }
    if not dataclasses.is_dataclass(size := getattr(model, "size", None)):
        return options
    return options | {
        field.name: value
        for field in dataclasses.fields(size)
        if (value := getattr(size, field.name)) != getattr(default.size, field.name)
    }
