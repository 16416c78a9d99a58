"""Published weights, or a file of them, as a model's variables."""

import fnmatch
import functools
import logging
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from scenax.common.registry import did_you_mean
from scenax.models.pretrained.files import open_weights
from scenax.models.pretrained.fit import fitted
from scenax.models.pretrained.layouts import in_timm_layout
from scenax.models.pretrained.sources import find
from scenax.models.pretrained.stored import Stored
from scenax.models.pretrained.timm import abstract_variables, assign, input_shape_of, name_of

_logger = logging.getLogger(__name__)

Sharding = jax.sharding.Sharding | Callable[[str], jax.sharding.Sharding]


def load_pretrained(
    model: nn.Module,
    source: str | pathlib.Path | None = None,
    *,
    rng: jax.Array | None = None,
    sharding: Sharding | None = None,
    input_shape: Sequence[int] | None = None,
    fresh: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns a model's variables with published weights, or those of a file.

    Where the model was made with other options than the weights were, they are changed as timm does
    it: a head of another width starts fresh (and one that the model lacks is left out); filters of
    the first layer are summed or repeated for ``in_chans``; positions are resampled for
    ``img_size``, and patches for ``patch_size``. Whatever else does not fit is an error.

    >>> import tempfile
    >>> from scenax.models import create_model, save_pretrained
    >>> model = create_model("test_vit", num_classes=10, img_size=32)
    >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    >>> gray = create_model("test_vit", num_classes=3, img_size=64, in_chans=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pretrained(model, variables, folder)
    ...     variables = load_pretrained(gray, folder)
    >>> variables["params"]["pos_embed"].shape
    (1, 17, 64)

    Args:
      model: from ``create_model``.
      source: a name with the tag of its weights, ``"resnet50.tv_in1k"``, or without for the default
        ones; a file or a folder (see ``pretrained.files.open_weights``; of ``save_pretrained``, of
        timm, or in a layout of ``pretrained.layouts``; ``"./NAME"`` if it is called as a model is);
        or ``"hf-hub:OWNER/NAME"``, a repository of the Hugging Face Hub that timm or
        ``save_pretrained`` filled. None for the weights that the model's name stands for.
      rng: key for what starts fresh; None for a fixed one.
      sharding: where arrays are put: the same for all, or a function of an array's path, such as
        ``"params/head/kernel"``. A process reads only what its own devices hold. None for the
        default device.
      input_shape: of one example, ``(h, w, c)``; only for a model that does not say.
      fresh: wildcards of timm's names, such as ``"head.*"``, of what starts fresh in any case.

    Raises:
      FileNotFoundError: if there is no such file.
      RegistryError: if there are no weights of that name; the message has the closest ones.
      WeightsError: if the file cannot be read, or must not be; see there.
      HubError: if the Hub cannot be reached, or lacks the weights.
      ValueError: if arrays are missing, left over or of another shape (the message has them all),
        or a wildcard of ``fresh`` fits nothing.
    """
    shape = input_shape_of(model) if input_shape is None else tuple(input_shape)
    if shape is None:
        raise ValueError(
            f"This {type(model).__name__} does not say for which images it is. Pass input_shape="
            "(height, width, channels)."
        )
    fetch, cfg = find(source, model)
    wanted = abstract_variables(model, shape)
    dropped = _fitting(fresh, [name_of(path, len(x.shape))[0] for path, x in wanted.items()])
    heads = cfg.get("classifier") or ()
    heads = [heads] if isinstance(heads, str) else list(heads)
    arrays = in_timm_layout(open_weights(fetch()), wanted, *heads[:1])
    dropped += _other_heads(arrays, model, heads, cfg)
    kept = {f"{head}.weight" for head in heads} & arrays.keys() - {*dropped}
    if kept and "pre_logits.weight" in arrays:
        raise ValueError(
            "These weights have a layer pre_logits in front of their head, which this model lacks: "
            f"its logits would be others. Ask for another num_classes, or fresh=['{heads[0]}.*']."
        )
    arrays = fitted({n: a for n, a in arrays.items() if n not in dropped}, model, wanted, cfg)
    ignore = _unneeded(model, wanted, shape)
    places = assign(arrays, wanted, type(model).__name__, ignore=ignore, fresh=dropped)

    def where(path: str) -> jax.sharding.Sharding | None:
        return sharding(path) if callable(sharding) else sharding

    variables = {}
    for path, leaf in wanted.items():
        if path in places:
            name, axes = places[path]
            variables[path] = _put(arrays.pop(name).transpose(axes), leaf.dtype, where(path))
    missing = [path for path in wanted if path not in places]
    if missing:
        _logger.info("These start fresh: %s.", ", ".join(missing))
        key = jax.random.key(0) if rng is None else rng
        variables |= _fresh(model, shape, key, {path: where(path) for path in missing})
    return traverse_util.unflatten_dict({path: variables[path] for path in wanted}, sep="/")


def _other_heads(
    arrays: Mapping[str, Stored], model: Any, heads: Sequence[str], cfg: Mapping[str, Any]
) -> list[str]:
    """Returns the names of the heads' arrays, if they are for another number of classes."""
    if not heads or not hasattr(model, "num_classes"):
        return []
    weight = arrays.get(f"{heads[0]}.weight")
    classes = cfg.get("num_classes", weight.shape[0] if weight else 0)
    if model.num_classes == classes:
        return []
    return [f"{head}.{leaf}" for head in heads for leaf in ("weight", "bias")]


def _fitting(patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ValueError(
                f"fresh: {pattern!r} fits no array of the model. {did_you_mean(pattern, names)}"
            )
    return [name for name in names if any(fnmatch.fnmatchcase(name, p) for p in patterns)]


def _unneeded(model: Any, wanted: Mapping[str, Any], shape: Sequence[int]) -> list[str]:
    """Returns names of arrays that only a model with a head, or with all its maps, has."""
    cut_off = getattr(model, "out_indices", None) is not None
    if not cut_off and getattr(model, "num_classes", 1):
        return []
    full = {"num_classes": 1, **({"out_indices": None} if cut_off else {})}
    every = abstract_variables(model.clone(**full), shape)
    return [name_of(path, len(leaf.shape))[0] for path, leaf in every.items() if path not in wanted]


def _put(array: Stored, dtype: Any, sharding: jax.sharding.Sharding | None) -> jax.Array:
    if sharding is None:
        value = jax.device_put(np.asarray(array).astype(dtype, copy=False))
    else:

        def part(index: Any) -> np.ndarray:
            return array[index].astype(dtype, copy=False)

        value = jax.make_array_from_callback(array.shape, sharding, part)
    # One at a time: what is on its way to a device is held on the host too.
    return value.block_until_ready()


def _fresh(
    model: nn.Module,
    shape: Sequence[int],
    key: jax.Array,
    where: Mapping[str, jax.sharding.Sharding | None],
) -> dict[str, jax.Array]:
    """Returns what ``model.init`` has at these paths; the compiler leaves out all the rest."""

    @functools.partial(jax.jit, out_shardings=dict(where))
    def init(key: jax.Array) -> dict[str, jax.Array]:
        variables = model.init(key, jnp.zeros((1, *shape)), train=False)
        leaves: dict[str, Any] = traverse_util.flatten_dict(dict(variables), sep="/")
        return {path: leaves[path] for path in where}

    return init(key)
