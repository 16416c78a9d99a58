"""Where a source's weights are, and what is known of them without reading them."""

import functools
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from flax import linen as nn

from scenax.common.registry import RegistryError, did_you_mean
from scenax.models import _registry, _weights
from scenax.models.pretrained import hub
from scenax.models.pretrained.files import INDEX, open_weights
from scenax.models.pretrained.layouts import in_timm_layout
from scenax.models.pretrained.stored import WeightsError
from scenax.models.pretrained.timm import abstract_variables, input_shape_of

SOURCES = ("hf-hub:", "local-dir:")
"""timm's prefixes of a repository of the Hub, and of a folder."""


def pretrained_model(source: str | pathlib.Path, **options: Any) -> nn.Module:
    """Returns the model that weights are of, made as their ``config.json`` says.

    >>> import tempfile, jax, jax.numpy as jnp
    >>> from scenax.models import create_model, save_pretrained
    >>> model = create_model("test_vit", num_classes=10, img_size=32)
    >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pretrained(model, variables, folder)
    ...     pretrained_model(folder).img_size
    (32, 32)

    Args:
      source: a folder of ``save_pretrained`` or of timm, ``"hf-hub:OWNER/NAME"``, or a name of the
        zoo with or without a tag.
      **options: of the model, which go before those of the config.

    Raises:
      FileNotFoundError, RegistryError, HubError: if there is no such source.
      WeightsError: if its config cannot be read, or it has none.
      ValueError: if the config has options that the model here lacks.
    """
    name = str(source)
    if name.startswith(SOURCES[0]):
        path = hub.fetch_config(name.removeprefix(SOURCES[0]))
    else:
        folder = pathlib.Path(name.removeprefix(SOURCES[1])).expanduser()
        if isinstance(source, str) and _is_published(name):
            return _registry.create_model(name, **options)
        if not folder.exists():
            raise FileNotFoundError(_nothing(name))
        path = (folder if folder.is_dir() else folder.parent) / "config.json"
    if path is None or not path.is_file():
        raise WeightsError(f"{source} has no config.json. Say what model it is of.")
    config = _read_config(path)
    if "architecture" not in config:
        raise WeightsError(f"{path} names no architecture. Say what model it is of.")
    own = {key: config[key] for key in ("num_classes", "global_pool") if key in config}
    return _registry.create_model(
        config["architecture"], **{**own, **config.get("model_args", {}), **options}
    )


def pretrained_cfg(model: nn.Module, source: str | pathlib.Path | None = None) -> dict[str, Any]:
    """Returns what is known of weights, above all how images have to look for them.

    That is the model's ``default_cfg`` with what the weights' ``config.json``, or the table of
    published ones, says instead, and ``label_names`` if the file has them. Without either, the
    number of classes is that of the head in the file. No weights are read.

    Args:
      model: from ``create_model``.
      source: as for ``load_pretrained``.

    Raises:
      FileNotFoundError, RegistryError, WeightsError, HubError, ValueError: as ``load_pretrained``.
    """
    fetch, cfg = find(source, model)
    if "num_classes" not in cfg and (classes := _width_of_head(fetch, model, cfg)) is not None:
        cfg = {**cfg, "num_classes": classes}
    return {**(getattr(model, "default_cfg", None) or {}), **cfg}


def find(source: Any, model: nn.Module) -> tuple[Callable[[], pathlib.Path], Mapping[str, Any]]:
    """Returns what fetches weights, as a file or a folder of Orbax, and what is known of them.

    Args:
      source: as for ``load_pretrained``.
      model: from ``create_model``, of which the weights are to be.

    Raises:
      FileNotFoundError, RegistryError, WeightsError, HubError, ValueError: as ``load_pretrained``.
    """
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
    if path.exists() and not (isinstance(source, str) and _is_published(name)):
        path, cfg = _local(path, guess, model)
        return lambda: path, cfg
    if not _registry.is_model(architecture):
        message = _nothing(name)
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


def _is_published(name: str) -> bool:
    architecture, _, tag = name.partition(".")
    return tag in ("", *_weights.tags(architecture)) and _registry.is_model(architecture)


def _nothing(name: str) -> str:
    known = _registry.list_models(pretrained=True)
    return f"There is no file, no folder and no model {name!r}. {did_you_mean(name, known)}"


def _local(
    path: pathlib.Path, guess: Mapping[str, Any], model: nn.Module
) -> tuple[pathlib.Path, Mapping[str, Any]]:
    folder = path if path.is_dir() else path.parent
    known = (*hub.FILES, f"model{INDEX}")
    names = [name for name in known if (folder / name).is_file()]
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
    config = _read_config(path)
    cfg = config.get("pretrained_cfg", config)
    if not isinstance(cfg, dict):
        raise WeightsError(f"{path} is no config.json of timm's: its pretrained_cfg is {cfg!r}.")
    return cfg | {key: config[key] for key in ("num_classes", "label_names") if key in config}


def _read_config(path: pathlib.Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path} is no config.json of timm's: {error}.") from error
    if not isinstance(config, dict):
        raise WeightsError(f"{path} is no config.json of timm's: it holds no mapping.")
    return config


def _width_of_head(
    fetch: Callable[[], pathlib.Path], model: nn.Module, cfg: Mapping[str, Any]
) -> int | None:
    head, shape = cfg.get("classifier"), input_shape_of(model)
    if not isinstance(head, str) or shape is None:
        return None
    arrays = in_timm_layout(open_weights(fetch()), abstract_variables(model, shape), head)
    weight = arrays.get(f"{head}.weight")
    return weight.shape[0] if weight is not None else None
