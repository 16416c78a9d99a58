"""Published weights, or a file of them, as a model's variables."""

import fnmatch
import functools
import json
import logging
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from scenax.common.registry import RegistryError, did_you_mean
from scenax.models import _registry, _weights
from scenax.models.pretrained import hub
from scenax.models.pretrained.files import open_weights
from scenax.models.pretrained.fit import fitted
from scenax.models.pretrained.layouts import in_timm_layout
from scenax.models.pretrained.stored import Stored, WeightsError
from scenax.models.pretrained.timm import abstract_variables, assign, input_shape_of, name_of

_logger = logging.getLogger(__name__)

Sharding = jax.sharding.Sharding | Callable[[str], jax.sharding.Sharding]

SOURCES = ("hf-hub:", "local-dir:")
"""timm's prefixes of a repository of the Hub, and of a folder."""


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
    fetch, cfg = _find(source, model)
    wanted = abstract_variables(model, shape)
    dropped = _fitting(fresh, [name_of(path, len(x.shape))[0] for path, x in wanted.items()])
    heads = cfg.get("classifier") or ()
    heads = [heads] if isinstance(heads, str) else list(heads)
    arrays = in_timm_layout(open_weights(fetch()), wanted, *heads[:1])
    dropped += _other_heads(arrays, model, heads, cfg)
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


def pretrained_cfg(model: nn.Module, source: str | pathlib.Path | None = None) -> dict[str, Any]:
    """Returns what is known of weights, above all how images have to look for them.

    That is the model's ``default_cfg`` with what the weights' ``config.json``, or the table of
    published ones, says instead, and ``label_names`` if the file has them. The weights themselves
    are not read.

    Args:
      model: from ``create_model``.
      source: as for ``load_pretrained``.

    Raises:
      FileNotFoundError, RegistryError, WeightsError, HubError, ValueError: as ``load_pretrained``.
    """
    _, cfg = _find(source, model)
    return {**(getattr(model, "default_cfg", None) or {}), **cfg}


def _find(source: Any, model: nn.Module) -> tuple[Callable[[], pathlib.Path], Mapping[str, Any]]:
    """Returns what gives the file, or folder of Orbax, and what is known of the weights in it."""
    own = getattr(model, "default_cfg", None) or {}
    guess = {key: own[key] for key in ("classifier", "first_conv") if key in own}
    if source is None:
        if "architecture" not in own:
            raise ValueError(
                f"This {type(model).__name__} has no published weights. Say a source, such as a "
                "file."
            )
        source = own["architecture"] + (f".{own['tag']}" if own["tag"] in own["tags"] else "")
    name = str(source)
    if name.startswith(SOURCES[0]):
        repository = name.removeprefix(SOURCES[0])
        config = hub.fetch_config(repository)
        cfg = guess if config is None else _config(config)
        return functools.partial(hub.fetch, repository), cfg
    path = pathlib.Path(name.removeprefix(SOURCES[1])).expanduser()
    architecture, _, tag = name.partition(".")
    published = tag in ("", *_weights.tags(architecture)) and _registry.is_model(architecture)
    if path.exists() and not (published and isinstance(source, str)):
        path, cfg = _local(path, guess, model)
        return lambda: path, cfg
    if not _registry.is_model(architecture):
        known = _registry.list_models(pretrained=True)
        message = f"There is no file, no folder and no model {name!r}. {did_you_mean(name, known)}"
        if "/" in name or path.suffix in (".safetensors", ".npz", ".pth", ".pt", ".bin"):
            raise FileNotFoundError(f"{message} A repository of the Hub is 'hf-hub:OWNER/NAME'.")
        raise RegistryError(message)
    if not _weights.tags(architecture):
        raise RegistryError(f"No weights of {architecture} are published. Say a file of your own.")
    card = _weights.card(architecture, tag)
    if card["hf_hub_id"] is None:
        raise WeightsError(
            f"The weights of {name} are not on the Hub: download {card['url']} and load the file."
        )
    return functools.partial(hub.fetch, card["hf_hub_id"]), card


def _local(
    path: pathlib.Path, guess: Mapping[str, Any], model: nn.Module
) -> tuple[pathlib.Path, Mapping[str, Any]]:
    folder = path if path.is_dir() else path.parent
    names = [name for name in hub.FILES if (folder / name).is_file()]
    config = folder / "config.json"
    if path.is_file() and path.name not in names:
        config = None  # Of something else that lies there.
    if path.is_dir():
        alone = list(folder.glob("*.safetensors"))
        path = folder / names[0] if names else alone[0] if len(alone) == 1 else folder
    if path.is_dir():  # A checkpoint of ours, of this very model if the shapes are the same.
        return path, {**guess, "input_size": (0, *getattr(model, "img_size", (0, 0)))}
    return path, _config(config) if config and config.is_file() else guess


def _config(path: pathlib.Path) -> dict[str, Any]:
    """Returns the ``default_cfg`` in a ``config.json`` of timm's.

    Raises:
      WeightsError: if it cannot be read.
    """
    try:
        config = json.loads(path.read_text("utf-8"))
        cfg = dict(config.get("pretrained_cfg", config))
        return cfg | {key: config[key] for key in ("num_classes", "label_names") if key in config}
    except (ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} is no config.json of timm's: {error}.") from error


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
        value = jnp.asarray(np.asarray(array).astype(dtype, copy=False))
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
