"""Checkpoints that Orbax wrote, those of ``scenax.train`` among them, read array by array."""

import importlib
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from scenax.models.pretrained.stored import Stored, WeightsError

NOT_WEIGHTS = ("step", "opt_state", "rng")
"""What a checkpoint of training holds besides a model's variables."""


def open_orbax(folder: pathlib.Path) -> dict[str, Stored]:
    """Returns the arrays of variables by their path, such as ``"params/head/kernel"``.

    Of a run that kept a moving average of them, this.

    Args:
      folder: a checkpoint, or one that holds checkpoints by step, of which the last is taken.

    Raises:
      WeightsError: if there is none, or it cannot be read.
    """
    tree = _orbax_tree(folder.absolute())
    if tree is None:
        raise WeightsError(f"{folder} is no checkpoint of Orbax, and holds none.")
    # Imported here, since it takes a second.
    ocp: Any = importlib.import_module("orbax.checkpoint")
    try:
        metadata = ocp.PyTreeCheckpointHandler().metadata(tree)
    except Exception as error:  # Damage shows as any error of any layer below.
        raise _damaged(tree, error) from error
    metadata = getattr(metadata, "tree", metadata)
    # A moving average is what was evaluated; without one its place is empty.
    averaged = bool(jax.tree.leaves(metadata.get("ema")))
    arrays = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(metadata):
        names = [str(getattr(key, "key", getattr(key, "idx", ""))) for key in keys]
        if names[0] in NOT_WEIGHTS or (names[0] == "ema") != averaged:
            continue
        collection = names[1:] if names[0] in ("model_state", "ema") else names
        arrays["/".join(collection)] = _orbax_leaf(ocp, tree, names, leaf)
    return arrays


def _orbax_leaf(ocp: Any, tree: pathlib.Path, names: Sequence[str], leaf: Any) -> Stored:
    def read(index: tuple[slice, ...]) -> np.ndarray:
        item: Any = 0
        arguments: Any = ocp.RestoreArgs(restore_type=np.ndarray)
        for name in reversed(names):
            item, arguments = {name: item}, {name: arguments}
        only = ocp.args.PyTreeRestore(item, arguments, partial_restore=True)
        try:
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
                found = checkpointer.restore(tree, args=only)
        except Exception as error:
            raise _damaged(tree, error) from error
        for name in names:
            found = found[name]
        return np.asarray(found)[(*index, ...)]

    return Stored(tuple(leaf.shape), np.dtype(leaf.dtype), read)


def _damaged(tree: pathlib.Path, error: Exception) -> WeightsError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return WeightsError(
        f"{tree} cannot be read as Orbax's: {reason} It may be damaged, or not all of it may have "
        "been copied: get it again, or take another step."
    )


def _orbax_tree(folder: pathlib.Path) -> pathlib.Path | None:
    if (folder / "_METADATA").is_file():
        return folder
    steps = [each for each in folder.iterdir() if each.name.isdigit()]
    inner = [folder / "state", folder / "default", *sorted(steps, key=lambda e: -int(e.name))[:1]]
    for each in (*inner, folder / "checkpoints"):
        if each.is_dir() and (found := _orbax_tree(each)):
            return found
    return None
