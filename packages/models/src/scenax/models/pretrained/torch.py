"""Checkpoints that torch wrote, read by torch where it is installed, and never as code.

They are pickles, whose loading may run any code; ``weights_only`` allows arrays and plain data
alone. Before version 2.6 it could be made to run code all the same (CVE-2025-32434), so older ones
are not used.
"""

import argparse
import importlib
import importlib.util
import pathlib
import pickle
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from scenax.models.pretrained.stored import Stored, WeightsError

SUFFIXES = (".pth", ".pt", ".bin", ".pth.tar")
SAFE = (2, 6)

NESTED = ("state_dict_ema", "model_ema", "state_dict", "model", "encoder")
"""Where checkpoints keep weights, the better ones first, as timm 1.0.31 looks for them."""

WRAPPERS = ("_orig_mod.", "module.", "_orig_mod.")
"""What torch's wrappers put in front of names: compiled, parallel, or one in the other."""


def open_torch(path: pathlib.Path) -> dict[str, Stored]:
    """Returns the arrays of a checkpoint by name, out of what they are nested in.

    Raises:
      WeightsError: if it cannot be read or holds more than data, or torch is not there, or too old.
    """
    convert = (
        f'Convert it once, where torch is installed:\n  python -c "import torch, '
        f"safetensors.torch as s; c = torch.load('{path}', map_location='cpu', weights_only=True); "
        f"c = c.get('state_dict', c.get('model', c)); "
        f"s.save_file({{k: v.clone().contiguous() for k, v in c.items()}}, "
        f"'{path.with_suffix('.safetensors')}')\""
    )
    if importlib.util.find_spec("torch") is None:
        raise WeightsError(f"{path} is a pickle of torch's, which is not installed. {convert}")
    torch: Any = importlib.import_module("torch")
    if tuple(map(int, torch.__version__.split(".")[:2])) < SAFE:
        raise WeightsError(
            f"torch {torch.__version__} may run the code in {path}. Update it to at least "
            f"{'.'.join(map(str, SAFE))}, or use safetensors. {convert}"
        )
    options = {"map_location": "cpu", "weights_only": True}
    try:
        # timm's checkpoints hold the flags they were made with.
        with torch.serialization.safe_globals([argparse.Namespace]):
            try:
                checkpoint = torch.load(path, mmap=True, **options)
            except RuntimeError:  # Files of before torch 1.6 cannot be mapped.
                checkpoint = torch.load(path, **options)
        tensors = state_dict_of(checkpoint)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds more than arrays and plain data, or is damaged. It is not read: it "
            "could run any code. Where you trust it, save its state dict alone, or as safetensors."
        ) from error
    except Exception as error:  # Damage shows as any error of any layer below.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"{path} cannot be read by torch: {reason} It may be damaged, or not all of it may "
            "have been copied or downloaded: get it again."
        ) from error
    return {name: _tensor(torch, value) for name, value in tensors.items()}


def _tensor(torch: Any, value: Any) -> Stored:
    half = value.dtype == torch.bfloat16
    dtype = ml_dtypes.bfloat16 if half else str(value.dtype).removeprefix("torch.")

    def read(index: tuple[slice, ...]) -> np.ndarray:
        # Copied, so that nothing refers to the mapped file.
        part = value.detach()[(*index, ...)].clone()
        return part.view(torch.int16).numpy().view(dtype) if half else part.numpy()

    return Stored(tuple(value.shape), np.dtype(dtype), read)


def unwrapped(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Returns arrays under names without what torch's wrappers put in front."""
    found = {}
    for name, array in arrays.items():
        for prefix in WRAPPERS:
            name = name.removeprefix(prefix)
        found[name] = array
    return found


def state_dict_of(checkpoint: Any) -> dict[str, Any]:
    """Returns the arrays of a torch checkpoint, out of what they are nested in.

    Raises:
      WeightsError: if there are none.
    """
    while isinstance(checkpoint, Mapping):
        inner = [key for key in NESTED if isinstance(checkpoint.get(key), Mapping)]
        if not inner:
            break
        checkpoint = checkpoint[inner[0]]
    arrays = checkpoint if isinstance(checkpoint, Mapping) else {}
    arrays = {name: value for name, value in arrays.items() if hasattr(value, "shape")}
    if not arrays:
        held = list(checkpoint) if isinstance(checkpoint, Mapping) else type(checkpoint).__name__
        raise WeightsError(f"There are no arrays by name in it, but {held}.")
    return unwrapped(arrays)
